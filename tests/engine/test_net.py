"""Net: construction, splits, filtering, what runs backward, running in parts, weights."""

import caffe
import numpy as np
import pytest

IP = """
layer {{ name: "data" type: "Input" top: "data" input_param {{ shape {{ dim: 2 dim: 3 }} }} }}
layer {{ name: "label" type: "Input" top: "label" input_param {{ shape {{ dim: 2 }} }} }}
layer {{ name: "ip1" type: "InnerProduct" bottom: "data" top: "ip1"
  inner_product_param {{ num_output: 4 weight_filler {{ type: "xavier" }} }} {ip1} }}
layer {{ name: "relu1" type: "ReLU" bottom: "ip1" top: "ip1" }}
layer {{ name: "ip2" type: "InnerProduct" bottom: "ip1" top: "ip2"
  inner_product_param {{ num_output: 5 weight_filler {{ type: "xavier" }} }} {ip2} }}
layer {{ name: "loss" type: "SoftmaxWithLoss" bottom: "ip2" bottom: "label" top: "loss" {loss} }}
"""


def mlp(ip1="", ip2="", loss="", head=""):
    return head + IP.format(ip1=ip1, ip2=ip2, loss=loss)


def test_names_and_orders(make_net):
    net = make_net(mlp())
    assert list(net.blobs) == ["data", "label", "ip1", "ip2", "loss"]
    assert list(net.params) == ["ip1", "ip2"]
    assert net.inputs == ["data", "label"] and net.outputs == ["loss"]
    assert list(net._layer_names) == ["data", "label", "ip1", "relu1", "ip2", "loss"]
    assert net.top_names["ip1"] == ["ip1"] and net.bottom_names["loss"] == ["ip2", "label"]
    assert net.layer_dict["ip1"].type == "InnerProduct"
    assert [list(blob.shape) for blob in net.params["ip1"]] == [[4, 3], [4]]
    assert net.blob_loss_weights["loss"] == 1 and net.blob_loss_weights["ip1"] == 0


def test_forward_backward_values_against_numpy(make_net):
    net = make_net(mlp(), caffe.TRAIN)
    random = np.random.RandomState(0)
    x, labels = random.randn(2, 3), np.array([1, 4])
    net.blobs["data"].data[...] = x
    net.blobs["label"].data[...] = labels
    (w1, b1), (w2, b2) = ([blob.data.astype(float) for blob in net.params[name]] for name in ("ip1", "ip2"))
    out = net.forward()
    h = np.maximum(x @ w1.T + b1, 0)
    s = h @ w2.T + b2
    p = np.exp(s) / np.exp(s).sum(1, keepdims=True)
    assert np.allclose(out["loss"], -np.log(p[[0, 1], labels]).mean(), atol=1e-6)
    net.backward()
    g = p.copy()
    g[[0, 1], labels] -= 1
    g /= 2
    assert np.allclose(net.params["ip2"][0].diff, g.T @ h, atol=1e-6)
    assert np.allclose(net.params["ip1"][0].diff, ((g @ w2) * (h > 0)).T @ x, atol=1e-6)
    # parameter diffs accumulate, bottom diffs are overwritten, until cleared
    before = net.blobs["ip2"].diff.copy()
    net.backward()
    assert np.allclose(net.params["ip2"][0].diff, 2 * g.T @ h, atol=1e-6)
    assert np.array_equal(net.blobs["ip2"].diff, before)
    net.clear_param_diffs()
    assert not net.params["ip2"][0].diff.any()


def test_splits_are_named_like_caffes_and_alias(make_net):
    net = make_net(
        """force_backward: true
        layer { name: "input" type: "Input" top: "data" input_param { shape { dim: 2 } } }
        layer { name: "a" type: "ReLU" bottom: "data" top: "a" }
        layer { name: "sum" type: "Eltwise" bottom: "data" bottom: "a" top: "sum" }"""
    )
    names = ["data", "data_input_0_split_0", "data_input_0_split_1", "a", "sum"]
    assert list(net.blobs) == names
    assert net._layer_names[1] == "data_input_0_split"
    assert net.bottom_names["sum"] == ["data_input_0_split_1", "a"]
    net.blobs["data"].data[...] = [1, -2]
    assert net.blobs["data_input_0_split_1"].data.tolist() == [1, -2]
    assert net.forward()["sum"].tolist() == [2, -2]
    net.blobs["sum"].diff[...] = 1
    net.backward()
    assert net.blobs["data"].diff.tolist() == [2, 1]


