"""What a file is by its first bytes, whatever its name says."""

from __future__ import annotations

import codecs
import os
import tarfile
from pathlib import PurePath

HEAD = 1024  # bytes that are looked at
HDF5 = b"\x89HDF\r\n\x1a\n"
BEGINNINGS = (
    (b"\x1f\x8b", "gzip"),
    (b"BZh", "bzip2"),
    (b"\xfd7zXZ\0", "xz"),
    (b"PK\x03\x04", "zip"),
    (b"PK\x05\x06", "zip"),  # an empty one
    (HDF5, "HDF5"),
    (b"MATLAB ", "MATLAB"),  # also of 7.3, where HDF5 comes after 512 bytes
    (b"\x89PNG\r\n\x1a\n", "PNG"),
    (b"\xff\xd8\xff", "JPEG"),
)
ARCHIVES = ("tar", "gzip", "bzip2", "xz", "zip")
# A server may take off or put on the packing around a tar, so any archive passes for any other. Formats without a
# mark of their own, such as caffemodel (a protobuf), are not listed.
EXPECTED = {
    **dict.fromkeys((".tar", ".tgz", ".gz", ".bz2", ".xz", ".zip"), ARCHIVES),
    **dict.fromkeys((".mat",), ("HDF5", "MATLAB")),
    **dict.fromkeys((".h5", ".hdf5"), ("HDF5",)),
    ".png": ("PNG",),
    ".jpg": ("JPEG",),
}
TEXTS = {".txt", ".prototxt", ".json", ".md", ".csv"}


def head_of(path: str | os.PathLike) -> bytes:
    """The first bytes of a file, as many as the functions here look at."""
    with open(path, "rb") as file:
        return file.read(HEAD)


def kind(head: bytes) -> str:
    """What a file that begins with ``head`` is: one of ``BEGINNINGS``, "tar", or "" for none of these."""
    for beginning, name in BEGINNINGS:
        if head.startswith(beginning):
            return name
    if head[512:520] == HDF5:
        return "HDF5"
    try:
        tarfile.TarInfo.frombuf(head[:512], "utf-8", "surrogateescape")
        return "tar"
    except tarfile.HeaderError:
        return ""


def unlike(name: str, head: bytes) -> str:
    """What shows that a file that begins with ``head`` is not what its name says, in words; "" if nothing does."""
    suffix = PurePath(name).suffix.lower()
    found, expected = kind(head), EXPECTED.get(suffix, ())
    if found and (not expected or found in expected):
        return ""
    if _is_page(head) or (suffix not in TEXTS and _is_text(head)):
        return f"it is a page of text, not the file; it begins {head[:60].decode('utf-8', 'replace')!r}"
    if expected and not found:
        return f"it does not begin as a file of the kind {', '.join(expected)} does"
    return f"it is a {found} file, not one of the kind {', '.join(expected)}" if expected else ""


def _is_page(head: bytes) -> bool:
    return head.lstrip()[:20].lower().startswith((b"<!doctype", b"<html", b"<head", b"<?xml"))


def _is_text(head: bytes) -> bool:
    if any(byte < 32 and byte not in b"\t\n\r\f" for byte in head):
        return False
    try:
        codecs.getincrementaldecoder("utf-8")().decode(head)  # its end may cut a character in two
    except UnicodeDecodeError:
        return False
    return bool(head)
