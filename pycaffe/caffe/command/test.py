"""``caffe test``: score a net on its own data."""

from __future__ import annotations

from ..log import logger
from ..net import Net
from ..proto import caffe_pb2
from ..solver import output_lines
from . import device
from .flags import add_gpu, add_iterations, add_logging, add_state, need, positive, stages, start_logging

EXAMPLES = """\
examples:
  caffe test --model val.prototxt --weights net.caffemodel --iterations 100
  caffe test --model val.prototxt --weights net.caffemodel --gpu 0"""


def add_parser(commands) -> None:
    """Add the command to the subparsers ``commands``."""
    parser = commands.add_parser(
        "test",
        help="score a net on its own data",
        description="Run a net in phase TEST on the data that its data layers read, and print the mean of each output.",
        epilog=EXAMPLES,
    )
    parser.add_argument("--model", default="", metavar="FILE", help="the net, a prototxt")
    parser.add_argument("--weights", default="", metavar="FILE", help="its weights, a caffemodel")
    add_iterations(parser)
    add_gpu(parser)
    add_state(parser)
    add_logging(parser)
    parser.set_defaults(run=run)


def run(args) -> None:
    """Score the net that ``args`` name: one line per batch and output, then the means."""
    start_logging(args)
    need(args.model, "Need a model definition to score: --model net.prototxt")
    need(args.weights, "Need model weights to score: --weights net.caffemodel")
    count = positive(args)
    device.use(device.gpu_ids(args.gpu))
    net = Net(args.model, caffe_pb2.TEST, level=args.level or 0, stages=stages(args), weights=args.weights)
    logger.info("Running for %d iterations.", count)
    loss, sums = 0.0, {}
    for i in range(count):
        loss += net._forward(0, len(net.layers) - 1)
        for name in net.outputs:
            values = net.blobs[name].data.reshape(-1).astype("float64")
            sums[name] = sums.get(name, 0) + values
            for value in values:
                logger.info("Batch %d, %s = %.6g", i, name, value)
    logger.info("Loss: %.6g", loss / count)
    for line in output_lines(net, {name: total / count for name, total in sums.items()}):
        logger.info("%s", line)