def test_a_split_after_an_in_place_layer_is_named_after_it(make_net):
    net = make_net(
        """layer { name: "in" type: "Input" top: "x" input_param { shape { dim: 2 } } }
        layer { name: "relu" type: "ReLU" bottom: "x" top: "x" }
        layer { name: "a" type: "ReLU" bottom: "x" top: "a" }
        layer { name: "b" type: "ReLU" bottom: "x" top: "b" }"""
    )
    assert "x_relu_0_split_1" in net.blobs


def test_layers_may_share_a_name(make_net):
    text = mlp().replace('name: "ip2"', 'name: "ip1"').replace('name: "relu1"', 'name: "ip1"')
    net = make_net(text, caffe.TRAIN)
    net.blobs["data"].data[...] = 1
    net.forward()
    net.backward()
    assert net.blobs["ip1"].diff.any() and net._top_ids(4) == [3] and net._bottom_ids(4) == [2]


def test_outputs_are_sorted_by_bytes(make_net):
    text = 'layer { name: "in" type: "Input" top: "zeta" top: "Alpha" top: "beta" input_param { shape { dim: 1 } } }'
    assert make_net(text).outputs == ["Alpha", "beta", "zeta"]


def test_filtering_by_phase_stage_and_level(make_net):
    text = """
    layer { name: "in" type: "Input" top: "x" input_param { shape { dim: 1 } } }
    layer { name: "train" type: "ReLU" bottom: "x" top: "t" include { phase: TRAIN } }
    layer { name: "deploy" type: "ReLU" bottom: "x" top: "d" include { stage: "deploy" } }
    layer { name: "not" type: "ReLU" bottom: "x" top: "n" exclude { stage: "deploy" } }
    layer { name: "deep" type: "ReLU" bottom: "x" top: "l" include { min_level: 2 } }"""
    layers = lambda net: [name for name in net._layer_names if "split" not in name]  # noqa: E731
    assert layers(make_net(text, caffe.TRAIN)) == ["in", "train", "not"]
    assert layers(make_net(text, caffe.TEST, stages=["deploy"])) == ["in", "deploy"]
    assert layers(make_net(text, caffe.TEST, level=2)) == ["in", "not", "deep"]


def test_lr_mult_zero_has_no_gradient_and_cuts_what_lies_below(make_net):
    net = make_net(mlp(ip1="param { lr_mult: 0 } param { lr_mult: 0 }"), caffe.TRAIN)
    net.blobs["data"].data[...] = 1
    net.forward()
    net.backward()
    assert not net.params["ip1"][0].diff.any() and not net.blobs["ip1"].diff.any()
    assert net.params["ip2"][0].diff.any()


def test_deploy_nets_have_no_gradient_unless_forced(make_net):
    text = """
    layer { name: "in" type: "Input" top: "x" input_param { shape { dim: 2 } } }
    layer { name: "relu" type: "ReLU" bottom: "x" top: "y" }"""
    for head, expected in [("", [0, 0]), ("force_backward: true\n", [3, 0])]:
        net = make_net(head + text)
        net.blobs["x"].data[...] = [1, -1]
        net.forward()
        net.blobs["y"].diff[...] = 3
        assert net.backward()["x"].tolist() == expected


def test_propagate_down_overrides(make_net):
    net = make_net(mlp(loss="propagate_down: false propagate_down: false"), caffe.TRAIN)
    net.forward()
    net.backward()
    assert not net.params["ip2"][0].diff.any()
    with pytest.raises(caffe.CaffeError, match="propagate_down"):
        make_net(mlp(loss="propagate_down: true"))


def test_loss_weight_scales_loss_and_gradient(make_net):
    nets = [make_net(mlp(loss=text), caffe.TRAIN) for text in ("", "loss_weight: 3")]
    nets[1].share_with(nets[0])
    for net in nets:
        net.blobs["data"].data[...] = 1
    losses = [net._forward(0, 5) for net in nets]
    for net in nets:
        net.backward()
    assert losses[1] == pytest.approx(3 * losses[0])
    assert np.allclose(nets[1].params["ip2"][0].diff, 3 * nets[0].params["ip2"][0].diff, rtol=1e-5)
    assert nets[0].blobs["loss"].data == nets[1].blobs["loss"].data  # the value itself is unweighted


