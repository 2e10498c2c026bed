"""HDF5 weights and solver states: Caffe's groups and datasets, exact both ways, refused when they lie."""

import logging

import caffe
import h5py
import numpy as np
import pytest
from caffe.proto import caffe_pb2

NET = """
name: "small"
layer { name: "data" type: "Input" top: "data" input_param { shape { dim: 1 dim: 2 dim: 5 dim: 5 } } }
layer { name: "conv" type: "Convolution" bottom: "data" top: "conv" convolution_param { num_output: 2 kernel_size: 3
  pad: 1 weight_filler { type: "gaussian" std: 1 } bias_filler { type: "uniform" } } param { name: "w" } }
layer { name: "again" type: "Convolution" bottom: "conv" top: "again" convolution_param { num_output: 2 kernel_size: 3
  pad: 1 bias_filler { type: "uniform" } } param { name: "w" } }
layer { name: "in/side" type: "InnerProduct" bottom: "again" top: "fc" inner_product_param { num_output: 4
  weight_filler { type: "gaussian" std: 1 } } }
layer { name: "in" type: "InnerProduct" bottom: "fc" top: "in" inner_product_param { num_output: 1
  weight_filler { type: "gaussian" std: 1 } } }
"""


def values(net):
    return {(name, i): blob.data.copy() for name, blobs in net.params.items() for i, blob in enumerate(blobs)}


def same(a, b):
    a, b = values(a), values(b)
    return list(a) == list(b) and all(np.array_equal(a[key], b[key]) for key in a)


@pytest.fixture
def saved(make_net, tmp_path):
    """A net and the path of its weights in HDF5."""
    net = make_net(NET)
    path = tmp_path / "w.caffemodel.h5"
    net.save_hdf5(str(path))
    return net, path


def test_the_layout_is_caffes(saved):
    net, path = saved
    with h5py.File(path) as file:
        assert list(file) == ["data"]
        data = file["data"]
        assert list(data) == ["again", "conv", "data", "in"]
        assert list(data["data"]) == [] and list(data["conv"]) == ["0", "1"]
        assert list(data["again"]) == ["1"]  # its weight is conv's
        assert list(data["in"]) == ["0", "1", "side"] and list(data["in/side"]) == ["0", "1"]
        weight = data["conv/0"]
        assert weight.dtype == np.float32 and weight.shape == (2, 2, 3, 3) and weight.chunks is None
        assert np.array_equal(weight[()], net.params["conv"][0].data)


def test_save_then_load_is_exact(saved, make_net, tmp_path):
    net, path = saved
    for load in ("copy_from", "load_hdf5"):
        other = make_net(NET)
        assert not same(net, other)
        getattr(other, load)(str(path))
        assert same(net, other)
        assert np.array_equal(other.params["again"][0].data, net.params["conv"][0].data)
    assert same(net, make_net(NET, weights=str(path)))
    net.save(str(tmp_path / "binary"))
    with pytest.raises(caffe.CaffeError, match="binary: not a readable HDF5 caffemodel"):
        other.load_hdf5(str(tmp_path / "binary"))
    assert caffe.caffemodel.shapes(path)["conv"] == [(2, 2, 3, 3), (2,)]
    assert np.array_equal(caffe.caffemodel.load(path)["in/side"][1], net.params["in/side"][1].data)


def test_diffs_are_written_when_asked_for_under_every_user(saved, tmp_path):
    net, _ = saved
    net.params["conv"][0].diff[...] = 3
    net.save_hdf5(tmp_path / "d.h5", write_diff=True)
    with h5py.File(tmp_path / "d.h5") as file:
        assert (file["diff/conv/0"][()] == 3).all() and (file["diff/again/0"][()] == 3).all()
        assert "0" not in file["data/again"]


def test_names_decide_and_the_rest_is_left_alone(saved, make_net):
    _, path = saved
    other = make_net(NET.replace('name: "in/side"', 'name: "new"').replace('name: "again"', 'name: "other"'))
    before = values(other)
    other.copy_from(path)
    assert np.array_equal(other.params["new"][0].data, before["new", 0])
    assert not np.array_equal(other.params["conv"][0].data, before["conv", 0])


