"""``caffe explain``: what a net is made of, from its prototxt alone."""

from __future__ import annotations

import re

from ..errors import CaffeError
from ..explain import explain
from ..proto import caffe_pb2
from .flags import add_state, nearest, stages

EXAMPLES = """\
examples:
  caffe explain voc-fcn32s/deploy.prototxt
  caffe explain voc-fcn8s/train.prototxt --size 375x500 --phase TRAIN
  caffe explain voc-fcn8s/train.prototxt --size 375x500 --shape label=1x1x375x500 --json"""


def add_parser(commands) -> None:
    """Add the command to the subparsers ``commands``."""
    parser = commands.add_parser(
        "explain",
        help="show sizes, receptive fields, parameters and costs of a net",
        description="Show each layer's output size, receptive field, parameters, multiply-adds and memory, and how "
        "each Crop's offset comes about. The net is built but not run; no data is read.",
        epilog=EXAMPLES,
    )
    parser.add_argument("net", metavar="NET", help="the net, a prototxt")
    parser.add_argument(
        "--size", default="", metavar="HxW", help="size of the images; CxHxW where they have not 3 channels"
    )
    parser.add_argument(
        "--shape", default="", metavar="NAME=NxCxHxW,...", help="whole shapes of single inputs or data tops"
    )
    parser.add_argument("--phase", default="TEST", metavar="PHASE", help="TRAIN or TEST (TEST)")
    add_state(parser)
    parser.add_switch("json", "print JSON instead of text")
    parser.set_defaults(run=run)


def run(args) -> None:
    """Print the explanation of the net that ``args`` name."""
    phase = args.phase.upper()
    if phase not in caffe_pb2.Phase.keys():
        raise CaffeError(f"--phase is TRAIN or TEST; found '{args.phase}'{nearest(phase, ['TRAIN', 'TEST'])}")
    size = _lengths(args.size, "--size") if args.size else None
    shapes = dict(_named(word) for word in args.shape.split(",")) if args.shape else None
    found = explain(
        args.net,
        size,
        shapes=shapes,
        phase=caffe_pb2.Phase.Value(phase),
        level=args.level or 0,
        stages=stages(args),
    )
    print(found.json() if args.json else found)


def _named(word: str) -> tuple[str, tuple[int, ...]]:
    name, given, lengths = word.strip().partition("=")
    if not (name and given):
        raise CaffeError(f"--shape takes NAME=LENGTHxLENGTH..., separated by commas; found '{word}'")
    return name, _lengths(lengths, "--shape")


def _lengths(text: str, flag: str) -> tuple[int, ...]:
    if not re.fullmatch(r"[0-9]+(x[0-9]+)*", text):
        raise CaffeError(f"{flag} takes numbers joined by 'x', such as 500x500; found '{text}'")
    return tuple(map(int, text.split("x")))
