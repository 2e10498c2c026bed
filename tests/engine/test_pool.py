"""Pooling against loops over the definition."""

import math

import numpy as np
import pytest
import torch
from caffe.layer_types.pool import Pooling, _Windows
from layer_check import TEST, TRAIN, Rig, check_gradient, noise, output, outputs, refuses, spread

FLT_MAX = np.finfo(np.float32).max


def pool(x, method, kernel, stride, pad=(0, 0), floor=False):
    """(pooled, index of the maximum or None) by the definition, window by window."""
    size = []
    for length, k, s, p in zip(x.shape[2:], kernel, stride, pad, strict=True):
        n = (length + 2 * p - k) / s
        n = (math.floor(n) if floor else math.ceil(n)) + 1
        size.append(n - 1 if any(pad) and (n - 1) * s >= length + p else n)
    top = np.full((*x.shape[:2], *size), -FLT_MAX if method == "MAX" else 0.0)
    index = np.full(top.shape, -1)
    for b, c, i, j in np.ndindex(top.shape):
        first = i * stride[0] - pad[0], j * stride[1] - pad[1]
        cells = [
            (row, column)
            for row in range(max(first[0], 0), min(first[0] + kernel[0], x.shape[2]))
            for column in range(max(first[1], 0), min(first[1] + kernel[1], x.shape[3]))
        ]
        if method == "MAX":
            for row, column in cells:
                if x[b, c, row, column] > top[b, c, i, j]:
                    top[b, c, i, j] = x[b, c, row, column]
                    index[b, c, i, j] = row * x.shape[3] + column
        elif cells:
            area = [min(f + k, n + p) - f for f, k, n, p in zip(first, kernel, x.shape[2:], pad, strict=True)]
            top[b, c, i, j] = sum(x[b, c, row, column] for row, column in cells) / math.prod(area)
    return top, index


# fields, kernel, stride, pad, image
OPTIONS = [
    ("kernel_size: 2 stride: 2", (2, 2), (2, 2), (0, 0), (4, 6)),
    ("kernel_size: 2 stride: 2", (2, 2), (2, 2), (0, 0), (5, 7)),
    ("kernel_size: 3 stride: 2", (3, 3), (2, 2), (0, 0), (6, 5)),
    ("kernel_size: 3 stride: 2 pad: 1", (3, 3), (2, 2), (1, 1), (5, 6)),
    ("kernel_size: 3 stride: 2 pad: 1", (3, 3), (2, 2), (1, 1), (6, 6)),
    ("kernel_size: 3 pad: 1", (3, 3), (1, 1), (1, 1), (4, 3)),
    ("kernel_size: 2 stride: 2 pad: 1", (2, 2), (2, 2), (1, 1), (3, 4)),
    ("kernel_size: 4 stride: 3 pad: 3", (4, 4), (3, 3), (3, 3), (5, 6)),  # pad beyond half the kernel
    ("kernel_size: 3 pad: 2", (3, 3), (1, 1), (2, 2), (2, 3)),
    ("kernel_h: 3 kernel_w: 1 stride_h: 2 stride_w: 3", (3, 1), (2, 3), (0, 0), (5, 5)),
    ("kernel_h: 1 kernel_w: 3 pad_h: 0 pad_w: 2 stride_h: 2 stride_w: 1", (1, 3), (2, 1), (0, 2), (4, 4)),
    ("kernel_size: 1 stride: 3", (1, 1), (3, 3), (0, 0), (5, 5)),  # windows wholly outside
    ("kernel_size: 1 stride: 3", (1, 1), (3, 3), (0, 0), (6, 4)),
    ("kernel_size: 2 stride: 4", (2, 2), (4, 4), (0, 0), (7, 5)),
    ("kernel_size: 3 stride: 2", (3, 3), (2, 2), (0, 0), (2, 2)),  # kernel beyond the image
    ("kernel_size: 5 stride: 4 pad: 1", (5, 5), (4, 4), (1, 1), (2, 3)),
    ("global_pooling: true", (3, 4), (1, 1), (0, 0), (3, 4)),
]


CASES = [(mode, *option) for mode in ("CEIL", "FLOOR") for option in OPTIONS]
CASES = [  # rounding down leaves no window where the kernel exceeds the image
    (mode, fields, kernel, stride, pad, image)
    for mode, fields, kernel, stride, pad, image in CASES
    if mode == "CEIL" or all(n + 2 * p >= k for n, k, p in zip(image, kernel, pad, strict=True))
]


