"""Reading prototxt files, and bringing nets of older Caffe generations to the current form."""

from __future__ import annotations

import difflib
import os
import re

from google.protobuf import text_format

from .errors import CaffeError
from .log import logger
from .proto import caffe_pb2

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


def read_text(path, message):
    """Parse the prototxt file ``path`` into ``message`` (NetParameter, SolverParameter) and return it.

    Raises CaffeError when the file is missing or not a valid text message; the error names the
    file, the line and, for an unknown field, the nearest field names.
    """
    path = os.fsdecode(os.fspath(path))
    kind = message.DESCRIPTOR.name
    try:
        with open(path, encoding="utf-8") as file:
            text = file.read()
    except OSError as error:
        raise CaffeError(f"Could not open file {path}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise CaffeError(
            f"Failed to parse {kind} file: {path}: it is not text. A net or solver is a .prototxt; "
            "a .caffemodel goes to weights= or copy_from()."
        ) from error
    try:
        return text_format.Parse(text, message)
    except (text_format.ParseError, RecursionError) as error:
        raise CaffeError(f"Failed to parse {kind} file: {path}:{_explain(str(error))}") from error


def _explain(error: str) -> str:
    unknown = re.search(r'type "caffe\.(\w+)" has no field named "(\w+)"', error)
    message = getattr(caffe_pb2, unknown[1], None) if unknown else None
    if message is not None:
        near = difflib.get_close_matches(unknown[2], list(message.DESCRIPTOR.fields_by_name), 3, 0.5)
        if near:
            error += f" (did you mean {' or '.join(near)}?)"
    return error


def read_net(path) -> caffe_pb2.NetParameter:
    """The net in the prototxt file ``path``, in current form. Raises CaffeError as :func:`read_text`."""
    return upgrade_net(read_text(path, caffe_pb2.NetParameter()), os.fsdecode(os.fspath(path)))


def upgrade_net(net: caffe_pb2.NetParameter, source: str) -> caffe_pb2.NetParameter:
    """Bring ``net`` to the current form in place: V1 layers, data fields, ``input`` declarations."""
    if net.layers:
        if net.layer:
            raise CaffeError(
                f"{source}: Refusing to upgrade inconsistent NetParameter input; it has both 'layer' and "
                "'layers' fields. Write every layer as 'layer { ... }'."
            )
        if any(layer.HasField("layer") for layer in net.layers):
            raise CaffeError(
                f"{source}: a net of Caffe's first generation (V0: 'layers {{ layer {{ ... }} }}'), which this "
                "engine does not read yet. Rewrite it in the current form, 'layer { ... }'."
            )
        logger.info(
            "Attempting to upgrade input file specified using deprecated V1LayerParameter: %s", source
        )
        for old in net.layers:
            _upgrade_v1(old, net.layer.add())
        net.ClearField("layers")
    if net.input:
        _upgrade_input(net, source)
    return net


def v1_type_name(value: int) -> str:
    """The current type name of a V1 layer type number."""
    name = _V1.LayerType.Name(value)
    return _V1_TYPES.get(name, "".join(part.capitalize() for part in name.split("_")))


def _upgrade_v1(old, new) -> None:
    new.name = old.name
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
    for name in ("data_param", "image_data_param", "window_data_param"):
        if old.HasField(name):
            _move_transform(getattr(new, name), new.transform_param)


def _move_transform(source, transform) -> None:
    """Image scaling and cropping moved from the data layers' own messages to transform_param."""
    for name in ("scale", "mean_file", "crop_size", "mirror"):
        if source.HasField(name):
            value = getattr(source, name)
            if name == "mean_file":
                transform.mean_file = value
            else:
                setattr(transform, name, value)
            source.ClearField(name)


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
