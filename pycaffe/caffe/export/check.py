"""An exported file against the engine: the same input through both."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np

from ..errors import CaffeError
from ..net import Net
from .graph import Graph
from .sizes import Shapes
from .write import INSTALL

TOLERANCE = 1e-3  # of the largest value of an output; rounding alone gives 1e-6 to 1e-5
_MISPLACED = 1e-3  # share of indices (ArgMax) that rounding may turn into another one


@dataclass
class Comparison:
    """One run through both.

    ``shapes``: the inputs'. ``differences``: for each output the largest difference, relative to the output's
    largest value in magnitude; for indices, the share that differs.
    """

    shapes: Shapes
    differences: dict[str, float]

    @property
    def worst(self) -> float:
        """The largest of the differences."""
        return max(self.differences.values(), default=0.0)

    def __str__(self) -> str:
        sizes = ", ".join(f"{name} {'x'.join(map(str, shape))}" for name, shape in self.shapes.items())
        return f"{sizes}: largest relative difference {self.worst:.1e}"


def load_runtime():
    """The onnxruntime package; CaffeError with the command that installs it when it is not there."""
    try:
        import onnxruntime
    except ImportError as error:
        raise CaffeError(
            f"the check of an exported net needs the package onnxruntime: {INSTALL}. Or export without a check "
            "(--no-check, check=False)"
        ) from error
    return onnxruntime


def compare(path, net: Net, g: Graph, every_shape: list[Shapes]) -> list[Comparison]:
    """Run ``net`` and the ONNX file ``path``, made of the graph ``g``, on random input of ``every_shape``.

    Raises CaffeError when an output differs by more than rounding, or is not finite in one only.
    """
    runtime = load_runtime()
    options = runtime.SessionOptions()
    options.log_severity_level = 3  # errors only
    with _explained():
        session = runtime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    return [_run(session, net, g, shapes) for shapes in every_shape]


@contextmanager
def _explained():
    try:
        yield
    except Exception as error:  # onnxruntime's own exceptions have no common public base
        raise CaffeError(f"ONNX Runtime does not run the exported net: {error}") from error


def _run(session, net: Net, g: Graph, shapes: Shapes) -> Comparison:
    random = np.random.default_rng(0)
    arrays = {}
    for name, shape in shapes.items():
        if name in g.index_limits:
            arrays[name] = random.integers(0, g.index_limits[name], shape).astype(np.float32)
        else:
            arrays[name] = random.uniform(-128, 128, shape).astype(np.float32)
        net.blobs[name].reshape(*shape)
        net.blobs[name].data[...] = arrays[name]
    with _explained():
        results = session.run(list(g.outputs.values()), arrays)
    net.forward()
    differences = {}
    for (blob, tensor), result in zip(g.outputs.items(), results, strict=True):
        differences[blob] = _difference(blob, result, net.blobs[blob].data, tensor in g.labels)
    return Comparison(shapes, differences)


def _difference(blob: str, found: np.ndarray, expected: np.ndarray, indices: bool) -> float:
    if found.shape != expected.shape:
        raise CaffeError(
            f"the exported net gives '{blob}' in another shape: {found.shape}, the engine {expected.shape}"
        )
    if not expected.size:
        return 0.0
    if not np.isfinite(expected).any():
        raise CaffeError(
            f"the net gives no finite value of '{blob}' on random input, so there is nothing to compare: do its "
            "weights hold NaN or infinity? --no-check (check=False) exports it nevertheless"
        )
    close = (found == expected) | (np.isnan(found) & np.isnan(expected))
    with np.errstate(invalid="ignore"):
        apart = np.where(close, 0, np.abs(found.astype(np.float64) - expected))
    if indices:
        difference, limit = float((apart > 0.5).mean()), _MISPLACED
    else:
        finite = np.abs(expected[np.isfinite(expected)])
        difference = float(apart.max() / max(finite.max(initial=0), np.finfo(np.float32).tiny))
        limit = TOLERANCE
    if not difference <= limit:
        raise CaffeError(
            f"the exported net gives other values of '{blob}' than the engine: relative difference {difference:.2g}, "
            f"allowed {limit:g}. Nothing was written; please report the net"
        )
    return difference
