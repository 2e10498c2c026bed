"""``caffe extract_features``: what blobs of a net hold, image after image, into databases."""

from __future__ import annotations

from contextlib import ExitStack

from ..database import new_database
from ..datum import make_datum
from ..errors import CaffeError
from ..log import logger
from ..net import Net
from ..proto import caffe_pb2
from . import device
from .flags import add_logging, start_logging

EXAMPLES = """\
examples:
  caffe extract_features net.caffemodel val.prototxt fc7 fc7_lmdb 10 lmdb
  caffe extract_features net.caffemodel val.prototxt fc6,fc7 fc6_lmdb,fc7_lmdb 10 lmdb GPU 0"""


def add_parser(commands) -> None:
    """Add the command to the subparsers ``commands``."""
    parser = commands.add_parser(
        "extract_features",
        help="store what blobs of a net hold, image after image",
        description="Run a net with data layers of its own, in phase TEST, and write the named blobs into databases: a "
        "Datum of floats for each image, under its number.",
        epilog=EXAMPLES,
    )
    parser.add_argument("weights", metavar="WEIGHTS", help="the weights, a caffemodel")
    parser.add_argument("model", metavar="NET", help="the net, a prototxt with data layers")
    parser.add_argument("blobs", metavar="BLOB,...", help="the blobs to store")
    parser.add_argument("databases", metavar="DATABASE,...", help="a new database for each")
    parser.add_argument("batches", metavar="BATCHES", type=int, help="how many batches to run")
    parser.add_argument("backend", metavar="KIND", help="lmdb or leveldb")
    parser.add_argument("mode", metavar="CPU|GPU", nargs="?", default="CPU", help="where to compute (CPU)")
    parser.add_argument(
        "device", metavar="ID", nargs="?", default="0", help="the GPU's number, also DEVICE_ID=0"
    )
    add_logging(parser)
    parser.set_defaults(run=run)


def run(args) -> None:
    """Extract as ``args`` say; databases appear only when all batches are done."""
    start_logging(args)
    names, paths = args.blobs.split(","), args.databases.split(",")
    if len(names) != len(paths):
        raise CaffeError(
            f"the number of blob names and dataset names must be equal: {len(names)} and {len(paths)} are given"
        )
    if args.batches < 1:
        raise CaffeError(f"the number of batches must be at least 1, found {args.batches}")
    if args.mode not in ("CPU", "GPU"):
        raise CaffeError(f"the mode is CPU or GPU, found {args.mode}")
    device.use(device.gpu_ids(args.device.removeprefix("DEVICE_ID=")) if args.mode == "GPU" else [])
    net = Net(args.model, caffe_pb2.TEST, weights=args.weights)
    for name in names:
        if name not in net.blobs:
            raise CaffeError(
                f"{args.model}: Unknown feature blob name {name} in the network; it has {', '.join(net.blobs)}"
            )
    logger.info("Extracting Features")
    counts = dict.fromkeys(names, 0)
    with ExitStack() as stack:
        puts = [stack.enter_context(new_database(path, args.backend)) for path in paths]
        for _ in range(args.batches):
            net._forward(0, len(net.layers) - 1)
            for name, put in zip(names, puts, strict=True):
                counts[name] += _store(net.blobs[name], put, counts[name])
    for name, count in counts.items():
        logger.info("Extracted features of %d query images for feature blob %s", count, name)
    logger.info("Successfully extracted the features!")


def _store(blob, put, number: int) -> int:
    """Write each item of ``blob`` under its number, from ``number`` on; returns how many there are."""
    items = blob.data.reshape(blob.num, blob.channels, blob.height, blob.width)
    for i, item in enumerate(items):
        put(b"%010d" % (number + i), make_datum(item).SerializeToString())
    return len(items)
