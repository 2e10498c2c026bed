"""Old files: every V0 type and field, V1, transformation and input fields, solver enums, and the tools on files."""

import logging

import caffe
import numpy as np
import pytest
from caffe import upgrade, upgrade_tools
from caffe.proto import caffe_pb2
from google.protobuf import text_format


@pytest.fixture
def logged(caplog):
    """The lines of the engine's log, as (level, text)."""
    logger = logging.getLogger("caffe")
    caplog.set_level(logging.INFO, logger="caffe")
    logger.addHandler(caplog.handler)
    yield lambda: [(record.levelno, record.getMessage()) for record in caplog.records]
    logger.removeHandler(caplog.handler)


def net_of(text):
    return text_format.Parse(text, caffe_pb2.NetParameter())


def upgraded(text):
    return upgrade.upgrade_net(net_of(text), "old.prototxt")


def layer_of(text):
    return text_format.Parse(text, caffe_pb2.LayerParameter())


V0_TYPES = {
    "accuracy": "Accuracy",
    "bnll": "BNLL",
    "concat": "Concat",
    "conv": "Convolution",
    "data": "Data",
    "dropout": "Dropout",
    "euclidean_loss": "EuclideanLoss",
    "flatten": "Flatten",
    "hdf5_data": "HDF5Data",
    "hdf5_output": "HDF5Output",
    "im2col": "Im2col",
    "images": "ImageData",
    "infogain_loss": "InfogainLoss",
    "innerproduct": "InnerProduct",
    "lrn": "LRN",
    "multinomial_logistic_loss": "MultinomialLogisticLoss",
    "pool": "Pooling",
    "relu": "ReLU",
    "sigmoid": "Sigmoid",
    "softmax": "Softmax",
    "softmax_loss": "SoftmaxWithLoss",
    "split": "Split",
    "tanh": "TanH",
    "window_data": "WindowData",
}
# V0 fields of a layer, and the messages they become
V0_FIELDS = [
    (
        "type: 'conv' num_output: 6 biasterm: false pad: 2 kernelsize: 5 group: 3 stride: 4 blobs_lr: 1 blobs_lr: 2 "
        "weight_decay: 3 weight_decay: 0 weight_filler { type: 'xavier' } bias_filler { value: 7 }",
        "type: 'Convolution' param { lr_mult: 1 decay_mult: 3 } param { lr_mult: 2 decay_mult: 0 } convolution_param { "
        "num_output: 6 bias_term: false pad: 2 kernel_size: 5 group: 3 stride: 4 weight_filler { type: 'xavier' } "
        "bias_filler { value: 7 } }",
    ),
    (
        "type: 'innerproduct' num_output: 6 biasterm: true weight_filler { std: 2 } bias_filler { min: 1 }",
        "type: 'InnerProduct' inner_product_param { num_output: 6 bias_term: true weight_filler { std: 2 } "
        "bias_filler { min: 1 } }",
    ),
    (
        "type: 'pool' pool: AVE pad: 1 kernelsize: 3 stride: 2",
        "type: 'Pooling' pooling_param { pool: AVE pad: 1 kernel_size: 3 stride: 2 }",
    ),
    ("type: 'pool' pool: STOCHASTIC", "type: 'Pooling' pooling_param { pool: STOCHASTIC }"),
    ("type: 'dropout' dropout_ratio: 0.25", "type: 'Dropout' dropout_param { dropout_ratio: 0.25 }"),
    (
        "type: 'lrn' local_size: 7 alpha: 2 beta: 3 k: 4",
        "type: 'LRN' lrn_param { local_size: 7 alpha: 2 beta: 3 k: 4 }",
    ),
    (
        "type: 'data' source: 's' scale: 2 meanfile: 'm' batchsize: 8 cropsize: 9 mirror: true rand_skip: 5",
        "type: 'Data' data_param { source: 's' batch_size: 8 rand_skip: 5 } "
        "transform_param { scale: 2 mean_file: 'm' crop_size: 9 mirror: true }",
    ),
    (
        "type: 'hdf5_data' source: 's' batchsize: 8",
        "type: 'HDF5Data' hdf5_data_param { source: 's' batch_size: 8 }",
    ),
    (
        "type: 'images' source: 's' batchsize: 8 rand_skip: 5 shuffle_images: true new_height: 11 new_width: 12",
        "type: 'ImageData' image_data_param { source: 's' batch_size: 8 rand_skip: 5 shuffle: true new_height: 11 "
        "new_width: 12 }",
    ),
    ("type: 'infogain_loss' source: 's'", "type: 'InfogainLoss' infogain_loss_param { source: 's' }"),
    ("type: 'concat' concat_dim: 0", "type: 'Concat' concat_param { concat_dim: 0 }"),
    (
        "type: 'window_data' source: 's' batchsize: 8 det_fg_threshold: 0.75 det_bg_threshold: 0.25 "
        "det_fg_fraction: 0.125 det_context_pad: 3 det_crop_mode: 'square'",
        "type: 'WindowData' window_data_param { source: 's' batch_size: 8 fg_threshold: 0.75 bg_threshold: 0.25 "
        "fg_fraction: 0.125 context_pad: 3 crop_mode: 'square' }",
    ),
    (
        "type: 'hdf5_output' hdf5_output_param { file_name: 'f' }",
        "type: 'HDF5Output' hdf5_output_param { file_name: 'f' }",
    ),
    ("type: 'conv' blobs { num: 1 data: 2 }", "type: 'Convolution' blobs { num: 1 data: 2 }"),
]


