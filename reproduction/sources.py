"""Tables of the README whose numbers other files of the project have: recipes, the engines compared, their times."""

from __future__ import annotations

import csv
import re
from decimal import ROUND_HALF_UP, Decimal
from pathlib import Path

from caffe.proto import caffe_pb2

import nets
from datakit.weights import RELEASED, megabytes
from files import DataError, read_lines
from reproduction.tables import Grid

ROOT = Path(__file__).resolve().parents[1]
# The newest record of the measurements on a CPU (`make bench`); its name begins with its date
RECORDS = ROOT / "bench/results"
BENCH = max(RECORDS.glob("*-cpu*-peers.csv"), default=RECORDS / "cpu-peers.csv")
MEASURED = ("inference", "training", "minibatch", "start", "load", "set")  # in this order
PEERS = ("original", "torchfcn", "pytorch", "compile", "onnxruntime", "openvino")
PARITY = ROOT / "tests/parity/last.md"
STAGES = ("voc-fcn32s", "voc-fcn16s", "voc-fcn8s")


def scientific(value: float) -> str:
    """A number as the README writes small ones: "1e-4", "4.8e-6", "0"."""
    if value == 0:
        return "0"
    digits, exponent = f"{value:.1e}".split("e")
    return f"{digits.removesuffix('.0')}e{int(exponent)}"


def recipes() -> str:
    """The two solvers of the VOC nets, and the nets that they train."""
    files_ = ("solver.prototxt", "solver-heavy.prototxt")
    solvers = [[_solver(stage, file) for stage in STAGES] for file in files_]
    both = (nets.PAPER, nets.RELEASE)
    rows = [
        ["loss", *("mean over labelled pixels" if each.normalize else "sum over pixels" for each in both)],
        ["images per update", *(_only(each, "iter_size", str) for each in solvers)],
        ["momentum", *(_only(each, "momentum", "{:g}".format) for each in solvers)],
        [
            "learning rate, 32s / 16s / 8s",
            *(" / ".join(scientific(solver.base_lr) for solver in each) for each in solvers),
        ],
        [
            "upsampling between skips",
            *("starts bilinear, learned" if each.learn_upsampling else "bilinear, fixed" for each in both),
        ],
    ]
    header = ["", f"`{files_[0]}`: the paper's recipe", f"`{files_[1]}`: the released models'"]
    return Grid(header, rows, "lll").markdown()


def _solver(stage: str, file: str) -> caffe_pb2.SolverParameter:
    return nets.read_prototxt(ROOT / stage / file, caffe_pb2.SolverParameter())


def _only(solvers: list, field: str, form) -> str:
    """The value of a field that all ``solvers`` share."""
    (value,) = {getattr(solver, field) for solver in solvers}
    return form(value)


def parity() -> str:
    """The two engines compared, from the report of the last whole comparison."""
    compared = {}
    for line in read_lines(PARITY, "parity report"):
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if line.startswith("|") and len(cells) == 5 and cells[1].isdecimal():
            compared[cells[0]] = int(cells[1]), float(cells[2]), float(cells[3])
    layers = {name for name in compared if re.fullmatch(r"\w+", name)}
    each_layer = {name for name in compared if name.endswith("each layer forward and backward")}
    training = {name for name in compared if " iterations, dropout " in name}
    iterations = {re.search(r"(\d+) iterations", name)[1] for name in training}
    losses = {name for name in training if name.endswith("loss")}
    titles = {
        "every layer type that both have, forward, bottom and parameter gradients": layers,
        "data layers (HDF5Data, HDF5Output, MemoryData)": {"data layers"},
        "nets that it refuses: the same key words": {"refusals in the same words"},
        "solver types and learning-rate policies, 50 iterations": {"solvers, 50 iterations"},
        "weight files and solver states, binary and HDF5, written by one, read by the other": {
            "snapshots, both ways"
        },
        f"train and deploy net of all {len(each_layer)} directories, each layer forward and backward": each_layer,
        f"`mini-fcn8s` trained for {' and '.join(sorted(iterations))} iterations: loss, without dropout / with "
        "the same dropout masks": losses,
        "the same: share of pixels predicted otherwise": training - losses,
    }
    rows = []
    for title, names in titles.items():
        if missing := names - compared.keys() or (not names and {title}):
            raise DataError(
                f"parity report {PARITY} has no row {min(missing)!r}: python tests/parity/report.py"
            )
        found = [row for name, row in compared.items() if name in names]
        errors = (
            [error for _, error, _ in found] if names <= training else [max(error for _, error, _ in found)]
        )
        (bound,) = {bound for _, _, bound in found}
        worst, limit = " / ".join(map(scientific, errors)), scientific(bound)
        if title.startswith("nets that it refuses"):
            worst, limit = ("all equal" if not any(errors) else f"{worst} differ"), ""
        rows.append([title, str(sum(cases for cases, _, _ in found)), worst, limit])
    header = ["compared with the original (CPU, float32)", "cases", "worst error", "bound"]
    return Grid(header, rows, "lrrr").markdown()


