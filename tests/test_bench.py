"""The bench: whose turn it is, what is computed of times and results, and what happens when an engine fails."""

import csv
import sys
from pathlib import Path

import caffe
import numpy as np
import pytest

if not hasattr(caffe, "CaffeError"):
    pytest.skip("it runs on our engine", allow_module_level=True)

import torch
from caffe.solver import Solver

import nets
from files import DataError
from reproduction import sources, timing

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "bench"))

import about  # noqa: E402
import answering  # noqa: E402
import caffes  # noqa: E402
import engines  # noqa: E402
import growth  # noqa: E402
import harness  # noqa: E402
import jobs  # noqa: E402
import material  # noqa: E402
import peers  # noqa: E402
import plain  # noqa: E402
import table  # noqa: E402
import turns  # noqa: E402

import bench  # noqa: E402

FAKE = """
import json, os, sys
name, log, failing = sys.argv[1:4]
count = 0
for line in sys.stdin:
    job = json.loads(line)
    with open(log, "a") as file:
        file.write(f"{name} {job['job']}\\n")
    if job["job"] == "forward":
        count += 1
    if failing == "dies" and count == 2:
        print("out of luck", file=sys.stderr)
        os._exit(3)
    answer = {"seconds": float(job.get("height", 1)) * (2 if name == "original" else 1), "peak": 2**20 * len(name)}
    if failing == "refuses":
        answer = {"error": "RuntimeError: cannot"}
    if job.get("save"):
        import numpy as np
        np.save(job["save"], np.eye(4, dtype=np.float32).reshape(1, 4, 2, 2) * (1 if name == "original" else 1.5))
    print(json.dumps(answer), flush=True)
"""


@pytest.fixture
def fake(tmp_path, monkeypatch):
    """Makes all engines fake ones; returns what they are asked, and a dict: engine → how it fails."""
    script, log, failing = tmp_path / "fake.py", tmp_path / "log", {}
    script.write_text(FAKE)

    def command(self):
        if failing.get(self.name) == "is missing":
            raise engines.EngineError("it is not built")
        return [sys.executable, str(script), self.name, str(log), failing.get(self.name, "")], None

    monkeypatch.setattr(engines.Engine, "command", command)
    monkeypatch.setattr(engines, "LOGS", tmp_path / "logs")
    return (lambda: log.read_text().splitlines()), failing


@pytest.fixture
def run(tmp_path):
    """Runs a job "forward" of ``names``; returns the rows by engine and all that was told."""
    path = tmp_path / "out/2026-01-01-cpu2-peers.csv"

    def go(names, rounds=2, **more):
        said = []
        made = harness.Bench(
            engines.choose(names, "cpu"), table.Table(path, {"float32_gflops": "8"}), rounds, tell=said.append
        )
        made.together(
            made.named(),
            lambda engine, worker: worker("load"),
            "forward",
            lambda engine: {"height": 3},
            job="inference",
            **more,
        )
        return {row["engine"]: row for row in table.read(path)}, said

    return go


def test_engines_take_turns_after_a_round_that_does_not_count(fake, run):
    asked, _ = fake
    rows, _ = run("ours,original,openvino", costs=6 * 10**9)
    assert asked() == [
        f"{name} {job}" for name in ("ours", "original", "openvino") for job in ("load", "forward")
    ] + [f"{name} forward" for _ in range(2) for name in ("ours", "original", "openvino")]
    assert rows["original"]["ratio"] == "0.500" and rows["original"]["seconds"] == "6.0000"
    assert rows["ours"]["ratio"] == "" and rows["ours"]["rounds"] == "2"
    assert (rows["ours"]["gflops"], rows["ours"]["share_of_ceiling"]) == ("4", "0.500")
    assert rows["ours"]["difference"] == "5.0e-01" and rows["ours"]["equal_labels"] == "1.000000"
    assert rows["ours"]["reference"] == "original" and rows["original"]["difference"] == ""
    assert rows["original"]["peak_mib"] == "8" and rows["original"]["peak_ratio"] == "0.500"