def test_a_loss_without_a_top_is_automatic(make_net):
    text = mlp().replace('top: "loss"', "")
    net = make_net(text, caffe.TRAIN)
    assert "(automatic)" in net.blobs and net.outputs == []
    assert net._forward(0, 5) > 0


def test_shared_parameters(make_net):
    net = make_net(mlp(ip2='param { name: "w" lr_mult: 2 }').replace("dim: 3", "dim: 5"), caffe.TRAIN)
    assert net.params["ip2"][0].shape == (5, 4)
    text = """
    layer { name: "in" type: "Input" top: "x" input_param { shape { dim: 2 dim: 3 } } }
    layer { name: "a" type: "InnerProduct" bottom: "x" top: "a" param { name: "w" }
      inner_product_param { num_output: 3 bias_term: false weight_filler { type: "xavier" } } }
    layer { name: "b" type: "InnerProduct" bottom: "a" top: "b" param { name: "w" %s }
      inner_product_param { num_output: %d bias_term: false } }
    layer { name: "loss" type: "Eltwise" bottom: "b" bottom: "b" top: "l" loss_weight: 1 }"""
    net = make_net(text % ("", 3), caffe.TRAIN)
    net.params["a"][0].data[0, 0] = 9
    assert net.params["b"][0].data[0, 0] == 9
    net.blobs["x"].data[...] = 1
    net.forward()
    net.backward()
    assert np.array_equal(net.params["a"][0].diff, net.params["b"][0].diff)
    assert len(net._param_table.learnable) == 1
    with pytest.raises(caffe.CaffeError, match="shape mismatch"):
        make_net(text % ("", 4))
    with pytest.raises(caffe.CaffeError, match="mismatched lr_mult"):
        make_net((text % ("lr_mult: 2", 3)).replace('name: "w" }', 'name: "w" lr_mult: 1 }'))


def test_forward_in_parts_and_with_keywords(make_net):
    net = make_net(mlp())
    x = np.ones((2, 3), np.float32)
    out = net.forward(data=x, label=np.zeros(2), blobs=["ip1"])
    assert set(out) == {"loss", "ip1"}
    net.blobs["ip1"].data[...] = 1
    assert set(net.forward(start="ip2", end="ip2")) == {"ip2"}
    expected = net.params["ip2"][0].data.sum(1) + net.params["ip2"][1].data
    assert np.allclose(net.blobs["ip2"].data, expected, atol=1e-6)
    with pytest.raises(ValueError, match="is not in list"):
        net.forward(start="nowhere")
    with pytest.raises(Exception, match="do not match net inputs"):
        net.forward(data=x)
    with pytest.raises(Exception, match="not batch sized"):
        net.forward(data=x[:1], label=np.zeros(2))
    with pytest.raises(KeyError):
        net.forward(blobs=["nowhere"])


def test_forward_all_pads_and_joins(make_net):
    text = """
    layer { name: "in" type: "Input" top: "x" input_param { shape { dim: 2 dim: 3 } } }
    layer { name: "relu" type: "ReLU" bottom: "x" top: "y" }"""
    net = make_net("force_backward: true\n" + text)
    x = np.arange(15, dtype=np.float32).reshape(5, 3) - 7
    assert np.array_equal(net.forward_all(x=x)["y"], np.maximum(x, 0))
    outs, diffs = net.forward_backward_all(x=x, y=np.ones_like(x))
    assert np.array_equal(outs["y"], np.maximum(x, 0)) and np.array_equal(diffs["x"], x > 0)


def test_inputs_reshape_through_the_net(make_net):
    net = make_net(
        """layer { name: "in" type: "Input" top: "x" input_param { shape { dim: 1 dim: 1 dim: 4 dim: 4 } } }
        layer { name: "pool" type: "Pooling" bottom: "x" top: "y" pooling_param { kernel_size: 2 stride: 2 } }"""
    )
    net.blobs["x"].reshape(1, 1, 7, 9)
    net.reshape()
    assert net.blobs["y"].shape == (1, 1, 4, 5)
    net.blobs["x"].reshape(1, 1, 2, 2)
    assert net.forward()["y"].shape == (1, 1, 1, 1)


