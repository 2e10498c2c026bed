"""Our engine and what people would use instead, side by side in one run: time, memory, and how far results differ.

    make bench                                        (CPU; the original only if built: make bvlc)
    make bench-gpu                                    (CUDA)
    python bench/bench.py --only inference --sizes 500x500 --engines ours,openvino --rounds 5

All engines get the same weights and pictures and take turns, round by round, so that whatever else the machine does
falls on all. A ratio is the median of our time over theirs, round by round, with the smallest and largest beside it.
Rows are printed, and written to bench/results/ as CSV as they come: what a run measures anew takes the place of
older rows of the same day. Sizes are height x width.
"""

from __future__ import annotations

import argparse
import os
import re
import sys
from pathlib import Path

os.environ.setdefault("GLOG_minloglevel", "2")

import about
import peers

import files
from files import DataError

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "bench/results"
JOBS = ("inference", "training", "start", "set", "growth", "minibatch", "labels")
ALL = ("inference", "training", "start", "set", "growth")  # those of `make bench`
SIZES = {
    "inference": [(500, 500), (375, 500), (256, 256)],
    "training": [(500, 500)],
    "minibatch": [(500, 500)],
    "start": [(375, 500)],
    "growth": [(side, side) for side in (64, 128, 256, 500, 1000, 2048, 4096)],
}
ROUNDS = {"start": 3, "growth": 2, "minibatch": 1}  # the others: 5


def parse(argv: list[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add(
        "--only",
        type=_jobs,
        default=ALL,
        metavar="JOBS",
        help=f"of {', '.join(JOBS)} (default: {','.join(ALL)})",
    )
    add("--engines", metavar="NAMES", help="such as ours,'ours bf16',original (default: all there are)")
    add("--sizes", type=_sizes, metavar="HxW,...", help="height x width of images (default: the paper's)")
    add("--rounds", type=_count, metavar="N", help="rounds that count (default: 5; of the longer jobs fewer)")
    add(
        "--images",
        type=_count,
        default=48,
        metavar="N",
        help="images of the job set (default: 48; VOC's val: 736)",
    )
    add(
        "--trained",
        type=Path,
        nargs="+",
        default=[],
        metavar="DIR",
        help="model directories of the job labels",
    )
    add(
        "--pictures",
        type=Path,
        metavar="DIR",
        help="photographs of the job labels (default: synthetic scenes)",
    )
    add("--device", choices=("cpu", "cuda"), default="cpu", help="what computes (default: cpu)")
    add("--output", type=Path, metavar="CSV", help="another file for the rows")
    return parser.parse_args(argv)


def _jobs(text: str) -> list[str]:
    asked = text.split(",")
    if strange := set(asked) - set(JOBS):
        raise argparse.ArgumentTypeError(f"there is no job {min(strange)!r}; there are {', '.join(JOBS)}")
    return asked


def _sizes(text: str) -> list[tuple[int, int]]:
    found = [re.fullmatch(r"([1-9]\d*)x([1-9]\d*)", each) for each in text.split(",")]
    if not all(found):
        raise argparse.ArgumentTypeError(f"sizes are height x width, such as 500x500,375x500, not {text!r}")
    return [(int(each[1]), int(each[2])) for each in found]


def _count(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"at least 1 is needed, not {text!r}")
    return int(text)


def require_gpu() -> str:
    """The name of the GPU. Raises DataError where there is none."""
    import torch

    if not torch.cuda.is_available():
        raise DataError(
            "PyTorch finds no CUDA GPU on this machine, and these measurements need one. Those of the CPU: make bench"
        )
    return torch.cuda.get_device_name(0)


def main(argv: list[str] | None = None) -> int:
    """Run the jobs; returns the exit status."""
    args = parse(argv)
    import engines
    from table import Table

    gpu = require_gpu() if args.device == "cuda" else ""
    try:
        chosen = engines.choose(args.engines, args.device)
    except ValueError as error:
        raise DataError(str(error)) from None
    if {engine.kind for engine in chosen} & {"torchfcn", "onnxruntime", "openvino"}:
        peers.make()
    where = {"device": gpu or "cpu", **about.machine(), **about.versions(peers.packages())}
    short = f"cpu{where['cores']}" if args.device == "cpu" else re.sub(r"\W+", "-", gpu.lower()).strip("-")
    path = args.output or RESULTS / f"{where['date']}-{short}-peers.csv"
    table = Table(path, {name: str(value) for name, value in where.items()})
    _run(args, chosen, table)
    if table.new:
        print(f"written to {os.path.relpath(path)}")
        if path.parent == RESULTS:
            print("the README's table is made of the newest: python reproduce.py readme")
    return 0


def _run(args: argparse.Namespace, chosen: list, table) -> None:
    """The jobs one after another."""
    import growth
    import harness
    import jobs

    run = {"inference": jobs.inference, "training": jobs.training, "minibatch": jobs.minibatch}
    run |= {"start": jobs.start, "set": jobs.whole_set, "growth": growth.growth, "labels": jobs.labels}
    pictures = _pictures(args) if "labels" in args.only else []
    ours = [engine for engine in chosen if engine.kind == "ours"]
    limits = dict.fromkeys(about.LIMITS, "")
    for number, name in enumerate(args.only, 1):
        limits = about.best(limits, about.ceiling(args.device))
        table.update(limits)  # higher ones, where the machine was busy before
        rates = ", ".join(f"{limit.replace('_', ' ')} {rate}" for limit, rate in limits.items() if rate)
        print(f"\njob {number} of {len(args.only)}: {name}   (ceiling: {rates})", flush=True)
        measured = harness.Bench(
            chosen if args.engines or name != "growth" else ours,
            table,
            args.rounds or ROUNDS.get(name, 5),
            args.sizes or SIZES.get(name, []),
            args.images,
            args.trained,
            pictures,
            args.device,
            lambda text: print(text, flush=True),
        )
        run[name](measured)
    if "growth" in args.only:
        name = f"{table.path.stem.removesuffix('-peers')}-growth.png"
        growth.picture(table.path, table.path.with_name(name))


def _pictures(args: argparse.Namespace) -> list[Path]:
    """What the job labels looks at. Raises DataError where there is nothing, or no net to look at it with."""
    import material

    if not args.trained:
        raise DataError("the job labels is about trained nets: name their directories with --trained DIR")
    folder = args.pictures or material.photographs(8)[0] / "JPEGImages"
    kinds = (".jpg", ".jpeg", ".png")
    found = sorted(path for path in folder.glob("*") if path.suffix.lower() in kinds)
    if not found:
        raise DataError(
            f"there are no photographs (JPEG, PNG) in {folder}: name a folder of them with --pictures"
        )
    return found if args.pictures else found[:8]


if __name__ == "__main__":
    sys.exit(files.exit_status(main))
