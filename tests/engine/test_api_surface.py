"""Every public name of pycaffe: is it there, of what kind, and called as scripts call it?"""

import importlib
import inspect
import re
import subprocess
import sys
import threading
import types

import caffe
import numpy as np
import pytest
from caffe import _caffe
from caffe.proto import caffe_pb2

# an entry a line or between bars: name, kind (f function, c class, m module, o object, i int, s text), and
# the parameters of a function or class ("x=" has a default)
SOLVERS = "SGDSolver c|NesterovSolver c|AdaGradSolver c|RMSPropSolver c|AdaDeltaSolver c|AdamSolver c"
CLASSIFIER = "Classifier c model_file pretrained_file image_dims= mean= input_scale= raw_scale= channel_swap="
DETECTOR = "Detector c model_file pretrained_file mean= input_scale= raw_scale= channel_swap= context_pad="
FUNCTIONS = """
init_log f level= to_stderr=|log f message|set_mode_cpu f|set_mode_gpu f|set_device f device_id|get_solver f path
layer_type_list f|set_random_seed f seed|solver_count f|set_solver_count f count|solver_rank f
set_solver_rank f rank|set_multiprocess f value|has_nccl f
"""
MODULES = {
    "caffe": f"""
{SOLVERS}|Net c|NCCL c solver uid|Timer c|Layer c layer_param|{CLASSIFIER}|{DETECTOR}
{FUNCTIONS}
__version__ s|TRAIN i|TEST i|io m|layers o|params o|NetSpec c|to_proto f *tops
pycaffe m|_caffe m|net_spec m|classifier m|detector m|proto m
""",
    "caffe._caffe": f"""
{SOLVERS}|Net c|Solver c|SolverParameter c|LayerParameter c|Blob c *shape|Layer c|NCCL c|Timer c|__version__ s
{FUNCTIONS}
BlobVec c|RawBlobVec c|LayerVec c|StringVec c|IntVec c|DtypeVec c|NetVec c|BoolVec c
""",
    "caffe.pycaffe": f"{SOLVERS}|Net c|NCCL c solver uid|Timer c",
    "caffe.io": """
blobproto_to_array f blob return_diff=|array_to_blobproto f arr diff=|datum_to_array f datum
arraylist_to_blobprotovector_str f arraylist|blobprotovector_str_to_arraylist f str|array_to_datum f arr label=
load_image f filename color=|resize_image f im new_dims interp_order=|oversample f images crop_dims
Transformer c inputs|caffe_pb2 m
""",
    "caffe.draw": """
get_pooling_types_dict f|get_edge_label f layer|get_layer_lr_mult f layer|choose_color_by_layertype f layertype
get_layer_label f layer rankdir display_lrm=
get_pydot_graph f caffe_net rankdir label_edges= phase= display_lrm=
draw_net f caffe_net rankdir ext= phase= display_lrm=
draw_net_to_file f caffe_net filename rankdir= phase= display_lrm=
LAYER_STYLE_DEFAULT o|NEURON_LAYER_STYLE o|BLOB_STYLE o
""",
    "caffe.net_spec": """
param_name_dict f|to_proto f *tops|assign_proto f proto name val|Top c fn n|Function c type_name inputs params
NetSpec c|Layers c|Parameters c|layers o|params o
""",
    "caffe.coord_map": """
coord_map_from_to f top_from top_to|crop f top_from top_to|conv_params f fn|crop_params f fn|coord_map f fn
compose f base_map next_map|inverse f coord_map|UndefinedMapException c|AxisMismatchException c|PASS_THROUGH_LAYERS o
""",
    "caffe.classifier": CLASSIFIER,
    "caffe.detector": DETECTOR,
}
METHODS = {
    caffe.Net: """
_backward start_idx end_idx keep=|_batch blobs|_bottom_ids index|_forward start_idx end_idx|_top_ids index
_set_input_arrays data labels|set_input_arrays data labels|reshape|clear_param_diffs|share_with other
after_backward function|after_forward function|before_backward function|before_forward function
forward blobs= start= end= **kwargs|backward diffs= start= end= **kwargs|copy_from path|load_hdf5 path
forward_all blobs= **kwargs|forward_backward_all blobs= diffs= **kwargs|save path|save_hdf5 path write_diff=
""",
    _caffe.Solver: """
step iterations|solve resume_file=|restore path|snapshot|apply_update|share_weights net
add_callback on_start on_gradients_ready=
""",
    _caffe.Blob: "reshape *shape **kwargs",
    _caffe.BlobVec: "add_blob *shape **kwargs|append item|extend items",
    caffe.Layer: "setup bottom top|reshape bottom top|forward bottom top|backward top propagate_down bottom",
    caffe.Timer: "start|stop",
    caffe.Classifier: "predict inputs oversample=",
    caffe.Detector: """
detect_windows images_windows|detect_selective_search image_fnames|crop im window|configure_crop context_pad
""",
    caffe.io.Transformer: """
preprocess in_ data|deprocess in_ data|set_transpose in_ order|set_channel_swap in_ order
set_raw_scale in_ scale|set_mean in_ mean|set_input_scale in_ scale
""",
    caffe.NetSpec: "to_proto",
    caffe.net_spec.Top: "to_proto",
}
LAYER_TYPES = """
AbsVal Accuracy ArgMax BNLL BatchNorm BatchReindex Bias Clip Concat ContrastiveLoss Convolution Crop Data
Deconvolution Dropout DummyData ELU Eltwise Embed EuclideanLoss Exp Filter Flatten HDF5Data HDF5Output HingeLoss
Im2col ImageData InfogainLoss InnerProduct Input LRN LSTM LSTMUnit Log MVN MemoryData MultinomialLogisticLoss PReLU
Parameter Pooling Power Python RNN ReLU Reduction Reshape SPP Scale Sigmoid SigmoidCrossEntropyLoss Silence Slice
Softmax SoftmaxWithLoss Split Swish TanH Threshold Tile WindowData
""".split()


