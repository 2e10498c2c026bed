"""VGG16, CaffeNet and GoogLeNet at full size in the files of Caffe's first years: V1, and V0 with padding layers.

They load and classify to the same bits as they are, after our upgrade, and after our save.
"""

import gc
import shutil
from pathlib import Path

import caffe
import numpy as np
import pytest
from caffe import upgrade, upgrade_tools
from caffe.proto import caffe_pb2
from google.protobuf import text_format

ROOT = Path(__file__).resolve().parents[2]
V1 = caffe_pb2.V1LayerParameter


class Writer:
    """A current net, layer by layer; ``at`` is the top that the next layer reads."""

    def __init__(self, name, side):
        self.net = caffe_pb2.NetParameter(name=name, input=["data"], input_dim=[1, 3, side, side])
        self.at = "data"

    def add(self, kind, name, bottoms=None, in_place=False, **params):
        bottoms = bottoms or [self.at]
        layer = self.net.layer.add(
            type=kind, name=name, bottom=bottoms, top=[bottoms[0] if in_place else name]
        )
        for field, values in params.items():
            getattr(layer, field).CopyFrom(values)
        self.at = layer.top[0]

    def conv(self, name, outputs, kernel, bottom=None, stride=1, pad=0, group=1):
        fields = {
            "num_output": outputs,
            "kernel_size": [kernel],
            "stride": [stride],
            "pad": [pad],
            "group": group,
        }
        options = caffe_pb2.ConvolutionParameter(**fields)
        self.add("Convolution", name, [bottom] if bottom else None, convolution_param=options)
        self.add("ReLU", f"relu_{name}", in_place=True)

    def pool(self, name, kernel, stride, bottom=None, pad=0, method=0):
        options = caffe_pb2.PoolingParameter(kernel_size=kernel, stride=stride, pad=pad, pool=method)
        self.add("Pooling", name, [bottom] if bottom else None, pooling_param=options)

    def norm(self, name):
        self.add("LRN", name, lrn_param=caffe_pb2.LRNParameter(local_size=5, alpha=1e-4, beta=0.75))

    def fc(self, name, outputs):
        self.add(
            "InnerProduct", name, inner_product_param=caffe_pb2.InnerProductParameter(num_output=outputs)
        )

    def drop(self, name, ratio=0.5):
        self.add(
            "Dropout", name, in_place=True, dropout_param=caffe_pb2.DropoutParameter(dropout_ratio=ratio)
        )


def caffenet():
    net = Writer("CaffeNet", 227)
    net.conv("conv1", 96, 11, stride=4)
    net.pool("pool1", 3, 2)
    net.norm("norm1")
    net.conv("conv2", 256, 5, pad=2, group=2)
    net.pool("pool2", 3, 2)
    net.norm("norm2")
    net.conv("conv3", 384, 3, pad=1)
    net.conv("conv4", 384, 3, pad=1, group=2)
    net.conv("conv5", 256, 3, pad=1, group=2)
    net.pool("pool5", 3, 2)
    for name in ("fc6", "fc7"):
        net.fc(name, 4096)
        net.add("ReLU", f"relu_{name}", in_place=True)
        net.drop(f"drop_{name}")
    net.fc("fc8", 1000)
    net.add("Softmax", "prob")
    return net.net


# outputs of the 1x1, the 3x3 (reduced, full), the 5x5 (reduced, full) and the pooling branch
INCEPTIONS = {
    "3a": (64, 96, 128, 16, 32, 32),
    "3b": (128, 128, 192, 32, 96, 64),
    "4a": (192, 96, 208, 16, 48, 64),
    "4b": (160, 112, 224, 24, 64, 64),
    "4c": (128, 128, 256, 24, 64, 64),
    "4d": (112, 144, 288, 32, 64, 64),
    "4e": (256, 160, 320, 32, 128, 128),
    "5a": (256, 160, 320, 32, 128, 128),
    "5b": (384, 192, 384, 48, 128, 128),
}


