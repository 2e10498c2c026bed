"""``caffe upgrade_net_proto_text`` and its siblings: files of older Caffe generations in the current form."""

from __future__ import annotations

from .. import upgrade_tools

_COMMANDS = (
    ("upgrade_net_proto_text", "upgrade_net_text", "a net, old.prototxt"),
    ("upgrade_net_proto_binary", "upgrade_net_binary", "weights, old.caffemodel"),
    ("upgrade_solver_proto_text", "upgrade_solver_text", "a solver, old_solver.prototxt"),
)


def add_parser(commands) -> None:
    """Add the commands to the subparsers ``commands``."""
    for name, function, what in _COMMANDS:
        kind, example = what.split(", ")
        parser = commands.add_parser(
            name,
            help=f"bring {kind} of an older Caffe to the current form",
            description=f"Write {kind} of an older Caffe in the current form.",
            epilog=f"example:\n  caffe {name} {example} new{example[example.index('.') :]}",
        )
        parser.add_argument("input", metavar="OLD", help="the file to read")
        parser.add_argument("output", metavar="NEW", help="the file to write")
        parser.set_defaults(run=run, function=function)


def run(args) -> int:
    """Upgrade ``args.input`` into ``args.output``; status 1 when something had to be left out."""
    complete = getattr(upgrade_tools, args.function)(args.input, args.output)
    return 0 if complete else 1
