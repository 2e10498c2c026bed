"""dense: shift-and-stitch, filter rarefaction, and that the two agree."""

import runpy
from pathlib import Path

import caffe
import numpy as np
import pytest
from caffe import NetSpec
from caffe import layers as L
from caffe import params as P
from caffe.proto import caffe_pb2
from google.protobuf import text_format

import dense
from surgery import SurgeryError

FCN_32S = Path(dense.__file__).resolve().parent / "voc-fcn32s" / "net.py"
MAX, AVE = P.Pooling.MAX, P.Pooling.AVE


def spec(build, size):
    n = NetSpec()
    n.data = L.Input(shape={"dim": [1, 2, *size]})
    build(n)
    return n.to_proto()


@pytest.fixture
def make(tmp_path):
    """``make(param)``: the Net of a NetParameter, with random weights."""
    path = tmp_path / "net.prototxt"

    def make_net(param):
        path.write_text(text_format.MessageToString(param))
        net = caffe.Net(str(path), caffe.TEST)
        random = np.random.default_rng(0)
        for blobs in net.params.values():
            for blob in blobs:
                blob.data[...] = random.normal(size=blob.data.shape)
        return net

    return make_net


def unpadded(n):
    """Stride 4; a cell sees 18 pixels."""
    n.conv1 = L.Convolution(n.data, num_output=4, kernel_size=3)
    n.relu1 = L.ReLU(n.conv1, in_place=True)
    n.pool1 = L.Pooling(n.relu1, kernel_size=2, stride=2, pool=MAX)
    n.conv2 = L.Convolution(n.pool1, num_output=4, kernel_size=3, group=2)
    n.norm2 = L.LRN(n.conv2, local_size=3)
    n.pool2 = L.Pooling(n.norm2, kernel_size=2, stride=2, pool=AVE)
    n.conv3 = L.Convolution(n.pool2, num_output=3, kernel_size=[3, 2])
    n.above = L.InnerProduct(n.conv3, num_output=1)


def strided(n):
    """Stride 6, by a convolution of stride 3 and a pooling over 3x3; 23 pixels."""
    n.conv1 = L.Convolution(n.data, num_output=4, kernel_h=5, kernel_w=5, stride=3)
    n.left = L.Convolution(n.conv1, num_output=2, kernel_size=1)
    n.joined = L.Concat(n.conv1, n.left)
    n.pool1 = L.Pooling(n.joined, kernel_size=3, stride=2, pool=MAX)
    n.conv2 = L.Convolution(n.pool1, num_output=3, kernel_size=3)


def padded(n):
    """Stride 4, padding before and between the strides; 20 pixels, from 4 before the image on."""
    n.conv1 = L.Convolution(n.data, num_output=4, kernel_size=5, pad=2)
    n.pool1 = L.Pooling(n.conv1, kernel_size=2, stride=2, pool=MAX)
    n.conv2 = L.Convolution(n.pool1, num_output=4, kernel_size=3, pad=1)
    n.pool2 = L.Pooling(n.conv2, kernel_size=2, stride=2, pool=MAX)
    n.conv3 = L.Convolution(n.pool2, num_output=3, kernel_size=1)
    n.conv4 = L.Convolution(n.conv3, num_output=3, kernel_size=3)


def dilated(n):
    """Stride 2; two convolutions, the second with holes of its own; 12 pixels."""
    n.pool1 = L.Pooling(n.data, kernel_size=2, stride=2, pool=MAX)
    n.conv1 = L.Convolution(n.pool1, num_output=3, kernel_size=2)
    n.conv2 = L.Convolution(n.conv1, num_output=3, kernel_size=3, dilation=2)


def pooled_twice(n):
    """Stride 4: a pooling over 3x3 that hangs over, and one that keeps its stride above it; 13 pixels."""
    n.pool1 = L.Pooling(n.data, kernel_size=3, stride=2, pool=MAX)
    n.pool2 = L.Pooling(n.pool1, kernel_h=2, kernel_w=2, stride=2, pool=AVE)
    n.conv1 = L.Convolution(n.pool2, num_output=3, kernel_size=3)


def both(make, build, layers, factor, step, top, size):
    """The image, the stitched map, and the rarefied net's on the image with the same zeros after it."""
    param = spec(build, size)
    net = make(param)
    image = np.random.default_rng(1).normal(size=(1, 2, *size)).astype(np.float32)
    stitched = dense.shift_and_stitch(net, image, factor, top, step)
    made, factors = dense.rarefied(param, layers, top)
    beyond = (factor - 1) * step
    made.layer[0].input_param.shape[0].dim[2:] = [side + beyond for side in size]
    new = make(made)
    for blobs in new.params.values():
        for blob in blobs:
            blob.data[...] = 0
    report = dense.fill(new, net, factors)
    assert not report.missing and not report.zero
    new.blobs["data"].data[...] = np.pad(image, ((0, 0), (0, 0), (0, beyond), (0, beyond)))
    new.forward()
    return image, stitched, new.blobs[top].data.copy()


