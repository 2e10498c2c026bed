"""HDF5Data and HDF5Output.

The orders marked "original" are those that BVLC Caffe gave for the same files.
"""

import json
import os

import caffe
import h5py
import numpy as np
import pytest
from caffe import common
from caffe.errors import CaffeError
from layer_check import Rig, refuses


@pytest.fixture
def write(tmp_path):
    """``write(data=array, label=array)``: the path of a new HDF5 file of these datasets."""

    def make(**datasets):
        path = tmp_path / f"{len(list(tmp_path.glob('*.h5')))}.h5"
        with h5py.File(path, "w") as file:
            for name, values in datasets.items():
                file[name] = values
        return path

    return make


@pytest.fixture
def source(tmp_path):
    """``source(path, ...)``: the path of a list of these files."""

    def make(*paths):
        path = tmp_path / "list.txt"
        path.write_text("\n".join(map(str, paths)))
        return path

    return make


@pytest.fixture
def net_of(make_net, source):
    """``net_of(paths, more, tops, phase)``: a net of one HDF5Data layer."""

    def make(paths, more="batch_size: 5", tops=("label",), phase=caffe.TRAIN, extra=""):
        names = " ".join(f'top: "{top}"' for top in tops)
        return make_net(
            f'layer {{ name: "in" type: "HDF5Data" {names} hdf5_data_param {{ source: "{source(*paths)}" {more} }} '
            f"{extra} }}",
            phase,
        )

    return make


def files_of(write, *counts):
    """Files whose rows are numbered on from one to the next."""
    ends = np.cumsum(counts)
    return [write(label=np.arange(end - count, end)) for count, end in zip(counts, ends, strict=True)]


def rows(net, batches):
    found = []
    for _ in range(batches):
        net.forward()
        found += net.blobs["label"].data.astype(int).tolist()
    return found


# -- what HDF5Data gives -------------------------------------------------------------------------


def test_rows_go_on_from_file_to_file(write, net_of):
    net = net_of(files_of(write, 3, 4))
    assert net.blobs["label"].shape == (5,)
    assert rows(net, 3) == [0, 1, 2, 3, 4, 5, 6, 0, 1, 2, 3, 4, 5, 6, 0]
    assert rows(net_of(files_of(write, 2)), 2) == [0, 1] * 5  # one file, shorter than a batch
    net.backward()


def test_several_tops_of_any_shape_and_number_type(write, net_of):
    data = np.random.RandomState(0).rand(3, 2, 4, 5)
    tops = {
        "data": data,
        "label": np.arange(3, dtype=np.uint8),
        "pairs": np.arange(6, dtype=np.int64).reshape(3, 2),
        "half": np.ones((3, 1, 1, 1, 2), np.float16),
    }
    net = net_of([write(**tops)], "batch_size: 2", tuple(tops))
    net.forward()
    net.forward()
    for name, values in tops.items():
        expected = values[[2, 0]].astype(np.float32)
        assert net.blobs[name].data.dtype == np.float32
        np.testing.assert_array_equal(net.blobs[name].data, expected)


def test_a_view_taken_before_shows_the_new_values(write, net_of):
    net = net_of(files_of(write, 4), "batch_size: 2")
    view = net.blobs["label"].data
    net.forward()
    net.forward()
    assert view.tolist() == [2, 3]


@pytest.mark.parametrize(
    ("counts", "order"),
    [
        ((6,), [4, 3, 1, 2, 0, 5, 2, 5, 3, 4, 0, 1, 5, 3, 4, 2, 0, 1, 4, 5, 0, 3, 1, 2]),
        ((3, 4), [2, 0, 1, 5, 6, 4, 3, 2, 0, 1, 3, 4, 6, 5, 2, 0, 1, 4, 6, 3, 5, 3, 4, 6]),
        ((3, 4, 2, 6), [0, 1, 2, 14, 10, 9, 12, 13, 11, 3, 6, 5, 4, 8, 7, 1, 0, 2, 13, 9, 10, 11, 14, 12]),
    ],
)
def test_shuffled_as_the_original(write, net_of, counts, order):
    for seed in (1, 2):  # no seed of Caffe's changes it
        common.set_random_seed(seed)
        assert rows(net_of(files_of(write, *counts), "batch_size: 4 shuffle: true"), 6) == order