def entries(tables):
    return [
        pytest.param(owner, *entry.split(), id=f"{getattr(owner, '__name__', owner)}.{entry.split()[0]}")
        for owner, table in tables.items()
        for entry in re.split(r"[|\n]", table)
        if entry
    ]


def written(function):
    """The parameters of ``function`` as in the tables."""
    marks = {inspect.Parameter.VAR_POSITIONAL: "*{}", inspect.Parameter.VAR_KEYWORD: "**{}"}
    return [
        marks.get(parameter.kind, "{}" if parameter.default is inspect.Parameter.empty else "{}=").format(
            name
        )
        for name, parameter in inspect.signature(function).parameters.items()
        if name != "self"
    ]


@pytest.mark.parametrize(("module", "name", "kind", "parameters"), [
    pytest.param(*entry.values[:3], entry.values[3:], id=entry.id) for entry in entries(MODULES)
])  # fmt: skip
def test_names_of_the_modules(module, name, kind, parameters):
    thing = getattr(importlib.import_module(module), name)
    types_of = {
        "f": types.FunctionType,
        "c": type,
        "m": types.ModuleType,
        "o": object,
        "i": int,
        "s": str,
    }
    assert isinstance(thing, types_of[kind])
    if kind == "f" or parameters:
        assert written(thing) == list(parameters)
    if kind in "fc":
        assert thing.__doc__ or issubclass(thing, caffe_pb2.LayerParameter)  # protobuf makes no docstrings


@pytest.mark.parametrize(("cls", "name", "parameters"), [
    pytest.param(*entry.values[:2], entry.values[2:], id=entry.id) for entry in entries(METHODS)
])  # fmt: skip
def test_methods(cls, name, parameters):
    assert written(getattr(cls, name)) == list(parameters)


def test_what_import_caffe_brings_and_what_it_does_not():
    code = "import caffe; print(sorted(n for n in ('coord_map', 'draw') if hasattr(caffe, n)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
    assert set(caffe.__all__) <= set(dir(caffe))
    assert (caffe.TRAIN, caffe.TEST) == (0, 1) and caffe.__version__ == "1.0.0"
    with pytest.raises(ImportError):
        importlib.import_module("caffe.layers")


def test_layer_types_are_bvlcs():
    assert list(caffe.layer_type_list()) == LAYER_TYPES == sorted(LAYER_TYPES)