def googlenet():
    net = Writer("GoogleNet", 224)
    net.conv("conv1/7x7_s2", 64, 7, stride=2, pad=3)
    net.pool("pool1/3x3_s2", 3, 2)
    net.norm("pool1/norm1")
    net.conv("conv2/3x3_reduce", 64, 1)
    net.conv("conv2/3x3", 192, 3, pad=1)
    net.norm("conv2/norm2")
    net.pool("pool2/3x3_s2", 3, 2)
    for block, (one, reduce3, three, reduce5, five, pooled) in INCEPTIONS.items():
        if block in ("4a", "5a"):
            net.pool(f"pool{int(block[0]) - 1}/3x3_s2", 3, 2)
        name, bottom = f"inception_{block}", net.at
        net.conv(f"{name}/1x1", one, 1, bottom)
        net.conv(f"{name}/3x3_reduce", reduce3, 1, bottom)
        net.conv(f"{name}/3x3", three, 3, pad=1)
        net.conv(f"{name}/5x5_reduce", reduce5, 1, bottom)
        net.conv(f"{name}/5x5", five, 5, pad=2)
        net.pool(f"{name}/pool", 3, 1, bottom, pad=1)
        net.conv(f"{name}/pool_proj", pooled, 1)
        net.add(
            "Concat", f"{name}/output", [f"{name}/{branch}" for branch in ("1x1", "3x3", "5x5", "pool_proj")]
        )
    net.pool("pool5/7x7_s1", 7, 1, method=1)
    net.drop("pool5/drop_7x7_s1", 0.4)
    net.fc("loss3/classifier", 1000)
    net.add("Softmax", "prob")
    return net.net


def vgg16():
    net = caffe_pb2.NetParameter()
    text_format.Parse((ROOT / "ilsvrc-nets/vgg16.prototxt").read_text(), net)
    kept = [layer for layer in net.layer if layer.type != "Input"]
    bare = caffe_pb2.NetParameter(name=net.name, input=["data"], input_dim=[1, 3, 224, 224])
    for layer in kept:
        new = bare.layer.add()
        new.CopyFrom(layer)
        new.ClearField("param")
    return bare


NETS = {"CaffeNet": caffenet, "GoogLeNet": googlenet, "VGG16": vgg16}
NAMES = {upgrade.v1_type_name(value): value for value in V1.LayerType.values()}
V0_NAMES = {
    "Convolution": "conv", "InnerProduct": "innerproduct", "Pooling": "pool", "ReLU": "relu", "LRN": "lrn",
    "Dropout": "dropout", "Concat": "concat", "Softmax": "softmax",
}  # fmt: skip
V0_FIELDS = {
    "num_output": "num_output", "bias_term": "biasterm", "kernel_size": "kernelsize", "stride": "stride", "pad": "pad",
    "group": "group", "pool": "pool", "dropout_ratio": "dropout_ratio", "local_size": "local_size", "alpha": "alpha",
    "beta": "beta", "axis": "concat_dim",
}  # fmt: skip


def in_form_of(net, generation):
    """The net in an old form."""
    old = caffe_pb2.NetParameter(name=net.name, input=net.input, input_dim=net.input_dim)
    for layer in net.layer:
        params = [(field.name, value) for field, value in layer.ListFields() if field.name.endswith("_param")]
        if generation == "V1":
            new = old.layers.add(name=layer.name, type=NAMES[layer.type], bottom=layer.bottom, top=layer.top)
            for name, value in params:
                getattr(new, name).CopyFrom(value)
            continue
        new = V1(bottom=layer.bottom, top=layer.top)
        new.layer.name, new.layer.type = layer.name, V0_NAMES[layer.type]
        for _, options in params:
            for field, value in options.ListFields():
                value = value if isinstance(value, (bool, int, float)) else value[0]
                setattr(new.layer, V0_FIELDS[field.name], value)
        if layer.type == "Convolution" and new.layer.pad:
            padding = old.layers.add(bottom=layer.bottom, top=[f"{layer.name} padded"])
            padding.layer.name, padding.layer.type, padding.layer.pad = (
                f"pad {layer.name}",
                "padding",
                new.layer.pad,
            )
            new.layer.ClearField("pad")
            new.bottom[0] = padding.top[0]
        old.layers.add().CopyFrom(new)
    return old


