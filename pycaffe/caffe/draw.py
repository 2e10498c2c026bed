"""``caffe.draw``: a net as a picture. Needs pydot (``pip install pydot``) and, for all but text, Graphviz.

A net here is a ``caffe_pb2.NetParameter``, as ``text_format.Parse`` reads it from a prototxt. Layers are boxes,
blobs octagons; a neuron layer that works in place is green. ``rankdir`` is the direction of flow: ``LR`` (left
to right), ``TB`` (top to bottom), ``RL`` or ``BT``.
"""

from __future__ import annotations

import os
import re

from .errors import CaffeError
from .proto import caffe_pb2
from .wire import replacing

LAYER_STYLE_DEFAULT = {"shape": "record", "fillcolor": "#6495ED", "style": "filled"}
NEURON_LAYER_STYLE = {"shape": "record", "fillcolor": "#90EE90", "style": "filled"}
BLOB_STYLE = {"shape": "octagon", "fillcolor": "#E0E0E0", "style": "filled"}

_COLORS = {
    "Convolution": "#FF5050",
    "Deconvolution": "#FF5050",
    "Pooling": "#FF9900",
    "InnerProduct": "#CC33FF",
}
_WITH_RATE = ("Convolution", "Deconvolution", "InnerProduct")
_NO_LABEL = '""'


def get_pooling_types_dict() -> dict[int, str]:
    """Number → name of each pooling method: ``{0: "MAX", 1: "AVE", 2: "STOCHASTIC"}``."""
    return {number: name for name, number in caffe_pb2.PoolingParameter.PoolMethod.items()}


def get_edge_label(layer) -> str:
    """What stands on the edges out of ``layer``: its number of outputs, or for Data its batch size."""
    if layer.type == "Data":
        return f"Batch {layer.data_param.batch_size}"
    if layer.type in ("Convolution", "Deconvolution"):
        return str(layer.convolution_param.num_output)
    if layer.type == "InnerProduct":
        return str(layer.inner_product_param.num_output)
    return _NO_LABEL


def get_layer_lr_mult(layer) -> tuple[float, float]:
    """The ``lr_mult`` of the weights and the bias of ``layer`` (1 where it has none).

    Raises ValueError for a type other than Convolution, Deconvolution and InnerProduct.
    """
    if layer.type not in _WITH_RATE:
        raise ValueError(f"{layer.type} layers do not have a learning rate multiplier")
    given = [spec.lr_mult for spec in layer.param]
    weights, bias = (given + [1.0, 1.0][len(given) :])[:2]
    return weights, bias


def get_layer_label(layer, rankdir, display_lrm=False) -> str:
    """What stands in the box of ``layer``, in quotes: name, type, kernel, and with ``display_lrm`` its lr_mult.

    On several lines when ``rankdir`` is LR or RL, on one when it is TB or BT.
    """
    pooling = layer.type == "Pooling"
    method = f" {get_pooling_types_dict()[layer.pooling_param.pool]}" if pooling else ""
    lines = [layer.name, f"({layer.type}{method})"]
    if pooling or layer.type in ("Convolution", "Deconvolution"):
        param = layer.pooling_param if pooling else layer.convolution_param
        for title, name, default in (
            ("kernel size", "kernel", 1),
            ("stride", "stride", 1),
            ("pad", "pad", 0),
        ):
            lines.append(f"{title}: {_extent(param, name, default)}")
    if display_lrm and layer.type in _WITH_RATE:
        lines.append("lr mult: {}, {}".format(*get_layer_lr_mult(layer)))
    separator = " " if rankdir in ("TB", "BT") else "\\n"
    return _quoted(separator.join(lines))


def _extent(param, name: str, default: int) -> str:
    """A kernel, stride or pad in words: ``3``, or ``3x2`` where height and width differ."""
    value = getattr(param, "kernel_size" if name == "kernel" else name)
    sizes = [value] if isinstance(value, int) else list(value)
    if param.HasField(f"{name}_h") or param.HasField(f"{name}_w"):
        sizes = [getattr(param, f"{name}_h"), getattr(param, f"{name}_w")]
    if name == "kernel" and not any(sizes):  # global pooling
        sizes = [default]
    sizes = sizes or [default]
    return str(sizes[0]) if len(set(sizes)) == 1 else "x".join(map(str, sizes))


def choose_color_by_layertype(layertype) -> str:
    """The fill color of a box for the type ``layertype``."""
    return _COLORS.get(layertype, LAYER_STYLE_DEFAULT["fillcolor"])


