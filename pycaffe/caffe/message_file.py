"""Reading nets and solvers: text or binary protobuf messages, told apart by their content."""

from __future__ import annotations

import difflib
import os
import re

from google.protobuf import text_format
from google.protobuf.message import DecodeError

from .blob import INT_MAX
from .errors import CaffeError
from .log import logger
from .proto import caffe_pb2

HDF5_SIGNATURE = b"\x89HDF\r\n\x1a\n"
_CONTROL = bytes(set(range(32)) - set(b"\t\n\v\f\r")) + b"\x7f"


def read_head(path) -> bytes:
    """The first bytes of the file ``path``, up to 4096; CaffeError when it cannot be opened."""
    path = os.fsdecode(os.fspath(path))
    try:
        with open(path, "rb") as file:
            return file.read(4096)
    except (OSError, ValueError) as error:
        raise CaffeError(f"Could not open file {path}: {getattr(error, 'strerror', error)}") from error


def is_text(head: bytes) -> bool:
    """Could a file that begins with ``head`` be text? Binary messages have control characters."""
    return head == head.translate(None, _CONTROL)


def read_text(path, message):
    """Parse the file ``path`` into ``message`` (NetParameter, SolverParameter) and return it.

    The file is text (a prototxt), or the same message in binary, which is said at level INFO.
    Raises CaffeError when it is missing, larger than a message may be (2 GiB), or not a valid
    message; the error names the file, the line and, for an unknown field, the nearest field names.
    """
    path = os.fsdecode(os.fspath(path))
    head, kind = read_head(path), message.DESCRIPTOR.name
    if head.startswith(HDF5_SIGNATURE):
        raise CaffeError(
            f"Failed to parse {kind} file: {path}: it is an HDF5 file, which holds weights or a solver's state. "
            "A net or solver is a .prototxt; weights go to weights= or copy_from(), a state to restore()."
        )
    size = os.path.getsize(path)
    if size > INT_MAX:
        raise CaffeError(
            f"Failed to parse {kind} file: {path}: {size} bytes, and a message has at most {INT_MAX}."
        )
    if not is_text(head):
        return _read_binary(path, message)
    try:
        with open(path, encoding="utf-8-sig") as file:
            return text_format.ParseLines(file, message)
    except (text_format.ParseError, RecursionError, ValueError) as error:
        reason = _not_utf8(path) or _explain(str(error))
        raise CaffeError(f"Failed to parse {kind} file: {path}:{reason}") from error


def _read_binary(path: str, message):
    kind = message.DESCRIPTOR.name
    try:
        with open(path, "rb") as file:
            parse_binary(file.read(), message)
    except DecodeError as error:
        raise CaffeError(
            f"Failed to parse {kind} file: {path}: it is neither text nor a binary {kind}. "
            "A net or solver is a .prototxt; a .caffemodel goes to weights= or copy_from()."
        ) from error
    if not message.ListFields():
        raise CaffeError(f"Failed to parse {kind} file: {path}: it is binary and has no field of a {kind}.")
    logger.info("%s is a binary %s; Caffe reads text only here", path, kind)
    return message


def parse_binary(content: bytes, message) -> None:
    """Parse ``content`` into ``message``; DecodeError when it is none, or has a string that is not UTF-8."""
    message.ParseFromString(content)
    try:
        sound = _strings_are_text(message)
    except UnicodeDecodeError:
        sound = False
    if not sound:
        raise DecodeError("a string in it is not UTF-8")


def _strings_are_text(message) -> bool:
    """False when protobuf gives a string field, here or further in, as bytes."""
    for descriptor, value in message.ListFields():
        if descriptor.type == descriptor.TYPE_MESSAGE:
            inner = [value] if hasattr(value, "ListFields") else value
            if not all(map(_strings_are_text, inner)):
                return False
        elif descriptor.type == descriptor.TYPE_STRING:
            strings = [value] if isinstance(value, (str, bytes)) else value
            if not all(isinstance(string, str) for string in strings):
                return False
    return True


def _not_utf8(path: str) -> str:
    """Where the file stops being UTF-8, in the form of the parser's messages; empty if it does not."""
    with open(path, "rb") as file:
        for number, line in enumerate(file, 1):
            try:
                line.decode("utf-8")
            except UnicodeDecodeError as error:
                return (
                    f"{number}:{error.start + 1} : byte 0x{line[error.start]:02x} is not UTF-8. "
                    "Save the file as UTF-8 text, or remove the character."
                )
    return ""


def _explain(error: str) -> str:
    unknown = re.search(r'type "caffe\.(\w+)" has no field named "(\w+)"', error)
    message = getattr(caffe_pb2, unknown[1], None) if unknown else None
    if message is not None:
        near = difflib.get_close_matches(unknown[2], list(message.DESCRIPTOR.fields_by_name), 3, 0.5)
        if near:
            error += f" (did you mean {' or '.join(near)}?)"
    return error
