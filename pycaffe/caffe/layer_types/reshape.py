"""Layers that give values another shape or order: Flatten, Reshape, Tile, BatchReindex, Filter."""

from __future__ import annotations

import math

import torch

from ..layer import TensorLayer
from ..registry import register
from .rules import canonical_axis, dims, refuse_in_place
from .shape import SharingLayer


class _ReshapingLayer(SharingLayer):
    """The bottom in another shape: the top shares its memory, values and gradient. Not in place."""

    exact_bottoms = 1
    exact_tops = 1

    def shares(self, bottom, top):
        return True

    def setup(self, bottom, top):
        refuse_in_place(self, bottom, top)
        super().setup(bottom, top)

    def compute(self, bottoms, params):
        return [bottoms[0].reshape(self.top_shapes([tuple(bottoms[0].shape)])[0])]


@register("Flatten")
class Flatten(_ReshapingLayer):
    """The axes from ``axis`` (1) to ``end_axis`` (-1), both included, as one.

    An ``end_axis`` just before ``axis`` puts an axis of size 1 between them.
    """

    def top_shapes(self, shapes):
        shape, param = shapes[0], self.layer_param.flatten_param
        first, last = (canonical_axis(self, axis, shape) for axis in (param.axis, param.end_axis))
        if first > last + 1:
            raise self.error(
                f"axis {param.axis} lies behind end_axis {param.end_axis}; bottom[0] is {dims(shape)}"
            )
        return [(*shape[:first], math.prod(shape[first : last + 1]), *shape[last + 1 :])]


@register("Reshape")
class Reshape(_ReshapingLayer):
    """The bottom with ``num_axes`` (-1: all the rest) of its axes from ``axis`` (0) on replaced by ``shape``.

    In ``shape``, 0 copies the bottom's size at the same place, and one -1 takes what remains. A
    negative axis counts from behind the last one: -1 appends.
    """

    def configure(self, shapes):
        self.new = list(self.layer_param.reshape_param.shape.dim)
        if self.new.count(-1) > 1:
            raise self.error(
                f"new shape contains multiple -1 dims; at most a single (1) value of -1 may be specified: {self.new}"
            )
        if min(self.new, default=0) < -1:
            raise self.error(f"a size in the new shape is -1 (inferred), 0 (copied) or positive: {self.new}")

    def top_shapes(self, shapes):
        shape = shapes[0]
        first, last = self._replaced(shape)
        new = list(self.new)
        for i, size in enumerate(new):
            if size == 0:
                if first + i >= len(shape):
                    raise self.error(
                        "new shape contains a 0, but there was no corresponding bottom axis to copy: "
                        f"axis {first + i} of {dims(shape)}"
                    )
                new[i] = shape[first + i]
        if -1 in new:
            known = math.prod([*shape[:first], *(size for size in new if size != -1), *shape[last:]])
            count = math.prod(shape)
            if known == 0 or count % known:
                raise self.error(
                    f"bottom count ({count}) must be divisible by the product of the specified dimensions ({known}); "
                    f"bottom[0] is {dims(shape)}"
                )
            new[new.index(-1)] = count // known
        top = (*shape[:first], *new, *shape[last:])
        if math.prod(top) != math.prod(shape):
            raise self.error(
                f"output count must match input count: bottom[0] is {dims(shape)} ({math.prod(shape)}), "
                f"the new shape {dims(top)} ({math.prod(top)})"
            )
        return [top]

    def _replaced(self, shape) -> tuple[int, int]:
        """The first of the axes that are replaced, and the one behind the last."""
        param = self.layer_param.reshape_param
        first = param.axis if param.axis >= 0 else len(shape) + param.axis + 1
        if not 0 <= first <= len(shape):
            raise self.error(f"axis {param.axis} out of range for {len(shape)}-D input blob, {dims(shape)}")
        if param.num_axes < -1:
            raise self.error(f"num_axes must be >= 0, or -1 for all; got {param.num_axes}")
        last = len(shape) if param.num_axes == -1 else first + param.num_axes
        if last > len(shape):
            raise self.error(
                f"end_axis = axis + num_axes is out of range: axis {param.axis}, num_axes {param.num_axes}, "
                f"bottom[0] is {dims(shape)}"
            )
        return first, last


