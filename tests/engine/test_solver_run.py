"""What a solver does around its updates: nets and states, tests, logs, requests, snapshots."""

import logging
import re

import caffe
import numpy as np
import pytest
from caffe.proto import caffe_pb2

NET = """
name: "small" %s
layer { name: "data" type: "DummyData" top: "x" top: "y" dummy_data_param {
  shape { dim: 4 dim: 6 } shape { dim: 4 }
  data_filler { type: "gaussian" } data_filler { type: "constant" value: 2 } } }
layer { name: "ip" type: "InnerProduct" bottom: "x" top: "s" param { name: "w" }
  inner_product_param { num_output: 3 weight_filler { type: "xavier" } } }
layer { name: "loss" type: "SoftmaxWithLoss" bottom: "s" bottom: "y" top: "loss" }
layer { name: "one" type: "Silence" bottom: "s" include { stage: "one" } }
layer { name: "two" type: "Silence" bottom: "s" include { stage: "two" } }
layer { name: "high" type: "Silence" bottom: "s" include { min_level: 3 } }
"""
FIXED = 'base_lr: 0.1 lr_policy: "fixed" random_seed: 2 '


@pytest.fixture
def solver_file(tmp_path):
    """``solver_file(text, net="...")``: the path of a solver prototxt; ``@NET`` in it is the net's path."""

    def make(text, net=NET % ""):
        (tmp_path / "net.prototxt").write_text(net)
        path = tmp_path / "solver.prototxt"
        path.write_text(FIXED + text.replace("@NET", str(tmp_path / "net.prototxt")))
        return str(path)

    return make


def silences(net):
    return [name for name in net._layer_names if name in ("one", "two", "high")]


# -- nets ------------------------------------------------------------------------------------------------


def test_states_of_the_nets(solver_file):
    """The default phase, then the net's own state, then train_state and test_state."""
    text = """net: "@NET" train_state { level: 3 } test_interval: 10 test_iter: 1 test_iter: 1
      test_state { stage: "one" } test_state { stage: "two" level: 3 }"""
    solver = caffe.get_solver(solver_file(text))
    assert silences(solver.net) == ["high"]
    assert [silences(net) for net in solver.test_nets] == [["one"], ["two", "high"]]
    solver = caffe.get_solver(solver_file(text, NET % 'state { stage: "two" level: 3 }'))
    assert silences(solver.net) == ["two", "high"]
    assert silences(solver.test_nets[0]) == ["one", "two", "high"]


def test_test_nets_in_order(solver_file, tmp_path):
    (tmp_path / "other.prototxt").write_text(NET.replace('"small"', '"other"') % "")
    inner = NET.replace('"small"', '"inner"') % ""
    text = f"""net: "@NET" test_net: "{tmp_path}/other.prototxt" test_net_param {{ {inner} }}
      test_iter: 1 test_iter: 1 test_iter: 1 test_iter: 1 test_interval: 5"""
    solver = caffe.get_solver(solver_file(text))
    assert [net._name for net in solver.test_nets] == ["inner", "other", "small", "small"]
    assert (
        len(caffe.get_solver(solver_file(f"net_param {{ {inner} }} test_iter: 2 test_interval: 1")).test_nets)
        == 1
    )


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (
            'net: "@NET" test_net: "@NET" test_interval: 1',
            "test_iter must be specified for each test network. 0",
        ),
        ('train_net: "@NET" test_iter: 1 test_interval: 1', "1 test_iter, 0 test nets"),
        ('net: "@NET" test_iter: 1', "test_interval must be greater than 0"),
        ('net: "@NET" test_iter: 1 test_interval: 1 test_state { } test_state { }', "2 given, 1 test nets"),
        (
            'net: "@NET" train_net: "@NET"',
            "must not contain more than one of these fields.*found net, train_net",
        ),
        ("", "must specify a train net using one of these fields.*found none"),
        ('net: "none.prototxt"', "net: Could not open file none.prototxt.*current directory, which is /"),
        ('net: ""', 'net: "" names no file'),
        ('net: "@NET" iter_size: 0', "iter_size should be at least 1, found 0"),
        ('net: "@NET" weights: "none.caffemodel"', "none.caffemodel"),
    ],
)
def test_solvers_that_break_a_rule(solver_file, text, words):
    path = solver_file(text)
    with pytest.raises(caffe.CaffeError, match=words) as caught:
        caffe.get_solver(path)
    assert path in str(caught.value) or "none." in str(caught.value)


