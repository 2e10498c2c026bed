"""The training loop: its loss per pixel, its warnings, interruption, the choice of a parent."""

import math
import os
import shlex
import shutil
import signal
import subprocess
import sys
import time

import caffe
import numpy as np
import pytest
from caffe.proto import caffe_pb2
from google.protobuf import text_format
from model_dirs import make_parent, narrow_prototxts, parameters, random_weights, run, scratch
from trees import items, sbd_tree, voc_tree

import layers
import nets
import surgery
import training
from files import DataError
from reproduction.workshop import parents_of

NET = """
layer {{ name: "data" type: "Input" top: "x" input_param {{ shape {{ dim: 1 dim: 3 dim: 4 dim: 4 }} }} }}
layer {{ name: "label" type: "Input" top: "label" input_param {{ shape {{ dim: 1 dim: 1 dim: 4 dim: 4 }} }} }}
layer {{ name: "score" type: "Convolution" bottom: "x" top: "score"
  convolution_param {{ num_output: 5 kernel_size: 1 }} }}
layer {{ name: "loss" type: "SoftmaxWithLoss" bottom: "score" bottom: "label" top: "loss"
  loss_param {{ ignore_label: 255 {mode} }} }}
"""


def meter_of(tmp_path, mode):
    text = NET.format(mode=mode)
    path = tmp_path / "net.prototxt"
    path.write_text(text)
    net = caffe.Net(str(path), caffe.TRAIN)
    net.blobs["label"].data[0, 0, 0] = 255
    net.forward()
    return training.LossMeter(net, text_format.Parse(text, caffe_pb2.NetParameter())), net


@pytest.mark.parametrize(
    ("mode", "loss"),
    [
        ("normalize: true", math.log(5)),
        ("normalize: false", 12 * math.log(5)),
        ("normalization: FULL", 12 / 16 * math.log(5)),
        ("normalization: NONE", 12 * math.log(5)),
        ("", math.log(5)),
    ],
)
def test_loss_per_pixel_is_ln_c_for_zero_scores_whatever_the_normalisation(tmp_path, mode, loss):
    meter, _ = meter_of(tmp_path, mode)
    meter.update()
    assert meter.chance == pytest.approx(math.log(5))
    assert meter.loss == pytest.approx(loss, rel=1e-5)
    assert meter.per_pixel == pytest.approx(math.log(5), rel=1e-5)
    assert meter.line(0, 1, 1.0, 0.25).endswith("(1.6094 per pixel), 25.0% of the time waiting for data")


def test_a_loss_that_stays_at_ln_c_is_told_once(tmp_path):
    meter, net = meter_of(tmp_path, "normalize: true")
    said = []
    for _ in range(250):
        meter.update()
        said += meter.warnings()
    assert len(said) == 1 and "ln C" in said[0] and "zero" in said[0]
    learning, net = meter_of(tmp_path, "normalize: true")
    said = []
    for step in range(250):
        net.params["score"][1].data[0] = step / 100
        net.forward()
        learning.update()
        said += learning.warnings()
    assert not said


def test_a_loss_that_is_not_finite_stops_with_the_cause(tmp_path):
    meter, net = meter_of(tmp_path, "normalize: true")
    net.params["score"][0].data[...] = np.nan
    net.blobs["x"].data[...] = 1
    net.forward()
    with pytest.raises(DataError, match="learning rate"):
        meter.update()


