"""``caffe export``: a net as an ONNX file, for runtimes that know nothing of Caffe."""

from __future__ import annotations

from ..errors import CaffeError
from ..export import to_onnx
from ..export.metadata import ORDERS, PALETTES
from .flags import need

EXAMPLES = """\
examples:
  caffe export --model deploy.prototxt --weights net.caffemodel --output net.onnx
  caffe export --model deploy.prototxt --weights net.caffemodel --output net.onnx \\
      --classes classes.txt --palette voc --mean 104.00699,116.66877,122.67892"""

DESCRIPTION = """\
Write a net as ONNX, with images of any size where the net takes them. ONNX Runtime and this engine are
run on the same input at two sizes, and the file appears only when they agree."""


def add_parser(commands) -> None:
    """Add the command to the subparsers ``commands``."""
    parser = commands.add_parser(
        "export", help="write a net as an ONNX file", description=DESCRIPTION, epilog=EXAMPLES
    )
    parser.add_argument("--model", default="", metavar="FILE", help="the net, a deploy prototxt")
    parser.add_argument("--weights", default="", metavar="FILE", help="its weights, a caffemodel")
    parser.add_argument("--output", default="", metavar="FILE", help="the ONNX file to write")
    parser.add_argument("--classes", metavar="FILE", help="class names to put in it: a file with one a line")
    parser.add_argument("--palette", choices=PALETTES, default="none", help="colours to put in it (none)")
    parser.add_argument("--mean", metavar="B,G,R", help="the mean that was subtracted, to put in it")
    parser.add_argument(
        "--channel-order", choices=ORDERS, default="BGR", help="the channels' order, to put in it (BGR)"
    )
    parser.add_argument(
        "--external-data", action="store_true", help="weights in a file beside it (always above 2 GiB)"
    )
    parser.add_argument("--no-check", action="store_true", help="do not compare it with this engine")
    parser.set_defaults(run=run)


def run(args) -> None:
    """Export the net that ``args`` name; prints what was left out, the check's figures, and what was written."""
    need(args.model, "Need a model definition to export: --model deploy.prototxt")
    need(args.weights, "Need model weights to export: --weights net.caffemodel")
    need(args.output, "Need a file to write: --output net.onnx")
    found = to_onnx(
        args.model,
        args.weights,
        args.output,
        classes=args.classes,
        palette=args.palette,
        mean=numbers(args.mean, "--mean") if args.mean else None,
        channel_order=args.channel_order,
        check=not args.no_check,
        external_data=args.external_data,
    )
    for words in found.dropped:
        print(f"left out: {words}")
    for kind, tensors in (("input", found.inputs), ("output", found.outputs)):
        for name, lengths in tensors.items():
            print(f"{kind} {name}: {' x '.join(map(str, lengths))}")
    if found.fixed:
        print(f"images of one size only: {found.fixed}")
    for comparison in found.comparisons:
        print(f"checked with {comparison}")
    if not found.comparisons:
        print("not checked")
    print(f"wrote {found.path}" + (f" and {found.data}" if found.data else ""))


def numbers(text: str, flag: str) -> list[float]:
    """The numbers in ``text``, separated by commas; CaffeError, naming ``flag``, when it holds anything else."""
    try:
        return [float(word) for word in text.split(",")]
    except ValueError:
        raise CaffeError(
            f"{flag} '{text}': numbers separated by commas, such as 104.00699,116.66877,122.67892"
        ) from None
