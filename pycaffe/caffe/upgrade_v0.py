"""Nets of Caffe's first generation, ``layers { layer { ... } bottom: ... top: ... }``, brought to the second (V1)."""

from __future__ import annotations

from .errors import CaffeError
from .proto import caffe_pb2

# V0 type → V1 type, and the message that its fields moved to
_TYPES = {
    "accuracy": ("ACCURACY", None),
    "bnll": ("BNLL", None),
    "concat": ("CONCAT", "concat_param"),
    "conv": ("CONVOLUTION", "convolution_param"),
    "data": ("DATA", "data_param"),
    "dropout": ("DROPOUT", "dropout_param"),
    "euclidean_loss": ("EUCLIDEAN_LOSS", None),
    "flatten": ("FLATTEN", None),
    "hdf5_data": ("HDF5_DATA", "hdf5_data_param"),
    "hdf5_output": ("HDF5_OUTPUT", "hdf5_output_param"),
    "im2col": ("IM2COL", None),
    "images": ("IMAGE_DATA", "image_data_param"),
    "infogain_loss": ("INFOGAIN_LOSS", "infogain_loss_param"),
    "innerproduct": ("INNER_PRODUCT", "inner_product_param"),
    "lrn": ("LRN", "lrn_param"),
    "multinomial_logistic_loss": ("MULTINOMIAL_LOGISTIC_LOSS", None),
    "pool": ("POOLING", "pooling_param"),
    "relu": ("RELU", None),
    "sigmoid": ("SIGMOID", None),
    "softmax": ("SOFTMAX", None),
    "softmax_loss": ("SOFTMAX_LOSS", None),
    "split": ("SPLIT", None),
    "tanh": ("TANH", None),
    "window_data": ("WINDOW_DATA", "window_data_param"),
}
# V0 field → its name now, and the V0 types that have it
_FIELDS = {
    "num_output": ("num_output", "conv innerproduct"),
    "biasterm": ("bias_term", "conv innerproduct"),
    "weight_filler": ("weight_filler", "conv innerproduct"),
    "bias_filler": ("bias_filler", "conv innerproduct"),
    "pad": ("pad", "conv pool"),
    "kernelsize": ("kernel_size", "conv pool"),
    "group": ("group", "conv"),
    "stride": ("stride", "conv pool"),
    "pool": ("pool", "pool"),
    "dropout_ratio": ("dropout_ratio", "dropout"),
    "local_size": ("local_size", "lrn"),
    "alpha": ("alpha", "lrn"),
    "beta": ("beta", "lrn"),
    "k": ("k", "lrn"),
    "source": ("source", "data hdf5_data images window_data infogain_loss"),
    "batchsize": ("batch_size", "data hdf5_data images window_data"),
    "rand_skip": ("rand_skip", "data images"),
    "shuffle_images": ("shuffle", "images"),
    "new_height": ("new_height", "images"),
    "new_width": ("new_width", "images"),
    "concat_dim": ("concat_dim", "concat"),
    "det_fg_threshold": ("fg_threshold", "window_data"),
    "det_bg_threshold": ("bg_threshold", "window_data"),
    "det_fg_fraction": ("fg_fraction", "window_data"),
    "det_context_pad": ("context_pad", "window_data"),
    "det_crop_mode": ("crop_mode", "window_data"),
}
_TRANSFORM = {"scale": "scale", "meanfile": "mean_file", "cropsize": "crop_size", "mirror": "mirror"}


def is_v0(net: caffe_pb2.NetParameter) -> bool:
    """Does ``net`` have a layer of the first generation?"""
    return any(layer.HasField("layer") for layer in net.layers)