def test_a_parent_is_the_newest_file_of_the_first_pattern_that_has_one(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    parent = training.Parent("stage", ("snapshot/train_iter_*.caffemodel", "released.caffemodel"), "do this")
    with pytest.raises(DataError, match=r"stage(.|\n)*do this(.|\n)*--weights"):
        parent.find()
    (tmp_path / "released.caffemodel").touch()
    assert parent.find().name == "released.caffemodel"
    (tmp_path / "snapshot").mkdir()
    for n in (900, 4000, 12000):
        (tmp_path / "snapshot" / f"train_iter_{n}.caffemodel").touch()
    assert parent.find().name == "train_iter_12000.caffemodel"


def test_the_device_is_the_gpu_when_there_is_one(monkeypatch):
    chosen = []
    monkeypatch.setattr(caffe, "set_device", lambda n: chosen.append(n))
    monkeypatch.setattr(caffe, "set_mode_gpu", lambda: chosen.append("gpu"))
    monkeypatch.setattr(caffe, "set_mode_cpu", lambda: chosen.append("cpu"))
    monkeypatch.setattr(caffe, "device_count", lambda: 2, raising=False)
    assert training.choose_device(None, False) == "GPU 0" and training.choose_device(1, False) == "GPU 1"
    assert training.choose_device(None, True) == "CPU"
    monkeypatch.setattr(caffe, "device_count", lambda: 0, raising=False)
    assert training.choose_device(None, False) == "CPU"
    assert chosen == [0, "gpu", 1, "gpu", "cpu", "cpu"]


@pytest.mark.parametrize("here", ["", "mini-fcn8s"])
def test_ctrl_c_saves_and_says_how_to_go_on_from_where_one_stands(tmp_path, here):
    directory = scratch(tmp_path, "mini-fcn8s")
    shutil.copy(directory / "solver.prototxt", directory / "my solver.prototxt")
    script = "solve.py" if here else "mini-fcn8s/solve.py"
    options = [
        "--cpu",
        "--iterations",
        "100000",
        "--solver",
        f"{script.removesuffix('solve.py')}my solver.prototxt",
    ]
    process = subprocess.Popen(
        [sys.executable, script, *options],
        cwd=tmp_path / here,
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    for line in process.stdout:
        if line.startswith("Iteration 20 "):
            break
    process.send_signal(signal.SIGINT)
    started = time.monotonic()
    _, errors = process.communicate(timeout=120)
    assert time.monotonic() - started < 60
    assert process.returncode == 1 and "Traceback" not in errors
    stopped = int(errors.split("stopped at iteration ")[1].split(",")[0])
    for ending in ("solverstate", "caffemodel"):
        assert (directory / f"snapshot/train_iter_{stopped}.{ending}").is_file()
    words = shlex.split(errors.split("go on with: ")[1])
    assert words[1] == script and words[-1] == "--resume" and "100000" in words
    words[words.index("100000")] = str(stopped + 1)
    done = subprocess.run(words, cwd=tmp_path / here, capture_output=True, text=True, timeout=120)
    assert f"resumed at iteration {stopped}" in done.stdout, done.stderr
    assert f"Iteration {stopped + 1} mean IU" in done.stdout and done.returncode == 0


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        (["--gpu", "0"], ["--gpu", "0"]),
        (["--cpu", "--weights", "w.caffemodel"], ["--cpu"]),
        (["--snapshot", "s.solverstate", "--data-root", "d"], ["--data-root", "d"]),
        (["--allow-overlap", "--resume"], ["--allow-overlap"]),
    ],
)
def test_the_command_to_go_on_keeps_what_was_asked_for(monkeypatch, tmp_path, given, kept):
    monkeypatch.setattr(sys, "argv", ["a b/solve.py", *given])
    words = shlex.split(training._go_on(training._arguments(tmp_path, 25)))
    assert words[1:] == ["a b/solve.py", *kept, "--resume"]


# parents


def test_a_classifier_is_looked_for_where_prepare_py_puts_it():
    plain = training.classifier("vgg19")
    assert plain.files == ("../ilsvrc-nets/vgg19-fcn.caffemodel",)
    assert (plain.prototxt, plain.suffix, plain.changed, plain.change) == ("", "", "", None)
    assert plain.how == "python ilsvrc-nets/prepare.py all vgg19"
    changed = training.classifier("vgg19", changed="fc6", change=surgery.rarefy)
    assert (changed.prototxt, changed.changed) == ("../ilsvrc-nets/vgg19-fcn.prototxt", "fc6")
    assert changed.change is surgery.rarefy


