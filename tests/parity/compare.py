"""Run the same jobs on both engines, each in a process of its own, and measure how far they differ.

The measure of one array: the largest absolute difference divided by the largest absolute value of
the original's array. It is 0 when both are all zero, and infinite when the shapes differ, or a value
that is not finite or as large as the -FLT_MAX that pooling gives for an empty window.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import runs

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
ORIGINAL = ROOT / "build" / "bvlc"
HUGE = 1e38


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


def run_jobs(
    python: str, env: dict, jobs: list[dict], folder: Path, timeout: float = 1800
) -> list[Mapping | str]:
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
            arrays = np.load(folder / f"{i}.npz")  # read array by array, when asked
            results[i] = str(arrays["refused"]) if "refused" in arrays else arrays
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
    finite = np.abs(original) < HUGE
    if not np.array_equal(finite, np.abs(ours) < HUGE):
        return float("inf")
    if not np.array_equal(ours[~finite], original[~finite], equal_nan=True):
        return float("inf")
    difference = np.abs(ours.astype(np.float64) - original)[finite].max(initial=0)
    largest = np.abs(original[finite].astype(np.float64)).max(initial=0)
    if difference == 0:
        return 0.0
    return float(difference / largest) if largest else float("inf")


def worst(ours, original, ending: str = "") -> tuple[float, str]:
    """The worst error of a job and the array it is in; only arrays whose names end so, if given.

    Infinite, with the reason, when an engine refused the job or has other arrays.
    """
    for who, result in (("ours", ours), ("the original", original)):
        if isinstance(result, str):
            return float("inf"), f"{who} refuses: {result}"
    names = {name for name in original if name.endswith(ending) and not name.startswith("out: ")}
    if set(ours) != names:
        return float("inf"), f"only one engine has {sorted(set(ours) ^ names)}"
    return max(((error(ours[name], original[name]), name) for name in names), default=(0.0, ""))


def both(jobs: list[dict], folder: Path) -> list[tuple[str, float, str]]:
    """Name, worst error and its place for each job, run on both engines."""
    original = run_original(jobs, folder / "original")
    ours = run_ours(jobs, folder / "ours")
    return [(job["name"], *worst(*pair)) for job, *pair in zip(jobs, ours, original, strict=True)]


def refusals(jobs: list[dict], folder: Path) -> list[tuple[str, float, str]]:
    """For each job that must be refused 0 where both engines do so in its key words, else infinity."""
    rows = []
    said = zip(run_ours(jobs, folder / "ours"), run_original(jobs, folder / "original"), strict=True)
    for job, (ours, original) in zip(jobs, said, strict=True):
        wrong = [
            f"{who} says: {answer}" if isinstance(answer, str) else f"{who} accepts it"
            for who, answer in (("ours", ours), ("the original", original))
            if not isinstance(answer, str) or job["words"] not in answer
        ]
        rows.append((job["name"], float("inf") if wrong else 0.0, "; ".join(wrong)))
    return rows


def net(job: dict, folder: Path) -> list[tuple[str, float, str]]:
    """A net job twice: forward by itself, and layer by layer, both ways, on the original's blobs."""
    (original,) = run_original([job], folder / "original")
    along = {**job, "along": str(folder / "original" / "0.npz")}
    (alone,) = run_ours([{**job, "backward": False}], folder / "alone")
    rows = [(f"{job['name']}, forward", *worst(alone, original, " data"))]
    if not isinstance(original, str):
        (beside,) = run_ours([along], folder / "beside")
        rows.append((f"{job['name']}, each layer forward and backward", *worst(beside, original)))
    return rows


def files(folder: Path) -> list[tuple[str, float, str]]:
    """Every solver type: ten iterations in one engine, saved, ten more in the other; the whole as reference.

    With snapshots in either form, binary and HDF5.
    """
    whole = run_original(runs.resumable_jobs(20), folder / "whole")
    rows = []
    for form, ending in (("BINARYPROTO", ""), ("HDF5", ".h5")):
        for saver, first, second in (("ours", run_ours, run_original), ("original", run_original, run_ours)):
            stem = f"{folder}/{saver}_{{name}}"
            first(
                runs.resumable_jobs(10, snapshot=stem, snapshot_format=form), folder / f"{saver} saves {form}"
            )
            state = f"{stem}_iter_10.solverstate{ending}"
            resumed = second(runs.resumable_jobs(20, resume=state), folder / f"{saver} {form} is resumed")
            for job, end, reference in zip(runs.resumable_jobs(20), resumed, whole, strict=True):
                if not isinstance(reference, str):
                    reference = {name: reference[name] for name in reference if name.endswith(" after 20")}
                    end = end if isinstance(end, str) else {name: end[name] for name in reference}
                rows.append((f"{job['name']} from a {form} state of {saver}", *worst(end, reference)))
    return rows


def training(directory: Path, folder: Path, dropout: float) -> list[tuple[str, float, str]]:
    """A model directory's training on both: the loss curves, and the share of pixels predicted otherwise."""
    job = runs.training_job(directory, folder / "start.caffemodel", dropout)
    (original,), (ours,) = run_original([job], folder / "original"), run_ours([job], folder / "ours")
    for who, result in (("ours", ours), ("the original", original)):
        if isinstance(result, str):
            return [(job["name"], float("inf"), f"{who} refuses: {result}")]
    curve = np.abs(ours["losses"] - original["losses"]) / original["losses"]
    unlike = [(ours[name] != original[name]).mean() for name in original if name.startswith("prediction")]
    return [
        (f"{job['name']}: loss", float(curve.max()), f"iteration {curve.argmax()}"),
        (f"{job['name']}: pixels predicted otherwise", float(np.max(unlike)), f"image {np.argmax(unlike)}"),
    ]
