"""Arrays that the original made, small enough to be committed, and the command that makes them again.

python tests/parity/goldens.py     after `make bvlc`: writes tests/parity/goldens/*.npz
"""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path

import cases
import compare
import numpy as np
import runs

FOLDER = Path(__file__).resolve().parent / "goldens"
SETS = ("layers", "solvers")


def jobs_of(name: str) -> list[dict]:
    """The jobs of a set: every layer case, or every solver run."""
    return cases.layer_jobs() if name == "layers" else runs.solver_jobs()


def kept(job: dict, arrays: Mapping) -> dict:
    """What is worth keeping of a job's arrays: not what the engine was given."""
    if job["kind"] == "solver":
        return {name: arrays[name] for name in arrays if name == "losses" or name.endswith(" after 50")}
    given = {f"{name} data" for name in job["inputs"]}
    # a blob changed in place is no longer what was given
    changed = {f"{name} data" for name in job["inputs"] if f'top: "{name}"' in job["net"]}
    given -= changed
    weights = set() if job["filled"] else {name for name in arrays if name.endswith("] data")}
    return {name: arrays[name] for name in arrays if name not in given | weights}


def load(name: str) -> dict[str, dict]:
    """Job name -> array name -> array, of one set."""
    goldens: dict[str, dict] = {}
    with np.load(FOLDER / f"{name}.npz") as file:
        for key in file:
            job, _, array = key.partition("|")
            goldens.setdefault(job, {})[array] = file[key]
    return goldens


def make(name: str) -> Path:
    """Have the original run the jobs of a set, and write what it made."""
    jobs = jobs_of(name)
    with tempfile.TemporaryDirectory() as folder:
        arrays = {}
        for job, result in zip(jobs, compare.run_original(jobs, Path(folder)), strict=True):
            if isinstance(result, str):
                raise SystemExit(f"the original refuses {job['name']}: {result}")
            arrays |= {f"{job['name']}|{key}": value for key, value in kept(job, result).items()}
    FOLDER.mkdir(exist_ok=True)
    target = FOLDER / f"{name}.npz"
    making = target.with_suffix(".part")
    with open(making, "wb") as file:
        np.savez_compressed(file, **arrays)
    os.replace(making, target)
    return target


if __name__ == "__main__":
    if not compare.original_built():
        sys.exit("the original is not built: make bvlc")
    for each in SETS:
        path = make(each)
        print(f"wrote {os.path.relpath(path)}: {path.stat().st_size / 1000:.0f} kB")
