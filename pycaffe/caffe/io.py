"""``caffe.io``: images in and out of a net's input, and arrays in and out of protobuf messages.

Needs Pillow and SciPy, not scikit-image. An image is an H×W×C array, usually float32 RGB between 0
and 1 as :func:`load_image` gives it; a net's input is C×H×W, usually BGR between 0 and 255 minus a mean.
"""

from __future__ import annotations

import numpy as np
from PIL import Image
from scipy import ndimage

from .proto import caffe_pb2

# how much of each of R, G, B is in gray (ITU-R 709), as scikit-image weighs them
_GRAY = np.array([0.2125, 0.7154, 0.0721], np.float32)


class Transformer:
    """Turns images into the form that a net was trained on, and back.

    ``inputs`` maps the names of net inputs to their shapes: ``Transformer({"data":
    net.blobs["data"].data.shape})``. What is set for an input is kept in the dictionaries
    ``transpose``, ``channel_swap``, ``raw_scale``, ``mean`` and ``input_scale``; :meth:`preprocess`
    applies them in this order. Every method takes the name of an input first, ``in_``, and raises
    Exception for one that is not in ``inputs``.
    """

    def __init__(self, inputs):
        self.inputs = inputs
        self.transpose = {}
        self.channel_swap = {}
        self.raw_scale = {}
        self.mean = {}
        self.input_scale = {}

    def _shape(self, in_) -> tuple[int, ...]:
        if in_ not in self.inputs:
            raise Exception(f"{in_} is not one of the net inputs: {self.inputs}")
        return tuple(self.inputs[in_])

    def preprocess(self, in_, data):
        """The image ``data`` (H×W×C) as a float32 array for the input ``in_``; ``data`` is not changed.

        Resized to the input's height and width if it has others (:func:`resize_image`), transposed,
        channels swapped, times ``raw_scale``, minus ``mean``, times ``input_scale``; whatever is not set is
        left out. (Caffe changes a float32 ``data`` of the right size in place.)
        """
        size = self._shape(in_)[2:]
        image = np.array(data, np.float32)
        if len(size) == 2 and image.shape[:2] != size:
            image = resize_image(image, size)
        if self.transpose.get(in_) is not None:
            image = image.transpose(self.transpose[in_])
        if self.channel_swap.get(in_) is not None:
            image = image[list(self.channel_swap[in_])]
        if self.raw_scale.get(in_) is not None:
            image *= self.raw_scale[in_]
        if self.mean.get(in_) is not None:
            image -= self.mean[in_]
        if self.input_scale.get(in_) is not None:
            image *= self.input_scale[in_]
        return image

    def deprocess(self, in_, data):
        """The image that :meth:`preprocess` made ``data``, an array for the input ``in_``, from: a new array.

        The size stays that of the input. ``data`` may have axes of size 1, which are dropped:
        ``deprocess("data", net.blobs["data"].data[0])``.
        """
        self._shape(in_)
        image = np.array(data, np.result_type(data, np.float32)).squeeze()
        if self.input_scale.get(in_) is not None:
            image /= self.input_scale[in_]
        if self.mean.get(in_) is not None:
            image += self.mean[in_]
        if self.raw_scale.get(in_) is not None:
            image /= self.raw_scale[in_]
        if self.channel_swap.get(in_) is not None:
            image = image[np.argsort(self.channel_swap[in_])]
        if self.transpose.get(in_) is not None:
            image = image.transpose(np.argsort(self.transpose[in_]))
        return image

    def set_transpose(self, in_, order):
        """Of images for ``in_``, put axis ``order[k]`` at k: ``(2, 0, 1)`` turns H×W×C into C×H×W.

        Raises Exception unless there is one number for each axis but the input's first.
        """
        if len(order) != len(self._shape(in_)) - 1:
            raise Exception(
                "Transpose order needs to have the same number of dimensions as the input: "
                f"{len(self._shape(in_)) - 1} without the batch, got {tuple(order)}"
            )
        self.transpose[in_] = order

    def set_channel_swap(self, in_, order):
        """Of images for ``in_``, put channel ``order[k]`` at k, after the transpose: ``(2, 1, 0)`` turns RGB into BGR.

        Raises Exception unless there is one number for each channel of the input.
        """
        if len(order) != self._shape(in_)[1]:
            raise Exception(
                "Channel swap needs to have the same number of dimensions as the input channels: "
                f"{self._shape(in_)[1]}, got {tuple(order)}"
            )
        self.channel_swap[in_] = order

    def set_raw_scale(self, in_, scale):
        """Multiply images for ``in_`` by ``scale`` before the mean is subtracted: 255 if they lie between 0 and 1."""
        self._shape(in_)
        self.raw_scale[in_] = scale

    def set_mean(self, in_, mean):
        """Subtract ``mean`` from images for ``in_``, in the net's channel order and after ``raw_scale``.

        ``mean`` holds one value for each channel (C), one image for all channels (H×W) or one image
        (C×H×W). An image of another size than the input's is resized to it (bilinear).
        Raises ValueError for other shapes and another number of channels.
        """
        channels, *size = self._shape(in_)[1:]
        mean = np.asarray(mean)
        if mean.ndim == 1:
            mean = mean[:, np.newaxis, np.newaxis]
        elif mean.ndim == 2:
            mean = mean[np.newaxis]
        elif mean.ndim != 3:
            raise ValueError(f"Mean shape invalid: C, H×W or C×H×W is needed, got {mean.shape}")
        one_for_all = len(mean) == 1 and mean.shape[1:] != (1, 1)
        if len(mean) != channels and not one_for_all:
            raise ValueError(
                f"Mean channels incompatible with input. The mean has {len(mean)}, the input {channels}."
            )
        if mean.shape[1:] not in ((1, 1), tuple(size)):
            mean = resize_image(mean.transpose(1, 2, 0), size).transpose(2, 0, 1)
        self.mean[in_] = mean

    def set_input_scale(self, in_, scale):
        """Multiply images for ``in_`` by ``scale`` after the mean is subtracted."""
        self._shape(in_)
        self.input_scale[in_] = scale


