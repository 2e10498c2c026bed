"""Classifier: a net that takes images and gives class probabilities."""

from __future__ import annotations

import numpy as np

from . import io
from .errors import CaffeError
from .net import Net
from .proto import caffe_pb2


class Classifier(Net):
    """A net in testing, with the :class:`caffe.io.Transformer` of its first input.

    ``model_file`` and ``pretrained_file`` are the prototxt and the weights. Images are resized to ``image_dims``
    (height, width; by default the input's own), and crops of the input's size are classified. ``mean``,
    ``input_scale``, ``raw_scale`` and ``channel_swap`` are set on ``transformer``, whose transpose is (2, 0, 1).
    Attributes: ``transformer``, ``image_dims``, ``crop_dims``. Raises as :class:`caffe.Net` and the
    transformer's setters do.
    """

    def __init__(
        self,
        model_file,
        pretrained_file,
        image_dims=None,
        mean=None,
        input_scale=None,
        raw_scale=None,
        channel_swap=None,
    ):
        super().__init__(model_file, caffe_pb2.TEST, weights=pretrained_file)
        self.transformer = make_transformer(self, mean, input_scale, raw_scale, channel_swap)
        self.crop_dims = np.array(self.blobs[self.inputs[0]].data.shape[2:])
        self.image_dims = self.crop_dims if image_dims is None else image_dims
        if (np.asarray(self.image_dims) < self.crop_dims).any():
            raise CaffeError(
                f"{model_file}: image_dims {tuple(image_dims)} are smaller than the net's input, "
                f"{tuple(self.crop_dims.tolist())}: no crop of that size can be taken"
            )

    def predict(self, inputs, oversample=True):
        """N×K: the probabilities (the first output) of K classes for each of the N images ``inputs``.

        ``inputs`` are H×W×C arrays, any size. With ``oversample`` the mean over ten crops
        (:func:`caffe.io.oversample`), without it the centre crop.
        """
        images = np.stack([io.resize_image(image, self.image_dims) for image in inputs])
        height, width = self.crop_dims
        if oversample:
            crops = io.oversample(images, self.crop_dims)
        else:
            top, left = (np.array(images.shape[1:3]) - self.crop_dims) // 2
            crops = images[:, top : top + height, left : left + width]
        name = self.inputs[0]
        arrays = np.stack([self.transformer.preprocess(name, crop) for crop in crops])
        predictions = self.forward_all(**{name: arrays})[self.outputs[0]]
        if oversample:
            predictions = predictions.reshape(len(images), 10, -1).mean(1)
        return predictions


def make_transformer(net: Net, mean, input_scale, raw_scale, channel_swap) -> io.Transformer:
    """The transformer of ``net``'s first input: H×W×C to C×H×W, and what is not None of the rest.

    ``mean``, ``input_scale``, ``raw_scale`` and ``channel_swap`` are as its setters take them. Raises CaffeError for
    a net whose first input is not N×C×H×W.
    """
    name = next(iter(net.inputs), None)
    if name is None or len(net.blobs[name].shape) != 4:
        found = (
            "it has no Input layer" if name is None else f"'{name}' has shape {tuple(net.blobs[name].shape)}"
        )
        raise CaffeError(f"{net._source}: images need a net whose first input is N×C×H×W; {found}")
    transformer = io.Transformer({name: net.blobs[name].data.shape})
    transformer.set_transpose(name, (2, 0, 1))
    if mean is not None:
        transformer.set_mean(name, mean)
    if input_scale is not None:
        transformer.set_input_scale(name, input_scale)
    if raw_scale is not None:
        transformer.set_raw_scale(name, raw_scale)
    if channel_swap is not None:
        transformer.set_channel_swap(name, channel_swap)
    return transformer