def assert_equal(one, other):
    assert one.size and one.std() > 0.1
    np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-4 * abs(one).max())


UNPADDED = [
    (unpadded, ["pool1", "pool2"], 4, 1, "conv3", (26, 30)),
    (unpadded, ["pool2"], 2, 2, "conv3", (26, 30)),
    (unpadded, ["pool1"], 2, 2, "conv3", (26, 30)),
    (unpadded, ["pool1"], 2, 1, "norm2", (26, 30)),
    (strided, ["conv1", "pool1"], 6, 1, "conv2", (35, 29)),
    (strided, ["conv1"], 3, 2, "conv2", (35, 29)),
    (strided, ["pool1"], 2, 3, "conv2", (35, 29)),
    (dilated, ["pool1"], 2, 1, "conv2", (20, 16)),
    (pooled_twice, ["pool1", "pool2"], 4, 1, "conv1", (21, 17)),
    (pooled_twice, ["pool1"], 2, 2, "conv1", (21, 17)),
]


@pytest.mark.parametrize(("build", "layers", "factor", "step", "top", "size"), UNPADDED)
def test_without_padding_the_two_agree_in_every_cell(make, build, layers, factor, step, top, size):
    _, stitched, rarefied = both(make, build, layers, factor, step, top, size)
    height, width = stitched.shape[2:]
    assert height >= 2 * factor and min(rarefied.shape[2] - height, rarefied.shape[3] - width) >= 0
    assert_equal(rarefied[:, :, :height, :width], stitched)


