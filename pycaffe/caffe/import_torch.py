"""Weights of torchvision's classifiers as Caffe nets: a ``state_dict`` file becomes .caffemodel and .prototxt.

torchvision's nets read RGB images from 0 to 1, minus a mean, over a deviation. The nets made here read what
Caffe's read, BGR images from 0 to 255 minus a mean; the difference goes into the first layer's weights.
"""

from __future__ import annotations

import os
import pickle
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from google.protobuf import text_format

from .errors import CaffeError
from .layer_types.rules import dims
from .net import Net
from .proto import caffe_pb2
from .torch_nets import IMAGENET, KNOWN, ONE, Known, TorchNet
from .wire import replacing

# of ImageNet's photographs (blue, green, red): what Caffe's nets subtract
CAFFE_MEAN = (104.00699, 116.66877, 122.67892)

WARNING = (
    "These weights were trained differently from the Caffe model of that name (other preprocessing, augmentation and "
    "schedule). Where results shall be reproduced they are no substitute: users who fine-tuned FCNs from torchvision's "
    "VGG16 and did not know lost about 5 points of mean IU."
)


@dataclass
class Imported:
    """What :func:`import_torch` made.

    ``net``: which it was ("VGG16", "AlexNet", "GoogLeNet"). ``caffemodel``, ``prototxt``: the files. ``mean``:
    what to subtract from blue, green and red, 0 to 255. ``border``: by how much, at most, a value of the first
    convolution differs from PyTorch's where its window covers padding. ``notes``: what else there is to know.
    """

    net: str
    caffemodel: Path
    prototxt: Path
    mean: tuple[float, ...]
    border: float
    notes: list[str]


def import_torch(source, output, prototxt=None, *, mean=CAFFE_MEAN, transform_input=True) -> Imported:
    """Write the torchvision weights ``source`` as the weight file ``output`` and the net ``prototxt``.

    ``source``: a file that ``torch.save(model.state_dict(), ...)`` wrote, of torchvision's VGG16, AlexNet or
    GoogLeNet, with any number of classes. ``prototxt``: by default ``output`` with that ending. Layers have the
    names of Caffe's VGG16, CaffeNet and GoogLeNet where they correspond.

    The net takes BGR images, 0 to 255, minus ``mean`` (blue, green, red; default: what Caffe's ImageNet models
    subtract). With w the first layer's weights, and m and s PyTorch's mean and deviation of a channel c from 0 to 1:

        w'[c] = w[c] / (255 s[c]),    bias' = bias + sum over c and window of w[c] (mean[c] / 255 - m[c]) / s[c]

    which is exact wherever the window lies inside the image. In the padding both engines put 0, which is the pixel
    255 m in PyTorch and the pixel ``mean`` here. So at the border a value of the first convolution differs by
    the second term over that part of the window, ``border`` at most (VGG16: padding of another colour, by less than
    one level of 255). ``mean=None`` takes 255 m as the mean: then nothing differs anywhere.

    ``transform_input``: GoogLeNet's published weights are for images from -1 to 1, to which torchvision's net
    brings its input by itself; False for weights that were trained without that.

    Both files appear whole or not at all. Raises CaffeError for a file that is no state_dict, tensors of another
    net (naming one), other shapes, NaN or infinity in them, and files that cannot be written. Nothing in
    ``source`` is executed.
    """
    path = os.fsdecode(os.fspath(source))
    output = Path(os.fsdecode(os.fspath(output)))
    prototxt = output.with_suffix(".prototxt") if prototxt is None else Path(os.fsdecode(os.fspath(prototxt)))
    if prototxt == output:
        raise CaffeError(
            f"{output}: the weights and the net need two files; name them .caffemodel and .prototxt"
        )
    state = _read(path)
    name, known, net = _recognise(state, path)
    param = net.spec.to_proto()
    param.name = name
    caffe_net = Net.from_param(param, os.fspath(prototxt), caffe_pb2.TEST)
    for layer, tensors in net.tensors.items():
        for blob, tensor in zip(caffe_net.params[layer], tensors, strict=True):
            blob.data[...] = 1 if tensor == ONE else _values(state, tensor, tuple(blob.shape), path)
    centre, deviation = known.mean, known.deviation
    if name == "GoogLeNet" and not transform_input:
        centre, deviation = IMAGENET
    subtracted = [255 * value for value in centre[::-1]] if mean is None else [float(value) for value in mean]
    if len(subtracted) != 3 or not np.isfinite(subtracted).all():
        raise CaffeError(
            f"mean {subtracted}: it takes three finite numbers, blue, green and red from 0 to 255"
        )
    border = _fold(caffe_net, list(net.tensors), subtracted, centre[::-1], deviation[::-1])
    text = (
        f"# torchvision's {name}: BGR, 0 to 255, minus {', '.join(f'{value:.8g}' for value in subtracted)}\n"
    )
    with replacing(prototxt) as file:
        file.write((text + text_format.MessageToString(param)).encode())
        caffe_net.save(output)
    notes = [known.difference] if known.difference else []
    return Imported(name, output, prototxt, tuple(subtracted), 0.0 if mean is None else border, notes)