def test_weights_come_from_every_file_into_every_net(solver_file, tmp_path, lines):
    """Comma lists, trimmed, and repeated fields; a later file wins."""
    files = [tmp_path / f"{name}.caffemodel" for name in "abc"]
    for value, path in enumerate(files):
        solver = caffe.get_solver(solver_file('net: "@NET"'))
        for blob in solver.net.params["ip"]:
            blob.data[...] = value
        solver.net.save(str(path))
    a, b, c = files
    text = f'net: "@NET" weights: "{a} , {c}" weights: "{b}" test_iter: 1 test_interval: 9'
    solver = caffe.get_solver(solver_file(text))
    for net in (solver.net, solver.test_nets[0]):
        assert all((blob.data == 1).all() for blob in net.params["ip"])
    assert [line for line in lines() if line.startswith("Finetuning")] == [
        f"Finetuning from {path}" for path in (a, c, b)
    ]


def test_a_missing_prefix_is_the_solvers_name_and_a_folder_gets_it(solver_file, tmp_path):
    assert caffe.get_solver(solver_file('net: "@NET"')).proto.snapshot_prefix == str(tmp_path / "solver")
    solver = caffe.get_solver(solver_file(f'net: "@NET" snapshot_prefix: "{tmp_path}"'))
    assert solver.proto.snapshot_prefix == str(tmp_path / "solver")


# -- logs -------------------------------------------------------------------------------------------------


def test_debug_info_shows_displayed_iterations(solver_file, lines):
    solver = caffe.get_solver(solver_file('net: "@NET" debug_info: true display: 2'))
    solver.step(2)
    first = lines()[: lines().index("Iteration 0, lr = 0.1")]
    number = r"[\d.e+-]+"
    wanted = [
        rf"    \[Forward\] Layer data, top blob x data: {number}",
        r"    \[Forward\] Layer data, top blob y data: 2",
        rf"    \[Forward\] Layer ip, top blob s data: {number}",
        rf"    \[Forward\] Layer ip, param blob w data: {number}",
        r"    \[Forward\] Layer ip, param blob 1 data: 0",
        rf"    \[Forward\] Layer loss, top blob loss data: {number}",
        rf"    \[Backward\] Layer loss, bottom blob s diff: {number}",
        rf"    \[Backward\] Layer ip, param blob 0 diff: {number}",
        rf"    \[Backward\] Layer ip, param blob 1 diff: {number}",
        rf"    \[Backward\] All net params \(data, diff\): "
        rf"L1 norm = \({number}, {number}\); L2 norm = \({number}, {number}\)",
    ]
    found = [line for line in first if line.startswith("    [")]
    assert len(found) == len(wanted)
    for pattern, line in zip(wanted, found, strict=True):
        assert re.fullmatch(pattern, line), line
    assert not [line for line in lines()[len(first) :] if line.startswith("    [")]


def test_the_norms_of_all_parameters(solver_file, lines, caplog):
    solver = caffe.get_solver(solver_file('net: "@NET" debug_info: true display: 1'))
    data, diff = [], []
    blobs = solver.net.params["ip"]

    def look():
        data[:] = [blob.data.copy() for blob in blobs]
        diff[:] = [blob.diff.copy() for blob in blobs]

    solver.add_callback(lambda: None, look)
    solver.step(1)
    (record,) = [record for record in caplog.records if "All net params" in record.getMessage()]
    assert record.levelno == logging.ERROR
    data, diff = (np.concatenate([x.ravel() for x in arrays]) for arrays in (data, diff))
    numbers = [np.abs(data).sum(), np.abs(diff).sum(), np.linalg.norm(data), np.linalg.norm(diff)]
    found = re.search(r"\((\S+), (\S+)\); L2 norm = \((\S+), (\S+)\)", record.getMessage())
    assert [float(x) for x in found.groups()] == pytest.approx(numbers, rel=1e-5)


