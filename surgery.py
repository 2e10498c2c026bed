"""Net surgery: weights from one net to another, bilinear kernels, and a look at what is still zero.

Everything works on ``net.params[layer][i].data``, so nets of either engine will do.
"""

from __future__ import annotations

import textwrap
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from caffe.proto import caffe_pb2
from google.protobuf.message import DecodeError


class SurgeryError(RuntimeError):
    """Weights that do not fit; the text names the layer, both shapes and the rule."""


@dataclass
class Report:
    """What became of every blob of weights: names like ``fc6[0]`` (layer, blob), each with a note.

    ``copied`` as it was; ``coerced``: same number of values in another shape, copied flat;
    ``dropped``: in the source, not used; ``missing``: in the net, not in the source; ``zero``:
    layers of the net whose weights are exactly zero now, so that they have to be filled
    (upsampling: :func:`interp`) or to learn everything (scores).
    """

    copied: dict[str, str] = field(default_factory=dict)
    coerced: dict[str, str] = field(default_factory=dict)
    dropped: dict[str, str] = field(default_factory=dict)
    missing: dict[str, str] = field(default_factory=dict)
    zero: list[str] = field(default_factory=list)

    def __str__(self):
        """A table of one row for each fate; a layer whose blobs all fared alike stands for them."""
        kinds = {what: getattr(self, what) for what in ("copied", "coerced", "dropped", "missing")}
        blobs = Counter(_layer(label) for labels in kinds.values() for label in labels)
        rows = []
        for what, labels in kinds.items():
            alike = Counter((_layer(label), note) for label, note in labels.items())
            items = []
            for label, note in labels.items():
                whole = alike[_layer(label), note] == blobs[_layer(label)]
                items.append(f"{_layer(label) if whole else label} {note}".rstrip())
            rows.append(_row(what, f"{len(labels)} blobs", dict.fromkeys(items)))
        rows.append(_row("left at zero", f"{len(self.zero)} layers", self.zero))
        return "\n".join(rows)


def _layer(label):
    """``fc6`` of ``fc6[0]``."""
    return label.rpartition("[")[0]


def _row(what, count, items):
    head = f"{what:>12}  {count:>9}  "
    return (
        textwrap.fill(", ".join(items), 110, initial_indent=head, subsequent_indent=" " * 25) or head.rstrip()
    )


def transplant(new_net, net, suffix=""):
    """Copy the weights of ``net`` into ``new_net``, layer by layer of the same name.

    ``suffix`` is added to each source name (late fusion: ``conv1_1`` goes to ``conv1_1color``). A blob of
    another shape but the same number of values is copied flat, in C order, which turns an inner product
    into the convolution that computes the same (paper, section 3.1). Returns a :class:`Report`.
    """
    report = Report()
    for name, blobs in net.params.items():
        target = new_net.params.get(name + suffix, ())
        for i, blob in enumerate(blobs):
            label, old = f"{name}{suffix}[{i}]", blob.data
            if i >= len(target):
                whole = "blob" if len(target) else "layer"
                report.dropped[label] = f"(the new net has no such {whole})"
                continue
            new = target[i].data
            change = f"{old.shape} -> {new.shape}"
            if old.size != new.size:
                report.dropped[label] = f"({change}: {old.size} values do not fill {new.size})"
                continue
            new[...] = old.reshape(new.shape)
            if old.shape == new.shape:
                report.copied[label] = ""
            else:
                report.coerced[label] = change
    report.missing = _missing(new_net, [*report.copied, *report.coerced])
    report.zero = zero_layers(new_net)
    return report


