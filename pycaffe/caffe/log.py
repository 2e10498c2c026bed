"""Log lines in glog's form, as Caffe prints them: ``I1122 19:03:20.123456  4242 net.py:31] text``.

They go to stderr. ``GLOG_minloglevel`` in the environment (0 info, 1 warning, 2 error, 3 fatal)
sets the lowest level shown, when the package is imported; :func:`init_log` changes it later.
:func:`log_to_folder` writes them into a file too.
"""

from __future__ import annotations

import getpass
import logging
import os
import platform
import sys
import threading
import time
from pathlib import Path

from .errors import CaffeError

_LEVELS = [logging.INFO, logging.WARNING, logging.ERROR, logging.CRITICAL]
_LETTERS = {
    logging.DEBUG: "I",
    logging.INFO: "I",
    logging.WARNING: "W",
    logging.ERROR: "E",
    logging.CRITICAL: "F",
}

logger = logging.getLogger("caffe")


class _GlogFormatter(logging.Formatter):
    def format(self, record):
        clock = time.localtime(record.created)
        micro = int(record.created % 1 * 1e6)
        prefix = (
            f"{_LETTERS.get(record.levelno, 'I')}{time.strftime('%m%d %H:%M:%S', clock)}.{micro:06d} "
            f"{threading.get_native_id():5d} {record.filename}:{record.lineno}] "
        )
        return prefix + record.getMessage()


class _StderrHandler(logging.StreamHandler):
    """Writes to whatever ``sys.stderr`` is at that moment (notebooks and tests replace it)."""

    def __init__(self):
        logging.Handler.__init__(self)

    @property
    def stream(self):
        return sys.stderr


def init_log(level: int = 0, to_stderr: bool = True) -> None:
    """Set the lowest ``level`` shown: 0 info, 1 warning, 2 error, 3 fatal (glog's numbers).

    ``to_stderr`` false silences the engine's own handler; records still reach the Python
    logger named ``caffe``.
    """
    logger.setLevel(_LEVELS[min(max(int(level), 0), 3)])
    logger.handlers = [_StderrHandler()] if to_stderr else [logging.NullHandler()]
    for handler in logger.handlers:
        handler.setFormatter(_GlogFormatter())


def log_to_folder(folder) -> Path:
    """Write all lines from now on into a new file in ``folder`` too, named as glog names it; returns its path.

    Raises CaffeError when the folder is missing or not writable.
    """
    try:
        user = getpass.getuser()
    except (KeyError, OSError):  # a user id without a name, as in containers
        user = "unknown"
    clock = time.strftime("%Y%m%d-%H%M%S")
    path = Path(folder) / f"caffe.{platform.node()}.{user}.log.INFO.{clock}.{os.getpid()}"
    try:
        handler = logging.FileHandler(path)
    except OSError as error:
        raise CaffeError(f"Could not create logging file {path}: {error.strerror}") from error
    handler.setFormatter(_GlogFormatter())
    logger.addHandler(handler)
    return path


def log(message: str) -> None:
    """Write the line ``message`` at level info."""
    logger.info(str(message), stacklevel=2)


logger.propagate = False
try:
    init_log(int(os.environ.get("GLOG_minloglevel", "0")))
except ValueError:
    init_log(0)
