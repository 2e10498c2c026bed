"""Weight files: ``.caffemodel`` (binary NetParameter), read and written straight from packed floats."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from .blob import INT_MAX, Blob
from .errors import CaffeError
from .proto import caffe_pb2
from .wire import BYTES, VARINT, BlobWriter, Reader, StoredBlob, replacing, sized, write_message

_LAYER, _V1_LAYERS = 100, 2  # fields of NetParameter
_BLOBS = 7  # field of LayerParameter
# (name, type, blobs) fields of each generation of layer message
_V2 = {"name": 1, "type": 2, "blobs": 7}
_V1 = {"name": 4, "type": 5, "blobs": 6}
_V0 = {"name": 1, "type": 2, "blobs": 50}


@dataclass
class StoredLayer:
    """A layer in a weight file: its name and where its blobs are."""

    name: str = ""
    blobs: list[StoredBlob] = field(default_factory=list)


def open_model(path) -> Reader:
    """Open a weight file for reading; CaffeError when it is missing, HDF5 or text."""
    reader = Reader(path, "caffemodel")
    head = reader.bytes(0, 256)
    problem = None
    if head.startswith(b"\x89HDF"):
        problem = "this is an HDF5 file, which this engine does not read yet"
    elif not head:
        problem = "the file is empty"
    elif all(byte >= 0x20 or byte in b"\t\n\r" for byte in head) and head.isascii():
        problem = "this looks like text; weights are binary files (.caffemodel), nets are text (.prototxt)"
    if problem:
        error = reader.broken(problem)
        reader.file.close()
        raise error
    return reader


def read_layers(reader: Reader) -> list[StoredLayer]:
    """The layers of an open weight file, of any generation (V0, V1, current), in file order."""
    layers = []
    for number, wire_type, value, length in reader.fields(0, reader.size):
        if wire_type == BYTES and number == _LAYER:
            layers.append(_read_layer(reader, value, value + length, _V2))
        elif wire_type == BYTES and number == _V1_LAYERS:
            layers.append(_read_layer(reader, value, value + length, _V1))
    return layers


def _read_layer(reader: Reader, start: int, end: int, numbers: dict[str, int]) -> StoredLayer:
    layer = StoredLayer()
    for number, wire_type, value, length in reader.fields(start, end):
        if wire_type != BYTES:
            continue
        if number == numbers["name"]:
            layer.name = reader.text(value, length)
        elif number == numbers["blobs"]:
            layer.blobs.append(reader.blob(value, value + length))
        elif numbers is _V1 and number == 1:  # V1 message around a V0 layer
            old = _read_layer(reader, value, value + length, _V0)
            layer.name, layer.blobs = old.name, layer.blobs + old.blobs
    return layer


def shapes(path) -> dict[str, list[tuple[int, ...]]]:
    """What a weight file holds: layer name → shapes of its blobs, without reading the values.

    Legacy blobs show their four dimensions (num, channels, height, width). Layers without blobs
    are listed with an empty list. Raises CaffeError when the file is not a caffemodel.
    """
    with open_model(path) as reader:
        return {layer.name: [blob.shape for blob in layer.blobs] for layer in read_layers(reader)}


def load(path) -> dict[str, list]:
    """The arrays of a weight file: layer name → list of float32 arrays, as stored.

    Raises CaffeError when the file is not a caffemodel.
    """
    arrays = {}
    with open_model(path) as reader:
        for layer in read_layers(reader):
            blobs = []
            for stored in layer.blobs:
                blob = Blob()
                blob.reshape(*stored.shape)
                reader.read_floats(stored.data, blob.overwrite())
                blobs.append(blob.data)
            arrays[layer.name] = blobs
    return arrays


def save(path, name: str, layers: Iterable[tuple[caffe_pb2.LayerParameter, list[Blob]]], diffs=False) -> None:
    """Write a NetParameter: each layer's message (its own blobs are ignored) and its blobs.

    The file appears whole or not at all. Raises CaffeError above protobuf's limit of 2 GiB and
    when the file cannot be written.
    """
    head = caffe_pb2.NetParameter(name=name).SerializeToString()
    messages = []
    for layer_param, blobs in layers:
        bare = caffe_pb2.LayerParameter()
        bare.CopyFrom(layer_param)
        bare.ClearField("blobs")
        writers = [BlobWriter(blob.shape, blob.data, blob.diff if diffs else None) for blob in blobs]
        messages.append((bare.SerializeToString(), writers))
    total = len(head) + sum(len(bare) + sized(_BLOBS, writers) + 16 for bare, writers in messages)
    if total > INT_MAX:
        raise CaffeError(
            f"cannot write {path}: {total} bytes of weights, and a caffemodel holds at most {INT_MAX} (protobuf)"
        )
    with replacing(path) as file:
        file.write(head)
        for bare, writers in messages:
            write_message(file, _LAYER, bare, _BLOBS, writers)


_STATE_HISTORY = 3


def save_state(path, state: caffe_pb2.SolverState, history: list[Blob]) -> None:
    """Write a SolverState with ``history`` blobs (their data); the file appears whole or not at all."""
    with replacing(path) as file:
        file.write(state.SerializeToString())
        for blob in history:
            BlobWriter(blob.shape, blob.data).write(file, _STATE_HISTORY)


def load_state(path) -> tuple[caffe_pb2.SolverState, Reader, list[StoredBlob]]:
    """A SolverState without its history, the open file, and where the history blobs are in it."""
    reader = Reader(path, "solverstate")
    try:
        small, history = b"", []
        position = 0
        for number, wire_type, value, length in reader.fields(0, reader.size):
            end = reader.file.tell() if wire_type == VARINT else value + length
            if number == _STATE_HISTORY and wire_type == BYTES:
                history.append(reader.blob(value, value + length))
            else:
                small += reader.bytes(position, end - position)
            position = end
        state = caffe_pb2.SolverState()
        try:
            state.ParseFromString(small)
        except Exception as error:
            raise reader.broken("its fields do not parse as a SolverState") from error
    except BaseException:
        reader.file.close()
        raise
    return state, reader, history