def test_views_stay_live_across_forwards(make_net):
    net = make_net(mlp())
    view = net.blobs["ip1"].data
    net.forward(data=np.ones((2, 3)), label=np.zeros(2))
    first = view.copy()
    assert np.array_equal(net.blobs["ip1"].data, first) and first.any()
    net.forward(data=-np.ones((2, 3)), label=np.zeros(2))
    assert np.array_equal(net.blobs["ip1"].data, view) and not np.array_equal(view, first)


def test_gradients_are_right_while_views_are_held(make_net):
    """In-place layers overwrite viewed memory; the gradient must not see that."""
    text = """force_backward: true
    layer { name: "in" type: "Input" top: "x" input_param { shape { dim: 4 } } }
    layer { name: "twice" type: "Eltwise" bottom: "x" bottom: "x" top: "y" eltwise_param { operation: PROD } }
    layer { name: "scale" type: "Scale" bottom: "y" top: "y" scale_param { axis: 0 filler { value: 3 } } }
    layer { name: "relu" type: "ReLU" bottom: "y" top: "y" }"""
    net = make_net(text)
    views = [net.blobs[name].data for name in net.blobs]
    for _ in range(2):
        net.blobs["x"].data[...] = [1, 2, -3, 0]
        net.forward()
        net.blobs["y"].diff[...] = 1
        net.clear_param_diffs()
        net.backward()
        assert net.blobs["x"].diff.tolist() == [6, 12, -18, 0]
        assert net.params["scale"][0].diff.tolist() == [1, 4, 9, 0]
        assert views[-1].tolist() == [3, 12, 27, 0]


def test_hooks_run_in_order_and_propagate_errors(make_net):
    net = make_net(mlp(), caffe.TRAIN)
    calls = []
    net.before_forward(lambda i: calls.append(("bf", i)))
    net.after_forward(lambda i: calls.append(("af", i)))
    net.before_backward(lambda i: calls.append(("bb", i)))
    net.after_backward(lambda i: calls.append(("ab", i)))
    net.forward(end="label")
    assert calls == [("bf", 0), ("af", 0), ("bf", 1), ("af", 1)]
    net.forward()
    calls.clear()
    net.backward(start="loss", end="loss")
    assert calls == [("bb", 5), ("ab", 5)]

    def fail(i):
        raise KeyError("mine")

    net.after_forward(fail)
    with pytest.raises(KeyError, match="mine"):
        net.forward()


BROKEN = [
    ('layer { name: "a" type: "ReLU" bottom: "x" top: "y" }', "Unknown bottom blob 'x'"),
    ('layer { name: "a" type: "Nonsense" top: "y" }', "Unknown layer type: Nonsense"),
    (
        'layer { name: "a" type: "Input" top: "x" input_param { shape { dim: 1 } } }'
        'layer { name: "b" type: "Input" top: "x" input_param { shape { dim: 1 } } }',
        "produced by multiple sources",
    ),
    (
        'layer { name: "a" type: "Input" top: "x" input_param { shape { dim: 1 } } }'
        'layer { name: "b" type: "ReLU" bottom: "x" bottom: "x" top: "y" }',
        "1 bottom blob",
    ),
    ('layer { name: "a" type: "Input" top: "x" include {} exclude {} }', "not both"),
    ("layer { nam: 'a' }", "did you mean name"),
    ("layer {", "Failed to parse NetParameter file"),
    ("layer { name: 'a' } layers { name: 'b' }", "inconsistent NetParameter"),
    (
        'layer { name: "a" type: "Input" top: "x" input_param { shape { dim: 1 dim: 1 } } }'
        'layer { name: "b" type: "InnerProduct" bottom: "x" top: "y" param {} param {} param {} '
        "inner_product_param { num_output: 1 } }",
        "Too many params",
    ),
    (
        'layer { name: "a" type: "Input" top: "x" loss_weight: 1 loss_weight: 2 input_param { shape { dim: 1 } } }',
        "loss_weight must be",
    ),
]


@pytest.mark.parametrize(("text", "words"), BROKEN, ids=[words for _, words in BROKEN])
def test_broken_nets_say_what_is_wrong_and_where(make_net, text, words):
    with pytest.raises(caffe.CaffeError, match=words) as caught:
        make_net(text)
    assert ".prototxt" in str(caught.value)


