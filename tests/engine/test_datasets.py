"""convert_imageset and compute_image_mean."""

import os

import lmdb
import numpy as np
import pytest
from caffe import common
from caffe.blob_file import read_blob
from caffe.database import new_database, open_database
from caffe.datasets import compute_image_mean, convert_imageset
from caffe.datum import datum_planes, make_datum, parse_datum
from caffe.draws import draw_seed, shuffle
from caffe.errors import CaffeError
from caffe.image_file import encode_image, resize
from caffe.proto import caffe_pb2
from image_tools import BACKENDS, photo, png, write_list

PICTURES = [photo(4, 5, seed) for seed in range(4)]


@pytest.fixture
def folder(tmp_path):
    write_list(tmp_path, PICTURES, [3, 1, -4, 1])
    return tmp_path


def convert(folder, **options):
    """The pairs of the database made of the folder's list: [(key, Datum), ...]."""
    backend = options.get("backend", "lmdb")
    assert convert_imageset(folder, folder / "list.txt", folder / "db", **options) == len(PICTURES)
    pairs = open_database(folder / "db", backend).pairs()
    return [(key.decode(), parse_datum(value)) for key, value in pairs]


# -- convert_imageset ----------------------------------------------------------------------------


@pytest.mark.parametrize("backend", BACKENDS)
def test_keys_labels_and_pixels(folder, backend):
    pairs = convert(folder, backend=backend)
    assert [key for key, _ in pairs] == [f"{i:08d}_{i}.png" for i in range(4)]
    for (_, datum), picture, label in zip(pairs, PICTURES, [3, 1, -4, 1], strict=True):
        assert datum == make_datum(picture.transpose(2, 0, 1), label)
        assert (datum.channels, datum.height, datum.width, datum.encoded) == (3, 4, 5, False)


def test_what_any_lmdb_reader_sees(folder):
    convert_imageset(folder, folder / "list.txt", folder / "db")
    with lmdb.open(str(folder / "db"), readonly=True) as env, env.begin() as transaction:
        found = list(transaction.cursor())
    assert [key for key, _ in found] == [f"{i:08d}_{i}.png".encode() for i in range(4)]
    assert [caffe_pb2.Datum.FromString(value).label for _, value in found] == [3, 1, -4, 1]


def test_gray_and_resized(folder):
    (_, gray), *_ = convert(folder, gray=True, resize_height=6)  # one of the two sizes alone does nothing
    assert (gray.channels, gray.height, gray.width) == (1, 4, 5)
    os.rename(folder / "db", folder / "gray")
    for (_, datum), picture in zip(convert(folder, resize_height=6, resize_width=3), PICTURES, strict=True):
        assert np.array_equal(datum_planes(datum), resize(picture, 6, 3).transpose(2, 0, 1))


def test_shuffled_by_the_threads_generator(folder):
    common.set_random_seed(6)
    order = list(range(4))
    shuffle(order, draw_seed)
    assert order != list(range(4))
    common.set_random_seed(6)
    assert [key for key, _ in convert(folder, shuffle=True)] == [
        f"{i:08d}_{k}.png" for i, k in enumerate(order)
    ]


def test_encoded_keeps_the_files_that_will_do(folder):
    (folder / "1.png").write_bytes(png(PICTURES[1][:, :, :1]))  # gray
    pairs = convert(folder, encoded=True)
    for number, (_, datum) in enumerate(pairs):
        assert datum.encoded and (datum.channels, datum.height, datum.width) == (3, 4, 5)
        assert (datum.data == (folder / f"{number}.png").read_bytes()) == (number != 1)
        expected = PICTURES[number] if number != 1 else PICTURES[1][:, :, [0] * 3]
        assert np.array_equal(datum_planes(datum), expected.transpose(2, 0, 1))


def test_encode_type_makes_others(folder):
    (_, datum), *_ = convert(folder, encode_type="jpg")
    assert datum.encoded and datum.data == encode_image(PICTURES[0], "jpg") and datum.data[:2] == b"\xff\xd8"
    os.rename(folder / "db", folder / "first")
    (_, datum), *_ = convert(folder, encode_type="png", encoded=True, resize_height=2, resize_width=2)
    assert np.array_equal(datum_planes(datum), resize(PICTURES[0], 2, 2).transpose(2, 0, 1))
    os.rename(folder / "db", folder / "second")
    for picture, name in zip(PICTURES, ("a.jpeg", "b.JPG", "c.jpg", "d.jpg"), strict=True):
        (folder / name).write_bytes(encode_image(picture, "jpg"))
    (folder / "list.txt").write_text("a.jpeg 0\nb.JPG 1\nc.jpg 2\nd.jpg 3\n")
    for key, datum in convert(folder, encode_type="jpg"):
        assert datum.data == (folder / key[9:]).read_bytes()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (
            {"check_size": True},
            r"line 3: Could not load 2.png: Incorrect data field size 18: the image is \(2, 3, 3\)",
        ),
        ({"backend": "hdf5"}, "Unknown database backend: hdf5"),
        ({"encode_type": "xyz"}, "line 1: Could not load 0.png: cannot encode an image as 'xyz'"),
    ],
)
def test_refusals(folder, options, words):
    (folder / "2.png").write_bytes(png(photo(2, 3)))
    before = sorted(os.listdir(folder))
    with pytest.raises(CaffeError, match=words):
        convert_imageset(folder, folder / "list.txt", folder / "db", **options)
    assert sorted(os.listdir(folder)) == before
    if "check_size" in options:
        convert_imageset(folder, folder / "list.txt", folder / "db")
        (folder / "2.png").write_bytes(png(PICTURES[2]))
        convert_imageset(folder, folder / "list.txt", folder / "db2", **options)


