"""Our engine against the original Caffe, side by side in one run: time and peak memory of voc-fcn8s.

    make bench                                  (needs `make bvlc`; about ten minutes)
    python bench/bench.py --rounds 7 --only forward

Both engines get the same weights and pictures and take turns, job by job, so that whatever else
the machine does falls on both. A ratio is the median of our time over theirs, round by round, with the
smallest and largest beside it. The table is printed and written to bench/results/ as CSV.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
from datetime import date
from pathlib import Path

os.environ.setdefault("GLOG_minloglevel", "2")

import numpy as np
from caffe.proto import caffe_pb2
from google.protobuf import text_format

ROOT = Path(__file__).resolve().parents[1]
WORK = ROOT / "build/bench"
DEPLOY = ROOT / "voc-fcn8s/deploy.prototxt"
WEIGHTS = WORK / "random.caffemodel"
SOLVER = WORK / "solver.prototxt"
SIZES = {"500x500": (500, 500), "500x375": (375, 500)}
ORIGINAL = ROOT / "build/bvlc"


class Worker:
    """A process with one engine."""

    def __init__(self, engine: str):
        if engine == "original":
            python = ORIGINAL / "venv/bin/python"
            environment = {**os.environ, "PYTHONPATH": str(ORIGINAL / "python")}
        else:
            python, environment = sys.executable, dict(os.environ)
        self.process = subprocess.Popen(
            [str(python), str(ROOT / "bench/worker.py")],
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )

    def __call__(self, job: str, **arguments) -> dict:
        print(json.dumps({"job": job, **arguments}), file=self.process.stdin, flush=True)
        answer = self.process.stdout.readline()
        if not answer:
            sys.exit(f"a worker ended during '{job}' with status {self.process.wait()}")
        return json.loads(answer)

    def close(self) -> None:
        self.process.stdin.close()
        self.process.wait()


def prepare() -> None:
    """Random weights for voc-fcn8s, and its training net with inputs in the place of the data layer."""
    import caffe

    import surgery

    WORK.mkdir(parents=True, exist_ok=True)
    if not WEIGHTS.exists():
        net = caffe.Net(str(DEPLOY), caffe.TEST)
        random = np.random.default_rng(0)
        for blobs in net.params.values():
            weights = blobs[0].data
            weights[...] = random.standard_normal(weights.shape, np.float32) * (2 / weights[0].size) ** 0.5
        surgery.interp(net, [name for name in net.params if name.startswith("up")])
        net.save(str(WEIGHTS))
    train = caffe_pb2.NetParameter()
    text_format.Parse((ROOT / "voc-fcn8s/train-heavy.prototxt").read_text(), train)
    inputs = caffe_pb2.LayerParameter(name="data", type="Input", top=["data", "label"])
    for channels in (3, 1):
        inputs.input_param.shape.add().dim.extend((1, channels, 500, 500))
    train.layer[0].CopyFrom(inputs)
    (WORK / "train.prototxt").write_text(text_format.MessageToString(train))
    SOLVER.write_text(
        f'train_net: "{WORK / "train.prototxt"}"\nsnapshot_prefix: "{WORK / "train"}"\n'
        'base_lr: 1e-14\nlr_policy: "fixed"\nmomentum: 0.99\nweight_decay: 0.0005\n'
    )


def take_turns(rounds: int, job: str, jobs_before=(), **arguments) -> dict[str, list[dict]]:
    """``rounds`` answers of each engine, in turn, after one of each that does not count."""
    workers = {engine: Worker(engine) for engine in ("ours", "original")}
    answers: dict[str, list[dict]] = {engine: [] for engine in workers}
    for name, before in jobs_before:
        for worker in workers.values():
            worker(name, **before)
    for number in range(rounds + 1):
        for engine, worker in workers.items():
            answer = worker(job, **arguments)
            if number:
                answers[engine].append(answer)
            print(f"  {engine:<9}{answer['seconds']:8.2f} s{'' if number else '  (warm-up)'}", flush=True)
    for worker in workers.values():
        worker.close()
    return answers


def row(name: str, answers: dict[str, list[dict]], **more) -> dict:
    """A line of the table: medians, the ratio round by round with its spread, peak memory."""
    ours, theirs = ([answer["seconds"] for answer in answers[engine]] for engine in ("ours", "original"))
    ratios = [a / b for a, b in zip(ours, theirs, strict=True)]
    peaks = {engine: answers[engine][-1]["peak"] / 2**20 for engine in answers}
    return {
        "job": name,
        "ours_s": f"{statistics.median(ours):.3f}",
        "original_s": f"{statistics.median(theirs):.3f}",
        "ratio": f"{statistics.median(ratios):.3f}",
        "ratio_min": f"{min(ratios):.3f}",
        "ratio_max": f"{max(ratios):.3f}",
        "ours_peak_MiB": f"{peaks['ours']:.0f}",
        "original_peak_MiB": f"{peaks['original']:.0f}",
        "peak_ratio": f"{peaks['ours'] / peaks['original']:.3f}",
        "rounds": len(ratios),
        "difference": more.get("difference", ""),
    }


def forward(rounds: int, size: str) -> dict:
    """Inference, one image."""
    height, width = SIZES[size]
    load = [("load", {"prototxt": str(DEPLOY), "weights": str(WEIGHTS)})]
    answers = take_turns(rounds, "forward", load, height=height, width=width)
    return row(f"forward {size}", answers, difference=_difference(height, width))


def _difference(height: int, width: int) -> str:
    """Largest difference of the scores, relative to the largest score, and the share of equal labels."""
    with tempfile.TemporaryDirectory() as folder:
        scores = []
        for engine in ("ours", "original"):
            worker, path = Worker(engine), f"{folder}/{engine}.npy"
            worker("load", prototxt=str(DEPLOY), weights=str(WEIGHTS))
            worker("forward", height=height, width=width, save=path)
            worker.close()
            scores.append(np.load(path))
    relative = np.abs(scores[0] - scores[1]).max() / np.abs(scores[1]).max()
    equal = (scores[0].argmax(1) == scores[1].argmax(1)).mean()
    return f"{relative:.1e}; {equal:.4%} of labels equal"


def train(rounds: int, size: str) -> dict:
    """A training iteration, one image."""
    height, width = SIZES[size]
    answers = take_turns(
        rounds, "train", solver=str(SOLVER), weights=str(WEIGHTS), height=height, width=width
    )
    losses = [answers[engine][0]["loss"] for engine in ("ours", "original")]
    relative = abs(losses[0] - losses[1]) / abs(losses[1])
    return row(f"training iteration {size}", answers, difference=f"loss {relative:.1e}")


def load(rounds: int, _: str) -> dict:
    """Building the net and loading its 538 MB."""
    return row("load weights", take_turns(rounds, "load", prototxt=str(DEPLOY), weights=str(WEIGHTS)))


JOBS = {"forward": (forward, tuple(SIZES)), "train": (train, tuple(SIZES)), "load": (load, ("",))}


def machine() -> dict:
    """What was measured on."""
    import torch

    with open("/proc/cpuinfo") as file:
        cpu = next((line.split(":")[1].strip() for line in file if line.startswith("model name")), "unknown")
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], cwd=ROOT, capture_output=True, text=True)
    return {
        "date": date.today().isoformat(),
        "commit": commit.stdout.strip(),
        "cpu": cpu,
        "cores": os.cpu_count(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "numpy": np.__version__,
    }


def main() -> None:
    """Run the jobs, print the table, write the CSV."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=5, metavar="N", help="rounds of each job (default: 5)")
    parser.add_argument("--only", choices=JOBS, help="run this job alone")
    args = parser.parse_args()
    if not (ORIGINAL / "python/caffe/_caffe.so").exists():
        sys.exit("error: the original Caffe is not built; build it with: make bvlc")
    prepare()
    rows = []
    for name, (job, sizes) in JOBS.items():
        for size in sizes if args.only in (None, name) else ():
            print(f"{name} {size}".rstrip(), flush=True)
            rows.append({**job(args.rounds, size), **machine()})
    path = ROOT / f"bench/results/{rows[0]['date']}-cpu{rows[0]['cores']}-engines.csv"
    with open(path, "w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    print(f"\n{'':<28}{'ours':>9}{'original':>10}{'ratio':>8}{'(spread)':>16}{'peak memory':>24}")
    for line in rows:
        spread = f"({line['ratio_min']}-{line['ratio_max']})"
        peak = f"{line['ours_peak_MiB']} / {line['original_peak_MiB']} MiB = {line['peak_ratio']}"
        print(
            f"{line['job']:<28}{line['ours_s']:>7} s{line['original_s']:>8} s{line['ratio']:>8}{spread:>16}{peak:>26}"
            f"   {line['difference']}"
        )
    print(f"written to {path.relative_to(ROOT)}")


if __name__ == "__main__":
    main()