def test_low_precision_is_compared_with_ours_of_the_same(fake, run):
    rows, _ = run("ours,ours bf16,openvino bf16")
    assert rows["openvino bf16"]["ratio"] == "1.000" and rows["ours bf16"]["ratio"] == ""


def test_without_ours_or_the_original_ours_says_what_is_right(fake, run):
    rows, _ = run("openvino")
    assert rows.keys() == {"openvino"} and rows["openvino"]["reference"] == "ours"


@pytest.mark.parametrize(
    ("how", "words", "reference"),
    [
        ("dies", "its process ended during 'forward' with status 3: out of luck", "original"),
        ("refuses", "RuntimeError: cannot", "ours"),
        ("is missing", "it is not built", "ours"),
    ],
)
def test_the_others_go_on_without_one_that_fails(fake, run, how, words, reference):
    fake[1]["original"] = how
    rows, said = run("ours,original,openvino")
    assert rows["original"]["note"] == words and rows["original"]["seconds"] == ""
    assert rows["openvino"]["seconds"] == "3.0000" and rows["openvino"]["reference"] == reference
    assert f"  original: left out: {words}" in said


def test_who_does_not_fit_into_memory_has_its_turns_later(fake, run, monkeypatch):
    monkeypatch.setattr(harness, "free_memory", lambda: 0)
    rows, _ = run("ours,original,openvino", rounds=1)
    asked = [line.split()[0] for line in fake[0]() if "forward" in line]
    assert asked == ["ours", "original"] * 2 + ["ours", "openvino"] * 2
    assert rows["openvino"]["ratio"] == "1.000" and rows["ours"]["rounds"] == "2"


def test_an_interrupted_run_keeps_what_it_has_measured(fake, tmp_path):
    path, asked = tmp_path / "2026-01-01-cpu2-peers.csv", []

    def stop(text):
        asked.append(text)
        if "round 2 of 3: original" in text:
            raise KeyboardInterrupt

    made = harness.Bench(engines.choose("ours,original", "cpu"), table.Table(path, {}), 3, tell=stop)
    with pytest.raises(KeyboardInterrupt):
        made.together(made.named(), lambda *_: None, "forward", lambda engine: {"height": 1}, job="inference")
    assert [(row["engine"], row["rounds"]) for row in table.read(path)] == [("ours", "2"), ("original", "2")]
    assert sorted(each.name for each in tmp_path.iterdir() if each.suffix == ".csv") == [path.name]


def test_rows_measured_anew_take_the_place_of_older_ones(tmp_path):
    path = tmp_path / "rows.csv"
    table.Table(path, {"date": "1"}).add({"job": "a", "engine": "ours"}, {"job": "b", "engine": "ours"})
    table.Table(path, {"date": "2"}).add({"job": "a", "engine": "ours", "seconds": "1.5"})
    assert [(row["job"], row["date"], row["seconds"]) for row in table.read(path)] == [
        ("b", "1", ""),
        ("a", "2", "1.5"),
    ]


def test_a_higher_ceiling_counts_for_all_rows_of_the_run(tmp_path):
    limits = about.best(
        {**dict.fromkeys(about.LIMITS, ""), "bf16_gflops": "9"}, dict.fromkeys(about.LIMITS, "10")
    )
    assert limits == dict.fromkeys(about.LIMITS, "10")
    rows = table.Table(tmp_path / "rows.csv", {"float32_gflops": "8"})
    rows.add({"job": "a", "precision": "float32", "gflops": "5", "share_of_ceiling": "0.625"})
    rows.update(limits)
    (row,) = table.read(rows.path)
    assert (row["share_of_ceiling"], row["float32_gflops"]) == ("0.500", "10")


def test_ratios_are_medians_round_by_round():
    taken = turns.Turns(
        groups=[{"ours": [{"seconds": s} for s in (1, 2, 6)], "x": [{"seconds": s} for s in (2, 2, 4)]}]
    )
    row = taken.row("x", "ours")
    assert (row["ratio"], row["ratio_min"], row["ratio_max"]) == ("1.000", "0.500", "1.500")
    assert (row["seconds"], row["seconds_min"], row["seconds_max"]) == ("2.0000", "2.0000", "4.0000")


