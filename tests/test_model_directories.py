"""The contract of every model directory: print, train by each recipe, score, snapshot, resume, segment, export."""

import re
import shutil

import caffe
import numpy as np
import pytest
from caffe.proto import caffe_pb2
from google.protobuf import text_format
from model_dirs import (
    ALL,
    IGNORED,
    ROOT,
    call,
    make_all_data,
    make_data,
    make_parent,
    narrow_prototxts,
    parameters,
    random_weights,
    run,
    scratch,
)
from PIL import Image

import infer
import nets
import surgery
from reproduction.workshop import parents_of

SCORES = ("pixel accuracy", "mean accuracy", "mean IU", "f.w. IU")


def random_parent(directory, path, without=("score", "up")):
    """A weight file with random values for the deploy net's layers, those that begin as ``without`` apart."""
    path.parent.mkdir(parents=True, exist_ok=True)
    random_weights(directory / "deploy.prototxt", path, without)


class Tree:
    """All data sets, small, and the model directories beside them: a sixteenth as wide, trained when asked for."""

    def __init__(self, root):
        self.root, self.printed = root, {}
        make_all_data(root / "data")

    def directory(self, name):
        """The narrow copy of a directory, whose minibatches are of two images, not twenty."""
        directory = self.root / name
        shutil.copytree(ROOT / name, directory, ignore=IGNORED, dirs_exist_ok=True)
        for stem, net in narrow_prototxts(name).items():
            (directory / f"{stem}.prototxt").write_text(text_format.MessageToString(net))
        for solver in directory.glob("solver*.prototxt"):
            solver.write_text(solver.read_text().replace("iter_size: 20", "iter_size: 2"))
        return directory

    def trained(self, name):
        """The directory after two iterations by each recipe, and what each printed, by solver."""
        if name not in self.printed:
            directory, printed = self.directory(name), {}
            for parent in parents_of(name):
                make_parent(self.root, parent)
            for solver in sorted(path.name for path in directory.glob("solver*.prototxt")):
                args = "--cpu", "--solver", solver, "--iterations", 2
                shutil.rmtree(directory / "snapshot", ignore_errors=True)
                printed[solver] = call(directory / "solve.py", *args)
            self.printed[name] = printed
        return self.root / name, self.printed[name]


@pytest.fixture(scope="module")
def tree(tmp_path_factory):
    return Tree(tmp_path_factory.mktemp("tree"))


directories = pytest.mark.parametrize("name", ALL)


@directories
def test_net_py_prints_the_committed_prototxts(name, tmp_path):
    directory = tmp_path / name
    directory.mkdir()
    shutil.copy(ROOT / name / "net.py", directory)
    printed = call(directory / "net.py").split()
    committed = {path.name for path in (ROOT / name).glob("*.prototxt") if not path.name.startswith("solver")}
    assert {path.rpartition("/")[2] for path in printed} == committed
    for file in committed:
        new, old = (
            nets.read_prototxt(folder / file, caffe_pb2.NetParameter()) for folder in (directory, ROOT / name)
        )
        assert new == old, file


@directories
def test_it_trains_by_every_recipe_and_is_scored(name, tree):
    directory, printed = tree.trained(name)
    parents = parents_of(name)
    heads = [
        layer.bottom[0]
        for layer in nets.read_prototxt(directory / "train.prototxt", caffe_pb2.NetParameter()).layer
        if layer.type == "SoftmaxWithLoss"
    ]
    assert len(printed) == len(list(directory.glob("solver*.prototxt")))
    for said in printed.values():
        assert said.count("weights from ") == len(parents)
        assert not parents or "copied" in said
        assert "per pixel" in said
        for head in heads:
            of = f"{head} " if len(heads) > 1 else ""
            for metric in SCORES:
                assert re.search(rf"Iteration 2 {of}{re.escape(metric)} [0-9.]+", said), (head, metric)
    for suffix in ("caffemodel", "solverstate"):
        assert (directory / "snapshot" / f"train_iter_2.{suffix}").exists()