def load_parent(net, weights_path):
    """Load the weight file ``weights_path`` into ``net``, by layer name as Caffe does; returns a :class:`Report`.

    Raises SurgeryError, with the net untouched, when the file is missing, is no weight file (from the
    embedded engine: its CaffeError), shares no layer with the net, or holds a layer of the same name
    and another shape.
    """
    if not Path(weights_path).is_file():
        raise SurgeryError(f"no weight file {weights_path}")
    report, wrong = Report(), []
    for name, shapes in shapes_in_file(weights_path).items():
        target = net.params.get(name, ())
        labels = [f"{name}[{i}]" for i in range(len(shapes))]
        if len(target):
            report.copied.update(dict.fromkeys(labels, ""))
        else:
            report.dropped.update(dict.fromkeys(labels, "(the net has no such layer)"))
        if len(target) and not fits(shapes, target):
            own = listed([blob.shape for blob in target])
            wrong.append(f"{name} is {listed(shapes)} in the file, {own} in the net")
    if wrong:
        raise SurgeryError(
            f"{weights_path} holds the weights of another net: {'; '.join(wrong[:4])}. "
            "Layers of one name must have one shape: check the number of classes and the width; a "
            "classifier is made convolutional by ilsvrc-nets/convert.py first."
        )
    if not report.copied:
        raise SurgeryError(
            f"{weights_path} holds the weights of another net: it has no layer of this net's names "
            f"(file: {', '.join(list(report.dropped)[:4])} ...; net: {', '.join(list(net.params)[:4])} ...)"
        )
    net.copy_from(str(weights_path))
    report.missing = _missing(net, report.copied)
    report.zero = zero_layers(net)
    return report


def holds(weights_path, net, layer):
    """Whether the weight file has ``layer`` in the shapes that it has in ``net``.

    Raises as :func:`load_parent`.
    """
    return fits(shapes_in_file(weights_path).get(layer, ()), net.params[layer])


def fits(shapes, blobs):
    """Whether a layer's weights stored in ``shapes`` fill its ``blobs``, one by one.

    Leading ones do not count: legacy files have four dimensions always.
    """
    return [_squeezed(shape) for shape in shapes] == [_squeezed(tuple(blob.shape)) for blob in blobs]


def _missing(net, found):
    found = set(found)
    labels = [f"{name}[{i}]" for name, blobs in net.params.items() for i in range(len(blobs))]
    return dict.fromkeys((label for label in labels if label not in found), "")


def _squeezed(shape):
    """A shape without its leading ones: legacy files store a bias of 64 as 1x1x1x64."""
    leading = next((i for i, size in enumerate(shape) if size != 1), len(shape) - 1)
    return tuple(shape[leading:])


def listed(shapes):
    """``shapes`` in words: ``64x3x3x3 and 64``."""
    return " and ".join("x".join(map(str, shape)) for shape in shapes) or "without weights"


def shapes_in_file(path):
    """The layers in the weight file ``path``: name → shapes of its blobs, as they are stored.

    Raises an error that names the file (SurgeryError; from the embedded engine its CaffeError) when it is no
    weight file.
    """
    try:
        from caffe.caffemodel import shapes
    except ImportError:  # the original engine: parse all of it
        return _parsed_shapes(path)
    return shapes(path)


def _parsed_shapes(path):
    try:
        model = caffe_pb2.NetParameter.FromString(Path(path).read_bytes())
    except DecodeError:
        raise SurgeryError(
            f"{path}: not a readable caffemodel. If it was downloaded, compare its size and checksum with "
            "the source's and fetch it again."
        ) from None
    return {
        layer.name: [
            tuple(blob.shape.dim)
            if blob.HasField("shape")
            else (blob.num, blob.channels, blob.height, blob.width)
            for blob in layer.blobs
        ]
        for layer in (*model.layers, *model.layer)
    }


def upsample_filt(size):
    """The ``size`` x ``size`` kernel of bilinear upsampling by ``(size + 1) // 2``, float64.

    Along each axis it is a triangle of that half-width, one at its centre (paper, section 3.3).
    """
    factor = (size + 1) // 2
    centre = factor - 1 if size % 2 else factor - 0.5
    triangle = 1 - abs(np.arange(size) - centre) / factor
    return np.outer(triangle, triangle)


