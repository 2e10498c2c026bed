"""Convolution and Deconvolution."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F

from ..layer import TensorLayer
from ..registry import register
from .rules import add_blob, canonical_axis, dims

_CONV = {1: F.conv1d, 2: F.conv2d, 3: F.conv3d}
_CONV_TRANSPOSE = {1: F.conv_transpose1d, 2: F.conv_transpose2d, 3: F.conv_transpose3d}


class WindowLayer(TensorLayer):
    """Windows over the spatial axes of a blob, as ``convolution_param`` gives them.

    ``axis`` is the channel axis: the axes before it are the batch, those after it are spatial.
    Sizes are given once, or once per spatial axis, or as ``_h`` and ``_w``.
    """

    def read_windows(self, shape: tuple[int, ...]) -> None:
        """Note the windows over a bottom of ``shape``.

        Sets ``axis``, ``channels``, ``spatial`` (the number of spatial axes), and for each of these
        ``kernel``, ``stride``, ``pad``, ``dilation`` and ``extent``. Raises the layer's error.
        """
        self.axis = canonical_axis(self, self.layer_param.convolution_param.axis, shape)
        self.channels = shape[self.axis]
        self.spatial = len(shape) - self.axis - 1
        self.kernel = self._sizes("kernel_size", "kernel", None)
        self.stride = self._sizes("stride", "stride", 1)
        self.pad = self._sizes("pad", "pad", 0)
        self.dilation = self._sizes("dilation", None, 1)
        if 0 in self.kernel:
            raise self.error(f"Filter dimensions must be nonzero. Found {dims(self.kernel)} (height x width)")
        if 0 in self.stride:
            raise self.error(f"Stride dimensions must be nonzero. Found {dims(self.stride)} (height x width)")
        if 0 in self.dilation:
            raise self.error(f"dilation must be at least 1, found {dims(self.dilation)}")
        self.extent = tuple(d * (k - 1) + 1 for d, k in zip(self.dilation, self.kernel, strict=True))

    def _sizes(self, name, prefix, default) -> tuple[int, ...]:
        """One number per spatial axis, from the field ``name`` or from ``prefix``_h and _w."""
        param = self.layer_param.convolution_param
        values = list(getattr(param, name))
        if prefix and (param.HasField(f"{prefix}_h") or param.HasField(f"{prefix}_w")):
            if self.spatial != 2:
                raise self.error(
                    f"{prefix}_h & {prefix}_w can only be used for 2D convolution; "
                    f"bottom[0] has {self.spatial} spatial axes"
                )
            if values:
                raise self.error(f"Either {name} or {prefix}_h/w should be specified; not both.")
            return getattr(param, f"{prefix}_h"), getattr(param, f"{prefix}_w")
        if not values and default is not None:
            values = [default]
        if len(values) not in (1, self.spatial):
            raise self.error(
                f"{name} must be specified once, or once per spatial dimension "
                f"({name} specified {len(values)} times; {self.spatial} spatial dims)."
            )
        return tuple(values * self.spatial if len(values) == 1 else values)

    def window_count(self, i: int, length: int) -> int:
        """How many windows there are along spatial axis ``i``, of ``length`` pixels.

        The division truncates toward zero: an axis short of one window by less than the stride
        still has one.
        """
        room = length + 2 * self.pad[i] - self.extent[i]
        return (room // self.stride[i] if room >= 0 else -(-room // self.stride[i])) + 1

    def completed(self, x: torch.Tensor) -> torch.Tensor:
        """``x`` with zeros behind the spatial axes that are short of their only window."""
        sizes = zip(x.shape[x.dim() - len(self.pad) :], self.pad, self.extent, strict=True)
        lacking = [max(0, extent - length - 2 * pad) for length, pad, extent in sizes]
        return F.pad(x, [n for length in reversed(lacking) for n in (0, length)]) if any(lacking) else x


class _FilterLayer(WindowLayer):
    """What the two have in common: one set of filters for every bottom, 0 to 3 spatial axes."""

    min_bottoms = 1
    min_tops = 1
    equal_bottoms_tops = True
    gradient_reads_tops = False

    def configure(self, shapes):
        param = self.layer_param.convolution_param
        self.read_windows(shapes[0])
        self.num_axes = len(shapes[0])
        if self.spatial > 3:
            raise self.error(
                f"at most 3 spatial axes are supported; bottom[0] has {self.spatial} after axis {self.axis}"
            )
        self.num_output = param.num_output
        self.group = param.group
        if self.num_output == 0:
            raise self.error("num_output must be greater than 0; set convolution_param { num_output: ... }")
        if self.group == 0 or self.channels % self.group:
            raise self.error(f"the {self.channels} input channels must be a multiple of group, {self.group}")
        if self.num_output % self.group:
            raise self.error(
                f"Number of output should be multiples of group. num_output: {self.num_output}, group: {self.group}"
            )
        add_blob(self, self._weight_shape(), param.weight_filler)
        if param.bias_term:
            add_blob(self, (self.num_output,), param.bias_filler)

    def top_shapes(self, shapes):
        first = shapes[0]
        if len(first) != self.num_axes:
            raise self.error(
                f"bottom num_axes may not change. It was {self.num_axes}, bottom[0] is {dims(first)}"
            )
        if first[self.axis] != self.channels:
            raise self.error(
                f"Input size incompatible with convolution kernel. The filters take {self.channels} channels, "
                f"bottom[0] is {dims(first)}"
            )
        for i, shape in enumerate(shapes):
            if shape != first:
                raise self.error(
                    f"shape mismatch - bottom[0]: {dims(first)} vs. bottom[{i}]: {dims(shape)}. "
                    "All bottoms go through one set of filters and must have one shape"
                )
        size = tuple(self._output_size(i, length) for i, length in enumerate(first[self.axis + 1 :]))
        if any(length < 1 for length in size):
            raise self.error(
                f"bottom[0], {dims(first)}, is too small: the output would be {dims(size)}. Kernel "
                f"{dims(self.kernel)} spans {dims(self.extent)} pixels, pad {dims(self.pad)}; "
                "use a larger input or pad"
            )
        return [first[: self.axis] + (self.num_output,) + size] * len(shapes)

    def compute(self, bottoms, params):
        weight = params[0] if self.spatial else params[0].unsqueeze(-1)
        bias = params[1] if len(params) > 1 else None
        tops = []
        for bottom in bottoms:
            batch = bottom.shape[: self.axis]
            if self.axis != 1 or not self.spatial:
                bottom = bottom.reshape(
                    math.prod(batch), self.channels, *(bottom.shape[self.axis + 1 :] or (1,))
                )
            top = self._filter(bottom, weight, bias)
            if self.axis != 1 or not self.spatial:
                top = top.reshape(*batch, *(top.shape[1:] if self.spatial else top.shape[1:2]))
            tops.append(top)
        return tops

    def _weight_shape(self) -> tuple[int, ...]:
        raise NotImplementedError

    def _output_size(self, i: int, length: int) -> int:
        raise NotImplementedError

    def _filter(self, bottom: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None) -> torch.Tensor:
        """The filters over a bottom of batch, channels and 1 to 3 spatial axes."""
        raise NotImplementedError


@register("Convolution")
class Convolution(_FilterLayer):
    """Cross-correlation with ``num_output`` learned filters.

    Bottoms (N, C, H, W), tops (N, num_output, H', W'), H' = (H + 2 pad - extent) / stride + 1 with
    extent = dilation (kernel - 1) + 1. Blobs: weight (num_output, C / group, kernel...), bias
    (num_output) unless ``bias_term: false``. The division truncates toward zero: an input short
    of one window by less than the stride still gives one output, its missing pixels being 0.
    """

    def _weight_shape(self):
        return (self.num_output, self.channels // self.group, *self.kernel)

    def _output_size(self, i, length):
        return self.window_count(i, length)

    def _filter(self, bottom, weight, bias):
        conv = _CONV[self.spatial or 1]
        if not self.spatial:
            return conv(bottom, weight, bias, groups=self.group)
        return conv(self.completed(bottom), weight, bias, self.stride, self.pad, self.dilation, self.group)


@register("Deconvolution")
class Deconvolution(_FilterLayer):
    """The transpose of Convolution: every input pixel adds its weighted filter to the output.

    Bottoms (N, C, H, W), tops (N, num_output, H', W'), H' = stride (H - 1) + extent - 2 pad.
    Blobs: weight (C, num_output / group, kernel...), bias (num_output) unless
    ``bias_term: false``. Section 3.3 of the paper: upsampling is backwards strided convolution.
    """

    def _weight_shape(self):
        return (self.channels, self.num_output // self.group, *self.kernel)

    def _output_size(self, i, length):
        return self.stride[i] * (length - 1) + self.extent[i] - 2 * self.pad[i]

    def _filter(self, bottom, weight, bias):
        conv = _CONV_TRANSPOSE[self.spatial or 1]
        if not self.spatial:
            return conv(bottom, weight, bias, groups=self.group)
        return conv(bottom, weight, bias, self.stride, self.pad, 0, self.group, self.dilation)
