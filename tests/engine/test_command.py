"""The command line: Caffe's commands and flags, log lines, exit codes, signals, and one-line errors."""

import io
import os
import re
import signal
import subprocess
import sys
import time

import caffe
import pytest
from caffe.command import main, make_parser
from caffe.log import logger
from caffe.proto import caffe_pb2

NET = """
name: "small"
layer { name: "data" type: "DummyData" top: "x" top: "y" dummy_data_param {
  shape { dim: 4 dim: 6 } shape { dim: 4 }
  data_filler { type: "gaussian" } data_filler { type: "constant" value: 2 } } }
layer { name: "ip" type: "InnerProduct" bottom: "x" top: "s"
  inner_product_param { num_output: 3 weight_filler { type: "xavier" } } }
layer { name: "loss" type: "SoftmaxWithLoss" bottom: "s" bottom: "y" top: "loss" loss_weight: 0.5 }
layer { name: "accuracy" type: "Accuracy" bottom: "s" bottom: "y" top: "accuracy" include { phase: TEST } }
layer { name: "extra" type: "Silence" bottom: "s" include { stage: "extra" } }
"""
SOLVER = (
    'net: "{net}" base_lr: 0.1 lr_policy: "fixed" max_iter: 4 snapshot_prefix: "{folder}/run" random_seed: 1 '
)


@pytest.fixture
def net(tmp_path):
    path = tmp_path / "net.prototxt"
    path.write_text(NET)
    return str(path)


@pytest.fixture
def make_solver_file(tmp_path, net):
    def make(more=""):
        path = tmp_path / "solver.prototxt"
        path.write_text(SOLVER.format(net=net, folder=tmp_path) + more)
        return str(path)

    return make


def refusal(capsys, *argv) -> str:
    """The one line that a wrong call says; its status is 1."""
    capsys.readouterr()
    assert main(argv) == 1
    said = [line for line in capsys.readouterr().err.splitlines() if line.startswith("caffe: ")]
    assert len(said) == 1
    return said[0]


# -- flags ---------------------------------------------------------------------------------------------


def test_no_command_shows_the_usage(capsys):
    for argv in ([], ["--help"], ["-help"], ["-h"]):
        assert main(argv) == 0
        assert "examples:" in capsys.readouterr().out


@pytest.mark.parametrize("name", make_parser()[1])
def test_every_command_has_help_with_examples(name, capsys):
    for flag in ("--help", "-help", "-h"):
        with pytest.raises(SystemExit) as ended:
            main([name, flag])
        assert ended.value.code == 0
    assert f"  caffe {name} " in capsys.readouterr().out


@pytest.mark.parametrize(
    "flags",
    [
        ["train", "--solver", "S"],
        ["train", "-solver", "S"],
        ["train", "--solver=S"],
        ["train", "-solver=S"],
        ["-solver", "S", "train"],
        ["--solver=S", "train"],
    ],
    ids=" ".join,
)
def test_flags_as_gflags_takes_them(flags, make_solver_file, tmp_path):
    path = make_solver_file()
    assert main([flag.replace("S", path) for flag in flags]) == 0
    assert (tmp_path / "run_iter_4.caffemodel").exists()


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        ("trian", "Unknown action: trian (did you mean train?)"),
        ("--solver=x", "Unknown action: --solver=x"),
        ("train", "Need a solver definition to train"),
        ("train --solvr x", "unknown command line flag '--solvr' (did you mean --solver?)"),
        ("train --solver none.prototxt", "Could not open file none.prototxt"),
        ("train --solver", "argument --solver: expected one argument"),
        ("train extra --solver x", "'extra' is one word too many"),
        ("train --solver x --snapshot a --weights b", "Give a snapshot to resume training or weights"),
        ("train --solver x --sigint_effect explode", 'Invalid signal effect "explode" was specified'),
        ("train --solver x --level high", "argument --level: invalid int value: 'high'"),
        ("test", "Need a model definition to score"),
        ("test --model x", "Need model weights to score"),
        ("test --model x --weights y --iterations 0", "--iterations must be at least 1, found 0"),
        ("time", "Need a model definition to time"),
        ("time --model x --phase VALIDATE", 'phase must be "TRAIN" or "TEST"'),
        ("time --model x --logtostderr=maybe", "'maybe' is neither true nor false"),
        ("time --model x --log_dir none", "Could not create logging file none"),
    ],
)
def test_wrong_calls_are_one_line_and_status_1(argv, words, capsys):
    assert words in refusal(capsys, *argv.split())


