"""``caffe draw_net``: a picture of a net's layers and blobs."""

from __future__ import annotations

from ..draw import draw_net_to_file
from ..errors import CaffeError
from ..proto import caffe_pb2
from ..upgrade import read_net

_RANKDIRS = ("LR", "TB", "BT", "RL")
_PHASES = {"TRAIN": caffe_pb2.TRAIN, "TEST": caffe_pb2.TEST, "ALL": None}


def add_parser(commands) -> None:
    """Add the command to the subparsers ``commands``."""
    parser = commands.add_parser(
        "draw_net",
        help="draw the layers and blobs of a net",
        description="Draw the layers and blobs of a net. The image's extension names its format: png, pdf, svg, dot.",
        epilog="example:\n  caffe draw_net --rankdir TB train.prototxt train.svg",
    )
    parser.add_argument("input", metavar="NET", help="the net, a prototxt")
    parser.add_argument("output", metavar="IMAGE", help="the image to write")
    parser.add_argument(
        "--rankdir", default="LR", metavar="DIR", help=f"direction: {', '.join(_RANKDIRS)} (LR)"
    )
    parser.add_argument(
        "--phase", default="ALL", metavar="PHASE", help="the layers of TRAIN, TEST or ALL (ALL)"
    )
    parser.add_switch("display_lrm", help="write the learning-rate multipliers into the layers")
    parser.set_defaults(run=run)


def run(args) -> None:
    """Draw ``args.input`` into ``args.output``."""
    if args.rankdir not in _RANKDIRS:
        raise CaffeError(f"--rankdir is one of {', '.join(_RANKDIRS)}, found {args.rankdir}")
    if args.phase not in _PHASES:
        raise CaffeError(f"--phase is one of {', '.join(_PHASES)}, found {args.phase}")
    net = read_net(args.input)
    print(f"Drawing net to {args.output}")
    try:
        draw_net_to_file(net, args.output, args.rankdir, _PHASES[args.phase], args.display_lrm)
    except (ImportError, ValueError) as error:  # no pydot; a layer with include and exclude rules
        raise CaffeError(f"{args.input}: cannot be drawn: {error}") from error