# -- images ---------------------------------------------------------------------------------------------


def load_image(filename, color=True):
    """The image file ``filename`` as float32 between 0 and 1: H×W×3 in RGB, or H×W×1 with ``color`` false.

    A gray image is repeated three times, alpha is dropped, 16-bit values are divided by 65535; colors
    become gray as 0.2125 R + 0.7154 G + 0.0721 B. EXIF orientation is not applied.
    Raises OSError (FileNotFoundError for a missing file), naming the file, when it is no readable image.
    """
    try:
        with Image.open(filename) as image:
            pixels = _pixels(image)
    except FileNotFoundError:
        raise
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise OSError(f"{filename}: not a readable image: {error}") from error
    if color and pixels.shape[2] == 1:
        return np.tile(pixels, (1, 1, 3))
    if not color and pixels.shape[2] == 3:
        return pixels @ _GRAY[:, np.newaxis]
    return pixels


def _pixels(image: Image.Image) -> np.ndarray:
    """H×W×1 or H×W×3, float32 between 0 and 1."""
    if image.mode.startswith("I"):
        return np.asarray(image, np.float32)[:, :, np.newaxis] / np.float32(65535)
    if image.mode == "F":
        return np.asarray(image, np.float32)[:, :, np.newaxis]
    gray = image.mode in ("1", "L", "LA", "La")
    pixels = np.asarray(image.convert("L" if gray else "RGB"), np.float32) / np.float32(255)
    return pixels[:, :, np.newaxis] if gray else pixels


def resize_image(im, new_dims, interp_order=1):
    """The image ``im`` (H×W×C) at height and width ``new_dims``, float32.

    ``interp_order`` is the order of the interpolating spline: 0 nearest, 1 bilinear, 3 cubic. With 1 or 3 channels
    the centres of pixels are aligned and the outside counts as the image's smallest value, as
    scikit-image's ``resize`` with ``mode="constant"`` and no anti-aliasing does: the numbers are equal to it
    up to order 1, and to what Caffe's era computed (versions from 0.15 on smooth before shrinking
    unless told otherwise). With other numbers of channels the centres of the corner pixels are aligned
    (``scipy.ndimage.zoom``), as in Caffe.

    Raises ValueError for an array of other than three axes, and for a size of 0.
    """
    im = np.asarray(im)
    height, width = (int(size) for size in new_dims)
    if im.ndim != 3 or min(height, width, *im.shape) < 1:
        raise ValueError(f"cannot resize an image of shape {im.shape} to {height}×{width}: an image is H×W×C")
    zoom = (height / im.shape[0], width / im.shape[1], 1)
    if im.shape[-1] not in (1, 3):
        return ndimage.zoom(im, zoom, order=interp_order).astype(np.float32)
    low, high = im.min(), im.max()
    if low == high:
        return np.full((height, width, im.shape[-1]), low, np.float32)
    # between 0 and 1, so that the outside, 0, is the smallest value
    im = (im - low) / (high - low)
    im = ndimage.zoom(im, zoom, order=interp_order, mode="grid-constant", grid_mode=True)
    return (im.clip(0, 1) * (high - low) + low).astype(np.float32)