def varint(value):
    out = bytearray()
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*out, value])


def field(number, payload, more=0):
    """A field with ``payload``, said to be ``more`` bytes longer: these follow."""
    return varint(number << 3 | 2) + varint(len(payload) + more) + payload


def write_old_model(path, old, params):
    """The message of an old net with its blobs, in four legacy dims; numbers go to the file straight."""
    head = caffe_pb2.NetParameter()
    head.CopyFrom(old)
    head.ClearField("layers")
    with open(path, "wb") as file:
        file.write(head.SerializeToString())
        for layer in old.layers:
            v0 = layer.HasField("layer")
            message = (layer.layer if v0 else layer).SerializeToString()
            pieces = [message]
            for blob in params.get(layer.layer.name if v0 else layer.name, ()):
                shape = (1,) * (4 - len(blob.shape)) + tuple(blob.shape)
                dims = caffe_pb2.BlobProto(num=shape[0], channels=shape[1], height=shape[2], width=shape[3])
                start = dims.SerializeToString() + field(5, b"", blob.data.nbytes)
                pieces += [field(50 if v0 else 6, start, blob.data.nbytes), blob.data]
            size = sum(memoryview(piece).nbytes for piece in pieces)
            if v0:
                around = caffe_pb2.V1LayerParameter(bottom=layer.bottom, top=layer.top).SerializeToString()
                pieces.insert(0, around + field(1, b"", size))
                size += len(pieces[0])
            file.write(field(2, b"", size))
            for piece in pieces:
                file.write(piece)


def opened(text, model):
    """The net of these files, once the last one's memory is free."""
    gc.collect()
    return caffe.Net(str(text), caffe.TEST, weights=str(model))


def classified(net):
    """The probabilities of a random image's classes, and the scores that they are made of."""
    net.blobs["data"].data[...] = np.random.RandomState(8).standard_normal(net.blobs["data"].shape)
    (scores,) = net.bottom_names[net._layer_names[-1]]
    (probabilities,) = net.outputs
    results = net.forward(blobs=[scores])
    return np.stack([results[probabilities][0], results[scores][0]])


@pytest.fixture
def folder(tmp_path):
    """A folder whose files, up to a gigabyte, do not outlive the test."""
    yield tmp_path
    shutil.rmtree(tmp_path)


@pytest.mark.full
@pytest.mark.parametrize("generation", ["V1", "V0"])
@pytest.mark.parametrize("name", NETS)
def test_old_files_classify_alike_before_and_after_upgrade_and_save(name, generation, folder):
    current = NETS[name]()
    old = in_form_of(current, generation)
    gc.collect()
    net = caffe.Net.from_param(current, name, caffe.TEST)
    random = np.random.default_rng(4)
    for blobs in net.params.values():
        weight, bias = blobs
        random.standard_normal(out=weight.data, dtype=np.float32)
        weight.data[...] *= np.sqrt(2 / weight.data[0].size, dtype=np.float32)
        bias.data[...] = 0.1 * random.standard_normal(bias.shape)
    expected = classified(net)
    assert expected.shape == (2, 1000) and len(np.unique(expected)) > 1900
    model, text = folder / "old.caffemodel", folder / "old.prototxt"
    write_old_model(model, old, net.params)
    del net, blobs, weight, bias
    text.write_text(text_format.MessageToString(old))
    assert (name != "VGG16") or model.stat().st_size > 550e6
    assert np.array_equal(classified(opened(text, model)), expected)

    new_model, new_text = folder / "new.caffemodel", folder / "new.prototxt"
    assert upgrade_tools.upgrade_net_binary(model, new_model) and upgrade_tools.upgrade_net_text(
        text, new_text
    )
    model.unlink()
    assert "layers" not in new_text.read_text() and "padding" not in new_text.read_text()
    net = opened(new_text, new_model)
    assert np.array_equal(classified(net), expected)
    saved = folder / "saved"
    (net.save_hdf5 if generation == "V0" else net.save)(saved)  # names with slashes in HDF5, too
    del net
    assert np.array_equal(classified(opened(new_text, saved)), expected)
