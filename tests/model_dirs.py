"""Copies of the model directories in a scratch tree with its own data, for tests that run the scripts."""

import contextlib
import io
import os
import runpy
import shutil
import subprocess
import sys
from pathlib import Path

import caffe
import numpy as np
from caffe.proto import caffe_pb2
from google.protobuf import text_format
from trees import (
    context_tree,
    items,
    nyud_items,
    nyud_tree,
    sbd_tree,
    siftflow_items,
    siftflow_tree,
    voc_tree,
)

import nets
import trunks
from reproduction.workshop import model_of

ROOT = Path(__file__).resolve().parents[1]
ALL = sorted(path.parent.name for path in ROOT.glob("*/solve.py"))
BUILDER_FIELDS = {"divide": 16, "from_scratch": True}  # narrow nets, that start from random weights
SIZES = ((40, 48), (35, 44), (40, 48))
IGNORED = shutil.ignore_patterns("snapshot", "__pycache__", "*.caffemodel")


def scratch(tmp_path, name, narrow=True, content=None, dropout=0.5):
    """A copy of the model directory ``name`` beside a ``data`` folder in the real layout; returns it.

    ``narrow``: a sixteenth as wide, with random weights and this dropout ratio.
    """
    directory = tmp_path / name
    shutil.copytree(ROOT / name, directory, ignore=IGNORED)
    if narrow:
        with contextlib.redirect_stdout(io.StringIO()):
            nets.write_prototxts(
                directory / "net.py", model_of(name).prototxts(**BUILDER_FIELDS, dropout=dropout)
            )
    make_data(tmp_path / "data", content)
    return directory


def make_data(data, content=None):
    """VOC2011, the sample and SBD under ``data``, with the same few pictures in each."""
    if (data / "pascal" / "VOC2011").exists():
        return
    content = items(sizes=((40, 30), (35, 44), (30, 30))) if content is None else content
    voc_tree(data / "pascal" / "VOC2011", content, splits=("train", "val", "seg11valid"))
    shutil.copytree(data / "pascal" / "VOC2011", data / "pascal" / "sample" / "VOC2011")
    without_void = {
        name: (image, np.where(label == 255, 0, label)) for name, (image, label) in content.items()
    }
    sbd_tree(data / "sbdd" / "dataset", without_void)


def make_all_data(data):
    """Every data set that a model directory reads, under ``data``, in its real layout."""
    make_data(data, items(SIZES))
    nyud_tree(data / "nyud", nyud_items(SIZES))
    siftflow_tree(data / "sift-flow", siftflow_items(SIZES))
    context_tree(data / "pascal" / "VOC2010", data / "pascal-context", items(SIZES, classes=60))


def narrow_prototxts(name, **change):
    """File stem → NetParameter of a directory, a sixteenth as wide, its deploy net for small images."""
    made = model_of(name).prototxts(divide=16, **change)
    for layer in made["deploy"].layer:
        if layer.type == "Input":
            layer.input_param.shape[0].dim[2:] = SIZES[0]
    return made


def narrow_trunk(name):
    """The ImageNet classifier ``name`` made convolutional, to its last features, a sixteenth as wide."""
    n = caffe.NetSpec()
    n.data = nets.image((1, 3, 224, 224))
    getattr(trunks, name)(n, nets.Recipe(divide=16))
    return n.to_proto()


def make_parent(root, parent):
    """Random weights in the place where ``parent`` is looked for, and its prototxt; the tree is at ``root``."""
    path = root / parent.files[0].removeprefix("../").replace("*", "0")
    if path.exists():
        return path
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.parts[-2] == "ilsvrc-nets":
        prototxt, net = path.with_suffix(".prototxt"), narrow_trunk(path.stem.removesuffix("-fcn"))
    else:
        directory = path.parent.parent
        prototxt, net = directory / "deploy.prototxt", narrow_prototxts(directory.name)["deploy"]
    prototxt.write_text(text_format.MessageToString(net))
    random_weights(prototxt, path)
    return path


def random_weights(prototxt, path, without=("up", "scale"), seed=0):
    """A weight file ``path`` with values that keep the scale of activations; ``without``: layers left as they are.

    Upsampling, unless it is left, is bilinear.
    """
    net = caffe.Net(str(prototxt), caffe.TEST)
    randomize(net, without, seed)
    net.save(str(path))
    return net


def randomize(net, without=("up", "scale"), seed=0):
    """Random values in ``net``, that keep the scale of activations; layers that begin as ``without`` stay."""
    random = np.random.default_rng(seed)
    for name, blobs in net.params.items():
        if not name.startswith(without):
            for blob in blobs:
                scale = (2 / max(blob.data[0].size, 1)) ** 0.5
                blob.data[...] = random.standard_normal(blob.data.shape, np.float32) * scale
    return net


def call(script, *args):
    """Run a script as :func:`run` does, but in this process; returns what it printed. Stays where it was."""
    argv, here, printed = sys.argv, os.getcwd(), io.StringIO()
    sys.argv = [str(script), *map(str, args)]
    try:
        with contextlib.redirect_stdout(printed):
            runpy.run_path(str(script), run_name="__main__")
    except SystemExit as stop:
        if stop.code:
            raise AssertionError(f"{script} exited: {stop.code}\n{printed.getvalue()}") from stop
    finally:
        sys.argv = argv
        os.chdir(here)
    return printed.getvalue()


def run(script, *args, check=True, **environment):
    """Run a script as a user would, from another folder; returns the CompletedProcess."""
    env = {**os.environ, "OMP_NUM_THREADS": "2", **environment}
    done = subprocess.run(
        [sys.executable, str(script), *map(str, args)],
        cwd=Path(script).parent.parent,
        env=env,
        capture_output=True,
        text=True,
        timeout=280,
    )
    if check and done.returncode:
        raise AssertionError(f"{script} exited {done.returncode}:\n{done.stdout}\n{done.stderr}")
    return done


def parameters(path):
    """The bytes of every parameter in a weight file, read as the message that it is."""
    model = caffe_pb2.NetParameter.FromString(Path(path).read_bytes())
    return {
        layer.name: [np.array(blob.data, np.float32).tobytes() for blob in layer.blobs]
        for layer in model.layer
        if layer.blobs
    }
