"""The command line: ``caffe COMMAND FLAGS``, also ``python -m caffe``, with Caffe's own commands and flags.

Each module named in ``MODULES`` has a function ``add_parser(subparsers)``, which adds its commands
and gives each one a function to run: ``parser.set_defaults(run=...)``. That function takes the
parsed arguments and returns an exit status (None: 0).
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Sequence

import torch

from ..errors import CaffeError
from .flags import HELP, Parser, command_first, nearest

MODULES = (
    "train",
    "test",
    "time",
    "device_query",
    "upgrade",
    "draw",
    "dataset",
    "extract_features",
    "export",
    "explain",
    "import_",
)

DESCRIPTION = (
    "Caffe for today: trains, tests and times nets written as Caffe prototxt. "
    "Flags are Caffe's: -flag or --flag, with the value after a space or '='."
)

EXAMPLES = """\
examples:
  caffe train --solver solver.prototxt --gpu 0
  caffe train --solver solver.prototxt --snapshot snapshot/train_iter_1000.solverstate
  caffe test --model val.prototxt --weights net.caffemodel --iterations 100
  caffe time --model deploy.prototxt

'caffe COMMAND --help' lists the flags of a command."""


def make_parser() -> tuple[Parser, dict[str, Parser]]:
    """The parser of the whole command line, and the parser of each command by name."""
    parser = Parser("caffe", description=DESCRIPTION, epilog=EXAMPLES)
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", title="commands")
    for name in MODULES:
        importlib.import_module(f"{__name__}.{name}").add_parser(commands)
    return parser, commands.choices


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line ``argv`` (default: the process's); returns the exit status.

    A user's error (a wrong flag, a missing file, a net that breaks a rule) is one line on stderr and
    status 1; an interrupt is status 130. What a Python layer of the user's raises passes through.
    """
    argv = command_first(list(sys.argv[1:] if argv is None else argv))
    parser, commands = make_parser()
    if not argv or argv[0] in HELP:
        parser.print_help()
        return 0
    name, *flags = argv
    try:
        if name not in commands:
            raise CaffeError(
                f"Unknown action: {name}{nearest(name, commands)}. Commands: {', '.join(commands)}; "
                "'caffe COMMAND --help' lists the flags of one"
            )
        args, rest = commands[name].parse_known_args(flags)
        if rest:
            raise CaffeError(commands[name].complaint(rest))
        return args.run(args) or 0
    except (CaffeError, OSError, MemoryError, torch.cuda.OutOfMemoryError) as error:
        print("caffe:", " ".join(str(error).split()) or "out of memory", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("caffe: interrupted", file=sys.stderr)
        return 130
