"""Run the same jobs on both engines, each in a process of its own, and measure how far they differ.

The measure of one array: the largest absolute difference divided by the largest absolute value of
the original's array (0 when both are all zero; infinite when shapes or non-finite places differ).
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import numpy as np

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
ORIGINAL = ROOT / "build" / "bvlc"


def original_built() -> bool:
    """True when `make bvlc` has made the original."""
    return (ORIGINAL / "key").is_file()


def run_ours(jobs: list[dict], folder: Path, **settings) -> list[Mapping | str]:
    """The jobs on this project's engine; see ``run_jobs``."""
    return run_jobs(sys.executable, {"PYTHONPATH": f"{ROOT / 'pycaffe'}:{ROOT}"}, jobs, folder, **settings)


def run_original(jobs: list[dict], folder: Path, **settings) -> list[Mapping | str]:
    """The jobs on the original; see ``run_jobs``."""
    python = ORIGINAL / "venv/bin/python"
    return run_jobs(str(python), {"PYTHONPATH": f"{ORIGINAL / 'python'}:{ROOT}"}, jobs, folder, **settings)


def run_jobs(python: str, env: dict, jobs: list[dict], folder: Path, timeout: float = 1800) -> list[Mapping | str]:
    """For each job its arrays by name, or, where the process died in it, its last words."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "jobs.json").write_text(json.dumps(jobs))
    results: dict[int, Mapping | str] = {}
    command = [python, str(HERE / "worker.py"), str(folder / "jobs.json"), str(folder)]
    while True:
        done = subprocess.run(
            command, env={**os.environ, **env}, capture_output=True, text=True, timeout=timeout, cwd=folder
        )
        if not (folder / "started").exists():
            raise RuntimeError(f"the worker could not start: {_last_words(done.stderr)}")
        missing = [i for i in range(len(jobs)) if not (folder / f"{i}.npz").exists()]
        if not missing:
            break
        if done.returncode == 0:
            raise RuntimeError(f"the worker ended without a result for {jobs[missing[0]]['name']}")
        results[missing[0]] = _last_words(done.stderr)
        with open(folder / f"{missing[0]}.npz", "wb") as file:
            np.savez(file)
    for i in range(len(jobs)):
        if i not in results:
            results[i] = np.load(folder / f"{i}.npz")  # read array by array, when asked
    return [results[i] for i in range(len(jobs))]


def _last_words(stderr: str) -> str:
    lines = [line for line in stderr.splitlines() if line.strip() and not line.startswith(("    @", "***"))]
    return " | ".join(lines[-2:])


def error(ours: np.ndarray, original: np.ndarray) -> float:
    """The measure of one array (see the module)."""
    if ours.shape != original.shape:
        return float("inf")
    if ours.size == 0:
        return 0.0
    finite = np.isfinite(original)
    if not np.array_equal(finite, np.isfinite(ours)):
        return float("inf")
    if not np.array_equal(ours[~finite], original[~finite], equal_nan=True):
        return float("inf")
    difference = np.abs(ours.astype(np.float64) - original)[finite].max(initial=0)
    largest = np.abs(original[finite].astype(np.float64)).max(initial=0)
    if difference == 0:
        return 0.0
    return float(difference / largest) if largest else float("inf")


def worst(ours, original) -> tuple[float, str]:
    """The worst error of a job, and the array it is in (or what one engine said instead of a result)."""
    if isinstance(ours, str) or isinstance(original, str):
        if isinstance(ours, str) and isinstance(original, str):
            return 0.0, f"both refuse: {original}"
        who, said = ("ours", ours) if isinstance(ours, str) else ("the original", original)
        return float("inf"), f"{who} refuses: {said}"
    if set(ours) != set(original):
        return float("inf"), f"only one engine has {sorted(set(ours) ^ set(original))}"
    return max(((error(ours[name], original[name]), name) for name in original), default=(0.0, ""))
