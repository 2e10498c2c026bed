"""OwnSegDataLayer: images of any number of channels, one's own masks, and messages that lead to data/own/prepare.py."""

import caffe
import numpy as np
import pytest
from PIL import Image

import feed
import layers
import vis
from datakit import bands
from files import LITERALS, DataError

SIZE = (9, 12)
MEAN = (10, 20, 30)


def tree(root, photos, classes=3, suffix=".png", splits=("train", "val")):
    """Own data of these images (arrays or Pillow's); returns (root, labels)."""
    for name in ("images", "masks"):
        (root / name).mkdir(parents=True)
    random, labels = np.random.default_rng(3), []
    for i, photo in enumerate(photos):
        if suffix == ".npy":
            np.save(root / "images" / f"a{i}.npy", photo)
        else:
            image = photo if isinstance(photo, Image.Image) else Image.fromarray(photo)
            image.save(root / "images" / f"a{i}{suffix}")
        labels.append(random.integers(0, classes, SIZE).astype(np.uint8))
        labels[-1][0, 0] = 255
        vis.save_indexed(root / "masks" / f"a{i}.png", labels[-1], vis.make_palette(256))
    for split in splits:
        (root / f"{split}.txt").write_text("".join(f"a{i}\n" for i in range(len(photos))))
    (root / "classes.txt").write_text("".join(f"class{i}\n" for i in range(classes)))
    return root, labels


def net(root, tmp_path, **params):
    """A net of that layer alone, in file order."""
    given = {"own_dir": str(root), "split": "val", "mean": MEAN, "classes": 3, **params}
    path = tmp_path / "net.prototxt"
    n = caffe.NetSpec()
    n.data, n.label = caffe.layers.Python(
        module="layers", layer="OwnSegDataLayer", ntop=2, param_str=str(given)
    )
    path.write_text(str(n.to_proto()))
    return caffe.Net(str(path), caffe.TEST)


def fed(made):
    made.forward()
    return made.blobs["data"].data[0].copy(), made.blobs["label"].data[0, 0].copy()


def pictures(*shape, count=2):
    return [np.random.default_rng(i).integers(0, 256, (*SIZE, *shape)).astype(np.uint8) for i in range(count)]


def test_three_channels_are_blue_green_red_minus_the_mean(tmp_path):
    photos = pictures(3)
    root, labels = tree(tmp_path / "own", photos)
    made = net(root, tmp_path)
    for photo, label in zip(photos, labels, strict=True):
        data, truth = fed(made)
        np.testing.assert_array_equal(
            data, photo[:, :, ::-1].transpose(2, 0, 1) - np.array(MEAN)[:, None, None]
        )
        np.testing.assert_array_equal(truth, label)


def test_one_channel_is_grey_whatever_the_image_is(tmp_path):
    grey = pictures(count=1)[0]
    colour = pictures(3, count=2)[1]
    root, _ = tree(tmp_path / "own", [grey, colour])
    made = net(root, tmp_path, channels=1, mean=(100,))
    np.testing.assert_array_equal(fed(made)[0], grey[None] - 100.0)
    luma = colour @ np.array([0.299, 0.587, 0.114])
    np.testing.assert_allclose(fed(made)[0], luma[None] - 100, atol=0.6)


def test_four_bands_of_a_picture_are_blue_green_red_alpha(tmp_path):
    photo = pictures(4, count=1)[0]
    root, _ = tree(tmp_path / "own", [photo])
    data = fed(net(root, tmp_path, channels=4, mean=(1, 2, 3, 4)))[0]
    np.testing.assert_array_equal(data, photo[:, :, [2, 1, 0, 3]].transpose(2, 0, 1) - np.c_[1:5][:, :, None])


def test_two_bands_are_grey_and_alpha(tmp_path):
    photo = Image.fromarray(pictures(2, count=1)[0], "LA")
    root, _ = tree(tmp_path / "own", [photo])
    data = fed(net(root, tmp_path, channels=2, mean=(0, 0)))[0]
    np.testing.assert_array_equal(data, np.array(photo).transpose(2, 0, 1))


@pytest.mark.parametrize("kind", [np.uint8, np.uint16, np.int32, np.float32, np.float64, bool])
@pytest.mark.parametrize("channels", [1, 3, 5])
def test_arrays_are_taken_as_they_are_stored(kind, channels, tmp_path):
    values = (np.random.default_rng(0).random((*SIZE, channels)) * 200).astype(kind)
    root, _ = tree(tmp_path / "own", [values if channels > 1 else values[:, :, 0]], suffix=".npy")
    mean, scale = tuple(range(channels)), [0.5 + c for c in range(channels)]
    data = fed(net(root, tmp_path, channels=channels, mean=mean, scale=scale))[0]
    expected = (values.astype(np.float64) - mean) * scale
    np.testing.assert_allclose(data, expected.transpose(2, 0, 1), rtol=1e-6)
    data = fed(net(root, tmp_path, channels=channels, mean=mean, scale=2))[0]
    np.testing.assert_allclose(data, 2 * (values.astype(np.float64) - mean).transpose(2, 0, 1), rtol=1e-6)


@pytest.mark.parametrize("suffix", [".jpg", ".JPEG", ".bmp", ".tif", ".webp"])
def test_images_may_have_any_suffix(suffix, tmp_path):
    root, _ = tree(tmp_path / "own", pictures(3), suffix=suffix)
    assert fed(net(root, tmp_path))[0].shape == (3, *SIZE)


def message(*args, **params):
    with pytest.raises((DataError, getattr(caffe, "CaffeError", DataError))) as error:
        net(*args, **params).forward()
    return str(error.value)