def interp(net, layers):
    """Fill the deconvolutions named in ``layers`` with bilinear upsampling, each channel by itself.

    An ungrouped C x C kernel gets it on the diagonal and zero elsewhere; a kernel of one output per
    group (C x 1) in every plane. Returns a :class:`Report`. Raises SurgeryError, before anything is changed,
    for a layer that the net lacks, or a kernel that is not square or joins unequal numbers of channels.
    """
    for name in layers:
        if name not in net.params:
            raise SurgeryError(f"cannot fill layer {name}: the net has no weights of that name")
        shape = net.params[name][0].data.shape
        if len(shape) != 4 or shape[2] != shape[3]:
            raise SurgeryError(f"cannot fill layer {name} of shape {shape}: a bilinear kernel is square")
        if shape[1] not in (shape[0], 1):
            raise SurgeryError(
                f"cannot fill layer {name} of shape {shape}: bilinear upsampling keeps the channels apart, so "
                "the numbers of input and output channels must be equal"
            )
    for name in layers:
        data = net.params[name][0].data
        data[...] = _bilinear(data.shape)
    return Report(copied=dict.fromkeys((f"{name}[0]" for name in layers), "bilinear"), zero=zero_layers(net))


def _bilinear(shape):
    kernel = np.zeros(shape, np.float32)
    channels = np.arange(shape[0])
    kernel[channels, channels if shape[1] == shape[0] else 0] = upsample_filt(shape[2])
    return kernel


def is_bilinear(blob):
    """Whether the kernel ``blob`` is what :func:`interp` fills in, to six decimals."""
    shape = blob.data.shape
    fits = len(shape) == 4 and shape[2] == shape[3] and shape[1] in (shape[0], 1)
    return fits and np.allclose(blob.data, _bilinear(shape), rtol=0, atol=1e-6)


def expand_score(new_net, new_layer, net, layer):
    """Give a score layer more classes: the old ones' weights and biases come first, the rest stays.

    Returns a :class:`Report`. Raises SurgeryError, before anything is changed, when the new layer has fewer
    channels or looks at other features.
    """
    report = Report()
    pairs = [
        (new.data, old.data) for new, old in zip(new_net.params[new_layer], net.params[layer], strict=True)
    ]
    for new, old in pairs:
        if new.shape[1:] != old.shape[1:] or len(new) < len(old):
            raise SurgeryError(
                f"cannot expand {layer} of shape {old.shape} into {new_layer} of shape {new.shape}: "
                "the new layer may have more channels, and must be the same in all else"
            )
    for i, (new, old) in enumerate(pairs):
        new[: len(old)] = old
        report.copied[f"{new_layer}[{i}]"] = f"{old.shape} -> {new.shape}"
    report.zero = zero_layers(new_net)
    return report


def widen(new_net, new_layer, net, layer, how="average"):
    """Let a convolution see more channels (RGB-D, section 5): the old ones' weights come first.

    The others get, by ``how``: ``average``, the mean over the old channels; ``replicate``, the old
    channels' again from the first on; ``inflate``, the same, and all channels are scaled down so that
    channels which are alike give the response of before, if each came equally often (:func:`rechannel` does so
    for any number). Biases are copied. Returns a :class:`Report`. Raises SurgeryError, before anything is
    changed, for layers that differ in more than input channels.
    """
    old, new = (n.params[name] for n, name in ((net, layer), (new_net, new_layer)))
    source, target = old[0].data, new[0].data
    given, wanted = source.shape[1], target.shape[1]
    if source[:, :1].shape != target[:, :1].shape or wanted < given:
        raise SurgeryError(
            f"cannot widen {layer} of shape {source.shape} into {new_layer} of shape {target.shape}: "
            "the new layer may have more input channels, and must be the same in all else"
        )
    ways = ("average", "replicate", "inflate")
    if how not in ways:
        raise SurgeryError(f"cannot widen {layer} by {how!r}: it is one of {', '.join(ways)}")
    target[...] = source[:, np.arange(wanted) % given]
    if how == "average":
        target[:, given:] = source.mean(1, keepdims=True)
    if how == "inflate":
        target *= given / wanted
    return _filled(new_net, new_layer, new, old, f"{source.shape} -> {target.shape}, {how}")