@register("Tile")
class Tile(TensorLayer):
    """The bottom ``tiles`` times along ``axis`` (1), one copy after another."""

    exact_bottoms = 1
    exact_tops = 1
    gradient_reads_tops = False

    def configure(self, shapes):
        param = self.layer_param.tile_param
        if not param.HasField("tiles"):
            raise self.error("Number of tiles must be specified. Set tile_param { tiles: ... }")
        if param.tiles <= 0:
            raise self.error(f"Number of tiles must be positive. It is {param.tiles}")

    def top_shapes(self, shapes):
        param = self.layer_param.tile_param
        self.axis = canonical_axis(self, param.axis, shapes[0])
        return [tuple(n * param.tiles if i == self.axis else n for i, n in enumerate(shapes[0]))]

    def compute(self, bottoms, params):
        times = [1] * bottoms[0].dim()
        times[self.axis] = self.layer_param.tile_param.tiles
        return [bottoms[0].repeat(times)]


@register("BatchReindex")
class BatchReindex(TensorLayer):
    """The items of bottom[0] that bottom[1] lists, in its order; an item may come several times, or never.

    Bottoms (N, ...) and (M), the latter with values 0..N-1, truncated to integers and without a
    gradient; top (M, ...). Raises CaffeError for an index out of range.
    """

    exact_bottoms = 2
    exact_tops = 1
    gradient_reads_tops = False
    force_backward_refused = (1,)

    def top_shapes(self, shapes):
        items, indices = shapes
        if not items or len(indices) != 1:
            raise self.error(
                f"bottom[0] has an axis of items and bottom[1] one axis of indices; they are {dims(items)} "
                f"and {dims(indices)}"
            )
        return [(indices[0], *items[1:])]

    def compute(self, bottoms, params):
        items, indices = bottoms[0], bottoms[1].detach()
        if indices.numel():
            lowest, highest = (float(each) for each in torch.aminmax(indices))
            if not lowest >= 0:
                raise self.error(
                    f"Index specified for reindex layer was negative. bottom[1] holds {lowest:g}"
                )
            if highest >= len(items):
                raise self.error(
                    "Index specified for reindex layer was greater than batch size. "
                    f"bottom[1] holds {highest:g}, bottom[0] {len(items)} items (0..{len(items) - 1})"
                )
        return [items.index_select(0, indices.long())]

    def backward_refusal(self, propagate_down):
        if propagate_down[1]:
            return "Cannot backprop to index. Give the layer propagate_down: true propagate_down: false"
        return super().backward_refusal(propagate_down)


@register("Filter")
class Filter(TensorLayer):
    """Of all bottoms but the last, the items for which the last one, the selector, is not 0.

    Bottoms (N, ...) and a selector (N, 1, ...); as many tops as bottoms without it, with one item
    for each selected one. When a net is built the tops have all N items, as nothing is known yet.
    The gradient of the other items is 0; the selector has none.
    """

    min_bottoms = 2
    min_tops = 1
    gradient_reads_tops = False
    stateless = False  # the tops' shapes depend on values

    def __init__(self, layer_param):
        super().__init__(layer_param)
        self.exact_tops = max(1, len(layer_param.bottom) - 1)
        self.force_backward_refused = (len(layer_param.bottom) - 1,)
        self._built = False

    def top_shapes(self, shapes):
        *items, selector = shapes
        if not selector or any(size != 1 for size in selector[1:]):
            raise self.error(
                "Selector blob dimensions must be singletons (1), except the first. "
                f"bottom[{len(items)}], the selector, is {dims(selector)}"
            )
        for i, shape in enumerate(items):
            if not shape or shape[0] != selector[0]:
                raise self.error(
                    "Each bottom should have the same 0th dimension as the selector blob. "
                    f"bottom[{i}] is {dims(shape)}, the selector {dims(selector)}"
                )
        return items

    def reshape(self, bottom, top):
        shapes = self.top_shapes([blob.shape for blob in bottom])
        selected = int(bottom[-1].tensor().count_nonzero()) if self._built else bottom[-1].shape[0]
        self._built = True
        for blob, shape in zip(top, shapes, strict=True):
            blob.reshape(selected, *shape[1:])

    def compute(self, bottoms, params):
        *items, selector = bottoms
        chosen = selector.detach().flatten().nonzero().flatten()
        return [each.index_select(0, chosen) for each in items]

    def backward_refusal(self, propagate_down):
        if propagate_down[-1]:
            return "FilterLayer cannot backpropagate to filter index inputs"
        return super().backward_refusal(propagate_down)
