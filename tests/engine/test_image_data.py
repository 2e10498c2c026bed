"""ImageData, and how image files are read: as OpenCV gives them."""

import io

import caffe
import numpy as np
import pytest
from caffe import common
from caffe.data_transformer import DataTransformer
from caffe.draws import Draws, draw_seed, shuffle
from caffe.errors import CaffeError
from caffe.image_file import decode_image, encode_image, read_image, resize
from caffe.layer_types.batches import read_list
from caffe.proto import caffe_pb2
from google.protobuf import text_format
from image_tools import photo, png, write_list
from layer_check import TRAIN, Rig, refuses
from PIL import Image


def images(source, more="", transform=""):
    return (
        f'type: "ImageData" image_data_param {{ source: "{source}" root_folder: "{source.parent}/" {more} }} '
        f"transform_param {{ {transform} }}"
    )


def labels(rig, batches):
    return [rig.forward()[1].astype(int).tolist() for _ in range(batches)]


@pytest.fixture
def pictures():
    return [photo(4, 5, seed) for seed in range(5)]


@pytest.fixture
def source(tmp_path, pictures):
    return write_list(tmp_path, pictures)


# -- what it gives -------------------------------------------------------------------------------


def test_round_and_round_in_the_order_of_the_list(source, pictures):
    rig = Rig(images(source, "batch_size: 3"), tops=2)
    assert [blob.shape for blob in rig.top] == [(3, 3, 4, 5), (3,)]
    for batch in ([0, 1, 2], [3, 4, 0], [1, 2, 3]):
        values, found = rig.forward()
        assert found.tolist() == batch
        np.testing.assert_array_equal(values, np.stack([pictures[i].transpose(2, 0, 1) for i in batch]))
    rig.backward(1, 1)


def test_gray_and_resized(source, pictures):
    (first, _) = Rig(images(source, "is_color: false"), tops=2).forward()
    assert first.shape == (1, 1, 4, 5)
    assert np.abs(first[0, 0] - pictures[0].astype(float) @ [0.114, 0.587, 0.299]).max() < 1
    (first, _) = Rig(images(source, "new_height: 8 new_width: 3"), tops=2).forward()
    np.testing.assert_array_equal(first[0], resize(pictures[0], 8, 3).transpose(2, 0, 1))


def test_a_list_with_negative_labels_blank_lines_and_spaces(tmp_path):
    (tmp_path / "a b.png").write_bytes(png(photo(2, 2)))
    path = tmp_path / "list"
    path.write_bytes(b"a b.png -3\r\n\r\na b.png +12  \n")
    assert read_list(str(path)) == [(1, "a b.png", -3), (3, "a b.png", 12)]
    assert labels(Rig(images(path), tops=2), 3) == [[-3], [12], [-3]]


def test_root_folder_needs_no_slash(source):
    text = images(source).replace(f"{source.parent}/", f"{source.parent}")
    assert labels(Rig(text.replace("list.txt", "/list.txt").replace("//", "/"), tops=2), 1) == [[0]]


def test_sizes_may_change_between_batches_not_within(tmp_path):
    source = write_list(tmp_path, [photo(2, 3), photo(5, 4)])
    rig = Rig(images(source), tops=2)
    assert [rig.forward()[0].shape for _ in range(3)] == [(1, 3, 2, 3), (1, 3, 5, 4), (1, 3, 2, 3)]
    with pytest.raises(
        CaffeError, match=r"line 2: .*1.png: it gives \(3, 5, 4\), the first of its batch gave"
    ):
        Rig(images(source, "batch_size: 2"), tops=2).forward()


