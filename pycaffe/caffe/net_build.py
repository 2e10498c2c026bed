"""How a net is built from its prototxt: layers, blobs, losses, and what runs backward."""

from __future__ import annotations

import logging
from collections import OrderedDict
from contextlib import contextmanager

from google.protobuf import text_format

from .blob import Blob
from .errors import CaffeError
from .graph import filter_net, insert_splits
from .layer import Layer, TensorLayer, layer_error
from .log import logger
from .params import ParamTable
from .proto import caffe_pb2
from .registry import layer_class
from .vectors import BoolVec, LayerVec, RawBlobVec, StringVec

_AUTOMATIC = "(automatic)"


class BuiltNet:
    """The layers and blobs of a net, connected; :class:`caffe.Net` adds what one does with them."""

    def _init(self, param, source, phase=None, level=None, stages=()):
        if phase is not None:
            param.state.phase = phase
        if level is not None:
            param.state.level = level
        param.state.stage.extend(stages or ())
        self._source = source
        self._phase = param.state.phase
        try:
            self._build(insert_splits(filter_net(param)))
        except CaffeError as error:
            if source in str(error):
                raise
            raise CaffeError(f"{source}: {error}") from error

    def _build(self, param: caffe_pb2.NetParameter):
        if logger.isEnabledFor(logging.INFO):
            text = text_format.MessageToString(_without_blobs(param))
            logger.info("Initializing net from parameters: \n%s", text)
        self._name = param.name
        self._debug_info = param.debug_info
        self.blobs: OrderedDict[str, Blob] = OrderedDict()
        self.layers = LayerVec()
        self._layer_names = StringVec()
        self._layer_params: list[caffe_pb2.LayerParameter] = []
        self._bottoms: list[list[Blob]] = []
        self._tops: list[list[Blob]] = []
        self._top_lists: list[list[str]] = []  # by layer index: names of layers may repeat
        self._loss_weights: list[list[float]] = []
        self.bottom_names: OrderedDict[str, list[str]] = OrderedDict()
        self.top_names: OrderedDict[str, list[str]] = OrderedDict()
        self.inputs: list[str] = []
        self._hooks: dict[str, list] = {
            name: [] for name in ("before_forward", "after_forward", "before_backward", "after_backward")
        }
        self.keeps_values = False  # after a forward every blob holds its values, none is computed when read
        self._withheld = None
        self._prepared = None  # what the fast way keeps between forwards, and its plans by the blobs wanted
        self._plans: dict = {}
        self._param_table = ParamTable()
        self._unread: dict[str, None] = {}
        self._blobs_with_gradient: set[str] = set()
        self._needs: list[bool] = []
        self._bottom_needs: list[list[bool]] = []

        for layer_param in param.layer:
            with _naming(layer_param):
                self._add_layer(layer_param)
        self._prune_backward()
        self._tell_layers(param.force_backward)
        self.outputs = sorted(self._unread)
        for name in self.outputs:
            logger.info("This network produces output %s", name)
        self._param_table.share()
        self.params = OrderedDict(
            (name, layer.blobs)
            for name, layer in zip(self._layer_names, self.layers, strict=True)
            if layer.blobs
        )
        self.layer_dict = OrderedDict(zip(self._layer_names, self.layers, strict=True))
        logger.info("Network initialization done.")

    def _add_layer(self, layer_param):
        if not layer_param.HasField("phase"):
            layer_param.phase = self._phase
        name = layer_param.name
        logger.info("Creating Layer %s", name)
        layer = layer_class(layer_param.type, name)(layer_param)
        layer.phase = layer_param.phase
        layer.name, layer.type = name, layer_param.type
        bottoms = RawBlobVec(self.blobs[blob_name] for blob_name in layer_param.bottom)
        for blob_name in layer_param.bottom:
            self._unread.pop(blob_name, None)
            logger.info("%s <- %s", name, blob_name)
        tops, top_names = self._make_tops(layer, layer_param)
        _check_counts(layer, len(bottoms), len(tops))
        if layer_param.type == "Input":
            self.inputs.extend(layer_param.top)

        logger.info("Setting up %s", name)
        written = len(layer_param.param)
        layer.setup(bottoms, tops)
        if layer_param.blobs:
            _load_embedded(layer, layer_param)
        layer.reshape(bottoms, tops)
        weights = _loss_weights(layer, layer_param, len(tops))
        for blob, weight in zip(tops, weights, strict=True):
            if not blob.has_shape and layer_param.type != "Input":
                raise layer_error(layer, "a top has no shape after reshape; call top[i].reshape(...) there")
            if blob.has_shape:
                logger.info("Top shape: %s", blob.shape_string())
            if weight:
                logger.info("    with loss weight %g", weight)
                blob.diff[...] = weight

        self._append_needs(layer, layer_param, bottoms, written)
        self.layers.append(layer)
        self._layer_names.append(name)
        self._layer_params.append(layer_param)
        self._bottoms.append(bottoms)
        self._tops.append(tops)
        self._top_lists.append(top_names)
        self._loss_weights.append(weights)
        self.bottom_names[name] = list(layer_param.bottom)
        self.top_names[name] = top_names

    def _make_tops(self, layer, layer_param):
        names = list(layer_param.top)
        tops = RawBlobVec()
        for i, top_name in enumerate(names):
            in_place = i < len(layer_param.bottom) and layer_param.bottom[i] == top_name
            if in_place:
                blob = self.blobs[top_name]
            elif top_name in self.blobs:
                raise layer_error(
                    layer,
                    f"Top blob '{top_name}' produced by multiple sources. Give this top a name of its own; only "
                    "a layer whose bottom and top of the same index have one name works in place.",
                )
            else:
                blob = self.blobs[top_name] = Blob()
            logger.info("%s -> %s%s", layer.name, top_name, " (in-place)" if in_place else "")
            self._unread[top_name] = None
            tops.append(blob)
        if layer.auto_tops:
            for _ in range(max(layer.min_tops or 0, layer.exact_tops or 0) - len(tops)):
                blob = self.blobs[_AUTOMATIC] = Blob()
                names.append(_AUTOMATIC)
                tops.append(blob)
        return tops, names

    def _append_needs(self, layer, layer_param, bottoms, written: int):
        """Which bottoms and parameters of this layer could get gradients; returns whether any."""
        if len(layer_param.param) > len(layer.blobs):
            raise layer_error(
                layer,
                f"Too many params specified for layer {layer.name}: {len(layer_param.param)} param entries, "
                f"{len(layer.blobs)} blobs",
            )
        asked = layer_param.propagate_down
        if asked and len(asked) != len(bottoms):
            raise layer_error(
                layer,
                "propagate_down param must be specified either 0 or bottom_size times: "
                f"{len(asked)} given, {len(bottoms)} bottoms",
            )
        from_below = [name in self._blobs_with_gradient for name in layer_param.bottom]
        learns = self._param_table.add(layer, layer_param.param)
        self._bottom_needs.append([bool(need) for need in (asked or from_below)])
        # BatchNorm's blobs do not learn, by param entries of its own; Caffe counts only those written in the net
        self._needs.append(any(from_below) or any(learns) or len(layer.blobs) > written)
        if self._needs[-1]:
            self._blobs_with_gradient.update(layer_param.top)

    def _prune_backward(self):
        """Leave out of backward whatever no loss depends on, and what lies below such layers."""
        under_loss: set[str] = set()
        skipped: set[str] = set()
        for i in reversed(range(len(self.layers))):
            bottom, top = self._layer_params[i].bottom, self._top_lists[i]
            weights = self._loss_weights[i]
            contributes = any(weights) or any(name in under_loss for name in top)
            if all(name in skipped for name in top):
                self._needs[i] = False
                self._bottom_needs[i] = [False] * len(bottom)
            if contributes:
                under_loss.update(bottom)
            else:
                self._needs[i] = False
                self._bottom_needs[i] = [False] * len(bottom)
            skipped.update(name for name, need in zip(bottom, self._bottom_needs[i], strict=True) if not need)
            logger.info(
                "%s %s backward computation.",
                self._layer_names[i],
                "needs" if self._needs[i] else "does not need",
            )

    def _tell_layers(self, force_backward: bool):
        """Say to each layer which gradients will be asked of it."""
        for i, layer in enumerate(self.layers):
            learns = self._param_table.learns[i]
            if force_backward:
                self._needs[i] = True
                self._bottom_needs[i] = [
                    need or j not in layer.force_backward_refused
                    for j, need in enumerate(self._bottom_needs[i])
                ]
                learns = [True] * len(layer.blobs)
            self._bottom_needs[i] = BoolVec(self._bottom_needs[i])
            if isinstance(layer, TensorLayer):
                layer.needs_bottom = [need and self._needs[i] for need in self._bottom_needs[i]]
                layer.needs_blob = [learn and self._needs[i] for learn in learns]
        self._allow_overwriting()

    def _allow_overwriting(self):
        """Let layers work in place where no gradient needs what they overwrite.

        For a blob that a layer makes without reading it again, and that only layers which can
        overwrite it change after that: Convolution, then ReLU and Dropout, as in most nets.
        """
        writers: dict[str, list[Layer]] = {}
        for layer, tops in zip(self.layers, self._top_lists, strict=True):
            for name in tops:
                writers.setdefault(name, []).append(layer)
        for first, *others in writers.values():
            if getattr(first, "gradient_reads_tops", True):
                continue
            if all(getattr(layer, "can_overwrite", False) for layer in others):
                for layer in others:
                    layer.in_place = True


