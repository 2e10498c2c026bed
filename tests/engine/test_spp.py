"""SPP: pools of a pyramid, picked window by window."""

import numpy as np
import pytest
from layer_check import Rig, check_gradient, noise, output, refuses, spread

TEXT = 'type: "SPP" spp_param { pyramid_height: %d pool: %s }'


def pyramid(x, height, pool):
    """The pyramid of ``x`` (N, C, H, W), for sizes at which every level has 2^l x 2^l windows."""
    rows = []
    for bins in (2**level for level in range(height)):
        kernel = [-(-n // bins) for n in x.shape[2:]]
        pad = [(k * bins - n + 1) // 2 for k, n in zip(kernel, x.shape[2:], strict=True)]
        top = np.empty((*x.shape[:2], bins, bins))
        for i, j in np.ndindex(bins, bins):
            spans, area = [], 1
            for at, k, p, n in zip((i, j), kernel, pad, x.shape[2:], strict=True):
                start = at * k - p
                spans.append(slice(max(0, start), min(start + k, n)))
                area *= min(start + k, n + p) - start
            window = x[(slice(None), slice(None), *spans)]
            top[:, :, i, j] = window.max((2, 3)) if pool == "MAX" else window.sum((2, 3)) / area
        rows.append(top.reshape(len(x), -1))
    return np.concatenate(rows, 1)


@pytest.mark.parametrize("pool", ["MAX", "AVE"])
@pytest.mark.parametrize(
    ("height", "size"), [(2, (4, 4)), (3, (8, 4)), (3, (9, 7)), (2, (3, 6)), (3, (11, 6))]
)
def test_levels(pool, height, size):
    x = spread(2, 2, *size)
    rig = check_gradient(TEXT % (height, pool), x)
    assert rig.top[0].shape == (2, 2 * (4**height - 1) // 3)
    np.testing.assert_allclose(rig.top[0].data, pyramid(x, height, pool), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("pool", ["MAX", "AVE"])
def test_one_level_is_the_whole_image_and_keeps_four_axes(pool):
    x = spread(2, 3, 5, 4)
    rig = check_gradient(TEXT % (1, pool), x)
    expected = x.max((2, 3), keepdims=True) if pool == "MAX" else x.mean((2, 3), keepdims=True)
    np.testing.assert_allclose(rig.top[0].data, expected, rtol=1e-5, atol=1e-6)


def test_the_top_is_as_long_for_another_image():
    rig = Rig(TEXT % (3, "MAX"), noise(1, 2, 8, 8))
    assert rig.forward()[0].shape == (1, 42)
    rig.bottom[0].reshape(3, 2, 12, 7)
    rig.bottom[0].data[...] = x = spread(3, 2, 12, 7)
    np.testing.assert_allclose(rig.forward()[0], pyramid(x, 3, "MAX"))


def test_max_is_the_default():
    x = noise(1, 1, 4, 4)
    assert output('type: "SPP" spp_param { pyramid_height: 1 }', x).item() == x.max()


def test_refusals():
    refuses("pyramid_height must be at least 1", 'type: "SPP"', (1, 1, 4, 4))
    refuses("Input must have 4 axes", TEXT % (1, "MAX"), (1, 4, 4))
    refuses("Input dimensions cannot be zero.", TEXT % (2, "MAX"), (1, 1, 0, 4))
    refuses("pad must be less than kernel: pad 2x2, kernel 2x2", TEXT % (3, "MAX"), (1, 1, 5, 5))
    refuses("pad must be less than kernel", TEXT % (4_000_000_000, "MAX"), (1, 1, 64, 64))
    refuses("Padding implemented only for average and max pooling.", TEXT % (2, "STOCHASTIC"), (1, 1, 5, 5))


def test_stochastic_pooling_is_for_gpus():
    with pytest.raises(RuntimeError, match="STOCHASTIC pooling runs on a GPU only"):
        output(TEXT % (1, "STOCHASTIC"), noise(1, 1, 4, 4))
