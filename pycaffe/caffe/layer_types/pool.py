"""Pooling: the maximum, the average, or a random element of each window."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F

from .. import common
from ..blob import INT_MAX
from ..layer import TensorLayer
from ..proto import caffe_pb2
from ..registry import register
from .rules import dims

FLT_MAX = torch.finfo(torch.float32).max

_MAX = caffe_pb2.PoolingParameter.MAX
_AVE = caffe_pb2.PoolingParameter.AVE


@register("Pooling")
class Pooling(TensorLayer):
    """Spatial pooling of (N, C, H, W) by MAX (default), AVE or STOCHASTIC.

    The output size is ceil((H + 2 pad - kernel) / stride) + 1 (``round_mode: FLOOR``: floor); with
    padding, a last window that would start beyond the image and its first padding is dropped.
    AVE divides by the window's area inside the padded image. A MAX layer's second top is the
    index h * W + w of each maximum, as floats; the first of equal maxima wins.

    A window wholly outside the image (kernel < stride, no padding) gives -FLT_MAX (index -1) or 0,
    and no gradient; -FLT_MAX is also the maximum of nothing but -inf. A window that holds a NaN
    gives NaN, where Caffe's MAX would skip it. STOCHASTIC has no CPU version, in Caffe neither.
    """

    exact_bottoms = 1
    min_tops = 1

    def __init__(self, layer_param):
        super().__init__(layer_param)
        self.max_tops = 2 if layer_param.pooling_param.pool == _MAX else 1

    def configure(self, shapes):
        param = self.layer_param.pooling_param
        self._check_fields(param)
        self.method = param.pool
        self.floor = param.round_mode == caffe_pb2.PoolingParameter.FLOOR
        self.kernel = None  # global: the whole image, whatever its size
        if not param.global_pooling:
            self.kernel = self._pair(param, "kernel_size", "kernel")
            if 0 in self.kernel:
                raise self.error(
                    f"Filter dimensions cannot be zero. Found {dims(self.kernel)} (height x width)"
                )
        self.pad = self._pair(param, "pad", "pad")
        self.stride = self._pair(param, "stride", "stride")
        if 0 in self.stride:
            raise self.error(f"stride must be at least 1, found {dims(self.stride)} (height x width)")
        if param.global_pooling and (any(self.pad) or self.stride != (1, 1)):
            raise self.error("With Global_pooling: true; only pad = 0 and stride = 1")
        if any(self.pad):
            if self.method not in (_MAX, _AVE):
                raise self.error("Padding implemented only for average and max pooling.")
            if self.pad[0] >= self.kernel[0] or self.pad[1] >= self.kernel[1]:
                raise self.error(
                    f"pad must be less than kernel: pad {dims(self.pad)}, kernel {dims(self.kernel)}"
                )

    def _check_fields(self, param):
        has = param.HasField
        both = has("kernel_h") and has("kernel_w")
        if param.global_pooling:
            if has("kernel_size") or has("kernel_h") or has("kernel_w"):
                raise self.error(
                    "With Global_pooling: true Filter size cannot specified; remove the kernel size"
                )
        else:
            if has("kernel_size") and (has("kernel_h") or has("kernel_w")):
                raise self.error("Filter size is kernel_size OR kernel_h and kernel_w; not both")
            if not has("kernel_size") and not both:
                raise self.error(
                    "For non-square filters both kernel_h and kernel_w are required "
                    "(Filter size is kernel_size OR kernel_h and kernel_w)."
                )
        for name, text in (("pad", "pad is pad"), ("stride", "Stride is stride")):
            high, wide = has(f"{name}_h"), has(f"{name}_w")
            if high != wide or (high and has(name)):
                raise self.error(f"{text} OR {name}_h and {name}_w are required.")

    @staticmethod
    def _pair(param, name, prefix) -> tuple[int, int]:
        if param.HasField(f"{prefix}_h"):
            return getattr(param, f"{prefix}_h"), getattr(param, f"{prefix}_w")
        return (getattr(param, name),) * 2

    def top_shapes(self, shapes):
        shape = shapes[0]
        if len(shape) != 4:
            raise self.error(
                "Input must have 4 axes, corresponding to (num, channels, height, width); "
                f"bottom[0] is {dims(shape)}"
            )
        size = self._output_size(shape[2:])
        if size[0] < 1 or size[1] < 1:
            raise self.error(
                f"bottom[0], {dims(shape)}, is too small for kernel {dims(self.kernel or shape[2:])}, "
                f"stride {dims(self.stride)}, pad {dims(self.pad)}: the output would be {dims(size)}"
            )
        reach = [(n - 1) * s + k for n, s, k in zip(size, self.stride, self.kernel or shape[2:], strict=True)]
        if math.prod((*shape[:2], *reach)) > INT_MAX:
            raise self.error(
                f"the windows reach over {dims(reach)} pixels, more than a blob can have ({INT_MAX} values); "
                f"bottom[0] is {dims(shape)}, kernel {dims(self.kernel or shape[2:])}, stride {dims(self.stride)}"
            )
        return [(*shape[:2], *size)] * len(self.layer_param.top)

    def _output_size(self, image) -> tuple[int, ...]:
        size = []
        for length, kernel, stride, pad in zip(
            image, self.kernel or image, self.stride, self.pad, strict=True
        ):
            room = length + 2 * pad - kernel
            steps = room // stride if self.floor else -(-room // stride)
            if any(self.pad) and steps * stride >= length + pad:
                steps -= 1
            size.append(steps + 1)
        return tuple(size)

    def compute(self, bottoms, params):
        x = bottoms[0]
        windows = _Windows(self, tuple(x.shape[2:]))
        if self.method == _MAX:
            return windows.maximum(x, indexed=len(self.layer_param.top) == 2)
        if self.method == _AVE:
            return [windows.average(x)]
        if x.device.type == "cpu":
            raise self.error(
                "Not Implemented Yet: STOCHASTIC pooling runs on a GPU only; use MAX or AVE, or caffe.set_mode_gpu()"
            )
        return [windows.stochastic(x, self.phase == caffe_pb2.TRAIN)]


class _Windows:
    """The windows of one image size: where they lie, and what PyTorch can do with them directly."""

    def __init__(self, layer: Pooling, image: tuple[int, int]):
        self.image = image
        self.kernel = layer.kernel or image
        self.stride, self.pad = layer.stride, layer.pad
        self.size = layer._output_size(image)
        self.ceil = not layer.floor
        # PyTorch's own padding and rounding cover all but these: a padding beyond half the kernel,
        # a last window that starts outside the image
        self.ordinary = all(
            2 * pad <= kernel and (size - 1) * stride < length + pad
            for length, kernel, stride, pad, size in zip(
                image, self.kernel, self.stride, self.pad, self.size, strict=True
            )
        )

    def padded(self, x: torch.Tensor, value: float) -> torch.Tensor:
        """``x`` with a border of ``value``, so that every window lies inside and none is left over."""
        border = []
        for length, kernel, stride, pad, size in zip(
            self.image, self.kernel, self.stride, self.pad, self.size, strict=True
        ):
            border = [pad, (size - 1) * stride + kernel - length - pad, *border]
        return F.pad(x, border, value=value)

    def maximum(self, x: torch.Tensor, indexed: bool) -> list[torch.Tensor]:
        if self.ordinary:
            pool = F.max_pool2d(x, self.kernel, self.stride, self.pad, 1, self.ceil, return_indices=indexed)
            values = pool[0] if indexed else pool
            where = [torch.where(values < -FLT_MAX, -1, pool[1]).to(x.dtype)] if indexed else []
            with torch.no_grad():
                values.clamp_(min=max(-FLT_MAX, torch.finfo(values.dtype).min))
            return [values, *where]
        bordered = self.padded(x, -FLT_MAX)
        values, where = F.max_pool2d(bordered, self.kernel, self.stride, return_indices=True)
        if not indexed:
            return [values]
        row = where // bordered.shape[3] - self.pad[0]
        column = where % bordered.shape[3] - self.pad[1]
        inside = (row >= 0) & (row < self.image[0]) & (column >= 0) & (column < self.image[1])
        return [values, torch.where(inside, row * self.image[1] + column, -1).to(x.dtype)]

    def average(self, x: torch.Tensor) -> torch.Tensor:
        if self.ordinary:
            return F.avg_pool2d(x, self.kernel, self.stride, self.pad, self.ceil, count_include_pad=True)
        total = F.avg_pool2d(self.padded(x, 0), self.kernel, self.stride, divisor_override=1)
        rows, columns = (self._lengths(axis, x) for axis in (0, 1))
        return total / (rows[:, None] * columns)

    def _lengths(self, axis: int, x: torch.Tensor) -> torch.Tensor:
        """Each window's extent along one axis, cut at the end of the padded image."""
        start = torch.arange(self.size[axis], device=x.device) * self.stride[axis] - self.pad[axis]
        end = self.image[axis] + self.pad[axis]
        # at least 1: a window wholly outside holds a sum of 0, whatever it is divided by
        return ((start + self.kernel[axis]).clamp(max=end) - start).clamp(min=1).to(x.dtype)

    def stochastic(self, x: torch.Tensor, train: bool) -> torch.Tensor:
        """An element drawn with probability in proportion to its value; in testing, the expected one."""
        batch, channels = x.shape[:2]
        cells = F.unfold(self.padded(x, 0), self.kernel, stride=self.stride)
        cells = cells.view(batch, channels, -1, cells.shape[-1])
        if train:
            reached = cells.cumsum(2)
            level = torch.rand(
                reached[:, :, -1:].shape, device=x.device, dtype=x.dtype, generator=_generator(x)
            )
            chosen = (reached < level * reached[:, :, -1:]).sum(2, keepdim=True).clamp(max=cells.shape[2] - 1)
            pooled = cells.gather(2, chosen)
        else:
            total = cells.sum(2)
            positive = total > 0
            pooled = torch.where(positive, cells.square().sum(2) / torch.where(positive, total, 1), 0)
        return pooled.reshape(batch, channels, *self.size)


def _generator(x: torch.Tensor) -> torch.Generator | None:
    return common.cuda_generator(x.device) if x.device.type == "cuda" else None