def test_errors_of_nets_are_one_line(net, make_solver_file, capsys):
    with open(net, "a") as file:
        file.write('layer { name: "odd" type: "Odd" bottom: "s" top: "o" }')
    said = refusal(capsys, "train", "--solver", make_solver_file())
    assert "Unknown layer type: Odd" in said and net in said


def test_gpus(make_solver_file, net, capsys, monkeypatch):
    monkeypatch.setattr(caffe.common, "device_count", lambda: 0)
    assert "Cannot use GPU in CPU-only Caffe" in refusal(capsys, "time", "--model", net, "--gpu", "0")
    path = make_solver_file("solver_mode: GPU")
    said = refusal(capsys, "train", "--solver", path)
    assert f"{path}: solver_mode: GPU (write CPU to train without): Cannot use GPU" in said
    monkeypatch.setattr(caffe.common, "device_count", lambda: 2)
    for ids in ("all", "0,1"):
        said = refusal(capsys, "train", "--solver", make_solver_file(), "--gpu", ids)
        assert "caffe train uses one GPU, this asks for 2" in said and "iter_size by 2" in said
    assert "sees 2 CUDA device(s), numbered 0 to 1" in refusal(capsys, "device_query", "--gpu", "5")
    assert "found '0;1'" in refusal(capsys, "device_query", "--gpu", "0;1")


def test_the_solvers_default_mode_is_not_explicit(make_solver_file, lines):
    assert main(["train", "--solver", make_solver_file()]) == 0
    assert "Use CPU." in lines()


def test_device_query_without_a_gpu(capsys, monkeypatch):
    monkeypatch.setattr(caffe.common, "device_count", lambda: 0)
    assert main(["device_query"]) == 0
    assert "nets run on the CPU" in capsys.readouterr().out


def test_device_query_names_what_pytorch_knows(capsys, monkeypatch):
    class Properties:
        name, major, minor, total_memory, multi_processor_count = "A GPU", 9, 0, 123456, 132

    monkeypatch.setattr(caffe.common, "device_count", lambda: 2)
    monkeypatch.setattr("torch.cuda.get_device_properties", lambda number: Properties)
    assert main(["device_query", "--gpu", "1"]) == 0
    found = dict(line.split(":", 1) for line in capsys.readouterr().out.splitlines())
    found = {name: value.strip() for name, value in found.items()}
    assert found["Device id"] == "1" and found["Name"] == "A GPU" and found["Major revision number"] == "9"
    assert "Warp size" not in found


def test_the_log_goes_into_a_folder_too(net, tmp_path, monkeypatch):
    monkeypatch.setattr(logger, "handlers", list(logger.handlers))
    monkeypatch.setattr(logger, "level", logger.level)
    assert (
        main(["time", "--model", net, "--iterations", "1", f"--log_dir={tmp_path}", "-minloglevel", "0"]) == 0
    )
    (path,) = tmp_path.glob("caffe.*.log.INFO.*")
    assert "*** Benchmark ends ***" in path.read_text()
    # as Caffe's own parse_log.py takes the date and time from a line
    assert re.match(r"I\d{4} \d\d:\d\d:\d\d\.\d{6} +\d+ \w+\.py:\d+\] ", path.read_text())


def test_minloglevel_silences(net, capsys, monkeypatch):
    monkeypatch.setattr(logger, "handlers", list(logger.handlers))
    before = logger.level
    try:
        assert main(["time", "--model", net, "--iterations", "1", "--minloglevel=2"]) == 0
    finally:
        logger.setLevel(before)
    assert capsys.readouterr().err == ""


