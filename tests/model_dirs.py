"""Copies of the model directories in a scratch tree with its own data, for tests that run the scripts."""

import importlib.util
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
from caffe.proto import caffe_pb2
from scipy.io import savemat
from trees import items, voc_tree

import nets

ROOT = Path(__file__).resolve().parents[1]
ALL = sorted(path.parent.name for path in ROOT.glob("*/solve.py"))
BUILDER_FIELDS = {"divide": 16, "from_scratch": True}  # narrow nets, that start from random weights


def model_of(name):
    """The ``MODEL`` of a directory's net.py."""
    spec = importlib.util.spec_from_file_location(f"net_{name.replace('-', '_')}", ROOT / name / "net.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.MODEL


def scratch(tmp_path, name, narrow=True, content=None, dropout=0.5):
    """A copy of the model directory ``name`` beside a ``data`` folder in the real layout; returns it.

    ``narrow``: a sixteenth as wide, with random weights and this dropout ratio.
    """
    directory = tmp_path / name
    shutil.copytree(
        ROOT / name, directory, ignore=shutil.ignore_patterns("snapshot", "__pycache__", "*.caffemodel")
    )
    if narrow:
        prototxts = model_of(name).prototxts(**BUILDER_FIELDS, dropout=dropout)
        nets.write_prototxts(directory / "net.py", prototxts)
    make_data(tmp_path / "data", content)
    return directory


def make_data(data, content=None):
    """VOC2011, the sample and SBD under ``data``, with the same few pictures in each."""
    if data.exists():
        return
    content = items(sizes=((40, 30), (35, 44), (30, 30))) if content is None else content
    voc_tree(data / "pascal" / "VOC2011", content, splits=("train", "val", "seg11valid"))
    shutil.copytree(data / "pascal" / "VOC2011", data / "pascal" / "sample" / "VOC2011")
    sbd = data / "sbdd" / "dataset"
    (sbd / "cls").mkdir(parents=True)
    shutil.copytree(data / "pascal" / "VOC2011" / "JPEGImages", sbd / "img")
    for name, (_, label) in content.items():
        without_void = label.copy()
        without_void[label == 255] = 0
        savemat(sbd / "cls" / f"{name}.mat", {"GTcls": {"Segmentation": without_void}})
    (sbd / "train.txt").write_text("\n".join(content) + "\n")


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
