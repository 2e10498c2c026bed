"""LRN against loops over the definition."""

import numpy as np
import pytest
from layer_check import check_gradient, noise, output, refuses


def across(x, size, alpha, beta, k):
    top = np.empty_like(x)
    for c in range(x.shape[1]):
        near = x[:, max(0, c - size // 2) : c + size // 2 + 1]
        top[:, c] = x[:, c] * (k + alpha / size * (near**2).sum(1)) ** -beta
    return top


def within(x, size, alpha, beta):
    top = np.empty_like(x)
    half = size // 2
    for i, j in np.ndindex(x.shape[2:]):
        near = x[:, :, max(0, i - half) : i + half + 1, max(0, j - half) : j + half + 1]
        top[:, :, i, j] = x[:, :, i, j] * (1 + alpha / size**2 * (near**2).sum((2, 3))) ** -beta
    return top


@pytest.mark.parametrize(("size", "alpha", "beta", "k"), [(5, 1, 0.75, 1), (3, 0.3, 0.5, 2), (7, 2, 1.5, 1)])
def test_values_and_gradients(size, alpha, beta, k):
    x = noise(2, 6, 4, 3)
    text = f'type: "LRN" lrn_param {{ local_size: {size} alpha: {alpha} beta: {beta} k: {k} %s }}'
    np.testing.assert_allclose(output(text % "", x), across(x, size, alpha, beta, k), rtol=1e-5, atol=1e-6)
    check_gradient(text % "", x)
    region = "norm_region: WITHIN_CHANNEL"
    np.testing.assert_allclose(output(text % region, x), within(x, size, alpha, beta), rtol=1e-5, atol=1e-6)
    check_gradient(text % region, x)


def test_defaults():
    x = noise(1, 7, 2, 2)
    np.testing.assert_allclose(output('type: "LRN"', x), across(x, 5, 1, 0.75, 1), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("region", ["ACROSS_CHANNELS", "WITHIN_CHANNEL"])
def test_the_constants_of_caffenet(region):
    x = 100 * noise(1, 8, 3, 3)
    text = f'type: "LRN" lrn_param {{ local_size: 5 alpha: 0.0001 beta: 0.75 norm_region: {region} }}'
    expected = across(x, 5, 1e-4, 0.75, 1) if region == "ACROSS_CHANNELS" else within(x, 5, 1e-4, 0.75)
    np.testing.assert_allclose(output(text, x), expected, rtol=1e-5)


def test_refusals():
    refuses(
        "LRN only supports odd values for local_size, got 4",
        'type: "LRN" lrn_param { local_size: 4 }',
        (1, 3, 2, 2),
    )
    refuses("Input must have 4 axes", 'type: "LRN"', (1, 3, 2))