@pytest.mark.parametrize(("old", "new"), V0_TYPES.items())
def test_v0_types(old, new):
    assert upgraded(f"layers {{ layer {{ name: 'a' type: '{old}' }} top: 'x' }}").layer[0] == layer_of(
        f"name: 'a' type: '{new}' top: 'x'"
    )


@pytest.mark.parametrize(("old", "new"), V0_FIELDS)
def test_v0_fields(old, new, logged):
    assert upgraded(f"layers {{ layer {{ {old} }} top: 'x' }}").layer[0] == layer_of(f"top: 'x' {new}")
    assert all(level == logging.INFO for level, _ in logged())


def test_a_v0_field_that_the_type_never_had_is_left_out_and_said(logged):
    net = upgraded("layers { layer { name: 'a' type: 'relu' kernelsize: 3 num_output: 2 } top: 'x' }")
    assert net.layer[0] == layer_of("name: 'a' type: 'ReLU' top: 'x'")
    said = [text for level, text in logged() if level == logging.ERROR]
    assert len(said) == 2 and all("layer 'a'" in line and "for layer type relu" in line for line in said)


PADDED = """
input: "data" input_dim: 1 input_dim: 1 input_dim: 6 input_dim: 6
layers { layer { name: "pad" type: "padding" pad: 2 } bottom: "data" top: "padded" }
layers { layer { name: "conv" type: "conv" num_output: 2 kernelsize: 3 } bottom: "padded" top: "conv" }
layers { layer { name: "pad2" type: "padding" pad: 1 } bottom: "conv" top: "padded" }
layers { layer { name: "pool" type: "pool" kernelsize: 3 pad: 5 } bottom: "padded" top: "pool" }
"""


def test_padding_layers_become_the_pad_of_what_reads_them(make_net):
    net = upgraded(PADDED)
    assert [layer.name for layer in net.layer] == ["input", "conv", "pool"]
    assert list(net.layer[1].bottom) == ["data"] and list(net.layer[1].convolution_param.pad) == [2]
    assert list(net.layer[2].bottom) == ["conv"] and net.layer[2].pooling_param.pad == 1
    net = make_net(PADDED)
    assert net.blobs["conv"].shape == (1, 2, 8, 8) and net.blobs["pool"].shape == (1, 2, 8, 8)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (PADDED.replace('type: "conv"', 'type: "relu"'), "non-convolutional / non-pooling layer type relu"),
        (
            PADDED.replace('bottom: "padded" top: "conv"', 'bottom: "padded" bottom: "data" top: "conv"'),
            "layer 'conv'",
        ),
        (
            PADDED.replace('bottom: "data" top', 'bottom: "data" bottom: "data" top'),
            "layer 'pad'.* single blob",
        ),
        (PADDED.replace('top: "padded" }', 'top: "padded" top: "more" }', 1), "produces a single blob"),
        (PADDED.replace('bottom: "data"', 'bottom: "date"'), "Unknown blob input date"),
        ("layers { layer { name: 'a' type: 'convolution' } }", "Unknown layer name: convolution.*conv"),
        ("layer { name: 'a' } layers { layer { name: 'b' } }", "inconsistent NetParameter"),
    ],
)
def test_v0_nets_that_break_a_rule(text, words):
    with pytest.raises(caffe.CaffeError, match=words) as caught:
        upgraded(text)
    assert "old.prototxt" in str(caught.value)


