"""Text files read with errors that say what to do, and files that are written whole or not at all."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

# To be held while Python reads a literal, as the header of a .npy file is one: in 3.11 its parser counts its depth
# for all threads together, and now and then two at once end in "SystemError: AST constructor recursion depth mismatch"
LITERALS = threading.Lock()


class DataError(RuntimeError):
    """Data that cannot be used. The text is complete for a user: file, finding, rule and fix.

    Scripts print it alone and exit with status 1.
    """


@contextmanager
def replacing(path: str | os.PathLike) -> Iterator[Path]:
    """A path beside ``path``, of the same suffix, to write to; it takes the name when the block ends well.

    Missing folders are made. If the block fails, nothing is left and an old file stays as it was.
    Raises DataError when the folder cannot be written.
    """
    path = Path(path)
    temporary = path.with_name(f".{path.stem}.{os.getpid()}{path.suffix}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield temporary
        os.replace(temporary, path)
    except OSError as error:
        raise DataError(f"cannot write {path}: {error.strerror or error}") from error
    finally:
        temporary.unlink(missing_ok=True)


def write(path: str | os.PathLike, content: bytes) -> None:
    """Write a file, whole or not at all; see :func:`replacing`."""
    with replacing(path) as temporary:
        temporary.write_bytes(content)


def exit_status(job: Callable[[], int | None]) -> int:
    """Run ``job``, what a script does that can be run again; returns the script's exit status.

    That is what ``job`` returns (None: 0); 1 after an error, which is told in one message; 130 after Ctrl-C.
    """
    try:
        return job() or 0
    except (DataError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
    except KeyboardInterrupt:
        print("\nstopped; run the same command again to go on from here", file=sys.stderr)
        return 130
    return 1


def read_lines(path: str | os.PathLike, what: str, fix: str = "") -> list[str]:
    """The lines of a text file, without blanks and empty lines; :class:`DataError` if it has none."""
    try:
        lines = Path(path).read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        reason = "does not exist" if isinstance(error, FileNotFoundError) else f"cannot be read ({error})"
        raise DataError(f"{what} {path} {reason}. {fix}".rstrip()) from None
    lines = [line.strip() for line in lines if line.strip()]
    if not lines:
        raise DataError(f"{what} {path} is empty. {fix}".rstrip())
    return lines
