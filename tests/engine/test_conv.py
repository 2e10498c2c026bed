"""Convolution and Deconvolution against loops over the definition."""

import itertools

import numpy as np
import pytest
from layer_check import Rig, check_gradient, noise, output, refuses


def per_axis(value, n):
    return (value,) * n if isinstance(value, int) else tuple(value)


def convolve(x, weight, bias, stride=1, pad=0, dilation=1, group=1):
    """Every output pixel as the sum over its window; pixels outside the image are 0."""
    n = x.ndim - 2
    stride, pad, dilation = (per_axis(v, n) for v in (stride, pad, dilation))
    kernel, outs = weight.shape[2:], weight.shape[0]
    extent = [d * (k - 1) + 1 for d, k in zip(dilation, kernel, strict=True)]
    size = [int((x.shape[2 + i] + 2 * pad[i] - extent[i]) / stride[i]) + 1 for i in range(n)]
    top = np.zeros((len(x), outs, *size))
    for b, o, *at in np.ndindex(top.shape):
        first = o // (outs // group) * weight.shape[1]
        for c, *tap in np.ndindex(weight.shape[1:]):
            pixel = tuple(
                a * s - p + t * d for a, s, p, t, d in zip(at, stride, pad, tap, dilation, strict=True)
            )
            if all(0 <= i < length for i, length in zip(pixel, x.shape[2:], strict=True)):
                top[(b, o, *at)] += x[(b, first + c, *pixel)] * weight[(o, c, *tap)]
    return top + (0 if bias is None else bias.reshape(-1, *[1] * n))


def scatter(x, weight, bias, stride=1, pad=0, dilation=1, group=1):
    """Every input pixel adds its weighted filter to the output."""
    n = x.ndim - 2
    stride, pad, dilation = (per_axis(v, n) for v in (stride, pad, dilation))
    kernel, per_group = weight.shape[2:], weight.shape[1]
    size = [
        stride[i] * (x.shape[2 + i] - 1) + dilation[i] * (kernel[i] - 1) + 1 - 2 * pad[i] for i in range(n)
    ]
    top = np.zeros((len(x), per_group * group, *size))
    for b, c, *at in np.ndindex(x.shape):
        first = c // (x.shape[1] // group) * per_group
        for o, *tap in np.ndindex(weight.shape[1:]):
            pixel = tuple(
                a * s - p + t * d for a, s, p, t, d in zip(at, stride, pad, tap, dilation, strict=True)
            )
            if all(0 <= i < length for i, length in zip(pixel, size, strict=True)):
                top[(b, first + o, *pixel)] += x[(b, c, *at)] * weight[(c, o, *tap)]
    return top + (0 if bias is None else bias.reshape(-1, *[1] * n))


# prototxt fields, the same as numbers, shape of the bottom
OPTIONS = [
    ("kernel_size: 3", {}, (2, 4, 5, 4)),
    ("kernel_size: 3 pad: 1 stride: 2", {"pad": 1, "stride": 2}, (2, 2, 5, 6)),
    ("kernel_size: 1 bias_term: false", {}, (2, 3, 2, 3)),
    ("kernel_size: 2 dilation: 3 pad: 2", {"dilation": 3, "pad": 2}, (1, 2, 3, 4)),
    ("kernel_size: 3 group: 2 pad: 1", {"group": 2, "pad": 1}, (2, 4, 3, 3)),
    ("kernel_size: 2 group: 4", {"group": 4}, (1, 4, 3, 3)),
    (
        "kernel_h: 2 kernel_w: 3 stride_h: 2 stride_w: 1 pad_h: 0 pad_w: 2",
        {"stride": (2, 1), "pad": (0, 2)},
        (1, 2, 4, 3),
    ),
    (
        "kernel_size: 3 kernel_size: 1 stride: 1 stride: 2 pad: 1 pad: 0",
        {"stride": (1, 2), "pad": (1, 0)},
        (1, 2, 3, 4),
    ),
    ("kernel_size: 2 dilation: 1 dilation: 2", {"dilation": (1, 2)}, (1, 2, 3, 4)),
    ("kernel_size: 3 stride: 2 pad: 1", {"stride": 2, "pad": 1}, (2, 2, 7)),  # 1-D
    ("kernel_size: 2 stride: 2", {"stride": 2}, (1, 2, 3, 2, 4)),  # 3-D
]