SMALL = """
layer { name: "in" type: "Input" top: "x" input_param { shape { dim: 2 dim: 3 } } }
layer { name: "ip" type: "InnerProduct" bottom: "x" top: "y" inner_product_param { num_output: 2 } }
layer { name: "loss" type: "EuclideanLoss" bottom: "y" bottom: "y" top: "loss" }
"""


def test_values_of_a_net(make_net):
    net = make_net(SMALL)
    kinds = {
        "_blob_loss_weights": "DtypeVec",
        "_blob_names": "StringVec",
        "_blobs": "BlobVec",
        "_inputs": "IntVec",
        "_layer_names": "StringVec",
        "_outputs": "IntVec",
        "blob_loss_weights": "OrderedDict",
        "blobs": "OrderedDict",
        "bottom_names": "OrderedDict",
        "inputs": "list",
        "layer_dict": "OrderedDict",
        "layers": "LayerVec",
        "outputs": "list",
        "params": "OrderedDict",
        "top_names": "OrderedDict",
    }
    assert {name: type(getattr(net, name)).__name__ for name in kinds} == kinds
    layer = net.layer_dict["ip"]
    assert (layer.type, [list(blob.shape) for blob in layer.blobs]) == ("InnerProduct", [[2, 3], [2]])
    assert net.layers[-1].type == "EuclideanLoss"


def test_values_of_a_solver(make_solver):
    solver = make_solver(SMALL, "base_lr: 0.5 lr_policy: 'fixed' max_iter: 7 display: 3", caffe.SGDSolver)
    assert isinstance(solver, _caffe.Solver) and isinstance(solver.net, caffe.Net)
    assert (solver.iter, solver.lr, list(solver.test_nets)) == (0, 0.5, [])
    param = solver.param
    assert (param.max_iter, param.display, param.layer_wise_reduce, param.base_lr) == (7, 3, True, 0.5)
    param.base_lr = 0.25
    assert solver.lr == 0.25
    with pytest.raises(AttributeError):
        param.max_iter = 9


# -- blobs ------------------------------------------------------------------------------------------------


def test_values_of_a_blob():
    blob = _caffe.Blob(2, 3, 4)
    assert (blob.num, blob.channels, blob.height, blob.width, blob.count) == (2, 3, 4, 1, 24)
    assert list(blob.shape) == [2, 3, 4] and blob.data.shape == blob.diff.shape == (2, 3, 4)
    for array in (blob.data, blob.diff):
        assert array.dtype == np.float32 and array.flags.c_contiguous and array.flags.writeable
    for name in ("data", "diff", "shape", "num", "count"):
        with pytest.raises(AttributeError):
            setattr(blob, name, blob.data)
    with pytest.raises(AttributeError, match="GPU mode"):
        _ = blob._gpu_data_ptr
    assert not hasattr(blob, "_gpu_diff_ptr")


@pytest.mark.gpu
@pytest.mark.skipif(caffe.device_count() == 0, reason="no CUDA device")
def test_addresses_on_the_gpu():
    caffe.set_mode_gpu()
    blob = _caffe.Blob(2, 3)
    blob.data[...] = 3
    assert blob._gpu_data_ptr == blob.tensor().data_ptr() != 0
    assert blob._gpu_diff_ptr == blob.diff_tensor().data_ptr() != blob._gpu_data_ptr
    blob.tensor().fill_(4)  # as a kernel would, at that address
    assert (blob.data == 4).all()


def test_a_blob_that_was_never_shaped_says_so(make_net):
    net = make_net('layer { name: "in" type: "Input" top: "x" }')
    for read in (lambda: net.blobs["x"].data, lambda: net.blobs["x"].diff, net.forward):
        with pytest.raises(caffe.CaffeError, match="no shape yet"):
            read()