# -- train ---------------------------------------------------------------------------------------------


def test_train_says_what_caffe_says(make_solver_file, lines):
    assert main(["train", "--solver", make_solver_file("display: 2 test_iter: 3 test_interval: 2")]) == 0
    said = lines()
    wanted = [
        r"Use CPU\.",
        r"Starting Optimization",
        r"Solving small",
        r"Learning Rate Policy: fixed",
        r"Iteration 0, Testing net \(#0\)",
        r"    Test net output #0: accuracy = [\d.]+",
        r"    Test net output #1: loss = [\d.]+ \(\* 0\.5 = [\d.]+ loss\)",
        r"Iteration 0 \(0 iter/s, [\d.e-]+s/2 iters\), loss = [\d.]+",
        r"    Train net output #0: loss = [\d.]+ \(\* 0\.5 = [\d.]+ loss\)",
        r"Iteration 0, lr = 0\.1",
        r"Iteration 2, Testing net \(#0\)",
        r"Iteration 2 \([\d.e+]+ iter/s, [\d.e-]+s/2 iters\), loss = [\d.]+",
        r"Iteration 2, lr = 0\.1",
        r"Snapshotting to binary proto file .*/run_iter_4\.caffemodel",
        r"Snapshotting solver state to binary proto file .*/run_iter_4\.solverstate",
        r"Iteration 4, loss = [\d.]+",
        r"Iteration 4, Testing net \(#0\)",
        r"Optimization Done\.",
        r"Optimization Done\.",
    ]
    at = 0
    for pattern in wanted:  # in this order
        at = next((i + 1 for i in range(at, len(said)) if re.fullmatch(pattern, said[i])), None)
        assert at, pattern


def test_train_goes_on_from_a_snapshot(make_solver_file, tmp_path, lines):
    path = make_solver_file("snapshot: 2")
    assert main(["train", "--solver", path]) == 0
    whole = (tmp_path / "run_iter_4.caffemodel").read_bytes()
    (tmp_path / "run_iter_4.caffemodel").unlink()
    state = str(tmp_path / "run_iter_2.solverstate")
    assert main(["train", "--solver", path, "--snapshot", state]) == 0
    assert (tmp_path / "run_iter_4.caffemodel").read_bytes() == whole
    assert f"Restoring previous solver status from {state}" in lines()


def test_weights_replace_the_solvers(make_solver_file, tmp_path, net, lines, capsys):
    first, second = tmp_path / "a.caffemodel", tmp_path / "b.caffemodel"
    made = caffe.Net(net, caffe.TRAIN)
    for path, value in ((first, 1), (second, 2)):
        made.params["ip"][0].data[...] = value
        made.save(str(path))
    path = make_solver_file('weights: "none.caffemodel" max_iter: 0'.replace("max_iter: 0", ""))
    assert "none.caffemodel" in refusal(capsys, "train", "--solver", path)
    text = open(path).read().replace("max_iter: 4", "max_iter: 0")
    open(path, "w").write(text)
    assert main(["train", "--solver", path, "--weights", f"{first}, {second}"]) == 0
    assert f"Finetuning from {first}" in lines() and f"Finetuning from {second}" in lines()
    values = caffe.caffemodel.load(str(tmp_path / "run_iter_0.caffemodel"))["ip"][0]
    assert (values == 2).all()


def test_a_snapshot_replaces_the_solvers_weights(make_solver_file, tmp_path):
    assert main(["train", "--solver", make_solver_file("snapshot: 2")]) == 0
    path = make_solver_file('weights: "none.caffemodel"')
    assert main(["train", "--solver", path, "--snapshot", str(tmp_path / "run_iter_2.solverstate")]) == 0


def test_level_and_stage_are_the_training_nets(make_solver_file, lines):
    path = make_solver_file("test_iter: 1 test_interval: 4")
    assert main(["train", "--solver", path, "--stage", "extra, other", "--level", "1"]) == 0
    assert lines().count("Creating Layer extra") == 1  # in the training net, not in the test net
    text = next(line for line in lines() if line.startswith("Initializing net from parameters"))
    assert "level: 1" in text and 'stage: "other"' in text


