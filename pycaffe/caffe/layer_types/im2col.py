"""Im2col: the windows of a convolution laid out as channels."""

from __future__ import annotations

import math

import torch.nn.functional as F

from ..registry import register
from .conv import WindowLayer
from .rules import dims


@register("Im2col")
class Im2col(WindowLayer):
    """Every window of the bottom as a column: what a Convolution multiplies with its filters.

    Bottom (N, C, H, W), top (N, C kh kw, H', W') with Convolution's H' and W'; channel
    (c kh + i) kw + j holds the pixels i, j of every window on bottom channel c, 0 in the padding.
    ``convolution_param`` as for Convolution, for any number of spatial axes but none.
    """

    exact_bottoms = 1
    exact_tops = 1
    gradient_reads_tops = False

    def configure(self, shapes):
        self.read_windows(shapes[0])
        if self.spatial < 1:
            raise self.error(f"bottom[0], {dims(shapes[0])}, has no spatial axis after axis {self.axis}")

    def top_shapes(self, shapes):
        shape = shapes[0]
        spatial = shape[self.axis + 1 :]
        if len(spatial) != self.spatial:
            raise self.error(f"bottom num_axes may not change; bottom[0] is {dims(shape)}")
        size = tuple(self.window_count(i, length) for i, length in enumerate(spatial))
        if any(length < 1 for length in size):
            raise self.error(
                f"bottom[0], {dims(shape)}, is too small: the output would be {dims(size)}. Kernel "
                f"{dims(self.kernel)} spans {dims(self.extent)} pixels, pad {dims(self.pad)}"
            )
        return [(*shape[: self.axis], shape[self.axis] * math.prod(self.kernel), *size)]

    def compute(self, bottoms, params):
        x = bottoms[0]
        (top,) = self.top_shapes([tuple(x.shape)])
        x = F.pad(self.completed(x), [n for pad in reversed(self.pad) for n in (pad, pad)])
        first, spatial = self.axis + 1, self.spatial
        for i in range(spatial):  # each axis becomes the windows', and one for their pixels comes last
            x = x.unfold(first + i, self.extent[i], self.stride[i])[..., :: self.dilation[i]]
        windows, pixels = range(first, first + spatial), range(first + spatial, first + 2 * spatial)
        return [x.permute(*range(first), *pixels, *windows).reshape(top)]
