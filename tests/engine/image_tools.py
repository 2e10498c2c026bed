"""Small images, image lists and means for the tests of the data layers."""

import importlib.util
import io

import numpy as np
import pytest
from caffe.proto import caffe_pb2
from PIL import Image

needs_leveldb = pytest.mark.skipif(
    importlib.util.find_spec("plyvel") is None,
    reason="LevelDB: plyvel is not installed (it has no wheel here)",
)
BACKENDS = ("lmdb", pytest.param("leveldb", marks=needs_leveldb))


def photo(height, width, seed=0):
    """A random image as the engine has it: uint8, H x W x 3, B, G, R."""
    return np.random.RandomState(seed).randint(0, 256, (height, width, 3)).astype(np.uint8)


def png(image):
    """The bytes of a PNG file of an image, H x W x 3 in B, G, R, or H x W x 1."""
    file = io.BytesIO()
    pixels = image[:, :, 0] if image.shape[2] == 1 else image[:, :, ::-1]
    Image.fromarray(np.ascontiguousarray(pixels)).save(file, "PNG")
    return file.getvalue()


def write_list(folder, images, labels=None, name="list.txt"):
    """PNG files 0.png, 1.png, ... and their list; returns the list's path."""
    labels = range(len(images)) if labels is None else labels
    for number, image in enumerate(images):
        (folder / f"{number}.png").write_bytes(png(image))
    path = folder / name
    path.write_text("".join(f"{number}.png {label}\n" for number, label in enumerate(labels)))
    return path


def write_mean(path, values):
    """A mean file as compute_image_mean writes it; returns its path."""
    channels, height, width = values.shape
    proto = caffe_pb2.BlobProto(
        num=1, channels=channels, height=height, width=width, data=values.ravel().tolist()
    )
    path.write_bytes(proto.SerializeToString())
    return path
