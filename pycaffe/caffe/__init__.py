"""Caffe for today: the pycaffe API and Caffe's semantics, executed by PyTorch.

import caffe
caffe.set_mode_gpu()                                   # or leave it on the CPU
net = caffe.Net("deploy.prototxt", caffe.TEST, weights="net.caffemodel")
solver = caffe.get_solver("solver.prototxt")
"""

import os

# PyTorch's OpenMP threads spin while they wait for one another. On a machine that others use too, that
# makes every layer several times slower; a short spin costs a few percent on an idle one. It has to be
# said before PyTorch is loaded, and whoever sets either variable decides.
if "OMP_WAIT_POLICY" not in os.environ:
    os.environ.setdefault("GOMP_SPINCOUNT", "1000")

from . import caffemodel, io
from ._caffe import (
    NCCL,
    AdaDeltaSolver,
    AdaGradSolver,
    AdamSolver,
    Blob,
    Layer,
    NesterovSolver,
    Net,
    RMSPropSolver,
    SGDSolver,
    Solver,
    Timer,
    __version__,
    get_solver,
    has_nccl,
    init_log,
    layer_type_list,
    log,
    set_device,
    set_mode_cpu,
    set_mode_gpu,
    set_multiprocess,
    set_random_seed,
    set_solver_count,
    set_solver_rank,
    solver_count,
    solver_rank,
)
from .classifier import Classifier
from .common import device_count, keep_freed_memory, set_precision
from .detector import Detector
from .errors import CaffeError
from .net_spec import NetSpec, layers, params, to_proto
from .proto.caffe_pb2 import TEST, TRAIN

from . import layer_types, pycaffe  # isort: skip - the first registers the layers

keep_freed_memory()

__all__ = [
    "NCCL",
    "TEST",
    "TRAIN",
    "AdaDeltaSolver",
    "AdaGradSolver",
    "AdamSolver",
    "Blob",
    "CaffeError",
    "Classifier",
    "Detector",
    "Layer",
    "NesterovSolver",
    "Net",
    "NetSpec",
    "RMSPropSolver",
    "SGDSolver",
    "Solver",
    "Timer",
    "__version__",
    "caffemodel",
    "device_count",
    "get_solver",
    "has_nccl",
    "init_log",
    "io",
    "layer_type_list",
    "layer_types",
    "layers",
    "log",
    "params",
    "pycaffe",
    "set_device",
    "set_mode_cpu",
    "set_mode_gpu",
    "set_multiprocess",
    "set_precision",
    "set_random_seed",
    "set_solver_count",
    "set_solver_rank",
    "solver_count",
    "solver_rank",
    "to_proto",
]
