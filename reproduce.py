"""The paper's tables and figures: python reproduce.py table2

Each command trains the nets that it wants, stage by stage, scores them, prints the paper's numbers beside ours and
writes a record, and figures, into --results. Stop it whenever you like: the same command goes on from there.

    python reproduce.py table2 --data toy               the method in miniature, minutes on a laptop
    python reproduce.py all --data toy                  all of it
    python reproduce.py table2 --data real              the paper's own; days on a GPU
    python reproduce.py table2 --weights released       the authors' weights, scored here
    python reproduce.py readme                          make the tables of README.md anew, from records
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path

os.environ.setdefault("GLOG_minloglevel", "2")

import caffe

if not hasattr(caffe, "CaffeError"):
    sys.exit(
        f"error: the caffe imported from {os.path.dirname(caffe.__file__)} is the original engine, which resumes no "
        "run to the same bytes and explains no net: take the embedded one, without PYTHONPATH"
    )

import files
import training
from datakit import locks
from datakit.processes import cores
from files import DataError
from reproduction import readme, records, stages, tables, toyset
from reproduction.order import Order
from reproduction.targets import TARGETS, Target
from reproduction.workshop import Stage

ROOT = Path(__file__).resolve().parent
SEEDS = (1, 2, 3)


def arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    """The command line."""
    listed = "\n".join(f"  {name:<13} {target.about}" for name, target in TARGETS.items())
    parser = argparse.ArgumentParser(
        description=f"{__doc__}\ntargets:\n{listed}\n  {'all':<13} all of these",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "targets",
        nargs="+",
        metavar="TARGET",
        choices=[*TARGETS, "all", "readme"],
        help="one or more of the above",
    )
    parser.add_argument(
        "--data",
        choices=("real", "toy"),
        help="real data, or synthetic scenes (default: real, if it is there)",
    )
    parser.add_argument(
        "--recipe",
        choices=("paper", "heavy"),
        default="paper",
        help="solver.prototxt, or solver-heavy.prototxt",
    )
    parser.add_argument(
        "--weights",
        choices=("released", "trained"),
        default="",
        help="score the authors' weights, or those in the model directories, and train nothing",
    )
    parser.add_argument(
        "--seeds",
        type=_seeds,
        metavar="N,N,...",
        help="of table2 and figure5 a run for each, of all others the first (default, toy: 1, and 1,2,3 for all; "
        "real: what the solvers say)",
    )
    parser.add_argument(
        "--device", default="", metavar="cpu|N", help="the CPU, or GPU N (default: GPU 0 if there is one)"
    )
    parser.add_argument(
        "--jobs", type=int, metavar="N", help="nets to train at once (default: toy on the CPU: a core each)"
    )
    parser.add_argument(
        "--data-root", metavar="DIR", help="folder of the real data sets (default: $FCN_DATA, else data/)"
    )
    parser.add_argument(
        "--shorten",
        type=int,
        default=1,
        metavar="K",
        help="every training K times as short, to try the command",
    )
    parser.add_argument(
        "--divide",
        type=int,
        default=1,
        metavar="K",
        help="real data: nets K times as narrow, from random weights",
    )
    parser.add_argument(
        "--runs", type=Path, default=ROOT / "runs", metavar="DIR", help="where it trains (runs/)"
    )
    parser.add_argument(
        "--results",
        type=Path,
        metavar="DIR",
        help="default: a folder in results/mine/ for each kind of run, such as results/mine/toy/",
    )
    return parser.parse_args(argv)


def _seeds(text: str) -> tuple[int, ...]:
    seeds = tuple(int(each) for each in text.split(","))
    if len(set(seeds)) < len(seeds) or min(seeds) < 0:
        raise argparse.ArgumentTypeError(f"{text}: give different numbers from 0 on, such as 1,2,3")
    return seeds


def order_of(args: argparse.Namespace, wanted: Sequence[Target]) -> Order:
    """The order that a command line gives. Raises DataError for what does not go together, and for missing data."""
    root = Path(args.data_root or os.environ.get("FCN_DATA") or ROOT / "data").absolute()
    missing = [root / each for target in wanted for each in target.data if not (root / each).is_dir()]
    asked = args.data_root or args.weights or args.recipe != "paper" or args.divide > 1  # of real data alone
    data = args.data or ("toy" if missing and not asked else "real")
    if not args.data:
        print(f"--data {data}" + (f": {missing[0]} does not exist" if data == "toy" else ""))
    for name in ("shorten", "divide", "jobs"):
        if getattr(args, name) is not None and getattr(args, name) < 1:
            raise DataError(f"--{name} is {getattr(args, name)}; it must be 1 or more")
    if data == "toy":
        for name, usual in (("weights", ""), ("recipe", "paper"), ("divide", 1)):
            if getattr(args, name) != usual:
                raise DataError(
                    f"--{name} {getattr(args, name)} is for real data; with --data toy leave it out"
                )
    elif missing:
        listed = ", ".join(map(str, dict.fromkeys(missing)))
        raise DataError(f"there is no data in {listed}. To get it: data/README.md. Without any: --data toy")
    for name, usual in (("seeds", None), ("recipe", "paper"), ("divide", 1)):
        if args.weights and getattr(args, name) != usual:
            raise DataError(f"--{name} is about training: leave it out with --weights {args.weights}")
    several = data == "toy" and "all" in args.targets
    seeds = args.seeds or (SEEDS if several else (1,) if data == "toy" else (None,))
    if args.device not in ("", "cpu") and not args.device.isdecimal():
        raise DataError(f"--device is {args.device!r}; it must be cpu, or a GPU's number")
    count = training.gpus()
    if args.device.isdecimal() and int(args.device) >= count:
        raise DataError(f"--device {args.device}: there is no such GPU; there are {count}")
    gpu = int(args.device) if args.device.isdecimal() else 0 if count and args.device != "cpu" else None
    os.environ["FCN_DATA"] = str(root)
    numbers = (args.shorten, args.divide)
    order = Order(data, args.recipe, args.weights, seeds, gpu, *numbers, args.runs.absolute())
    order.results = (args.results or ROOT / "results" / "mine" / order.kind).absolute()
    return order


def make(target: Target, order: Order, began: float) -> bool:
    """Write record and figures of a target whose nets are trained, and print it; whether its conclusions hold."""
    rows = target.rows(order)
    found = target.conclusions(order, rows)
    seeds = [seed for seed in target.seeds(order) if seed is not None]
    record = records.make(
        target.name,
        "toy" if order.synthetic else "real",
        rows,
        records.environment(order.device, seeds, time.monotonic() - began),
        recipe=None if order.weights or order.toy else order.recipe,
        weights=order.weights or None,
        conclusions=found,
    )
    paths = [records.write(order.results, record)]  # before anything is printed, which may fail
    print(f"\n{target.name}: {target.about}\n")
    grid = tables.beside(target.table, [record]) if target.table else tables.plain(record)
    print(grid.text(), end="\n\n")
    if found:
        print(tables.conclusions([record]).text(), end="\n\n")
    paths += target.draw(order, rows)
    print("written:", *(os.path.relpath(path) for path in paths), flush=True)
    return all(case["holds"] for each in found for case in each["seeds"])


def reproduce(args: argparse.Namespace) -> int:
    """Make what the command line asks for; 1 if a conclusion of the paper did not hold."""
    wanted = [target for name, target in TARGETS.items() if name in args.targets or "all" in args.targets]
    if args.weights:
        if training_only := [
            target.name for target in wanted if target.trains and target.name in args.targets
        ]:
            raise DataError(
                f"{', '.join(training_only)} is about training: leave --weights {args.weights} out"
            )
        wanted = [target for target in wanted if not target.trains]
    order = order_of(args, wanted)
    for target in wanted:
        target.check(order)
    began = time.monotonic()
    order.home.mkdir(parents=True, exist_ok=True)
    with locks.alone(order.home / ".lock", "reproducing there"):
        if order.toy:
            toyset.draw(order.data_root, {each for target in wanted for each in target.toy})
            os.environ["FCN_DATA"] = str(order.data_root)
        todo = {target.name: target.stages(order) for target in wanted}
        look_for_weights(order, [stage for each in todo.values() for stage in each])
        jobs = args.jobs or (cores() if order.toy and order.gpu is None else 1)
        held = []
        # in the miniature all at once, which keeps the cores busy; else a record is there as soon as its nets are
        for group in [wanted] if order.toy else [[target] for target in wanted]:
            stages.run([stage for each in group for stage in todo[each.name]], jobs, order.device_options())
            held += [make(target, order, began) for target in group]
    if not all(held):
        print("\na conclusion of the paper does not hold here: see above", file=sys.stderr)
    return 0 if all(held) else 1


def look_for_weights(order: Order, todo: Sequence[Stage]) -> None:
    """Raise DataError if weights lack that training starts from: now, not after days."""
    if all(stage.done() for stage in todo):
        return
    for path in sorted({each for shop in order.shops.values() for each in shop.needs}):
        if not path.is_file():
            name = path.stem.removesuffix("-fcn")
            raise DataError(
                f"{path} does not exist, which nets start from. To get it: python ilsvrc-nets/prepare.py all {name}"
            )


def main(argv: Sequence[str] | None = None) -> int:
    """The command line of ``python reproduce.py``; returns the exit status."""
    args = arguments(argv)
    if hasattr(sys.stdout, "reconfigure"):
        sys.stdout.reconfigure(errors="replace")  # a terminal may not know every sign of a table
    if args.targets == ["readme"]:
        return files.exit_status(readme.main)
    if "readme" in args.targets:
        print("error: readme goes alone", file=sys.stderr)
        return 2
    with training.one_message():
        return files.exit_status(lambda: reproduce(args))


if __name__ == "__main__":
    sys.exit(main())