@pytest.mark.parametrize(("type_", "reference"), [("Convolution", convolve), ("Deconvolution", scatter)])
@pytest.mark.parametrize(("fields", "options", "shape"), OPTIONS)
def test_values_and_gradients(type_, reference, fields, options, shape):
    text = f'type: "{type_}" convolution_param {{ num_output: 4 {fields} }}'
    rig = check_gradient(text, noise(*shape))
    blobs = [blob.data for blob in rig.layer.blobs]
    expected = reference(rig.bottom[0].data, blobs[0], blobs[1] if len(blobs) > 1 else None, **options)
    assert rig.top[0].shape == expected.shape
    np.testing.assert_allclose(rig.top[0].data, expected, rtol=1e-4, atol=1e-5)


def test_deconvolution_is_the_transpose_of_convolution():
    """<conv(x), y> = <x, deconv(y)> with one weight array, at FCN-8s's k16 s8 and others."""
    for kernel, stride, pad in [(16, 8, 0), (4, 2, 1), (3, 3, 0), (5, 2, 2)]:
        fields = f"num_output: %d kernel_size: {kernel} stride: {stride} pad: {pad} bias_term: false"
        down = Rig(
            f'type: "Convolution" convolution_param {{ {fields % 3} }}',
            noise(1, 2, 4 * stride + kernel - 2 * pad, kernel + stride),
        )
        down.layer.blobs[0].data[...] = noise(3, 2, kernel, kernel, seed=1)
        (top,) = down.forward()
        up = Rig(f'type: "Deconvolution" convolution_param {{ {fields % 2} }}', noise(*top.shape, seed=2))
        up.layer.blobs[0].data[...] = down.layer.blobs[0].data
        (back,) = up.forward()
        assert back.shape == down.bottom[0].shape
        assert np.vdot(top, up.bottom[0].data) == pytest.approx(np.vdot(down.bottom[0].data, back), rel=1e-4)


def test_blob_shapes():
    fields = "num_output: 6 group: 2 kernel_h: 2 kernel_w: 3"
    conv = Rig(f'type: "Convolution" convolution_param {{ {fields} }}', np.zeros((1, 4, 5, 5)))
    assert [blob.shape for blob in conv.layer.blobs] == [(6, 2, 2, 3), (6,)]
    deconv = Rig(f'type: "Deconvolution" convolution_param {{ {fields} }}', np.zeros((1, 4, 5, 5)))
    assert [blob.shape for blob in deconv.layer.blobs] == [(4, 3, 2, 3), (6,)]


def test_fillers_run_weight_first_and_zero_by_default():
    text = 'type: "Convolution" convolution_param { num_output: 2 kernel_size: 2 %s }'
    assert (output(text % "", noise(1, 1, 3, 3)) == 0).all()
    rig = Rig(
        text % 'weight_filler { type: "bilinear" } bias_filler { type: "constant" value: 3 }',
        np.zeros((1, 1, 3, 3)),
    )
    assert (rig.layer.blobs[0].data == 0.25).all() and (rig.layer.blobs[1].data == 3).all()


def test_an_input_short_of_one_window_by_less_than_the_stride_gives_one_output():
    text = """type: "Convolution" convolution_param { num_output: 1 kernel_size: 3 stride: 2
              weight_filler { type: "constant" value: 1 } }"""
    assert output(text, [[[[1, 2], [3, 4]]]]).tolist() == [[[[10]]]]
    rig = check_gradient(text, noise(1, 2, 2, 5))
    np.testing.assert_allclose(
        rig.top[0].data,
        convolve(rig.bottom[0].data, *[blob.data for blob in rig.layer.blobs], stride=2),
        rtol=1e-4,
        atol=1e-5,
    )
    padded = text.replace("kernel_size: 3 stride: 2", "kernel_size: 5 stride: 4 pad: 1 dilation: 1")
    check_gradient(padded, noise(1, 1, 2, 1))


@pytest.mark.parametrize("type_", ["Convolution", "Deconvolution"])
def test_several_bottoms_go_through_one_set_of_filters(type_):
    text = f'type: "{type_}" convolution_param {{ num_output: 2 kernel_size: 2 }}'
    rig = check_gradient(text, noise(1, 2, 3, 3), noise(1, 2, 3, 3, seed=1), tops=2)
    assert len(rig.layer.blobs) == 2
    check_gradient(text, noise(1, 2, 3, 3), noise(1, 2, 3, 3, seed=1), tops=2, propagate=[False, True])


