"""``caffe train``: train a net as a solver prototxt says."""

from __future__ import annotations

from ..errors import CaffeError
from ..log import logger
from ..proto import caffe_pb2
from ..signals import ACTIONS, SignalActions
from ..solver import make_solver, read_solver
from . import device
from .flags import add_gpu, add_logging, add_state, need, stages, start_logging

EXAMPLES = """\
examples:
  caffe train --solver solver.prototxt
  caffe train --solver solver.prototxt --weights vgg16.caffemodel --gpu 0
  caffe train --solver solver.prototxt --snapshot snapshot/train_iter_1000.solverstate

Ctrl-C stops after the iteration under way and writes a snapshot; SIGHUP writes one and goes on."""


def add_parser(commands) -> None:
    """Add the command to the subparsers ``commands``."""
    parser = commands.add_parser(
        "train",
        help="train a net, from the start or from a snapshot",
        description="Train the net that a solver prototxt names, from the start, from weights or from a snapshot.",
        epilog=EXAMPLES,
    )
    parser.add_argument("--solver", default="", metavar="FILE", help="the solver, a prototxt")
    parser.add_argument("--snapshot", default="", metavar="FILE", help="go on from this .solverstate")
    parser.add_argument(
        "--weights", default="", metavar="A,B", help="start from these caffemodels (instead of the solver's)"
    )
    add_gpu(parser)
    add_state(parser)
    for name, default in (("sigint", "stop"), ("sighup", "snapshot")):
        parser.add_argument(
            f"--{name}_effect",
            default=default,
            metavar="ACTION",
            help=f"what {name.upper()} does: {', '.join(ACTIONS)} ({default})",
        )
    add_logging(parser)
    parser.set_defaults(run=run)


def run(args) -> None:
    """Train as ``args`` say."""
    start_logging(args)
    need(args.solver, "Need a solver definition to train: --solver solver.prototxt")
    if args.snapshot and args.weights:
        raise CaffeError(
            "Give a snapshot to resume training or weights to finetune but not both: --snapshot or --weights"
        )
    signals = SignalActions(args.sigint_effect, args.sighup_effect)
    proto, source = read_solver(args.solver)
    if args.level is not None:
        proto.train_state.level = args.level
    proto.train_state.stage.extend(stages(args))
    if args.snapshot or args.weights:
        proto.ClearField("weights")
    if args.weights:
        proto.weights.append(args.weights)
    device.use(_gpus(args, proto))
    solver = make_solver(proto, source)
    with signals:
        solver.action_source = signals
        logger.info("Starting Optimization")
        solver.solve(args.snapshot or None)
        logger.info("Optimization Done.")


def _gpus(args, proto) -> list[int]:
    """The one GPU to use, or none: the flag's, else the solver's if it says GPU in so many words."""
    flag, origin = args.gpu, f"--gpu {args.gpu}"
    if not flag and proto.HasField("solver_mode") and proto.solver_mode == caffe_pb2.SolverParameter.GPU:
        flag, origin = str(proto.device_id), f"{args.solver}: solver_mode: GPU (write CPU to train without)"
    try:
        ids = device.gpu_ids(flag)
    except CaffeError as error:
        if args.gpu:
            raise
        raise CaffeError(f"{origin}: {str(error).removeprefix(f'--gpu {flag}: ')}") from error
    if len(ids) > 1:
        raise CaffeError(
            f"{origin}: caffe train uses one GPU, this asks for {len(ids)}. Give one (--gpu {ids[0]}), and multiply "
            f"iter_size by {len(ids)} for the same effective batch"
        )
    return ids