@pytest.mark.parametrize("method", ["MAX", "AVE"])
@pytest.mark.parametrize(("mode", "fields", "kernel", "stride", "pad", "image"), CASES)
def test_values_and_gradients(method, mode, fields, kernel, stride, pad, image):
    text = f'type: "Pooling" pooling_param {{ pool: {method} {fields} round_mode: {mode} }}'
    x = spread(2, 2, *image)
    expected, index = pool(x, method, kernel, stride, pad, floor=mode == "FLOOR")
    top = output(text, x)
    assert top.shape == expected.shape
    np.testing.assert_allclose(top, expected, rtol=1e-5, atol=1e-5)
    if (index >= 0).all() or method == "AVE":
        check_gradient(text, x)
    if method == "MAX":
        _, mask = outputs(text, x, tops=2)
        assert np.array_equal(mask, index)


@pytest.mark.parametrize("tops", [1, 2])
def test_a_window_outside_the_image_passes_no_gradient(tops):
    rig = Rig('type: "Pooling" pooling_param { kernel_size: 1 stride: 3 }', spread(1, 1, 5, 5), tops=tops)
    rig.forward()
    (diff,) = rig.backward(*[1, 0][:tops])
    expected = np.zeros((5, 5))
    expected[::3, ::3] = 1
    assert np.array_equal(diff[0, 0], expected)


def test_vectors():
    """What BVLC Caffe printed."""
    ramp = np.arange(25).reshape(1, 1, 5, 5)
    low = -FLT_MAX
    text = 'type: "Pooling" pooling_param { pool: %s kernel_size: %d stride: %d pad: %d }'
    assert output(text % ("MAX", 1, 3, 0), ramp).tolist() == [[[[0, 3, low], [15, 18, low], [low, low, low]]]]
    assert output(text % ("AVE", 1, 3, 0), ramp).tolist() == [[[[0, 3, 0], [15, 18, 0], [0, 0, 0]]]]
    np.testing.assert_allclose(
        output(text % ("AVE", 3, 2, 1), ramp)[0, 0],
        [[4 / 3, 3, 8 / 3], [7, 12, 9], [8, 13, 28 / 3]],
        rtol=1e-6,
    )
    ones = output(text % ("AVE", 3, 2, 1), np.ones((1, 1, 6, 6)))[0, 0]
    assert ones.shape == (4, 4)
    np.testing.assert_allclose(ones[0], [4 / 9, 2 / 3, 2 / 3, 1 / 3], rtol=1e-6)
    np.testing.assert_allclose(ones[-1], [1 / 3, 1 / 2, 1 / 2, 1 / 4], rtol=1e-6)
    square = np.array([[[[1, 2], [3, 4]]]])
    assert output(text % ("MAX", 3, 2, 0), square).tolist() == [[[[4]]]]
    assert output(text % ("AVE", 3, 2, 0), square).tolist() == [[[[2.5]]]]


@pytest.mark.parametrize("fields", ["kernel_size: 3 stride: 3", "kernel_size: 3 stride: 3 pad: 2"])
def test_the_first_of_equal_maxima_wins(fields):
    x = np.zeros((1, 1, 4, 4))
    x[0, 0, 1:3, 1:3] = 5
    rig = Rig(f'type: "Pooling" pooling_param {{ {fields} }}', x, tops=2)
    top, mask = rig.forward()
    expected, index = pool(x, "MAX", (3, 3), (3, 3), (2, 2) if "pad" in fields else (0, 0))
    assert np.array_equal(top, expected) and np.array_equal(mask, index)
    (diff,) = rig.backward(1, 0)
    assert np.array_equal(diff.ravel(), np.bincount(index.ravel(), minlength=16))


def test_global_pooling_follows_the_image():
    rig = Rig('type: "Pooling" pooling_param { pool: AVE global_pooling: true }', noise(2, 3, 4, 5))
    assert rig.forward()[0].shape == (2, 3, 1, 1)
    rig.bottom[0].reshape(1, 3, 7, 2)
    rig.bottom[0].data[...] = x = noise(1, 3, 7, 2, seed=1)
    np.testing.assert_allclose(rig.forward()[0], x.mean((2, 3), keepdims=True), rtol=1e-5)


def test_stochastic_has_no_cpu_version():
    rig = Rig('type: "Pooling" pooling_param { pool: STOCHASTIC kernel_size: 2 }', noise(1, 1, 3, 3))
    with pytest.raises(RuntimeError, match="Not Implemented Yet: STOCHASTIC"):
        rig.forward()


def stochastic(x, train, **fields):
    """STOCHASTIC pooling's arithmetic, which a layer runs on a GPU only, on the CPU."""
    text = "pool: STOCHASTIC " + " ".join(f"{name}: {value}" for name, value in fields.items())
    rig = Rig(f'type: "Pooling" pooling_param {{ {text} }}', x)
    assert isinstance(rig.layer, Pooling)
    return _Windows(rig.layer, x.shape[2:]).stochastic(torch.from_numpy(x), train).numpy()


