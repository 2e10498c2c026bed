"""One way to run a layer without a net, and one numeric gradient check, for all layer tests."""

from __future__ import annotations

import re

import numpy as np
import pytest
import torch
from caffe import common
from caffe.blob import Blob
from caffe.errors import CaffeError
from caffe.layer import TensorLayer
from caffe.proto import caffe_pb2
from caffe.registry import layer_class
from google.protobuf import text_format

from caffe import layer_types  # noqa: F401  isort: skip - registers the layers

TRAIN, TEST = caffe_pb2.TRAIN, caffe_pb2.TEST


class Rig:
    """A layer with blobs around it, set up and shaped as a net would.

    ``text`` is the layer's prototxt without bottoms, tops and name; ``bottoms`` are arrays;
    ``propagate`` says which bottoms get a gradient (default: all).
    """

    def __init__(self, text, *bottoms, tops=1, phase=TRAIN, in_place=False, propagate=None):
        param = text_format.Parse(text, caffe_pb2.LayerParameter(name="probe"))
        param.bottom.extend(f"bottom{i}" for i in range(len(bottoms)))
        param.top.extend(f"top{i}" for i in range(tops))
        self.layer = layer_class(param.type, param.name)(param)
        self.layer.phase = phase
        self.bottom = [make_blob(array) for array in bottoms]
        self.top = [self.bottom[0]] if in_place else [Blob() for _ in range(tops)]
        self.propagate = [True] * len(bottoms) if propagate is None else list(propagate)
        self.layer.setup(self.bottom, self.top)
        self.layer.needs_bottom = self.propagate
        self.layer.needs_blob = [True] * len(self.layer.blobs)
        self.layer.reshape(self.bottom, self.top)

    def forward(self):
        """Run it; returns copies of the tops' data."""
        self.layer.reshape(self.bottom, self.top)
        self.layer.forward(self.bottom, self.top)
        return [blob.data.copy() for blob in self.top]

    def backward(self, *diffs):
        """Run it backward from these top diffs (numbers fill); returns copies of the bottoms' diffs."""
        for blob, diff in zip(self.top, diffs, strict=True):
            blob.diff[...] = diff
        self.layer.backward(self.top, self.propagate, self.bottom)
        return [blob.diff.copy() for blob in self.bottom]


def make_blob(array) -> Blob:
    """A blob with the values of ``array``."""
    blob = Blob()
    blob.reshape(*np.shape(array))
    blob.data[...] = array
    return blob


def outputs(text, *bottoms, **options):
    """The tops' data of one forward."""
    return Rig(text, *bottoms, **options).forward()


def output(text, *bottoms, **options):
    """The data of the only top of one forward."""
    (top,) = outputs(text, *bottoms, **options)
    return top


def refuses(message, text, *shapes, **options):
    """Assert that a layer over bottoms of these shapes is refused, in words that hold ``message``."""
    with pytest.raises(CaffeError, match=re.escape(message)) as caught:
        Rig(text, *[np.zeros(shape, np.float32) for shape in shapes], **options)
    assert "layer 'probe'" in str(caught.value)


def spread(*shape, seed=0, step=0.25):
    """Distinct values around 0 in random order, ``step`` apart and never 0: no ties, no kinks near."""
    count = int(np.prod(shape))
    values = (np.random.RandomState(seed).permutation(count) - count / 2 + 0.3) * step
    return values.reshape(shape).astype(np.float32)


def noise(*shape, seed=0):
    """Normal values."""
    return np.random.RandomState(seed).standard_normal(shape).astype(np.float32)


def check_gradient(text, *bottoms, step=1e-5, **options):
    """Compare a layer's backward with central differences of its ``compute``.

    The layer runs as in a net, in float32 through blobs, from random top diffs; the differences
    are taken in float64. So the sharing of labour between layer and blobs is checked too: bottom
    diffs are overwritten, parameter diffs added to, diffs nobody asked for left alone.
    """
    rig = Rig(text, *bottoms, **options)
    for i, blob in enumerate(rig.layer.blobs):
        blob.data[...] = noise(*blob.shape, seed=100 + i)
        blob.diff[...] = 1
    inputs = [torch.from_numpy(blob.data.copy()).double() for blob in [*rig.bottom, *rig.layer.blobs]]
    common.set_random_seed(5)
    tops = rig.forward()
    for blob in rig.bottom:
        blob.diff[...] = 7
    seeds = [noise(*top.shape, seed=200 + i) for i, top in enumerate(tops)]

    def value():
        common.set_random_seed(5)
        with torch.no_grad():
            return rig.layer.compute(inputs[: len(bottoms)], inputs[len(bottoms) :])

    assert isinstance(rig.layer, TensorLayer)
    for top, exact in zip(tops, value(), strict=True):
        np.testing.assert_allclose(top, exact.numpy(), rtol=1e-4, atol=1e-5)

    def weighted():
        return sum(
            float((torch.from_numpy(seed) * top).sum()) for seed, top in zip(seeds, value(), strict=True)
        )

    diffs = rig.backward(*seeds) + [blob.diff - 1 for blob in rig.layer.blobs]
    wanted = rig.propagate + [True] * len(rig.layer.blobs)
    for tensor, diff, want in zip(inputs, diffs, wanted, strict=True):
        if want:
            np.testing.assert_allclose(diff, _differences(weighted, tensor, step), rtol=1e-4, atol=2e-5)
        else:
            assert (diff == 7).all()
    return rig


def _differences(function, tensor, step):
    """The gradient of ``function()`` by each value of ``tensor``, which it reads, by central differences."""
    gradient = np.empty(tensor.shape)
    flat, out = tensor.view(-1), gradient.reshape(-1)
    for i in range(flat.numel()):
        kept = flat[i].item()
        flat[i] = kept + step
        above = function()
        flat[i] = kept - step
        out[i] = (above - function()) / (2 * step)
        flat[i] = kept
    return gradient
