"""Which of a solver's snapshots a run can go on from.

``run.json`` beside them says by which solver the run under way was begun, from which weights, and which solver states
were there before it: those are another run's.
"""

from __future__ import annotations

import json
import os
import re
from dataclasses import dataclass
from pathlib import Path

import caffe
from caffe.proto import caffe_pb2
from google.protobuf.message import DecodeError

import files
import surgery
from files import DataError


def iteration_of(path: Path) -> int:
    """The iteration in a snapshot's name, ``train_iter_4000.caffemodel``; -1 if there is none."""
    number = re.search(r"_iter_(\d+)", path.name)
    return int(number[1]) if number else -1


@dataclass(frozen=True)
class Snapshot:
    """A solver state and the weights that belong to it."""

    state: Path
    weights: Path

    @property
    def iteration(self) -> int:
        """That in the files' names."""
        return iteration_of(self.state)

    def damage(self) -> str:
        """What is wrong with the files, in words; empty if both can be read to the end.

        HDF5 files of the original engine are taken as they are: it has nothing to look into them with.
        """
        if self.state.suffix == ".h5" and not hasattr(caffe, "CaffeError"):
            return ""
        for path, look in ((self.weights, _look_at_weights), (self.state, _look_at_state)):
            try:
                look(path)
            except (
                getattr(caffe, "CaffeError", DataError),
                DataError,
                surgery.SurgeryError,
                OSError,
            ) as error:
                return str(error)
        return ""


def _look_at_weights(path: Path) -> None:
    if not surgery.shapes_in_file(path):
        raise DataError(f"{path}: it holds no weights")


def _look_at_state(path: Path) -> None:
    try:
        from caffe import caffemodel, hdf5_model
    except ImportError:  # the original engine, which ends the process over a damaged file: parse all of it
        try:
            state = caffe_pb2.SolverState.FromString(path.read_bytes())
        except DecodeError:
            raise DataError(f"{path}: not a readable solver state") from None
    else:
        state, reader, _ = (hdf5_model if path.suffix == ".h5" else caffemodel).load_state(path)
        with reader:
            pass
    if not state.iter:
        raise DataError(f"{path}: it holds no iteration")


def found(prefix: str) -> list[Snapshot]:
    """The pairs of a state and its weights, the highest iteration first."""
    folder, name = Path(prefix).parent, Path(prefix).name
    made = []
    for ending in ("", ".h5"):
        for state in folder.glob(f"{name}_iter_*.solverstate{ending}"):
            weights = state.with_name(state.name.replace(".solverstate", ".caffemodel"))
            if iteration_of(state) > 0 and weights.is_file():
                made.append(Snapshot(state, weights))
    return sorted(made, key=lambda each: each.iteration, reverse=True)


class Story:
    """``run.json``: how the run in a folder of snapshots began.

    ``solver`` is the name of its file, ``weights`` are the files it started from, ``left`` the solver states that are
    not its own, or that it has turned back from, each with its time of change (ns).
    """

    def __init__(self, prefix: str):
        self.prefix, self.path = prefix, Path(prefix).parent / "run.json"
        self.solver, self.weights, self.left = "", [], {}
        if self.path.is_file():
            try:
                kept = json.loads(self.path.read_text(encoding="utf-8"))
                self.solver, self.weights, self.left = (
                    str(kept["solver"]),
                    list(kept["weights"]),
                    dict(kept["left"]),
                )
            except (OSError, ValueError, KeyError, TypeError) as error:
                raise DataError(
                    f"{self.path} is damaged ({type(error).__name__}: {error}): remove it, if the snapshots beside it "
                    "are of one run"
                ) from None

    def begin(self, solver: str, weights: list[str], resumed: str | None) -> None:
        """Write the story of a run that starts now: from ``weights``, or from the solver state ``resumed``."""
        inside = resumed and os.path.abspath(os.path.dirname(resumed)) == os.path.abspath(self.path.parent)
        at = iteration_of(Path(resumed)) if inside else 0
        self.left = self.left if inside else {}
        self.left.pop(os.path.basename(resumed or ""), None)
        self.left |= {s.state.name: _changed(s.state) for s in found(self.prefix) if s.iteration > at}
        self.solver, self.weights = os.path.basename(solver), self.weights if resumed else weights
        text = json.dumps({"solver": self.solver, "weights": self.weights, "left": self.left}, indent=1)
        files.write(self.path, (text + "\n").encode())

    def newest(self, solver: str) -> Snapshot | None:
        """The snapshot to go on from, None if there is none; says which are passed over, and why.

        Raises DataError when the snapshots are those of another solver.
        """
        name = os.path.basename(solver)
        for each in found(self.prefix):
            own = self.left.get(each.state.name) != _changed(each.state)
            why = each.damage() if own else "it is of an earlier run"
            if not why and self.solver and self.solver != name:
                raise DataError(
                    f"the snapshots in {self.path.parent} are of a run by {self.solver}, not by {name}: to go on with "
                    f"it, python solve.py --solver {self.solver} --resume; to begin one by {name}, without --resume"
                )
            if not why:
                return each
            print(f"passed over {each.state}: {why}")
        return None


def _changed(path: Path) -> int:
    return path.stat().st_mtime_ns