@pytest.mark.parametrize(
    "name", [name for name in ALL if name != "mini-fcn32s"]
)  # that one starts from nothing
def test_every_weight_comes_from_a_parent_or_may_be_zero(name, tree):
    """Scores and upsampling may start at zero; nothing of a parent is left out but what the net lost."""
    lost = {
        "voc-fcn-pool4": {"conv5_1", "conv5_2", "conv5_3", "fc6", "fc7"},
        "voc-fcn32s-pool5s1": {"fc6"},
        "nyud-fcn32s-color-d": {"conv1_1"},
        "nyud-fcn32s-color-hha": {"upscorecolor", "upscorehha"},
        "pascalcontext-fcn16s": {"upscore"},
        "siftflow-fcn16s": {"upscore_sem", "upscore_geo"},
        "siftflow-fcn8s": {"upscore16_sem", "upscore16_geo"},
    }
    lost |= {stage: {"upscore"} for stage in ("voc-fcn16s", "mini-fcn16s", "nyud-fcn16s-color-hha")}
    lost |= {stage: {"upscore16"} for stage in ("voc-fcn8s", "mini-fcn8s", "pascalcontext-fcn8s")}
    _, printed = tree.trained(name)
    for said in printed.values():
        # the rows of reports, each unfolded; of several parents all were dropped, and the last says what is zero
        rows = re.sub(r"\n {20,}(?=\S)", " ", said).splitlines()
        dropped = " ".join(row for row in rows if row.strip().startswith("dropped"))
        names = {word.partition("[")[0] for word in re.findall(r"[a-z]+\w*\d?\w*(?:\[\d\])?(?= \()", dropped)}
        assert names == lost.get(name, set()), said
        *_, zero = (row.split(None, 5)[5:] for row in rows if row.strip().startswith("left at zero"))
        assert all(word.startswith(("score", "up")) for word in " ".join(zero).split(", ") if word), said


@directories
def test_it_resumes(name, tree):
    directory, _ = tree.trained(name)
    solver = sorted(directory.glob("solver*.prototxt"))[-1].name  # the one trained last
    state = directory / "snapshot" / "train_iter_2.solverstate"
    said = call(directory / "solve.py", "--cpu", "--solver", solver, "--iterations", 3, "--snapshot", state)
    assert "resumed at iteration 2" in said and re.search(r"Iteration 3 .*mean IU", said)
    before, after = (parameters(state.with_name(f"train_iter_{n}.caffemodel")) for n in (2, 3))
    assert before.keys() == after.keys() and before != after


@directories
def test_it_segments(name, tree, tmp_path, monkeypatch):
    directory, _ = tree.trained(name)
    monkeypatch.chdir(directory)
    data = infer.data_layer(directory)
    data.open()
    tops, labels = ([top for top in data.chosen if (top in data.labels) == yes] for yes in (False, True))
    files = [data.path(top, data.ids[0]) for top in tops]
    more = [word for top, file in zip(tops[1:], files[1:], strict=True) for word in (f"--{top}", file)]
    weights = directory / "snapshot" / "train_iter_2.caffemodel"
    args = [files[0], *more, "--model", directory, "--weights", weights, "--out", tmp_path, "--cpu"]
    assert infer.main([str(arg) for arg in args]) == 0
    with Image.open(files[0]) as image:
        size = image.size
    for label in labels:
        stem = files[0].stem + (f"_{label}" if len(labels) > 1 else "")
        with Image.open(tmp_path / f"{stem}.png") as seg:
            assert (seg.mode, seg.size) == ("P", size)
            assert np.asarray(seg).max() < data.params[data.labels[label]]
        assert (tmp_path / f"{stem}_overlay.png").exists()


@directories
@pytest.mark.needs_embedded("it has no export to ONNX")
def test_it_is_exported(name, tree, tmp_path):
    directory, _ = tree.trained(name)
    weights = directory / "snapshot" / "train_iter_2.caffemodel"
    from caffe.export import to_onnx

    made = to_onnx(directory / "deploy.prototxt", weights, tmp_path / "net.onnx")
    assert made.path.stat().st_size > 1000


