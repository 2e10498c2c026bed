"""Weight files: ``.caffemodel`` (a binary NetParameter), read and written straight from packed floats.

A file's content says what it is: binary, HDF5 (see ``hdf5_model.py``), or text with ``blobs``.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from google.protobuf.message import DecodeError

from .blob import INT_MAX, Blob
from .errors import CaffeError
from .hdf5_model import HDF5Model
from .log import logger
from .message_file import HDF5_SIGNATURE, is_text, parse_binary, read_head, read_text
from .proto import caffe_pb2
from .wire import (
    BYTES,
    VARINT,
    BlobCopy,
    BlobWriter,
    Reader,
    StoredBlob,
    put_field,
    replacing,
    sized,
    write_message,
)

_LAYER, _V1_LAYERS = 100, 2  # fields of NetParameter
_BLOBS = 7  # field of LayerParameter
# (name, blobs) fields of each generation of layer message, and of V1's field with a V0 layer
_V2 = {"name": 1, "blobs": 7}
_V1 = {"name": 4, "blobs": 6, "layer": 1}
_V0 = {"name": 1, "blobs": 50}


@dataclass(slots=True)
class StoredLayer:
    """A layer in a weight file: its name and where its blobs are."""

    name: str = ""
    blobs: list[StoredBlob] = field(default_factory=list)


class Model(Reader):
    """An open weight file in protobuf form."""

    lists_shared = True  # a shared parameter stands in every layer that uses it

    def layers(self) -> list[StoredLayer]:
        """The layers, of any generation (V0, V1, current), in file order."""
        return read_layers(self)


def open_model(path) -> Model | HDF5Model:
    """Open a weight file for reading; CaffeError when it is missing, empty, or a net without weights."""
    head = read_head(path)
    if head.startswith(HDF5_SIGNATURE):
        return HDF5Model(path)
    if not head:
        problem = "the file is empty"
    elif not (is_text(head) and head.isascii()):
        return Model(path, "caffemodel")
    else:
        try:
            net = read_text(path, caffe_pb2.NetParameter())
        except CaffeError as error:
            raise CaffeError(
                f"{path}: not a readable caffemodel: it is text, and no net ({error}). If it was downloaded, look into "
                "it: servers send a page where a file is gone"
            ) from None
        if any(layer.blobs for layer in net.layer) or any(old.blobs or old.layer.blobs for old in net.layers):
            logger.info("%s is a caffemodel in text form; Caffe reads binary only here", path)
            return Model(path, "caffemodel in text form", net.SerializeToString())
        problem = (
            "this looks like text, a net without weights; weights are binary files (.caffemodel), nets are "
            "text (.prototxt)"
        )
    raise CaffeError(f"{path}: not a readable caffemodel: {problem}")


def is_model(path) -> bool:
    """Is ``path``, a net's file, a binary net with weights?"""
    if is_text(read_head(path)):
        return False
    with Model(path, "caffemodel") as reader:
        return any(layer.blobs for layer in reader.layers())


def read_layers(reader: Reader) -> list[StoredLayer]:
    """The layers of an open weight file, of any generation (V0, V1, current), in file order."""
    layers = []
    for number, wire_type, value, length in reader.fields(0, reader.size):
        if wire_type == BYTES and number == _LAYER:
            layers.append(_read_layer(reader, value, value + length, _V2))
        elif wire_type == BYTES and number == _V1_LAYERS:
            layers.append(_read_layer(reader, value, value + length, _V1))
    if not layers:
        raise reader.broken("it has no layers")
    return layers


def _read_layer(reader: Reader, start: int, end: int, numbers: dict[str, int]) -> StoredLayer:
    reader.part()
    layer = StoredLayer()
    for number, wire_type, value, length in reader.fields(start, end):
        if wire_type != BYTES:
            continue
        if number == numbers["name"]:
            layer.name = reader.text(value, length)
        elif number == numbers["blobs"]:
            layer.blobs.append(reader.blob(value, value + length))
        elif number == numbers.get("layer"):
            old = _read_layer(reader, value, value + length, _V0)
            layer.name, layer.blobs = old.name, layer.blobs + old.blobs
    return layer


