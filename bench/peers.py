"""The peers' environment, build/peers: what bench/peers.txt lists, beside the PyTorch and NumPy of this one.

    python bench/peers.py

It is made anew only when the list or the interpreter changed; an interrupted set-up starts over. What cannot be
installed is told, and tried again next time; the others do without it.
"""

from __future__ import annotations

import hashlib
import shlex
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

HERE = Path(__file__).resolve().parent
HOME = HERE.parent / "build/peers"
LIST = HERE / "peers.txt"


def python(home: Path = HOME) -> Path:
    """The interpreter of the environment."""
    return home / "bin/python"


def packages(home: Path = HOME) -> Path:
    """Where its packages lie."""
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    return home / "lib" / version / "site-packages"


def wanted(path: Path = LIST) -> list[list[str]]:
    """What pip is given, a list of arguments for each line of the list."""
    lines = path.read_text(encoding="utf-8").splitlines()
    return [words for line in lines if (words := shlex.split(line, comments=True))]


def make(home: Path = HOME, path: Path = LIST, say=print) -> dict[str, str]:
    """Make the environment, or finish it; returns what is not there: package → why."""
    ours = Path(sysconfig.get_path("purelib"))
    key = hashlib.sha256(f"{path.read_text(encoding='utf-8')}{sys.version}{ours}".encode()).hexdigest()
    marker = home / ".installed"  # the key, then the lines that are in
    there = marker.read_text(encoding="utf-8").splitlines() if marker.is_file() else []
    if not there or there[0] != key:
        say(f"Setting up the peers in {home.name}/ ...")
        shutil.rmtree(home, ignore_errors=True)
        subprocess.run([sys.executable, "-m", "venv", str(home)], check=True)
        (packages(home) / "ours.pth").write_text(f"{ours}\n")  # the same PyTorch and NumPy for all
        there = [key]
    missing = {}
    for words in wanted(path):
        line = shlex.join(words)
        if line in there:
            continue
        install = ["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--retries", "1", *words]
        done = subprocess.run([str(python(home)), *install], capture_output=True, text=True)
        if done.returncode:
            errors = [each for each in done.stderr.splitlines() if each.startswith("ERROR")]
            name = words[-1].partition("==")[0]
            missing[name] = (errors or done.stderr.splitlines() or ["pip failed"])[-1]
            say(f"warning: {line} cannot be installed: {missing[name]}")
        else:
            there.append(line)
        marker.write_text("\n".join(there), encoding="utf-8")
    return missing


if __name__ == "__main__":
    sys.exit(1 if make() else print(f"{HOME.name}: ready"))