@directories
@pytest.mark.full
def test_the_full_width_net_runs(name, tmp_path):
    """With no weights but bilinear upsampling, and k for each score layer's bias of class k, it scores k."""
    deploy = nets.read_prototxt(ROOT / name / "deploy.prototxt", caffe_pb2.NetParameter())
    for layer in deploy.layer:
        if layer.type == "Input":
            layer.input_param.shape[0].dim[2:] = [33, 41]
    (tmp_path / "deploy.prototxt").write_text(text_format.MessageToString(deploy))
    net = caffe.Net(str(tmp_path / "deploy.prototxt"), caffe.TEST)
    random = np.random.default_rng(0)
    surgery.interp(net, [name for name in net.params if name.startswith("up")])
    scored = [blobs[1] for layer, blobs in net.params.items() if layer.startswith("score")]
    for bias in scored:
        bias.data[...] = np.arange(bias.count)
    for blob in net.inputs:
        net.blobs[blob].data[...] = random.normal(0, 50, net.blobs[blob].data.shape)
    net.forward()
    for output in net.outputs:
        (scores,) = net.blobs[output].data
        assert scores.shape[1:] == (33, 41)
        ones = scores[1]  # less than the sum of score layers where upsampling reaches past the coarse map
        assert 0 < ones.min() and ones.max() <= len(scored) + 1e-5
        expected = np.arange(len(scores))[:, np.newaxis, np.newaxis] * ones
        np.testing.assert_allclose(scores, expected, rtol=1e-5)


EXACT = pytest.mark.needs_embedded("a .solverstate of it does not hold the random state, which draws dropout")


@pytest.mark.parametrize("dropout", [0, pytest.param(0.5, marks=EXACT)])
def test_train_10_equals_train_5_resume_5_to_the_byte(tmp_path, dropout):
    """Through solve.py, with a data layer that draws its images in the background."""
    whole = scratch(tmp_path / "a", "mini-fcn8s", dropout=dropout)
    run(whole / "solve.py", "--cpu", "--iterations", 10)
    half = scratch(tmp_path / "b", "mini-fcn8s", dropout=dropout)
    run(half / "solve.py", "--cpu", "--iterations", 5)
    run(half / "solve.py", "--cpu", "--iterations", 10, "--snapshot", "snapshot/train_iter_5.solverstate")
    one, two = (parameters(d / "snapshot" / "train_iter_10.caffemodel") for d in (whole, half))
    assert one == two
    assert one != parameters(half / "snapshot" / "train_iter_5.caffemodel")


def test_fixed_upsampling_never_moves(tmp_path):
    directory = scratch(tmp_path, "voc-fcn8s")
    random_parent(directory, tmp_path / "parent.caffemodel", without="up")
    heavy = ("--solver", "solver-heavy.prototxt", "--weights", tmp_path / "parent.caffemodel")
    call(directory / "solve.py", "--cpu", *heavy, "--iterations", 3)
    net = caffe.Net(str(directory / "deploy.prototxt"), caffe.TEST)
    up = [name for name in net.params if "up" in name]
    surgery.interp(net, up)
    trained = parameters(directory / "snapshot" / "train_iter_3.caffemodel")
    assert len(up) == 3
    for name in up:
        assert trained[name][0] == net.params[name][0].data.tobytes()
    # the paper's recipe learns the intermediate ones, never the last
    call(directory / "solve.py", "--cpu", "--iterations", 1, "--weights", tmp_path / "parent.caffemodel")
    trained = parameters(directory / "snapshot" / "train_iter_1.caffemodel")
    moved = [name for name in up if trained[name][0] != net.params[name][0].data.tobytes()]
    assert "upscore8" not in moved and moved


def test_without_data_or_weights_solve_says_what_to_get(tmp_path):
    directory = tmp_path / "voc-fcn8s"
    shutil.copytree(ROOT / "voc-fcn8s", directory, ignore=shutil.ignore_patterns("snapshot"))
    done = run(directory / "solve.py", check=False)
    assert done.returncode == 1 and "Traceback" not in done.stderr
    for words in ("voc-fcn16s", "--weights", "VOCtrainval_25-May-2011.tar", "benchmark.tgz", "prepare.py"):
        assert words in done.stderr, words
    assert not (directory / "snapshot").exists()


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (("--weights", "none.caffemodel"), "none.caffemodel"),
        (("--snapshot", "none.solverstate"), "none.solverstate"),
        (("--solver", "none.prototxt"), "none.prototxt"),
        (("--gpu", "7"), "GPU"),
        (("--iterations", "0"), "at least 1"),
        (("--snapshot", "a", "--weights", "b"), "not both"),
    ],
)
def test_bad_arguments_end_in_one_message(tmp_path, args, words):
    directory = scratch(tmp_path, "mini-fcn8s")
    done = run(directory / "solve.py", *args, check=False, CUDA_VISIBLE_DEVICES="")
    assert done.returncode != 0 and words in done.stderr and "Traceback" not in done.stderr