def test_differences(tmp_path):
    scores = np.zeros((1, 2, 2, 2), np.float32)
    scores[0, 1, 0] = 4
    other = scores.copy()
    other[0, 0, 1, 1], other[0, 1, 0, 0] = 1, 3
    np.save(tmp_path / "a.npy", other)
    np.save(tmp_path / "b.npy", scores)
    assert turns.difference(tmp_path / "a.npy", tmp_path / "b.npy") == {
        "difference": "2.5e-01",
        "equal_labels": "1.000000",
    }
    other[0, 1, 1, 1] = 2
    np.save(tmp_path / "a.npy", other)
    assert turns.difference(tmp_path / "a.npy", tmp_path / "b.npy")["equal_labels"] == "0.750000"
    np.savez(tmp_path / "a.npz", x=[1.0, 2.0], y=[8.0])
    np.savez(tmp_path / "b.npz", x=[1.0, 4.0], y=[8.0])
    assert turns.difference(tmp_path / "a.npz", tmp_path / "b.npz") == {"difference": "5.0e-01"}


def _small(stride):
    """A material of the mini net: random weights by name, and the net."""
    model = material.Material(f"fcn{stride}s", ROOT / f"mini-fcn{stride}s")
    net = timing.fill(timing.build(nets.read_prototxt(model.deploy, caffe.proto.caffe_pb2.NetParameter())))
    state = {
        f"{name}.{kind}": torch.from_numpy(blob.data.copy())
        for name, blobs in net.params.items()
        for kind, blob in zip(("weight", "bias"), blobs, strict=False)
    }
    return model, net, state


@pytest.mark.parametrize("stride", [8, 16, 32])
def test_the_plain_module_gives_what_our_engine_gives(stride):
    _, net, state = _small(stride)
    picture = answering.image(64, 80)
    timing.put(net, picture)
    net.forward()
    with torch.no_grad():
        scores = plain.FCN(state).eval()(torch.from_numpy(picture)).numpy()
    ours = net.blobs["score"].data
    assert scores.shape == ours.shape == (1, 21, 64, 80)
    assert np.abs(scores - ours).max() <= 1e-5 * np.abs(ours).max()


@pytest.mark.parametrize("images", [1, 3])
@pytest.mark.parametrize("stride", [8, 32])
def test_the_plain_module_learns_what_our_engine_learns(stride, images, tmp_path, monkeypatch):
    model, net, state = _small(stride)
    monkeypatch.setattr(material, "WORK", tmp_path)
    monkeypatch.setattr(material, "RATES", (1e-8, 0.9, 3e3))
    param = nets.read_prototxt(model.directory / "train.prototxt", caffe.proto.caffe_pb2.NetParameter())
    param.layer[-1].loss_param.normalize = False
    for layer in param.layer:
        if layer.type == "Deconvolution":
            layer.param[0].lr_mult = 0
    monkeypatch.setattr(material.nets, "read_prototxt", lambda *_: param)
    solver = caffe.SGDSolver(str(model.solver(images)))
    for name, blobs in net.params.items():
        for blob, other in zip(solver.net.params[name], blobs, strict=True):
            blob.data[...] = other.data
    # dark: where scores are far apart, Caffe's loss stops at the smallest float's logarithm
    image, truth = answering.image(64, 64) / 100, answering.label(64, 64)
    for blob, values in (("data", image), ("label", truth[None, None])):
        solver.net.blobs[blob].reshape(*values.shape)
        solver.net.blobs[blob].data[...] = values
    solver.step(2)
    module = plain.FCN(state, dropout=0).train()
    optimize = plain.optimizer(module, *material.RATES)
    picture, label = torch.from_numpy(image), torch.from_numpy(truth).long()[None]
    for _ in range(2):
        loss = plain.iteration(module, optimize, picture, label, images)
    assert loss == pytest.approx(float(solver.net.blobs["loss"].data), rel=1e-4)
    for name, blobs in solver.net.params.items():
        for kind, blob in zip(("weight", "bias"), blobs, strict=False):
            before = state[f"{name}.{kind}"].numpy()
            update, other = (
                module.get_parameter(f"{name}.{kind}").detach().numpy() - before,
                blob.data - before,
            )
            if name.startswith("upscore"):
                assert not update.any() and not other.any()
            else:
                assert np.abs(other).max() > 0, name
                assert np.abs(update - other).max() <= 1e-3 * np.abs(other).max() + 1e-7, (name, kind)


