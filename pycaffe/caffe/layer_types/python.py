"""``Python`` layers: classes that users write, named by module and class in ``python_param``."""

from __future__ import annotations

import importlib

from .. import common
from ..errors import CaffeError
from ..layer import BlobVec, Layer
from ..proto import caffe_pb2
from ..registry import register


@register("Python")
def make_python_layer(layer_param) -> Layer:
    """Import the module, construct the class, and set ``param_str``.

    Raises CaffeError when the module or the class is missing; exceptions of the user's own code
    pass through unchanged.
    """
    param = layer_param.python_param
    where = f"layer '{layer_param.name}' (Python)"
    if not param.module or not param.layer:
        raise CaffeError(f"{where}: python_param needs both 'module' and 'layer'")
    if layer_param.phase == caffe_pb2.TRAIN and common.solver_count() > 1 and not common.multiprocess():
        raise CaffeError(
            f"{where}: PythonLayer does not support CLI Multi-GPU, use train.py: with set_solver_count above 1, "
            "run each solver in a process of its own, and say so with set_multiprocess(True)"
        )
    try:
        module = importlib.import_module(param.module)
    except ModuleNotFoundError as error:
        if error.name != param.module.split(".")[0] and error.name != param.module:
            raise
        raise CaffeError(
            f"{where}: no module named '{param.module}' on Python's path. "
            f"Put the folder that holds {param.module}.py on PYTHONPATH or sys.path."
        ) from error
    cls = getattr(module, param.layer, None)
    if cls is None:
        raise CaffeError(f"{where}: module '{param.module}' ({module.__file__}) has no class '{param.layer}'")
    if not (isinstance(cls, type) and issubclass(cls, Layer)):
        raise CaffeError(f"{where}: '{param.module}.{param.layer}' must be a class derived from caffe.Layer")
    layer = cls(layer_param)
    if not isinstance(getattr(layer, "blobs", None), BlobVec):  # an __init__ that skipped caffe.Layer's
        Layer.__init__(layer, layer_param)
    layer.param_str = param.param_str
    return layer
