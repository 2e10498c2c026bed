"""Records of runs: what was measured, by what command, on what machine; JSON files, ``results/<name>/<target>.json``.

A record is a dict with the keys of ``KEYS``:

target       what was reproduced: table2, figure5, ...
data         real, or toy (synthetic scenes)
recipe       paper, heavy, or null
weights      released (the authors' files were scored), trained (those in the model directories), or null
rows         a dict for each net and seed, with the keys of ``ROW``; see :func:`row`
conclusions  a dict for each, with the keys of ``CONCLUSION``; see :func:`conclusion`
run          what may differ between two equal runs; see :func:`environment`
checksum     sha256 of the rest, so that an edited file is found out
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import platform
import re
import shlex
import subprocess
import sys
from collections.abc import Mapping, Sequence
from datetime import date
from importlib import metadata
from pathlib import Path

import caffe
import numpy as np

import files
import score_folders
from datakit.processes import cores
from files import DataError

ROOT = Path(__file__).resolve().parents[1]
KEYS = ("target", "data", "recipe", "weights", "rows", "conclusions", "run", "checksum")
ROW = ("name", "seed", "head", "directory", "command", "metrics", "facts", "times", "confusion")
CONCLUSION = ("text", "paper", "unit", "seeds")
RUN = ("command", "commit", "dirty", "versions", "seeds", "device", "machine", "date", "seconds")


def row(
    name: str,
    hist: np.ndarray | None = None,
    *,
    seed: int | None = None,
    head: str = "score",
    directory: str = "",
    command: str = "",
    facts: Mapping[str, float] | None = None,
    times: Mapping[str, float] | None = None,
) -> dict:
    """A row of a record: a net's scores, and what else is known of it.

    ``hist`` is the confusion matrix of ``head``, a row a true class; from it come the four metrics, by both conventions
    for absent classes (skip, zero). ``facts``: exact numbers, such as parameters. ``times``: what another run measures
    otherwise. The keys of both are those of the columns of :mod:`reproduction.paper`.
    """
    return {
        "name": name,
        "seed": seed,
        "head": head,
        "directory": directory,
        "command": command,
        "metrics": {} if hist is None else _metrics(hist),
        "facts": _plain(facts or {}),
        "times": _plain(times or {}),
        "confusion": None if hist is None else np.asarray(hist).tolist(),
    }


def conclusion(
    text: str,
    seeds: Mapping[int, tuple[Mapping[str, float], bool]],
    *,
    paper: str = "",
    unit: str = "%",
    timed: bool = False,
) -> dict:
    """A conclusion of the paper, with its numbers and whether it holds, on each seed.

    ``seeds``: seed → (what is compared → its value, whether it holds). ``paper`` says it in the paper's numbers.
    With the unit % values are fractions. ``timed``: the values are times, or follow from them.
    """
    values = "times" if timed else "values"
    found = [
        {"seed": seed, values: _plain(each), "holds": bool(holds)} for seed, (each, holds) in seeds.items()
    ]
    return {"text": text, "paper": paper, "unit": unit, "seeds": found}


def make(
    target: str,
    data: str,
    rows: Sequence[dict],
    run: dict,
    *,
    recipe: str | None = None,
    weights: str | None = None,
    conclusions: Sequence[dict] = (),
) -> dict:
    """A record; ``run`` is what :func:`environment` returns."""
    values = (target, data, recipe, weights, list(rows), list(conclusions), run)
    record = dict(zip(KEYS[:-1], values, strict=True))
    return record | {"checksum": _checksum(record)}


def environment(device: str = "cpu", seeds: Sequence[int] = (), seconds: float | None = None) -> dict:
    """What a run was made with: command line, commit, versions, seeds, device, machine, date, and ``seconds``.

    ``commit``: of the working tree now. ``device`` is cpu, or cuda and a number. The machine is named by its
    processors; names of hosts and people are not recorded. ``seconds``: of this command up to the record; what runs
    took that were stopped before is not in it.
    """
    commit, dirty = _commit()
    return {
        "command": _command(),
        "commit": commit,
        "dirty": dirty,
        "versions": {
            "python": platform.python_version(),
            "torch": _version("torch"),
            "numpy": np.__version__,
            "caffe": getattr(caffe, "__version__", None),
        },
        "seeds": list(seeds),
        "device": device,
        "machine": machine(device),
        "date": date.today().isoformat(),
        "seconds": None if seconds is None else round(seconds, 1),
    }


def machine(device: str = "cpu") -> str:
    """The name of the machine: its GPU where ``device`` is cuda, the model of its processor, and its cores."""
    names = [f"{cpu_model()}, {cores()} cores"]
    if device.startswith("cuda"):
        import torch

        names.insert(0, torch.cuda.get_device_name(device))
    return "; ".join(names)


def cpu_model() -> str:
    """The model of the processor, as Linux names it; elsewhere what Python knows."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    models = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return models[0] if models else platform.processor() or platform.machine()


def write(folder: str | os.PathLike, record: dict) -> Path:
    """Write ``record`` to ``folder``/<target>.json, whole or not at all; returns the path."""
    path = Path(folder) / f"{record['target']}.json"
    content = {key: record.get(key) for key in KEYS} | {"checksum": _checksum(record)}
    text = json.dumps(content, indent=1, ensure_ascii=False, allow_nan=False)
    # a row of a matrix, and any other list of numbers, in one line
    text = re.sub(r"\[\n\s*([-+.\deE,\s]+?)\n\s*\]", lambda found: f"[{' '.join(found[1].split())}]", text)
    files.write(path, f"{text}\n".encode())
    return path