def test_shuffled_and_transformed_with_seeds_drawn_in_caffes_order(source, pictures):
    transform = "crop_size: 3 mirror: true scale: 0.5 mean_value: 1 mean_value: 2 mean_value: 3"
    common.set_random_seed(24)
    rig = Rig(images(source, "batch_size: 3 shuffle: true rand_skip: 5", transform), tops=2, phase=TRAIN)
    after = draw_seed()
    common.set_random_seed(24)
    draw_seed()  # a first seed for the crops, unused
    order, draws, items = list(range(5)), Draws(draw_seed()), []
    for _ in range(5):
        shuffle(order, draws.raw)
        items += order
    skip = draw_seed() % 5
    assert skip  # or nothing is tested
    transformer = DataTransformer(text_format.Parse(transform, caffe_pb2.TransformationParameter()), TRAIN)
    transformer.init_rand()
    draw_seed()  # the thread's
    assert draw_seed() == after
    for batch in range(6):
        wanted = items[skip + 3 * batch :][:3]
        values, found = rig.forward()
        assert found.tolist() == wanted
        np.testing.assert_array_equal(
            values, np.stack([transformer.transform_image(pictures[number]) for number in wanted])
        )


def test_state_is_the_position_and_the_seeds(source):
    text = images(source, "batch_size: 3 shuffle: true rand_skip: 3", "crop_size: 2")
    rig = Rig(text, tops=2, phase=TRAIN)
    for _ in range(5):
        rig.forward()
    state = rig.layer.get_state()
    expected = [rig.forward() for _ in range(3)]
    for other in (Rig(text, tops=2, phase=TRAIN), rig):
        other.layer.set_state(state)
        for wanted in expected:
            for ours, theirs in zip(other.forward(), wanted, strict=True):
                np.testing.assert_array_equal(ours, theirs)


# -- image files ---------------------------------------------------------------------------------


def saved(image, kind, **options):
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def test_channels_are_b_g_r(tmp_path):
    image = Image.fromarray(np.array([[[1, 2, 3]]], np.uint8))  # red 1, green 2, blue 3
    assert decode_image(saved(image, "PNG"), True).tolist() == [[[3, 2, 1]]]
    (tmp_path / "x.bmp").write_bytes(saved(image, "BMP"))
    assert read_image(tmp_path / "x.bmp").tolist() == [[[3, 2, 1]]]


@pytest.mark.parametrize(
    ("mode", "native"), [("RGB", 3), ("L", 1), ("1", 1), ("P", 3), ("RGBA", 4), ("LA", 4), ("I;16", None)]
)
def test_every_kind_of_png(mode, native):
    gray = np.array([[0, 255], [255, 0]], np.uint8)
    if mode == "I;16":
        image = Image.fromarray(gray.astype(np.uint16) * 257)
    else:
        image = Image.fromarray(gray).convert("RGB" if mode == "P" else mode).convert(mode)
    data = saved(image, "PNG")
    assert decode_image(data, True).tolist() == gray[:, :, np.newaxis].repeat(3, 2).tolist()
    assert decode_image(data, False).tolist() == gray[:, :, np.newaxis].tolist()
    if native is None:
        with pytest.raises(CaffeError, match="Image data type must be unsigned byte; it has 16 bits"):
            decode_image(data)
    else:
        assert decode_image(data).shape == (2, 2, native)
        assert np.array_equal(decode_image(data)[:, :, 0], gray)


