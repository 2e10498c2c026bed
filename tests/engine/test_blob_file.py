"""Reading .binaryproto files."""

import numpy as np
import pytest
from caffe.blob_file import read_blob
from caffe.errors import CaffeError
from caffe.proto import caffe_pb2


def write(path, **fields):
    path.write_bytes(caffe_pb2.BlobProto(**fields).SerializeToString())
    return path


def test_a_legacy_mean_has_four_axes(tmp_path):
    values = np.arange(24, dtype=np.float32) / 7
    path = write(tmp_path / "mean.binaryproto", num=1, channels=3, height=2, width=4, data=values)
    mean = read_blob(path)
    assert mean.dtype == np.float32 and mean.flags.writeable
    np.testing.assert_array_equal(mean, values.reshape(1, 3, 2, 4))
    np.testing.assert_array_equal(read_blob(str(path)), mean)


@pytest.mark.parametrize("shape", [(2, 3), (6,), (1, 1, 1, 2, 3)])
def test_a_new_blob_has_its_own_shape(tmp_path, shape):
    path = write(
        tmp_path / "blob.binaryproto",
        shape=caffe_pb2.BlobShape(dim=shape),
        data=range(6),
        diff=[9] * 6,  # left alone
    )
    np.testing.assert_array_equal(read_blob(path), np.arange(6).reshape(shape))


def test_a_scalar(tmp_path):
    scalar = read_blob(write(tmp_path / "scalar", shape=caffe_pb2.BlobShape(), data=[2.5]))
    assert scalar.shape == () and scalar == 2.5


def test_doubles_are_rounded(tmp_path):
    path = write(tmp_path / "d", shape=caffe_pb2.BlobShape(dim=[2]), double_data=[0.1, 1e-3])
    values = read_blob(path)
    assert values.dtype == np.float32
    np.testing.assert_array_equal(values, np.float32([0.1, 1e-3]))


def refuses(path, *words):
    with pytest.raises(CaffeError) as caught:
        read_blob(path)
    for word in (str(path), *words):
        assert word in str(caught.value)


def test_refusals(tmp_path):
    refuses(tmp_path / "missing.binaryproto", "Could not open file", "No such file")
    refuses(tmp_path, "Could not open file")
    few = write(tmp_path / "few", num=1, channels=3, height=2, width=2, data=range(11))
    refuses(few, "a blob of shape (1, 3, 2, 2) should hold 12 values, it holds 11")
    many = write(tmp_path / "many", shape=caffe_pb2.BlobShape(dim=[2]), data=range(3))
    refuses(many, "should hold 2 values, it holds 3")
    negative = write(tmp_path / "negative", shape=caffe_pb2.BlobShape(dim=[-1, 2]), data=range(2))
    refuses(negative, "a blob of shape (-1, 2)")
    empty = write(tmp_path / "empty", num=1)
    refuses(empty, "a blob of shape (1, 0, 0, 0) without values")
    huge = write(tmp_path / "huge", shape=caffe_pb2.BlobShape(dim=[2**40, 2**40]), data=range(2))
    refuses(huge, f"a blob of shape ({2**40}, {2**40})")


@pytest.mark.parametrize(
    "content", [b"", b"mean { 1 2 3 }\n", b"\x89HDF\r\n\x1a\n" + bytes(64), b"\xff" * 40, bytes(40)]
)
def test_other_files_are_no_blob(tmp_path, content):
    path = tmp_path / "other.binaryproto"
    path.write_bytes(content)
    refuses(path, "not a readable binaryproto")


def test_a_net_is_no_blob(tmp_path):
    path = tmp_path / "net.caffemodel"
    path.write_bytes(caffe_pb2.NetParameter(name="net", input=["data"]).SerializeToString())
    refuses(path, "not a readable binaryproto")


def test_every_truncation_is_refused(tmp_path):
    whole = write(tmp_path / "whole", num=1, channels=1, height=2, width=2, data=range(1, 5)).read_bytes()
    path = tmp_path / "cut"
    for length in range(len(whole)):
        path.write_bytes(whole[:length])
        refuses(path, "not a readable binaryproto")
