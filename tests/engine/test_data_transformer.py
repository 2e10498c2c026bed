"""DataTransformer, the random numbers beneath it, and Datums.

The numbers marked "original" were printed by BVLC Caffe's own DataTransformer, Boost 1.74 and glibc.
"""

import numpy as np
import pytest
from caffe import common
from caffe.data_transformer import DataTransformer, read_mean
from caffe.datum import datum_planes, make_datum, parse_datum
from caffe.draws import CRand, Draws, c_shuffle, draw_seed, shuffle
from caffe.errors import CaffeError
from caffe.proto import caffe_pb2
from google.protobuf import text_format
from image_tools import photo, png, write_mean

TRAIN, TEST = caffe_pb2.TRAIN, caffe_pb2.TEST
DATUM = make_datum((6 * np.arange(40)).astype(np.uint8).reshape(2, 4, 5), label=7)


def transformer(text, phase=TEST, seed=None):
    made = DataTransformer(text_format.Parse(text, caffe_pb2.TransformationParameter()), phase)
    if seed is not None:
        common.set_random_seed(seed)
        made.init_rand()
    return made


# -- against the original ------------------------------------------------------------------------

ALL = "crop_size: 2 mirror: true scale: 0.25 mean_value: 10 mean_value: 100.5"
ORIGINAL = {
    TRAIN: [
        [18.5, 17, 26, 24.5, 25.875, 24.375, 33.375, 31.875],
        [9.5, 8, 17, 15.5, 16.875, 15.375, 24.375, 22.875],
        [17, 18.5, 24.5, 26, 24.375, 25.875, 31.875, 33.375],
        [12.5, 14, 20, 21.5, 19.875, 21.375, 27.375, 28.875],
    ],
    TEST: [[8, 6.5, 15.5, 14, 15.375, 13.875, 22.875, 21.375]] * 4,
}
ORIGINAL_BLOB = {
    TRAIN: "0.5 0.75 1.75 2 -17.125 -16.875 -15.875 -15.625 10.5 10.75 11.75 12 -7.125 -6.875 -5.875 -5.625",
    TEST: "-1 -0.75 0.25 0.5 -18.625 -18.375 -17.375 -17.125 9 9.25 10.25 10.5 -8.625 -8.375 -7.375 -7.125",
}


@pytest.mark.parametrize("phase", [TRAIN, TEST])
def test_crops_and_flips_are_the_originals(phase):
    made = transformer(ALL, phase, seed=3)
    assert draw_seed() == 303761048  # one draw of the thread's generator, no more
    for expected in ORIGINAL[phase]:
        assert made.transform_datum(DATUM).ravel().tolist() == expected
    images = np.arange(80, dtype=np.float32).reshape(2, 2, 4, 5)
    kept = images.copy()
    expected = [float(word) for word in ORIGINAL_BLOB[phase].split()]
    assert made.transform_blob(images).ravel().tolist() == expected
    assert np.array_equal(images, kept)  # the original subtracts the mean from its input


def test_seek_goes_to_any_image():
    made = transformer(ALL, TRAIN, seed=3)
    for image in (2, 0, 3, 1):
        made.seek(image)
        assert made.transform_datum(DATUM).ravel().tolist() == ORIGINAL[TRAIN][image]


@pytest.mark.parametrize(
    ("text", "phase", "draws"),
    [
        ("crop_size: 2", TRAIN, True),
        ("crop_size: 2", TEST, False),
        ("mirror: true", TEST, True),
        ("", TRAIN, False),
    ],
)
def test_a_seed_is_drawn_only_for_what_is_random(text, phase, draws):
    common.set_random_seed(9)
    first, second = draw_seed(), draw_seed()
    made = transformer(text, phase, seed=9)
    assert draw_seed() == (second if draws else first)
    assert (made.draws is not None) == draws
    made.transform_datum(DATUM)