def test_a_label_out_of_range_stops_training_with_the_file_and_the_fix(tmp_path):
    directory = scratch(tmp_path, "mini-fcn8s")
    for path in (tmp_path / "data/pascal/sample/VOC2011/SegmentationClass").iterdir():
        with Image.open(path) as image:
            label = np.asarray(image).copy()
        label[5, 5:9] = 40
        Image.fromarray(label).save(path)
    done = run(directory / "solve.py", "--cpu", "--iterations", 1, check=False)
    assert done.returncode == 1 and "Traceback" not in done.stderr
    assert ".png" in done.stderr and "40" in done.stderr and "20" in done.stderr


def test_weights_of_another_net_are_refused(tmp_path):
    wide, narrow = scratch(tmp_path, "mini-fcn8s", narrow=False), scratch(tmp_path / "n", "mini-fcn8s")
    random_parent(wide, tmp_path / "wide.caffemodel")
    done = run(narrow / "solve.py", "--cpu", "--weights", tmp_path / "wide.caffemodel", check=False)
    assert done.returncode == 1 and "another net" in done.stderr and "Traceback" not in done.stderr


def test_a_net_that_cannot_learn_is_refused(tmp_path):
    """Weights without conv3_1 leave it at zero, and everything above and below it dead."""
    directory = scratch(tmp_path, "voc-fcn32s")
    random_parent(directory, tmp_path / "parent.caffemodel")
    net = caffe.Net(
        str(directory / "deploy.prototxt"), caffe.TEST, weights=str(tmp_path / "parent.caffemodel")
    )
    net.params["conv3_1"][0].data[...] = 0
    net.save(str(tmp_path / "hole.caffemodel"))
    done = run(directory / "solve.py", "--cpu", "--weights", tmp_path / "hole.caffemodel", check=False)
    assert done.returncode == 1 and "conv3_1" in done.stderr and "zero" in done.stderr


@pytest.mark.full
@pytest.mark.timeout(900)
def test_full_width_32s_16s_8s_train_in_sequence(tmp_path):
    """The three nets at full width, each from its parent: 2 iterations, score, snapshot, resume."""
    make_data(tmp_path / "data")
    parent = tmp_path / "ilsvrc-nets" / "vgg16-fcn.caffemodel"
    shutil.copytree(ROOT / "ilsvrc-nets", parent.parent, ignore=shutil.ignore_patterns("*.caffemodel"))
    net = caffe.Net(str(ROOT / "ilsvrc-nets" / "vgg16-fcn.prototxt"), caffe.TEST)
    for blobs in net.params.values():
        scale = (6 / blobs[0].data[0].size) ** 0.5
        blobs[0].data[...] = np.random.default_rng(0).random(blobs[0].shape, np.float32) * (2 * scale) - scale
    net.save(str(parent))
    del net
    previous = parent
    for name in ("voc-fcn32s", "voc-fcn16s", "voc-fcn8s"):
        directory = scratch(tmp_path, name, narrow=False)
        heavy = ("--cpu", "--solver", "solver-heavy.prototxt")
        done = run(directory / "solve.py", *heavy, "--iterations", 2)
        assert f"weights from {previous.relative_to(tmp_path)}" in done.stdout.replace("../", "")
        assert "Iteration 2 mean IU" in done.stdout
        if name == "voc-fcn32s":
            # zero scores: the first loss is that of a net that knows nothing
            assert re.search(r"Iteration 0 .*\(3\.0445 per pixel\)", done.stdout)
        snapshot = directory / "snapshot"
        run(
            directory / "solve.py",
            *heavy,
            "--iterations",
            3,
            "--snapshot",
            snapshot / "train_iter_2.solverstate",
        )
        previous.unlink()
        for spent in (*snapshot.glob("*.solverstate"), snapshot / "train_iter_2.caffemodel"):
            spent.unlink()
        previous = snapshot / "train_iter_3.caffemodel"
        assert previous.stat().st_size > 537_000_000
    photo = next((tmp_path / "data/pascal/VOC2011/JPEGImages").iterdir())
    run(ROOT / "infer.py", photo, "--model", tmp_path / "voc-fcn8s", "--out", tmp_path / "out", "--cpu")
    assert (tmp_path / "out" / f"{photo.stem}.png").exists()