def test_solvers_in_parallel_share_the_rows(write, net_of):
    files, found = files_of(write, 3, 4), []
    try:
        common.set_solver_count(2)
        for rank in range(2):
            common.set_solver_rank(rank)
            found.append(rows(net_of(files, "batch_size: 2"), 3))
        assert rows(net_of(files, "batch_size: 2", phase=caffe.TEST), 1) == [0, 1]
    finally:
        common.set_solver_count(1)
        common.set_solver_rank(0)
    assert found == [[0, 2, 4, 6, 1, 3], [1, 3, 5, 0, 2, 4]]


def test_state_is_the_position(write, net_of):
    files = files_of(write, 3, 4, 2)
    net = net_of(files, "batch_size: 4 shuffle: true")
    rows(net, 5)
    state = net.layers[0].get_state()
    expected = rows(net, 4)
    other = net_of(files, "batch_size: 4 shuffle: true")
    for each in (other, net):
        each.layers[0].set_state(state)
        assert rows(each, 4) == expected
    for bad in ("{", "[]", "{}", json.dumps({"batches": -1}), json.dumps({"batches": "1"})):
        with pytest.raises(CaffeError, match=r"layer 'in' \(HDF5Data\).*is no state of this layer"):
            net.layers[0].set_state(bad)


# -- what HDF5Data refuses -----------------------------------------------------------------------


def test_refused_parameters(write, net_of, tmp_path):
    good = files_of(write, 3)
    with pytest.raises(CaffeError, match=r"layer 'in' .*HDF5Data does not transform data"):
        net_of(good, extra="transform_param { scale: 2 }")
    with pytest.raises(CaffeError, match="Positive batch size required"):
        net_of(good, more="")
    with pytest.raises(CaffeError, match=r"layer 'in' .*blob size exceeds INT_MAX"):
        net_of(good, more="batch_size: 4000000000")
    with pytest.raises(CaffeError, match="Must have at least 1 HDF5 filename listed in"):
        net_of([])
    refuses("Failed to open source file /no/where", hdf5_data("/no/where"), tops=1)
    with pytest.raises(CaffeError, match=r"Failed opening HDF5 file: .*none\.h5"):
        net_of([tmp_path / "none.h5"])


def hdf5_data(source):
    return f'type: "HDF5Data" hdf5_data_param {{ source: "{source}" batch_size: 1 }}'


@pytest.mark.parametrize(
    ("datasets", "words"),
    [
        ({"other": np.zeros(3)}, "Failed to find HDF5 dataset label.*the file has other"),
        ({}, "Failed to find HDF5 dataset label.*the file has none"),
        ({"label/inner": np.zeros(3)}, "Failed to find HDF5 dataset label"),
        ({"label": np.float32(3)}, "Input must have at least 1 axis"),
        ({"label": np.zeros((0, 2))}, "must have one number of rows, above 0"),
        ({"label": np.array([True])}, "Unsupported datatype class: H5T_ENUM"),
        ({"label": np.array([b"ab"])}, "Unsupported datatype class: H5T_STRING"),
        ({"label": ["text"]}, "Unsupported datatype class: H5T_VLEN"),
        ({"label": np.zeros(2, [("a", "f4")])}, "Unsupported datatype class: H5T_COMPOUND"),
        ({"label": np.zeros(2, complex)}, "Unsupported datatype class: H5T_COMPOUND"),
    ],
)
def test_refused_datasets(write, net_of, datasets, words):
    with pytest.raises(CaffeError, match=r"layer 'in' \(HDF5Data\): .*0.h5: .*" + words):
        net_of([write(**datasets)])


def test_refused_shapes(write, net_of):
    with pytest.raises(
        CaffeError, match=r"the datasets data, label must have one number of rows.*\(2, 3\), \(3,\)"
    ):
        net_of([write(data=np.zeros((2, 3)), label=np.zeros(3))], tops=("data", "label"))
    net = net_of([write(label=np.zeros((2, 3))), write(label=np.zeros((2, 4)))], "batch_size: 2")
    net.forward()
    with pytest.raises(
        CaffeError, match=r"2.h5: rows of label have the shapes \[\(4,\)\]; in .*1.h5 they have"
    ):
        net.forward()


