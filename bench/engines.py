"""Who is measured: the engines by name, what starts each, and a process that answers for it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import about
import peers

ROOT = Path(__file__).resolve().parents[1]
HERE = ROOT / "bench"
LOGS = ROOT / "build/bench/logs"
CAFFES = ("ours", "original")
TRAINED = (*CAFFES, "torchfcn", "pytorch", "compile")  # what can train
PRECISIONS = {  # device → engine → what it computes in
    "cpu": {
        "ours": ("float32", "bf16"),
        "original": ("float32",),
        "torchfcn": ("float32",),
        "pytorch": ("float32", "bf16"),
        "compile": ("float32", "bf16"),
        "onnxruntime": ("float32",),
        "openvino": ("float32", "bf16"),
    },
    "cuda": {
        "ours": ("float32", "tf32", "bf16"),
        "original": ("float32",),
        "torchfcn": ("float32", "tf32", "bf16"),
        "pytorch": ("float32", "tf32", "bf16"),
        "compile": ("float32", "tf32", "bf16"),
    },
}


class EngineError(RuntimeError):
    """An engine cannot do what it is asked for; the text says why. The others go on."""


@dataclass(frozen=True)
class Engine:
    """What is measured: a ``kind`` of engine in a ``precision``, on a ``device``."""

    kind: str
    precision: str = "float32"
    device: str = "cpu"

    @property
    def name(self) -> str:
        """As the command line and the tables have it: "ours", "ours bf16"."""
        return self.kind if self.precision == "float32" else f"{self.kind} {self.precision}"

    @property
    def trains(self) -> bool:
        """Can it train? Our bf16 is for testing alone: solver steps stay in float32."""
        return self.kind in TRAINED and (self.kind, self.precision) != ("ours", "bf16")

    def start(self) -> Worker:
        """A process of it. Raises EngineError, such as for an original that is not built."""
        return Worker(self.name, *self.command())

    def command(self) -> tuple[list[str], dict[str, str]]:
        """What to run, and in which environment."""
        count = str(about.threads())
        environment = {**os.environ, **dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS"), count)}
        environment["OPENBLAS_NUM_THREADS"] = count
        if self.kind not in CAFFES:
            python = sys.executable if self.kind in ("pytorch", "compile") else str(peers.python())
            if not Path(python).exists():
                raise EngineError(f"{self.kind} is not installed; install it with: python bench/peers.py")
            return [python, str(HERE / "peer.py"), self.kind, self.precision, self.device], environment
        python = sys.executable
        if self.kind == "original":
            home = ROOT / ("build/bvlc-cuda" if self.device == "cuda" else "build/bvlc")
            if not (home / "python/caffe/_caffe.so").exists():
                how = "make bvlc CUDA=1" if self.device == "cuda" else "make bvlc"
                raise EngineError(f"the original Caffe is not built; build it with: {how}")
            python = str(home / "venv/bin/python")
            environment["PYTHONPATH"] = f"{home / 'python'}{os.pathsep}{ROOT}"
        return [python, str(HERE / "caffes.py"), self.precision, self.device], environment


def choose(names: str | None, device: str) -> list[Engine]:
    """The engines called ``names``, separated by commas, or all there are on ``device``; ours come first.

    Raises ValueError for a name that is none.
    """
    known = [Engine(kind, p, device) for kind, all_ in PRECISIONS[device].items() for p in all_]
    known.sort(key=lambda engine: engine.kind != "ours")
    if not names:
        return known
    asked = [name.strip() for name in names.split(",")]
    if strange := set(asked) - {engine.name for engine in known}:
        raise ValueError(
            f"there is no engine {min(strange)!r} on {device}; there are {', '.join(e.name for e in known)}"
        )
    return [engine for engine in known if engine.name in asked]


class Worker:
    """A process of one engine: called with a job, it returns the answer. Raises EngineError for a failure."""

    def __init__(self, name: str, command: list[str], environment: dict[str, str] | None = None):
        self.name = name
        LOGS.mkdir(parents=True, exist_ok=True)
        self.log = LOGS / f"{name.replace(' ', '-')}.log"
        with open(self.log, "w") as log:
            self.process = subprocess.Popen(
                command,
                env=environment,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                start_new_session=True,  # Ctrl-C is for the harness, which ends them
            )

    def __call__(self, job: str, **arguments) -> dict:
        try:
            print(json.dumps({"job": job, **arguments}), file=self.process.stdin, flush=True)
            answer = self.process.stdout.readline()
        except BrokenPipeError:
            answer = ""
        if not answer:
            raise EngineError(
                f"its process ended during '{job}' with status {self.process.wait()}{self._last()}"
            )
        found = json.loads(answer)
        if "error" in found:
            raise EngineError(found["error"])
        return found

    def _last(self) -> str:
        lines = self.log.read_text(errors="replace").strip().splitlines()
        return f": {lines[-1][:300]}" if lines else ""

    def close(self) -> None:
        """End the process: by itself if it is idle, else by force."""
        self.process.stdin.close()
        self.process.stdout.close()
        try:
            self.process.wait(timeout=5)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