def _read(path: str) -> dict[str, torch.Tensor]:
    """The tensors of a state_dict file by name."""
    try:
        loaded = torch.load(path, map_location="cpu", weights_only=True)
    except OSError as error:
        raise CaffeError(f"Could not open file {path}: {error.strerror}") from error
    except pickle.UnpicklingError as error:
        raise CaffeError(
            f"{path}: it holds more than tensors, a whole model perhaps, and loading that could run any code. Save the "
            "weights alone: torch.save(model.state_dict(), ...)"
        ) from error
    except Exception as error:  # whatever torch.load meets in a file of another kind
        raise CaffeError(f"{path}: not a weight file of PyTorch (.pth): {error or 'it is empty'}") from error
    for key in ("state_dict", "model"):  # where training scripts put it
        if isinstance(loaded, Mapping) and isinstance(loaded.get(key), Mapping):
            loaded = loaded[key]
    if not isinstance(loaded, Mapping) or not all(
        isinstance(value, torch.Tensor) for value in loaded.values()
    ):
        raise CaffeError(
            f"{path}: it should hold a state_dict (tensors by name), and holds {type(loaded).__name__}. Write it with "
            "torch.save(model.state_dict(), ...)"
        )
    return {str(name).removeprefix("module."): tensor for name, tensor in loaded.items()}


def _recognise(state: dict[str, torch.Tensor], path: str) -> tuple[str, Known, TorchNet]:
    """Which net has tensors of these names."""
    ignored = ("aux1.", "aux2.")
    given = {
        name for name in state if not name.startswith(ignored) and not name.endswith("num_batches_tracked")
    }
    differences = {}
    for name, known in KNOWN.items():
        bias = state.get(f"{known.last}.bias")
        net = known.net(bias.numel() if bias is not None else 1000)
        wanted = {tensor for tensors in net.tensors.values() for tensor in tensors} - {ONE}
        if given == wanted:
            return name, known, net
        differences[name] = given ^ wanted
    closest = min(differences, key=lambda name: len(differences[name]))
    example = min(differences[closest])
    raise CaffeError(
        f"{path}: not the weights of a net that can be imported: {', '.join(KNOWN)} of torchvision. {closest} is the "
        f"closest, but {len(differences[closest])} names differ: '{example}' is "
        f"{'in the file' if example in given else 'missing'}"
    )


def _values(state, name: str, shape: tuple[int, ...], path: str) -> np.ndarray:
    tensor = state[name]
    if tuple(tensor.shape) != shape:
        raise CaffeError(f"{path}: '{name}' is {dims(tuple(tensor.shape))}, and should be {dims(shape)}")
    array = tensor.float().numpy()
    if not np.isfinite(array).all():
        raise CaffeError(f"{path}: '{name}' holds NaN or infinity; the training that made it has failed")
    return array


def _fold(net: Net, layers: list[str], mean: Sequence[float], centre, deviation) -> float:
    """Let the first layer take BGR from 0 to 255 minus ``mean``; returns the largest difference at the border.

    Its weights are those for RGB, from 0 to 1, minus ``centre``, over ``deviation`` (all three in BGR order).
    """
    first, second = (net.params[name] for name in layers[:2])
    weight = first[0].data[:, ::-1].astype(np.float64)
    along = (1, 3, 1, 1)
    deviation = np.reshape(deviation, along)
    offset = (np.reshape(mean, along) / 255 - np.reshape(centre, along)) / deviation
    shift = (weight * offset).sum(1)  # for each filter and place in its window
    first[0].data[...] = weight / (255 * deviation)
    if len(first) > 1:
        first[1].data[...] += shift.sum((1, 2))
    else:  # no bias: what is added is taken from the mean that BatchNorm subtracts
        second[0].data[...] -= shift.sum((1, 2))
    return float(np.abs(shift).sum((1, 2)).max())
