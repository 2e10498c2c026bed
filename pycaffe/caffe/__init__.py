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

from . import caffemodel
from .blob import Blob
from .common import (
    device_count,
    keep_freed_memory,
    set_device,
    set_mode_cpu,
    set_mode_gpu,
    set_random_seed,
    set_solver_count,
    set_solver_rank,
    solver_count,
    solver_rank,
)
from .errors import CaffeError
from .layer import Layer
from .log import init_log, log
from .net import Net
from .net_spec import NetSpec, layers, params, to_proto
from .proto.caffe_pb2 import TEST, TRAIN
from .registry import layer_type_list
from .solver import Solver, get_solver
from .solvers import AdaDeltaSolver, AdaGradSolver, AdamSolver, NesterovSolver, RMSPropSolver, SGDSolver

from . import layer_types  # isort: skip - registers the layers

keep_freed_memory()

__version__ = "1.0.0"

__all__ = [
    "TEST",
    "TRAIN",
    "AdaDeltaSolver",
    "AdaGradSolver",
    "AdamSolver",
    "Blob",
    "CaffeError",
    "Layer",
    "NesterovSolver",
    "Net",
    "NetSpec",
    "RMSPropSolver",
    "SGDSolver",
    "Solver",
    "caffemodel",
    "device_count",
    "get_solver",
    "init_log",
    "layer_type_list",
    "layer_types",
    "layers",
    "log",
    "params",
    "set_device",
    "set_mode_cpu",
    "set_mode_gpu",
    "set_random_seed",
    "set_solver_count",
    "set_solver_rank",
    "solver_count",
    "solver_rank",
    "to_proto",
]