def test_files_that_lie(tmp_path, net_of):
    huge = tmp_path / "huge.h5"
    with h5py.File(huge, "w") as file:
        file.create_dataset("label", (2**40,), "f4", chunks=(1024,))
    with pytest.raises(CaffeError, match="blob size exceeds INT_MAX"):
        net_of([huge])
    with h5py.File(huge, "w") as file:
        file.create_dataset("label", (2**30,), "f4", chunks=(1024,))
    with pytest.raises(CaffeError, match=r"of shape \(1073741824,\) holds no data"):
        net_of([huge])


def test_damaged_files(write, net_of):
    (path,) = files_of(write, 3000)
    whole = path.read_bytes()
    for cut in (0, 100, 1500, len(whole) // 2):
        path.write_bytes(whole[:cut])
        with pytest.raises(CaffeError, match=r"layer 'in' .*Failed opening HDF5 file: .*0.h5"):
            net_of([path])
    rng = np.random.RandomState(0)
    for _ in range(60):  # whatever a byte changes, it is an answer or a CaffeError
        damaged = bytearray(whole)
        for place in rng.randint(0, 3000, 3):
            damaged[place] = rng.randint(256)
        path.write_bytes(damaged)
        try:
            net_of([path]).forward()
        except CaffeError as error:
            assert "0.h5" in str(error)


# -- HDF5Output ----------------------------------------------------------------------------------


def output(path):
    return f'type: "HDF5Output" hdf5_output_param {{ file_name: "{path}" }}'


def test_output_holds_the_last_batch(tmp_path):
    path = tmp_path / "out.h5"
    data, label = np.random.RandomState(0).rand(2, 3, 4).astype(np.float32), np.array([5, 6], np.float32)
    rig = Rig(output(path), data, label, tops=0)
    assert not path.exists()
    for step in range(3):
        rig.bottom[0].data[...] = data + step
        assert rig.forward() == []
        with h5py.File(path) as file:
            assert sorted(file) == ["data", "label"]
            assert file["data"].dtype == np.float32
            np.testing.assert_array_equal(file["data"][...], (data + np.float32(step))[..., np.newaxis])
            assert file["label"][...].tolist() == [[[[5]]], [[[6]]]]
    assert os.listdir(tmp_path) == ["out.h5"]
    rig.backward()


def test_output_of_a_net_feeds_another(tmp_path, write, net_of, make_net, source):
    (path,) = files_of(write, 4)
    param = f'hdf5_data_param {{ source: "{source(path)}" batch_size: 4 }}'
    net = make_net(
        f'layer {{ name: "in" type: "HDF5Data" top: "label" {param} }}'
        f'layer {{ name: "twice" type: "Power" bottom: "label" top: "twice" power_param {{ scale: 2 }} }}'
        f'layer {{ name: "out" bottom: "twice" bottom: "label" {output(tmp_path / "out.h5")} }}',
        caffe.TEST,
    )
    net.forward()
    again = net_of([tmp_path / "out.h5"], "batch_size: 4", ("data", "label"))
    again.forward()
    assert again.blobs["data"].data.ravel().tolist() == [0, 2, 4, 6]


def test_output_refusals(tmp_path):
    refuses("Failed to open HDF5 file", output(tmp_path / "no" / "out.h5"), (1, 2), (1,), tops=0)
    refuses("Failed to open HDF5 file", output(tmp_path), (1, 2), (1,), tops=0)
    refuses("Failed to open HDF5 file", 'type: "HDF5Output"', (1, 2), (1,), tops=0)
    path = tmp_path / "out.h5"
    with pytest.raises(
        CaffeError, match="data blob and label blob must have the same batch size; they have 2 and 3"
    ):
        Rig(output(path), np.zeros((2, 1)), np.zeros(3), tops=0).forward()
    with pytest.raises(CaffeError, match="Cannot use legacy accessors"):
        Rig(output(path), np.zeros((2, 1, 1, 1, 1)), np.zeros(2), tops=0).forward()
    assert os.listdir(tmp_path) == []