def test_v1_layers_and_what_only_data_layers_move():
    net = upgraded("""
        layers { name: "d" type: DATA top: "x" data_param {
                   source: "s" scale: 2 mean_file: "m" crop_size: 3 mirror: true }
                 transform_param { mean_value: 4 } }
        layers { name: "i" type: IMAGE_DATA top: "y" image_data_param { scale: 2 new_height: 5 } }
        layers { name: "w" type: WINDOW_DATA top: "z" window_data_param { crop_size: 2 context_pad: 1 } }
        layers { name: "c" type: CONVOLUTION bottom: "x" top: "c" data_param { scale: 9 }
                 param: "share" blob_share_mode: PERMISSIVE blobs_lr: 1 blobs_lr: 2 weight_decay: 3 loss_weight: 0.5
                 include { phase: TRAIN } }
    """)
    assert list(net.layer) == [
        layer_of(text)
        for text in (
            """name: "d" type: "Data" top: "x" data_param { source: "s" } transform_param {
               scale: 2 mean_file: "m" crop_size: 3 mirror: true mean_value: 4 }""",
            """name: "i" type: "ImageData" top: "y" image_data_param { new_height: 5 } transform_param { scale: 2 }""",
            """name: "w" type: "WindowData" top: "z" window_data_param { context_pad: 1 }
               transform_param { crop_size: 2 }""",
            """name: "c" type: "Convolution" bottom: "x" top: "c" data_param { scale: 9 } loss_weight: 0.5
               param { name: "share" share_mode: PERMISSIVE lr_mult: 1 decay_mult: 3 } param { lr_mult: 2 }
               include { phase: TRAIN }""",
        )
    ]


def test_every_v1_type_has_the_name_of_a_layer():
    for value in caffe_pb2.V1LayerParameter.LayerType.values():
        name = upgrade.v1_type_name(value)
        assert not name if value == 0 else name in caffe.layer_type_list()


def test_input_fields_and_batch_norms_own_params():
    net = upgraded("""
        input: "a" input: "b" input_shape { dim: 1 dim: 2 } input_shape { dim: 3 }
        layer { name: "n" type: "BatchNorm" bottom: "a" top: "n" param { lr_mult: 0 } param {} param { decay_mult: 5 } }
        layer { name: "o" type: "BatchNorm" bottom: "a" top: "o" param { lr_mult: 2 } }
    """)
    assert net.layer[0] == layer_of(
        "name: 'input' type: 'Input' top: 'a' top: 'b' input_param { shape { dim: 1 dim: 2 } shape { dim: 3 } }"
    )
    assert [(spec.lr_mult, spec.decay_mult) for spec in net.layer[1].param] == [(0, 0)] * 3
    assert net.layer[2].param[0].lr_mult == 2
    assert not upgrade.needs_upgrade(net)
    again = caffe_pb2.NetParameter()
    again.CopyFrom(net)
    assert upgrade.upgrade_net(again, "same") == net
    assert not upgraded("input: 'gone'").ListFields()


@pytest.mark.parametrize("name", ["SGD", "Nesterov", "AdaGrad", "RMSProp", "AdaDelta", "Adam"])
def test_solver_enums(name):
    solver = caffe_pb2.SolverParameter(solver_type=name.upper(), max_iter=3)
    assert upgrade.upgrade_solver(solver, "s") == caffe_pb2.SolverParameter(type=name, max_iter=3)
    with pytest.raises(caffe.CaffeError, match=r"s: Failed to upgrade solver.*cannot be both specified"):
        upgrade.upgrade_solver(caffe_pb2.SolverParameter(solver_type=1, type="SGD"), "s")


# -- files ------------------------------------------------------------------------------------------

SMALL = """
name: "small" input: "data" input_dim: 1 input_dim: 2 input_dim: 5 input_dim: 5
layers { layer { name: "pad" type: "padding" pad: 1 } bottom: "data" top: "padded" }
layers { layer { name: "conv" type: "conv" num_output: 3 kernelsize: 3 weight_filler { type: "gaussian" std: 1 } }
         bottom: "padded" top: "conv" }
layers { layer { name: "fc" type: "innerproduct" num_output: 4 weight_filler { type: "gaussian" std: 1 } }
         bottom: "conv" top: "fc" }
"""


def old_model(net, text):
    """The V0 net of ``text`` as a message with the weights of ``net`` in legacy four dims."""
    message = net_of(text)
    for layer in message.layers:
        for blob in net.params.get(layer.layer.name, ()):
            stored = layer.layer.blobs.add()
            stored.num, stored.channels, stored.height, stored.width = (1,) * (
                4 - len(blob.shape)
            ) + blob.shape
            stored.data.extend(blob.data.ravel().tolist())
    return message


def outputs(net):
    net.blobs["data"].data[...] = np.random.RandomState(3).standard_normal((1, 2, 5, 5))
    return net.forward()["fc"].copy()


