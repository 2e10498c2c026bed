"""The training loop: its loss per pixel, its warnings, interruption, the choice of a parent."""

import math
import os
import signal
import subprocess
import sys
import time

import caffe
import numpy as np
import pytest
from caffe.proto import caffe_pb2
from google.protobuf import text_format
from model_dirs import scratch

import training
from files import DataError

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
    assert "1.6094 per pixel" in meter.line(0, 1, 1.0)


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


def test_ctrl_c_saves_and_says_how_to_go_on(tmp_path):
    directory = scratch(tmp_path, "mini-fcn8s")
    process = subprocess.Popen(
        [sys.executable, "solve.py", "--cpu", "--iterations", "100000"],
        cwd=directory,
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
    state = errors.split("--snapshot ")[1].strip()
    assert (directory / state).is_file() and (directory / state).with_suffix(".caffemodel").is_file()