def test_multiply_adds_by_hand():
    n = caffe.NetSpec()
    n.data = caffe.layers.Input(shape={"dim": [2, 3, 5, 7]})
    n.conv = caffe.layers.Convolution(n.data, num_output=4, kernel_size=3, pad=1)
    n.up = caffe.layers.Deconvolution(
        n.conv, convolution_param={"num_output": 4, "kernel_size": 4, "stride": 2}, param={"lr_mult": 0}
    )
    n.ip = caffe.layers.InnerProduct(n.up, num_output=6)
    net = timing.build(n.to_proto())
    conv, up = 2 * 5 * 7 * 4 * 3 * 9, 2 * 5 * 7 * 4 * 4 * 16
    inner = 2 * 6 * 4 * 12 * 16
    assert about.multiply_adds(net) == conv + up + inner
    # of the first no gradient goes to the data, of the second none to what is fixed
    assert about.multiply_adds(net, backward=True) == 2 * conv + 2 * up + 3 * inner


def test_the_ceiling_is_measured():
    found = about.ceiling(size=512, tries=2)
    assert list(found) == list(about.LIMITS) and float(found["float32_gflops"]) > 0
    assert float(found["copy_gbs"]) > 0 and found["tf32_gflops"] == ""


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_without_a_gpu_it_says_so(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["bench.py", "--device", "cuda"])
    assert bench.files.exit_status(bench.main) == 1
    assert capsys.readouterr().err.startswith("error: PyTorch finds no CUDA GPU")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--only", "infer"], "there is no job 'infer'; there are inference,"),
        (["--sizes", "500"], "sizes are height x width, such as 500x500,375x500, not '500'"),
        (["--rounds", "0"], "at least 1 is needed, not '0'"),
    ],
)
def test_a_wrong_command_line_is_explained(arguments, words, capsys):
    with pytest.raises(SystemExit):
        bench.parse(arguments)
    assert words in capsys.readouterr().err


def test_labels_are_those_of_trained_nets():
    with pytest.raises(DataError, match="name their directories with --trained DIR"):
        bench._pictures(bench.parse(["--only", "labels"]))


def test_nets_of_one_name_are_told_apart(tmp_path):
    paths = [tmp_path / each for each in ("a/1/fcn8s", "a/2/fcn8s")]
    assert jobs._titles(paths) == {"1/fcn8s": paths[0], "2/fcn8s": paths[1]}
    assert jobs._titles([paths[0], paths[0]]) == {"fcn8s": paths[0]}


def test_engines_are_chosen_by_name():
    assert [engine.name for engine in engines.choose("openvino bf16, ours", "cpu")] == [
        "ours",
        "openvino bf16",
    ]
    with pytest.raises(ValueError, match="no engine 'openvino' on cuda; there are ours, ours tf32"):
        engines.choose("openvino", "cuda")


def test_ours_trains_in_float32_and_tf32_the_others_in_all_they_have():
    for device in ("cpu", "cuda"):
        lost = [engine.name for engine in engines.choose(None, device) if not engine.trains]
        assert lost == ["ours bf16"] + ["onnxruntime", "openvino", "openvino bf16"] * (device == "cpu")


def test_training_is_measured_without_what_only_tests(monkeypatch):
    asked = []
    made = harness.Bench(
        engines.choose("ours,ours bf16,original,openvino", "cpu"), None, sizes=[(32, 32)], tell=asked.append
    )
    monkeypatch.setattr(material.Material, "costs", lambda *_, **__: {(32, 32): 0})
    monkeypatch.setattr(
        harness.Bench,
        "together",
        lambda self, engines, *_, **record: asked.append((record["net"], [*engines])),
    )
    jobs.training(made)
    assert [each for each in asked if isinstance(each, tuple)] == [
        ("fcn32s", ["ours", "original"]),
        ("fcn8s", ["ours", "original"]),
    ]