def test_other_number_types_convert(saved):
    net, path = saved
    for kind in ("f8", ">f4", "f2", "i2", "u1"):
        with h5py.File(path, "r+") as file:
            del file["data/conv/1"]
            file["data/conv"].create_dataset(
                "1", data=np.array([3, 4], kind), chunks=(2,), compression="gzip"
            )
        net.params["conv"][1].data[...] = 0
        net.copy_from(path)
        assert net.params["conv"][1].data.tolist() == [3, 4]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (("num_output: 4", "num_output: 5"), "Cannot copy param 0 weights from layer 'in.*; shape mismatch"),
        (
            ("num_output: 4", "num_output: 4 bias_term: false"),
            "Incompatible number of blobs for layer in/side: 2 in",
        ),
        (
            (' param { name: "w" } }\nlayer { name: "in/', ' }\nlayer { name: "in/'),
            "blobs for layer again: 1 in",
        ),
    ],
)
def test_weights_of_another_net_are_refused_before_any_change(saved, make_net, change, words):
    _, path = saved
    assert change[0] in NET
    other = make_net(NET.replace(*change))
    before = values(other)
    with pytest.raises(caffe.CaffeError, match=words):
        other.copy_from(path)
    assert all(np.array_equal(before[key], array) for key, array in values(other).items())


def one_layer(name, more=""):
    return f"""
        layer {{ name: "data" type: "Input" top: "data" input_param {{ shape {{ dim: 1 dim: 2 }} }} }}
        layer {{ name: "{name}" type: "InnerProduct" bottom: "data" top: "a" inner_product_param {{ num_output: 1 }} }}
        {more}"""


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (one_layer("a/"), "no name of an HDF5 group"),
        (one_layer(""), "no name of an HDF5 group"),
        (one_layer("a/./b"), "no name of an HDF5 group"),
        (
            one_layer("a", 'layer { name: "a" type: "Scale" bottom: "a" top: "b" }'),
            "Error saving weights to .*layer name 'a' is taken twice",
        ),
        (
            one_layer("a", 'layer { name: "a/0" type: "Scale" bottom: "a" top: "b" }'),
            "'a/0' is the place of another layer's blob",
        ),
    ],
)
def test_names_that_hdf5_cannot_keep_apart_are_refused_with_nothing_written(make_net, tmp_path, text, words):
    net = make_net(text)
    with pytest.raises(caffe.CaffeError, match=words):
        net.save_hdf5(tmp_path / "x.h5")
    assert not list(tmp_path.glob("*x.h5*"))
    with pytest.raises(caffe.CaffeError, match="cannot write"):
        net.save_hdf5(tmp_path / "no" / "x.h5")


def test_a_name_taken_twice_is_no_matter_without_parameters(make_net, tmp_path):
    net = make_net(one_layer("a", 'layer { name: "a" type: "ReLU" bottom: "a" top: "b" }'))
    net.save_hdf5(tmp_path / "x.h5")
    with h5py.File(tmp_path / "x.h5") as file:
        assert list(file["data/a"]) == ["0", "1"]


# -- solver states ----------------------------------------------------------------------------------

TRAIN = """
layer { name: "data" type: "DummyData" top: "data" top: "label" dummy_data_param {
  shape { dim: 3 dim: 2 } shape { dim: 3 dim: 1 } data_filler { type: "gaussian" } data_filler { type: "gaussian" } } }
layer { name: "fc" type: "InnerProduct" bottom: "data" top: "fc" inner_product_param { num_output: 1
  weight_filler { type: "gaussian" } } }
layer { name: "loss" type: "EuclideanLoss" bottom: "fc" bottom: "label" top: "loss" }
"""
SOLVER = "base_lr: 0.1 momentum: 0.9 lr_policy: 'multistep' stepvalue: 2 gamma: 0.5 snapshot_format: HDF5 type: '%s'"