def test_boosts_shuffle():  # original
    draws, items = Draws(7), list(range(10))
    shuffle(items, draws.raw)
    assert items == [9, 3, 1, 5, 4, 7, 8, 6, 2, 0]
    shuffle(items, draws.raw)
    assert items == [8, 6, 2, 3, 7, 9, 0, 1, 4, 5]
    assert draws.raw() == 2146978983
    none = []
    shuffle(none, draws.raw)
    assert none == []


def test_the_c_library(monkeypatch):  # original: six numbers, then a shuffle
    rand, items = CRand(), list(range(10))
    numbers = [1804289383, 846930886, 1681692777, 1714636915, 1957747793, 424238335]
    assert [rand() for _ in numbers] == numbers
    c_shuffle(items, rand)
    assert items == [2, 4, 7, 9, 3, 6, 1, 8, 5, 0]


def test_draws_can_be_taken_up_anywhere(monkeypatch):
    monkeypatch.setattr("caffe.draws._CHUNK", 64)
    draws = Draws(5)
    numbers = [draws.raw() for _ in range(300)]
    assert numbers == np.random.RandomState(5).randint(0, 2**32, size=300, dtype=np.uint32).tolist()
    for place in (250, 3, 299, 0):
        draws.seek(place)
        assert draws.below(1000) == numbers[place] % 1000


# -- by formula ----------------------------------------------------------------------------------


def test_nothing_asked_for():
    assert np.array_equal(transformer("").transform_datum(DATUM), datum_planes(DATUM))
    assert transformer("").transform_datum(DATUM).dtype == np.float32
    assert transformer("crop_size: 3").infer_shape(datum_planes(DATUM)) == (1, 2, 3, 3)
    assert transformer("").infer_shape(datum_planes(DATUM)) == (1, 2, 4, 5)


def test_one_mean_value_is_for_all_channels():
    result = transformer("mean_value: 3 scale: 2").transform_datum(DATUM)
    np.testing.assert_array_equal(result, (datum_planes(DATUM).astype(np.float32) - 3) * 2)


def test_mean_file_is_cropped_with_the_image(tmp_path):
    values = np.random.RandomState(0).rand(2, 4, 5).astype(np.float32)
    text = f'mean_file: "{write_mean(tmp_path / "mean", values)}" crop_size: 3 scale: 0.5'
    image = datum_planes(DATUM).astype(np.float32)
    np.testing.assert_array_equal(transformer(text).transform_datum(DATUM), (image - values)[:, 0:3, 1:4] / 2)
    made = transformer(text + " mirror: true", TRAIN, seed=4)
    same = transformer(text + " mirror: true", TRAIN, seed=4)
    for _ in range(10):
        flip, row, column = same.draws.below(2), same.draws.below(2), same.draws.below(3)
        expected = (image - values)[:, row : row + 3, column : column + 3] / 2
        result = made.transform_datum(DATUM)
        np.testing.assert_array_equal(result, expected[:, :, ::-1] if flip else expected)


def test_images_and_floats():
    image = photo(4, 5)
    np.testing.assert_array_equal(transformer("").transform_image(image), image.transpose(2, 0, 1))
    floats = make_datum(np.linspace(-1, 1, 8).reshape(2, 2, 2))
    np.testing.assert_array_equal(
        transformer("scale: 3").transform_datum(floats).ravel(),
        np.linspace(-1, 1, 8).astype(np.float32) * np.float32(3),
    )


def test_encoded_datums():
    image = photo(4, 5)
    datum = caffe_pb2.Datum(encoded=True, data=png(image))
    np.testing.assert_array_equal(transformer("").planes(datum), image.transpose(2, 0, 1))
    gray = caffe_pb2.Datum(encoded=True, data=png(image[:, :, :1]))
    assert transformer("").planes(gray).shape == (1, 4, 5)
    np.testing.assert_array_equal(
        transformer("force_color: true").planes(gray), image[:, :, [0] * 3].transpose(2, 0, 1)
    )
    expected = image.astype(float) @ [0.114, 0.587, 0.299]
    assert np.abs(transformer("force_gray: true").planes(datum)[0] - expected).max() < 1
    assert transformer("force_color: true force_gray: true").planes(DATUM).shape == (2, 4, 5)