@pytest.mark.parametrize(("layers", "factor", "step"), [(["pool1", "pool2"], 4, 1), (["pool1"], 2, 2)])
@pytest.mark.parametrize("more", [1, 2, 3])
def test_pooling_windows_that_hang_over_concern_the_last_cells_only(make, layers, factor, step, more):
    side = 21 + more
    _, stitched, rarefied = both(make, pooled_twice, layers, factor, step, "conv1", (side, side))
    cells = ((side - 13) // 4 + 1) * factor  # rows of the coarse map that fit into the image
    assert stitched.shape[2] > cells
    assert_equal(rarefied[:, :, :cells, :cells], stitched[:, :, :cells, :cells])


@pytest.mark.parametrize(
    ("layers", "factor", "step"), [(["pool1", "pool2"], 4, 1), (["pool1"], 2, 2), (["pool2"], 2, 2)]
)
def test_with_padding_the_two_agree_where_a_cell_sees_pixels_only(make, layers, factor, step):
    side, sees, before, stride = 49, 20, 4, 4
    _, stitched, rarefied = both(make, padded, layers, factor, step, "conv4", (side, side))
    first = -(-before // stride) * factor
    last = ((side + before - sees) // stride + 1) * factor
    inner = np.s_[:, :, first:last, first:last]
    assert last - first >= 4 * factor
    assert_equal(rarefied[inner], stitched[inner])
    border = np.abs(rarefied[:, :, :first, :first] - stitched[:, :, :first, :first])
    assert border.max() > 1e-3  # the statement is no wider than it has to be


def test_fcn_32s_at_stride_8(make):
    """Its scores see 404 pixels, from 189 before the image on: 100 and what inner layers pad."""
    param = runpy.run_path(str(FCN_32S))["MODEL"].prototxts(divide=16)["deploy"]
    param.layer[0].input_param.shape[0].dim[2:] = [440, 440]
    image = np.random.default_rng(1).normal(size=(1, 3, 440, 440))

    def scaled(net):
        for blobs in net.params.values():
            blobs[0].data[...] *= (2 / blobs[0].data[0].size) ** 0.5
        return net

    net = scaled(make(param))
    stitched = dense.shift_and_stitch(net, image, 4, "score_fr", step=8)
    made, factors = dense.rarefied(param, ["pool4", "pool5"], "score_fr")
    assert factors == {"conv5_1": 2, "conv5_2": 2, "conv5_3": 2, "fc6": 4}
    made.layer[0].input_param.shape[0].dim[2:] = [464, 464]
    new = make(made)
    dense.fill(new, net, factors)
    new.blobs["data"].data[:, :, :440, :440] = image
    new.forward()
    inner = np.s_[
        :, :, 24:32, 24:32
    ]  # rows 6 and 7 of FCN-32s's own: 6 * 32 >= 189, 7 * 32 - 189 + 404 <= 440
    assert_equal(new.blobs["score_fr"].data[inner], stitched[inner])


def test_every_cell_is_the_net_s_own_on_a_moved_image(make):
    param = spec(unpadded, (26, 26))
    image = np.random.default_rng(1).normal(size=(1, 2, 30, 30))
    net = make(param)
    stitched = dense.shift_and_stitch(net, image[:, :, :26, :26], 4, "conv3")
    zeros = np.zeros((1, 2, 30, 30))
    zeros[:, :, :26, :26] = image[:, :, :26, :26]
    for y, x in ((0, 0), (3, 1)):
        net.blobs["data"].data[...] = zeros[:, :, y : y + 26, x : x + 26]
        net.forward(blobs=["conv3"])
        np.testing.assert_array_equal(stitched[:, :, y::4, x::4], net.blobs["conv3"].data)


def test_factor_one_is_the_net_itself(make):
    net = make(spec(unpadded, (26, 26)))
    image = np.random.default_rng(1).normal(size=(1, 2, 26, 26))
    stitched = dense.shift_and_stitch(net, image, 1, "conv3")
    np.testing.assert_array_equal(stitched, net.blobs["conv3"].data)


def test_shift_and_stitch_refuses_nonsense(make):
    net = make(spec(unpadded, (26, 26)))
    for image, factor, step in ((np.zeros((1, 2, 26, 26)), 0, 1), (np.zeros((2, 26, 26)), 2, 1)):
        with pytest.raises(ValueError, match="4 dimensions, a factor and a step from 1 on"):
            dense.shift_and_stitch(net, image, factor, "conv3", step)


# the rarefied net


def test_the_rarefied_net_is_printed_as_expected():
    param = spec(unpadded, (26, 26))
    before = caffe_pb2.NetParameter()
    before.CopyFrom(param)
    made, factors = dense.rarefied(param, ["pool1", "pool2"], "conv3")
    assert param == before and factors == {"conv2": 2, "conv3": 4}
    by_name = {layer.name: layer for layer in made.layer}
    assert "above" not in by_name
    assert by_name["pool1"].pooling_param.stride == 1 and by_name["pool1"].pooling_param.kernel_size == 2
    assert list(by_name["conv2"].convolution_param.kernel_size) == [5]
    shape = by_name["conv3"].convolution_param
    assert (shape.kernel_h, shape.kernel_w, list(shape.stride)) == (9, 5, [1])
    crops = [layer for layer in made.layer if layer.type == "Crop"]
    assert [list(crop.crop_param.offset) for crop in crops] == [[0, 0], [0, 2], [2, 0], [2, 2]]
    assert list(by_name["pool2"].eltwise_param.coeff) == [0.25] * 4


def test_fill_reports_what_was_rarefied(make):
    param = spec(unpadded, (26, 26))
    net = make(param)
    made, factors = dense.rarefied(param, ["pool1"], "conv3")
    report = dense.fill(make(made), net, factors)
    assert report.coerced == {
        "conv2[0]": "(4, 2, 3, 3) -> (4, 2, 5, 5), rarefied by 2",
        "conv3[0]": "(3, 4, 3, 2) -> (3, 4, 5, 3), rarefied by 2",
    }
    assert list(report.copied) == ["conv1[0]", "conv1[1]", "conv2[1]", "conv3[1]"]
    assert list(report.dropped) == ["above[0]", "above[1]"]


def refused(n):
    n.pool1 = L.Pooling(n.data, kernel_size=2, stride=2, pool=MAX)
    n.padded = L.Pooling(n.pool1, kernel_size=3, pad=1, stride=1, pool=MAX)
    n.whole = L.Pooling(n.pool1, global_pooling=True, pool=AVE)
    n.fc = L.InnerProduct(n.pool1, num_output=2)
    n.up = L.Deconvolution(n.pool1, convolution_param={"num_output": 2, "kernel_size": 2, "stride": 2})
    n.norm = L.LRN(n.pool1, norm_region=P.LRN.WITHIN_CHANNEL)
    n.joined = L.Eltwise(n.data, n.up)
    n.uneven = L.Convolution(n.data, num_output=2, kernel_size=1, stride_h=2, stride_w=1)
    n.skip = L.Concat(n.pool1, n.data)


@pytest.mark.parametrize(
    ("layers", "top", "message"),
    [
        (["pool1"], "padded", "pooling layer padded .* unpadded"),
        (["pool1"], "whole", "pooling layer whole"),
        (["pool1"], "fc", "InnerProduct layer fc .*make it a convolution"),
        (["pool1"], "up", "Deconvolution layer up"),
        (["pool1"], "norm", "LRN layer norm"),
        (["pool1"], "skip", r"layer skip joins maps of unequal density, \[1, 2\]"),
        (["uneven"], "uneven", "layer uneven has strides 2 and 1"),
        (["fc"], "fc", "stride of layer fc: the net has no convolution or pooling"),
        (["pool7"], "fc", "stride of layer pool7"),
        (["pool1"], "score", "up to score: the net has no blob"),
    ],
)
def test_what_cannot_be_rarefied_is_named(layers, top, message):
    with pytest.raises(SurgeryError, match=message):
        dense.rarefied(spec(refused, (8, 8)), layers, top)
