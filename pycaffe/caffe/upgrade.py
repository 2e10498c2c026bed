"""Bringing nets and solvers of older Caffe generations to the current form."""

from __future__ import annotations

import os

from . import caffemodel
from .errors import CaffeError
from .log import logger
from .message_file import HDF5_SIGNATURE, is_text, read_head, read_text
from .proto import caffe_pb2
from .upgrade_v0 import is_v0, upgrade_v0

_V1 = caffe_pb2.V1LayerParameter

# V1 enum names whose layer type is not simply the name in CamelCase
_V1_TYPES = {
    "NONE": "",
    "BNLL": "BNLL",
    "HDF5_DATA": "HDF5Data",
    "HDF5_OUTPUT": "HDF5Output",
    "LRN": "LRN",
    "MVN": "MVN",
    "RELU": "ReLU",
    "SOFTMAX_LOSS": "SoftmaxWithLoss",
    "TANH": "TanH",
    "ABSVAL": "AbsVal",
    "ARGMAX": "ArgMax",
}


_TRANSFORMED = {
    _V1.DATA: "data_param",
    _V1.IMAGE_DATA: "image_data_param",
    _V1.WINDOW_DATA: "window_data_param",
}
_SOLVER_TYPES = {
    "SGD": "SGD",
    "NESTEROV": "Nesterov",
    "ADAGRAD": "AdaGrad",
    "RMSPROP": "RMSProp",
    "ADADELTA": "AdaDelta",
    "ADAM": "Adam",
}


def read_net(path) -> caffe_pb2.NetParameter:
    """The net in the file ``path``, in current form, without weights if the file is binary.

    Raises CaffeError as :func:`read_text` and :func:`upgrade_net`.
    """
    path = os.fsdecode(os.fspath(path))
    if is_text(head := read_head(path)) or head.startswith(HDF5_SIGNATURE):
        return upgrade_net(read_text(path, caffe_pb2.NetParameter()), path)
    try:
        with caffemodel.Model(path, "binary NetParameter") as reader:
            net, _ = caffemodel.skeleton(reader)
    except CaffeError as error:
        raise CaffeError(f"Failed to parse NetParameter file, neither text nor binary: {error}") from error
    logger.info("%s is a binary NetParameter; Caffe reads text only here", path)
    for layer in [*net.layer, *net.layers]:
        layer.ClearField("blobs")
        if hasattr(layer, "layer"):
            layer.layer.ClearField("blobs")
    return upgrade_net(net, path)


def upgrade_net(net: caffe_pb2.NetParameter, source: str) -> caffe_pb2.NetParameter:
    """Bring ``net`` to the current form in place and return it.

    In this order: layers of the first generation (V0) to the second (V1); scale, mean_file,
    crop_size and mirror of V1 data layers to ``transform_param``; V1 layers to the current form;
    ``input`` with its dims to an Input layer; the three ``param`` of a BatchNorm to multipliers of
    0. What V0 layers have that their type never had is left out and logged as an error. Raises
    CaffeError, naming ``source``, for a net that mixes generations or breaks a rule of its own.
    """
    for problem in upgrade_reporting(net, source):
        logger.error("%s", problem)
    return net


def upgrade_reporting(net: caffe_pb2.NetParameter, source: str) -> list[str]:
    """The work of :func:`upgrade_net`, from ``source``; returns what had to be left out, one line each."""
    problems = []
    if net.layers and net.layer:
        raise CaffeError(
            f"{source}: Refusing to upgrade inconsistent NetParameter input; it has both 'layer' and "
            "'layers' fields. Write every layer as 'layer { ... }'."
        )
    if is_v0(net):
        _say(source, "V0LayerParameter")
        problems = upgrade_v0(net, source)
    if any(_has_transform(layer) for layer in net.layers):
        _say(source, "transformation parameters")
    if net.layers:
        _say(source, "V1LayerParameter")
        for old in net.layers:
            _upgrade_v1(old, net.layer.add())
        net.ClearField("layers")
    if net.input:
        _say(source, "input fields")
        _upgrade_input(net, source)
    for layer in net.layer:
        if _old_batch_norm(layer):
            for spec in layer.param:
                spec.lr_mult = spec.decay_mult = 0
    return problems


def needs_upgrade(net: caffe_pb2.NetParameter) -> bool:
    """Has ``net`` anything that :func:`upgrade_net` changes?"""
    return bool(net.layers or net.input) or any(map(_old_batch_norm, net.layer))


