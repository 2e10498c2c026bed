"""Reads mutated files of every kind, in a process of its own (see test_fuzz.py).

python fuzz_files.py KINDS COUNT FOLDER

COUNT inputs of each of the KINDS (separated by commas): each is written to FOLDER/input and read. What is not success
or CaffeError, or takes longer than LIMIT seconds, is printed, one line each; a kind's last line counts
inputs and refusals. FOLDER/number holds the input under way, in case the process dies.
"""

from __future__ import annotations

import os
import random
import resource
import sys
import time
from pathlib import Path

os.environ["GLOG_minloglevel"] = "3"

import caffe
import numpy as np
from caffe import upgrade, upgrade_tools
from caffe.proto import caffe_pb2
from google.protobuf import text_format

LIMIT = 5.0
NET = """
name: "small"
layer { name: "data" type: "DummyData" top: "data" top: "label" dummy_data_param { shape { dim: 2 dim: 2 dim: 4 dim: 4 }
  shape { dim: 2 } data_filler { type: "gaussian" } data_filler { value: 1 } } include { phase: TRAIN } }
layer { name: "in" type: "Input" top: "data" input_param { shape { dim: 1 dim: 2 dim: 4 dim: 4 } }
  include { phase: TEST } }
layer { name: "conv" type: "Convolution" bottom: "data" top: "conv" param { name: "w" lr_mult: 1 } param { lr_mult: 2 }
  convolution_param { num_output: 2 kernel_size: 3 pad: 1 weight_filler { type: "gaussian" } } }
layer { name: "again" type: "Convolution" bottom: "conv" top: "again" param { name: "w" }
  convolution_param { num_output: 2 kernel_size: 3 pad: 1 bias_term: false } }
layer { name: "pool" type: "Pooling" bottom: "again" top: "pool" pooling_param { pool: AVE kernel_size: 2 stride: 2 } }
layer { name: "fc" type: "InnerProduct" bottom: "pool" top: "fc" inner_product_param { num_output: 3 } }
layer { name: "loss" type: "SoftmaxWithLoss" bottom: "fc" bottom: "label" top: "loss" include { phase: TRAIN } }
"""
OLD_NET = """
name: "old" input: "data" input_dim: 1 input_dim: 2 input_dim: 4 input_dim: 4
layers { layer { name: "pad" type: "padding" pad: 1 } bottom: "data" top: "padded" }
layers { layer { name: "conv" type: "conv" num_output: 2 kernelsize: 3 } bottom: "padded" top: "conv" }
layers { layer { name: "fc" type: "innerproduct" num_output: 3 biasterm: true } bottom: "conv" top: "fc" }
"""
V1_NET = """
name: "old" input: "data" input_shape { dim: 1 dim: 2 dim: 4 dim: 4 }
layers { name: "conv" type: CONVOLUTION bottom: "data" top: "conv" blobs_lr: 1 blobs_lr: 2 param: "w"
  convolution_param { num_output: 2 kernel_size: 3 pad: 1 } }
layers { name: "fc" type: INNER_PRODUCT bottom: "conv" top: "fc" inner_product_param { num_output: 3 } }
"""
SOLVER = 'train_net: "%s/net" base_lr: 0.1 lr_policy: "fixed" momentum: 0.9 snapshot_prefix: "%s/s" snapshot_format: %s'


def reworded(draw: random.Random, good: bytes) -> bytes:
    """Text with one word or line replaced, left out or doubled."""
    mark = draw.choice((b" ", b"\n"))
    words = good.split(mark)
    numbers = [i for i, word in enumerate(words) if word.isdigit()]
    at = draw.choice(numbers) if numbers and draw.random() < 0.7 else draw.randrange(len(words))
    if mark == b"\n":
        words[at : at + 1] = draw.choice(([], [words[at]] * 2, [words[at], draw.choice(words)]))
    elif words[at].isdigit():
        words[at] = draw.choice(
            (b"%d" % draw.randrange(9), b"-1", b"70", b"2147483647", b"4294967295", b"99999999999", b"1.5")
        )
    else:
        words[at] = draw.choice(
            (b"0", b"nan", b"{", b"}", b'"data"', b"\xe9", b"layer {" * 200, draw.choice(words))
        )
    return mark.join(words)