PYTHON_LAYER = """
import caffe, os, signal
class Send(caffe.Layer):
    def setup(self, bottom, top): self.at = 0
    def reshape(self, bottom, top): top[0].reshape(1)
    def forward(self, bottom, top):
        self.at += 1
        for at, number in {plan}:
            if at == self.at:
                os.kill(os.getpid(), number)
    def backward(self, top, propagate_down, bottom): pass
"""
SEND = """
layer { name: "send" type: "Python" top: "sent" python_param { module: "%s" layer: "Send" } include { phase: %s } }
"""


@pytest.fixture
def send(tmp_path, monkeypatch, net):
    """``send(plan, phase)``: put a layer into the net that signals itself in forward number n, (n, signal) by plan."""
    monkeypatch.syspath_prepend(str(tmp_path))
    module = f"send_{abs(hash(str(tmp_path)))}"

    def put(plan, phase="TRAIN"):
        (tmp_path / f"{module}.py").write_text(PYTHON_LAYER.format(plan=[(n, int(s)) for n, s in plan]))
        with open(net, "a") as file:
            file.write(SEND % (module, phase))

    return put


def test_sigint_stops_after_the_iteration_and_snapshots(make_solver_file, tmp_path, lines, send):
    send([(2, signal.SIGINT)])
    handlers = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGHUP)
    assert main(["train", "--solver", make_solver_file()]) == 0
    assert (tmp_path / "run_iter_2.solverstate").exists()
    assert lines()[-2:] == ["Optimization stopped early.", "Optimization Done."]
    assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGHUP)) == handlers


def test_sigint_twice_before_it_is_looked_at_is_once(make_solver_file, tmp_path, lines, send):
    send([(2, signal.SIGINT), (2, signal.SIGINT)])
    assert main(["train", "--solver", make_solver_file()]) == 0
    assert (tmp_path / "run_iter_2.solverstate").exists()


def test_no_snapshot_after_a_stop_when_the_solver_wants_none(make_solver_file, tmp_path, send):
    send([(2, signal.SIGINT)])
    assert main(["train", "--solver", make_solver_file("snapshot_after_train: false")]) == 0
    assert not list(tmp_path.glob("run_iter*"))


def test_sighup_snapshots_and_goes_on(make_solver_file, tmp_path, send):
    send([(2, signal.SIGHUP)])
    assert main(["train", "--solver", make_solver_file()]) == 0
    assert sorted(path.name for path in tmp_path.glob("*.solverstate")) == [
        "run_iter_2.solverstate",
        "run_iter_4.solverstate",
    ]


def test_both_signals_at_once_snapshot_first_and_stop_next(make_solver_file, tmp_path, send):
    send([(1, signal.SIGINT), (1, signal.SIGHUP)])
    assert main(["train", "--solver", make_solver_file()]) == 0
    assert sorted(path.name for path in tmp_path.glob("*.solverstate")) == [
        "run_iter_1.solverstate",
        "run_iter_2.solverstate",
    ]


def test_signal_effects_are_chosen_by_flags(make_solver_file, tmp_path, send):
    send([(1, signal.SIGINT), (2, signal.SIGINT), (3, signal.SIGHUP)])
    flags = ["--sigint_effect=none", "-sighup_effect", "stop"]
    assert main(["train", "--solver", make_solver_file(), *flags]) == 0
    assert [path.name for path in tmp_path.glob("*.solverstate")] == ["run_iter_3.solverstate"]


def test_sigint_in_a_test_stops_before_its_next_batch(make_solver_file, tmp_path, lines, send):
    send([(2, signal.SIGINT)], "TEST")
    assert main(["train", "--solver", make_solver_file("test_iter: 5 test_interval: 4")]) == 0
    assert "Test interrupted." in lines() and "Optimization stopped early." in lines()
    assert not any("Test net output" in line for line in lines())
    assert (tmp_path / "run_iter_0.solverstate").exists()