def test_debug_info_of_test_nets(solver_file, lines):
    text = (
        'net: "@NET" debug_info: true test_iter: 2 test_interval: 1 max_iter: 0 snapshot_after_train: false'
    )
    caffe.get_solver(solver_file(text)).solve()
    assert sum(line.startswith("    [Forward] Layer ip, top blob s") for line in lines()) == 2
    assert not any("[Backward]" in line for line in lines())


def test_a_test_computes_means_and_the_loss_when_asked(solver_file, lines):
    text = 'net: "@NET" test_iter: 3 test_interval: 1 test_compute_loss: true'
    solver = caffe.get_solver(solver_file(text))
    losses = []
    net = solver.test_nets[0]
    net.after_forward(
        lambda i: losses.append(float(net.blobs["loss"].data)) if net._layer_names[i] == "loss" else None
    )
    solver.test_all()
    mean = sum(losses) / 3
    assert len(losses) == 3
    assert lines()[-3:] == [
        "Iteration 0, Testing net (#0)",
        f"Test loss: {mean:.6g}",
        f"    Test net output #0: loss = {mean:.6g} (* 1 = {mean:.6g} loss)",
    ]


def test_every_element_of_an_output_has_its_line(solver_file, lines):
    net = NET % "" + 'layer { name: "p" type: "Softmax" bottom: "s" top: "Prob" }'
    solver = caffe.get_solver(solver_file('net: "@NET" display: 1', net))
    solver.step(1)
    found = [line for line in lines() if "Train net output" in line]
    assert len(found) == 4 * 3 + 1
    for i, line in enumerate(found[:-1]):
        assert re.fullmatch(rf"    Train net output #{i}: Prob = [\d.e-]+", line)
    assert found[-1].startswith("    Train net output #12: loss = ")


def test_no_test_at_iteration_0_without_test_initialization(solver_file, lines):
    text = 'net: "@NET" test_iter: 1 test_interval: 2 test_initialization: false'
    caffe.get_solver(solver_file(text)).step(3)
    assert [line for line in lines() if "Testing net" in line] == ["Iteration 2, Testing net (#0)"]


def test_clipping_and_steps_of_the_rate_are_said(solver_file, lines):
    text = 'net: "@NET" clip_gradients: 0.5'
    solver = caffe.get_solver(solver_file(text))
    solver.net.params["ip"][0].diff[...] = 1  # 18 ones
    solver.apply_update()
    norm = 18**0.5
    assert lines()[-1] == (
        f"Gradient clipping: scaling down gradients (L2 norm {norm:.6g} > 0.5) by scale factor {0.5 / norm:.6g}"
    )
    path = solver_file('net: "@NET" gamma: 0.1 stepvalue: 1')
    changed = open(path).read().replace('"fixed"', '"multistep"')
    open(path, "w").write(changed)
    caffe.get_solver(path).step(3)
    assert [line for line in lines() if "MultiStep" in line] == ["MultiStep Status: Iteration 1, step = 1"]


def test_the_displayed_loss_is_a_mean_over_this_call_of_step(solver_file, lines):
    solver = caffe.get_solver(solver_file('net: "@NET" average_loss: 3 display: 1'))
    losses = []
    solver.add_callback(lambda: None, lambda: losses.append(float(solver.net.blobs["loss"].data)))
    for count in (4, 2):
        solver.step(count)
    shown = [float(line.rpartition(" ")[2]) for line in lines() if re.match(r"Iteration \d+ \(", line)]
    windows = [losses[:1], losses[:2], losses[:3], losses[1:4], losses[4:5], losses[4:6]]
    assert shown == pytest.approx([sum(window) / len(window) for window in windows], rel=1e-5)


# -- requests ---------------------------------------------------------------------------------------------


def requests(*plan):
    """An action source that gives each of ``plan`` once, in order, then None."""
    left = list(plan)
    return lambda: left.pop(0) if left else None


