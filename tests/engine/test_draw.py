"""caffe.draw."""

import builtins
import os
import shutil

import caffe
import pytest
from caffe import draw
from caffe.proto import caffe_pb2
from google.protobuf import text_format

NET = """
name: "a net"
layer { name: "data" type: "Data" top: "data" top: "label" data_param { batch_size: 5 } include { phase: TRAIN } }
layer { name: "in" type: "Input" top: "data" include { phase: TEST } }
layer { name: "conv1/7x7" type: "Convolution" bottom: "data" top: "conv1/7x7" param { lr_mult: 1 } param { lr_mult: 2 }
  convolution_param { num_output: 3 kernel_size: 7 stride: 2 pad: 1 } }
layer { name: "relu" type: "ReLU" bottom: "conv1/7x7" top: "conv1/7x7" }
layer { name: "tall" type: "Convolution" bottom: "conv1/7x7" top: "tall"
  convolution_param { num_output: 4 kernel_h: 3 kernel_w: 2 } }
layer { name: "pool" type: "Pooling" bottom: "tall" top: "pool" pooling_param { pool: AVE kernel_size: 3 stride: 2 } }
layer { name: "ip" type: "InnerProduct" bottom: "pool" top: "ip" inner_product_param { num_output: 7 } }
layer { name: "loss" type: "SoftmaxWithLoss" bottom: "ip" bottom: "label" top: "loss" exclude { phase: TEST } }
"""


@pytest.fixture
def net():
    return text_format.Parse(NET, caffe_pb2.NetParameter())


def test_labels_of_layers_and_edges(net):
    layers = {layer.name: layer for layer in net.layer}
    assert draw.get_pooling_types_dict() == {0: "MAX", 1: "AVE", 2: "STOCHASTIC"}
    edges = {name: draw.get_edge_label(layer) for name, layer in layers.items()}
    assert edges == {
        "data": "Batch 5",
        "in": '""',
        "conv1/7x7": "3",
        "relu": '""',
        "tall": "4",
        "pool": '""',
        "ip": "7",
        "loss": '""',
    }
    conv, pool = layers["conv1/7x7"], layers["pool"]
    text = "conv1/7x7 (Convolution) kernel size: 7 stride: 2 pad: 1"
    assert draw.get_layer_label(conv, "TB") == f'"{text}"'
    assert draw.get_layer_label(conv, "BT", display_lrm=True) == f'"{text} lr mult: 1.0, 2.0"'
    assert draw.get_layer_label(pool, "LR") == '"pool\\n(Pooling AVE)\\nkernel size: 3\\nstride: 2\\npad: 0"'
    assert (
        draw.get_layer_label(layers["tall"], "TB") == '"tall (Convolution) kernel size: 3x2 stride: 1 pad: 0"'
    )
    assert draw.get_layer_label(layers["relu"], "LR", display_lrm=True) == '"relu\\n(ReLU)"'
    assert draw.get_layer_lr_mult(layers["ip"]) == (1, 1)
    with pytest.raises(ValueError, match="Pooling layers do not have a learning rate multiplier"):
        draw.get_layer_lr_mult(pool)
    colors = [
        draw.choose_color_by_layertype(t) for t in ("Convolution", "Pooling", "InnerProduct", "Softmax")
    ]
    assert colors == ["#FF5050", "#FF9900", "#CC33FF", "#6495ED"]


def nodes(graph):
    return sorted(node.get_label().strip('"').split("\\n")[0] for node in graph.get_nodes())


def test_the_graph_has_each_layer_and_blob_once(net):
    graph = draw.get_pydot_graph(net, "LR")
    blobs = ["conv1/7x7", "data", "ip", "label", "loss", "pool", "tall"]
    assert nodes(graph) == sorted([*blobs, *(layer.name for layer in net.layer)])
    assert graph.get_rankdir() == "LR" and len(graph.get_edges()) == 16
    assert sorted(edge.get_label() for edge in graph.get_edges() if edge.get_label() != '""') == [
        "3",
        "4",
        "7",
        "Batch 5",
        "Batch 5",
    ]
    bare = draw.get_pydot_graph(net, "LR", label_edges=False)
    assert {edge.get_label() for edge in bare.get_edges()} == {'""'}


def test_names_may_hold_what_graphviz_reads_as_structure(net):
    net.layer[2].name = 'a|{b}<"c">'
    assert draw.get_layer_label(net.layer[2], "TB").startswith(r'"a\|\{b\}\<\"c\"\> (Convolution)')


def test_a_phase_leaves_layers_out(net):
    train = draw.get_pydot_graph(net, "TB", phase=caffe.TRAIN)
    test = draw.get_pydot_graph(net, "TB", phase=caffe.TEST)
    lacks = lambda graph: {layer.name for layer in net.layer} - {n.split(" (")[0] for n in nodes(graph)}  # noqa: E731
    assert lacks(train) == {"in"} and lacks(test) == {"loss"}  # "data" is a blob there too
    assert len(test.get_nodes()) == 6 + 5
    net.layer[0].exclude.add(phase=caffe.TEST)
    assert draw.get_pydot_graph(net, "TB")
    with pytest.raises(ValueError, match=r"layer data has both include and exclude specified\."):
        draw.get_pydot_graph(net, "TB", phase=caffe.TRAIN)


def fake_dot(tmp_path, monkeypatch, code):
    """A program ``dot`` that is called as Graphviz's is."""
    program = tmp_path / "bin" / "dot"
    program.parent.mkdir()
    program.write_text(f"#!/bin/sh\n{code}\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}{os.pathsep}{os.environ['PATH']}")


def test_a_picture_is_drawn_by_graphviz(net, tmp_path, monkeypatch):
    target = tmp_path / "net.png"
    if shutil.which("dot"):
        draw.draw_net_to_file(net, str(target))
        assert target.read_bytes().startswith(b"\x89PNG")
    fake_dot(tmp_path, monkeypatch, 'echo "$1"; for last; do :; done; cat "$last"')
    draw.draw_net_to_file(net, str(target), rankdir="BT", phase=caffe.TEST)
    format, text = target.read_text().split("\n", 1)
    assert format == "-Tpng" and text == draw.get_pydot_graph(net, "BT", phase=caffe.TEST).to_string()
    assert draw.draw_net(net, "LR", "svg").startswith(b"-Tsvg\n")


def test_what_graphviz_refuses_leaves_no_file(net, tmp_path, monkeypatch):
    fake_dot(tmp_path, monkeypatch, "exit 1")
    with pytest.raises(caffe.CaffeError, match="format 'nonsense'"):
        draw.draw_net_to_file(net, str(tmp_path / "net.nonsense"))
    with pytest.raises(caffe.CaffeError, match="extension gives the format"):
        draw.draw_net_to_file(net, str(tmp_path / "net"))
    assert [path.name for path in tmp_path.iterdir()] == ["bin"]


def test_without_graphviz_only_text(net, tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(caffe.CaffeError, match="Graphviz's program 'dot', which is not on PATH"):
        draw.draw_net_to_file(net, str(tmp_path / "net.png"))
    draw.draw_net_to_file(net, str(tmp_path / "net.dot"))
    assert (tmp_path / "net.dot").read_text().startswith('digraph "a net" {')


def test_without_pydot_it_says_so(net, monkeypatch):
    real = builtins.__import__

    def importer(name, *args, **kwargs):
        if name == "pydot":
            raise ImportError("no pydot")
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", importer)
    with pytest.raises(ImportError, match="pip install pydot"):
        draw.draw_net(net, "LR")