def test_what_is_wrong_with_a_mask_leads_to_the_check(tmp_path):
    root, labels = tree(tmp_path / "own", pictures(3))
    look = f"prepare.py check --data {root}"

    def mask(values):
        Image.fromarray(values).save(root / "masks/a0.png")
        said = message(root, tmp_path)
        assert said.rstrip().endswith(look) and said.count(look) == 1, said
        return said

    assert "holds 255" not in mask((labels[0] > 1) * np.uint8(254)) and "a0.png" in mask(
        labels[0] + np.uint8(7)
    )
    assert "mode RGB" in mask(np.zeros((*SIZE, 3), np.uint8))
    assert "12 x 10" in mask(np.zeros((10, 12), np.uint8))
    (root / "masks/a0.png").unlink()
    said = message(root, tmp_path)
    assert "a0.png does not exist" in said and said.count(look) == 1
    (root / "images/a0.png").unlink()
    assert "images/a0.* does not exist" in message(root, tmp_path)


@pytest.mark.parametrize(
    ("params", "words"),
    [
        ({"channels": 4}, "mean has 3 numbers for 4 channels"),
        ({"channels": 1}, "mean has 3 numbers for 1 channels"),
        ({"scale": (1, 2)}, "scale has 2 numbers for 3 channels"),
        ({"scale": "1"}, "scale is '1'"),
        ({"classes": 255}, "classes is 255"),
        ({"classes": 1}, "classes is 1"),
        ({"channels": 4, "mean": (0, 0, 0, 0)}, "has 3 channels; the net sees 4"),
    ],
)
def test_parameters_that_do_not_fit_are_told(params, words, tmp_path):
    root, _ = tree(tmp_path / "own", pictures(3))
    assert words in message(root, tmp_path, **params)


def test_classes_have_no_default(tmp_path):
    with pytest.raises(DataError, match="lacks classes"):
        layers.OwnSegDataLayer.outside(str({"own_dir": "x", "split": "val", "mean": MEAN}))


@pytest.mark.parametrize(
    ("array", "words"),
    [
        (np.full((*SIZE, 3), np.nan), "not finite"),
        (np.zeros((3, *SIZE)), "store it as H x W x C"),
        (np.zeros(SIZE[0]), "of shape (9,)"),
        (np.zeros((*SIZE, 3), complex), "complex128"),
        (np.array([[{}]]), "no array that NumPy can read"),
    ],
)
def test_arrays_that_are_no_images_are_told(array, words, tmp_path):
    root, _ = tree(tmp_path / "own", [array], suffix=".npy")
    said = message(root, tmp_path)
    assert words in said and "a0.npy" in said


def test_a_missing_split_or_folder_leads_to_the_command(tmp_path):
    root, _ = tree(tmp_path / "own", pictures(3), splits=("train",))
    said = message(root, tmp_path)
    assert "val.txt does not exist" in said and f"prepare.py split --data {root}" in said
    assert "does not exist" in message(tmp_path / "none", tmp_path)


def test_names_are_those_of_the_model_directory_else_of_the_data(tmp_path, monkeypatch):
    root, _ = tree(tmp_path / "own", pictures(3))
    given = {"own_dir": str(root), "split": "val", "mean": MEAN, "classes": 3}
    layer = layers.OwnSegDataLayer.outside(str(given))
    monkeypatch.chdir(tmp_path)
    assert layer.class_names() == ["class0", "class1", "class2"]
    (tmp_path / "classes.txt").write_text("sky\nsea\nland\n")
    assert layer.class_names() == ["sky", "sea", "land"]
    (tmp_path / "classes.txt").write_text("sky\nsea\n")
    with pytest.raises(DataError, match="2 names for 3 classes"):
        layer.class_names()


def test_two_sets_of_ones_own_are_not_one(tmp_path):
    origins = set()
    for name in ("one", "two"):
        root, _ = tree(tmp_path / name, pictures(3))
        for split in ("train", "val"):
            given = {"own_dir": str(root), "split": split, "mean": MEAN, "classes": 3}
            layer = layers.OwnSegDataLayer.outside(str(given))
            layer.open()
            origins.add(layer.origin())
    assert len(origins) == 2  # ids that are in both sets are other photographs


def test_drawn_images_are_mirrored_with_their_masks(tmp_path):
    photos = pictures(3)
    root, labels = tree(tmp_path / "own", photos)
    made = net(root, tmp_path, split="train", mirror=True)
    flipped = set()
    for _ in range(12):
        data, truth = fed(made)
        for photo, label in zip(photos, labels, strict=True):
            plain = photo[:, :, ::-1].transpose(2, 0, 1) - np.array(MEAN)[:, None, None]
            for step in (1, -1):
                if np.array_equal(data, plain[:, :, ::step]):
                    np.testing.assert_array_equal(truth, label[:, ::step])
                    flipped.add(step)
    assert flipped == {1, -1}
    assert issubclass(layers.OwnSegDataLayer, feed.SegDataLayer)


def test_arrays_are_read_one_after_the_other(tmp_path, monkeypatch):
    """Python 3.11's parser, which reads a file's header, is now and then lost where two threads are in it."""
    np.save(tmp_path / "a.npy", np.zeros((2, 2), np.uint8))
    held, load = [], np.load
    monkeypatch.setattr(
        np, "load", lambda *args, **more: held.append(LITERALS.locked()) or load(*args, **more)
    )
    bands.load_array(tmp_path / "a.npy")
    assert held == [True] and not LITERALS.locked()
