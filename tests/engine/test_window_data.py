"""WindowData: windows warped as Caffe warps them, and drawn from two sets."""

import json

import numpy as np
import pytest
from caffe import common
from caffe.draws import Draws, draw_seed
from caffe.errors import CaffeError
from caffe.image_file import resize
from caffe.layer_types.window_data import read_windows
from image_tools import photo, png, write_mean
from layer_check import TRAIN, Rig, refuses


def write_windows(folder, images, windows):
    """0.png, 1.png, ... and a window file; ``windows[i]`` are those of image i; returns the file's path."""
    text = ""
    for number, (image, lines) in enumerate(zip(images, windows, strict=True)):
        (folder / f"{number}.png").write_bytes(png(image))
        height, width = image.shape[:2]
        text += f"# {number}\n{number}.png\n3\n{height}\n{width}\n{len(lines)}\n"
        text += "".join(" ".join(map(str, line)) + "\n" for line in lines)
    path = folder / "windows.txt"
    path.write_text(text)
    return path


def layer(source, more="batch_size: 4", transform="crop_size: 6"):
    return (
        f'type: "WindowData" window_data_param {{ source: "{source}" root_folder: "{source.parent}/" {more} }} '
        f"transform_param {{ {transform} }}"
    )


PICTURES = [photo(9, 8, 0), photo(7, 11, 1)]
WINDOWS = [
    [(3, 0.9, 0, 0, 5, 5), (2, 0.5, 1, 2, 6, 7), (9, 0.2, 2, 0, 7, 5)],
    [(1, 0.4, 0, 1, 5, 6), (7, 0.1, 4, 0, 9, 5), (5, 0.6, 5, 1, 10, 6)],
]


@pytest.fixture
def source(tmp_path):
    return write_windows(tmp_path, PICTURES, WINDOWS)


def cut(picture, x1, y1, x2, y2):
    return PICTURES[picture][y1 : y2 + 1, x1 : x2 + 1].transpose(2, 0, 1)


BACKGROUND = [cut(0, 2, 0, 7, 5), cut(1, 0, 1, 5, 6), cut(1, 4, 0, 9, 5)]
FOREGROUND = [(cut(0, 0, 0, 5, 5), 3), (cut(0, 1, 2, 6, 7), 2), (cut(1, 5, 1, 10, 6), 5)]


@pytest.mark.parametrize("cached", ["", "cache_images: true"])
def test_batches_are_background_then_foreground(source, cached):
    common.set_random_seed(5)
    text = layer(
        source, f"batch_size: 5 fg_fraction: 0.5 {cached}", "crop_size: 6 mirror: true mean_value: 2"
    )
    rig = Rig(text, tops=2, phase=TRAIN)
    assert [blob.shape for blob in rig.top] == [(5, 3, 6, 6), (5,)]
    after = draw_seed()
    common.set_random_seed(5)
    draw_seed()  # the transformer's, unused here
    draws = Draws(draw_seed())
    draw_seed()  # the transformer's again
    draw_seed()  # the thread's
    assert draw_seed() == after
    flipped = 0
    for _ in range(4):
        values, labels = rig.forward()
        for i in range(5):
            if i < 3:
                expected, label = BACKGROUND[draws.below(3)], 0
            else:
                expected, label = FOREGROUND[draws.below(3)]
            flip = draws.below(2)
            flipped += flip
            np.testing.assert_array_equal(values[i], expected[:, :, ::-1] - 2.0 if flip else expected - 2.0)
            assert labels[i] == label
    assert 0 < flipped < 20
    rig.backward(1, 1)


def test_thresholds_sort_the_windows(source):
    more = "batch_size: 12 fg_fraction: 1 fg_threshold: 0.55 bg_threshold: 0.15"
    assert set(Rig(layer(source, more), tops=2).forward()[1]) == {3, 5}
    more = "batch_size: 12 fg_fraction: 0 bg_threshold: 0.15"
    values, labels = Rig(layer(source, more), tops=2).forward()
    assert set(labels) == {0}
    assert all(np.array_equal(value, cut(1, 4, 0, 9, 5)) for value in values)


