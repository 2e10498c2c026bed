"""A file that is being downloaded: what is here of it, and going on from there over HTTP."""

from __future__ import annotations

import errno
import json
import os
import re
from collections.abc import Callable, Iterator
from http.client import HTTPException
from pathlib import Path
from typing import Any

import requests
import urllib3
from tqdm import tqdm

from datakit.archives import Archive, amount
from files import DataError

TIMEOUT = (10, 60)  # seconds to connect, and without a byte
BUSY = {408, 425, 429, 500, 502, 503, 504}  # statuses that may be over in a moment
PIECE = 1 << 14  # bytes; so many may be lost with a connection
FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


class Unusable(Exception):
    """What a server offers is not the file, or it offers nothing."""


class Dropped(Exception):
    """The connection was lost, or the server is busy: it may be asked again."""


class Part:
    """The bytes of ``path`` that are here so far, as ``<name>.part``, and beside it where they came from.

    The latter, a JSON file, is written before the first byte. Only one run may use it at a time. ``doubtful``: whether
    the bytes came by more than one response, or by one that did not tell where it ends.
    """

    def __init__(self, path: Path):
        self.path = path.with_name(f"{path.name}.part")
        self.about = path.with_name(f"{path.name}.part.json")
        self.doubtful = False

    @property
    def size(self) -> int:
        """Bytes that are here."""
        return self.path.stat().st_size if self.path.is_file() else 0

    @property
    def origin(self) -> dict[str, Any]:
        """Of the first response: its ``url``, ``validator`` (its ETag or date, or None), ``total`` (bytes, or None)."""
        try:
            origin = json.loads(self.about.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return {}
        return origin if isinstance(origin, dict) else {}

    def note(self, **more: Any) -> None:
        """Remember something beside what :attr:`origin` holds already."""
        new = self.about.with_suffix(".new")
        new.write_text(json.dumps({**self.origin, **more}), encoding="utf-8")
        os.replace(new, self.about)

    def discard(self) -> None:
        """Forget all."""
        for each in (self.path, self.about, self.about.with_suffix(".new")):
            each.unlink(missing_ok=True)
        self.doubtful = False

    def usable(self, url: str, checked: bool) -> int:
        """Bytes from which one can go on at ``url``.

        What came from elsewhere, or from a server that does not tell when its file changes, is good for it only
        if a checksum will tell in the end whether all fits together.
        """
        origin = self.origin
        return (
            self.size if origin and (checked or (origin.get("url") == url and origin.get("validator"))) else 0
        )

    def load(self, archive: Archive, url: str, room: Callable[[int], None]) -> None:
        """Get all that is missing of ``archive`` from ``url`` in one response.

        ``room`` is called with the bytes that are still to come, and may refuse. Raises Unusable, Dropped, and
        DataError where the bytes cannot be written.
        """
        origin, here = self.origin, self.usable(url, bool(archive.digests))
        if here and here == (origin.get("total") or archive.size):
            self.doubtful = True
            return
        headers = {"Accept-Encoding": "identity"}
        if here:
            headers["Range"] = f"bytes={here}-"
            if origin.get("url") == url and origin.get("validator"):
                headers["If-Range"] = origin["validator"]
        with _ask(url, headers) as response:
            start, total = _span(response)
            if response.status_code == 416 and here and total == here:
                self.doubtful = True
                return
            _check_status(response)
            if start is None:
                if here:
                    print("  the server begins at the start again", flush=True)
                here = 0
            elif start != here or not _continues(response, origin, url, total):
                self.discard()
                raise Dropped("what is here and what the server has now are not of one file")
            _check_offer(archive, response, total)
            room((total or archive.size or here) - here)
            how = f", going on at {amount(here)}" if here else ""
            print(
                f"{archive.name}: {amount(total) if total else 'of unknown size'} from {url}{how}", flush=True
            )
            try:
                if not here:
                    self.discard()
                    self.note(url=url, validator=_validator(response), total=total)
                self.doubtful = bool(here) or (total is None and not response.raw.chunked)
                self._append(archive, response, total)
            except OSError as error:
                raise _unwritable(self.path, error) from None

    def _append(self, archive: Archive, response: requests.Response, total: int | None) -> None:
        with (
            open(self.path, "ab") as file,
            tqdm(
                desc=archive.name,
                total=total or archive.size,
                initial=file.tell(),
                unit="B",
                unit_scale=True,
                leave=False,
                disable=None,
            ) as bar,
        ):
            for piece in _pieces(response):
                file.write(piece)
                bar.update(len(piece))
                if archive.size and file.tell() > archive.size:
                    break  # enough is seen: its size will be found wrong
            end = total or archive.size
            if end and file.tell() < end:
                raise Dropped(f"it ended after {amount(file.tell())} of {amount(end)}")
            file.flush()
            os.fsync(file.fileno())  # the whole file must not take its name before its bytes are on the disk


def _ask(url: str, headers: dict[str, str]) -> requests.Response:
    try:
        return requests.get(url, headers=headers, stream=True, timeout=TIMEOUT)
    except requests.Timeout:
        raise Dropped("it does not answer") from None
    except (requests.ConnectionError, requests.exceptions.ChunkedEncodingError) as error:
        raise Dropped(_plain(error)) from None
    except (requests.RequestException, UnicodeError) as error:
        raise Unusable(str(error)) from None


def _pieces(response: requests.Response) -> Iterator[bytes]:
    """The body as it is sent: a packed one stays packed, since it may be a packed file by itself."""
    try:
        yield from response.raw.stream(PIECE, decode_content=False)
    except (urllib3.exceptions.HTTPError, HTTPException, OSError) as error:
        raise Dropped(_plain(error)) from None


def _span(response: requests.Response) -> tuple[int | None, int | None]:
    """Where the body begins in the file, None if it is not said to be a part of it; and the file's size, if told."""
    if response.status_code in (206, 416):
        span = re.fullmatch(
            r"bytes (?:(\d+)-\d+|\*)/(\d+|\*)", response.headers.get("Content-Range", "").strip()
        )
        start, total = span.groups() if span else (None, None)
        if response.status_code == 206 and start is None:
            raise Unusable("its answer to a request for the rest is not valid")
        return (int(start) if start else None), (int(total) if total and total != "*" else None)
    length = response.headers.get("Content-Length", "")
    return None, int(length) if length.isdecimal() and not response.raw.chunked else None


def _check_status(response: requests.Response) -> None:
    status = f"HTTP {response.status_code} {response.reason}".rstrip()
    if response.status_code in BUSY | {416}:
        raise Dropped(status)
    if response.status_code not in (200, 206):
        raise Unusable(status)


def _continues(response: requests.Response, origin: dict[str, Any], url: str, total: int | None) -> bool:
    """Whether a partial answer is of the file that was begun; a server may have overlooked ``If-Range``."""
    if origin.get("total") and total and origin["total"] != total:
        return False
    now = _validator(response)
    return origin.get("url") != url or not now or now == origin.get("validator")


def _validator(response: requests.Response) -> str | None:
    """What ``If-Range`` may be asked with: a strong ETag, else the date."""
    etag = response.headers.get("ETag", "")
    return etag if etag and not etag.startswith("W/") else response.headers.get("Last-Modified")


def _check_offer(archive: Archive, response: requests.Response, total: int | None) -> None:
    """Refuse before it is downloaded what cannot be the file."""
    packing = response.headers.get("Content-Encoding", "identity").strip().lower()
    if packing not in ("", "identity") and not archive.name.endswith(("gz", "bz2", "xz")):
        raise Unusable(f"it comes packed ({packing}), though asked for as it is")
    if archive.misfit(total, b""):
        try:
            head = next(_pieces(response), b"")
        except Dropped:
            head = b""
        raise Unusable(archive.misfit(total, b"" if response.status_code == 206 else head))
    if total is None and not response.raw.chunked and archive.size is None and not archive.digests:
        raise Unusable(
            "it does not tell the size, and neither size nor checksum is known: a piece would pass for all"
        )


def _unwritable(path: Path, error: OSError) -> DataError:
    why = "the disk is full" if error.errno in FULL else error.strerror or str(error)
    size = amount(path.stat().st_size) if path.exists() else "nothing"
    return DataError(
        f"cannot write {path}: {why}. It has {size} so far, which stays. Make room, or choose another disk with "
        "--data-root or FCN_DATA, and run the same command again: it goes on from there"
    )


def _plain(error: BaseException) -> str:
    """Why a connection failed, without the library's own names: the system's words, from the bottom of the chain."""
    why = "the connection broke off"
    seen: BaseException | None = error
    while seen is not None:
        if isinstance(seen, TimeoutError) or type(seen).__name__.endswith("TimeoutError"):
            why = "it sends nothing more"
        elif isinstance(seen, OSError) and seen.strerror:
            why = seen.strerror
        seen = seen.__cause__ or seen.__context__
    return why
