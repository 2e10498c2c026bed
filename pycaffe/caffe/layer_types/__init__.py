"""The layer types, one module a family. Importing this package registers them all."""

from . import (
    accuracy,
    conv,
    crop,
    data,
    eltwise,
    inner_product,
    lrn,
    neuron,
    pool,
    python,
    scale,
    shape,
    softmax,
)

__all__ = [
    "accuracy",
    "conv",
    "crop",
    "data",
    "eltwise",
    "inner_product",
    "lrn",
    "neuron",
    "pool",
    "python",
    "scale",
    "shape",
    "softmax",
]
