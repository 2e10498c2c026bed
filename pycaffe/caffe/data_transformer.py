"""What the data layers do to every image: crop, mirror, subtract a mean, scale."""

from __future__ import annotations

import numpy as np

from .blob_file import read_blob
from .datum import datum_planes
from .draws import Draws, draw_seed
from .errors import CaffeError
from .log import logger
from .proto import caffe_pb2


class DataTransformer:
    """``transform_param`` at work: (crop(x) - mean) * scale, mirrored in half of the cases if asked.

    ``param`` is the TransformationParameter: ``crop_size`` (a square; at random in training, from
    the center in testing), ``mirror`` (in both phases), ``scale``, ``mean_file`` (the mean of whole
    images, cropped along with them) or ``mean_value`` (one, or one per channel), ``force_color`` and
    ``force_gray`` (how encoded Datums are decoded). ``phase`` is caffe.TRAIN or caffe.TEST. Raises
    CaffeError for both kinds of mean at once, and for a mean file that cannot be read.

    Images are C x H x W here, channels in B, G, R order. Under one seed the crops and flips are
    Caffe's own: a generator seeded by :meth:`init_rand` gives, for each image, mirror (if asked),
    then the crop's row and column (in training, if asked), each a raw draw modulo its range.
    """

    def __init__(self, param: caffe_pb2.TransformationParameter, phase: int):
        self.param, self.phase = param, phase
        self.draws: Draws | None = None
        self.mean: np.ndarray | None = None  # of mean_file, C x H x W
        if param.HasField("mean_file"):
            if param.mean_value:
                raise CaffeError("Cannot specify mean_file and mean_value at the same time")
            self.mean = read_mean(param.mean_file)
        self._values = np.array(param.mean_value, np.float32)
        random_crop = 2 if param.crop_size and phase == caffe_pb2.TRAIN else 0
        self.draws_per_image = int(param.mirror) + random_crop

    def init_rand(self, seed: int | None = None) -> None:
        """If crops or flips will be random, seed their generator: with ``seed``, or a draw of the thread's."""
        if self.draws_per_image:
            self.draws = Draws(draw_seed() if seed is None else seed)

    def seek(self, images: int) -> None:
        """Bring the generator to where that many ``images`` have been transformed."""
        if self.draws is not None:
            self.draws.seek(images * self.draws_per_image)

    def planes(self, datum: caffe_pb2.Datum) -> np.ndarray:
        """The values of ``datum``, C x H x W, an encoded one decoded as the parameters say."""
        return datum_planes(datum, self.param.force_color, self.param.force_gray)

    def infer_shape(self, planes: np.ndarray) -> tuple[int, int, int, int]:
        """The shape of one transformed image, (1, C, h, w), for ``planes`` of C x H x W."""
        channels, height, width = planes.shape
        crop = self.param.crop_size
        self._check_size(height, width)
        return (1, channels, crop or height, crop or width)

    def transform(self, planes: np.ndarray) -> np.ndarray:
        """One image ``planes``, C x H x W of uint8 or floats, transformed: float32, C x h x w."""
        return self.transform_blob(planes[np.newaxis])[0]

    def transform_datum(self, datum: caffe_pb2.Datum) -> np.ndarray:
        """:meth:`transform` of ``datum``, decoded first if it is encoded."""
        return self.transform(self.planes(datum))

    def transform_image(self, image: np.ndarray) -> np.ndarray:
        """:meth:`transform` of ``image``, uint8, H x W x C, as :func:`caffe.image_file.read_image` gives it.

        Raises CaffeError for another type.
        """
        if image.dtype != np.uint8:
            raise CaffeError(f"Image data type must be unsigned byte, got {image.dtype}")
        return self.transform(image.transpose(2, 0, 1))

    def transform_blob(self, images: np.ndarray) -> np.ndarray:
        """``images``, N x C x H x W, all with one crop and one flip: a new float32 array.

        Raises CaffeError when a crop is larger than the images, or a mean is of another shape.
        """
        channels, height, width = images.shape[1:]
        crop = self.param.crop_size
        self._check_size(height, width)
        mirror = self.param.mirror and self._below(2)
        rows = columns = slice(None)
        if crop and self.phase == caffe_pb2.TRAIN:
            rows, columns = (_span(self._below(size - crop + 1), crop) for size in (height, width))
        elif crop:
            rows, columns = (_span((size - crop) // 2, crop) for size in (height, width))
        result = images[:, :, rows, columns].astype(np.float32)
        mean = self.mean_for(channels, height, width)
        if mean is not None:
            result -= mean[:, rows, columns]
        if self.param.scale != 1:
            result *= np.float32(self.param.scale)
        return result[:, :, :, ::-1] if mirror else result

    def _check_size(self, height: int, width: int) -> None:
        crop = self.param.crop_size
        if min(height, width) < crop:
            raise CaffeError(
                f"crop_size {crop} does not fit into the image, {height} high and {width} wide: images must be "
                "at least crop_size in height and width (use larger ones, or a smaller crop_size)"
            )

    def _below(self, limit: int) -> int:
        if self.draws is None:
            raise CaffeError("random crops and flips need init_rand() first")
        return self.draws.below(limit)

    def mean_for(self, channels: int, height: int, width: int) -> np.ndarray | None:
        """What to subtract from an image of ``channels`` x ``height`` x ``width``, of that shape; None for nothing.

        Raises CaffeError when the mean is of another shape.
        """
        if self.mean is not None:
            if self.mean.shape != (channels, height, width):
                raise CaffeError(
                    f"mean_file {self.param.mean_file} is of shape {self.mean.shape}, the image of "
                    f"{(channels, height, width)}: the mean must have the shape of the images before cropping "
                    "(compute it from these images, or use mean_value)"
                )
            return self.mean
        if not len(self._values):
            return None
        if len(self._values) not in (1, channels):
            raise CaffeError(
                f"Specify either 1 mean_value or as many as channels: {channels}; {len(self._values)} are given"
            )
        mean = np.broadcast_to(self._values, channels)[:, np.newaxis, np.newaxis]
        return np.broadcast_to(mean, (channels, height, width))


def read_mean(path) -> np.ndarray:
    """The mean image in the ``.binaryproto`` file ``path``, float32, C x H x W.

    Raises CaffeError when it cannot be read, or has other than three axes, ones in front not counted.
    """
    logger.info("Loading mean file from: %s", path)
    mean = read_blob(path)
    while mean.ndim > 3 and mean.shape[0] == 1:
        mean = mean[0]
    if mean.ndim != 3:
        raise CaffeError(f"{path}: a mean image is of shape (1, C, H, W), this blob is of {mean.shape}")
    return mean


def _span(start: int, length: int) -> slice:
    return slice(start, start + length)