def upgrade_v0(net: caffe_pb2.NetParameter, source: str) -> list[str]:
    """Bring every V0 layer of ``net`` to V1 in place; returns what had to be left out, one line each.

    ``padding`` layers become the ``pad`` of the one convolution or pooling that reads them; V1
    layers stay. ``source`` names the net in errors. Raises CaffeError for a layer type that V0 did
    not have and for a ``padding`` layer with any other reader.
    """
    problems: list[str] = []
    upgraded = [
        _upgrade_layer(layer, source, problems) if layer.HasField("layer") else layer
        for layer in _without_padding(net, source)
    ]
    net.ClearField("layers")
    net.layers.extend(upgraded)
    return problems


def _without_padding(net, source: str) -> list[caffe_pb2.V1LayerParameter]:
    """Copies of the layers but the padding ones, whose pad and bottom their readers got."""
    maker = dict.fromkeys(net.input)  # blob → the layer that made it last, None for an input
    kept = []
    for old in net.layers:
        layer = caffe_pb2.V1LayerParameter()
        layer.CopyFrom(old)
        name, kind = old.layer.name, old.layer.type
        for j, blob in enumerate(old.bottom):
            if blob not in maker:
                raise CaffeError(
                    f"{source}: layer '{name}': Unknown blob input {blob}. A bottom must be the top of an earlier "
                    "layer or a net input; check the spelling and the order of layers."
                )
            padding = maker[blob]
            if padding is None or padding.layer.type != "padding":
                continue
            if kind not in ("conv", "pool"):
                raise CaffeError(
                    f"{source}: layer '{name}': Padding layer input to non-convolutional / non-pooling layer type "
                    f"{kind}. Only conv and pool can read the top of '{padding.layer.name}', which pads."
                )
            for who, blobs in ((name, old.bottom), (padding.layer.name, padding.bottom)):
                if len(blobs) != 1:
                    raise CaffeError(
                        f"{source}: layer '{who}' takes a single blob as input, because it pads or reads what is "
                        f"padded; it has {len(blobs)} bottoms."
                    )
            layer.layer.pad = padding.layer.pad
            layer.bottom[j] = padding.bottom[0]
        if kind == "padding" and len(old.top) != 1:
            raise CaffeError(
                f"{source}: layer '{name}': Padding Layer produces a single blob as output, found {len(old.top)}."
            )
        if kind != "padding":
            kept.append(layer)
        maker.update(dict.fromkeys(old.top, old))
    return kept


def _upgrade_layer(connection, source: str, problems: list[str]) -> caffe_pb2.V1LayerParameter:
    old = connection.layer
    new = caffe_pb2.V1LayerParameter(bottom=connection.bottom, top=connection.top)
    new.blobs.extend(old.blobs)
    new.blobs_lr.extend(old.blobs_lr)
    new.weight_decay.extend(old.weight_decay)
    if old.HasField("name"):
        new.name = old.name
    message = None
    if old.HasField("type"):
        if old.type not in _TYPES:
            raise CaffeError(
                f"{source}: layer '{old.name}': Unknown layer name: {old.type}. The types of this old form are: "
                f"{', '.join(sorted([*_TYPES, 'padding']))}."
            )
        type_name, message = _TYPES[old.type]
        new.type = caffe_pb2.V1LayerParameter.LayerType.Value(type_name)
    for descriptor, value in old.ListFields():
        name = descriptor.name
        if name in _TRANSFORM:
            setattr(new.transform_param, _TRANSFORM[name], value)
        elif name == "hdf5_output_param" and old.type == "hdf5_output":
            new.hdf5_output_param.CopyFrom(value)
        elif name in _FIELDS and old.type in _FIELDS[name][1].split():
            _set(getattr(new, message), _FIELDS[name][0], value)
        elif name in _FIELDS or name == "hdf5_output_param":
            problems.append(
                f"{source}: layer '{old.name}': Unknown parameter {name} for layer type {old.type}; left out"
            )
    return new


def _set(message, name: str, value) -> None:
    """Set a field of any kind: repeated ones get one more value."""
    field = getattr(message, name)
    if hasattr(field, "append"):
        field.append(value)
    elif hasattr(field, "CopyFrom"):
        field.CopyFrom(value)
    else:
        setattr(message, name, value)