def mutated(draw: random.Random, good: bytes, text: bool) -> bytes:
    """``good`` with one to three pieces of damage."""
    if text and draw.random() < 0.8:
        return reworded(draw, good)
    bad = bytearray(good)
    for _ in range(draw.randrange(1, 4)):
        at = draw.randrange(len(bad) + 1)
        span = draw.choice((1, 1, 2, 4, 8, 64))
        damage = draw.randrange(7)
        if damage == 0:
            bad[at : at + span] = bytes(draw.randrange(256) for _ in range(span))
        elif damage == 1:
            del bad[at:]
        elif damage == 2:
            del bad[at : at + span]
        elif damage == 3:
            source = draw.randrange(len(bad) + 1)
            bad[at:at] = bad[source : source + span]
        elif damage == 4:
            bad[at : at + span] = draw.choice((b"\xff", b"\0", b"\x7f")) * span
        elif damage == 5:
            bad[at : at + 1] = draw.choice(
                (b"\xff" * 9 + b"\x01", b"\xff\xff\xff\xff\x07", b"\x80\x80\x80\x80\x08")
            )
        elif damage == 6 and at < len(bad):
            bad[at] ^= 1 << draw.randrange(8)
    return bytes(bad)


class Files:
    """The good file of a kind, and how it is read."""

    def __init__(self, kind: str, folder: Path):
        self.kind, self.folder = kind, folder
        (folder / "net").write_text(NET)
        self.net = caffe.Net(str(folder / "net"), caffe.TEST)

    def solver(self, form: str):
        """A solver on the net, with snapshots of a form."""
        path = self.folder / "solver"
        path.write_text(SOLVER % (self.folder, self.folder, form))
        return caffe.get_solver(str(path))

    def good(self) -> bytes:
        """The bytes of a good file."""
        kind, path = self.kind, self.folder / "good"
        if kind == "prototxt":
            return NET.encode()
        if kind == "old prototxt":
            return OLD_NET.encode()
        if kind == "solver":
            return (SOLVER % (self.folder, self.folder, "HDF5")).encode()
        if kind in ("caffemodel", "text model"):
            self.net.save(path)
            if kind == "text model":
                net = caffe_pb2.NetParameter.FromString(path.read_bytes())
                return text_format.MessageToString(net).encode()
        elif kind == "old caffemodel":
            message = text_format.Parse(V1_NET, caffe_pb2.NetParameter())
            for layer in message.layers:
                for blob in self.net.params[layer.name]:
                    stored = layer.blobs.add(data=blob.data.ravel(), diff=blob.diff.ravel())
                    shape = (1,) * (4 - len(blob.shape)) + tuple(blob.shape)
                    stored.num, stored.channels, stored.height, stored.width = shape
            return message.SerializeToString()
        elif kind == "HDF5 model":
            self.net.save_hdf5(path)
        else:
            solver = self.solver("HDF5" if kind == "HDF5 state" else "BINARYPROTO")
            solver.step(1)
            solver.snapshot()
            path = self.folder / f"s_iter_1.solverstate{'.h5' if kind == 'HDF5 state' else ''}"
        return path.read_bytes()

    def reader(self):
        """A function that reads a file of the kind."""
        kind = self.kind
        if kind in ("prototxt", "old prototxt"):
            return self.read_net
        if kind == "solver":
            return caffe.get_solver
        if "state" in kind:
            return self.solver("BINARYPROTO").restore
        return self.read_model

    def read_net(self, path):
        """Build the net in both phases, and run it."""
        for phase in (caffe.TRAIN, caffe.TEST):
            caffe.Net(str(path), phase).forward()
        upgrade_tools.upgrade_net_text(path, self.folder / "upgraded")

    def read_model(self, path):
        """Load the weights; read and upgrade the net that they came with."""
        error = None
        jobs = [self.net.copy_from, caffe.caffemodel.load]
        if self.kind != "HDF5 model":
            jobs += [
                upgrade.read_net,
                lambda path: upgrade_tools.upgrade_net_binary(path, self.folder / "upgraded"),
            ]
        for job in jobs:
            try:
                job(path)
            except caffe.CaffeError as refusal:
                error = refusal
        if error:
            raise error


def main(kind: str, count: int, folder: Path) -> None:
    """Read the inputs of a kind; see the module."""
    files = Files(kind, folder)
    good, read = files.good(), files.reader()
    path, refused = folder / "input", 0
    path.write_bytes(good)
    np.seterr(all="ignore")
    read(str(path))
    for number in range(count):
        (folder / "number").write_text(f"{kind} {number}")
        path.write_bytes(
            mutated(random.Random(f"{kind} {number}"), good, "proto" in kind or kind == "solver")
        )
        start = time.monotonic()
        try:
            read(str(path))
        except caffe.CaffeError:
            refused += 1
        except BaseException as error:
            print(f"{kind} {number}: {type(error).__name__}: {error}"[:300].replace("\n", " "))
        seconds = time.monotonic() - start
        if seconds > LIMIT:
            print(f"{kind} {number}: {seconds:.1f} s")
    print("done", count, refused)


if __name__ == "__main__":
    resource.setrlimit(resource.RLIMIT_AS, (8 << 30, 8 << 30))
    for each in sys.argv[1].split(","):
        main(each, int(sys.argv[2]), Path(sys.argv[3]))
