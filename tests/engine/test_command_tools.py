"""The tools beside Caffe's four commands: upgrade, draw, databases, features."""

import sys

import caffe
import lmdb
import numpy as np
import pytest
from caffe.command import main
from caffe.proto import caffe_pb2
from google.protobuf import text_format
from PIL import Image

V1 = """
name: "old" input: "x" input_dim: 2 input_dim: 3 input_dim: 4 input_dim: 5
layers { name: "ip" type: INNER_PRODUCT bottom: "x" top: "s" blobs_lr: 1 blobs_lr: 2 inner_product_param {
  num_output: 3 } }
"""
DATA = """
layer { name: "data" type: "DummyData" top: "x" dummy_data_param { shape { dim: 4 dim: 3 dim: 2 dim: 5 }
  data_filler { type: "gaussian" } } }
layer { name: "ip" type: "InnerProduct" bottom: "x" top: "s"
  inner_product_param { num_output: 7 weight_filler { type: "xavier" } } }
"""


def refusal(capsys, *argv) -> str:
    """The one line that a wrong call says; its status is 1."""
    capsys.readouterr()
    assert main([str(word) for word in argv]) == 1
    said = [line for line in capsys.readouterr().err.splitlines() if line.startswith("caffe: ")]
    assert len(said) == 1
    return said[0]


def datums(folder) -> dict[bytes, caffe_pb2.Datum]:
    """All of an LMDB."""
    with lmdb.open(str(folder), readonly=True, lock=False) as database, database.begin() as transaction:
        return {key: caffe_pb2.Datum.FromString(value) for key, value in transaction.cursor()}


# -- upgrade and draw -----------------------------------------------------------------------------------


def test_upgrade_net_proto_text(tmp_path, capsys):
    old, new = tmp_path / "old.prototxt", tmp_path / "new.prototxt"
    old.write_text(V1)
    assert main(["upgrade_net_proto_text", str(old), str(new)]) == 0
    net = text_format.Parse(new.read_text(), caffe_pb2.NetParameter())
    assert [layer.type for layer in net.layer] == ["Input", "InnerProduct"] and not net.layers
    assert [param.lr_mult for param in net.layer[1].param] == [1, 2]
    new.unlink()
    old.write_text(V1 + 'layer { name: "new" type: "ReLU" }')
    assert "Refusing to upgrade inconsistent" in refusal(capsys, "upgrade_net_proto_text", old, new)
    assert not new.exists()


def test_upgrade_net_proto_text_tells_what_it_left_out(tmp_path):
    """Status 1, as Caffe's, for a V0 layer with a field that its type never had; the file is written."""
    old, new = tmp_path / "old.prototxt", tmp_path / "new.prototxt"
    old.write_text(
        'layers { layer { name: "r" type: "relu" num_output: 3 } bottom: "x" top: "x" } input: "x"'
    )
    assert main(["upgrade_net_proto_text", str(old), str(new)]) == 1
    assert new.exists()


def test_upgrade_net_proto_binary(tmp_path):
    old, new = tmp_path / "old.caffemodel", tmp_path / "new.caffemodel"
    net = text_format.Parse(V1, caffe_pb2.NetParameter())
    blob = net.layers[0].blobs.add(num=1, channels=1, height=1, width=3)
    blob.data.extend([1, 2, 3])
    old.write_bytes(net.SerializeToString())
    assert main(["upgrade_net_proto_binary", str(old), str(new)]) == 0
    found = caffe_pb2.NetParameter.FromString(new.read_bytes())
    assert not found.layers and found.layer[-1].type == "InnerProduct"
    assert list(found.layer[-1].blobs[0].data) == [1, 2, 3]


def test_upgrade_solver_proto_text(tmp_path, capsys):
    old, new = tmp_path / "old.prototxt", tmp_path / "new.prototxt"
    old.write_text('net: "x" solver_type: RMSPROP')
    assert main(["upgrade_solver_proto_text", str(old), str(new)]) == 0
    solver = text_format.Parse(new.read_text(), caffe_pb2.SolverParameter())
    assert solver.type == "RMSProp" and not solver.HasField("solver_type")
    old.write_text('net: "x" solver_type: RMSPROP type: "Adam"')
    assert "Failed to upgrade solver" in refusal(capsys, "upgrade_solver_proto_text", old, new)
    assert "Could not open file" in refusal(capsys, "upgrade_solver_proto_text", tmp_path / "none", new)


def test_draw_net(tmp_path, capsys):
    pytest.importorskip("pydot")
    net, image = tmp_path / "net.prototxt", tmp_path / "net.dot"
    net.write_text(DATA + 'layer { name: "quiet" type: "Silence" bottom: "s" include { phase: TEST } }')
    assert main(["draw_net", str(net), str(image), "--rankdir", "TB", "--phase=TRAIN"]) == 0
    text = image.read_text()
    assert "ip" in text and "quiet" not in text and "TB" in text
    assert main(["draw_net", str(net), str(image), "--display_lrm"]) == 0
    assert "quiet" in image.read_text() and "LR" in image.read_text()
    assert "--rankdir is one of" in refusal(capsys, "draw_net", net, image, "--rankdir", "XY")
    assert "--phase is one of" in refusal(capsys, "draw_net", net, image, "--phase", "VAL")
    assert "Could not open file" in refusal(capsys, "draw_net", tmp_path / "none", image)


def test_draw_net_without_pydot(tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "pydot", None)
    net, image = tmp_path / "net.prototxt", tmp_path / "net.dot"
    net.write_text(DATA)
    assert "pydot" in refusal(capsys, "draw_net", net, image)
    assert not image.exists()


# -- databases ---------------------------------------------------------------------------------------------


