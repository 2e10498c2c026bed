"""Weight files: read and written straight from packed floats, whatever generation, and refused when broken."""

import random
import subprocess
import sys
from pathlib import Path

import caffe
import numpy as np
import pytest
from caffe.proto import caffe_pb2

NET = """
name: "small"
layer { name: "data" type: "Input" top: "data" input_param { shape { dim: 1 dim: 2 dim: 5 dim: 5 } } }
layer { name: "conv" type: "Convolution" bottom: "data" top: "conv"
  convolution_param { num_output: 3 kernel_size: 3 weight_filler { type: "gaussian" }
    bias_filler { type: "uniform" } } }
layer { name: "fc" type: "InnerProduct" bottom: "conv" top: "fc"
  inner_product_param { num_output: 4 weight_filler { type: "gaussian" } } }
"""


def same(a, b):
    return all(
        np.array_equal(x.data, y.data)
        for name in a.params
        for x, y in zip(a.params[name], b.params[name], strict=True)
    )


def test_save_then_load_is_exact_and_is_caffes_message(make_net, tmp_path):
    a, b = make_net(NET), make_net(NET)
    path = str(tmp_path / "w.caffemodel")
    a.save(path)
    assert not same(a, b)
    b.copy_from(path)
    assert same(a, b)
    message = caffe_pb2.NetParameter.FromString(open(path, "rb").read())
    assert message.name == "small" and [layer.name for layer in message.layer] == ["data", "conv", "fc"]
    assert list(message.layer[1].blobs[0].shape.dim) == [3, 2, 3, 3]
    assert message.layer[1].convolution_param.num_output == 3 and message.layer[1].phase == caffe.TEST
    assert np.array_equal(
        np.array(message.layer[2].blobs[0].data, np.float32), a.params["fc"][0].data.ravel()
    )
    assert caffe.caffemodel.shapes(path) == {"data": [], "conv": [(3, 2, 3, 3), (3,)], "fc": [(4, 27), (4,)]}
    assert np.array_equal(caffe.caffemodel.load(path)["conv"][0], a.params["conv"][0].data)


def legacy(net, generation="layers", double=False, packed=True):
    """The net's weights as an old file: V1 or V0 layers, four legacy dims, maybe doubles."""
    message = caffe_pb2.NetParameter(name="old")
    for name, blobs in net.params.items():
        if generation == "layer":
            layer = message.layer.add(name=name)
        elif generation == "layers":
            layer = message.layers.add(name=name, type=caffe_pb2.V1LayerParameter.CONVOLUTION)
        else:
            layer = message.layers.add().layer
            layer.name, layer.type = name, "conv"
        for blob in blobs:
            stored = layer.blobs.add()
            shape = (1,) * (4 - len(blob.shape)) + tuple(blob.shape)
            stored.num, stored.channels, stored.height, stored.width = shape
            (stored.double_data if double else stored.data).extend(blob.data.ravel().tolist())
    return message.SerializeToString()


@pytest.mark.parametrize("generation", ["layer", "layers", "v0"])
@pytest.mark.parametrize("double", [False, True])
def test_every_generation_of_file_loads(make_net, tmp_path, generation, double):
    a, b = make_net(NET), make_net(NET)
    path = tmp_path / "old.caffemodel"
    path.write_bytes(legacy(a, generation, double))
    b.copy_from(str(path))
    assert same(a, b)


def test_unpacked_floats_load(make_net, tmp_path):
    """A writer that ignores [packed = true] tags every float; parsers must take both."""
    a, b = make_net(NET), make_net(NET)
    head = caffe_pb2.BlobProto(shape=caffe_pb2.BlobShape(dim=[3])).SerializeToString()
    floats = b"".join(b"\x2d" + value.tobytes() for value in a.params["conv"][1].data)
    bias = floats + head
    weights = caffe_pb2.BlobProto(
        shape=caffe_pb2.BlobShape(dim=[3, 2, 3, 3]), data=a.params["conv"][0].data.ravel()
    )
    layer = caffe_pb2.LayerParameter(name="conv", blobs=[weights]).SerializeToString()
    layer += b"\x3a" + bytes([len(bias)]) + bias
    raw = b"\xa2\x06" + bytes([len(layer) & 0x7F | 0x80, len(layer) >> 7]) + layer
    assert len(caffe_pb2.NetParameter.FromString(raw).layer[0].blobs[1].data) == 3
    path = tmp_path / "u.caffemodel"
    path.write_bytes(raw)
    b.copy_from(str(path))
    assert np.array_equal(a.params["conv"][1].data, b.params["conv"][1].data)