def test_unreadable_input_leaves_nothing(folder):
    (folder / "3.png").write_bytes(b"no image")
    before = sorted(os.listdir(folder))
    with pytest.raises(CaffeError, match=r"list.txt, line 4: Could not load 3.png: Could not decode"):
        convert_imageset(folder, folder / "list.txt", folder / "db")
    with pytest.raises(CaffeError, match="Failed to open image list"):
        convert_imageset(folder, folder / "none", folder / "db")
    (folder / "plain").write_bytes(png(PICTURES[0]))
    (folder / "list2").write_text("plain 0\n")
    with pytest.raises(CaffeError, match="Failed to guess the encoding of 'plain': say encode_type"):
        convert_imageset(folder, folder / "list2", folder / "db", encoded=True)
    (folder / "list2").write_text("plain\n")
    with pytest.raises(CaffeError, match="list2, line 1: 'plain' has no label"):
        convert_imageset(folder, folder / "list2", folder / "db")
    assert sorted(os.listdir(folder)) == sorted([*before, "plain", "list2"])
    (folder / "db").mkdir()
    with pytest.raises(CaffeError, match="it exists"):
        convert_imageset(folder, folder / "list.txt", folder / "db")


# -- compute_image_mean --------------------------------------------------------------------------


@pytest.mark.parametrize("backend", BACKENDS)
def test_the_mean(folder, backend):
    convert(folder, backend=backend)
    mean = compute_image_mean(folder / "db", folder / "mean.binaryproto", backend=backend)
    expected = np.mean([picture.transpose(2, 0, 1) for picture in PICTURES], axis=0)
    assert mean.dtype == np.float32 and mean.shape == (3, 4, 5)
    np.testing.assert_allclose(mean, expected, rtol=1e-6)
    np.testing.assert_array_equal(read_blob(folder / "mean.binaryproto"), mean[np.newaxis])
    proto = caffe_pb2.BlobProto.FromString((folder / "mean.binaryproto").read_bytes())
    assert (proto.num, proto.channels, proto.height, proto.width) == (1, 3, 4, 5)
    assert not proto.HasField("shape")


def test_the_channels_are_logged(folder, capsys, caplog):
    caplog.set_level("INFO", "caffe")
    with new_database(folder / "flat", "lmdb") as put:
        for value in (1, 2):
            put(
                b"%d" % value,
                make_datum(np.full((2, 2, 2), value, np.uint8) * [[[1]], [[3]]]).SerializeToString(),
            )
    mean = compute_image_mean(folder / "flat")
    assert mean[:, 0, 0].tolist() == [1.5, 4.5]
    said = capsys.readouterr().err
    assert "Number of channels: 2" in said
    assert "mean_value channel [0]: 1.5\n" in said and "mean_value channel [1]: 4.5\n" in said


def test_floats_and_encoded_images_have_a_mean(folder):
    with new_database(folder / "db", "lmdb") as put:
        put(b"a", make_datum(np.full((3, 4, 5), 0.5)).SerializeToString())
        put(b"b", caffe_pb2.Datum(encoded=True, data=png(PICTURES[0])).SerializeToString())
    np.testing.assert_array_equal(
        compute_image_mean(folder / "db"), (PICTURES[0].transpose(2, 0, 1) + np.float32(0.5)) / 2
    )


def test_mean_refusals(folder):
    good = make_datum(np.zeros((1, 2, 3), np.uint8)).SerializeToString()
    other = make_datum(np.zeros((1, 3, 2), np.uint8)).SerializeToString()
    liar = caffe_pb2.Datum(channels=1, height=2, width=3, data=b"1").SerializeToString()
    output = folder / "mean"
    for name, value, words in (
        (
            "size",
            other,
            r"key 'b': Incorrect data field size 6: the image is \(1, 3, 2\), the first was \(1, 2, 3\)",
        ),
        ("lie", liar, "key 'b': Incorrect data field size 1"),
        ("junk", b"\xff", "key 'b': .*is no Datum"),
    ):
        with new_database(folder / name, "lmdb") as put:
            put(b"a", good)
            put(b"b", value)
        with pytest.raises(CaffeError, match=rf"database .*{name}, {words}"):
            compute_image_mean(folder / name, output)
    with pytest.raises(CaffeError, match="No such file or directory"):
        compute_image_mean(folder / "none", output)
    assert not output.exists()
    with new_database(folder / "good", "lmdb") as put:
        put(b"a", good)
    with pytest.raises(CaffeError, match="cannot write"):
        compute_image_mean(folder / "good", folder / "no" / "mean")
