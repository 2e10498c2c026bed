"""Databases of images, and their mean: the tools convert_imageset and compute_image_mean."""

from __future__ import annotations

import logging
import os

import numpy as np
from tqdm import tqdm

from . import draws
from .database import new_database, open_database
from .datum import datum_planes, make_datum, parse_datum
from .errors import CaffeError
from .image_file import decode_image, encode_image, read_image
from .layer_types.batches import about, in_folder, read_list
from .log import logger
from .proto import caffe_pb2
from .wire import replacing


def convert_imageset(
    root,
    list_file,
    database,
    *,
    backend: str = "lmdb",
    gray: bool = False,
    shuffle: bool = False,
    resize_width: int = 0,
    resize_height: int = 0,
    encoded: bool = False,
    encode_type: str = "",
    check_size: bool = False,
) -> int:
    """Write the images of a list, each with its label, into a new database; returns their number.

    A line of ``list_file`` is a path, put after the folder ``root``, a space, and an integer label.
    The database is the folder ``database``, of the kind ``backend`` ("lmdb" or "leveldb"); its keys
    are the image's number in the list with 8 digits, _, and its path; its values are Datums. It
    appears when all is written, and only then.

    ``gray`` stores one channel instead of B, G, R. ``shuffle`` shuffles the list first, by this
    thread's generator. ``resize_width`` and ``resize_height``, both positive, are the size to
    resize to, as OpenCV would. ``encoded`` stores image files instead of pixels: those that are
    there, where they are of the right type, size and channels; ``encode_type`` ("jpg", "png", ...)
    says which type and implies ``encoded``; without it each image keeps its own. ``check_size``
    refuses images of different sizes.

    Raises CaffeError, naming file and line, for a list or image that cannot be read, a missing
    label, images of different sizes, and a database that exists.
    """
    root, list_file = os.fspath(root), os.fspath(list_file)
    lines = read_list(list_file)
    if shuffle:
        logger.info("Shuffling data")
        draws.shuffle(lines, draws.draw_seed)
    logger.info("A total of %d images.", len(lines))
    if encode_type and not encoded:
        logger.info("encode_type specified, assuming encoded=true.")
    size = (max(0, resize_height), max(0, resize_width))
    first_shape = None
    with new_database(database, backend) as put:
        for number, (line, name, label) in enumerate(_progress(lines, "image")):
            path = in_folder(root, name)
            with about(f"{list_file}, line {line}: Could not load {name}"):
                image = read_image(path, not gray, *size)
                first_shape = first_shape or image.shape
                if check_size and image.shape != first_shape:
                    raise CaffeError(
                        f"Incorrect data field size {image.size}: the image is {image.shape}, the first was "
                        f"{first_shape} (height, width, channels)"
                    )
                if encoded or encode_type:
                    datum = caffe_pb2.Datum(label=label, encoded=True)
                    datum.data = _file(path, image, encode_type or _own_type(name), resized=all(size))
                    datum.height, datum.width, datum.channels = image.shape
                else:
                    datum = make_datum(image.transpose(2, 0, 1), label)
            put(f"{number:08d}_{name}".encode("utf-8", "surrogateescape"), datum.SerializeToString())
    logger.info("Processed %d files.", len(lines))
    return len(lines)


def _own_type(name: str) -> str:
    extension = os.path.splitext(name)[1]
    if not extension:
        raise CaffeError(f"Failed to guess the encoding of '{name}': say encode_type")
    return extension[1:].lower()


def _file(path: str, image: np.ndarray, kind: str, resized: bool) -> bytes:
    """A file of the type ``kind`` that holds ``image``: the one at ``path``, if it will do."""
    own = os.path.splitext(path)[1][1:].lower()
    if not resized and kind.lower() in (own, "jpg" if own == "jpeg" else own):
        with open(path, "rb") as file:
            data = file.read()
        if decode_image(data).shape == image.shape:
            return data
    return encode_image(image, kind)


def compute_image_mean(database, output=None, *, backend: str = "lmdb") -> np.ndarray:
    """The mean of the images in a database: float32, C x H x W; also logs the mean of each channel.

    ``database`` is a folder, of the kind ``backend`` ("lmdb" or "leveldb"). With ``output`` the mean is
    also written to that ``.binaryproto`` file, as 1 x C x H x W, whole or not at all. Raises
    CaffeError, naming database and key, when a value is no Datum or images differ in size.
    """
    source = open_database(database, backend)
    total, count = None, 0
    for key, value in _progress(source.pairs(), "image", source.entries):
        with about(f"database {source.source}, key {key.decode('utf-8', 'replace')!r}"):
            planes = datum_planes(parse_datum(value))
            if total is None:
                total = np.zeros(planes.shape)
            elif planes.shape != total.shape:
                raise CaffeError(
                    f"Incorrect data field size {planes.size}: the image is {planes.shape}, the first was "
                    f"{total.shape} (channels, height, width); a mean needs images of one size"
                )
        total += planes
        count += 1
    mean = (total / count).astype(np.float32)
    logger.info("Processed %d files.", count)
    if output is not None:
        logger.info("Write to %s", output)
        proto = caffe_pb2.BlobProto(num=1)
        proto.channels, proto.height, proto.width = mean.shape
        proto.data.extend(mean.ravel().tolist())
        with replacing(output) as file:
            file.write(proto.SerializeToString())
    logger.info("Number of channels: %d", len(mean))
    for channel, value in enumerate(mean.mean(axis=(1, 2), dtype=np.float64)):
        logger.info("mean_value channel [%d]: %g", channel, value)
    return mean


def _progress(items, unit: str, total: int | None = None):
    """``items`` with a progress bar, on a terminal that shows log lines."""
    quiet = not logger.isEnabledFor(logging.INFO) or None
    return tqdm(items, total=total, unit=unit, disable=quiet)
