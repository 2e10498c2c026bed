"""caffe.coord_map: maps between tops, and the crops of the FCN nets (facts of the released prototxts)."""

import numpy as np
import pytest
from caffe.coord_map import (
    AxisMismatchException,
    UndefinedMapException,
    compose,
    coord_map,
    coord_map_from_to,
    crop,
    inverse,
)
from caffe.net_spec import layers as L


def source():
    return L.Input(shape={"dim": [1, 3, 500, 500]})


def conv(bottom, **params):
    return L.Convolution(bottom, num_output=1, **params)


def pool(bottom, **params):
    return L.Pooling(bottom, **params)


def upsample(bottom, kernel_size, stride):
    return L.Deconvolution(
        bottom, convolution_param={"num_output": 1, "kernel_size": kernel_size, "stride": stride}
    )


def offsets(top):
    return top.fn.params["crop_param"]["offset"]


def vgg_pools(data):
    """pool3, pool4 and conv7 of VGG16 with a 100-pixel border."""
    top, tops = data, []
    for stage, convs in enumerate((2, 2, 3, 3, 3)):
        for number in range(convs):
            top = conv(top, kernel_size=3, pad=100 if (stage, number) == (0, 0) else 1)
            top = L.ReLU(top, in_place=True)
        top = pool(top, kernel_size=2, stride=2)
        tops.append(top)
    conv6 = L.Dropout(L.ReLU(conv(top, kernel_size=7), in_place=True), in_place=True)
    return tops[2], tops[3], conv(conv6, kernel_size=1)


def test_fcn32s_offset_is_19():
    data = source()
    *_, fc7 = vgg_pools(data)
    assert offsets(crop(upsample(fc7, 64, 32), data)) == [19]


def test_fcn16s_offsets_are_5_and_27():
    data = source()
    _, pool4, fc7 = vgg_pools(data)
    coarse = upsample(fc7, 4, 2)
    skip = crop(conv(pool4, kernel_size=1), coarse)
    assert offsets(skip) == [5]
    assert offsets(crop(upsample(L.Eltwise(coarse, skip), 32, 16), data)) == [27]


def test_fcn8s_offsets_are_5_9_and_31():
    data = source()
    pool3, pool4, fc7 = vgg_pools(data)
    up2 = upsample(fc7, 4, 2)
    skip4 = crop(conv(pool4, kernel_size=1), up2)
    up4 = upsample(L.Eltwise(up2, skip4), 4, 2)
    skip3 = crop(conv(pool3, kernel_size=1), up4)
    score = crop(upsample(L.Eltwise(up4, skip3), 16, 8), data)
    assert (offsets(skip4), offsets(skip3), offsets(score)) == ([5], [9], [31])


def test_alexnet_offset_is_18():
    data = source()
    top = L.LRN(pool(conv(data, kernel_size=11, stride=4, pad=100), kernel_size=3, stride=2))
    top = L.LRN(pool(conv(top, kernel_size=5, pad=2, group=2), kernel_size=3, stride=2))
    for _ in range(3):
        top = conv(top, kernel_size=3, pad=1)
    top = conv(pool(top, kernel_size=3, stride=2), kernel_size=6)
    assert offsets(crop(upsample(top, 63, 32), data)) == [18]


def test_crop_layer_names_axis_and_both_bottoms():
    data = source()
    cropped = crop(conv(data, kernel_size=3, pad=4), data)
    assert cropped.fn.type_name == "Crop"
    assert cropped.fn.params["crop_param"] == {"axis": 2, "offset": [3]}
    assert cropped.fn.inputs[1] is data


def test_each_spatial_axis_may_have_its_own_kernel():
    data = source()
    assert offsets(crop(conv(data, kernel_size=[1, 5], pad=[1, 4]), data)) == [1, 2]


def test_dilation_widens_the_kernel_and_crop_shifts():
    data = source()
    top = conv(data, kernel_size=3, dilation=2, pad=4)
    axis, scale, shift = coord_map(top.fn)
    assert (axis, scale.tolist(), shift.tolist()) == (1, [1], [2])
    cut = L.Crop(top, data, axis=2, offset=[2])
    assert offsets(crop(L.ReLU(top), cut)) == [2]
    assert offsets(crop(cut, data)) == [0]


def test_pass_through_layers_alone_give_no_axis():
    data = source()
    assert coord_map_from_to(L.ReLU(L.Dropout(data)), data) == (None, 1, 0)
    assert crop(L.ReLU(data), data).fn.params["crop_param"] == {"axis": 2, "offset": [0]}


def test_strides_that_are_no_powers_of_two_still_cancel():
    data = source()
    top = data
    for _ in range(3):
        top = conv(top, kernel_size=3, stride=3)
    assert offsets(crop(upsample(conv(top, kernel_size=1), 27, 27), data)) == [0]


def test_compose_and_inverse():
    first, second = (1, 2.0, 3.0), (1, 5.0, 7.0)
    assert compose(first, second) == (1, 10.0, 17.0)
    assert compose((None, 1, 0), second) == second == compose(second, (None, 1, 0))
    axis, scale, shift = compose(inverse(first), first)
    assert (axis, scale, shift) == (1, 1, 0)
    with pytest.raises(AxisMismatchException):
        compose((1, 1, 0), (2, 1, 0))


def test_layers_without_a_map():
    data = source()
    with pytest.raises(UndefinedMapException):
        coord_map(L.InnerProduct(data, num_output=3).fn)
    with pytest.raises(RuntimeError, match="connected by spatial layers"):
        crop(L.InnerProduct(data, num_output=3), data)
    with pytest.raises(RuntimeError, match="Could not compute map"):
        coord_map_from_to(source(), data)


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"kernel_size": 2, "stride": 2}, "scale mismatch on crop"),
        ({"kernel_size": 3}, "cannot crop negative offset"),
        ({"kernel_size": 2, "pad": 3}, "cannot crop noninteger offset"),
        ({"kernel_h": 3, "kernel_w": 3}, "kernel_size"),
    ],
)
def test_what_cannot_be_cropped_is_an_assertion_error(params, message):
    data = source()
    with pytest.raises(AssertionError, match=message):
        crop(conv(data, **params), data)


def test_kernel_size_must_be_given():
    with pytest.raises(KeyError, match="kernel_size"):
        coord_map(pool(source(), global_pooling=True).fn)


def test_deconvolution_undoes_a_convolution_of_the_same_kernel():
    data = source()
    down = conv(data, kernel_size=4, stride=2, pad=1)
    up = L.Deconvolution(down, convolution_param={"num_output": 1, "kernel_size": 4, "stride": 2, "pad": 1})
    axis, scale, shift = coord_map_from_to(up, data)
    assert axis == 1
    np.testing.assert_array_equal([scale, shift], [[1], [0]])
