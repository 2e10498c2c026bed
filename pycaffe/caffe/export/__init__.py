"""Caffe nets as ONNX files, for runtimes that know nothing of Caffe.

import caffe.export
caffe.export.to_onnx("deploy.prototxt", "net.caffemodel", "net.onnx")

Every layer is translated by itself, so that the ONNX graph computes what Caffe computes: its count of
pooling windows, its divisor of averages, its ties, its fixed bilinear upsampling. Lengths that depend on
the image are computed in the graph, from the image that it is run with.
"""

from __future__ import annotations

import os
import tempfile
from dataclasses import dataclass, field
from pathlib import Path

from ..errors import CaffeError
from .build import own_net, translate
from .check import Comparison, compare, load_runtime
from .metadata import describe
from .sizes import explore
from .table import exportable_types
from .write import load_onnx, write_onnx

__all__ = ["Comparison", "Export", "exportable_types", "to_onnx"]


@dataclass
class Export:
    """What :func:`to_onnx` made.

    ``path``: the ONNX file. ``data``: the file with its weights, or None when they are in it.
    ``inputs`` and ``outputs``: tensor → its lengths, with names for those that may change.
    ``dropped``: what of the Caffe net is not in it, in words. ``comparisons``: what the check found
    (empty: not checked). ``fixed``: why images can have no other size, "" when they can.
    """

    path: Path
    data: Path | None
    inputs: dict[str, list]
    outputs: dict[str, list]
    dropped: list[str] = field(default_factory=list)
    comparisons: list[Comparison] = field(default_factory=list)
    fixed: str = ""


def to_onnx(
    net,
    weights,
    path,
    *,
    classes=None,
    palette=None,
    mean=None,
    channel_order="BGR",
    check=True,
    external_data=False,
) -> Export:
    """Write ``net`` with its ``weights`` as the ONNX file ``path``, checked against the engine.

    ``net``: a prototxt file, or a :class:`caffe.Net` (whose weights are used, and which stays as it is). It is
    taken in the TEST phase and needs Input layers. Losses and other layers that matter only in training are left
    out. ``weights``: a weight file, or None for the values that the net has.

    Inputs and outputs have the names of the net's input and output blobs and are float32. The number of items in
    a batch and the lengths after the channels may be any that the net takes in Caffe; where it takes only its own
    (InnerProduct), they are fixed.

    Metadata, as plain text in the file: ``classes``, a list of names or a file with one a line (stored as a JSON
    list); ``palette``, "voc" (a JSON list of [red, green, blue], one a class) or "none"; ``mean``, the value that
    was subtracted from each channel, in the order of the channels; ``channel_order``, "BGR" or "RGB".

    ``check``: run ONNX Runtime and the engine on the same random input, at the net's own size and at a larger odd
    one, and refuse a relative difference above 1e-3 of an output's largest value (rounding gives 1e-6 to 1e-5).
    ``external_data``: weights go to the file ``path`` + ".data"; so they do anyway above 2 GiB, ONNX's limit.

    Nothing appears under ``path`` before all of it has succeeded. Returns an :class:`Export`. Raises CaffeError for
    a layer type that cannot be exported (naming those that can), a net without Input layers, a missing package,
    a failed check, and a file that cannot be written.
    """
    metadata = describe(classes, palette, mean, channel_order)
    load_onnx()
    if check:
        load_runtime()
    path = Path(os.fsdecode(os.fspath(path)))
    caffe_net, dropped = own_net(net, weights)
    freedom = explore(caffe_net)
    graph = translate(caffe_net)
    outputs = {graph.outputs[blob]: lengths for blob, lengths in freedom.outputs.items()}
    try:
        with tempfile.TemporaryDirectory(dir=path.parent, prefix=f".{path.name}.") as folder:
            part = Path(folder) / path.name
            beside = write_onnx(
                graph, caffe_net._name, freedom.inputs, outputs, metadata, part, external_data
            )
            found = []
            if check:
                found = compare(part, caffe_net, graph, [freedom.own, *freedom.others()])
            data = path.with_name(beside.name) if beside.exists() else None
            if data:
                beside.replace(data)
            part.replace(path)
    except OSError as error:
        raise CaffeError(f"cannot write {path}: {error.strerror}. Nothing was changed.") from error
    return Export(path, data, freedom.inputs, outputs, dropped, found, freedom.reason)
