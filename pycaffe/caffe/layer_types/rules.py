"""What several layer types share: axes, shapes as text, and learnable blobs."""

from __future__ import annotations

from ..blob import Blob
from ..errors import CaffeError
from ..fillers import fill
from ..layer import TensorLayer
from ..proto import caffe_pb2


def canonical_axis(layer: TensorLayer, axis: int, shape: tuple[int, ...]) -> int:
    """``axis`` of a blob of ``shape``, negative numbers counted from the end; raises the layer's error out of range."""
    if not -len(shape) <= axis < len(shape):
        raise layer.error(f"axis {axis} out of range for {len(shape)}-D Blob with shape {dims(shape)}")
    return axis % len(shape)


def axis_or_legacy(layer: TensorLayer, param, legacy: str, shape: tuple[int, ...]) -> int:
    """The axis of ``shape`` that ``param`` names, in its field ``axis`` or in its old unsigned field ``legacy``."""
    if not param.HasField(legacy):
        return canonical_axis(layer, param.axis, shape)
    if param.HasField("axis"):
        raise layer.error(f"Either axis or {legacy} should be specified; not both.")
    axis = getattr(param, legacy)
    if axis >= len(shape):
        raise layer.error(f"{legacy} out of range. {legacy}: {axis}, bottom[0] has shape {dims(shape)}")
    return axis


def refuse_in_place(layer: TensorLayer, bottom: list[Blob], top: list[Blob]) -> None:
    """Raise the error of ``layer`` when ``top`` is ``bottom``: for those that Caffe does not let work in place."""
    if top[0] is bottom[0]:
        raise layer.error(
            f"{layer.type} Layer does not allow in-place computation. Give the top a name of its own"
        )


def dims(shape: tuple[int, ...]) -> str:
    """A shape as text, ``1x3x2x2`` (``()`` for a scalar)."""
    return "x".join(map(str, shape)) or "()"


def add_blob(layer: TensorLayer, shape: tuple[int, ...], filler: caffe_pb2.FillerParameter) -> None:
    """Append a learnable blob of ``shape`` to the layer, filled as ``filler`` says."""
    layer.blobs.add_blob(*shape)
    try:
        fill(layer.blobs[-1], filler)
    except CaffeError as error:
        raise layer.error(str(error)) from error