def get_pydot_graph(caffe_net, rankdir, label_edges=True, phase=None, display_lrm=False):
    """The net ``caffe_net`` as a ``pydot.Dot``, flowing in the direction ``rankdir``.

    ``label_edges``: write :func:`get_edge_label` on the edges. ``phase`` (``caffe.TRAIN`` or ``caffe.TEST``): only
    the layers that its include or exclude rules allow in that phase; other conditions are not looked
    at. ``display_lrm``: write the learning rate multipliers into the boxes.

    Raises ImportError without pydot, and ValueError, when ``phase`` is given, for a layer with include and exclude.
    """
    try:
        import pydot
    except ImportError as error:
        raise ImportError("caffe.draw needs pydot: pip install pydot") from error

    graph = pydot.Dot(_quoted(caffe_net.name or "net"), graph_type="digraph", rankdir=rankdir)
    blobs: set[str] = set()

    def blob(name):
        if name not in blobs:
            blobs.add(name)
            graph.add_node(pydot.Node(_quoted(f"blob {name}"), label=_quoted(name), **BLOB_STYLE))
        return _quoted(f"blob {name}")

    for i, layer in enumerate(caffe_net.layer):
        if phase is not None and not _in_phase(layer, phase):
            continue
        node = _quoted(f"layer {i}")
        style = LAYER_STYLE_DEFAULT | {"fillcolor": choose_color_by_layertype(layer.type)}
        if len(layer.bottom) == len(layer.top) == 1 and layer.bottom[0] == layer.top[0]:
            style = NEURON_LAYER_STYLE
        graph.add_node(pydot.Node(node, label=get_layer_label(layer, rankdir, display_lrm), **style))
        for name in layer.bottom:
            graph.add_edge(pydot.Edge(blob(name), node, label=_NO_LABEL))
        label = get_edge_label(layer) if label_edges else _NO_LABEL
        for name in layer.top:
            graph.add_edge(pydot.Edge(node, blob(name), label=label))
    return graph


def _in_phase(layer, phase) -> bool:
    if layer.include and layer.exclude:
        raise ValueError(f"layer {layer.name} has both include and exclude specified.")
    if layer.include:
        return any(not rule.HasField("phase") or rule.phase == phase for rule in layer.include)
    return not any(rule.HasField("phase") and rule.phase == phase for rule in layer.exclude)


def _quoted(text: str) -> str:
    """``text`` as a quoted string of Graphviz; what would part a box into fields is escaped."""
    return '"' + re.sub(r'(["{}|<>])', r"\\\1", text) + '"'


def draw_net(caffe_net, rankdir, ext="png", phase=None, display_lrm=False) -> bytes:
    """The bytes of a picture of ``caffe_net`` in the format ``ext`` (png, svg, pdf ...; dot is text, without Graphviz).

    ``rankdir``, ``phase`` and ``display_lrm`` are as for :func:`get_pydot_graph`, which see for more errors. Raises
    CaffeError when Graphviz is absent or does not know the format.
    """
    graph = get_pydot_graph(caffe_net, rankdir, phase=phase, display_lrm=display_lrm)
    if ext == "dot":
        return graph.to_string().encode()
    try:
        return graph.create(format=ext)
    except FileNotFoundError as error:
        raise CaffeError(
            f"drawing a {ext} needs Graphviz's program 'dot', which is not on PATH; install the package graphviz, "
            "or draw to a .dot file, which is text"
        ) from error
    except AssertionError as error:
        raise CaffeError(
            f"Graphviz refused to draw a picture of format '{ext}'; it knows png, svg, pdf and others"
        ) from error


def draw_net_to_file(caffe_net, filename, rankdir="LR", phase=None, display_lrm=False) -> None:
    """Write a picture of ``caffe_net`` to ``filename``, whose extension gives the format.

    ``rankdir``, ``phase`` and ``display_lrm`` are as for :func:`get_pydot_graph`. The file appears whole or not at
    all. Raises as :func:`draw_net`, and CaffeError for a name without an extension.
    """
    ext = os.path.splitext(filename)[1][1:]
    if not ext:
        raise CaffeError(f"cannot draw to {filename}: its extension gives the format, as in net.png")
    picture = draw_net(caffe_net, rankdir, ext, phase, display_lrm)
    with replacing(filename) as file:
        file.write(picture)