def test_names_decide_and_the_rest_is_left_alone(make_net, tmp_path):
    a = make_net(NET)
    path = str(tmp_path / "w.caffemodel")
    a.save(path)
    b = make_net(NET.replace('"fc"', '"fc_new"'))
    before = b.params["fc_new"][0].data.copy()
    b.copy_from(path)
    assert np.array_equal(b.params["conv"][0].data, a.params["conv"][0].data)
    assert np.array_equal(b.params["fc_new"][0].data, before)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (("num_output: 4", "num_output: 5"), "Cannot copy param 0 weights from layer 'fc'; shape mismatch"),
        (("num_output: 4", "num_output: 4 bias_term: false"), "Incompatible number of blobs for layer fc"),
    ],
)
def test_weights_of_another_net_are_refused_before_any_change(make_net, tmp_path, change, words):
    a = make_net(NET)
    path = str(tmp_path / "w.caffemodel")
    a.save(path)
    b = make_net(NET.replace(*change))
    before = b.params["conv"][0].data.copy()
    with pytest.raises(caffe.CaffeError, match=words):
        b.copy_from(path)
    assert np.array_equal(b.params["conv"][0].data, before)


def test_files_that_are_no_weights(make_net, tmp_path):
    net = make_net(NET)
    for content, words in [
        (b"", "empty"),
        (NET.encode(), "looks like text"),
        (b"\x89HDF\r\n\x1a\n" + b"0" * 50, "HDF5"),
        (b"\xff" * 100, "not a readable caffemodel"),
    ]:
        path = tmp_path / "bad.caffemodel"
        path.write_bytes(content)
        with pytest.raises(caffe.CaffeError, match=words) as caught:
            net.copy_from(str(path))
        assert "bad.caffemodel" in str(caught.value)
    with pytest.raises(RuntimeError, match="Could not open file"):
        net.copy_from("missing.caffemodel")
    with pytest.raises(caffe.CaffeError, match="cannot write"):
        net.save(str(tmp_path / "no" / "folder.caffemodel"))


def test_truncated_and_mutated_files_raise_only_our_error(make_net, tmp_path):
    """Any byte of the structure may be wrong; nothing but CaffeError may come of it."""
    net = make_net(NET)
    path = tmp_path / "w.caffemodel"
    net.save(str(path))
    good = path.read_bytes()
    draw = random.Random(5)
    raised = 0
    for trial in range(400):
        bad = bytearray(good)
        if trial % 2:
            bad = bad[: draw.randrange(len(good))]
        else:
            for _ in range(draw.randrange(1, 4)):
                bad[draw.randrange(len(bad))] = draw.randrange(256)
        path.write_bytes(bytes(bad))
        try:
            net.copy_from(str(path))
        except caffe.CaffeError:
            raised += 1
    assert raised > 150


def test_embedded_blobs_in_a_prototxt(make_net):
    text = NET.replace('bias_filler { type: "uniform" } }', "bias_term: false } blobs { data: %s }")
    values = list(range(54))
    net = make_net(text % values)
    assert net.params["conv"][0].data.ravel().tolist() == values
    with pytest.raises(caffe.CaffeError, match="holds 3 values"):
        make_net(text % [1, 2, 3])


LOAD = """
import os, sys, time
os.environ["GLOG_minloglevel"] = "2"
import caffe

def status(name):
    with open("/proc/self/status") as file:
        return next(int(line.split()[1]) * 1024 for line in file if line.startswith(name + ":"))

def read():
    with open(sys.argv[2], "rb") as file:
        file.read()

def load():
    caffe.Net(sys.argv[1], caffe.TEST, weights=sys.argv[2])

before = status("VmRSS")
load()
memory = status("VmHWM") - before
best = {"read": 1e9, "load": 1e9}
for _ in range(4):
    for name, job in (("read", read), ("load", load)):
        start = time.perf_counter()
        job()
        best[name] = min(best[name], time.perf_counter() - start)
print(best["read"], best["load"], memory)
"""


@pytest.mark.full
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="peak memory is read from /proc")
def test_a_model_of_540_mb_loads_in_3_times_its_reading_and_2_2_times_its_size(make_net, tmp_path):
    """Building the net included; alternating, best of four. Memory: the first load's peak above the bare process."""
    text = """
    layer { name: "x" type: "Input" top: "x" input_param { shape { dim: 1 dim: 33750 } } }
    layer { name: "fc" type: "InnerProduct" bottom: "x" top: "fc" inner_product_param { num_output: 4000 } }"""
    net = make_net(text)
    net.params["fc"][0].data[...] = 1
    model = tmp_path / "big.caffemodel"
    net.save(str(model))
    size = model.stat().st_size
    assert size > 540e6
    del net
    prototxt = next(tmp_path.glob("*.prototxt"))
    out = subprocess.run(
        [sys.executable, "-c", LOAD, str(prototxt), str(model)], capture_output=True, text=True, check=True
    )
    read, load, memory = map(float, out.stdout.split())
    assert load <= 3 * read, f"read {read:.3f} s, load {load:.3f} s"
    assert memory <= 2.2 * size, f"{memory / size:.2f} times the file"
