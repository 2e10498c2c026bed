"""``caffe time``: how long each layer of a net takes."""

from __future__ import annotations

from ..errors import CaffeError
from ..layer import TensorLayer
from ..log import logger
from ..net import Net
from ..proto import caffe_pb2
from ..timer import Timer
from . import device
from .flags import add_gpu, add_iterations, add_logging, add_state, need, positive, stages, start_logging

EXAMPLES = """\
examples:
  caffe time --model deploy.prototxt
  caffe time --model train.prototxt --iterations 10 --gpu 0
  caffe time --model train.prototxt --phase TEST"""


def add_parser(commands) -> None:
    """Add the command to the subparsers ``commands``."""
    parser = commands.add_parser(
        "time",
        help="measure how long each layer takes",
        description="Measure the forward and backward time of every layer of a net, and name the one that costs most.",
        epilog=EXAMPLES,
    )
    parser.add_argument("--model", default="", metavar="FILE", help="the net, a prototxt")
    parser.add_argument("--phase", default="", metavar="TRAIN|TEST", help="network phase (TRAIN)")
    add_iterations(parser)
    add_gpu(parser)
    add_state(parser)
    parser.add_argument(
        "--weights", default="", metavar="FILE", help="not used: the time does not depend on them"
    )
    add_logging(parser)
    parser.set_defaults(run=run)


def run(args) -> None:
    """Measure the net that ``args`` name."""
    start_logging(args)
    need(args.model, "Need a model definition to time: --model net.prototxt")
    if args.phase not in ("", "TRAIN", "TEST"):
        raise CaffeError(f'phase must be "TRAIN" or "TEST", found "{args.phase}"')
    count = positive(args)
    device.use(device.gpu_ids(args.gpu))
    phase = caffe_pb2.TEST if args.phase == "TEST" else caffe_pb2.TRAIN
    net = Net(args.model, phase, level=args.level or 0, stages=stages(args))
    backward = _with_backward(net)
    last = len(net.layers) - 1
    logger.info("Performing Forward")
    logger.info("Initial loss: %.6g", net._forward(0, last))
    logger.info("Performing Backward")
    for i in reversed(backward):
        _backward(net, i)

    logger.info("*** Benchmark begins ***")
    logger.info("Testing for %d iterations.", count)
    forwards, backwards = [0.0] * (last + 1), [0.0] * (last + 1)
    whole, all_forward, all_backward = Timer(), 0.0, 0.0
    whole.start()
    for iteration in range(1, count + 1):
        all_forward += (took_forward := _measure(forwards, range(last + 1), lambda i: net._forward(i, i)))
        all_backward += (took := _measure(backwards, reversed(backward), lambda i: _backward(net, i)))
        logger.info("Iteration: %d forward-backward time: %.6g ms.", iteration, took_forward + took)
    total = whole.ms
    logger.info("Average time per layer: ")
    for i, name in enumerate(net._layer_names):
        logger.info("%10s\tforward: %.6g ms.", name, forwards[i] / count)
        logger.info("%10s\tbackward: %.6g ms.", name, backwards[i] / count)
    logger.info("Average Forward pass: %.6g ms.", all_forward / count)
    logger.info("Average Backward pass: %.6g ms.", all_backward / count)
    logger.info("Average Forward-Backward: %.6g ms.", total / count)
    logger.info("Total Time: %.6g ms.", total)
    logger.info("*** Benchmark ends ***")
    logger.info("%s", _verdict(net, forwards, backwards, count))


def _with_backward(net: Net) -> list[int]:
    """The layers to run backward; of one that no loss depends on, the parameters' gradients are measured.

    So does Caffe's tool, and a deploy net, which has no loss, shows what its training would cost.
    """
    chosen = []
    for i, layer in enumerate(net.layers):
        if isinstance(layer, TensorLayer) and not net._needs[i] and not layer.no_gradient:
            layer.needs_blob = list(net._param_table.learns[i])
        if net._needs[i] or any(getattr(layer, "needs_blob", ())):
            chosen.append(i)
    return chosen


def _backward(net: Net, i: int) -> None:
    net.layers[i].backward(net._tops[i], net._bottom_needs[i], net._bottoms[i])


def _measure(sums: list[float], layers, run_layer) -> float:
    """Run ``layers``, add each one's milliseconds to ``sums``, and return those of all together."""
    timer, took = Timer(), 0.0
    for i in layers:
        timer.start()
        run_layer(i)
        timer.stop()
        sums[i] += timer.ms
        took += timer.ms
    return took


def _verdict(net: Net, forwards: list[float], backwards: list[float], count: int) -> str:
    """The sentence that names the layer which costs most."""
    both = [a + b for a, b in zip(forwards, backwards, strict=True)]
    i = max(range(len(both)), key=both.__getitem__)
    return (
        f"The layer that costs most is {net._layer_names[i]} ({net.layers[i].type}): {both[i] / count:.6g} ms forward "
        f"and backward, {100 * both[i] / sum(both):.3g} % of the net."
    )
