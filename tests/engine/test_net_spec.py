"""caffe.net_spec: how a net written in Python becomes a prototxt."""

import caffe.net_spec
import pytest
from caffe.net_spec import NetSpec, param_name_dict, to_proto
from caffe.net_spec import layers as L
from caffe.net_spec import params as P
from caffe.proto import caffe_pb2
from google.protobuf import text_format


def parse(text):
    return text_format.Parse(text, caffe_pb2.NetParameter())


def data():
    return L.Input(shape={"dim": [1, 3, 4, 4]})


def only_layer(**params):
    (layer,) = L.Silence(ntop=0, **params).to_proto().layer
    return layer


def test_a_small_net_is_this_prototxt():
    n = NetSpec()
    n.data, n.label = L.Python(module="layers", layer="Data", ntop=2, param_str="{'mean': (1, 2)}")
    n.conv = L.Convolution(
        n.data,
        num_output=2,
        kernel_size=3,
        pad=[1, 2],
        param=[{"lr_mult": 1}, {"lr_mult": 2, "decay_mult": 0}],
        weight_filler={"type": "msra", "variance_norm": P.Filler.AVERAGE},
    )
    n.relu = L.ReLU(n.conv, in_place=True)
    n.pool = L.Pooling(n.relu, pool=P.Pooling.AVE, kernel_size=2)
    n.loss = L.SoftmaxWithLoss(n.pool, n.label, loss_param={"ignore_label": 255}, loss_weight=2)
    assert n.to_proto() == parse(
        """
        layer { name: "data" type: "Python" top: "data" top: "label"
                python_param { module: "layers" layer: "Data" param_str: "{'mean': (1, 2)}" } }
        layer { name: "conv" type: "Convolution" bottom: "data" top: "conv"
                param { lr_mult: 1 } param { lr_mult: 2 decay_mult: 0 }
                convolution_param { num_output: 2 kernel_size: 3 pad: 1 pad: 2
                                    weight_filler { type: "msra" variance_norm: AVERAGE } } }
        layer { name: "relu" type: "ReLU" bottom: "conv" top: "conv" }
        layer { name: "pool" type: "Pooling" bottom: "conv" top: "pool"
                pooling_param { pool: AVE kernel_size: 2 } }
        layer { name: "loss" type: "SoftmaxWithLoss" bottom: "pool" bottom: "label" top: "loss"
                loss_weight: 2 loss_param { ignore_label: 255 } }
        """
    )


def test_text_of_a_spec_parses_back():
    n = NetSpec()
    n.data = L.Python(module="m", layer="c", param_str="{\"a\": 'b'}")
    assert parse(str(n.to_proto())) == n.to_proto()


def test_layers_come_after_their_inputs_whatever_is_assigned_first():
    n = NetSpec()
    inner = data()
    n.out = L.ReLU(inner)
    n.source = inner
    assert [layer.name for layer in n.to_proto().layer] == ["source", "out"]


def test_automatic_names_count_by_type_in_order_of_need():
    names = [layer.name for layer in to_proto(L.ReLU(L.ReLU(data())), L.TanH(data())).layer]
    assert names == ["Input1", "ReLU1", "ReLU2", "Input2", "TanH1"]
    first, second = L.Slice(data(), ntop=2)
    layer = to_proto(second).layer[-1]
    assert list(layer.top) == ["Slice1", "Slice2"]
    assert layer.name == "Slice1"
    assert to_proto(first, second).layer == to_proto(second).layer


def test_layer_takes_the_name_of_its_first_top_or_the_one_given():
    n = NetSpec()
    n.a, n.b = L.Slice(data(), ntop=2)
    n.c = L.ReLU(n.b, name="rectify")
    slice_layer, relu = n.to_proto().layer[1:]
    assert (slice_layer.name, list(slice_layer.top)) == ("a", ["a", "b"])
    assert (relu.name, list(relu.bottom), list(relu.top)) == ("rectify", ["b"], ["c"])