def test_scale_and_mean_file(source, tmp_path):
    mean = np.random.RandomState(0).rand(3, 9, 10).astype(np.float32)
    path = write_mean(tmp_path / "mean", mean)
    more = "batch_size: 1 fg_fraction: 1 fg_threshold: 0.85 scale: 0.5"
    (values, _) = Rig(layer(source, more, f'crop_size: 6 mean_file: "{path}"'), tops=2).forward()
    np.testing.assert_array_equal(values[0], (cut(0, 0, 0, 5, 5) - mean[:, 2:8, 2:8]) * np.float32(0.5))
    (values, _) = Rig(layer(source, more, "crop_size: 6 scale: 3"), tops=2).forward()  # not this scale
    np.testing.assert_array_equal(values[0], cut(0, 0, 0, 5, 5) * np.float32(0.5))


def test_windows_are_warped(source):
    more = "batch_size: 1 fg_fraction: 1 fg_threshold: 0.85"
    (values, _) = Rig(layer(source, more, "crop_size: 9"), tops=2).forward()
    np.testing.assert_array_equal(values[0], resize(PICTURES[0][:6, :6], 9, 9).transpose(2, 0, 1))


# Sums over what BVLC Caffe's steps give with OpenCV's own resize and flip: (seed of the image, its height
# and width, window, crop_size, context_pad, square, mirrored, mean 1.5 2 3), sum, sum weighted by position
CONTEXT = [
    (1, (29, 17), (1, 7, 6, 23), 12, 0, True, True, True, 40248.0, 8560153.0),
    (6, (16, 23), (0, 3, 14, 5), 13, 1, False, True, False, 58308.0, 14942146.0),
    (14, (7, 8), (4, 0, 5, 6), 8, 2, True, True, False, 5971.0, 590382.0),
    (15, (18, 16), (0, 14, 8, 16), 13, 1, True, True, True, 43698.0, 9592666.0),
    (17, (34, 6), (0, 3, 4, 24), 6, 2, True, False, False, 1067.0, 62679.0),
    (20, (8, 14), (9, 3, 9, 7), 14, 1, False, True, True, 75430.0, 20243579.0),
    (30, (12, 13), (0, 5, 5, 8), 15, 0, True, False, True, 81670.5, 27595549.0),
    (31, (15, 32), (3, 2, 19, 9), 9, 1, True, False, True, 20348.0, 2580111.5),
    (34, (20, 30), (3, 6, 8, 17), 11, 0, True, False, False, 47380.0, 8702456.0),
    (49, (23, 12), (1, 2, 9, 18), 9, 3, False, False, True, 6166.0, 794062.0),
    (69, (26, 11), (0, 5, 4, 8), 9, 0, True, True, False, 30624.0, 3635294.0),
    (72, (8, 21), (9, 4, 16, 4), 9, 3, False, False, False, 23374.0, 2910870.0),
]


@pytest.mark.parametrize("case", CONTEXT)
def test_context_and_squares(tmp_path, case):
    seed, size, window, crop, pad, square, mirrored, mean, total, weighted = case
    source = write_windows(tmp_path, [photo(*size, seed)], [[(1, 1, *window)]])
    more = f"batch_size: 1 fg_fraction: 1 context_pad: {pad} crop_mode: '{'square' if square else 'warp'}'"
    transform = f"crop_size: {crop} mirror: true " + (
        "mean_value: 1.5 mean_value: 2 mean_value: 3" if mean else ""
    )
    rig = Rig(layer(source, more, transform), tops=2)
    draws = Draws(json.loads(rig.layer.get_state())["seeds"]["windows"])
    while True:  # until one is drawn flipped as the case wants it
        (values, _) = rig.forward()
        draws.raw()
        if draws.below(2) == mirrored:
            break
    values = values[0].astype(float)
    assert values.sum() == total
    assert (values * np.arange(values.size).reshape(values.shape)).sum() == weighted


