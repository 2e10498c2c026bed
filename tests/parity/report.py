"""Compare the two engines and print a table: what was compared, the worst error, and where.

python tests/parity/report.py                   layers, solvers, files, every directory's nets, training
python tests/parity/report.py voc-fcn8s ...     the nets of these model directories alone

A net of full width takes half a minute and 8 GB.

Errors are relative: the largest difference over the largest value of the same array in the
original (of the loss, at each iteration; of predictions, the share of pixels that differ). Exit
status 1 when one is above its bound. Needs `make bvlc`.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import cases
import compare
import data_jobs
import refusals
import runs

ARRAYS, CURVE, PIXELS = 1e-4, 1e-3, 1e-3  # the bounds


def main(names: list[str]) -> int:
    """Run the comparisons asked for, printing rows as they come."""
    if not compare.original_built():
        print("the original is not built: make bvlc", file=sys.stderr)
        return 1
    print("| compared | cases | worst error | bound | where |\n|---|---:|---:|---:|---|", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        held = [row(*each) for each in comparisons(names, Path(folder))]
    return 0 if all(held) else 1


def comparisons(names: list[str], folder: Path):
    """Yields (title, rows, bound)."""
    if not names:
        types: dict[str, list] = {}
        for result in compare.both(cases.layer_jobs(), folder / "layers"):
            types.setdefault(result[0].partition("/")[0], []).append(result)
        for kind, results in types.items():
            yield kind, results, ARRAYS
        yield "data layers", compare.both(data_jobs.jobs(folder), folder / "data"), 0
        refused = [*refusals.jobs(), *data_jobs.refused(folder)]
        yield "refusals in the same words", compare.refusals(refused, folder / "refusals"), 0
        yield "solvers, 50 iterations", compare.both(runs.solver_jobs(), folder / "solvers"), ARRAYS
        yield "snapshots, both ways", compare.files(folder / "files"), ARRAYS
    for name in names or runs.model_directories():
        kinds: dict[str, list] = {}
        for job in runs.net_jobs([name]):
            with tempfile.TemporaryDirectory(dir=folder) as one:
                for title, error, where in compare.net(job, Path(one)):
                    kinds.setdefault(title.partition(", ")[2], []).append((title, error, where))
        for kind, results in kinds.items():
            yield f"nets of {name}: {kind}", results, ARRAYS
    if not names:
        for dropout in (0, 0.5):
            curve, pixels = compare.training(
                compare.ROOT / "mini-fcn8s", folder / f"training {dropout}", dropout
            )
            yield curve[0], [curve], CURVE
            yield pixels[0], [pixels], PIXELS


def row(title: str, results: list[tuple[str, float, str]], bound: float) -> bool:
    """Print one row; True when it holds its bound."""
    name, error, where = max(results, key=lambda result: result[1])
    place = where if name == title else f"{name}: {where}"
    print(f"| {title} | {len(results)} | {error:.1e} | {bound:g} | {place} |", flush=True)
    return error <= bound


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
