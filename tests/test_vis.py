import numpy as np
import pytest
from PIL import Image

import vis
from files import DataError

VOC = {
    0: (0, 0, 0), 1: (128, 0, 0), 2: (0, 128, 0), 3: (128, 128, 0), 4: (0, 0, 128), 5: (128, 0, 128),
    6: (0, 128, 128), 7: (128, 128, 128), 8: (64, 0, 0), 9: (192, 0, 0), 10: (64, 128, 0), 11: (192, 128, 0),
    12: (64, 0, 128), 13: (192, 0, 128), 14: (64, 128, 128), 15: (192, 128, 128), 16: (0, 64, 0),
    17: (128, 64, 0), 18: (0, 192, 0), 19: (128, 192, 0), 20: (0, 64, 128), 255: (224, 224, 192),
}  # fmt: skip


def test_the_palette_is_vocs():
    palette = vis.make_palette(256)
    assert {i: tuple(map(int, palette[i])) for i in VOC} == VOC


def test_the_palette_goes_on_for_any_number_of_classes():
    palette = vis.make_palette(3000)
    assert len({tuple(color) for color in palette.tolist()}) == 3000
    assert (palette[:21] == vis.make_palette(21)).all()


def test_color_seg():
    colors = vis.color_seg(np.array([[0, 15], [255, 1]]), vis.make_palette(21))
    assert colors.tolist() == [[[0, 0, 0], [192, 128, 128]], [[224, 224, 192], [128, 0, 0]]]


@pytest.mark.parametrize("seg", [np.array([[256]]), np.array([[-1]]), np.zeros((1, 2, 3)), np.zeros((0, 3))])
def test_what_is_no_segmentation_is_refused(seg):
    with pytest.raises(ValueError, match="H x W with indices from 0 to 255"):
        vis.color_seg(seg, vis.make_palette(21))


def test_vis_seg_leaves_background_and_mixes_the_rest():
    image = np.full((9, 9, 3), 100, np.uint8)
    seg = np.zeros((9, 9), int)
    seg[2:7, 2:7] = 1
    mixed = vis.vis_seg(image, seg, vis.make_palette(21), alpha=0.5)
    assert (mixed[seg == 0] == 100).all()
    assert mixed[4, 4].tolist() == [114, 50, 50]
    assert mixed[2, 4].tolist() == [128, 0, 0]  # the outline is solid
    with pytest.raises(ValueError, match="not of one size"):
        vis.vis_seg(image[1:], seg, vis.make_palette(21))


def test_shares_are_sorted_and_sum_to_one():
    seg = np.array([[0, 0, 0, 5], [5, 255, 0, 0]])
    assert vis.shares(seg) == [(0, 5 / 8), (5, 2 / 8), (255, 1 / 8)]
    assert [vis.class_name(["bg", "cat"], i) for i in (1, 7, 255)] == ["cat", "class 7", "void"]
    assert [vis.percent(x) for x in (0.5, 0.0005, 0.0001)] == ["50.0%", "0.1%", "<0.1%"]


def test_indexed_files_hold_indices_and_the_palette(tmp_path):
    seg = np.array([[0, 20], [255, 7]])
    vis.save_indexed(tmp_path / "new" / "x.png", seg, vis.make_palette(21))
    image = Image.open(tmp_path / "new" / "x.png")
    assert image.mode == "P" and (np.array(image) == seg).all()
    palette = np.array(image.getpalette()).reshape(-1, 3)
    assert all(tuple(map(int, palette[i])) == VOC[i] for i in (0, 7, 20, 255))


def test_a_picture_is_whole_or_not_there(tmp_path, monkeypatch):
    path = tmp_path / "x.png"
    vis.save(path, np.zeros((2, 2, 3), np.uint8))
    before = path.read_bytes()

    def fails(self, file, *args, **kwargs):
        with open(file, "wb") as stream:
            stream.write(b"half")
        raise OSError("no space left")

    monkeypatch.setattr(Image.Image, "save", fails)
    with pytest.raises(DataError, match="no space left"):
        vis.save(path, np.ones((2, 2, 3), np.uint8))
    assert path.read_bytes() == before and [p.name for p in tmp_path.iterdir()] == ["x.png"]


@pytest.mark.parametrize("size", [(1, 1), (30, 400), (400, 30), (120, 160)])
def test_overlays_of_any_size_have_photo_and_legend(size):
    seg = np.zeros(size, int)
    seg[:, : max(1, size[1] // 2)] = 3
    image = vis.overlay(np.full((*size, 3), 90, np.uint8), seg, ["background", "a", "b", "bird"])
    assert image.width >= size[1] and image.height > size[0]
    pixels = np.array(image)
    x = (image.width - size[1]) // 2
    expected = vis.vis_seg(np.full((*size, 3), 90, np.uint8), seg, vis.make_palette(4))
    assert (pixels[: size[0], x : x + size[1]] == expected).all()
    assert (pixels[size[0] :] == (128, 128, 0)).all(-1).any()  # the bird's square in the legend


def test_a_contact_sheet_has_a_row_for_each_image(tmp_path):
    def row(height, width, truth, prediction):
        full = np.full((height, width), 1)
        return np.full((height, width, 3), 77, np.uint8), truth * full, prediction * full

    rows = [row(60, 80, 1, 2), row(80, 60, 3, 3), row(1, 1, 0, 4)]
    names = ["background", "one", "two", "three", "four"]
    sheet = np.array(vis.contact_sheet(rows, names, tmp_path / "sheet.png", cell=100))
    assert (np.array(Image.open(tmp_path / "sheet.png")) == sheet).all()
    one = np.array(vis.contact_sheet(rows[:1], names, cell=100))
    assert one.shape[1] == sheet.shape[1] and sheet.shape[0] > one.shape[0] + 100
    third = sheet.shape[1] // 3
    for column, color in ((0, (77, 77, 77)), (1, (128, 0, 0)), (2, (0, 128, 0))):
        part = one[:, column * third : (column + 1) * third]
        assert (part == color).all(-1).sum() >= 99 * 75
    for color in ((128, 128, 0), (0, 0, 128)):  # of the second and third row
        assert (sheet == color).all(-1).sum() > 5000
