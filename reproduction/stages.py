"""Stages that follow one another, each a process of its own; several at once, going on where a run was stopped.

A stage is done when the file ``done`` is in its directory. Whenever the run is stopped, even by force, its
processes end too; then the same command goes on: what is done stays, what was under way goes on from its last snapshot.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from collections.abc import Sequence

from tqdm import tqdm

from datakit.processes import cores
from files import DataError
from reproduction.workshop import DONE, ROOT, Stage

LOG = "log.txt"
_ITERATION = re.compile(rb"^Iteration (\d+)", re.M)


def run(stages: Sequence[Stage], jobs: int, options: Sequence[str] = ()) -> None:
    """Do all ``stages`` that are not done, up to ``jobs`` at once, each after those that it comes after.

    ``options`` are those of the device, which every script takes. The same stage may be listed more than once.
    Raises DataError with the end of its log when a stage fails; the others are stopped then.
    """
    waiting = {stage.key: stage for stage in stages if not stage.done()}
    total = sum(stage.images for stage in waiting.values())
    running: dict[str, Running] = {}
    finished = 0
    bar = tqdm(total=total, unit="image", unit_scale=True, disable=None, dynamic_ncols=True)
    try:
        while waiting or running:
            ready = [
                stage
                for stage in waiting.values()
                if not any(key in waiting or key in running for key in stage.after)
            ]
            # what others wait for comes first, then what takes long
            ready.sort(key=lambda stage: (-_behind(stage, waiting.values()), -stage.images))
            for stage in ready[: jobs - len(running)]:
                del waiting[stage.key]
                threads = max(1, cores() // jobs)
                running[stage.key] = Running(stage, options, threads)
            time.sleep(0.2)
            for key, each in list(running.items()):
                if each.ended():
                    del running[key]
                    finished += each.stage.images
                    bar.write(f"{each.stage.key}: {each.duration()}{each.result()}", file=sys.stdout)
                    sys.stdout.flush()
            bar.n = min(total, finished + sum(each.images() for each in running.values()))
            bar.set_postfix_str(", ".join(running), refresh=False)
            bar.refresh()
    finally:
        bar.close()
        for each in running.values():
            each.kill()


def _behind(stage: Stage, others) -> int:
    """How many images are to be trained on after ``stage`` because of it."""
    after = [other for other in others if stage.key in other.after]
    return max((other.images + _behind(other, others) for other in after), default=0)


class Running:
    """A stage under way."""

    def __init__(self, stage: Stage, options: Sequence[str], threads: int):
        self.stage, self.began = stage, time.monotonic()
        child = [sys.executable, "-m", "reproduction.child", str(os.getpid())]
        command = [*child, *stage.command, *options]
        path = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
        with open(stage.directory / LOG, "ab") as log:
            self.start = log.tell()
            self.process = subprocess.Popen(
                command,
                cwd=stage.directory,
                env={
                    **os.environ,
                    "PYTHONPATH": path,
                    "OMP_NUM_THREADS": str(threads),
                    "PYTHONUNBUFFERED": "1",
                },
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,  # Ctrl-C is for the parent, which ends them all alike
            )

    def ended(self) -> bool:
        """Whether it is done now. Raises DataError if it failed."""
        status = self.process.poll()
        if status is None:
            return False
        if status:
            lines = self.log().decode(errors="replace").strip().splitlines()
            raise DataError(
                f"{self.stage.key} failed (exit status {status}). The end of {self.stage.directory / LOG}:\n  "
                + "\n  ".join(lines[-8:])
            )
        (self.stage.directory / DONE).touch()
        return True

    def log(self) -> bytes:
        """What it has said, as far as it is needed."""
        with open(self.stage.directory / LOG, "rb") as log:
            log.seek(max(self.start, log.seek(0, os.SEEK_END) - 20_000))
            return log.read()

    def images(self) -> int:
        """How many images it has trained on."""
        found = _ITERATION.findall(self.log())
        return min(self.stage.images, int(found[-1]) * self.stage.batch) if found else 0

    def duration(self) -> str:
        """How long it took, in this run."""
        seconds = round(time.monotonic() - self.began)
        return f"{seconds // 60} min {seconds % 60:2} s"

    def result(self) -> str:
        """What it came to, if it said so."""
        log = self.log().decode(errors="replace")
        said = re.findall(r"(?:Iteration \d+ |^)((?:score\S* )?mean IU \S+|accuracy \S+)", log, re.M)
        return f", {said[-1]}" if said else ""

    def kill(self) -> None:
        """End it."""
        self.process.kill()
        self.process.wait()