def bench() -> str:
    """Time and memory beside the original's and the peers', from the newest record; then ours by the image's size."""
    try:
        with open(BENCH, newline="", encoding="utf-8") as file:
            found = [line for line in csv.DictReader(file) if line["seconds"]]
            found.sort(key=lambda line: [*MEASURED, line["job"]].index(line["job"]))
    except OSError as error:
        raise DataError(
            f"{BENCH} cannot be read: {error}. The README's table of times is made of it: make bench"
        ) from None
    jobs: dict[str, dict[str, dict]] = {}  # title → engine, without its precision → its row
    for line in found:
        if not line["job"].startswith("growth"):
            jobs.setdefault(_title(line), {})[line["engine"].split()[0]] = line
    peers = [peer for peer in PEERS if any(peer in engines for engines in jobs.values())]
    rows = []
    for title, engines in jobs.items():
        ours = engines.get("ours", dict.fromkeys(found[0], ""))
        memory = engines.get("original", {}).get("peak_ratio", "")
        apart = scientific(float(ours["difference"])) if ours["difference"] else ""
        if ours["equal_labels"]:
            apart += f"; {float(ours['equal_labels']):.2%}"
        cells = [_time(ours), *(_time(engines[peer]) if peer in engines else "" for peer in peers)]
        rows.append([title, *cells, memory and _two(memory), apart])
    header = ["", "ours", *peers, "memory, of the original's", "difference; equal labels"]
    text = Grid(header, rows, "l" + "r" * (len(header) - 1)).markdown()
    machines = dict.fromkeys(f"{line['cpu']}, {line['cores']} cores, {line['date']}" for line in found)
    grown = [line for line in found if line["job"] == "growth pixels" and line["engine"] == "ours"]
    lines = [
        [
            line["size"].replace("x", "×"),
            f"{_two(line['seconds'])} s",
            f"{1e6 * float(line['seconds']) / _pixels(line['size']):.1f} µs{_spread(line)}",
            f"{float(line['peak_mib']) / 1024:.1f} GiB",
        ]
        for line in sorted(grown, key=lambda line: _pixels(line["size"]))
    ]
    text += f"\n\nMeasured on {'; '.join(machines)}."
    if lines:
        header = ["ours, inference", "time", "a pixel: of that at 500×500", "peak memory"]
        text += "\n\n" + Grid(header, lines, "lrrr").markdown()
    return text


def _title(line: dict[str, str]) -> str:
    """What a row of the measurements is about, in words."""
    size = line["size"].replace("x", "×")
    net = line["net"].upper().replace("FCN", "FCN-").replace("S", "s")
    precision = "" if line["precision"] == "float32" else f", {line['precision']}"
    batch = line["variant"].removeprefix("batch ")
    return {
        "inference": f"{net}, inference, {size}",
        "training": f"{net}, training iteration, {size}",
        "minibatch": f"{net}, update by {batch} images, {size}",
        "start": f"process start to first scores, {size}",
        "load": f"loading {megabytes(RELEASED['voc-fcn8s'])} MB",
        "set": f"scoring {line['variant'].replace('alone', 'passes alone; ratio: the whole to them')}",
    }.get(line["job"], line["job"]) + precision


def _pixels(size: str) -> int:
    height, width = size.split("x")
    return int(height) * int(width)


def _time(line: dict[str, str]) -> str:
    """Seconds, and the ratio of ours to them with its spread, where there is one."""
    if not line["seconds"]:
        return ""
    return f"{_two(line['seconds'])} s{_spread(line)}"


def _spread(line: dict[str, str]) -> str:
    """A ratio, with its smallest and largest, where there is one."""
    if not line["ratio"]:
        return ""
    ratio, low, high = (_two(line[name]) for name in ("ratio", "ratio_min", "ratio_max"))
    return f": {ratio} ({low}–{high})"


def _two(number: str) -> str:
    """A decimal number with two places, rounded half up as one does by hand."""
    return str(Decimal(number).quantize(Decimal("0.01"), ROUND_HALF_UP))
