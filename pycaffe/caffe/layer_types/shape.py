"""Layers that move values and change none: Concat, Slice, Split, Silence."""

from __future__ import annotations

import itertools

import torch

from .. import common
from ..layer import TensorLayer
from ..registry import register
from .rules import axis_or_legacy, dims


class SharingLayer(TensorLayer):
    """A layer whose tops may be its only bottom under other names: no value is copied then.

    Tops that ``shares`` says are the bottom's use its memory; the gradient of a single one is the
    bottom's own memory too, those of several are summed.
    """

    stateless = True  # sharing spares memory and changes no value

    def shares(self, bottom, top) -> bool:
        """Are all tops the bottom itself?"""
        raise NotImplementedError

    def reshape(self, bottom, top):
        super().reshape(bottom, top)
        if self.shares(bottom, top):
            for blob in top:
                blob.share_data(bottom[0])
            if len(top) == 1:
                top[0].share_diff(bottom[0])

    def forward(self, bottom, top):
        if not self.shares(bottom, top):
            super().forward(bottom, top)

    def backward(self, top, propagate_down, bottom):
        if not self.shares(bottom, top):
            super().backward(top, propagate_down, bottom)
        elif propagate_down[0] and len(top) > 1:
            device = common.device()
            total = torch.add(top[0].diff_tensor(device), top[1].diff_tensor(device))
            for blob in top[2:]:
                total += blob.diff_tensor(device)
            bottom[0].write_diff(total)


@register("Split")
class Split(SharingLayer):
    """One blob under several names, for several readers. The tops share the bottom's memory."""

    exact_bottoms = 1
    min_tops = 1

    def shares(self, bottom, top):
        return True

    def top_shapes(self, shapes):
        return [shapes[0]] * len(self.layer_param.top)

    def compute(self, bottoms, params):
        return list(_Fan.apply(bottoms[0], len(self.layer_param.top)))


class _Fan(torch.autograd.Function):
    """One tensor as several; the gradient adds up theirs in their order (autograd's own order varies)."""

    @staticmethod
    def forward(ctx, x, count):
        return tuple(x.view_as(x) for _ in range(count))

    @staticmethod
    def backward(ctx, *diffs):
        total = torch.add(diffs[0], diffs[1]) if len(diffs) > 1 else diffs[0]
        for diff in diffs[2:]:
            total += diff
        return total, None


@register("Concat")
class Concat(SharingLayer):
    """The bottoms one after another along ``axis`` (1). A single one shares its memory with the top."""

    min_bottoms = 1
    exact_tops = 1

    def shares(self, bottom, top):
        return len(bottom) == 1

    def top_shapes(self, shapes):
        first = shapes[0]
        self.axis = axis_or_legacy(self, self.layer_param.concat_param, "concat_dim", first)
        for i, shape in enumerate(shapes):
            if len(shape) != len(first):
                raise self.error(
                    f"All inputs must have the same #axes. bottom[0]: {dims(first)}, bottom[{i}]: {dims(shape)}"
                )
            if _without(shape, self.axis) != _without(first, self.axis):
                raise self.error(
                    "All inputs must have the same shape, except at concat_axis. "
                    f"bottom[0]: {dims(first)}, bottom[{i}]: {dims(shape)}, axis {self.axis}"
                )
        length = sum(shape[self.axis] for shape in shapes)
        return [(*first[: self.axis], length, *first[self.axis + 1 :])]

    def compute(self, bottoms, params):
        return [torch.cat(bottoms, self.axis)]


@register("Slice")
class Slice(SharingLayer):
    """The bottom cut along ``axis`` (1) at each ``slice_point``, or into equal parts.

    A single top shares its memory with the bottom.
    """

    exact_bottoms = 1
    min_tops = 1

    def shares(self, bottom, top):
        return len(top) == 1

    def top_shapes(self, shapes):
        param = self.layer_param.slice_param
        shape, tops = shapes[0], len(self.layer_param.top)
        self.axis = axis_or_legacy(self, param, "slice_dim", shape)
        length, points = shape[self.axis], list(param.slice_point)
        if not points:
            if length % tops:
                raise self.error(
                    f"Number of top blobs ({tops}) should evenly divide input slice axis ({length}); "
                    "give slice_point for unequal parts"
                )
            points = [length // tops * i for i in range(1, tops)]
        elif len(points) != tops - 1:
            raise self.error(
                f"{tops} tops need {tops - 1} slice_point entries, {len(points)} given ({_listed(points)})"
            )
        ends = [0, *points, length]
        self.lengths = [end - start for start, end in itertools.pairwise(ends)]
        if param.slice_point and (min(self.lengths[:-1]) < 1 or self.lengths[-1] < 0):
            raise self.error(
                "slice_point entries must be strictly increasing, above 0 and at most the size of axis "
                f"{self.axis}, {length}; got {_listed(points)}"
            )
        return [(*shape[: self.axis], n, *shape[self.axis + 1 :]) for n in self.lengths]

    def compute(self, bottoms, params):
        return list(torch.split(bottoms[0], self.lengths, self.axis))


@register("Silence")
class Silence(TensorLayer):
    """Reads any number of blobs so that they are no outputs of the net. Their gradient is 0."""

    min_bottoms = 1
    exact_tops = 0

    def top_shapes(self, shapes):
        return []

    def compute(self, bottoms, params):
        return []


def _without(shape: tuple[int, ...], axis: int) -> tuple[int, ...]:
    return (*shape[:axis], *shape[axis + 1 :])


def _listed(numbers: list[int]) -> str:
    return ", ".join(map(str, numbers))