def test_a_stop_ends_the_step_and_the_next_step_goes_on(solver_file):
    solver = caffe.get_solver(solver_file('net: "@NET"'))
    solver.action_source = requests(None, "stop")
    solver.step(10)
    assert solver.iter == 2 and solver.stopped
    solver.step(3)
    assert solver.iter == 5 and not solver.stopped


def test_solve_snapshots_after_a_stop_and_says_so(solver_file, tmp_path, lines):
    solver = caffe.get_solver(solver_file('net: "@NET" max_iter: 10'))
    solver.action_source = requests(None, None, "stop")
    solver.solve()
    assert (tmp_path / "solver_iter_3.solverstate").exists()
    assert lines()[-1] == "Optimization stopped early."


def test_a_snapshot_may_be_asked_for_between_iterations_and_in_a_test(solver_file, tmp_path):
    solver = caffe.get_solver(solver_file('net: "@NET" test_iter: 3 test_interval: 4'))
    solver.action_source = requests("snapshot", None, None, None, "snapshot")  # 3 of the test, then 2 updates
    solver.step(4)
    assert sorted(path.name for path in tmp_path.glob("*.solverstate")) == [
        "solver_iter_0.solverstate",
        "solver_iter_1.solverstate",
    ]


def test_a_stop_in_a_test_leaves_out_the_rest(solver_file, lines):
    solver = caffe.get_solver(solver_file('net: "@NET" test_iter: 3 test_iter: 3 test_interval: 4'))
    solver.action_source = requests(None, "stop")
    solver.step(4)
    assert solver.iter == 0 and solver.stopped
    assert lines()[-2:] == ["Iteration 0, Testing net (#0)", "Test interrupted."]
    solver.action_source = lambda: None
    solver.test_all()
    assert sum("Test net output" in line for line in lines()) == 2


# -- snapshots --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("max_iter: 4", [4]),
        ("max_iter: 4 snapshot: 2", [2, 4]),
        ("max_iter: 5 snapshot: 2", [2, 4, 5]),
        ("max_iter: 5 snapshot: 2 snapshot_after_train: false", [2, 4]),
        ("max_iter: 0", [0]),
        ("max_iter: 0 snapshot: 2", []),
    ],
)
def test_when_snapshots_are_written(solver_file, tmp_path, text, wanted):
    caffe.get_solver(solver_file(f'net: "@NET" {text}')).solve()
    found = sorted(int(path.stem.split("_")[-1]) for path in tmp_path.glob("*.solverstate"))
    assert found == wanted
    assert sorted(int(path.stem.split("_")[-1]) for path in tmp_path.glob("*.caffemodel")) == wanted


def test_snapshot_diff_stores_what_was_subtracted(solver_file, tmp_path):
    solver = caffe.get_solver(solver_file('net: "@NET" snapshot_diff: true momentum: 0.9'))
    solver.step(2)
    before = [blob.data.copy() for blob in solver.net.params["ip"]]
    solver.step(1)
    solver.snapshot()
    net = caffe_pb2.NetParameter.FromString((tmp_path / "solver_iter_3.caffemodel").read_bytes())
    (layer,) = [layer for layer in net.layer if layer.name == "ip"]
    for old, blob, stored in zip(before, solver.net.params["ip"], layer.blobs, strict=True):
        assert np.array_equal(np.array(stored.data, np.float32), blob.data.ravel())
        step = np.array(stored.diff, np.float32)
        assert step.any() and np.allclose(old.ravel() - step, blob.data.ravel(), atol=1e-7)


def test_solve_restores_first(solver_file, tmp_path, lines):
    path = solver_file('net: "@NET" max_iter: 4 snapshot: 2')
    caffe.get_solver(path).solve()
    whole = (tmp_path / "solver_iter_4.caffemodel").read_bytes()
    state = str(tmp_path / "solver_iter_2.solverstate")
    solver = caffe.get_solver(path)
    solver.solve(state)
    assert f"Restoring previous solver status from {state}" in lines()
    assert "SGDSolver: restoring history" in lines()
    assert (tmp_path / "solver_iter_4.caffemodel").read_bytes() == whole