def rechannel(new_net, new_layer, net, layer):
    """Let a convolution see any other number of channels, so that channels that are alike give the response of before.

    The weights of each add up to what they did: fewer channels have equal shares of the sum; of more, the old ones
    come first and the others have the mean over them, all scaled down to the old sum. A grey image does what it
    did in three channels. Biases are copied. Returns a :class:`Report`. Raises SurgeryError, before anything is
    changed, for layers that differ in more than input channels.
    """
    old, new = (n.params[name] for n, name in ((net, layer), (new_net, new_layer)))
    source, target = old[0].data, new[0].data
    given, wanted = source.shape[1], target.shape[1]
    if source[:, :1].shape != target[:, :1].shape:
        raise SurgeryError(
            f"cannot rechannel {layer} of shape {source.shape} into {new_layer} of shape {target.shape}: "
            "the new layer must be the same in all but input channels"
        )
    target[...] = source.mean(1, keepdims=True)
    if wanted >= given:
        target[:, :given] = source
    target *= given / wanted
    return _filled(new_net, new_layer, new, old, f"{source.shape} -> {target.shape}, of the same sum")


def rarefy(new_net, new_layer, net, layer, factor):
    """Filter rarefaction (section 3.2): the filters of ``layer`` with zeros between their values.

    f'_ij = f_(i/s)(j/s) where the ``factor`` s divides both i and j, else 0. On an input that is ``factor`` times as
    dense, the new layer gives what the old one gave, ``factor`` times as dense. The new kernel may be larger than
    s (k - 1) + 1; what is left over stays 0. Returns a :class:`Report`. Raises SurgeryError, before
    anything is changed, for a kernel that is too small or layers that differ otherwise.
    """
    old, new = (n.params[name] for n, name in ((net, layer), (new_net, new_layer)))
    source, target = old[0].data, new[0].data
    least = [factor * (size - 1) + 1 for size in source.shape[2:]]
    if source.shape[:2] != target.shape[:2] or any(
        size < needed for size, needed in zip(target.shape[2:], least, strict=True)
    ):
        raise SurgeryError(
            f"cannot rarefy {layer} of shape {source.shape} by {factor} into {new_layer} of shape {target.shape}: "
            f"the kernel must be at least {' x '.join(map(str, least))}, and the channels the same"
        )
    target[...] = 0
    target[:, :, : least[0] : factor, : least[1] : factor] = source
    return _filled(new_net, new_layer, new, old, f"{source.shape} -> {target.shape}, rarefied by {factor}")


def _filled(new_net, layer, new, old, note):
    """The report on ``layer`` whose weights were just filled; copies its bias."""
    report = Report()
    report.coerced[f"{layer}[0]"] = note
    for i in range(1, len(new)):
        new[i].data[...] = old[i].data
        report.copied[f"{layer}[{i}]"] = ""
    report.zero = zero_layers(new_net)
    return report


def zero_layers(net):
    """Names of the layers of ``net`` whose weights (not counting biases) are exactly zero."""
    return [name for name, blobs in net.params.items() if not blobs[0].data.any()]


def check_ready(net, param):
    """Refuse a net that cannot learn: zero weights below other learned weights, or zero upsampling.

    A layer of zeros is right only on top, as score layers are: it learns from its input. Further down it passes
    nothing on, in either direction, and stays as it is. ``param`` is the net's NetParameter.

    Raises SurgeryError that names such layers.
    """
    zero = set(zero_layers(net))
    empty = [layer.name for layer in param.layer if layer.name in zero and layer.type == "Deconvolution"]
    if empty:
        raise SurgeryError(
            f"upsampling of zeros gives zeros: {', '.join(empty)}. Fill it with surgery.interp(net, layers)"
        )
    dead = [name for name in zero if _feeds_learned(param, name)]
    if dead:
        names = ", ".join(name for name in net.params if name in dead)
        raise SurgeryError(
            f"these layers are exactly zero and can never learn: {names}. Their weights were not in the weight "
            "file (or none was given), and they have no weight_filler. Give a file of the parent stage that has "
            "them: python solve.py --weights FILE.caffemodel"
        )


def _feeds_learned(param, name):
    """Whether a learned convolution or inner product comes after layer ``name``."""
    reached = set()
    for layer in param.layer:
        if layer.name == name:
            reached.update(layer.top)
        elif reached.intersection(layer.bottom):
            if layer.type in ("Convolution", "InnerProduct"):
                return True
            reached.update(layer.top)
    return False
