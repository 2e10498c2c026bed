"""Reading and writing protobuf messages that hold gigabytes of floats, without parsing the floats.

A ``.caffemodel`` is one protobuf message whose bulk is packed float arrays. Google's parser turns
these into Python objects; here the message is walked field by field, and the floats are read
straight from the file into the memory where they are wanted. Everything else still goes through
the generated classes.
"""

from __future__ import annotations

import io
import math
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from .blob import INT_MAX, Blob
from .errors import FETCH_AGAIN, CaffeError

VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5

# A hostile file can claim a layer or a blob with every two or three bytes. No real one comes near these.
MAX_FIELDS, MAX_PARTS = 1 << 19, 1 << 15

# fields of BlobProto
_DATA, _DIFF, _SHAPE, _DOUBLE_DATA, _DOUBLE_DIFF = 5, 6, 7, 8, 9


@dataclass(slots=True)
class FloatRun:
    """Where floats lie in the file: ``count`` of ``dtype`` from byte ``offset``, ``stride`` bytes apart."""

    offset: int
    count: int
    dtype: str
    stride: int


@dataclass(slots=True)
class StoredBlob:
    """A BlobProto in a file: its shape, and where its values are.

    ``legacy`` blobs state num, channels, height, width instead of a shape.
    """

    shape: tuple[int, ...] = ()
    legacy: bool = False
    data: list[FloatRun] = field(default_factory=list)
    diff: list[FloatRun] = field(default_factory=list)

    @property
    def count(self) -> int:
        """Number of values stored."""
        return sum(run.count for run in self.data)

    def fits(self, shape: tuple[int, ...]) -> bool:
        """Does a net's blob of ``shape`` take this one? (legacy shapes compare right-aligned)"""
        if not self.legacy:
            return self.shape == tuple(shape)
        return len(shape) <= 4 and (1,) * (4 - len(shape)) + tuple(shape) == self.shape