@pytest.mark.parametrize(("kind", "histories"), [("SGD", 1), ("Adam", 2)])
def test_a_run_resumed_from_hdf5_goes_on_exactly(make_solver, tmp_path, kind, histories):
    solver = make_solver(TRAIN, SOLVER % kind)
    solver.step(3)
    solver.snapshot()
    stem = solver.proto.snapshot_prefix + "_iter_3"
    with h5py.File(stem + ".solverstate.h5") as file:
        assert file["iter"].shape == (1,) and file["iter"].dtype == np.int32 and file["iter"][0] == 3
        assert file["current_step"][0] == 1
        name = file["learned_net"]
        assert name.shape == () and name[()].decode() == stem + ".caffemodel.h5"
        assert h5py.check_string_dtype(name.dtype).length is not None  # fixed: the original's reader needs it
        assert sorted(file["history"]) == [str(i) for i in range(2 * histories)]
        assert file["history/0"].dtype == np.float32
    solver.step(4)
    resumed = make_solver(TRAIN, SOLVER % kind)
    odd = tmp_path / "state of any name"
    odd.write_bytes((tmp_path / (stem + ".solverstate.h5")).read_bytes())
    resumed.restore(str(odd))  # its content says what it is
    assert resumed.iter == 3
    resumed.step(4)
    assert same(solver.net, resumed.net)


def test_snapshot_diff_in_either_form(make_solver):
    for form, ending in (("HDF5", ".h5"), ("BINARYPROTO", "")):
        solver = make_solver(TRAIN, (SOLVER % "SGD").replace("HDF5", form) + " snapshot_diff: true")
        solver.step(1)
        solver.snapshot()
        path = f"{solver.proto.snapshot_prefix}_iter_1.caffemodel{ending}"
        diff = solver.net.params["fc"][0].diff
        assert diff.any()
        if ending:
            with h5py.File(path) as file:
                assert np.array_equal(file["diff/fc/0"][()], diff)
            continue
        blob = caffe_pb2.NetParameter.FromString(open(path, "rb").read()).layer[1].blobs[0]
        assert np.array_equal(np.array(blob.diff, np.float32), diff.ravel())
        other = make_solver(TRAIN, SOLVER % "SGD")
        other.net.copy_from(path)
        assert np.array_equal(other.net.params["fc"][0].diff, diff)


def change_state(path, name, value):
    with h5py.File(path, "r+") as file:
        del file[name]
        if value is not None:
            file[name] = value


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("iter", None, "/iter is missing"),
        ("iter", np.array([1.5]), "/iter should be one integer"),
        ("iter", np.array([1, 2]), "/iter should be one integer"),
        ("iter", np.array([-1]), "/iter is -1"),
        ("iter", np.array([2**40]), f"/iter is {2**40}"),
        ("learned_net", np.zeros(3), "/learned_net should be one string"),
        ("learned_net", "gone.caffemodel.h5", "Could not open file gone"),
        ("history", np.zeros(3), "/history should be a group"),
        ("history/1", None, "Incorrect length of history blobs: 1 in the file, 2 needed"),
        ("history/1", np.zeros(3, np.float32), "history blob 1 has shape"),
        ("resume", np.zeros(3, np.float32), "/resume cannot be read"),
    ],
)
def test_states_that_do_not_fit_change_nothing(make_solver, name, value, words):
    solver = make_solver(TRAIN, SOLVER % "SGD")
    solver.step(1)
    solver.snapshot()
    path = solver.proto.snapshot_prefix + "_iter_1.solverstate.h5"
    change_state(path, name, value)
    solver.step(1)
    before = values(solver.net)
    with pytest.raises(caffe.CaffeError, match=words) as caught:
        solver.restore(path)
    assert path in str(caught.value) or "gone" in words
    assert solver.iter == 2 and all(
        np.array_equal(before[key], array) for key, array in values(solver.net).items()
    )


# -- files that lie ---------------------------------------------------------------------------------


def put_external_link(file, folder):
    h5py.File(folder / "other.h5", "w").create_dataset("x", data=np.zeros(2, np.float32))
    file["data/conv/1"] = h5py.ExternalLink("other.h5", "/x")


def put_external_values(file, folder):
    (folder / "secret").write_bytes(b"8 bytes!")
    file["data/conv"].create_dataset("1", (2,), "f4", external=[(str(folder / "secret"), 0, 8)])


