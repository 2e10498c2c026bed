"""caffe.Detector."""

import sys
import types

import caffe
import numpy as np
import pytest
from image_net import CLASSES, MEAN, SETTINGS, SIDE, probabilities, write_files, write_image


@pytest.fixture
def files(tmp_path):
    return write_files(tmp_path)


WINDOWS = [[2, 3, 15, 20], [0, 0, 20, 31], [10, 20, 20, 31], [5, 5, 6, 25]]


def test_windows_are_warped_to_the_input(files, tmp_path):
    detector = caffe.Detector(*files, **SETTINGS)
    images = {
        name: write_image(tmp_path / name, 20, 31, seed) for seed, name in enumerate("ab.png cd.png".split())
    }
    asked = [(str(tmp_path / name), WINDOWS) for name in images]
    found = detector.detect_windows(asked)
    assert [(entry["filename"], entry["window"]) for entry in found] == [
        (name, window) for name, windows in asked for window in windows
    ]
    crops = [image[y0:y1, x0:x1] for image in images.values() for y0, x0, y1, x1 in WINDOWS]
    expected = probabilities(detector, [caffe.io.resize_image(crop, (SIDE, SIDE)) for crop in crops])
    assert np.allclose([entry["prediction"] for entry in found], expected, atol=1e-5)
    assert detector.detect_windows([]) == []


def test_context_lies_around_the_window_and_the_mean_beyond_the_image(files):
    """Input 8, 2 pixels of context: a window of 4 grows to 8, which maps one to one but for Caffe's last pixel."""
    detector = caffe.Detector(*files, **SETTINGS, context_pad=2)
    mean = (MEAN[::-1] / 255).astype(np.float32)  # in the image's order and range
    assert list(detector.crop_dims) == [SIDE, SIDE, 3] and np.allclose(detector.crop_mean, mean)
    image = np.random.RandomState(0).rand(20, 31, 3).astype(np.float32)
    # Caffe counts both ends: rows 6..9 are a window of 4, with context rows 4..12 of which it takes 4..11
    crop = detector.crop(image, (6, 6, 9, 9))
    assert crop.shape == (SIDE, SIDE, 3) and crop.dtype == np.float32
    assert np.allclose(crop, caffe.io.resize_image(image[4:12, 4:12], (8, 8)), atol=1e-6)
    corner = detector.crop(image, (0, 0, 3, 3))
    assert np.allclose(corner[:2], mean) and np.allclose(corner[:, :2], mean)
    assert np.allclose(corner[2:, 2:], caffe.io.resize_image(image[:6, :6], (6, 6)), atol=1e-6)


@pytest.mark.parametrize("window", [*WINDOWS, [0, 0, 1, 1], [19, 30, 20, 31], [-5, -5, 40, 50]])
@pytest.mark.parametrize("context_pad", [1, 3])
def test_every_window_fills_the_input(files, window, context_pad):
    detector = caffe.Detector(*files, context_pad=context_pad)
    assert not detector.crop_mean.any()
    crop = detector.crop(np.ones((20, 31, 3), np.float32), np.array(window))
    assert crop.shape == (SIDE, SIDE, 3) and np.isin(crop, [0, 1]).all() and crop.any()


def test_context_can_be_changed_later(files):
    detector = caffe.Detector(*files, context_pad=2)
    image = np.zeros((20, 31, 3), np.float32)
    detector.configure_crop(0)
    assert detector.crop(image, (2, 3, 15, 20)).shape == (13, 17, 3)


@pytest.mark.parametrize("pad", [4, 100, -1])
def test_context_that_leaves_no_window_is_refused(files, pad):
    with pytest.raises(caffe.CaffeError, match=f"context_pad {pad} leaves nothing"):
        caffe.Detector(*files, context_pad=pad)


@pytest.mark.parametrize("window", [[5, 5, 5, 9], [9, 5, 5, 9], [25, 5, 30, 9], [-9, -9, 0, 5]])
def test_windows_without_pixels_are_refused(files, window):
    with pytest.raises(ValueError, match=r"no pixels in window .* of an image of 20×31"):
        caffe.Detector(*files).crop(np.zeros((20, 31, 3)), window)


def test_selective_search_is_somebody_elses_module(files, tmp_path, monkeypatch):
    detector = caffe.Detector(*files, **SETTINGS)
    with pytest.raises(ImportError, match="detect_windows"):
        detector.detect_selective_search(["a.png"])
    write_image(tmp_path / "a.png", 20, 31)
    module = types.ModuleType("selective_search_ijcv_with_python")
    module.get_windows = lambda names, cmd: [WINDOWS for _ in names]
    monkeypatch.setitem(sys.modules, module.__name__, module)
    found = detector.detect_selective_search([str(tmp_path / "a.png")])
    assert [entry["window"] for entry in found] == WINDOWS and found[0]["prediction"].shape == (CLASSES,)
