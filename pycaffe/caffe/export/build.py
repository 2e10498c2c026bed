"""From a Caffe net to a graph of ONNX operators."""

from __future__ import annotations

import os

from ..errors import CaffeError
from ..graph import filter_net
from ..net import Net
from ..proto import caffe_pb2
from ..upgrade import read_net
from . import filters, norms, pointwise, pooling, shapes  # noqa: F401 - they register translators
from .graph import Graph, Node
from .table import DROPPED, READERS, exportable_types, translator


def own_net(source, weights) -> tuple[Net, list[str]]:
    """The net to export, in the TEST phase, and what was left out of it, in words.

    ``source`` is a prototxt file or a :class:`caffe.Net`, which stays as it is: the new net shares
    its weights. ``weights`` is a weight file, or None. Raises CaffeError for a layer that cannot be
    exported, before anything large is read.
    """
    given = source if isinstance(source, Net) else None
    if given is None:
        name, param = os.fsdecode(os.fspath(source)), read_net(source)
        param.state.phase = caffe_pb2.TEST
        param = filter_net(param)
    else:
        name, param = given._source, _layers_of(given)
    dropped = _drop(param, name)
    net = Net.from_param(param, name, caffe_pb2.TEST)
    if not net.inputs:
        raise CaffeError(f"{name}: no Input layer: an exported net needs one. {_DEPLOY}")
    for blob in net.inputs:
        if not net.blobs[blob].has_shape:
            raise CaffeError(
                f"{name}: input '{blob}' has no shape; give one in its Input layer, as an example: "
                "input_param { shape { dim: 1 dim: 3 dim: 224 dim: 224 } }"
            )
    if given is not None:
        net.share_with(given)
    if weights is not None:
        net.copy_from(weights)
    return net, dropped


_DEPLOY = "Export the deploy net, where Input layers take the place of data layers"


def _layers_of(net: Net) -> caffe_pb2.NetParameter:
    """The layers of a built net as they were before splits were put between them."""
    param, original = caffe_pb2.NetParameter(name=net._name), {}
    for layer in net._layer_params:
        if layer.type == "Split" and layer.name.endswith("_split"):
            original.update(dict.fromkeys(layer.top, layer.bottom[0]))
            continue
        copy = param.layer.add()
        copy.CopyFrom(layer)
        copy.bottom[:] = [original.get(name, name) for name in layer.bottom]
        for field in ("phase", "include", "exclude"):
            copy.ClearField(field)
    return param


def _drop(param: caffe_pb2.NetParameter, source: str) -> list[str]:
    """Take the layers out that no exported net has, and the inputs that only they read; says which."""
    dropped, gone, kept = [], set(), []
    for layer in param.layer:
        where = f"{source}: layer '{layer.name}' ({layer.type})"
        if layer.type in DROPPED:
            gone.update(layer.top)
            dropped.append(f"layer '{layer.name}' ({layer.type}): it matters only in training and scoring")
            continue
        if layer.type in READERS or (layer.type == "Python" and not layer.bottom):
            raise CaffeError(f"{where} makes or reads data, which an exported net does not. {_DEPLOY}")
        if layer.type not in exportable_types():
            raise CaffeError(
                f"{where} cannot be exported to ONNX. The types that can: {', '.join(exportable_types())}"
            )
        if missing := gone & set(layer.bottom):
            raise CaffeError(
                f"{where} reads '{missing.pop()}', the top of a layer that is left out, since it matters only "
                "in training and scoring. In a deploy net use Softmax or Sigmoid instead of a loss"
            )
        kept.append(layer)
    read = {name for layer in kept for name in layer.bottom}
    for layer in kept:
        if layer.type != "Input":
            continue
        given = list(layer.input_param.shape)
        used = [i for i, top in enumerate(layer.top) if top in read]
        dropped += [f"input '{top}': no layer reads it" for top in layer.top if top not in read]
        if len(given) > 1:
            del layer.input_param.shape[:]
            layer.input_param.shape.extend(given[i] for i in used)
        layer.top[:] = [layer.top[i] for i in used]
    layers = [layer for layer in kept if layer.type != "Input" or layer.top]
    remaining = caffe_pb2.NetParameter(layer=layers)
    param.ClearField("layer")
    param.layer.extend(remaining.layer)
    return dropped


def translate(net: Net) -> Graph:
    """The graph of ``net``: its inputs and outputs have the names of the net's blobs.

    A blob that several layers write in place is there once for each: the last value has its name.
    """
    g = Graph()
    for name in net.blobs:
        g.reserve(name)
    tensors = {name: name for name in net.inputs}
    named: dict[str, str] = {}  # tensor that some operator makes → the blob it is
    for layer, param, shapes_below in zip(net.layers, net._layer_params, _bottom_shapes(net), strict=True):
        if layer.type == "Input":
            continue
        g.layer = layer.name
        tops = translator(layer.type)(g, layer, [tensors[name] for name in param.bottom], shapes_below)
        tensors.update(zip(param.top, tops, strict=True))
    produced = {name for node in g.nodes for name in node.outputs}
    for blob, tensor in tensors.items():
        if tensor in produced and tensor not in named and blob not in net.inputs:
            named[tensor] = blob
    for blob in net.outputs:
        tensor = tensors[blob]
        if named.get(tensor, blob) == blob and tensor in produced:
            g.outputs[blob] = named.get(tensor, tensor)  # the latter: an input that was written in place
            continue
        g.outputs[blob] = blob  # another name of a tensor that has one already, or of an input or constant
        g.nodes.append(Node("Identity", g.reserve(f"{blob}/Identity"), [tensor], [blob], {}))
        if tensor in g.labels:
            g.labels.add(blob)
    _rename(g, named)
    return g


def _bottom_shapes(net: Net):
    return [[blob.shape for blob in bottoms] for bottoms in net._bottoms]


def _rename(g: Graph, names: dict[str, str]) -> None:
    for node in g.nodes:
        node.inputs = [names.get(name, name) for name in node.inputs]
        node.outputs = [names.get(name, name) for name in node.outputs]
    g.labels = {names.get(name, name) for name in g.labels}
    g.index_limits = {names.get(name, name): limit for name, limit in g.index_limits.items()}