@pytest.mark.parametrize("images", [1, 3])
def test_a_worker_trains_as_training_does(images, tmp_path, monkeypatch):
    model, net, _ = _small(8)
    monkeypatch.setattr(material, "WORK", tmp_path)
    param = nets.read_prototxt(model.directory / "train.prototxt", caffe.proto.caffe_pb2.NetParameter())
    monkeypatch.setattr(material.nets, "read_prototxt", lambda *_: param)
    net.save(str(tmp_path / "w.caffemodel"))
    found = {}
    for way in ("whole", "kept"):
        made = caffes.Engine()
        arguments = {
            "solver": str(model.solver(images)),
            "weights": str(tmp_path / "w.caffemodel"),
            "steps": 2,
        }
        if way == "kept":
            monkeypatch.delattr(Solver, "step_whole")
        answer = made.train(**arguments, height=48, width=64, save=str(tmp_path / f"{way}.npz"))
        found[way] = answer["loss"]
        assert answer["seconds"] > 0 and np.isfinite(answer["loss"])
    assert found["whole"] == pytest.approx(found["kept"], rel=1e-4)
    apart = turns.difference(tmp_path / "whole.npz", tmp_path / "kept.npz")
    assert float(apart["difference"]) < 1e-3


def test_what_is_not_built_says_how(monkeypatch, tmp_path):
    monkeypatch.setattr(engines, "ROOT", tmp_path)
    monkeypatch.setattr(peers, "python", lambda: tmp_path / "python")
    with pytest.raises(engines.EngineError, match=r"not built; build it with: make bvlc$"):
        engines.Engine("original").command()
    with pytest.raises(
        engines.EngineError, match=r"openvino is not installed; install it with: python bench/peers\.py"
    ):
        engines.Engine("openvino").command()


def test_the_peers_environment_is_made_once_and_goes_on_where_it_failed(monkeypatch, tmp_path):
    said, calls = [], []

    class Done:
        stderr = "noise\nERROR: no such package"

    def run(words, **_):
        calls.append(words[-1])
        if words[1:3] == ["-m", "venv"]:
            peers.packages(Path(words[-1])).mkdir(parents=True)
        done = Done()
        done.returncode = int("torchfcn" in words[-1] and calls.count(words[-1]) == 1)
        return done

    monkeypatch.setattr(peers.subprocess, "run", run)
    home, listed = tmp_path / "peers", tmp_path / "peers.txt"
    listed.write_text("# peers\nopenvino==1\n--no-deps torchfcn==2  # alone\n")
    assert peers.make(home, listed, said.append) == {"torchfcn": "ERROR: no such package"}
    assert said[-1] == "warning: --no-deps torchfcn==2 cannot be installed: ERROR: no such package"
    assert peers.make(home, listed) == {} and peers.make(home, listed) == {}
    assert calls == [str(home), "openvino==1", "torchfcn==2", "torchfcn==2"]
    listed.write_text("openvino==2\n")
    peers.make(home, listed, said.append)
    assert calls[-2:] == [str(home), "openvino==2"]


def test_memory_that_a_larger_image_needs():
    assert growth.predicted([(10, 100)], 20) == 0
    assert growth.predicted([(1, 1), (10, 100), (20, 150)], 40) == 250


def test_sizes_take_turns_and_are_compared_by_the_pixel(fake, tmp_path, monkeypatch):
    asked, failing = fake
    failing["openvino"] = "is missing"

    class Net:
        def costs(self, sizes):
            return dict.fromkeys(sizes, 10**9)

        def load(self, kind):
            return {}

    monkeypatch.setattr(growth.material, "fcn", lambda stride: Net())
    monkeypatch.setattr(growth.material, "classes_net", lambda count: f"{count}.prototxt")
    monkeypatch.setattr(growth, "CLASSES", (2, 21))
    monkeypatch.setattr(growth, "BATCHES", (1,))
    path = tmp_path / "2026-01-01-cpu2-peers.csv"
    made = harness.Bench(
        engines.choose("ours,openvino", "cpu"),
        table.Table(path, {}),
        2,
        [(10, 10), (500, 500)],
        tell=[].append,
    )
    growth.growth(made)
    rows = {(row["job"], row["size"], row["variant"], row["engine"]): row for row in table.read(path)}
    assert len(rows) == 2 * 2 + 2 + 2, "openvino's rows say why they are empty"
    small = rows["growth pixels", "10x10", "", "ours"]
    assert small["ratio"] == "50.000" and small["rounds"] == "2" and "a pixel" in small["note"]
    assert rows["growth pixels", "500x500", "", "ours"]["ratio"] == ""
    assert rows["growth pixels", "10x10", "", "openvino"]["note"] == "it is not built"
    assert rows["growth classes", "256x256", "21 classes", "ours"]["seconds"] == "256.0000"
    assert asked()[:4] == 2 * ["ours load", "ours forward"], "for the peaks"
    assert asked()[4:10] == ["ours load"] + 5 * ["ours forward"], (
        "the larger one takes long: it needs no warm-up"
    )


