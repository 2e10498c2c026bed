"""Im2col: windows picked one by one, and a convolution made of it."""

import itertools

import numpy as np
import pytest
from layer_check import Rig, check_gradient, noise, output, refuses

TEXT = 'type: "Im2col" convolution_param { %s }'


def columns(x, kernel, stride, pad, dilation, axis=1):
    """Every window of ``x``, pixel by pixel."""
    batch, channels, image = x.shape[:axis], x.shape[axis], x.shape[axis + 1 :]
    size = [
        max(0, n + 2 * p - d * (k - 1) - 1) // s + 1
        for n, k, s, p, d in zip(image, kernel, stride, pad, dilation, strict=True)
    ]
    top = np.zeros((int(np.prod(batch)), channels, *kernel, *size), x.dtype)
    x = x.reshape(-1, channels, *image)
    for k in itertools.product(*map(range, kernel)):
        for o in itertools.product(*map(range, size)):
            at = [o * s - p + k * d for o, s, p, k, d in zip(o, stride, pad, k, dilation, strict=True)]
            if all(0 <= a < n for a, n in zip(at, image, strict=True)):
                top[(slice(None), slice(None), *k, *o)] = x[(slice(None), slice(None), *at)]
    return top.reshape(*batch, channels * int(np.prod(kernel)), *size)


@pytest.mark.parametrize(
    ("fields", "kernel", "stride", "pad", "dilation"),
    [
        ("kernel_size: 3", (3, 3), (1, 1), (0, 0), (1, 1)),
        ("kernel_size: 1", (1, 1), (1, 1), (0, 0), (1, 1)),
        ("kernel_size: 3 pad: 1 stride: 2", (3, 3), (2, 2), (1, 1), (1, 1)),
        ("kernel_h: 3 kernel_w: 2 pad_h: 1 pad_w: 0 stride_h: 2 stride_w: 1", (3, 2), (2, 1), (1, 0), (1, 1)),
        ("kernel_size: [2, 3] pad: [2, 1] stride: [3, 1]", (2, 3), (3, 1), (2, 1), (1, 1)),
        ("kernel_size: 3 dilation: 2 pad: 2 force_nd_im2col: true", (3, 3), (1, 1), (2, 2), (2, 2)),
        ("kernel_size: 2 dilation: [2, 3] stride: 2", (2, 2), (2, 2), (0, 0), (2, 3)),
        ("kernel_size: 7 stride: 3", (7, 7), (3, 3), (0, 0), (1, 1)),  # taller than the image, by less than 3
    ],
)
def test_two_spatial_axes(fields, kernel, stride, pad, dilation):
    x = noise(2, 2, 5, 6)
    np.testing.assert_array_equal(output(TEXT % fields, x), columns(x, kernel, stride, pad, dilation))
    check_gradient(TEXT % fields, x)


@pytest.mark.parametrize(
    ("shape", "axis", "spatial"), [((2, 3, 7), 1, 1), ((2, 3, 4, 3, 3), 1, 3), ((2, 1, 3, 4, 4), 2, 2)]
)
def test_other_axes(shape, axis, spatial):
    x = noise(*shape)
    expected = columns(x, *[(n,) * spatial for n in (2, 2, 1, 1)], axis)
    text = TEXT % f"kernel_size: 2 stride: 2 pad: 1 axis: {axis}"
    np.testing.assert_array_equal(output(text, x), expected)
    check_gradient(text, x)


def test_a_convolution_is_a_product_with_it():
    x, fields = noise(2, 3, 6, 5), "kernel_size: 3 pad: 1 stride: 2 dilation: 2"
    rig = Rig(f'type: "Convolution" convolution_param {{ num_output: 4 bias_term: false {fields} }}', x)
    rig.layer.blobs[0].data[...] = noise(4, 3, 3, 3, seed=1)
    (top,) = rig.forward()
    product = np.einsum("ok,nkhw->nohw", rig.layer.blobs[0].data.reshape(4, 27), output(TEXT % fields, x))
    np.testing.assert_allclose(top, product, rtol=1e-4, atol=1e-5)


def test_another_size_and_number_of_channels():
    rig = Rig(TEXT % "kernel_size: 2", noise(2, 3, 4, 4))
    rig.bottom[0].reshape(1, 2, 3, 7)
    assert rig.forward()[0].shape == (1, 8, 2, 6)
    rig.bottom[0].reshape(2, 3, 4)
    with pytest.raises(RuntimeError, match="bottom num_axes may not change"):
        rig.forward()


@pytest.mark.parametrize(
    ("message", "fields", "shape"),
    [
        ("has no spatial axis after axis 1", "kernel_size: 3", (2, 3)),
        ("axis 5 out of range for 4-D Blob", "kernel_size: 3 axis: 5", (1, 1, 4, 4)),
        ("Filter dimensions must be nonzero.", "kernel_size: 0", (1, 1, 4, 4)),
        ("Stride dimensions must be nonzero.", "kernel_size: 2 stride: 0", (1, 1, 4, 4)),
        ("kernel_size must be specified once, or once per spatial dimension", "", (1, 1, 4, 4)),
        ("dilation must be specified once", "kernel_size: 2 dilation: [1, 1, 1]", (1, 1, 4, 4)),
        (
            "Either kernel_size or kernel_h/w should be specified; not both.",
            "kernel_size: 2 kernel_h: 2",
            (1, 1, 4, 4),
        ),
        ("kernel_h & kernel_w can only be used for 2D convolution", "kernel_h: 2 kernel_w: 2", (1, 1, 4)),
        ("is too small: the output would be 0x0", "kernel_size: 5", (1, 1, 4, 4)),
    ],
)
def test_refusals(message, fields, shape):
    refuses(message, TEXT % fields, shape)