@pytest.fixture
def images(tmp_path):
    """A folder of three images, 4 x 6, and their list."""
    random = np.random.RandomState(2)
    arrays = random.randint(0, 256, (3, 4, 6, 3)).astype(np.uint8)
    for i, array in enumerate(arrays):
        Image.fromarray(array).save(tmp_path / f"{i}.png")
    (tmp_path / "list.txt").write_text("".join(f"{i}.png {10 + i}\n" for i in range(3)))
    return arrays[..., ::-1].transpose(0, 3, 1, 2)  # B, G, R planes


def test_convert_imageset_and_the_mean(tmp_path, images):
    database, mean = tmp_path / "images_lmdb", tmp_path / "mean.binaryproto"
    assert main(["convert_imageset", f"{tmp_path}/", f"{tmp_path}/list.txt", str(database)]) == 0
    found = datums(database)
    assert list(found) == [f"{i:08d}_{i}.png".encode() for i in range(3)]
    for datum, planes, label in zip(found.values(), images, (10, 11, 12), strict=True):
        assert datum.label == label and datum.data == planes.tobytes()
    assert main(["compute_image_mean", "--backend=lmdb", str(database), str(mean)]) == 0
    blob = caffe_pb2.BlobProto.FromString(mean.read_bytes())
    assert (blob.num, blob.channels, blob.height, blob.width) == (1, 3, 4, 6)
    assert np.allclose(np.array(blob.data), images.mean(axis=0).ravel(), atol=1e-4)
    assert main(["compute_image_mean", str(database)]) == 0


def test_convert_imageset_takes_all_its_flags(tmp_path, images, capsys):
    names = [f"{tmp_path}/", f"{tmp_path}/list.txt"]
    small = tmp_path / "small"
    flags = ["-gray", "--shuffle=true", "--nocheck_size", "-resize_width=3", "--resize_height", "2"]
    assert main(["convert_imageset", *flags, *names, str(small)]) == 0
    found = datums(small)
    assert {(datum.channels, datum.height, datum.width) for datum in found.values()} == {(1, 2, 3)}
    assert sorted(datum.label for datum in found.values()) == [10, 11, 12]
    packed = tmp_path / "packed"
    assert main(["convert_imageset", *names, str(packed), "--encoded", "--check_size"]) == 0
    assert [datum.data for datum in datums(packed).values()] == [
        (tmp_path / f"{i}.png").read_bytes() for i in range(3)
    ]
    packed = tmp_path / "packed_jpg"
    assert main(["convert_imageset", *names, str(packed), "--encode_type", "jpg"]) == 0
    assert all(datum.data.startswith(b"\xff\xd8") for datum in datums(packed).values())
    assert "exists" in refusal(capsys, "convert_imageset", *names, small)
    assert "Unknown database backend: sql" in refusal(
        capsys, "convert_imageset", *names, tmp_path / "n", "--backend=sql"
    )
    assert "No such file" in refusal(capsys, "compute_image_mean", tmp_path / "none")


def test_extract_features(tmp_path, capsys):
    net, weights = tmp_path / "net.prototxt", tmp_path / "w.caffemodel"
    net.write_text(DATA)
    caffe.Net(str(net), caffe.TEST).save(str(weights))
    features, inputs = tmp_path / "features", tmp_path / "inputs"
    caffe.set_random_seed(4)
    assert main(["extract_features", str(weights), str(net), "s,x", f"{features},{inputs}", "2", "lmdb"]) == 0
    caffe.set_random_seed(4)
    again = caffe.Net(str(net), caffe.TEST, weights=str(weights))
    found, read = datums(features), datums(inputs)
    assert list(found) == list(read) == [b"%010d" % i for i in range(8)]
    for batch in range(2):
        again.forward()
        for i in range(4):
            datum, data = (store[b"%010d" % (4 * batch + i)] for store in (found, read))
            assert (datum.channels, datum.height, datum.width) == (7, 1, 1)
            assert np.array_equal(np.array(datum.float_data, np.float32), again.blobs["s"].data[i])
            assert (data.channels, data.height, data.width) == (3, 2, 5)
            assert np.array_equal(np.array(data.float_data, np.float32), again.blobs["x"].data[i].ravel())


def test_wrong_calls_of_extract_features(tmp_path, capsys):
    net, weights, out = tmp_path / "net.prototxt", tmp_path / "w.caffemodel", tmp_path / "out"
    net.write_text(DATA)
    caffe.Net(str(net), caffe.TEST).save(str(weights))
    for argv, words in [
        (
            [weights, net, "none", out, 1, "lmdb"],
            "Unknown feature blob name none in the network; it has x, s",
        ),
        (
            [weights, net, "s,x", out, 1, "lmdb"],
            "the number of blob names and dataset names must be equal: 2 and 1",
        ),
        ([weights, net, "s", out, 0, "lmdb"], "the number of batches must be at least 1, found 0"),
        ([weights, net, "s", out, 1, "sql"], "Unknown database backend: sql"),
        ([weights, net, "s", out, 1, "lmdb", "TPU"], "the mode is CPU or GPU, found TPU"),
        ([tmp_path / "none", net, "s", out, 1, "lmdb"], "none"),
        ([weights, net, "s"], "the following arguments are required"),
    ]:
        assert words in refusal(capsys, "extract_features", *argv)
        assert not out.exists()


def test_features_on_a_gpu_that_is_not_there(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(caffe.common, "device_count", lambda: 0)
    for device in ([], ["1"], ["DEVICE_ID=1"]):
        said = refusal(capsys, "extract_features", "w", "n", "s", tmp_path / "o", 1, "lmdb", "GPU", *device)
        assert "Cannot use GPU in CPU-only Caffe" in said
