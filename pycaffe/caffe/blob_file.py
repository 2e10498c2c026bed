"""Files of one blob: ``.binaryproto``, the form of image means and of infogain matrices."""

from __future__ import annotations

import numpy as np

from .wire import Reader


def read_blob(path) -> np.ndarray:
    """The values of the BlobProto that ``path`` holds, a float32 array.

    Its shape is the stored ``shape``, or (num, channels, height, width) where the file states
    these old fields, as the means that Caffe's ``compute_image_mean`` writes do: (1, C, H, W).
    Doubles are rounded to float32. Raises CaffeError, naming the file, when it is missing, is no
    protobuf message, holds no values, or holds more or fewer than its shape says.
    """
    with Reader(path, "binaryproto (one BlobProto)") as reader:
        stored = reader.blob(0, reader.size)
        if not stored.count:
            raise reader.broken(f"a blob of shape {stored.shape} without values")
        values = np.empty(stored.shape, np.float32)
        reader.read_floats(stored.data, values.reshape(-1))
    return values