@contextmanager
def _naming(layer_param):
    """Say in which layer a blob got too large for Caffe, or for the memory."""
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        known = isinstance(error, (CaffeError, MemoryError)) or "allocate memory" in str(error)
        if not known or f"layer '{layer_param.name}'" in str(error):
            raise
        raise CaffeError(f"layer '{layer_param.name}' ({layer_param.type}): {error}") from error


def _without_blobs(param):
    if not any(layer.blobs for layer in param.layer):
        return param
    bare = caffe_pb2.NetParameter()
    bare.CopyFrom(param)
    for layer in bare.layer:
        layer.ClearField("blobs")
    return bare


def _check_counts(layer: Layer, bottoms: int, tops: int):
    """Caffe's rules on how many blobs a layer takes and gives."""
    rules = [
        (layer.exact_bottoms, bottoms, int.__eq__, "takes {} bottom blob(s) as input."),
        (layer.min_bottoms, bottoms, int.__ge__, "takes at least {} bottom blob(s) as input."),
        (layer.max_bottoms, bottoms, int.__le__, "takes at most {} bottom blob(s) as input."),
        (layer.exact_tops, tops, int.__eq__, "produces {} top blob(s) as output."),
        (layer.min_tops, tops, int.__ge__, "produces at least {} top blob(s) as output."),
        (layer.max_tops, tops, int.__le__, "produces at most {} top blob(s) as output."),
    ]
    for rule, found, holds, text in rules:
        if rule is not None and not holds(found, rule):
            raise layer_error(layer, f"{layer.type} Layer {text.format(rule)} The prototxt gives {found}.")
    if layer.equal_bottoms_tops and bottoms != tops:
        raise layer_error(
            layer,
            f"{layer.type} Layer produces one top blob as output for each bottom blob input. "
            f"The prototxt gives {bottoms} and {tops}.",
        )


def _loss_weights(layer: Layer, layer_param, tops: int) -> list[float]:
    given = list(layer_param.loss_weight)
    if not given:
        return [1.0 if layer.is_loss and i == 0 else 0.0 for i in range(tops)]
    if len(given) == 1 and layer.is_loss:
        given += [0.0] * (tops - 1)
    if len(given) != tops:
        raise layer_error(
            layer,
            f"loss_weight must be unspecified or specified once per top blob. {len(given)} given, {tops} tops.",
        )
    return given


def _load_embedded(layer: Layer, layer_param):
    """Use the blobs written into the prototxt itself instead of the fillers' values."""
    if len(layer_param.blobs) != len(layer.blobs):
        raise layer_error(
            layer,
            f"Incompatible number of blobs for layer {layer.name}: {len(layer_param.blobs)} in the prototxt, "
            f"the layer has {len(layer.blobs)}",
        )
    for i, (blob, source) in enumerate(zip(layer.blobs, layer_param.blobs, strict=True)):
        values = source.double_data or source.data
        if len(values) != blob.count:
            raise layer_error(
                layer,
                f"blob {i} in the prototxt holds {len(values)} values, the layer's has shape {blob.shape_string()}",
            )
        blob.data.reshape(-1)[...] = values