def test_the_gray_of_a_jpeg_is_its_luma():
    image = Image.fromarray(photo(16, 16) // 4 + 96)  # no color is clipped
    data = saved(image, "JPEG", quality=90)
    luma = decode_image(data, True).astype(float) @ [0.114, 0.587, 0.299]
    stored = decode_image(data, False)[:, :, 0]
    assert np.abs(stored - luma).max() < 1.5 and stored.std() > 1
    assert decode_image(saved(image.convert("L"), "JPEG")).shape == (16, 16, 1)
    assert decode_image(saved(image.convert("CMYK"), "JPEG")).shape == (16, 16, 3)


def test_encoding():
    image = photo(8, 9)
    for kind in ("png", ".PNG", "bmp"):
        assert np.array_equal(decode_image(encode_image(image, kind)), image)
        assert np.array_equal(decode_image(encode_image(image[:, :, :1], kind)), image[:, :, :1])
    smooth = np.broadcast_to(np.arange(9, dtype=np.uint8)[:, None] * 20, (8, 9, 1))
    assert np.abs(decode_image(encode_image(smooth, "jpg")).astype(int) - smooth).max() < 4
    for kind in ("xyz", "", "txt"):
        with pytest.raises(CaffeError, match="cannot encode an image as"):
            encode_image(image, kind)


# what OpenCV 4.8 and 5.0 (cv2.resize, its default interpolation) make of photo(5, 4)[:, :, :1]
OPENCV = {
    (3, 7): [
        [127, 153, 195, 174, 149, 152, 154],
        [88, 66, 29, 17, 23, 137, 208],
        [179, 184, 192, 175, 156, 149, 144],
    ],
    (2, 2): [[140, 87], [209, 133]],
    (10, 4): [
        [172, 192, 195, 211],
        [138, 198, 161, 168],
        [70, 210, 92, 82],
        [49, 168, 46, 81],
        [75, 73, 21, 166],
        [130, 67, 61, 163],
        [213, 150, 164, 74],
        [226, 192, 194, 72],
        [170, 193, 149, 159],
        [142, 193, 127, 202],
    ],
}


@pytest.mark.parametrize("size", OPENCV)
def test_resizing_is_opencvs(size):
    assert resize(photo(5, 4)[:, :, :1], *size)[:, :, 0].tolist() == OPENCV[size]


def test_resizing_edges():
    image = photo(5, 4)
    assert np.array_equal(resize(image, 5, 4), image)
    assert (resize(image[:1, :1], 7, 3) == image[0, 0]).all()
    assert resize(image, 1, 1).shape == (1, 1, 3)
    for channel in range(3):
        assert np.array_equal(
            resize(image, 9, 2)[:, :, channel], resize(image[:, :, channel : channel + 1], 9, 2)[:, :, 0]
        )
    flat = np.full((6, 6, 3), 77, np.uint8)
    assert (resize(flat, 17, 5) == 77).all()


# -- bad input -----------------------------------------------------------------------------------


def test_refusals(tmp_path, source):
    refuses("Failed to open image list", images(tmp_path / "none"), tops=2)
    refuses("needs a source", 'type: "ImageData"', tops=2)
    refuses("Failed to open image list", 'type: "ImageData" image_data_param { source: "a\\000b" }', tops=2)
    refuses("new_height and new_width to be set at the same time", images(source, "new_height: 3"), tops=2)
    refuses("Positive batch size required", images(source, "batch_size: 0"), tops=2)
    refuses("crop_size 9 does not fit", images(source, "", "crop_size: 9"), tops=2)
    empty = tmp_path / "empty"
    empty.write_text("\n \n")
    refuses("File is empty", images(empty), tops=2)
    common.set_random_seed(2)
    refuses("Not enough points to skip: rand_skip drew", images(source, "rand_skip: 1000000"), tops=2)


@pytest.mark.parametrize(
    "line", ["0.png", "0.png x", "7", "0.png 1.5", "0.png 99999999999", "0.png\t1", " 3"]
)
def test_missing_labels(source, line):
    source.write_text(f"0.png 1\n{line}\n")
    refuses("list.txt, line 2: ", images(source), tops=2)
    refuses("has no label", images(source), tops=2)


def test_images_that_cannot_be_read(tmp_path, source, pictures):
    whole = png(photo(40, 40))
    for data in (b"", b"no image", whole[:500], whole[:40]):
        (tmp_path / "0.png").write_bytes(data)
        refuses("line 1: Could not load 0.png: Could not decode", images(source), tops=2)
    (tmp_path / "0.png").unlink()
    refuses("Could not open or find file", images(source), tops=2)
    (tmp_path / "0.png").write_bytes(png(pictures[0]))
    (tmp_path / "3.png").unlink()
    rig = Rig(images(source, "batch_size: 2"), tops=2)
    rig.forward()
    with pytest.raises(CaffeError, match=r"layer 'probe' \(ImageData\): .*line 4: Could not load 3.png"):
        rig.forward()


def test_the_net_counts_its_tops(source, make_net):
    with pytest.raises(CaffeError, match="produces 2 top blob"):
        make_net(f'layer {{ name: "in" top: "x" {images(source)} }}', caffe.TEST)