def test_stochastic_in_testing_is_the_expected_value():
    x = np.abs(noise(2, 3, 5, 4))
    top = stochastic(x, False, kernel_size=3, stride=2)
    for i, j in np.ndindex(2, 2):
        window = x[:, :, 2 * i : 2 * i + 3, 2 * j : 2 * j + 3]
        np.testing.assert_allclose(top[:, :, i, j], (window**2).sum((2, 3)) / window.sum((2, 3)), rtol=1e-5)
    assert (stochastic(np.zeros((1, 1, 2, 2), np.float32), False, kernel_size=2) == 0).all()


def test_stochastic_in_training_draws_in_proportion():
    torch.manual_seed(0)
    x = np.tile(np.float32([[0, 1], [3, 4]]), (1, 1, 60, 60))
    drawn = stochastic(x, True, kernel_size=2, stride=2)
    assert set(np.unique(drawn)) == {1, 3, 4}
    for value in (1, 3, 4):
        assert abs((drawn == value).mean() - value / 8) < 0.03


IMAGE = (1, 2, 5, 5)


@pytest.mark.parametrize(
    ("fields", "shape", "message"),
    [
        (
            "kernel_size: 2 kernel_h: 2 kernel_w: 2",
            IMAGE,
            "Filter size is kernel_size OR kernel_h and kernel_w; not both",
        ),
        (
            "kernel_size: 2 kernel_h: 2",
            IMAGE,
            "Filter size is kernel_size OR kernel_h and kernel_w; not both",
        ),
        ("kernel_h: 2", IMAGE, "For non-square filters both kernel_h and kernel_w are required"),
        ("", IMAGE, "Filter size is kernel_size OR kernel_h and kernel_w"),
        ("kernel_size: 3 pad_h: 1", IMAGE, "pad is pad OR pad_h and pad_w are required."),
        ("kernel_size: 3 pad: 1 pad_h: 1 pad_w: 1", IMAGE, "pad is pad OR pad_h and pad_w are required."),
        ("kernel_size: 3 stride_w: 1", IMAGE, "Stride is stride OR stride_h and stride_w are required."),
        (
            "global_pooling: true kernel_size: 3",
            IMAGE,
            "With Global_pooling: true Filter size cannot specified",
        ),
        ("global_pooling: true stride: 2", IMAGE, "With Global_pooling: true; only pad = 0 and stride = 1"),
        ("global_pooling: true pad: 1", IMAGE, "With Global_pooling: true; only pad = 0 and stride = 1"),
        ("kernel_size: 0", IMAGE, "Filter dimensions cannot be zero."),
        ("kernel_size: 2 stride: 0", IMAGE, "stride must be at least 1"),
        ("kernel_size: 2 pad: 2", IMAGE, "pad must be less than kernel: pad 2x2, kernel 2x2"),
        (
            "pool: STOCHASTIC kernel_size: 2 pad: 1",
            IMAGE,
            "Padding implemented only for average and max pooling.",
        ),
        (
            "kernel_size: 2",
            (1, 5, 5),
            "Input must have 4 axes, corresponding to (num, channels, height, width)",
        ),
        ("kernel_size: 9", IMAGE, "bottom[0], 1x2x5x5, is too small for kernel 9x9"),
        ("kernel_size: 6 stride: 2 round_mode: FLOOR", IMAGE, "is too small for kernel 6x6"),
    ],
)
def test_refusals(fields, shape, message):
    refuses(message, f'type: "Pooling" pooling_param {{ {fields} }}', shape)


def test_how_many_tops():
    assert Rig('type: "Pooling" pooling_param { kernel_size: 1 }', np.zeros(IMAGE)).layer.max_tops == 2
    assert (
        Rig('type: "Pooling" pooling_param { pool: AVE kernel_size: 1 }', np.zeros(IMAGE)).layer.max_tops == 1
    )


def test_padding_is_never_a_maximum():
    x = -1 - np.abs(noise(1, 1, 3, 3))
    top = output('type: "Pooling" pooling_param { kernel_size: 2 stride: 2 pad: 1 }', x, phase=TEST)
    assert top.max() <= -1


@pytest.mark.parametrize("fields", ["kernel_size: 2 stride: 2", "kernel_size: 2 stride: 2 pad: 1"])
@pytest.mark.parametrize("phase", [TRAIN, TEST])
def test_the_maximum_of_nothing_but_minus_infinity(fields, phase):
    text = f'type: "Pooling" pooling_param {{ {fields} }}'
    x = np.full((1, 1, 4, 4), -np.inf)
    assert (output(text, x, phase=phase) == -FLT_MAX).all()
    top, mask = outputs(text, x, phase=phase, tops=2)
    assert (top == -FLT_MAX).all() and (mask == -1).all()


def test_a_nan_is_not_hidden():
    x = noise(1, 1, 4, 4)
    x[0, 0, 0, 1] = np.nan
    top = output('type: "Pooling" pooling_param { kernel_size: 2 stride: 2 }', x)
    assert np.isnan(top).ravel().tolist() == [True, False, False, False]
