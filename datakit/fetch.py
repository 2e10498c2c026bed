"""Getting published files: from any of their mirrors, going on after any interruption, and checked before use."""

from __future__ import annotations

import os
import re
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pooch

from datakit import kinds
from datakit.archives import Archive, amount
from datakit.locks import alone
from datakit.part import Dropped, Part, Unusable
from files import DataError

TRIES = 4  # failures in a row, without getting further, before a mirror is given up
PAUSE = 0.5  # seconds before the second try; doubled for each after it
ELSEWHERE = "Make room, or choose another disk with --data-root or FCN_DATA"
LARGE = 200_000_000  # bytes from which it is told that a checksum is being made


def get(archive: Archive, folder: Path, by_hand: Path | None = None, room: int = 0) -> Path:
    """The archive, whole and checked: as ``folder/<its name>``, or where it lies in ``by_hand``.

    ``by_hand`` (``--from``): the file, or a folder that holds it, under its own name or any other if its size or
    checksum is known. It is used where it is, and nothing is downloaded then.

    Otherwise what is in ``folder`` already is checked and used; a file at fault there is renamed, never removed.
    What is missing is downloaded to ``<name>.part``, with the mirrors tried in turn, and takes its name once it
    is found right. After any interruption the next call goes on from there. Another run that wants the same file
    waits.

    ``room``: bytes that must be free besides its own, for what will be unpacked from it; 0 if nothing will be.

    Raises DataError that tells, for every mirror, what is wrong, and how to do it by hand; or that the disk is full.
    """
    path = folder / archive.name
    for url in archive.urls:
        if not url.lower().startswith(("http://", "https://")):
            raise DataError(f"the address {url!r} of {archive.name} must begin with http:// or https://")
    if by_hand is not None:
        found = _by_hand(archive, by_hand, path)
        _check_room(archive, folder, 0, room)
        return found
    if path.is_dir():
        raise DataError(f"{path} is a folder, and must become the file {archive.name}: move it away")
    with _writable(archive, folder, path) as locked:
        part = Part(path)
        if locked:
            _sweep(folder, part)
        if not _sound(archive, path):
            _check_room(archive, folder, max((archive.size or archive.at_least) - part.size, 0), room)
            _download(archive, part, path, room)
            return path
        if locked:
            part.discard()  # a run ended just after the file took its name
        _check_room(archive, folder, 0, room)
    return path


@contextmanager
def _writable(archive: Archive, folder: Path, path: Path) -> Iterator[bool]:
    """Keep ``folder`` for this run as far as ``path`` is concerned; yields whether others are kept out."""
    with ExitStack() as stack:
        try:
            folder.mkdir(parents=True, exist_ok=True)
            lock = alone(path.with_name(f"{path.name}.lock"), f"getting {archive.name}")
            held = stack.enter_context(lock)
        except OSError as error:
            if not path.is_file():
                raise DataError(f"cannot write to {folder}: {error.strerror}. {ELSEWHERE}") from None
            held = False  # what is there can still be used
        yield held


def _sweep(folder: Path, part: Part) -> None:
    """Remove what pooch left of runs that were killed: its copy of ``part``, and files that it had only just made."""
    if name := part.origin.get("given"):
        folder.joinpath(Path(name).name).unlink(missing_ok=True)
    for each in folder.iterdir():
        try:
            about = each.stat()
            # a run that is alive fills such a file at once
            if (
                re.fullmatch(r"tmp[a-z0-9_]{8}", each.name)
                and not about.st_size
                and time.time() - about.st_mtime > 60
            ):
                each.unlink()
        except OSError:
            continue  # somebody else's, and gone by now


def _sound(archive: Archive, path: Path) -> bool:
    """Whether ``path`` is there and right; it is moved aside if it is wrong."""
    if not path.exists():
        return False
    try:
        fault = _fault(archive, path)
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror or error}") from None
    if not fault:
        print(f"{archive.name}: there, and as it must be: {path}", flush=True)
        return True
    aside = path.with_name(f"{path.name}.bad")
    count = 1
    while aside.exists() or aside.is_symlink():
        count += 1
        aside = path.with_name(f"{path.name}.bad{count}")
    try:
        os.rename(path, aside)
    except OSError as error:
        raise DataError(
            f"{path} is not {archive.name}: {fault}; and it cannot be renamed: {error.strerror}"
        ) from None
    print(f"{path} is not {archive.name}: {fault}. It is called {aside.name} now", flush=True)
    return False


def _fault(archive: Archive, path: Path) -> str:
    if archive.digests and path.stat().st_size >= LARGE:
        print(f"{path.name}: making its checksum ...", flush=True)
    return archive.fault(path)


def _download(archive: Archive, part: Part, path: Path, room: int) -> None:
    """Get ``path`` from the first mirror that has it."""
    begun = part.origin.get("url")
    failed = []
    for url in sorted(archive.urls, key=lambda each: each != begun):  # what was begun goes on first
        try:
            _complete(archive, url, part, path, room)
        except Unusable as error:
            print(f"  {url}: {error}", flush=True)
            failed.append(f"  {url}: {error}")
            continue
        checked = "its checksum is right" if archive.digests else "no checksum of it is published"
        print(f"{archive.name}: whole, {amount(path.stat().st_size)}, {checked}: {path}", flush=True)
        return
    kept = f" {amount(part.size)} of it are here, and stay." if part.size else ""
    raise DataError(
        f"{archive.name} is not to be had now:\n"
        + "\n".join(failed or ["  there is no address for it"])
        + f"\nRun the same command again later.{kept} Or do it by hand: get {archive.by_hand()}; put it into a folder "
        "DIR, and run the same command with --from DIR"
    )