def oversample(images, crop_dims):
    """Ten crops of each of ``images`` (H×W×C, all of one size): (10·N)×h×w×C, float32.

    ``crop_dims`` is (h, w). For each image: top left, top right, bottom left, bottom right, centre, and the
    same five mirrored left to right. Raises ValueError when a crop is larger than the images.
    """
    height, width, channels = np.shape(images[0])
    h, w = (int(size) for size in crop_dims)
    if h > height or w > width:
        raise ValueError(f"cannot take crops of {h}×{w} from images of {height}×{width}")
    bottom, right = height - h, width - w
    corners = [(0, 0), (0, right), (bottom, 0), (bottom, right), (bottom // 2, right // 2)]
    crops = np.empty((len(images), 2, len(corners), h, w, channels), np.float32)
    for image, (straight, mirrored) in zip(images, crops, strict=True):
        for k, (y, x) in enumerate(corners):
            straight[k] = image[y : y + h, x : x + w]
        mirrored[:] = straight[:, :, ::-1]
    return crops.reshape(-1, h, w, channels)


# -- protobuf -------------------------------------------------------------------------------------------


def blobproto_to_array(blob, return_diff=False):
    """The values of the BlobProto ``blob`` (its gradient with ``return_diff``) as a float64 array.

    A blob of the old form has four axes (num, channels, height, width). Raises ValueError when the number
    of values is not that of the shape.
    """
    name = "diff" if return_diff else "data"
    values = np.array(getattr(blob, f"double_{name}") or getattr(blob, name), np.float64)
    legacy = ("num", "channels", "height", "width")
    if any(blob.HasField(axis) for axis in legacy):
        return values.reshape([getattr(blob, axis) for axis in legacy])
    return values.reshape(list(blob.shape.dim))


def array_to_blobproto(arr, diff=None):
    """A BlobProto of the array ``arr`` and, when given, of its gradient ``diff``; stored as float32."""
    arr = np.asarray(arr)
    blob = caffe_pb2.BlobProto()
    blob.shape.dim.extend(arr.shape)
    blob.data.extend(arr.astype(float).flat)
    if diff is not None:
        blob.diff.extend(np.asarray(diff).astype(float).flat)
    return blob


def arraylist_to_blobprotovector_str(arraylist):
    """The arrays of ``arraylist`` as the bytes of a BlobProtoVector."""
    vector = caffe_pb2.BlobProtoVector(blobs=[array_to_blobproto(arr) for arr in arraylist])
    return vector.SerializeToString()


def blobprotovector_str_to_arraylist(str):
    """The list of arrays in the bytes ``str`` of a BlobProtoVector."""
    return [blobproto_to_array(blob) for blob in caffe_pb2.BlobProtoVector.FromString(str).blobs]


def array_to_datum(arr, label=None):
    """A Datum of the C×H×W array ``arr``: bytes if it is uint8, else floats; with ``label`` when given.

    Raises ValueError unless it has three axes.
    """
    arr = np.asarray(arr)
    if arr.ndim != 3:
        raise ValueError(f"Incorrect array shape. A Datum holds C×H×W, got {arr.shape}")
    datum = caffe_pb2.Datum(channels=arr.shape[0], height=arr.shape[1], width=arr.shape[2])
    if arr.dtype == np.uint8:
        datum.data = arr.tobytes()
    else:
        datum.float_data.extend(arr.astype(float).flat)
    if label is not None:
        datum.label = int(label)
    return datum


def datum_to_array(datum):
    """The values of ``datum`` as a writable C×H×W array: uint8, or float64 if it holds floats.

    Raises ValueError for an encoded one (a JPEG or PNG file in it), and when the number of values is not
    that of its shape.
    """
    if datum.encoded:
        raise ValueError(
            "this datum is encoded: datum.data is an image file; decode it with Pillow, "
            "Image.open(io.BytesIO(datum.data))"
        )
    shape = datum.channels, datum.height, datum.width
    if datum.data:
        return np.frombuffer(datum.data, np.uint8).reshape(shape).copy()
    return np.array(datum.float_data, np.float64).reshape(shape)
