"""A net explained from its prototxt: sizes, receptive fields, parameters, costs, and where each Crop cuts.

import caffe.explain
print(caffe.explain.explain("deploy.prototxt", (500, 500)))

The engine builds the net, so that every length is the one that it will have; nothing is run, no data is read,
no parameter is filled.
"""

from __future__ import annotations

import math

from ..errors import CaffeError
from ..net import Net
from ..proto import caffe_pb2
from .crops import CropLine, PathStep, explain_crops
from .geometry import Graph
from .report import Explanation, LayerLine, Totals
from .source import build

__all__ = ["CropLine", "Explanation", "LayerLine", "PathStep", "Totals", "explain"]

_WEIGHTS = ("Convolution", "InnerProduct", "Embed", "RNN", "LSTM")
_WINDOWS = ("Convolution", "Deconvolution", "Pooling")


def explain(net, size=None, *, shapes=None, phase=caffe_pb2.TEST, level=0, stages=()) -> Explanation:
    """Explain ``net``: a prototxt file, a NetParameter, or a :class:`caffe.Net` as it stands.

    ``size``: (height, width) or (channels, height, width) of every input with four axes; None leaves what the
    prototxt says. ``shapes``: blob → whole shape, for inputs that need one of their own. ``phase``, ``level`` and
    ``stages`` choose the layers, as in :class:`caffe.Net`.

    Data layers (Python, Data, HDF5Data ... without bottoms) are not made: an input takes the place of each top, 1
    image of ``size`` (or of ``crop_size``), 3 channels unless given. Tops that only losses and measures read are
    labels: without a shape in ``shapes`` they are left out, with those layers. The notes say so.

    Raises CaffeError for a net that the engine refuses at that size, a data layer without a size, a size or shape
    that fits no input, and a :class:`caffe.Net` with a size, which is explained at the shapes that it has.
    """
    notes: list[str] = []
    if not isinstance(net, Net):
        net, source, notes = build(net, size, shapes, phase, level, stages)
    elif size is not None or shapes:
        raise CaffeError(
            "a Net is explained at the shapes that it has: reshape its inputs, or give the prototxt and a size"
        )
    else:
        source = net._source
    graph = Graph(net)
    layers = _lines(graph)
    return Explanation(
        name=net._name,
        source=source,
        phase=caffe_pb2.Phase.Name(net._phase),
        inputs={name: tuple(net.blobs[name].shape) for name in net.inputs},
        layers=layers,
        totals=_totals(net, layers),
        crops=explain_crops(graph),
        notes=notes,
    )


def _lines(graph: Graph) -> list[LayerLine]:
    net = graph.net
    fields, depths = graph.fields(), _depths(graph)
    owned = {id(learnable.blob) for learnable in net._param_table.learnable}
    seen: set[int] = set()
    unsplit: dict[str, str] = {}
    lines = []
    for i, layer in enumerate(net.layers):
        bottoms = [unsplit.get(name, name) for name in net._layer_params[i].bottom]
        tops, blobs = net._top_lists[i], net._tops[i]
        if layer.type == "Split":
            unsplit.update((top, bottoms[0]) for top in tops)
            continue
        field, step = fields[i], graph.steps[i]
        known = not isinstance(field, str)
        windows = step if layer.type in _WINDOWS and isinstance(step, list) else []
        counts = [blob.count * (id(blob) in owned) for blob in layer.blobs]
        fresh = {id(blob): blob.count for blob in blobs if id(blob) not in seen}
        seen.update(fresh)
        lines.append(
            LayerLine(
                name=layer.name,
                type=layer.type,
                bottoms=bottoms,
                tops=list(tops),
                outputs=[tuple(blob.shape) for blob in blobs],
                **{
                    name: tuple(getattr(axis, name) for axis in windows) or None
                    for name in ("kernel", "stride", "pad", "dilation")
                },
                own=_own(step),
                field=field.size if known else None,
                jump=field.jump if known else None,
                centre=field.centre if known else None,
                upsampled=known and field.upsampled,
                reason="" if known or not tops else field,
                parameters=sum(counts),
                learned=sum(
                    count for count, learns in zip(counts, net._param_table.learns[i], strict=True) if learns
                ),
                parameter_layers=depths[i],
                multiply_adds=_multiply_adds(layer, net._bottoms[i], blobs),
                memory=4 * sum(fresh.values()),
            )
        )
    return lines


def _own(step) -> tuple[int, ...] | None:
    if isinstance(step, str) or all(axis.reach == 0 and axis.kernel == 1 for axis in step):
        return None
    return tuple(axis.reach + 1 for axis in step)


def _depths(graph: Graph) -> list[int]:
    """For each layer, how many layers with weights lie on the longest path to it, itself included."""
    depths: list[int] = []
    for i, layer in enumerate(graph.net.layers):
        # fixed upsampling is interpolation, no layer of parameters (paper, Table 1)
        learned_upsampling = layer.type == "Deconvolution" and any(graph.net._param_table.learns[i])
        own = layer.type in _WEIGHTS or learned_upsampling
        depths.append(own + max((depths[below] for below, _ in graph.positional(i)), default=0))
    return depths


def _multiply_adds(layer, bottoms, tops) -> int:
    """Of one forward: a multiplication and an addition for every weight at every place that it is used."""
    kind = layer.type
    if kind == "Convolution":
        return sum(top.count for top in tops) // layer.num_output * layer.blobs[0].count
    if kind == "Deconvolution":
        return sum(bottom.count for bottom in bottoms) // layer.channels * layer.blobs[0].count
    if kind == "InnerProduct":
        return math.prod(bottoms[0].shape[: layer.axis]) * layer.blobs[0].count
    if kind in ("RNN", "LSTM"):
        timesteps, streams = bottoms[0].shape[:2]
        static = len(layer.inputs) - 1  # an input that every timestep sees is multiplied once
        once = sum(blob.count for blob in layer.blobs[2 : 2 + static])
        matrices = sum(blob.count for blob in layer.blobs if len(blob.shape) > 1)
        return streams * (timesteps * (matrices - once) + once)
    return 0


def _totals(net: Net, layers: list[LayerLine]) -> Totals:
    before = [line for line in layers if line.field and not line.upsampled]
    owned = [learnable.blob.count for learnable in net._param_table.learnable]
    return Totals(
        parameters=sum(line.parameters for line in layers),
        learned=sum(line.learned for line in layers),
        parameter_layers=max((line.parameter_layers for line in layers), default=0),
        receptive_field=_largest(line.field for line in before),
        max_stride=_largest(line.jump for line in before),
        multiply_adds=sum(line.multiply_adds for line in layers),
        blob_memory=sum(line.memory for line in layers),
        parameter_memory=4 * sum(owned),
    )


def _largest(rows) -> tuple:
    """The largest number on each axis."""
    return tuple(map(max, zip(*rows, strict=False)))