def test_blob_reshape_says_what_it_takes():
    blob = _caffe.Blob(2, 3)
    blob.reshape(np.int64(3), np.int32(2))
    assert list(blob.shape) == [3, 2]
    with pytest.raises(RuntimeError, match=r"Blob\.reshape takes no kwargs"):
        blob.reshape(num=2)
    for wrong in ((2, 3), [2, 3], 2.0):
        with pytest.raises(TypeError):
            blob.reshape(wrong)
    with pytest.raises(caffe.CaffeError):
        blob.reshape(-1)
    with pytest.raises(caffe.CaffeError, match="blob size exceeds INT_MAX"):
        blob.reshape(2**16, 2**16)
    assert list(blob.shape) == [3, 2]
    with pytest.raises(caffe.CaffeError, match="Cannot use legacy accessors on Blobs with > 4 axes"):
        _ = _caffe.Blob(1, 1, 1, 1, 1).num


# -- constructors -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("args", "kwargs", "words"),
    [
        ((), {}, "missing"),
        (("FILE",), {}, "'phase'"),
        (("FILE", caffe.TEST, "weights"), {}, "str"),
        (("FILE", 1.0), {}, "float"),
        (("FILE", "weights", caffe.TEST, 0), {}, "str"),
        ((3, caffe.TEST), {}, "network_file is a path, not 3"),
        (("FILE", caffe.TEST), {"weights": ["a"]}, "weights is a path"),
        (("FILE", caffe.TEST), {"stages": "deploy"}, "stages is a list of names"),
        (("FILE", caffe.TEST), {"phases": 1}, "phases"),
        (("FILE", caffe.TEST), {"phase": 1}, "multiple values"),
    ],
)
def test_calls_that_fit_no_constructor_are_type_errors(make_net, tmp_path, args, kwargs, words):
    make_net(SMALL)
    path = str(tmp_path / "net0.prototxt")
    args = tuple(path if arg == "FILE" else arg for arg in args)
    with pytest.raises(TypeError, match=words) as caught:
        caffe.Net(*args, **kwargs)
    assert "Net takes (network_file, phase, level=0, stages=None, weights=None)" in str(caught.value)


def test_the_old_constructor_warns_in_three_lines(make_net, tmp_path, capsys):
    make_net(SMALL).save(str(tmp_path / "w.caffemodel"))
    caffe.init_log(1)
    try:
        net = caffe.Net(str(tmp_path / "net0.prototxt"), str(tmp_path / "w.caffemodel"), caffe.TEST)
    finally:
        caffe.init_log(2)
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 3 and all(line.startswith("W") for line in lines)
    assert "DEPRECATION WARNING" in lines[0]
    assert lines[2].endswith(f"Net('{tmp_path}/net0.prototxt', 1, weights='{tmp_path}/w.caffemodel')")
    assert net.layers[0].phase == caffe.TEST


def test_sharing_is_refused_whole(make_net):
    net, other = make_net(SMALL), make_net(SMALL)
    wider = make_net(SMALL.replace("num_output: 2", "num_output: 3"))
    values = net.params["ip"][0].data
    with pytest.raises(
        caffe.CaffeError, match="Cannot share param 0 weights from layer 'ip'; shape mismatch"
    ):
        net.share_with(wider)
    bare = make_net(SMALL.replace("num_output: 2", "num_output: 2 bias_term: false"))
    with pytest.raises(caffe.CaffeError, match="Incompatible number of blobs for layer ip"):
        net.share_with(bare)
    net.share_with(make_net(SMALL.replace('"ip"', '"other"')))  # layers of other names are passed over
    assert np.shares_memory(net.params["ip"][0].data, values)
    net.share_with(other)
    other.params["ip"][0].data[...] = 7
    other.params["ip"][0].diff[...] = 8
    assert (net.params["ip"][0].data == 7).all() and not net.params["ip"][0].diff.any()


def test_a_phase_is_train_or_test(make_net):
    with pytest.raises(caffe.CaffeError, match=r"net0.*TRAIN \(0\) or caffe.TEST \(1\), got 2"):
        make_net(SMALL, 2)
    assert make_net(SMALL, np.int64(1)).layers[0].phase == caffe.TEST


# -- running ----------------------------------------------------------------------------------------------

DEPLOY = """
force_backward: true
layer { name: "in" type: "Input" top: "x" top: "z" input_param { shape { dim: 2 dim: 3 } } }
layer { name: "sum" type: "Eltwise" bottom: "x" bottom: "z" top: "y" eltwise_param { coeff: 1 coeff: -2 } }
layer { name: "all" type: "Reduction" bottom: "y" top: "total" loss_weight: 1 }
"""