class Reader:
    """A protobuf file under the cursor of a walk. Use as a context manager.

    ``path`` names the file, ``kind`` what it should be (for errors). ``content``, if given, is what
    stands in the file, and the file is not opened. Raises CaffeError when it cannot be opened.
    """

    def __init__(self, path, kind: str, content: bytes | None = None):
        self.path, self.kind = os.fsdecode(os.fspath(path)), kind
        self._jump = 0  # where the walk under way goes on, when a run of fields was taken whole
        self._fields = self._parts = 0  # met so far
        if content is not None:
            self.file, self.size = io.BytesIO(content), len(content)
            return
        try:
            self.file = open(self.path, "rb")
            self.size = os.fstat(self.file.fileno()).st_size
        except OSError as error:
            raise CaffeError(f"Could not open file {self.path}: {error.strerror}") from error

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        self.file.close()

    def broken(self, what: str) -> CaffeError:
        """The exception for a file that is no message of its kind."""
        place = f"byte {self.file.tell()} of {self.size}"
        return CaffeError(f"{self.path}: not a readable {self.kind}: {what} ({place}). {FETCH_AGAIN}")

    def _varint(self, end: int) -> int:
        value = shift = 0
        while True:
            byte = self.file.read(1)
            if not byte or self.file.tell() > end:
                raise self.broken("it ends in the middle of a number, so it is truncated")
            value |= (byte[0] & 0x7F) << shift
            if byte[0] < 0x80:
                return value & 0xFFFFFFFFFFFFFFFF
            shift += 7
            if shift > 63:
                raise self.broken("a number runs over 10 bytes")

    def fields(self, start: int, end: int) -> Iterator[tuple[int, int, int, int]]:
        """Walk the message in bytes ``start`` to ``end``: (field number, wire type, value, length).

        For VARINT the value is the number; otherwise it is the payload's offset.
        """
        position = start
        while position < end:
            self._fields += 1
            if self._fields > MAX_FIELDS:
                raise self.broken(f"it has more than {MAX_FIELDS} fields beside its numbers")
            self.file.seek(position)
            tag = self._varint(end)
            number, wire_type = tag >> 3, tag & 7
            if number == 0:
                raise self.broken("a field has number 0")
            if wire_type == VARINT:
                value, length = self._varint(end), 0
                position = self.file.tell()
            elif wire_type in (FIXED32, FIXED64):
                value, length = self.file.tell(), 4 if wire_type == FIXED32 else 8
                position = value + length
            elif wire_type == BYTES:
                length = self._varint(end)
                value = self.file.tell()
                position = value + length
            else:
                raise self.broken(f"a field has wire type {wire_type}")
            if position > end:
                raise self.broken(f"a field of {length} bytes runs past its end, so it is truncated")
            yield number, wire_type, value, length
            if position < self._jump <= end:
                position, self._jump = self._jump, 0

    def part(self) -> None:
        """Count a layer, a blob or a run of numbers; CaffeError when there are too many to be true."""
        self._parts += 1
        if self._parts > MAX_PARTS:
            raise self.broken(f"it has more than {MAX_PARTS} layers and blobs")

    def bytes(self, offset: int, length: int) -> bytes:
        """``length`` bytes from ``offset``."""
        self.file.seek(offset)
        return self.file.read(length)

    def pieces(self, offset: int, length: int) -> Iterator[bytes]:
        """The same ``length`` bytes from ``offset``, some megabytes at a time."""
        end = offset + length
        while offset < end:
            piece = self.bytes(offset, min(1 << 22, end - offset))
            if not piece:
                raise self.broken("it became shorter while it was read")
            yield piece
            offset += len(piece)

    def text(self, offset: int, length: int) -> str:
        """A string field's value, ``length`` bytes at ``offset``."""
        return self.bytes(offset, length).decode("utf-8", "replace")

    def blob(self, start: int, end: int) -> StoredBlob:
        """The BlobProto in bytes ``start`` to ``end``, its floats left where they are.

        Raises CaffeError when its shape is impossible or its values are not as many as that says.
        """
        self.part()
        blob = StoredBlob()
        legacy = [1, 1, 1, 1]
        dims: list[int] = []
        runs: dict[int, list[FloatRun]] = {_DATA: [], _DIFF: [], _DOUBLE_DATA: [], _DOUBLE_DIFF: []}
        for number, wire_type, value, length in self.fields(start, end):
            if number <= 4 and wire_type == VARINT:
                if not blob.legacy:
                    blob.legacy, legacy = True, [0, 0, 0, 0]
                legacy[number - 1] = _signed(value)
            elif number == _SHAPE and wire_type == BYTES:
                dims += self._dims(value, value + length)
            elif number in runs:
                self.part()
                item = 4 if number in (_DATA, _DIFF) else 8
                dtype = f"<f{item}"
                if wire_type == BYTES:
                    if length % item:
                        raise self.broken(f"packed floats of {length} bytes, not a multiple of {item}")
                    runs[number].append(FloatRun(value, length // item, dtype, item))
                elif wire_type == (FIXED32 if item == 4 else FIXED64):
                    count = self._unpacked(value, end, item)
                    runs[number].append(FloatRun(value, count, dtype, item + 1))
                    self._jump = value + count * (item + 1) - 1
                else:
                    raise self.broken(f"field {number} of a blob has wire type {wire_type}")
        blob.shape = tuple(legacy) if blob.legacy else tuple(dims)
        blob.data = runs[_DOUBLE_DATA] or runs[_DATA]
        blob.diff = runs[_DOUBLE_DIFF] or runs[_DIFF]
        if any(size < 0 for size in blob.shape) or math.prod(blob.shape) > INT_MAX:
            raise self.broken(f"a blob of shape {blob.shape}")
        if blob.count != math.prod(blob.shape):
            raise self.broken(
                f"a blob of shape {blob.shape} should hold {math.prod(blob.shape)} values, it holds {blob.count}"
            )
        gradients = sum(run.count for run in blob.diff)
        if gradients not in (0, blob.count):
            raise self.broken(f"a blob of shape {blob.shape} holds {blob.count} values but {gradients} diffs")
        return blob

    def _dims(self, start: int, end: int) -> list[int]:
        dims = []
        for number, wire_type, value, length in self.fields(start, end):
            if number != 1:
                continue
            if wire_type == VARINT:
                dims.append(_signed(value))
            elif wire_type == BYTES:
                self.file.seek(value)
                while self.file.tell() < value + length:
                    dims.append(_signed(self._varint(value + length)))
            if len(dims) > 32:
                raise self.broken("a blob with more than 32 axes")
        return dims

    def _unpacked(self, offset: int, end: int, item: int) -> int:
        """How many floats follow one another from ``offset``, each with its own one-byte tag."""
        tag = self.bytes(offset - 1, 1)[0]
        count, step, chunk = 1, item + 1, 1 << 16
        while True:
            at = offset + count * step - 1
            rows = min(chunk, (end - at) // step)
            if rows <= 0:
                return count
            tags = np.frombuffer(self.bytes(at, rows * step), np.uint8).reshape(rows, step)[:, 0]
            equal = tags == tag
            if not equal.all():
                return count + int(equal.argmin())
            count += rows

    def read_floats(self, runs: list[FloatRun], target: np.ndarray) -> bool:
        """Fill ``target`` (flat float32, contiguous) with the runs' values; True if all are finite."""
        filled, finite = 0, True
        for run in runs:
            part = target[filled : filled + run.count]
            filled += run.count
            if run.dtype == "<f4" and run.stride == 4:
                finite = self._read_packed(run.offset, part) and finite
            elif run.count:
                raw = self.bytes(run.offset, (run.count - 1) * run.stride + int(run.dtype[-1]))
                with np.errstate(over="ignore"):  # a double that float32 cannot hold becomes infinite
                    part[...] = np.ndarray(run.count, run.dtype, raw, strides=(run.stride,))
                finite = all_finite(part) and finite
        return finite

    def _read_packed(self, offset: int, target: np.ndarray) -> bool:
        self.file.seek(offset)
        finite = True
        for at in range(0, target.size, _CHUNK):  # a chunk is still in the cache when it is checked
            chunk = target[at : at + _CHUNK]
            if self.file.readinto(memoryview(chunk).cast("B")) != chunk.nbytes:
                raise self.broken("it became shorter while it was read")
            finite = finite and all_finite(chunk)
        return finite

    def fill(self, blob: Blob, stored: StoredBlob) -> bool:
        """Load a net's blob from ``stored``, of equal count; its diff too when the file has one.

        Returns whether all values are finite.
        """
        finite = self.read_floats(stored.data, blob.overwrite())
        if stored.diff:
            self.read_floats(stored.diff, blob.diff.reshape(-1))
        return finite


_CHUNK = 1 << 16  # 256 KiB


def all_finite(values: np.ndarray) -> bool:
    """True when the flat float32 array has neither NaN nor infinity, at the speed of reading it."""
    for at in range(0, values.size, _CHUNK):
        chunk = values[at : at + _CHUNK]
        with np.errstate(all="ignore"):  # the fastest pass over them; of huge numbers it overflows
            squares = np.dot(chunk, chunk)
        if not np.isfinite(squares) and not np.isfinite(chunk).all():
            return False
    return True


def _signed(value: int) -> int:
    return value - 2**64 if value >= 2**63 else value


# -- writing --------------------------------------------------------------------------------------


def _number(value: int) -> bytes:
    out = bytearray()
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def _header(number: int, length: int) -> bytes:
    return _number(number << 3 | BYTES) + _number(length)


def put_field(message: bytearray, number: int, payload: bytes) -> None:
    """Append field ``number`` (a string or a message, serialized: ``payload``) to a message under way."""
    message += _header(number, len(payload)) + payload


class BlobCopy:
    """A BlobProto to be written as it lies in an open file, ``length`` bytes from ``offset``."""

    def __init__(self, reader: Reader, offset: int, length: int):
        self._reader, self._offset, self.size = reader, offset, length

    def write(self, file: io.BufferedIOBase, number: int) -> None:
        """Write the blob to ``file`` as field ``number`` of the message under way."""
        file.write(_header(number, self.size))
        for piece in self._reader.pieces(self._offset, self.size):
            file.write(piece)


class BlobWriter:
    """A BlobProto to be written: shape and float data (and diff), sized before it is written."""

    def __init__(self, shape, data: np.ndarray, diff: np.ndarray | None = None):
        dims = b"".join(_number(size) for size in shape)
        dims = _header(1, len(dims)) + dims if dims else b""
        self._shape = _header(_SHAPE, len(dims)) + dims
        self._arrays = [(_DATA, data)] + ([(_DIFF, diff)] if diff is not None else [])
        self.size = len(self._shape) + sum(
            len(_header(number, array.nbytes)) + array.nbytes for number, array in self._arrays
        )

    def write(self, file: io.BufferedIOBase, number: int) -> None:
        """Write the blob to ``file`` as field ``number`` of the message under way."""
        file.write(_header(number, self.size))
        for array_number, array in self._arrays:
            file.write(_header(array_number, array.nbytes))
            file.write(memoryview(np.ascontiguousarray(array, "<f4")).cast("B"))
        file.write(self._shape)


def sized(number: int, blobs: list[BlobWriter | BlobCopy]) -> int:
    """Bytes that ``blobs`` take as field ``number``."""
    return sum(len(_header(number, blob.size)) + blob.size for blob in blobs)


def write_message(file, number: int, message: bytes, blob_number: int, blobs: list) -> None:
    """Write field ``number`` to ``file``: a message's serialized small fields, then its blobs as ``blob_number``."""
    file.write(_header(number, len(message) + sized(blob_number, blobs)))
    file.write(message)
    for blob in blobs:
        blob.write(file, blob_number)


@contextmanager
def replacing(path):
    """Open a temporary file beside ``path``; it takes the name when the block ends without an error.

    Raises CaffeError, naming the path, when the folder is missing, not writable or full.
    """
    path = Path(os.fsdecode(os.fspath(path)))
    temporary = None
    try:
        with tempfile.NamedTemporaryFile(
            dir=path.parent, prefix=f".{path.name}.", suffix=".part", delete=False
        ) as file:
            temporary = Path(file.name)
            yield file
        mask = os.umask(0)
        os.umask(mask)
        temporary.chmod(0o666 & ~mask)
        temporary.replace(path)
    except OSError as error:
        raise CaffeError(f"cannot write {path}: {error.strerror}. Nothing was changed.") from error
    finally:
        if temporary is not None:
            temporary.unlink(missing_ok=True)