def upgrade_solver(solver: caffe_pb2.SolverParameter, source: str) -> caffe_pb2.SolverParameter:
    """Bring ``solver`` to the current form in place and return it: the old enum ``solver_type`` to ``type``.

    Raises CaffeError, naming ``source``, when both are set.
    """
    if solver.HasField("solver_type"):
        if solver.HasField("type"):
            raise CaffeError(
                f"{source}: Failed to upgrade solver: both old 'solver_type' and 'type' are set; these fields, enum "
                "and string, cannot be both specified in solver proto text. Remove solver_type."
            )
        solver.type = _SOLVER_TYPES[solver.SolverType.Name(solver.solver_type)]
        solver.ClearField("solver_type")
    return solver


def _say(source: str, what: str) -> None:
    logger.info("Attempting to upgrade input file specified using deprecated %s: %s", what, source)


def _old_batch_norm(layer) -> bool:
    """Is this a BatchNorm whose statistics an old net kept from learning by hand, or forgot to?"""
    return (
        layer.type == "BatchNorm"
        and len(layer.param) == 3
        and any(spec.lr_mult or spec.decay_mult for spec in layer.param)
    )


def v1_type_name(value: int) -> str:
    """The current type name of a V1 layer type number."""
    name = _V1.LayerType.Name(value)
    return _V1_TYPES.get(name, "".join(part.capitalize() for part in name.split("_")))


def _upgrade_v1(old, new) -> None:
    if old.HasField("name"):
        new.name = old.name
    if old.HasField("type"):
        new.type = v1_type_name(old.type)
    new.bottom.extend(old.bottom)
    new.top.extend(old.top)
    new.loss_weight.extend(old.loss_weight)
    new.blobs.extend(old.blobs)
    new.include.extend(old.include)
    new.exclude.extend(old.exclude)
    for i in range(max(len(old.param), len(old.blobs_lr), len(old.weight_decay), len(old.blob_share_mode))):
        spec = new.param.add()
        if i < len(old.param):
            spec.name = old.param[i]
        if i < len(old.blob_share_mode):
            spec.share_mode = old.blob_share_mode[i]
        if i < len(old.blobs_lr):
            spec.lr_mult = old.blobs_lr[i]
        if i < len(old.weight_decay):
            spec.decay_mult = old.weight_decay[i]
    for descriptor, value in old.ListFields():
        name = descriptor.name
        if name.endswith("_param") and name in new.DESCRIPTOR.fields_by_name:
            getattr(new, name).CopyFrom(value)
    for name in _has_transform(old):
        data_param = getattr(new, _TRANSFORMED[old.type])
        setattr(new.transform_param, name, getattr(data_param, name))
        data_param.ClearField(name)


def _has_transform(layer) -> list[str]:
    """Which fields of a V1 data layer's own message belong to transform_param now."""
    if layer.type not in _TRANSFORMED:
        return []
    message = getattr(layer, _TRANSFORMED[layer.type])
    return [name for name in ("scale", "mean_file", "crop_size", "mirror") if message.HasField(name)]


def _upgrade_input(net: caffe_pb2.NetParameter, source: str) -> None:
    names = list(net.input)
    if net.input_shape and net.input_dim:
        raise CaffeError(f"{source}: Must specify either input_shape OR deprecated input_dim, not both.")
    if net.input_shape and len(net.input_shape) != len(names):
        raise CaffeError(
            f"{source}: Must specify input_shape once per input: {len(names)} input(s), "
            f"{len(net.input_shape)} shape(s)."
        )
    if net.input_dim and len(net.input_dim) != 4 * len(names):
        raise CaffeError(
            f"{source}: Must specify 4 input_dim per input: {len(names)} input(s), {len(net.input_dim)} dims."
        )
    has_shape = net.input_shape or net.input_dim
    if has_shape:
        layer = caffe_pb2.LayerParameter(name="input", type="Input", top=names)
        for i in range(len(names)):
            dims = net.input_shape[i].dim if net.input_shape else net.input_dim[4 * i : 4 * i + 4]
            layer.input_param.shape.add().dim.extend(dims)
        rest = [layer, *net.layer]
        net.ClearField("layer")
        net.layer.extend(rest)
    for name in ("input", "input_shape", "input_dim"):
        net.ClearField(name)