def read(path: str | os.PathLike) -> dict:
    """The record in the file ``path``.

    Raises DataError that names the file and the field: where one lacks or is of another kind, where metrics are not
    those of the confusion matrix beside them, and where anything was changed after the file had been written.
    """
    try:
        record = json.loads(Path(path).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DataError(
            f"record {path} cannot be read: {error}. Run the command that makes it again"
        ) from None
    _keys(path, "it", record, KEYS)
    if record["checksum"] != _checksum(record):
        raise _fault(path, "checksum", "does not fit the rest, which was changed after it had been written")
    for field in ("rows", "conclusions"):
        if not isinstance(record[field], list):
            raise _fault(path, field, f"is {record[field]!r}; it must be a list")
    if record["data"] not in ("real", "toy"):
        raise _fault(path, "data", f"is {record['data']!r}; it must be real or toy")
    _keys(path, "run", record["run"], RUN)
    for i, each in enumerate(record["rows"]):
        _keys(path, f"rows[{i}]", each, ROW)
        _check_row(path, f"rows[{i}] ({each['name']})", each)
    for i, each in enumerate(record["conclusions"]):
        _keys(path, f"conclusions[{i}]", each, CONCLUSION)
    return record


def differences(a: Mapping, b: Mapping) -> list[str]:
    """The fields in which two records differ, such as "rows[0].seed: 1, 2"; times and the part "run" aside.

    An empty list says that the two runs gave the same.
    """
    return list(_differ({**a, "checksum": None}, {**b, "checksum": None}, ""))


def _differ(a, b, where: str):
    if isinstance(a, Mapping) and isinstance(b, Mapping):
        # whether a conclusion about times holds is a matter of time, too
        timed = {"run", "times"} | ({"holds"} if "times" in a and "holds" in a else set())
        for key in sorted({*a, *b} - timed):
            yield from _differ(a.get(key), b.get(key), f"{where}.{key}" if where else key)
    elif isinstance(a, list) and isinstance(b, list) and len(a) == len(b):
        for i, pair in enumerate(zip(a, b, strict=True)):
            yield from _differ(*pair, f"{where}[{i}]")
    elif a != b:
        yield f"{where}: {a}, {b}"


def _plain(values: Mapping) -> dict:
    """Numbers as JSON has them, whatever NumPy made of them."""
    return {key: np.asarray(value).item() for key, value in values.items()}


def _metrics(hist) -> dict:
    return score_folders.record(np.asarray(hist, np.int64), ())["metrics"]


def _check_row(path, where: str, row: dict) -> None:
    """Whether the metrics of a row are those of its matrix."""
    for part in ("metrics", "facts", "times"):
        _keys(path, f"{where}.{part}", row[part], ("skip", "zero") if part == "metrics" and row[part] else ())
    matrix = row["confusion"]
    if matrix is None and row["metrics"]:
        raise _fault(path, f"{where}.metrics", "have no confusion matrix beside them")
    if matrix is None:
        return
    if not row["metrics"]:
        raise _fault(path, f"{where}.metrics", "are missing beside a confusion matrix")
    lines = matrix if isinstance(matrix, list) else []
    square = lines and all(isinstance(line, list) and len(line) == len(lines) for line in lines)
    if not square or not all(type(value) is int and value >= 0 for line in lines for value in line):
        raise _fault(path, f"{where}.confusion", "is no square matrix of numbers of pixels")
    for absent, wanted in _metrics(matrix).items():
        for name, value in wanted.items():
            found = row["metrics"][absent].get(name)
            if not _equal(found, value):
                field = f"{where}.metrics.{absent}.{name}"
                raise _fault(path, field, f"is {found}, but the confusion matrix gives {value}")


def _equal(a, b) -> bool:
    numbers = all(isinstance(each, (int, float)) for each in (a, b))
    return math.isclose(a, b, rel_tol=1e-9) if numbers else a is b


def _keys(path, where: str, value, keys: Sequence[str]) -> None:
    if not isinstance(value, dict):
        raise _fault(path, where, f"is {value!r:.60}; it must be an object {', '.join(keys)}".rstrip())
    if missing := [key for key in keys if key not in value]:
        raise _fault(path, where, f"lacks {missing[0]}")


def _fault(path, field: str, what: str) -> DataError:
    return DataError(f"record {path}: {field} {what}. A record is never edited: run its command again")


def _checksum(record: Mapping) -> str:
    rest = {key: record.get(key) for key in KEYS if key != "checksum"}
    return hashlib.sha256(json.dumps(rest, sort_keys=True).encode()).hexdigest()


def _command() -> str:
    """The command line as it was typed, with the script's path from the project's folder."""
    script, *words = sys.argv
    if Path(script).is_relative_to(ROOT):
        script = os.path.relpath(script, ROOT)
    return shlex.join(["python", script, *words])


def _commit() -> tuple[str | None, bool | None]:
    """The commit of the working tree, and whether files that it has were changed, results aside.

    (None, None) without git.
    """

    def git(*words) -> str:
        command = ["git", "-C", str(ROOT), *words]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()

    try:
        if Path(git("rev-parse", "--show-toplevel")).resolve() != ROOT:
            return None, None  # unpacked inside of another repository
        # what other records of the same run change is no change of the code
        changed = git("status", "--porcelain", "--untracked-files=no", "--", ".", ":!results")
        return git("rev-parse", "HEAD"), bool(changed)
    except (OSError, subprocess.CalledProcessError):
        return None, None


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None
