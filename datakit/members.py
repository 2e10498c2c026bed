"""What is in an archive, member by member, read once from front to back; the format is told by the content."""

from __future__ import annotations

import bz2
import gzip
import lzma
import stat
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from datakit import kinds
from files import DataError

RATIO = 200  # a compressed tar may have so many times its own size: images and .mat files have 1 to 20
HEADERS = 1 << 20  # bytes that may lie between two members: long names are at most some kB
BUFFER = 1 << 18
UNPACKED = {"gzip": gzip.open, "bzip2": bz2.open, "xz": lzma.open}
# what the libraries raise at content that is cut off or not what it should be
DAMAGE = (
    *(tarfile.TarError, zipfile.BadZipFile, zlib.error, lzma.LZMAError, struct.error),
    *(EOFError, OSError, NotImplementedError, ValueError, LookupError, ArithmeticError),
)


@dataclass
class Member:
    """Something in an archive: its ``name`` as it is written there, ``what`` it is ("file", "folder", or what else),
    its ``size`` in bytes as the archive has it, and how far into the archive one is after it (``read``, bytes)."""

    name: str
    what: str
    size: int
    read: int
    _archive: tarfile.TarFile | zipfile.ZipFile
    _entry: tarfile.TarInfo | zipfile.ZipInfo

    def open(self) -> IO[bytes]:
        """Its content; only before the next member is asked for."""
        if isinstance(self._archive, zipfile.ZipFile):
            return self._archive.open(self._entry)
        return self._archive.extractfile(self._entry)


@contextmanager
def reading(path: Path) -> Iterator[None]:
    """Turn whatever goes wrong with the content of the archive ``path`` in the block into DataError."""
    try:
        yield
    except DAMAGE as error:
        raise damaged(path, str(error) or type(error).__name__) from None


def damaged(path: Path, why: str) -> DataError:
    """The error of an archive that cannot be read to its end."""
    return DataError(f"archive {path} is damaged or cut off ({why}): remove it and get it again")


def members(path: Path) -> Iterator[Member]:
    """The members of the archive ``path``: a tar, plain or packed by gzip, bzip2 or xz, or a zip.

    Raises DataError if it is none of these, damaged, cut off, or swells out of all proportion.
    """
    with reading(path):
        found = kinds.kind(kinds.head_of(path))
        if found == "zip":
            yield from _of_zip(path)
        elif found in kinds.ARCHIVES:
            yield from _of_tar(path, found)
        else:
            raise DataError(
                f"{path} is no archive (tar, tar.gz, tar.bz2, tar.xz or zip): remove it and get it again"
            )


def _of_zip(path: Path) -> Iterator[Member]:
    with zipfile.ZipFile(path) as archive:
        read = 0
        for entry in archive.infolist():
            read += entry.compress_size
            mode = stat.S_IFMT(entry.external_attr >> 16)  # 0 from systems that have no modes
            name = entry.orig_filename  # filename ends at a NUL
            what = "folder" if name.endswith(("/", "\\")) else "file"
            if mode not in (0, stat.S_IFREG, stat.S_IFDIR):
                what = "link" if mode == stat.S_IFLNK else "device or pipe"
            elif entry.flag_bits & 1 and what == "file":
                what = "encrypted file"
            yield Member(name, what, entry.file_size, read, archive, entry)


def _of_tar(path: Path, packing: str) -> Iterator[Member]:
    with open(path, "rb") as raw:
        unpacked = UNPACKED[packing](raw) if packing in UNPACKED else raw
        most = path.stat().st_size * (1 if packing == "tar" else RATIO) + (1 << 26)
        stream = _Guarded(path, unpacked, most)
        with tarfile.open(
            fileobj=stream, mode="r|", bufsize=BUFFER, tarinfo=_Entry, errors="surrogateescape"
        ) as archive:
            while entry := archive.next():
                archive.members.clear()  # they are not needed twice
                stream.until = entry.offset_data + entry.size + HEADERS + 2 * BUFFER
                yield Member(entry.name, _what(entry), entry.size, raw.tell(), archive, entry)
        stream.until = most
        while stream.read(BUFFER):  # the checksum of the packing comes last
            pass


def _what(entry: tarfile.TarInfo) -> str:
    if entry.isdir():
        return "folder"
    if entry.issym() or entry.islnk():
        return "link"
    if entry.isreg() and not entry.issparse():
        return "file"
    return "device or pipe" if entry.isdev() else "sparse or unknown kind of file"


class _Entry(tarfile.TarInfo):
    """A member's header. tarfile takes any nonsense but at the start for the end; here only the mark of the end is."""

    @classmethod
    def fromtarfile(cls, archive):
        try:
            return super().fromtarfile(archive)
        except tarfile.EOFHeaderError:
            raise
        except tarfile.HeaderError as error:
            raise tarfile.ReadError(str(error)) from None


class _Guarded:
    """The content of a tar, which must not swell: not above ``most`` bytes in all, nor, for now, above ``until``.

    The latter keeps tarfile, which reads headers of any size into memory, from those without measure.
    """

    def __init__(self, path: Path, stream: IO[bytes], most: int):
        self.path, self.stream, self.most = path, stream, most
        self.position, self.until = 0, HEADERS + 2 * BUFFER

    def read(self, size: int) -> bytes:
        piece = self.stream.read(size)
        self.position += len(piece)
        if self.position > min(self.until, self.most):
            raise DataError(
                f"archive {self.path} swells out of all proportion ({self.position} bytes from "
                f"{self.path.stat().st_size}), as if made to fill memory or disk: get it from its publisher"
            )
        return piece
