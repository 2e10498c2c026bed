"""Detector: a net that classifies windows of images (R-CNN)."""

from __future__ import annotations

import numpy as np

from . import io
from .classifier import make_transformer
from .errors import CaffeError
from .net import Net
from .proto import caffe_pb2


class Detector(Net):
    """A net in testing that classifies windows, warped to its input's size.

    ``model_file`` and ``pretrained_file`` are the prototxt and the weights; ``mean``, ``input_scale``, ``raw_scale``
    and ``channel_swap`` are set on ``transformer``. With ``context_pad`` a window grows until that many pixels of
    the input lie around it on each side, filled with the mean where the image ends.
    """

    def __init__(
        self,
        model_file,
        pretrained_file,
        mean=None,
        input_scale=None,
        raw_scale=None,
        channel_swap=None,
        context_pad=None,
    ):
        super().__init__(model_file, caffe_pb2.TEST, weights=pretrained_file)
        self.transformer = make_transformer(self, mean, input_scale, raw_scale, channel_swap)
        self.configure_crop(context_pad)

    def detect_windows(self, images_windows):
        """Classify windows: a list of dictionaries with ``window``, ``prediction`` and ``filename``, in order.

        ``images_windows`` gives pairs of an image file and its windows, each (ymin, xmin, ymax, xmax) in pixels, the
        ends not included. ``prediction`` is the net's first output for the window.
        """
        found, arrays = [], []
        name = self.inputs[0]
        for filename, windows in images_windows:
            image = io.load_image(filename)
            for window in windows:
                arrays.append(self.transformer.preprocess(name, self.crop(image, window)))
                found.append({"window": window, "filename": filename})
        if not found:
            return []
        predictions = self.forward_all(**{name: np.stack(arrays)})[self.outputs[0]]
        return [
            entry | {"prediction": prediction} for entry, prediction in zip(found, predictions, strict=True)
        ]

    def detect_selective_search(self, image_fnames):
        """:meth:`detect_windows` on the proposals of selective search for the files ``image_fnames``.

        Raises ImportError without the module ``selective_search_ijcv_with_python``, which needs MATLAB.
        """
        try:
            import selective_search_ijcv_with_python as selective_search
        except ImportError as error:
            raise ImportError(
                "detect_selective_search needs the module selective_search_ijcv_with_python (and MATLAB); "
                "with windows from elsewhere, call detect_windows([(file, windows), ...])"
            ) from error
        image_fnames = list(image_fnames)
        windows = selective_search.get_windows(image_fnames, cmd="selective_search_rcnn")
        return self.detect_windows(zip(image_fnames, windows, strict=True))

    def crop(self, im, window):
        """The part of the image ``im`` (H×W×C) in ``window``, (ymin, xmin, ymax, xmax), as H×W×C.

        With ``context_pad`` the result has the input's size: the window with its context, the mean beyond the
        image. Raises ValueError for a window outside of the image.
        """
        window = np.asarray(window)
        if (window[2:] <= window[:2]).any() or (window[:2] >= im.shape[:2]).any() or (window[2:] <= 0).any():
            raise ValueError(
                f"no pixels in window {window.tolist()} (ymin, xmin, ymax, xmax) of an image of "
                f"{im.shape[0]}×{im.shape[1]}"
            )
        if not self.context_pad:
            top, left, bottom, right = window.clip(0).astype(int)
            return im[top:bottom, left:right]
        rows, top, height = self._with_context(window[0], window[2], im.shape[0], self.crop_dims[0])
        columns, left, width = self._with_context(window[1], window[3], im.shape[1], self.crop_dims[1])
        crop = np.ones(self.crop_dims, np.float32) * self.crop_mean
        if height and width:
            part = io.resize_image(im[rows, columns], (height, width))
            crop[top : top + height, left : left + width] = part
        return crop

    def _with_context(self, low, high, length: int, size: int) -> tuple[slice, int, int]:
        """Along one axis: the pixels of window and context that the image has, where they go, and over how many.

        ``low`` and ``high`` are the window's ends (both count as its pixels here, as in Caffe), ``length``
        is the image's extent and ``size`` the input's.
        """
        half = (high - low + 1) / 2
        reach = half * size / (size - 2 * self.context_pad)
        start, end = np.round([low + half - reach, low + half + reach])
        scale = size / (end - start + 1)
        first, last = np.clip([start, end], 0, length).astype(int)
        pad = min(round(max(0, -start) * scale), size)
        return slice(first, last), pad, min(round((last - first + 1) * scale), size - pad)

    def configure_crop(self, context_pad):
        """Set how many pixels of context (``context_pad``, None or 0 for none) lie around a window.

        Sets ``crop_dims``, the input's size as an image (H, W, C), and with context ``crop_mean``, the
        transformer's mean as the image that would give it. Raises CaffeError for a pad of half the input or more.
        """
        name = self.inputs[0]
        transformer = self.transformer
        back = np.argsort(transformer.transpose[name])
        self.crop_dims = np.array(self.blobs[name].data.shape[1:])[back]
        if context_pad and not 0 < 2 * context_pad < min(self.crop_dims[:2]):
            raise CaffeError(
                f"context_pad {context_pad} leaves nothing of the window: it must be below half of the input's "
                f"height and width, {tuple(self.crop_dims[:2].tolist())}"
            )
        self.context_pad = context_pad
        if not context_pad:
            return
        mean = transformer.mean.get(name)
        if mean is None:
            self.crop_mean = np.zeros(self.crop_dims, np.float32)
            return
        swap, scale = transformer.channel_swap.get(name), transformer.raw_scale.get(name)
        mean = np.asarray(mean, np.float32)
        if swap is not None:
            mean = mean[np.argsort(swap)]
        self.crop_mean = mean.transpose(back) / (1 if scale is None else scale)
