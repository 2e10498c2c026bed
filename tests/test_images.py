import numpy as np
import pytest
from PIL import Image

import images
import vis
from files import DataError
from images import check_label, load_image, load_label

RGB = np.array([[[200, 30, 10], [0, 255, 0]], [[1, 2, 3], [90, 91, 92]]], np.uint8)


def test_colour_is_read_as_it_is(tmp_path):
    Image.fromarray(RGB).save(tmp_path / "a.png")
    assert (load_image(tmp_path / "a.png") == RGB).all()


def test_grey_palette_and_one_bit_become_rgb(tmp_path):
    grey = np.array([[0, 128, 255]], np.uint8)
    Image.fromarray(grey).save(tmp_path / "l.png")
    Image.fromarray(grey).convert("1", dither=Image.Dither.NONE).save(tmp_path / "1.png")
    vis.save_indexed(tmp_path / "p.png", np.array([[0, 1, 15]]), vis.make_palette(21))
    assert load_image(tmp_path / "l.png").tolist() == [[[0] * 3, [128] * 3, [255] * 3]]
    assert load_image(tmp_path / "1.png").tolist() == [[[0] * 3, [255] * 3, [255] * 3]]
    assert load_image(tmp_path / "p.png").tolist() == [[[0, 0, 0], [128, 0, 0], [192, 128, 128]]]


@pytest.mark.parametrize("mode", ["RGBA", "LA"])
def test_transparency_is_laid_over_white(tmp_path, mode):
    pixels = np.array([[[100, 100, 100, 255], [100, 100, 100, 0]]], np.uint8)
    Image.fromarray(pixels).convert(mode).save(tmp_path / "t.png")
    assert load_image(tmp_path / "t.png").tolist() == [[[100] * 3, [255] * 3]]


def test_a_palette_with_a_transparent_colour_is_laid_over_white(tmp_path):
    image = Image.fromarray(np.array([[0, 1]], np.uint8))
    image.putpalette([10, 20, 30, 40, 50, 60])
    image.save(tmp_path / "t.png", transparency=1)
    assert load_image(tmp_path / "t.png").tolist() == [[[10, 20, 30], [255] * 3]]


def test_sixteen_bit_grey_is_scaled(tmp_path):
    Image.fromarray(np.array([[0, 257, 32896, 65535]], np.uint16)).save(tmp_path / "g.png")
    assert load_image(tmp_path / "g.png")[0, :, 0].tolist() == [0, 1, 128, 255]


def test_cmyk_becomes_rgb(tmp_path):
    red = np.zeros((8, 8, 4), np.uint8)
    red[..., 1:3] = 255
    Image.fromarray(red, "CMYK").save(tmp_path / "c.jpg", quality=100)
    assert np.abs(load_image(tmp_path / "c.jpg").astype(int) - (255, 0, 0)).max() < 6


def test_exif_rotation_is_applied(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was turned: rotate 90 degrees clockwise to view
    Image.fromarray(RGB).save(tmp_path / "e.png", exif=exif)
    assert (load_image(tmp_path / "e.png") == np.rot90(RGB, -1)).all()


def test_one_pixel(tmp_path):
    Image.fromarray(RGB[:1, :1]).save(tmp_path / "1.png")
    assert load_image(tmp_path / "1.png").tolist() == [[[200, 30, 10]]]


def test_float_images_have_no_range(tmp_path):
    Image.fromarray(np.array([[0.5]], np.float32)).save(tmp_path / "f.tif")
    with pytest.raises(DataError, match=r"f\.tif has 32-bit values .* 8 or 16 bits"):
        load_image(tmp_path / "f.tif")


def damaged(tmp_path, kind):
    path = tmp_path / f"{kind}.jpg"
    if kind == "truncated":
        Image.fromarray(np.random.default_rng(0).integers(0, 255, (64, 64, 3), dtype=np.uint8)).save(path)
        path.write_bytes(path.read_bytes()[:1500])
    elif kind == "empty":
        path.touch()
    elif kind == "text":
        path.write_text("this is no photograph")
    elif kind == "folder":
        path.mkdir()
    return path


@pytest.mark.parametrize(
    "kind, said",
    [
        ("truncated", "damaged"),
        ("empty", "is empty"),
        ("text", "not an image"),
        ("folder", "is a folder"),
        ("missing", "does not exist"),
    ],
)
def test_what_cannot_be_read_is_one_error_that_names_the_file(tmp_path, kind, said):
    path = damaged(tmp_path, kind)
    for read in (load_image, load_label):
        with pytest.raises(DataError, match=said) as error:
            read(path)
        assert str(path) in str(error.value) and "\n" not in str(error.value)


def test_a_bomb_is_refused(tmp_path, monkeypatch):
    Image.fromarray(RGB).save(tmp_path / "b.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1)
    with pytest.raises(DataError, match="too large"):
        load_image(tmp_path / "b.png")


@pytest.mark.parametrize("mode", ["P", "L"])
def test_labels_are_indices(tmp_path, mode):
    indices = np.array([[0, 3], [255, 20]], np.uint8)
    image = Image.fromarray(indices)
    if mode == "P":
        image.putpalette(bytes(range(256)) * 3)
    image.save(tmp_path / "m.png")
    assert (load_label(tmp_path / "m.png") == indices).all()


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "LA", "I;16"])
def test_other_masks_are_refused_with_the_fix(tmp_path, mode):
    Image.new(mode, (3, 2)).save(tmp_path / "m.png")
    with pytest.raises(DataError, match=r"m\.png has mode .*vis\.save_indexed"):
        load_label(tmp_path / "m.png")


def test_check_label_names_file_value_count_and_range():
    label = np.zeros((4, 5), np.uint8)
    label[0, :3] = 255
    check_label(label, 21, "good.png")
    label[1, :4] = 37
    with pytest.raises(
        DataError, match=r"bad\.png holds 37 \(4 pixels\); valid are 0 to 20, and 255.*at least 38"
    ):
        check_label(label, 21, "bad.png")


def test_check_label_guesses_the_cause():
    with pytest.raises(DataError, match="subtract 1; else train with classes=22"):
        check_label(np.array([[21]], np.uint8), 21, "x")
    with pytest.raises(DataError, match="JPEG or resized"):
        check_label(np.arange(100, dtype=np.uint8), 21, "x")
    with pytest.raises(DataError, match=r"holds 2 \(1 pixels\), 3 \(1 pixels\).* and 2 more values"):
        check_label(np.arange(9, dtype=np.uint8), 2, "x")


def test_find_lists_folders_in_order_of_name_and_keeps_what_is_wrong(tmp_path):
    for name in ("b.JPG", "a.png", "notes.txt", ".hidden.png"):
        (tmp_path / name).touch()
    (tmp_path / "sub").mkdir()
    found = images.find([str(tmp_path), tmp_path / "sub", "nowhere.jpg"])
    assert found == [str(tmp_path / "a.png"), str(tmp_path / "b.JPG"), str(tmp_path / "sub"), "nowhere.jpg"]
