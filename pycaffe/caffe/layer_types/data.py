"""Layers that bring data in without reading a file: Input, DummyData."""

from __future__ import annotations

from ..errors import CaffeError
from ..fillers import check, fill
from ..layer import Layer, layer_error
from ..proto import caffe_pb2
from ..registry import register


class _SourceLayer(Layer):
    """No bottoms; the tops' shapes come from the prototxt."""

    exact_bottoms = 0
    min_tops = 1

    def reshape(self, bottom, top):
        """The tops keep the shape of setup, or the one the user gave them since."""

    def backward(self, top, propagate_down, bottom):
        """Nothing lies below."""


@register("Input")
class Input(_SourceLayer):
    """Blobs for the user to fill. ``input_param.shape``: none, one for all tops, or one for each."""

    def setup(self, bottom, top):
        shapes = [shape.dim for shape in self.layer_param.input_param.shape]
        if len(shapes) not in (0, 1, len(top)):
            raise layer_error(
                self,
                "Must specify 'shape' once, once per top blob, or not at all: "
                f"{len(top)} tops vs. {len(shapes)} shapes.",
            )
        if len(shapes) == 1:
            shapes *= len(top)
        for blob, shape in zip(top, shapes, strict=False):
            blob.reshape(*shape)

    def forward(self, bottom, top):
        """The user has written the values."""


@register("DummyData")
class DummyData(_SourceLayer):
    """Blobs filled by ``data_filler``: none (zeros), one for all tops, or one for each.

    Shapes by ``shape``, or by the old ``num``, ``channels``, ``height``, ``width``, once or once per
    top. A constant top is filled once, at setup, so values written into it since stay; all others
    are filled anew by every forward.
    """

    def setup(self, bottom, top):
        param = self.layer_param.dummy_data_param
        fillers = list(param.data_filler) or [caffe_pb2.FillerParameter(type="constant")]
        if len(fillers) not in (1, len(top)):
            raise layer_error(
                self,
                f"Number of data fillers must be 0, 1 or equal to the number of tops: {len(top)}; "
                f"you specified {len(fillers)} data fillers.",
            )
        self.fillers = fillers * len(top) if len(fillers) == 1 else fillers
        for blob, shape in zip(top, self._shapes(param, len(top)), strict=True):
            blob.reshape(*shape)
        self._fill(top, constant=True)

    def _shapes(self, param, tops: int) -> list[list[int]]:
        legacy = {name: list(getattr(param, name)) for name in ("num", "channels", "height", "width")}
        if not param.shape:
            for name, values in legacy.items():
                if len(values) not in (1, tops):
                    raise layer_error(
                        self,
                        f"Must specify 'shape' or '{name}' once, or once per top blob: {tops} tops, "
                        f"{len(values)} {name} given",
                    )
            columns = [values * tops if len(values) == 1 else values for values in legacy.values()]
            return [list(sizes) for sizes in zip(*columns, strict=True)]
        if any(legacy.values()):
            raise layer_error(
                self, "Both shape and legacy fields were specified: num, channels, height, width are the old"
            )
        if len(param.shape) not in (1, tops):
            raise layer_error(
                self,
                f"Must specify 'shape' once, or once per top blob: {tops} tops, {len(param.shape)} shapes",
            )
        shapes = [list(shape.dim) for shape in param.shape]
        return shapes * tops if len(shapes) == 1 else shapes

    def forward(self, bottom, top):
        self._fill(top, constant=False)

    def _fill(self, top, constant: bool):
        for blob, filler in zip(top, self.fillers, strict=True):
            try:
                check(filler)
                if (filler.type == "constant") == constant:
                    fill(blob, filler)
            except CaffeError as error:
                raise layer_error(self, str(error)) from error
