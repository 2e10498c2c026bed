"""Run a stage's script: ``python -m reproduction.child PARENT SCRIPT ...`` or ``... PARENT -m MODULE ...``.

It ends when the process PARENT does, even where that is killed; and never are two at work in one directory.
"""

from __future__ import annotations

import os
import runpy
import sys
import threading
import time
from pathlib import Path


def follow(parent: int) -> None:
    """End this process at once when ``parent`` is no longer its parent."""
    while os.getppid() == parent:
        time.sleep(0.2)
    os._exit(1)


def main() -> None:
    """Read the command line, and become what it names."""
    parent, *command = sys.argv[1:]
    threading.Thread(target=follow, args=(int(parent),), daemon=True).start()
    from datakit import locks

    with locks.alone(Path(".running"), "training here"):
        if command[0] == "-m":
            sys.argv = command[1:]
            runpy.run_module(command[1], run_name="__main__", alter_sys=True)
        else:
            sys.argv = command
            runpy.run_path(command[0], run_name="__main__")


if __name__ == "__main__":
    main()
