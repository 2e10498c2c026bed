"""The vector types of pycaffe, and where nets, layers and solvers show them."""

import caffe
import numpy as np
import pytest
from caffe import _caffe

KINDS = {
    "BlobVec": caffe.Blob(1),
    "RawBlobVec": caffe.Blob(1),
    "StringVec": "a",
    "IntVec": 1,
    "DtypeVec": 1.0,
    "BoolVec": True,
}
NET = """
layer { name: "in" type: "Input" top: "x" top: "z" input_param { shape { dim: 2 dim: 3 } } }
layer { name: "ip" type: "InnerProduct" bottom: "x" top: "y" inner_product_param { num_output: 2 } }
layer { name: "loss" type: "SoftmaxWithLoss" bottom: "y" bottom: "label" top: "loss" loss_weight: 3 }
"""
NET = NET.replace('"label" top', '"z" top').replace("dim: 3 } }", "dim: 3 } shape { dim: 2 } }")


@pytest.mark.parametrize("name", KINDS)
def test_a_vector_is_a_list_of_one_kind_whose_slices_are_vectors(name):
    kind, item = getattr(_caffe, name), KINDS[name]
    vector = kind([item])
    vector.append(item)
    vector.extend([item, item])
    assert len(vector) == 4 and vector[0] is item and vector[-1] is item and item in vector
    assert type(vector[1:3]) is kind and len(vector[1:3]) == 2
    assert list(vector) == [item] * 4
    del vector[0]
    del vector[:2]
    assert len(vector) == 1
    for wrong in (vector.append, lambda value: vector.extend([value])):
        with pytest.raises(TypeError, match="Attempting to append an invalid type"):
            wrong(object())
    with pytest.raises(IndexError):
        vector[1]


def test_add_blob_makes_zeroed_blobs():
    blobs = _caffe.BlobVec()
    blobs.add_blob(2, np.int64(3))
    blobs.add_blob()
    assert [list(blob.shape) for blob in blobs] == [[2, 3], []]
    assert not blobs[0].data.any() and blobs[1].count == 1
    with pytest.raises(RuntimeError, match="add_blob takes no kwargs"):
        blobs.add_blob(num=1)
    with pytest.raises(TypeError):
        blobs.add_blob((2, 3))
    assert len(blobs) == 2


def test_a_net_shows_its_parts_in_vectors(make_net):
    net = make_net(NET)
    assert type(net.layers) is type(net.layers[1:]) is _caffe.LayerVec
    assert type(net._layer_names) is _caffe.StringVec and list(net._layer_names) == ["in", "ip", "loss"]
    assert type(net.params["ip"]) is type(net.layers[1].blobs) is _caffe.BlobVec
    assert type(net._blobs) is _caffe.BlobVec and net._blobs[2] is net.blobs["y"]
    assert type(net._blob_names) is _caffe.StringVec and list(net._blob_names) == list(net.blobs)
    assert type(net._blob_loss_weights) is _caffe.DtypeVec and list(net._blob_loss_weights) == [0, 0, 0, 3]
    assert type(net._inputs) is _caffe.IntVec and list(net._inputs) == [0, 1] and list(net._outputs) == [3]
    assert type(net._bottom_ids(2)) is type(net._top_ids(2)) is _caffe.IntVec
    assert (net._bottom_ids(2), net._top_ids(2)) == ([2, 1], [3])
    with pytest.raises(TypeError, match="LayerVec holds Layer"):
        net.layers.append(net)
    assert type(caffe.layer_type_list()) is _caffe.StringVec


def test_a_solver_shows_its_test_nets_in_one(make_solver):
    solver = make_solver(NET, "base_lr: 0.1 lr_policy: 'fixed'")
    assert type(solver.test_nets) is _caffe.NetVec and len(solver.test_nets) == 0
    with pytest.raises(TypeError, match="NetVec holds Net"):
        solver.test_nets.append(solver)


class Recorder(caffe.Layer):
    """A Python layer that keeps the types of what it is called with."""

    seen: dict = {}

    def setup(self, bottom, top):
        self.seen["setup"] = type(bottom), type(top)

    def reshape(self, bottom, top):
        top[0].reshape(*bottom[0].shape)

    def forward(self, bottom, top):
        self.seen["forward"] = type(bottom[:1]), type(top[:1])

    def backward(self, top, propagate_down, bottom):
        self.seen["backward"] = type(propagate_down), list(propagate_down)


def test_python_layers_are_called_with_vectors(make_net):
    net = make_net(f"""force_backward: true
        layer {{ name: "in" type: "Input" top: "x" input_param {{ shape {{ dim: 2 }} }} }}
        layer {{ name: "py" type: "Python" bottom: "x" top: "y"
          python_param {{ module: "{__name__}" layer: "Recorder" }} }}""")
    net.forward()
    net.backward()
    assert Recorder.seen == {
        "setup": (_caffe.RawBlobVec, _caffe.RawBlobVec),
        "forward": (_caffe.RawBlobVec, _caffe.RawBlobVec),
        "backward": (_caffe.BoolVec, [True]),
    }