def test_constructor_forms(make_net, tmp_path):
    net = make_net(mlp())
    net.save(str(tmp_path / "w.caffemodel"))
    path = next(tmp_path.glob("*.prototxt"))
    for again in (
        caffe.Net(str(path), caffe.TEST, weights=str(tmp_path / "w.caffemodel")),
        caffe.Net(str(path), str(tmp_path / "w.caffemodel"), caffe.TEST),
        caffe.Net(network_file=path, phase=caffe.TEST, weights=tmp_path / "w.caffemodel"),
        caffe.Net(str(path).encode(), caffe.TEST, 0, None, weights=str(tmp_path / "w.caffemodel")),
    ):
        assert np.array_equal(again.params["ip1"][0].data, net.params["ip1"][0].data)
    for bad in ((str(path),), (str(path), caffe.TEST, "w"), ()):
        with pytest.raises(TypeError):
            caffe.Net(*bad)
    with pytest.raises(RuntimeError, match="Could not open file"):
        caffe.Net("missing.prototxt", caffe.TEST)


def test_a_subclass_may_call_init_unbound(tmp_path):
    path = tmp_path / "n.prototxt"
    path.write_text(mlp())

    class Mine(caffe.Net):
        def __init__(self):
            caffe.Net.__init__(self, str(path), caffe.TEST)

    assert Mine().inputs == ["data", "label"]


def test_python_layers(make_net, tmp_path, monkeypatch):
    (tmp_path / "my_layers.py").write_text(
        """
import caffe
class Scale(caffe.Layer):
    def setup(self, bottom, top):
        self.factor = float(self.param_str)
        self.blobs.add_blob(1)
        self.blobs[0].data[...] = self.factor
        assert self.phase == caffe.TRAIN
    def reshape(self, bottom, top):
        top[0].reshape(*bottom[0].shape)
    def forward(self, bottom, top):
        top[0].data[...] = bottom[0].data * self.blobs[0].data
    def backward(self, top, propagate_down, bottom):
        assert propagate_down[0]
        bottom[0].diff[...] = top[0].diff * self.blobs[0].data
        self.blobs[0].diff[...] += (top[0].diff * bottom[0].data).sum()
class Half(caffe.Layer):
    def reshape(self, bottom, top): pass
    def forward(self, bottom, top): raise KeyError("mine")
"""
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    text = """force_backward: true
    layer { name: "in" type: "Input" top: "x" input_param { shape { dim: 2 } } }
    layer { name: "py" type: "Python" bottom: "x" top: "y" loss_weight: 1
      python_param { module: "my_layers" layer: "%s" param_str: "4" } }"""
    net = make_net(text % "Scale", caffe.TRAIN)
    net.blobs["x"].data[...] = [1, 2]
    assert net._forward(0, 1) == 12 and net.blobs["y"].data.tolist() == [4, 8]
    net.backward()
    assert net.blobs["x"].diff.tolist() == [4, 4] and net.params["py"][0].diff.tolist() == [3]
    with pytest.raises(caffe.CaffeError, match="no class 'Missing'"):
        make_net(text % "Missing")
    with pytest.raises(caffe.CaffeError, match="no shape after reshape"):
        make_net(text % "Half")
    with pytest.raises(caffe.CaffeError, match="no module named 'nowhere_at_all'"):
        make_net((text % "Scale").replace("my_layers", "nowhere_at_all"))


def test_v1_prototxt_and_input_fields(make_net):
    net = make_net(
        """input: "data" input_dim: 1 input_dim: 2 input_dim: 5 input_dim: 5
        layers { name: "conv" type: CONVOLUTION bottom: "data" top: "conv" blobs_lr: 1 blobs_lr: 2
          weight_decay: 1 weight_decay: 0 convolution_param { num_output: 3 kernel_size: 3 } }
        layers { name: "relu" type: RELU bottom: "conv" top: "conv" }"""
    )
    assert net.inputs == ["data"] and net._layer_names[0] == "input"
    assert net.blobs["conv"].shape == (1, 3, 3, 3)
    assert [entry.lr_mult for entry in net._param_table.learnable] == [1, 2]
    assert [entry.decay_mult for entry in net._param_table.learnable] == [1, 0]
