"""One run of the bench: who is measured, how often, on what; processes that take turns, and the rows they give."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

from about import free_memory
from engines import Engine, EngineError, Worker
from table import Table, line
from turns import Turns, difference

GiB = 2**30


@dataclass
class Bench:
    """One run: who is measured, how often, on what; where the rows go. Sizes are (height, width)."""

    engines: list[Engine]
    table: Table
    rounds: int = 5
    sizes: list[tuple[int, int]] = field(default_factory=list)
    images: int = 48
    trained: list[Path] = field(default_factory=list)
    pictures: list[Path] = field(default_factory=list)
    device: str = "cpu"
    tell: Callable[[str], None] = print

    def named(self, *kinds: str) -> dict[str, Engine]:
        """The engines of these kinds, by name."""
        return {engine.name: engine for engine in self.engines if engine.kind in kinds or not kinds}

    def start(self, name: str) -> Worker:
        """A process of the engine called ``name``."""
        return self.named()[name].start()

    def record(self, turns: Turns, names, costs: int = 0, compared: dict | None = None, **key: str) -> None:
        """Enter a row of each of ``names`` into the table. ``costs``: multiply-adds of a turn."""
        rows = []
        for name in names:
            engine = self.named()[name]
            base = Engine("ours", engine.precision, engine.device).name
            row = {"engine": name, "precision": engine.precision, **turns.row(name, base)}
            if costs and row.get("seconds"):
                rate = 2 * costs / float(row["seconds"]) / 1e9
                ceiling = self.table.about.get(f"{engine.precision}_gflops")
                row |= {"gigamacs": f"{costs / 1e9:.1f}", "gflops": f"{rate:.0f}"}
                row["share_of_ceiling"] = f"{rate / float(ceiling):.3f}" if ceiling else ""
            rows.append({**row, **(compared or {}).get(name, {}), **key})
        self.table.add(*rows)
        for row in self.table.new[-len(rows) :]:
            self.tell(line(row))

    def together(
        self,
        engines: dict[str, Engine],
        setup,
        task: str,
        arguments,
        warm_ups: int = 1,
        suffix=".npy",
        **record,
    ) -> None:
        """Processes of ``engines`` take turns with ``task`` in :attr:`rounds` rounds; then their rows are entered.

        ``setup(engine, worker)`` readies a process; ``arguments(engine)`` are those of the task, which is given
        ``save``, too, once, where its results go that are compared: in a turn that does not count, if there is any.
        Those that do not fit into memory with the others take their turns afterwards, with ours again.
        """
        turns, ours = Turns(self.tell), [name for name, engine in engines.items() if engine.kind == "ours"]
        waiting = [name for name in engines if name not in ours] or [""]
        with tempfile.TemporaryDirectory() as folder:
            saved = {name: Path(folder) / f"{name.replace(' ', '-')}{suffix}" for name in engines}
            try:
                if not {"ours", "original"} & engines.keys():
                    self._reference(setup, task, arguments, Path(folder) / f"ours{suffix}")
                while waiting:
                    waiting = self._group(
                        turns, engines, ours, waiting, saved, setup, task, arguments, warm_ups
                    )
            finally:  # whatever ended it: what is measured is kept
                found = [Path(folder) / f"{name}{suffix}" for name in ("original", "ours")]
                reference = next((path for path in found if path.exists()), None)
                compared = {
                    name: {**difference(path, reference), "reference": reference.stem}
                    for name, path in saved.items()
                    if reference and path.exists() and path != reference
                }
                self.record(turns, engines, compared=compared, **record)

    def _reference(self, setup, task, arguments, path: Path) -> None:
        """Let ours in float32, which is not measured, say what is right."""
        engine = Engine("ours", "float32", self.device)
        try:
            with ExitStack() as stack:
                worker = engine.start()
                stack.callback(worker.close)
                setup(engine, worker)
                worker(task, **arguments(engine), save=str(path))
        except EngineError as error:
            self.tell(f"  nothing to compare with: {error}")

    def _group(self, turns, engines, ours, waiting, saved, setup, task, arguments, warm_ups) -> list[str]:
        """Turns of ours and of as many of ``waiting`` as memory holds; returns who is still waiting."""
        workers: dict[str, Worker] = {}
        left: list[str] = []
        with ExitStack() as stack:
            for name in [*ours, *filter(None, waiting)]:
                need = max([2 * GiB, *(turns.peaks.get(each, 0) * 1.3 for each in workers)])
                if set(workers) - set(ours) and self.device == "cpu" and free_memory() < need:
                    left.append(name)
                    continue
                engine = engines[name]

                def ready(name, engine=engine):
                    workers[name] = worker = engine.start()
                    stack.callback(worker.close)
                    setup(engine, worker)
                    more = {} if saved[name].exists() else {"save": str(saved[name])}
                    if not warm_ups:
                        return {"seconds": 0}
                    for number in range(warm_ups):
                        answer = worker(task, **arguments(engine), **(more if number == 0 else {}))
                    return answer

                if name not in turns.lost and (answer := turns.attempt(name, ready)) and warm_ups:
                    self.tell(f"  warm-up: {name} {answer['seconds']:.3f} s")

            def turn(name):
                more = {} if warm_ups or saved[name].exists() else {"save": str(saved[name])}
                return workers[name](task, **arguments(engines[name]), **more)

            turns.alternate(workers, self.rounds, turn)
        return left