def test_in_place_tops_are_the_bottoms():
    n = NetSpec()
    n.data = data()
    n.relu = L.ReLU(n.data, in_place=True)
    n.next = L.Dropout(n.relu)
    assert [list(layer.top) for layer in n.to_proto().layer] == [["data"], ["data"], ["next"]]
    assert list(n.to_proto().layer[2].bottom) == ["data"]


def test_items_and_attributes_are_the_same_names():
    n = NetSpec()
    n["conv1/7x7"] = data()
    n.other = L.ReLU(n["conv1/7x7"])
    assert n["other"] is n.other
    assert [layer.name for layer in n.to_proto().layer] == ["conv1/7x7", "other"]
    assert list(n.tops) == ["conv1/7x7", "other"]


def test_ntop_0_gives_the_function_itself():
    n = NetSpec()
    n.data = data()
    n.quiet = L.Silence(n.data, ntop=0)
    assert isinstance(n.quiet, caffe.net_spec.Function)
    layer = n.to_proto().layer[1]
    assert (layer.name, list(layer.bottom), list(layer.top)) == ("quiet", ["data"], [])


def test_parameters_of_the_layer_itself():
    layer = only_layer(
        name="x",
        include={"phase": caffe_pb2.TEST, "stage": ["a", "b"]},
        loss_weight=[1, 0.5],
        propagate_down=True,
        phase=caffe_pb2.TRAIN,
        param={"name": "shared"},
    )
    expected = caffe_pb2.LayerParameter(
        name="x", type="Silence", loss_weight=[1, 0.5], propagate_down=[True], phase=caffe_pb2.TRAIN
    )
    expected.include.add(phase=caffe_pb2.TEST, stage=["a", "b"])
    expected.param.add(name="shared")
    assert layer == expected


def test_types_without_a_message_of_their_own_take_whole_messages():
    layer = to_proto(L.Deconvolution(data(), convolution_param={"num_output": 2, "stride": 2})).layer[1]
    assert (layer.convolution_param.num_output, list(layer.convolution_param.stride)) == (2, [2])
    with pytest.raises(AttributeError, match=r"Deconvolution has no parameter 'num_output'.*_param="):
        to_proto(L.Deconvolution(data(), num_output=2))


def test_type_names_are_not_looked_up():
    assert to_proto(L.MyOwnType(ntop=1)).layer[0].type == "MyOwnType"


@pytest.mark.parametrize(
    ("params", "error", "text"),
    [
        ({"num_outputs": 2}, AttributeError, "did you mean num_output"),
        ({"weight_filler": {"typ": "msra"}}, AttributeError, "weight_filler"),
        ({"kernel_size": (3, 3)}, TypeError, "kernel_size"),
        ({"kernel_size": []}, IndexError, "kernel_size"),
        ({"num_output": "many"}, TypeError, "num_output"),
    ],
)
def test_bad_parameters_name_the_layer_and_the_parameter(params, error, text):
    n = NetSpec()
    n.data = data()
    n.conv7 = L.Convolution(n.data, **params)
    with pytest.raises(error, match="conv7") as caught:
        n.to_proto()
    assert text in str(caught.value)


def test_inputs_must_be_tops():
    with pytest.raises(TypeError, match=r"ReLU input 0 is not a Top \(type is <class 'str'>\)"):
        L.ReLU("data")
    with pytest.raises(TypeError, match=r"n\.a, n\.b = "):
        NetSpec().pair = L.Slice(data(), ntop=2)


def test_unknown_names_are_key_errors():
    with pytest.raises(KeyError, match="nothing"):
        _ = NetSpec().nothing
    with pytest.raises(KeyError, match="nothing"):
        _ = NetSpec()["nothing"]


def test_enumerators():
    assert P.Pooling.MAX == caffe_pb2.PoolingParameter.MAX
    assert P.Eltwise.PROD == 0
    with pytest.raises(AttributeError):
        _ = P.Pooling.MEDIAN
    with pytest.raises(AttributeError):
        _ = P.Pool.MAX


def test_param_name_dict():
    stems = param_name_dict()
    assert (stems["Convolution"], stems["InnerProduct"], stems["LRN"]) == (
        "convolution",
        "inner_product",
        "lrn",
    )
    assert "Deconvolution" not in stems
