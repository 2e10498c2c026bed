"""One run at a time at one thing."""

from __future__ import annotations

import errno
import fcntl
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

UNSUPPORTED = {errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP, errno.EINVAL}


@contextmanager
def alone(path: Path, doing: str) -> Iterator[bool]:
    """Other runs that ask for ``path`` wait, and say for whom, until the block ends or this process dies.

    ``path`` is a lock file, made here and removed in the end. Yields whether others are really kept out: some
    network file systems have no locks. Raises OSError if the file cannot be made.
    """
    handle, held = _take(path, doing)
    try:
        if held:
            with suppress(OSError):  # the disk may be full; this is only for others to read
                os.ftruncate(handle, 0)
                os.pwrite(handle, f"process {os.getpid()} on {socket.gethostname()}".encode(), 0)
        yield held
    finally:
        if held:
            path.unlink(missing_ok=True)  # before it is let go, so that nobody else's is removed
        os.close(handle)


def _take(path: Path, doing: str) -> tuple[int, bool]:
    """A handle of the lock file, and whether it is locked."""
    while True:
        handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                owner = os.pread(handle, 200, 0).decode(errors="replace") or "another run"
                print(f"waiting for {owner}, which is {doing}", flush=True)
                fcntl.flock(handle, fcntl.LOCK_EX)
            # the one who had it has removed it: others now lock a new file of this name
            if os.path.exists(path) and os.path.samestat(os.fstat(handle), os.stat(path)):
                return handle, True
        except OSError as error:
            if error.errno in UNSUPPORTED:
                return handle, False
            if not isinstance(error, FileNotFoundError):
                os.close(handle)
                raise
        except BaseException:
            os.close(handle)
            raise
        os.close(handle)
