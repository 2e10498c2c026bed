"""A net built for its shapes alone: no data is read and no parameter is filled."""

from __future__ import annotations

import logging
import os

from ..blob import INT_MAX
from ..errors import CaffeError
from ..graph import filter_net
from ..layer_types.data import DummyData
from ..layer_types.rules import dims
from ..log import logger
from ..net import Net
from ..proto import caffe_pb2
from ..upgrade import read_net, upgrade_net

Shapes = dict[str, tuple[int, ...]]


def build(net, size, shapes, phase, level, stages) -> tuple[Net, str, list[str]]:
    """The net in the prototxt or NetParameter ``net`` at ``size``, its source in words, and notes.

    ``size``, ``shapes``, ``phase``, ``level`` and ``stages`` are those of :func:`caffe.explain.explain`, and so
    are the errors. The notes say what was put in place of data layers and what was left out.
    """
    if isinstance(net, caffe_pb2.NetParameter):
        param, source = caffe_pb2.NetParameter(), f"the net '{net.name}'"
        param.CopyFrom(net)
        upgrade_net(param, source)
    else:
        source = os.fsdecode(os.fspath(net))
        param = read_net(source)
    param.state.phase, param.state.level = phase, level
    param.state.stage.extend(stages)
    try:
        _check(size, shapes or {})
        param = filter_net(param)
        notes = _Sources(param, size, dict(shapes or {})).replace()
    except CaffeError as error:
        raise CaffeError(f"{source}: {error}") from error
    for layer in param.layer:
        _unfill(layer)
    usual = logger.level
    logger.setLevel(max(usual, logging.WARNING))  # nobody is to use this net: how it was built is no news
    try:
        return Net.from_param(param, source), source, notes
    finally:
        logger.setLevel(usual)


def _check(size, shapes: Shapes) -> None:
    if size is not None and (len(size) not in (2, 3) or not all(0 < length <= INT_MAX for length in size)):
        raise CaffeError(
            f"size is (height, width) or (channels, height, width), each at least 1; found {tuple(size)}"
        )
    for name, shape in shapes.items():
        if not all(0 <= length <= INT_MAX for length in shape):
            raise CaffeError(f"the shape given for '{name}' has a length that no blob has: {tuple(shape)}")


def _unfill(layer: caffe_pb2.LayerParameter) -> None:
    """Take out fillers and values: what is then left, a constant 0, takes no memory until it is read."""
    layer.ClearField("blobs")
    for descriptor, message in layer.ListFields():
        if not descriptor.name.endswith("_param"):
            continue
        for field in descriptor.message_type.fields:
            if field.message_type and field.message_type.name == "FillerParameter":
                message.ClearField(field.name)


class _Sources:
    """The layers of ``net`` without bottoms, and the shapes that their tops are to have."""

    def __init__(self, net: caffe_pb2.NetParameter, size, shapes: Shapes):
        self.net, self.size, self.shapes = net, size, shapes
        self.used: set[str] = set()
        self.resized = False
        self.notes: list[str] = []
        self.labels: list[str] = []  # tops that no shape is known for

    def replace(self) -> list[str]:
        """Put Input layers for those that read data or get other shapes; returns notes."""
        layers = []
        for layer in self.net.layer:
            if layer.bottom or layer.type == "Parameter":
                layers.append(layer)
            else:
                layers += self._source(layer)
        if unknown := sorted(set(self.shapes) - self.used):
            raise CaffeError(
                f"a shape was given for '{unknown[0]}', which is not an input or a data layer's top"
            )
        if self.size and not self.resized:
            raise CaffeError(
                "a size was given, but no input takes it: none has four axes and no shape of its own"
            )
        layers = self._without_labels(layers)
        self.net.ClearField("layer")
        self.net.layer.extend(layers)
        return self.notes

    def _source(self, layer) -> list[caffe_pb2.LayerParameter]:
        declared = _declared(layer)
        if declared and len(declared) != len(layer.top):
            raise CaffeError(
                f"layer '{layer.name}' ({layer.type}): {len(declared)} shapes for {len(layer.top)} tops; give one, or "
                "one for each"
            )
        if declared and not self.size and not any(top in self.shapes for top in layer.top):
            return [layer]
        new = caffe_pb2.LayerParameter(name=layer.name, type="Input")
        for i, top in enumerate(layer.top):
            shape = self._shape(layer, top, declared[i] if declared else None)
            if shape is None:
                self.labels.append(top)
            else:
                new.top.append(top)
                new.input_param.shape.add().dim.extend(shape)
        if not declared and layer.type != "Input":
            given = zip(new.top, new.input_param.shape, strict=True)
            inputs = ", ".join(f"'{top}' {dims(shape.dim)}" for top, shape in given)
            self.notes.append(
                f"No data is read: the layer '{layer.name}' ({layer.type}) is replaced by "
                + (f"the input {inputs}" if inputs else "nothing")
            )
        return [new] if new.top else []

    def _shape(self, layer, top: str, own) -> tuple[int, ...] | None:
        if top in self.shapes:
            self.used.add(top)
            return tuple(self.shapes[top])
        if own is not None:
            if not self.size or len(own) != 4:
                return own
            self.resized = True
            return (*own[: 4 - len(self.size)], *self.size)
        if self._is_label(top):
            return None
        crop = layer.transform_param.crop_size
        size = self.size or ((crop, crop) if crop else None)
        if size is None:
            raise CaffeError(
                f"layer '{layer.name}' ({layer.type}): the size of '{top}' is not in the prototxt, and data is not "
                "read here. Give it: --size HxW, or --size CxHxW when an image has not 3 channels"
            )
        self.resized = True
        return (1, *((3,) if len(size) == 2 else ()), *size)

    def _is_label(self, top: str) -> bool:
        """Do only losses and measures read it?"""
        readers = [layer for layer in self.net.layer if top in layer.bottom]
        return all(
            layer.type.endswith("Loss") or layer.type in ("Accuracy", "Silence") or layer.loss_weight
            for layer in readers
        )

    def _without_labels(self, layers) -> list:
        kept, left_out, known, missing = [], [], set(), set(self.labels)
        for layer in layers:
            if any(name in missing for name in layer.bottom):
                left_out.append(f"'{layer.name}'")
                missing.update(top for top in layer.top if top not in known)
            else:
                kept.append(layer)
                known.update(layer.top)
        if left_out:
            labels = ", ".join(f"'{name}'" for name in self.labels)
            self.notes.append(
                f"Left out, because the shape of {labels} is not known: {', '.join(left_out)} "
                "(give it with --shape NAME=NxCxHxW to have them too)"
            )
        return kept


def _declared(layer) -> list[tuple[int, ...]]:
    """The shapes of the tops, where the prototxt has them."""
    if layer.type == "Input":
        shapes = [tuple(shape.dim) for shape in layer.input_param.shape]
    elif layer.type == "DummyData":
        shapes = [tuple(shape) for shape in DummyData(layer)._shapes(layer.dummy_data_param, len(layer.top))]
    else:
        return []
    return shapes * len(layer.top) if len(shapes) == 1 else shapes