def test_a_stage_is_trained_here_or_released():
    plain = training.stage("voc-fcn32s", "fcn32s-heavy-pascal")
    assert plain.files == (
        "../voc-fcn32s/snapshot/train_iter_*.caffemodel",
        "../voc-fcn32s/fcn32s-heavy-pascal.caffemodel",
    )
    assert "cd voc-fcn32s && python solve.py" in plain.how and "fcn32s-heavy-pascal" in plain.how
    assert plain.how.endswith("python data/released/prepare.py get voc-fcn32s")
    assert plain.prototxt == ""
    unreleased = training.stage("nyud-fcn32s-hha", suffix="hha")
    assert unreleased.files == ("../nyud-fcn32s-hha/snapshot/train_iter_*.caffemodel",)
    assert (unreleased.prototxt, unreleased.suffix) == ("../nyud-fcn32s-hha/deploy.prototxt", "hha")
    assert "authors" not in unreleased.how


@pytest.fixture
def born(tmp_path, monkeypatch):
    """``born(name)``: a narrow net of that directory in its place, and its parents with random weights."""

    def born(name):
        (tmp_path / name).mkdir()
        monkeypatch.chdir(tmp_path / name)
        nets.write_prototxts("net.py", narrow_prototxts(name))
        parents = parents_of(name)
        paths = [make_parent(tmp_path, parent) for parent in parents]
        return caffe.Net("deploy.prototxt", caffe.TEST), parents, paths

    return born


def same(blobs, weights):
    return [blob.data.tobytes() for blob in blobs] == weights


def test_late_fusion_starts_with_the_weights_of_two_parents(born):
    net, parents, paths = born("nyud-fcn32s-color-hha")
    for parent, path in zip(parents, paths, strict=True):
        said = parent.load(net, path)
        assert "copied" in said and f"conv1_1{parent.suffix}" in said
    colour, hha = (parameters(path) for path in paths)
    for name in ("conv1_1", "conv5_3", "fc7", "score_fr"):
        assert same(net.params[f"{name}color"], colour[name])
        assert same(net.params[f"{name}hha"], hha[name])


def test_the_first_layer_for_depth_starts_with_the_mean_of_colours(born):
    net, (parent,), (path,) = born("nyud-fcn32s-color-d")
    said = parent.load(net, path)
    assert "average" in said
    vgg16 = caffe.Net("../ilsvrc-nets/vgg16-fcn.prototxt", caffe.TEST, weights=str(path))
    old, new = (each.params[name][0].data for each, name in ((vgg16, "conv1_1"), (net, "conv1_1_bgrd")))
    np.testing.assert_array_equal(new[:, :3], old)
    np.testing.assert_allclose(new[:, 3], old.mean(1), rtol=1e-6)
    np.testing.assert_array_equal(net.params["conv1_1_bgrd"][1].data, vgg16.params["conv1_1"][1].data)
    assert same(net.params["fc7"], parameters(path)["fc7"])


def test_fc6_on_a_denser_pool5_is_the_classifier_s_with_zeros_between(born):
    net, (parent,), (path,) = born("voc-fcn32s-pool5s1")
    assert "rarefied by 2" in parent.load(net, path)
    old, new = parameters(path), net.params["fc6"][0].data
    kernel = np.frombuffer(old["fc6"][0], np.float32).reshape(len(new), -1, 7, 7)
    np.testing.assert_array_equal(new[:, :, :13:2, :13:2], kernel)
    assert np.count_nonzero(new) == np.count_nonzero(kernel)
    assert same(net.params["fc7"], old["fc7"])


def test_the_net_s_own_weights_are_taken_as_they_are(born, tmp_path):
    """--weights of a net whose parent's layers change: the file's own changed layer counts."""
    for name in ("nyud-fcn32s-color-d", "voc-fcn32s-pool5s1"):
        net, (parent,), _ = born(name)
        own = tmp_path / f"{name}.caffemodel"
        random_weights("deploy.prototxt", own, seed=5)
        parent.load(net, own)
        for layer, weights in parameters(own).items():
            assert same(net.params[layer], weights), layer


# images that are trained on and scored


