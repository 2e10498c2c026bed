"""``caffe import``: weights of torchvision's classifiers as a Caffe net."""

from __future__ import annotations

from ..import_torch import CAFFE_MEAN, WARNING, import_torch
from .export import numbers
from .flags import need

EXAMPLES = """\
examples:
  caffe import --from vgg16.pth --output vgg16.caffemodel
  caffe import --from alexnet.pth --output alexnet.caffemodel --mean exact"""

DESCRIPTION = """\
Write a PyTorch state_dict of torchvision's VGG16, AlexNet or GoogLeNet as a caffemodel and its prototxt.
The net takes BGR images, 0 to 255, minus a mean: channel order and scale go into the first layer."""


def add_parser(commands) -> None:
    """Add the command to the subparsers ``commands``."""
    parser = commands.add_parser(
        "import", help="write PyTorch weights as a caffemodel", description=DESCRIPTION, epilog=EXAMPLES
    )
    parser.add_argument("--from", default="", dest="source", metavar="FILE", help="the state_dict, a .pth")
    parser.add_argument("--output", default="", metavar="FILE", help="the caffemodel to write")
    parser.add_argument("--prototxt", metavar="FILE", help="the net to write (the output's name, .prototxt)")
    parser.add_argument(
        "--mean",
        metavar="B,G,R",
        help="what will be subtracted from the images, or 'exact' for the mean with which borders agree too "
        f"({','.join(map(str, CAFFE_MEAN))})",
    )
    parser.add_argument(
        "--no-transform-input",
        action="store_true",
        help="a GoogLeNet that was trained without torchvision's transform_input",
    )
    parser.set_defaults(run=run)


def run(args) -> None:
    """Import the file that ``args`` name; prints what it is, what differs, and what was written."""
    need(args.source, "Need weights to import: --from vgg16.pth")
    need(args.output, "Need a file to write: --output vgg16.caffemodel")
    mean = CAFFE_MEAN
    if args.mean:
        mean = None if args.mean == "exact" else numbers(args.mean, "--mean")
    found = import_torch(
        args.source, args.output, args.prototxt, mean=mean, transform_input=not args.no_transform_input
    )
    mean = ", ".join(f"{value:.8g}" for value in found.mean)
    print(f"{found.net} of torchvision. Its input is BGR, 0 to 255, minus {mean}.")
    for note in found.notes:
        print(note + ".")
    if found.border:
        print(
            f"Where its first convolution covers padding, values differ from PyTorch's by up to {found.border:.2g};"
        )
        print("with --mean exact they do not.")
    print(WARNING)
    print(f"wrote {found.caffemodel} and {found.prototxt}")