def test_no_gradient_for_an_image():
    text = 'type: "Convolution" convolution_param { num_output: 2 kernel_size: 2 }'
    check_gradient(text, noise(1, 2, 3, 3), propagate=[False])


@pytest.mark.parametrize("type_", ["Convolution", "Deconvolution"])
@pytest.mark.parametrize(
    ("axis", "shape", "top"),
    [(2, (2, 3, 2, 4, 3), (2, 3, 4)), (0, (2, 4, 3), (4,)), (-2, (3, 2, 2, 4), (3, 2, 4))],
)
def test_axis(type_, axis, shape, top):
    """The axes before ``axis`` are all batch."""
    text = f'type: "{type_}" convolution_param {{ num_output: 4 kernel_size: 1 axis: {axis} }}'
    rig = check_gradient(text, noise(*shape))
    spatial = shape[axis % len(shape) + 1 :]
    assert rig.top[0].shape == (*top, *spatial)
    weight, bias = (blob.data for blob in rig.layer.blobs)
    flat = rig.bottom[0].data.reshape(-1, shape[axis], int(np.prod(spatial)))
    matrix = (
        weight.reshape(weight.shape[:2]) if type_ == "Convolution" else weight.reshape(weight.shape[:2]).T
    )
    expected = np.einsum("oc,bcs->bos", matrix, flat) + bias[:, None]
    np.testing.assert_allclose(rig.top[0].data.ravel(), expected.ravel(), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("type_", ["Convolution", "Deconvolution"])
def test_no_spatial_axes(type_):
    text = f'type: "{type_}" convolution_param {{ num_output: 4 kernel_size: 3 }}'
    rig = check_gradient(text, noise(3, 2))
    assert rig.top[0].shape == (3, 4)


def test_the_input_may_change_size_but_not_channels_or_axes():
    rig = Rig('type: "Convolution" convolution_param { num_output: 2 kernel_size: 3 }', noise(1, 2, 5, 5))
    rig.bottom[0].reshape(3, 2, 7, 4)
    assert rig.forward()[0].shape == (3, 2, 5, 2)
    rig.bottom[0].reshape(1, 3, 5, 5)
    with pytest.raises(RuntimeError, match="Input size incompatible with convolution kernel"):
        rig.forward()
    rig.bottom[0].reshape(1, 2, 5)
    with pytest.raises(RuntimeError, match="bottom num_axes may not change"):
        rig.forward()


IMAGE = (1, 4, 5, 5)


@pytest.mark.parametrize("type_", ["Convolution", "Deconvolution"])
@pytest.mark.parametrize(
    ("fields", "shape", "message"),
    [
        ("kernel_size: 3", IMAGE, "num_output must be greater than 0"),
        ("num_output: 4", IMAGE, "kernel_size must be specified once, or once per spatial dimension"),
        (
            "num_output: 4 kernel_size: 1 kernel_size: 1 kernel_size: 1",
            IMAGE,
            "(kernel_size specified 3 times; 2 spatial dims)",
        ),
        (
            "num_output: 4 kernel_size: 3 stride: 1 stride: 1 stride: 1",
            IMAGE,
            "stride must be specified once, or once per spatial dimension",
        ),
        ("num_output: 4 kernel_size: 3 pad: 1 pad: 1 pad: 1", IMAGE, "pad must be specified once"),
        (
            "num_output: 4 kernel_size: 3 dilation: 1 dilation: 1 dilation: 1",
            IMAGE,
            "dilation must be specified once",
        ),
        (
            "num_output: 4 kernel_size: 3 kernel_h: 3",
            IMAGE,
            "Either kernel_size or kernel_h/w should be specified; not both.",
        ),
        (
            "num_output: 4 kernel_size: 3 stride: 3 stride_w: 3",
            IMAGE,
            "Either stride or stride_h/w should be specified; not both.",
        ),
        (
            "num_output: 4 kernel_size: 3 pad: 3 pad_w: 3",
            IMAGE,
            "Either pad or pad_h/w should be specified; not both.",
        ),
        (
            "num_output: 4 kernel_h: 3 kernel_w: 3",
            (1, 4, 5),
            "kernel_h & kernel_w can only be used for 2D convolution",
        ),
        ("num_output: 4 kernel_w: 3", IMAGE, "Filter dimensions must be nonzero."),
        ("num_output: 4 kernel_size: 0", IMAGE, "Filter dimensions must be nonzero."),
        ("num_output: 4 kernel_size: 3 stride_h: 3", IMAGE, "Stride dimensions must be nonzero."),
        ("num_output: 4 kernel_size: 3 stride: 0", IMAGE, "Stride dimensions must be nonzero."),
        ("num_output: 4 kernel_size: 3 dilation: 0", IMAGE, "dilation must be at least 1"),
        (
            "num_output: 4 kernel_size: 3 group: 3",
            IMAGE,
            "the 4 input channels must be a multiple of group, 3",
        ),
        ("num_output: 4 kernel_size: 3 group: 0", IMAGE, "must be a multiple of group, 0"),
        ("num_output: 3 kernel_size: 3 group: 2", IMAGE, "Number of output should be multiples of group."),
        (
            "num_output: 4 kernel_size: 3 axis: 4",
            IMAGE,
            "axis 4 out of range for 4-D Blob with shape 1x4x5x5",
        ),
        ("num_output: 4 kernel_size: 3", (1, 4, 5, 5, 5, 5), "at most 3 spatial axes"),
        ('num_output: 4 kernel_size: 3 weight_filler { type: "x" }', IMAGE, "Unknown filler name: x"),
    ],
)
def test_refusals(type_, fields, shape, message):
    refuses(message, f'type: "{type_}" convolution_param {{ {fields} }}', shape)


def test_too_small_an_input():
    text = 'type: "Convolution" convolution_param { num_output: 1 kernel_size: 7 }'
    refuses("bottom[0], 1x1x6x9, is too small: the output would be 0x3", text, (1, 1, 6, 9))
    text = 'type: "Deconvolution" convolution_param { num_output: 1 kernel_size: 2 pad: 1 }'
    refuses("bottom[0], 1x1x1x2, is too small: the output would be 0x1", text, (1, 1, 1, 2))


def test_bottoms_of_different_shapes():
    text = 'type: "Convolution" convolution_param { num_output: 1 kernel_size: 1 }'
    refuses(
        "shape mismatch - bottom[0]: 1x1x2x2 vs. bottom[1]: 1x1x2x3", text, (1, 1, 2, 2), (1, 1, 2, 3), tops=2
    )


CONV = 'type: "Convolution" convolution_param { num_output: 1 %s }'
UP = 'type: "Deconvolution" convolution_param { num_output: 1 %s }'
POOL = 'type: "Pooling" pooling_param { kernel_size: 2 stride: 2 }'
FCN_8S = [CONV % "kernel_size: 3 pad: 100", *[POOL] * 5, CONV % "kernel_size: 7"]
FCN_8S += [UP % "kernel_size: 4 stride: 2"] * 2 + [UP % "kernel_size: 16 stride: 8"]


@pytest.mark.parametrize(
    ("side", "expected"),
    [
        (1, [199, 100, 50, 25, 13, 7, 1, 4, 10, 88]),
        (224, [422, 211, 106, 53, 27, 14, 8, 18, 38, 312]),
        (375, [573, 287, 144, 72, 36, 18, 12, 26, 54, 440]),
        (500, [698, 349, 175, 88, 44, 22, 16, 34, 70, 568]),
    ],
)
def test_sizes_along_fcn_8s(side, expected):
    """conv1_1, pool1 to pool5, fc6, upscore2, upscore_pool4, upscore8 for a square image."""
    sizes = itertools.accumulate(
        FCN_8S, lambda n, text: Rig(text, np.zeros((1, 1, n, n))).top[0].shape[2], initial=side
    )
    assert list(sizes)[1:] == expected


def test_a_parameter_array_taken_before_a_forward_is_the_parameter_after_it():
    rig = Rig('type: "Convolution" convolution_param { num_output: 1 kernel_size: 1 }', noise(1, 1, 2, 2))
    weight = rig.layer.blobs[0].data
    rig.forward()
    weight[...] = 2
    np.testing.assert_allclose(rig.forward()[0], 2 * rig.bottom[0].data)