def test_forward_all_over_several_inputs(make_net):
    net = make_net(DEPLOY)
    x, z = np.arange(15.0).reshape(5, 3), np.ones((5, 3))
    out = net.forward_all(blobs=["x", "y"], x=x, z=z)
    assert sorted(out) == sorted({*net.outputs, "x", "y"})
    assert np.array_equal(out["y"], x - 2) and np.array_equal(out["x"], x)
    assert out["total"].tolist() == [(x - 2)[:2].sum(), (x - 2)[2:4].sum(), (x - 2)[4:].sum()]
    out["y"][...] = 0
    assert net.blobs["y"].data.any()  # copies
    assert net.forward_all(x=x[:2], z=z[:2])["total"].shape == (1,)


def test_forward_backward_all(make_net):
    net = make_net(DEPLOY.replace(" loss_weight: 1", ""))
    x = np.arange(15.0).reshape(5, 3)
    outs, diffs = net.forward_backward_all(diffs=["y"], x=x, z=x)
    assert set(outs) == {"total"} and set(diffs) == {"x", "z", "y"} and diffs["z"].shape == (5, 3)
    net = make_net(DEPLOY.split('layer { name: "all"')[0])
    seeds = np.arange(15.0).reshape(5, 3)
    outs, diffs = net.forward_backward_all(blobs=["x"], x=x, z=x, y=seeds)
    assert np.array_equal(outs["y"], -x) and np.array_equal(outs["x"], x)
    assert np.array_equal(diffs["x"], seeds) and np.array_equal(diffs["z"], -2 * seeds)


@pytest.mark.parametrize("method", ["forward_all", "forward_backward_all"])
def test_runs_over_many_items_refuse_what_does_not_match(make_net, method):
    run = getattr(make_net(DEPLOY), method)
    for arrays in ({}, {"nothing": np.ones((5, 3))}, {"x": np.ones((5, 3))}):
        with pytest.raises(Exception, match="do not match net inputs"):
            run(**arrays)
    for lengths in ((5, 4), (0, 0)):
        with pytest.raises(Exception, match="equally many items along axis 0, at least one"):
            run(**{name: np.ones((length, 3)) for name, length in zip("xz", lengths, strict=True)})
    net = make_net(DEPLOY)
    for shape in ((), (0, 3)):
        net.blobs["x"].reshape(*shape)
        with pytest.raises(caffe.CaffeError, match="'x' has shape"):
            getattr(net, method)(x=np.ones((5, 3)), z=np.ones((5, 3)))


def test_batches_are_padded_with_zeros(make_net):
    batches = list(make_net(DEPLOY)._batch({"x": np.ones((3, 3)), "z": [np.ones(3)] * 3}))
    assert [sorted(batch) for batch in batches] == [["x", "z"]] * 2
    assert batches[1]["x"].tolist() == batches[1]["z"].tolist() == [[1, 1, 1], [0, 0, 0]]


def test_diffs_given_to_backward(make_net):
    net = make_net(DEPLOY.split('layer { name: "all"')[0])
    net.forward()
    grads = net.backward(y=np.full((2, 3), 4.0), diffs=["y"])
    assert set(grads) == {"x", "z", "y"} and (grads["z"] == -8).all()
    assert set(net.backward(end="sum")) == {"x", "z"}
    with pytest.raises(Exception, match="Top diff arguments do not match net outputs"):
        net.backward(x=np.ones((2, 3)))
    with pytest.raises(Exception, match="Diff is not batch sized"):
        net.backward(y=np.ones((3, 3)))
    with pytest.raises(Exception, match="Input is not batch sized"):
        net.forward(x=np.ones((3, 3)), z=np.ones((2, 3)))
    with pytest.raises(ValueError, match="broadcast"):
        net.forward(x=np.ones((2, 4)), z=np.ones((2, 3)))


MEMORY = """
layer { name: "data" type: "MemoryData" top: "x" top: "label"
  memory_data_param { batch_size: 2 channels: 3 height: 1 width: 2 } }
layer { name: "relu" type: "ReLU" bottom: "x" top: "y" }
"""