def skeleton(reader: Reader) -> tuple[caffe_pb2.NetParameter, list[BlobCopy]]:
    """The net in an open binary file without its numbers, and its blobs, to be copied.

    In place of each blob stands an empty one whose ``num`` is its place in that list. Raises
    CaffeError when the file is no NetParameter.
    """
    blobs: list[BlobCopy] = []
    head = bytearray()
    generations = {_LAYER: _V2, _V1_LAYERS: _V1}
    position = 0
    for number, wire_type, value, length in reader.fields(0, reader.size):
        end = reader.file.tell() if wire_type == VARINT else value + length
        if wire_type == BYTES and number in generations:
            put_field(head, number, _without_blobs(reader, value, end, generations[number], blobs))
        else:
            head += reader.bytes(position, end - position)
        position = end
    net = caffe_pb2.NetParameter()
    try:
        parse_binary(bytes(head), net)
    except DecodeError as error:
        raise reader.broken(f"its fields do not parse as a NetParameter ({error})") from error
    if not net.ListFields():
        raise reader.broken("it has no field of a NetParameter")
    return net, blobs


def _without_blobs(reader: Reader, start: int, end: int, numbers, blobs: list) -> bytes:
    """The layer message in bytes ``start`` to ``end`` with placeholders for its blobs."""
    message = bytearray()
    position = start
    for number, wire_type, value, length in reader.fields(start, end):
        stop = reader.file.tell() if wire_type == VARINT else value + length
        if wire_type == BYTES and number == numbers["blobs"]:
            reader.part()
            put_field(message, number, caffe_pb2.BlobProto(num=len(blobs)).SerializeToString())
            blobs.append(BlobCopy(reader, value, length))
        elif wire_type == BYTES and number == numbers.get("layer"):
            put_field(message, number, _without_blobs(reader, value, stop, _V0, blobs))
        else:
            message += reader.bytes(position, stop - position)
        position = stop
    return bytes(message)


def save_skeleton(path, net: caffe_pb2.NetParameter, blobs: list[BlobCopy]) -> None:
    """Write ``net``, in current form, with ``blobs`` where the placeholders of :func:`skeleton` stand.

    They are copied byte by byte. The file at ``path`` appears whole or not at all.
    """
    head = caffe_pb2.NetParameter()
    head.CopyFrom(net)
    head.ClearField("layer")
    with replacing(path) as file:
        file.write(head.SerializeToString())
        for layer in net.layer:
            own = [blobs[placeholder.num] for placeholder in layer.blobs]
            layer.ClearField("blobs")
            write_message(file, _LAYER, layer.SerializeToString(), _BLOBS, own)


def shapes(path) -> dict[str, list[tuple[int, ...]]]:
    """What a weight file holds: layer name → shapes of its blobs, without reading the values.

    Legacy blobs show their four dimensions (num, channels, height, width). Layers without blobs
    are listed with an empty list. Raises CaffeError when the file is not a caffemodel.
    """
    with open_model(path) as reader:
        return {layer.name: [blob.shape for blob in layer.blobs if blob] for layer in reader.layers()}


def load(path) -> dict[str, list]:
    """The arrays of a weight file: layer name → list of float32 arrays, as stored.

    Raises CaffeError when the file is not a caffemodel.
    """
    arrays = {}
    with open_model(path) as reader:
        for layer in reader.layers():
            blobs = []
            for stored in filter(None, layer.blobs):
                blob = Blob()
                blob.reshape(*stored.shape)
                reader.fill(blob, stored)
                blobs.append(blob.data)
            arrays[layer.name] = blobs
    return arrays


def save(path, name: str, layers: Iterable[tuple[caffe_pb2.LayerParameter, list[Blob]]], diffs=False) -> None:
    """Write a NetParameter called ``name``: of ``layers`` each message (its own blobs are ignored) and blobs.

    ``diffs``: write the gradients too.

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
    """Write the SolverState ``state`` with ``history`` blobs (their data); the file appears whole or not at all."""
    with replacing(path) as file:
        file.write(state.SerializeToString())
        for blob in history:
            BlobWriter(blob.shape, blob.data).write(file, _STATE_HISTORY)


def load_state(path) -> tuple[caffe_pb2.SolverState, Reader, list[StoredBlob]]:
    """A SolverState without its history, the open file, and where the history blobs are in it.

    Raises CaffeError when the file is no SolverState, in binary or in text.
    """
    content = None
    head = read_head(path)
    if head and head.isascii() and is_text(head):
        content = read_text(path, caffe_pb2.SolverState()).SerializeToString()
    reader = Reader(path, "solverstate", content)
    try:
        small, history = bytearray(), []
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
            parse_binary(bytes(small), state)
        except DecodeError as error:
            raise reader.broken(f"its fields do not parse as a SolverState ({error})") from error
        if not state.HasField("iter"):
            raise reader.broken("it does not say the iteration, as a SolverState does")
        if state.iter < 0 or state.current_step < 0:
            raise reader.broken(
                f"iter {state.iter} and current_step {state.current_step} should be at least 0"
            )
    except BaseException:
        reader.file.close()
        raise
    return state, reader, history