def test_state_is_the_position_and_the_seed(source):
    rig = Rig(layer(source, transform="crop_size: 6 mirror: true"), tops=2)
    for _ in range(3):
        rig.forward()
    state = rig.layer.get_state()
    expected = [rig.forward() for _ in range(2)]
    for other in (Rig(layer(source, transform="crop_size: 6 mirror: true"), tops=2), rig):
        other.layer.set_state(state)
        for wanted in expected:
            for ours, theirs in zip(other.forward(), wanted, strict=True):
                np.testing.assert_array_equal(ours, theirs)


# -- bad input -----------------------------------------------------------------------------------


def test_refusals(source, tmp_path):
    refuses("crop_size must be above 0", layer(source, transform=""), tops=2)
    refuses("Positive batch size required", layer(source, ""), tops=2)
    refuses("Unknown crop_mode: round", layer(source, "batch_size: 1 crop_mode: 'round'"), tops=2)
    refuses(
        "context_pad 3 on both sides leaves nothing", layer(source, "batch_size: 1 context_pad: 3"), tops=2
    )
    refuses("fg_fraction must be 0 to 1", layer(source, "batch_size: 1 fg_fraction: 1.5"), tops=2)
    refuses("there is none by fg_threshold 2", layer(source, "batch_size: 4 fg_threshold: 2"), tops=2)
    refuses("there is none by bg_threshold 0.01", layer(source, "batch_size: 4 bg_threshold: 0.01"), tops=2)
    refuses("Specify either 1 mean_value", layer(source, transform="crop_size: 6 mean_value: [1, 2]"), tops=2)
    mean = write_mean(tmp_path / "mean", np.zeros((3, 5, 9)))
    refuses("is of shape (3, 5, 9)", layer(source, transform=f'crop_size: 6 mean_file: "{mean}"'), tops=2)
    refuses("Failed to open window file", layer(tmp_path / "none"), tops=2)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "Window file is empty"),
        ("0 x.png", "line 1: '0' stands where # should"),
        ("# 99999999999", "line 1: '99999999999' stands where an image index should"),
        ("# x", "line 1: 'x' stands where an image index should"),
        ("# 0\nx.png\n1 4 4 0", "line 3: .*is said to have 1 channels"),
        ("# 0\nx.png\n3\n4\n4\n1\n1 0.5 0 0 3", "ends where y2 should stand"),
        ("# 0\nx.png\n3\n4\n4\n1\n1 half 0 0 3 3", "line 7: 'half' stands where an overlap should"),
        ("# 0\nx.png\n3\n4\n4\n0\n1 0.5 0 0 3 3", "line 7: '1' stands where # should"),
    ],
)
def test_malformed_files(tmp_path, text, words):
    path = tmp_path / "w.txt"
    path.write_text(text)
    with pytest.raises(CaffeError, match=r"w\.txt.*" + words if text else words):
        read_windows(str(path), "")


def test_windows_that_cannot_be(tmp_path):
    more = "batch_size: 1 fg_fraction: 1"
    source = write_windows(tmp_path, [photo(5, 5)], [[(0, 0.9, 0, 0, 1, 1)]])
    refuses("has class 0; it must be above 0", layer(source, more), tops=2)
    for window in ((0, 0, 5, 4), (-1, 0, 3, 3), (3, 3, 2, 4)):
        source = write_windows(tmp_path, [photo(5, 5)], [[(1, 0.9, *window)]])
        with pytest.raises(CaffeError, match="it does not lie in the image, 5 high and 5 wide"):
            Rig(layer(source, more), tops=2).forward()
    source = write_windows(tmp_path, [photo(5, 5)], [[(1, 0.9, 0, 0, 1, 1)]])
    for option in ("", "cache_images: true"):
        (tmp_path / "0.png").write_bytes(b"no image")
        with pytest.raises(CaffeError, match=r"layer 'probe'.*windows.txt: window .*Could not decode"):
            Rig(layer(source, more + " " + option), tops=2).forward()
        (tmp_path / "0.png").unlink()
        with pytest.raises(CaffeError, match="Could not open or find file"):
            Rig(layer(source, more + " " + option), tops=2).forward()
