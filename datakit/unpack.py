"""Unpacking an archive that one does not trust: only what is asked for, only where it belongs, whole or not at all."""

from __future__ import annotations

import errno
import os
import re
import shutil
import unicodedata
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path, PurePosixPath

from tqdm import tqdm

from datakit.archives import amount
from datakit.locks import alone
from datakit.members import Member, members, reading
from files import DataError

MEMBERS = 500_000  # the largest of the data sets has some ten thousand
PIECE = 1 << 20
SCRATCH = ".unpacking-"
CLASHES = {errno.EEXIST, errno.ENOTDIR, errno.EISDIR, errno.ENAMETOOLONG, errno.EINVAL}


def unpack(
    path: Path,
    folder: Path,
    pick: Callable[[PurePosixPath], PurePosixPath | None],
    entries: Sequence[str],
    limit: int,
) -> bool:
    """Bring the files that ``pick`` picks from the archive ``path`` into ``folder``; returns whether it had to.

    ``pick(a member's name)`` gives the file's path relative to ``folder``, or None to pass over it; it is not asked
    about folders. ``entries``: the names that then lie in ``folder``, the first parts of these paths. If all are
    there, nothing is done; one that is there is left as it is. Each appears with all its content or not at all,
    since everything is written to a folder beside first; what a killed run left of that is removed.

    Files are made anew: modes, owners and dates are not taken over. ``limit``: bytes that may be written.

    Raises DataError, and leaves nothing, if any member has a name that leads elsewhere; if one that is picked is no
    plain file, is encrypted, or is listed twice; if there are too many members or bytes; if an entry gets no file;
    if the archive is damaged; or if the disk is full.
    """
    if not all((folder / entry).exists() for entry in entries) or any(folder.glob(f"{SCRATCH}*")):
        with _scratch(folder, path) as scratch:
            missing = [entry for entry in entries if not (folder / entry).exists()]
            if missing:  # else another run has just made them, or was killed just after that
                print(f"unpacking {path} into {folder}", flush=True)
                count, size = _extract(path, scratch, pick, entries, missing, limit)
                _move(path, scratch, folder, missing)
                print(f"{folder}: {', '.join(missing)} ({count} files, {amount(size)})", flush=True)
                return True
    print(f"{folder}: {', '.join(entries)} there already, not unpacked again", flush=True)
    return False


def _move(path: Path, scratch: Path, folder: Path, missing: Sequence[str]) -> None:
    """Move all that is missing to its place, once it is sure that all of it is here."""
    for entry in missing:
        if not (scratch / entry).exists():
            raise DataError(
                f"archive {path} has nothing for {folder / entry}: it is another one; get the right one"
            )
    for entry in missing:
        with _writing(folder / entry, path):
            os.replace(scratch / entry, folder / entry)


@contextmanager
def _scratch(folder: Path, path: Path) -> Iterator[Path]:
    """A folder for this run alone, on the disk of ``folder``, that is gone in the end."""
    mine = folder / f"{SCRATCH}{os.getpid()}"
    with ExitStack() as stack:
        with _writing(folder, path):
            folder.mkdir(parents=True, exist_ok=True)
            locked = stack.enter_context(alone(folder / f"{SCRATCH}lock", f"unpacking into {folder}"))
            for left in folder.glob(f"{SCRATCH}*[0-9]") if locked else ():
                shutil.rmtree(left)  # nobody else is here, so it is of a run that was killed
            mine.mkdir()
        try:
            yield mine
        finally:
            shutil.rmtree(mine, ignore_errors=True)


@contextmanager
def _writing(target: Path, path: Path) -> Iterator[None]:
    """Turn what goes wrong with writing ``target`` in the block into DataError."""
    try:
        yield
    except OSError as error:
        raise DataError(
            f"cannot unpack {path}: {target} cannot be written ({error.strerror or error}). Make room, or choose "
            "another disk with --data-root or FCN_DATA, and run the same command again"
        ) from None


def _extract(path: Path, scratch: Path, pick, entries, missing, limit: int) -> tuple[int, int]:
    """Write all picked files of which the first part is ``missing``; returns how many they are, and their bytes."""
    count, size, taken = 0, 0, set()
    with tqdm(
        desc=f"unpacking {path.name}",
        total=path.stat().st_size,
        unit="B",
        unit_scale=True,
        leave=False,
        disable=None,
    ) as bar:
        for number, member in enumerate(members(path)):
            if number >= MEMBERS:
                raise _refused(path, member, f"is one too many: an archive may have {MEMBERS} members")
            name = _checked(path, member)
            bar.update(max(member.read - bar.n, 0))
            target = None if member.what == "folder" else pick(name)
            if target is None:
                continue
            if (
                target.is_absolute()
                or ".." in target.parts
                or target.parts[:1] not in [(e,) for e in entries]
            ):
                raise ValueError(f"pick gives {target} for {name}, which is not below one of {entries}")
            if member.what != "file":
                raise _refused(path, member, f"is no plain file, but: {member.what}")
            key = _key(target)
            if key in taken:
                raise _refused(path, member, "is there twice, as some systems read names")
            taken.add(key)
            if target.parts[0] in missing:
                size += _write(path, member, scratch / target, limit - size)
                count += 1
    return count, size


def _write(path: Path, member: Member, target: Path, limit: int) -> int:
    """Write ``member`` to ``target``; returns its bytes, of which there may be ``limit``."""
    if member.size > limit:
        raise _refused(path, member, f"has {member.size} bytes, of which {limit} may be written")
    written = 0
    with _writing(target, path):
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            file = open(target, "xb")
        except OSError as error:
            if error.errno in CLASHES:
                raise _refused(path, member, f"cannot be made beside the others ({error.strerror})") from None
            raise
        with file:
            for piece in _content(path, member):
                written += len(piece)
                if written > limit:
                    raise _refused(
                        path, member, f"has more bytes than it says, and only {limit} may be written"
                    )
                file.write(piece)
    if written != member.size:
        raise _refused(path, member, f"has {written} bytes and not {member.size}, as it says")
    return written


def _content(path: Path, member: Member) -> Iterator[bytes]:
    with reading(path), member.open() as source:
        while piece := source.read(PIECE):
            yield piece


def _checked(path: Path, member: Member) -> PurePosixPath:
    """The member's name as a path, if it stays below the folder on every system; a backslash counts as a slash."""
    name = member.name.replace("\\", "/")
    parts = PurePosixPath(name).parts
    why = ""
    if "\0" in name:
        why = "has a NUL in its name"
    elif name.startswith("/") or any(re.match(r"[A-Za-z]:", part) for part in parts):
        why = "has an absolute path"
    elif any(not part.strip(" .") for part in parts):  # Windows takes ".. " for ".."
        why = "leads out of its folder"
    elif not parts and member.what != "folder":
        why = "has no name"
    if why:
        raise _refused(path, member, why)
    return PurePosixPath(name)


def _key(target: PurePosixPath) -> str:
    """What two names share that are one on some system: small and capital letters, dots and blanks at the end."""
    return "/".join(unicodedata.normalize("NFC", part).casefold().rstrip(" .") for part in target.parts)


def _refused(path: Path, member: Member, why: str) -> DataError:
    return DataError(
        f"archive {path}: member {member.name!r} {why}. Nothing of it was kept; get the archive from its publisher"
    )