def sources(tmp_path, train, val):
    """The data layers of two splits that name these ids."""
    if not (tmp_path / "VOC2011").exists():
        voc_tree(tmp_path / "VOC2011", items(((4, 4),) * 5))
    lists = tmp_path / "VOC2011/ImageSets/Segmentation"
    made = []
    for split, ids in (("train", train), ("val", val)):
        (lists / f"{split}.txt").write_text("".join(f"2011_{i:06d}\n" for i in ids))
        layer = layers.VOCSegDataLayer.outside(
            str({"voc_dir": str(tmp_path / "VOC2011"), "split": split, "mean": (1, 2, 3)})
        )
        layer.open()
        made.append(layer)
    return made


def test_splits_without_a_common_image_pass_in_silence(tmp_path, capsys):
    assert training.overlap(*sources(tmp_path, [0, 1, 2], [3, 4]), allowed=False) == []
    assert capsys.readouterr().out == ""


def test_some_common_images_are_refused_and_named(tmp_path, capsys):
    (problem,) = training.overlap(*sources(tmp_path, [0, 1, 2], [4, 3, 2]), allowed=False)
    assert "1 of the 3 images of the split val are in the training split train" in problem
    assert "2011_000002" in problem and "seg11valid" in problem and "--allow-overlap" in problem
    assert training.overlap(*sources(tmp_path, [0, 1, 2], [4, 3, 2]), allowed=True) == []
    assert "warning: 1 of the 3 images that are scored (val)" in capsys.readouterr().out


def test_scoring_the_very_images_that_are_trained_on_is_told(tmp_path, capsys):
    assert training.overlap(*sources(tmp_path, [0, 1], [1, 0]), allowed=False) == []
    assert "warning: 2 of the 2 images that are scored" in capsys.readouterr().out


def test_the_same_ids_in_another_data_set_are_no_overlap(tmp_path):
    train, val = sources(tmp_path, [0, 1], [1, 2])
    val.dataset = "another"
    assert training.overlap(train, val, allowed=False) == []


def test_sbd_and_voc_have_the_same_photographs(tmp_path):
    (_, val), ids = sources(tmp_path, [0], [1, 2]), items(((4, 4),) * 2)
    sbd_tree(tmp_path / "sbd", ids)
    sbd = {"sbdd_dir": str(tmp_path / "sbd"), "split": "train", "mean": (1, 2, 3)}
    train = layers.SBDDSegDataLayer.outside(str(sbd))
    train.open()
    (problem,) = training.overlap(train, val, allowed=False)
    assert "1 of the 2 images" in problem


def test_solve_refuses_an_overlap_before_it_trains(tmp_path):
    directory = scratch(tmp_path, "mini-fcn8s")
    lists = tmp_path / "data/pascal/sample/VOC2011/ImageSets/Segmentation"
    (lists / "train.txt").write_text("2011_000000\n2011_000001\n")
    (lists / "val.txt").write_text("2011_000001\n2011_000002\n")
    done = run(directory / "solve.py", "--cpu", "--iterations", 1, check=False)
    assert done.returncode == 1 and "1 of the 2 images of the split val" in done.stderr
    assert not (directory / "snapshot").exists()
    done = run(directory / "solve.py", "--cpu", "--iterations", 1, "--allow-overlap")
    assert "warning: 1 of the 2 images" in done.stdout and "Iteration 1 mean IU" in done.stdout


@pytest.mark.parametrize("how", ["option", "environment"])
def test_a_data_root_counts_from_where_one_stands(tmp_path, how):
    directory = scratch(tmp_path, "mini-fcn8s")
    (tmp_path / "data").rename(tmp_path / "elsewhere")
    done = run(directory / "solve.py", "--cpu", "--iterations", 1, check=False)
    assert done.returncode == 1 and "does not exist" in done.stderr
    words = ("--data-root", "elsewhere") if how == "option" else ()
    environment = {} if words else {"FCN_DATA": "elsewhere"}
    done = run(directory / "solve.py", "--cpu", "--iterations", 1, *words, **environment)
    assert "% of the time waiting for data" in done.stdout