def test_what_a_users_layer_raises_passes_through(make_solver_file, net, tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "raising.py").write_text(
        "import caffe\nclass Raise(caffe.Layer):\n    def setup(self, bottom, top): raise ZeroDivisionError('mine')"
    )
    with open(net, "a") as file:
        file.write(SEND.replace("Send", "Raise") % ("raising", "TRAIN"))
    with pytest.raises(ZeroDivisionError, match="mine"):
        main(["train", "--solver", make_solver_file()])


# -- test and time ----------------------------------------------------------------------------------------


def test_test_prints_batches_and_means(net, tmp_path, lines):
    made = caffe.Net(net, caffe.TEST)
    weights = str(tmp_path / "w.caffemodel")
    made.save(weights)
    assert main(["test", "--model", net, "--weights", weights, "--iterations", "3"]) == 0
    said = lines()
    batches = [line.split(" = ") for line in said if line.startswith("Batch ")]
    assert [name for name, _ in batches] == [
        f"Batch {i}, {name}" for i in range(3) for name in ("accuracy", "loss")
    ]
    accuracy = sum(float(value) for name, value in batches if "accuracy" in name) / 3
    loss = sum(float(value) for name, value in batches if "loss" in name) / 3
    assert said[said.index("Use CPU.")] and "Running for 3 iterations." in said
    assert said[-2] == f"accuracy = {accuracy:.6g}"
    total, found, weighted = (
        float(x) for x in re.findall(r"[\d.]+", " ".join([said[-3], said[-1].replace("0.5", "")]))
    )
    assert said[-1].startswith("loss = ") and "(* 0.5 = " in said[-1]
    assert (found, weighted, total) == pytest.approx((loss, loss / 2, loss / 2), rel=1e-5)


def test_test_takes_stages(net, tmp_path, lines):
    weights = str(tmp_path / "w.caffemodel")
    caffe.Net(net, caffe.TEST).save(weights)
    assert main(["test", "-model", net, "-weights", weights, "-iterations=1", "-stage=extra"]) == 0
    assert "Creating Layer extra" in lines()


def test_time_prints_caffes_lines_and_the_costliest_layer(net, lines):
    assert main(["time", "--model", net, "--iterations", "2"]) == 0
    said = "\n".join(lines()[lines().index("Network initialization done.") :])
    number = r"[\d.e+-]+"
    layers = "".join(
        rf"{name:>10}\tforward: {number} ms\.\n{name:>10}\tbackward: {number} ms\.\n"
        for name in ("data", "ip", "loss")
    )
    assert re.fullmatch(
        rf"""Network initialization done\.
Performing Forward
Initial loss: {number}
Performing Backward
\*\*\* Benchmark begins \*\*\*
Testing for 2 iterations\.
Iteration: 1 forward-backward time: {number} ms\.
Iteration: 2 forward-backward time: {number} ms\.
Average time per layer:[ ]
{layers}Average Forward pass: {number} ms\.
Average Backward pass: {number} ms\.
Average Forward-Backward: {number} ms\.
Total Time: {number} ms\.
\*\*\* Benchmark ends \*\*\*
The layer that costs most is \w+ \(\w+\): {number} ms forward and backward, {number} % of the net\.""",
        said,
    ), said


def test_time_measures_the_slow_layer(net, tmp_path, monkeypatch, lines):
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "slow_layer.py").write_text(
        """
import caffe, time
class Slow(caffe.Layer):
    def setup(self, bottom, top): pass
    def reshape(self, bottom, top): top[0].reshape(1)
    def forward(self, bottom, top): time.sleep(0.05)
"""
    )
    with open(net, "a") as file:
        file.write(SEND.replace("Send", "Slow") % ("slow_layer", "TRAIN"))
    assert main(["time", "--model", net, "--iterations", "2"]) == 0
    verdict = re.fullmatch(
        r"The layer that costs most is send \(Python\): ([\d.]+) ms .*, ([\d.]+) % of the net\.", lines()[-1]
    )
    assert float(verdict[1]) >= 50 and 0 < float(verdict[2]) <= 100
    total = next(float(line.split()[2]) for line in lines() if line.startswith("Total Time"))
    assert total >= 100


