"""The contract of every model directory: print, train, score, snapshot, resume, segment."""

import re
import shutil

import caffe
import numpy as np
import pytest
from model_dirs import ALL, ROOT, make_data, parameters, run, scratch
from PIL import Image

import surgery

SCORES = ("pixel accuracy", "mean accuracy", "mean IU", "f.w. IU")


def random_parent(directory, path, without=("score", "up")):
    """A weight file with random values for the deploy net's layers, those that begin as ``without`` apart."""
    net = caffe.Net(str(directory / "deploy.prototxt"), caffe.TEST)
    random = np.random.default_rng(0)
    for name, blobs in net.params.items():
        if not name.startswith(without):
            for blob in blobs:
                blob.data[...] = (
                    random.standard_normal(blob.shape, np.float32) * (2 / max(blob.data[0].size, 1)) ** 0.5
                )
    path.parent.mkdir(parents=True, exist_ok=True)
    net.save(str(path))


@pytest.mark.parametrize("name", ALL)
def test_a_narrow_copy_trains_scores_resumes_and_segments(name, tmp_path):
    directory = scratch(tmp_path, name)
    random_parent(directory, tmp_path / "parent.caffemodel")
    heavy = (directory / "solver-heavy.prototxt").exists()
    solver = ("--solver", "solver-heavy.prototxt") if heavy else ()
    first = run(
        directory / "solve.py",
        "--cpu",
        *solver,
        "--iterations",
        2,
        "--weights",
        tmp_path / "parent.caffemodel",
    )
    assert "copied" in first.stdout and "left at zero" in first.stdout
    for metric in SCORES:
        assert re.search(rf"Iteration 2 {re.escape(metric)} [0-9.]+", first.stdout), metric
    assert "per pixel" in first.stdout
    state = directory / "snapshot" / "train_iter_2.solverstate"
    assert state.exists()
    resumed = run(directory / "solve.py", "--cpu", *solver, "--iterations", 3, "--snapshot", state)
    assert "resumed at iteration 2" in resumed.stdout and "Iteration 3 mean IU" in resumed.stdout
    assert (directory / "snapshot" / "train_iter_3.caffemodel").exists()

    photo = next((tmp_path / "data/pascal/VOC2011/JPEGImages").iterdir())
    out = tmp_path / "out"
    run(ROOT / "infer.py", photo, "--model", directory, "--out", out, "--cpu")
    with Image.open(out / f"{photo.stem}.png") as seg, Image.open(photo) as image:
        assert seg.mode == "P" and seg.size == image.size
    assert (out / f"{photo.stem}_overlay.png").exists()


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
    run(directory / "solve.py", "--cpu", *heavy, "--iterations", 3)
    net = caffe.Net(str(directory / "deploy.prototxt"), caffe.TEST)
    up = [name for name in net.params if "up" in name]
    surgery.interp(net, up)
    trained = parameters(directory / "snapshot" / "train_iter_3.caffemodel")
    assert len(up) == 3
    for name in up:
        assert trained[name][0] == net.params[name][0].data.tobytes()
    # the paper's recipe learns the intermediate ones, never the last
    run(directory / "solve.py", "--cpu", "--iterations", 1, "--weights", tmp_path / "parent.caffemodel")
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