def test_upgrading_a_v0_model_keeps_its_weights_and_results(make_net, tmp_path):
    net = make_net(SMALL)
    expected = outputs(net)
    model, new, text = tmp_path / "old.caffemodel", tmp_path / "new.caffemodel", tmp_path / "new.prototxt"
    model.write_bytes(old_model(net, SMALL).SerializeToString())
    assert upgrade_tools.upgrade_net_binary(model, new)
    message = caffe_pb2.NetParameter.FromString(new.read_bytes())
    assert [layer.name for layer in message.layer] == ["input", "conv", "fc"] and not message.layers
    assert message.layer[1].blobs[0].num == 3  # blobs are copied as they are
    (tmp_path / "old.prototxt").write_text(SMALL)
    assert upgrade_tools.upgrade_net_text(tmp_path / "old.prototxt", text)
    assert text_format.Parse(text.read_text(), caffe_pb2.NetParameter()) == upgraded(SMALL)
    for weights in (model, new):
        for prototxt in (tmp_path / "old.prototxt", text):
            assert np.array_equal(
                outputs(caffe.Net(str(prototxt), caffe.TEST, weights=str(weights))), expected
            )
    upgrade_tools.upgrade_net_binary(new, new)  # onto itself, and already current
    assert caffe_pb2.NetParameter.FromString(new.read_bytes()) == message


def test_text_and_binary_are_told_apart_by_content(make_net, make_solver, tmp_path):
    net = make_net(SMALL)
    expected = outputs(net)
    message = old_model(net, SMALL)
    binary, text = tmp_path / "binary", tmp_path / "text"
    binary.write_bytes(message.SerializeToString())
    text.write_text(text_format.MessageToString(message))
    again = make_net(SMALL)
    again.copy_from(text)  # weights as text
    assert np.array_equal(outputs(again), expected)
    for file in (binary, text):  # a net with its weights, as either
        assert np.array_equal(outputs(caffe.Net(str(file), caffe.TEST)), expected)
    (tmp_path / "bare").write_bytes(net_of(SMALL).SerializeToString())
    assert caffe.Net(str(tmp_path / "bare"), caffe.TEST).params["fc"][0].shape == (4, 75)
    solver = caffe_pb2.SolverParameter(base_lr=0.5, lr_policy="fixed", train_net=str(tmp_path / "bare"))
    (tmp_path / "solver").write_bytes(solver.SerializeToString())
    assert caffe.get_solver(str(tmp_path / "solver")).lr == 0.5
    state = caffe_pb2.SolverState(iter=7)
    for entry in make_solver(SMALL, "base_lr: 1 lr_policy: 'fixed'").history:
        stored = state.history.add(data=[0.5] * entry.count)
        stored.shape.dim.extend(entry.shape)
    (tmp_path / "state").write_text(text_format.MessageToString(state))
    resumed = make_solver(SMALL, "base_lr: 1 lr_policy: 'fixed'")
    resumed.restore(str(tmp_path / "state"))
    assert resumed.iter == 7 and (resumed.history[0].data == 0.5).all()
    for source in (binary, text):
        target = tmp_path / "upgraded"
        upgrade_tools.upgrade_net_binary(source, target)
        assert np.array_equal(outputs(caffe.Net(str(target), caffe.TEST)), expected)


def test_upgrade_tools_write_whole_files_or_none(tmp_path):
    source, target = tmp_path / "in", tmp_path / "out"
    for tool, text in (
        (upgrade_tools.upgrade_net_text, "layers { layer { type: 'nosuch' } }"),
        (upgrade_tools.upgrade_net_binary, "layers { layer { type: 'nosuch' } }"),
        (upgrade_tools.upgrade_solver_text, "solver_type: ADAM type: 'SGD'"),
    ):
        source.write_text(text)
        target.write_text("as it was")
        with pytest.raises(caffe.CaffeError, match=str(source)):
            tool(source, target)
        assert target.read_text() == "as it was" and sorted(tmp_path.iterdir()) == [source, target]
        with pytest.raises(caffe.CaffeError, match="Could not open file"):
            tool(tmp_path / "missing", target)
    source.write_text("layers { layer { name: 'a' type: 'relu' pad: 1 } top: 'x' }")
    assert not upgrade_tools.upgrade_net_text(source, target)  # pad is left out
    source.write_text("solver_type: ADAM max_iter: 5")
    assert upgrade_tools.upgrade_solver_text(source, target)
    assert text_format.Parse(target.read_text(), caffe_pb2.SolverParameter()) == caffe_pb2.SolverParameter(
        type="Adam", max_iter=5
    )