def put_virtual(file, folder):
    layout = h5py.VirtualLayout((2,), "f4")
    layout[:] = h5py.VirtualSource(str(folder / "other.h5"), "x", shape=(2,))
    file["data/conv"].create_virtual_dataset("1", layout)


def put_loop(file, folder):
    file["data/conv/1"] = file["data"]


LIES = [
    (put_external_link, "/data/conv/1 is a link to elsewhere"),
    (
        lambda file, folder: file.__setitem__("data/conv/1", h5py.SoftLink("/data/conv/0")),
        "is a link to elsewhere",
    ),
    (put_external_values, "keeps its values in other files"),
    (put_virtual, "keeps its values in other files"),
    (put_loop, "too many groups|is no layer and no blob"),
    (
        lambda file, folder: file["data/conv"].create_dataset("1", (2,), "f4"),
        r"claims shape \(2,\) and holds no",
    ),
    (lambda file, folder: file["data/conv"].create_dataset("1", (2**40,), "f4"), "has shape|holds no values"),
    (
        lambda file, folder: file["data/conv"].create_dataset(
            "1", data=np.zeros(2, "f4"), chunks=(2**22,), maxshape=(None,), compression="gzip"
        ),
        "claims chunks of 16777216",
    ),
    (lambda file, folder: file["data/conv"].create_dataset("1", data="ab"), "has type .*; blobs are floats"),
    (lambda file, folder: file["data/conv"].create_dataset("1", data=np.zeros(2, bool)), "blobs are floats"),
    (lambda file, folder: file["data/conv"].create_dataset("1", data=np.zeros(2, "c8")), "blobs are floats"),
    (lambda file, folder: file["data/conv"].create_dataset("1", data=h5py.Empty("f4")), "has shape None"),
    (
        lambda file, folder: file["data/conv"].create_dataset("bias", data=np.zeros(2, "f4")),
        "bias is no layer",
    ),
    (
        lambda file, folder: file["data/conv"].create_dataset("99999999", data=np.zeros(2, "f4")),
        "is no layer",
    ),
    (lambda file, folder: file["data"].create_dataset("0", data=np.zeros(2, "f4")), "/data/0 is no layer"),
    (lambda file, folder: file.__delitem__("data"), "/data is missing"),
    (
        lambda file, folder: file["data/conv"].create_dataset("1", data=np.zeros((1, 2), "f4")),
        "shape mismatch",
    ),
    (lambda file, folder: None, "Incompatible number of blobs for layer conv: 1 in the file, 2 in the net"),
]


@pytest.mark.parametrize(("lie", "words"), LIES, ids=[words[:30] for _, words in LIES])
def test_files_that_lie(saved, tmp_path, lie, words):
    net, path = saved
    with h5py.File(path, "r+") as file:
        del file["data/conv/1"]
        lie(file, tmp_path)
    before = values(net)
    with pytest.raises(caffe.CaffeError, match=words) as caught:
        net.copy_from(path)
    assert str(path) in str(caught.value)
    assert all(np.array_equal(before[key], array) for key, array in values(net).items())


def test_values_that_are_not_finite_load_with_a_warning(saved, make_net, tmp_path, caplog):
    net, path = saved
    net.params["conv"][1].data[1] = np.nan
    net.params["in"][0].data[0, 2] = -np.inf
    net.params["in/side"][0].data[...] = 3e38  # finite, though its square is not
    net.save_hdf5(path)
    net.save(tmp_path / "binary")
    caplog.set_level(logging.WARNING, logger="caffe")
    for source in (path, tmp_path / "binary"):
        other = make_net(NET)
        caplog.clear()
        logging.getLogger("caffe").addHandler(caplog.handler)
        other.copy_from(source)
        logging.getLogger("caffe").removeHandler(caplog.handler)
        warned = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
        assert len(warned) == 2 and all(str(source) in line for line in warned)
        assert "layer 'conv', blob 1 " in "".join(warned) and "layer 'in', blob 0 " in "".join(warned)
        assert np.isnan(other.params["conv"][1].data[1])
