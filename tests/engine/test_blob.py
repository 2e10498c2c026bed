"""Blob: shapes, and the rules of its memory."""

import os
import platform
import subprocess
import sys

import caffe
import numpy as np
import pytest
import torch
from caffe import Blob


def test_a_fresh_blob_reads_as_zeros_and_shares_its_memory():
    blob = Blob(2, 3)
    assert blob.data.shape == (2, 3) and blob.data.dtype == np.float32 and not blob.data.any()
    blob.data[1, 2] = 5
    assert blob.data[1, 2] == 5 and blob.tensor()[1, 2] == 5
    blob.diff[...] = 1
    assert blob.data[0, 0] == 0
    assert blob.data.flags.c_contiguous and blob.data.flags.writeable


def test_shape_and_legacy_accessors():
    blob = Blob(2, 3, 4)
    assert list(blob.shape) == [2, 3, 4] and blob.shape == [2, 3, 4] and blob.shape == (2, 3, 4)
    assert (blob.num, blob.channels, blob.height, blob.width, blob.count) == (2, 3, 4, 1, 24)
    with pytest.raises(caffe.CaffeError, match="legacy accessors"):
        _ = Blob(1, 1, 1, 1, 1).num
    scalar = Blob()
    scalar.reshape()
    assert scalar.data.shape == () and float(scalar.data) == 0


@pytest.mark.parametrize("bad", [((2, 3),), ([2],), (2.0,), ("2",), (True,)])
def test_reshape_refuses_what_is_no_integer(bad):
    with pytest.raises(TypeError, match="integers"):
        Blob().reshape(*bad)


def test_reshape_refuses_impossible_shapes():
    for shape, words in [
        ((-1,), "at least 0"),
        ((1,) * 33, "at most 32"),
        ((65536, 65536), "exceeds INT_MAX"),
    ]:
        with pytest.raises(caffe.CaffeError, match=words):
            Blob().reshape(*shape)
    Blob().reshape(np.int64(2), np.int32(3))  # NumPy integers are integers


def test_shrinking_keeps_the_buffer_and_growing_zeroes_a_new_one():
    blob = Blob(4)
    blob.data[...] = [1, 2, 3, 4]
    blob.reshape(2)
    assert blob.data.tolist() == [1, 2]
    blob.reshape(2, 2)
    assert blob.data.tolist() == [[1, 2], [3, 4]]
    old = blob.data
    blob.reshape(5)
    assert blob.data.tolist() == [0] * 5
    assert old.tolist() == [[1, 2], [3, 4]]  # an old view stays alive


def test_a_view_taken_before_a_write_shows_the_new_values():
    blob = Blob(3)
    view = blob.data
    part = blob.data[1:]
    blob.write(torch.tensor([1.0, 2.0, 3.0]))
    assert view.tolist() == [1, 2, 3] and part.tolist() == [2, 3]
    view[0] = 9
    assert blob.tensor()[0] == 9


def test_without_a_view_the_tensor_becomes_the_memory():
    blob = Blob(3)
    blob.data[...] = 7
    values = torch.tensor([1.0, 2.0, 3.0])
    blob.write(values)
    assert blob.tensor().data_ptr() == values.data_ptr()
    blob.data[0] = 5
    assert values[0] == 5


def test_a_blob_outlives_its_net_and_shares_when_told():
    a, b = Blob(2), Blob(2)
    b.share_data(a)
    a.data[...] = 3
    assert b.data.tolist() == [3, 3]
    b.data[0] = 4
    assert a.data.tolist() == [4, 3]
    view = a.data
    a.write(torch.tensor([5.0, 6.0]))
    assert b.data.tolist() == [5, 6] and view.tolist() == [5, 6]


def test_diffs_accumulate_and_clear():
    blob = Blob(2)
    blob.add_diff(torch.tensor([1.0, 2.0]))
    blob.add_diff(torch.tensor([1.0, 2.0]))
    view = blob.diff
    assert view.tolist() == [2, 4]
    blob.zero_diff()
    assert view.tolist() == [0, 0]
    blob.add_diff(torch.tensor([1.0, 2.0]))
    assert view.tolist() == [1, 2]


def test_data_of_a_never_shaped_blob_is_an_error():
    with pytest.raises(caffe.CaffeError, match="no shape yet"):
        _ = Blob().data
    with pytest.raises(AttributeError):
        Blob(1).data = 3


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="a setting of glibc")
@pytest.mark.parametrize("variable, kept", [("MALLOC_TRIM_THRESHOLD_", False), ("", True)])
def test_freed_memory_is_kept_unless_the_user_decides(variable, kept):
    code = (
        "import caffe, ctypes, os, torch\n"
        "def held():\n    return int(open('/proc/self/statm').read().split()[1]) * os.sysconf('SC_PAGE_SIZE')\n"
        "before = held()\ntorch.ones(50 << 20)\nprint(held() - before > 100 << 20)"
    )
    environment = {
        name: value for name, value in os.environ.items() if not name.startswith(("MALLOC_", "GLIBC"))
    }
    if variable:
        environment[variable] = "131072"
    run = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True
    )
    assert run.stdout.strip() == str(kept)