# -- bad input -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("crop_size: 5", "crop_size 5 does not fit into the image, 4 high and 5 wide"),
        (
            "mean_value: 1 mean_value: 2 mean_value: 3",
            "Specify either 1 mean_value or as many as channels: 2; 3 are",
        ),
        ("mirror: true", "need init_rand"),
    ],
)
def test_refusals(text, words):
    with pytest.raises(CaffeError, match=words):
        transformer(text).transform_datum(DATUM)


def test_means_that_do_not_fit(tmp_path):
    path = write_mean(tmp_path / "mean", np.zeros((2, 4, 6)))
    with pytest.raises(
        CaffeError, match=r"mean_file .*mean is of shape \(2, 4, 6\), the image of \(2, 4, 5\)"
    ):
        transformer(f'mean_file: "{path}"').transform_datum(DATUM)
    with pytest.raises(CaffeError, match="Cannot specify mean_file and mean_value at the same time"):
        transformer(f'mean_file: "{path}" mean_value: 1')
    with pytest.raises(CaffeError, match="nowhere"):
        transformer('mean_file: "nowhere.binaryproto"')
    proto = caffe_pb2.BlobProto(shape=caffe_pb2.BlobShape(dim=[2, 3]), data=[0] * 6)
    (tmp_path / "matrix").write_bytes(proto.SerializeToString())
    with pytest.raises(CaffeError, match=r"matrix: a mean image is of shape \(1, C, H, W\)"):
        read_mean(tmp_path / "matrix")


def test_damaged_datums():
    with pytest.raises(CaffeError, match="cannot set both force_color and force_gray"):
        transformer("force_color: true force_gray: true").planes(caffe_pb2.Datum(encoded=True, data=b"x"))
    with pytest.raises(CaffeError, match="Could not decode"):
        datum_planes(caffe_pb2.Datum(encoded=True, data=png(photo(40, 50))[:200]))
    with pytest.raises(CaffeError, match="Incorrect data field size 5: the Datum states 1x2x3, which is 6"):
        datum_planes(caffe_pb2.Datum(channels=1, height=2, width=3, data=b"12345"))
    with pytest.raises(CaffeError, match="Incorrect data field size 0"):
        datum_planes(caffe_pb2.Datum(channels=2**30, height=2**30, width=2**30))
    for sizes in ((0, 1, 1), (1, -1, -1)):
        channels, height, width = sizes
        with pytest.raises(CaffeError, match="each must be at least 1"):
            datum_planes(caffe_pb2.Datum(channels=channels, height=height, width=width, data=b"1"))
    with pytest.raises(CaffeError, match="3 bytes is no Datum"):
        parse_datum(b"\xff\xff\xff")
    with pytest.raises(CaffeError, match="Incorrect array shape"):
        make_datum(np.zeros((2, 2)))
    with pytest.raises(CaffeError, match="Image data type must be unsigned byte"):
        transformer("").transform_image(np.zeros((2, 2, 3)))


def test_any_bytes_give_an_image_or_an_error():
    random = np.random.RandomState(0)
    encoded = caffe_pb2.Datum(encoded=True, data=png(photo(6, 7)), label=1)
    made = 0
    for datum in (DATUM, encoded):
        whole = datum.SerializeToString()
        for _ in range(300):
            damaged = bytearray(whole[: random.randint(1, len(whole) + 1)])
            for place in random.randint(0, len(damaged), 2):
                damaged[place] = random.randint(256)
            try:
                made += transformer("").transform_datum(parse_datum(damaged)).ndim == 3
            except CaffeError:
                pass
    assert 0 < made < 600