def test_time_measures_backward_of_a_deploy_net(tmp_path, lines):
    """No loss, so nothing needs a gradient; the parameters' are measured all the same, as in Caffe."""
    path = tmp_path / "deploy.prototxt"
    path.write_text(
        """
layer { name: "in" type: "Input" top: "x" input_param { shape { dim: 64 dim: 512 } } }
layer { name: "ip" type: "InnerProduct" bottom: "x" top: "s" inner_product_param { num_output: 512 } }
layer { name: "best" type: "ArgMax" bottom: "s" top: "best" }
"""
    )
    for phase in ("TRAIN", "TEST"):
        assert main(["time", "--model", str(path), "--iterations", "1", "--phase", phase]) == 0
        took = {tuple(line.split()[:2]): float(line.split()[2]) for line in lines() if "ward: " in line}
        assert took["ip", "backward:"] > 0.01 and took["best", "backward:"] == 0


@pytest.mark.gpu
@pytest.mark.skipif(caffe.device_count() == 0, reason="no CUDA device")
def test_commands_on_a_gpu(net, make_solver_file, tmp_path, lines, capsys):
    try:
        assert main(["device_query", "--gpu", "0"]) == 0
        assert "Total global memory" in capsys.readouterr().out
        assert main(["time", "--model", net, "--iterations", "2", "--gpu", "all"]) == 0
        assert "Use GPU with device ID 0" in lines()
        assert main(["train", "--solver", make_solver_file("solver_mode: GPU")]) == 0
        assert (
            main(["test", "--model", net, "--weights", f"{tmp_path}/run_iter_4.caffemodel", "--gpu=0"]) == 0
        )
        assert "Use CPU." not in lines()
    finally:
        caffe.set_mode_cpu()


# -- real processes -----------------------------------------------------------------------------------------


def run_process(*argv, **kwargs):
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "GLOG_minloglevel": "0"}
    command = [sys.executable, "-m", "caffe", *argv]
    return subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True, **kwargs)


def test_python_m_caffe(tmp_path):
    process = run_process("time", "--model", "none.prototxt", cwd=tmp_path)
    said = process.communicate()[1]
    assert process.returncode == 1
    assert said.splitlines()[-1].startswith("caffe: Could not open file none.prototxt")
    assert "Traceback" not in said


def test_signals_to_a_real_process(make_solver_file, tmp_path):
    """SIGHUP writes a snapshot and training goes on; SIGINT writes one and ends it, status 0."""
    path = make_solver_file("display: 50")
    text = open(path).read().replace("max_iter: 4", "max_iter: 100000000")
    open(path, "w").write(text)
    process = run_process("train", "--solver", path)
    try:
        said = io.StringIO()
        wait_for(process, said, "Iteration 50 ")
        process.send_signal(signal.SIGHUP)
        wait_for(process, said, "Snapshotting solver state")
        assert process.poll() is None
        process.send_signal(signal.SIGINT)
        wait_for(process, said, "Optimization stopped early.")
        assert process.wait(20) == 0
    finally:
        process.kill()
        process.stderr.close()
    assert len(list(tmp_path.glob("run_iter_*.solverstate"))) == 2
    for path in tmp_path.glob("run_iter_*.solverstate"):
        state = caffe_pb2.SolverState.FromString(path.read_bytes())
        assert path.name == f"run_iter_{state.iter}.solverstate"


def wait_for(process, said, words):
    """Read the process's log up to the line with ``words``."""
    end = time.monotonic() + 60
    for line in process.stderr:
        said.write(line)
        if words in line:
            return
        if time.monotonic() > end:
            break
    raise AssertionError(f"{words!r} was not said:\n{said.getvalue()}")