def test_set_input_arrays(make_net):
    net = make_net(MEMORY)
    data, labels = (
        np.random.RandomState(0).randn(4, 3, 1, 2).astype(np.float32),
        np.arange(4, dtype=np.float32),
    )
    net.set_input_arrays(data, labels)
    for items in (slice(0, 2), slice(2, 4), slice(0, 2)):
        out = net.forward()
        assert np.array_equal(out["y"], data[items].clip(0)) and out["label"].ravel().tolist() == [
            *labels[items]
        ]
    net._set_input_arrays(data[2:], labels[2:].reshape(2, 1, 1, 1))
    assert net.forward()["label"].ravel().tolist() == [2, 3]
    for wrong, words in [
        (data.astype(float), "data array must be float32"),
        (data[0], "must be 4-d"),
        (np.ones((4, 4, 1, 2), np.float32), "wrong number of channels"),
        (data[:3], "first dimension"),
        (np.asfortranarray(data), "C contiguous"),
    ]:
        with pytest.raises(RuntimeError, match=words):
            net.set_input_arrays(wrong, labels)
    with pytest.raises(RuntimeError, match="multiple of batch size"):
        net.set_input_arrays(data[:3], labels[:3])
    with pytest.raises(RuntimeError, match="only be called if the first layer is a MemoryDataLayer"):
        make_net(SMALL).set_input_arrays(data, labels)
    with pytest.raises(RuntimeError, match="the net has no layers"):
        make_net("name: 'empty'").set_input_arrays(data, labels)


# -- several solvers ----------------------------------------------------------------------------------------


def test_nccl_is_a_name_that_does_nothing(make_solver):
    assert caffe.has_nccl() is False
    assert not hasattr(caffe.NCCL, "new_uid") and not hasattr(caffe.NCCL, "bcast")
    solver = make_solver(SMALL, "base_lr: 0.1 lr_policy: 'fixed'")
    nccl = caffe.NCCL(solver, b"uid")
    solver.add_callback(nccl)
    solver.net.after_backward(nccl)
    solver.step(2)
    assert solver.iter == 2
    with pytest.raises(TypeError, match="add_callback takes"):
        solver.add_callback(print)


def test_several_solvers_need_nccl_and_python_layers_a_process_each(make_net, make_solver):
    def run():
        assert (caffe.solver_count(), caffe.solver_rank()) == (1, 0)
        solver = make_solver(SMALL, "base_lr: 0.1 lr_policy: 'fixed'")
        caffe.set_solver_count(2)
        caffe.set_solver_rank(1)
        assert (caffe.solver_count(), caffe.solver_rank()) == (2, 1)
        with pytest.raises(caffe.CaffeError, match="Multi-GPU execution not available"):
            caffe.NCCL(solver, b"uid")
        text = 'layer { name: "py" type: "Python" top: "x" python_param { module: "no_such" layer: "L" } }'
        with pytest.raises(
            caffe.CaffeError, match=r"PythonLayer does not support CLI Multi-GPU, use train\.py"
        ):
            make_net(text, caffe.TRAIN)
        caffe.set_multiprocess(True)
        with pytest.raises(caffe.CaffeError, match="no module named 'no_such'"):
            make_net(text, caffe.TRAIN)
        passed.append(True)

    passed = []  # these settings are the thread's own
    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    assert passed and (caffe.solver_count(), caffe.solver_rank()) == (1, 0)


def test_random_seeds():
    with pytest.raises(OverflowError):
        caffe.set_random_seed(-1)
    with pytest.raises(TypeError):
        caffe.set_random_seed(1.5)


def test_a_layer_parameter_is_what_python_layers_are_constructed_with():
    assert _caffe.LayerParameter is caffe_pb2.LayerParameter
    layer = caffe.Layer(_caffe.LayerParameter(name="a", type="Python"))
    assert (layer.name, layer.type, list(layer.blobs), layer.param_str) == ("a", "Python", [], "")
    assert layer.setup([], []) is None and layer.reshape([], []) is None
    with pytest.raises(AttributeError, match=r"no forward\(self, bottom, top\)"):
        layer.forward([], [])