def test_growth_is_drawn(tmp_path):
    rows = table.Table(tmp_path / "a.csv", {})
    assert not growth.picture(_written(rows), tmp_path / "a.png")
    for job, variant in (
        ("growth pixels", ""),
        ("growth classes", "21 classes"),
        ("growth batch", "batch 2"),
    ):
        rows.add(
            {
                "job": job,
                "variant": variant,
                "size": "64x64",
                "engine": "ours",
                "seconds": "1",
                "peak_mib": "9",
            }
        )
    assert growth.picture(rows.path, tmp_path / "a.png") and (tmp_path / "a.png").stat().st_size > 1000


def _written(rows):
    rows.add({"job": "start", "engine": "ours"})
    return rows.path


def test_photographs_are_in_vocs_layout(tmp_path, monkeypatch):
    monkeypatch.setattr(material, "WORK", tmp_path)
    monkeypatch.setattr(material, "SHAPES", {(30, 40): 1, (40, 30): 1})
    folder, ids = material.photographs(3)
    assert len(ids) == 3 and material.photographs(3) == (folder, ids)
    seen = material.seen(folder / f"JPEGImages/{ids[0]}.jpg")
    assert sorted(seen.shape) == [1, 3, 30, 40] and seen.dtype == np.float32 and seen.min() < 0
    assert (folder / "ImageSets/Segmentation/bench.txt").read_text().split() == ids


def test_the_readmes_table_is_made_of_a_record(tmp_path, monkeypatch):
    path = tmp_path / "2026-01-01-cpu2-peers.csv"
    rows = table.Table(path, {"cpu": "a processor", "cores": "2", "date": "2026-01-01"})
    key = {"job": "inference", "net": "fcn8s", "size": "500x375", "precision": "float32"}
    rows.add(
        {**key, "engine": "ours", "seconds": "1.005", "difference": "7.6e-07", "equal_labels": "0.999995"},
        {**key, "engine": "original", "seconds": "3", "ratio": "0.335", "ratio_min": "0.3", "ratio_max": "0.4",
         "peak_ratio": "0.338"},
        {**key, "engine": "openvino", "note": "not installed"},
        {"job": "growth pixels", "size": "100x100", "engine": "ours", "seconds": "0.5", "peak_mib": "1536"},
    )  # fmt: skip
    monkeypatch.setattr(sources, "BENCH", path)
    made = sources.bench()
    assert (
        "| FCN-8s, inference, 500×375 | 1.01 s | 3.00 s: 0.34 (0.30–0.40) | 0.34 | 7.6e-7; 100.00% |" in made
    )
    assert "| 100×100 | 0.50 s | 50.0 µs | 1.5 GiB |" in made and "a processor, 2 cores, 2026-01-01" in made
    assert "openvino" not in made
    monkeypatch.setattr(sources, "BENCH", tmp_path / "none.csv")
    with pytest.raises(DataError, match="make bench"):
        sources.bench()


def test_the_columns_are_those_of_the_csv(tmp_path):
    path = tmp_path / "rows.csv"
    table.Table(path, {"cpu": "x"}).add({"job": "start", "engine": "ours", "unknown": "1"})
    with open(path, newline="") as file:
        assert next(csv.reader(file)) == [*table.KEY, *table.MEASURED, "cpu"]