def _complete(archive: Archive, url: str, part: Part, path: Path, room: int) -> None:
    """Get ``path`` from ``url``: what may be wrong by how it came gets a second chance, from the start."""
    for _ in range(2):
        _persist(archive, url, part, lambda missing: _check_room(archive, part.path.parent, missing, room))
        if archive.digests and part.size >= LARGE:
            print(f"{archive.name}: making its checksum ...", flush=True)
        fault = _settle(archive, url, part, path)
        if not fault:
            return
        doubtful = part.doubtful
        part.discard()
        if not doubtful:
            break
        print(f"  {fault}; it came in pieces, so once more from the start", flush=True)
    raise Unusable(fault)


def _persist(archive: Archive, url: str, part: Part, room: Callable[[int], None]) -> None:
    """Load ``part`` until it is complete, again and again as long as it gets further."""
    failures, furthest = 0, part.size
    while True:
        try:
            part.load(archive, url, room)
            return
        except Dropped as error:
            failures = 1 if part.size > furthest else failures + 1
            furthest = max(furthest, part.size)
            if failures >= TRIES:
                raise Unusable(f"{error}, {failures} times") from None
            pause = PAUSE * 2 ** (failures - 1)
            print(f"  {error}; again in {pause:g} s ({failures} of {TRIES - 1})", flush=True)
            time.sleep(pause)


def _settle(archive: Archive, url: str, part: Part, path: Path) -> str:
    """Let pooch check the complete ``part`` and give it its name; returns what is wrong with it, or ""."""
    if wrong := archive.misfit(part.size, kinds.head_of(part.path)):
        return wrong
    pooch.get_logger().setLevel("WARNING")  # what it would say is said here

    def give(_url, temporary, _pooch):
        # A second name rather than a new one: if the process dies in the middle, the part is still there.
        part.note(given=Path(temporary).name)
        Path(temporary).unlink(missing_ok=True)
        try:
            os.link(part.path, temporary)
        except OSError:  # a file system without links
            shutil.copyfile(part.path, temporary)

    try:
        for known in archive.digests or (None,):
            try:
                pooch.retrieve(url, known, path.name, path.parent, downloader=give)
            except ValueError:  # another checksum
                continue
            part.discard()
            return ""
        return archive.fault(part.path)
    except OSError as error:
        raise DataError(f"cannot write {path}: {error.strerror or error}. {ELSEWHERE}") from None


def _check_room(archive: Archive, folder: Path, missing: int, room: int) -> None:
    """DataError unless the disk of ``folder`` has room for what is missing and for ``room`` bytes more."""
    there = next(each for each in (folder, *folder.parents) if each.exists())
    free = shutil.disk_usage(there).free
    if free < missing + room:
        raise DataError(
            f"the disk of {there} has {free / 1e9:.2f} GB free; {archive.name} needs {(missing + room) / 1e9:.2f} GB: "
            f"{amount(missing)} to download, {amount(room)} to unpack. {ELSEWHERE}"
        )


def _by_hand(archive: Archive, given: Path, path: Path) -> Path:
    """The archive in ``given``, a file or a folder; else ``path``, if it is whole."""
    if not given.exists():
        raise DataError(f"--from {given} does not exist")
    if not given.is_dir():
        fault = _fault(archive, given)
        if not (archive.size or archive.digests) and given.name != archive.name:
            fault = fault or "neither size nor checksum is known, so that it must have this name"
        if fault:
            raise DataError(
                f"--from {given} is not {archive.name}: {fault}. Give a folder that holds all archives, or get "
                f"{archive.by_hand()}"
            )
        print(f"{archive.name}: {given}, got by hand, is as it must be", flush=True)
        return given
    named = given / archive.name
    named_fault = _fault(archive, named) if named.is_file() else ""
    found = named if named.is_file() and not named_fault else _under_another_name(archive, given)
    if found is None and path.is_file() and not _fault(archive, path):
        found = path
    if found is None:
        what = (
            f"{named} is not {archive.name}: {named_fault}"
            if named_fault
            else f"{given} does not hold {archive.name}"
        )
        raise DataError(
            f"{what}. With --from nothing is downloaded; get {archive.by_hand()}, and put it there"
        )
    print(f"{archive.name}: {found}, got by hand, is as it must be", flush=True)
    return found


def _under_another_name(archive: Archive, folder: Path) -> Path | None:
    """The file in ``folder`` that is the archive by its size and checksum, as far as one of them is known."""
    if not (archive.size or archive.digests):
        return None
    for each in sorted(folder.iterdir()):
        try:
            if (
                each.is_file()
                and each.name != archive.name
                and not kinds.unlike(archive.name, kinds.head_of(each))
            ):
                if not archive.misfit(each.stat().st_size, b"") and not _fault(archive, each):
                    return each
        except OSError:
            continue
    return None
