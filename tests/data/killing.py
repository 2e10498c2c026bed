"""Runs of datakit's ``get`` and ``unpack`` in processes of their own, to be killed or interrupted at chosen moments.

    with Runner() as runner:
        run = runner.start(job="get", folder=..., archive={"name": ..., "urls": [...]})
        os.kill(run.pid, signal.SIGKILL)
        status, text = run.end()          # exit status, or minus the signal; what it printed

A started process imports everything once and forks for each run, so that a run begins within milliseconds.
``at=n``: the run is killed by its own hand just before its n-th operation on files (0: never);
``how="interrupt"``: it gets KeyboardInterrupt there, as by Ctrl-C. ``largest=n``: no file may grow above n bytes.
"""

import json
import os
import resource
import signal
import subprocess
import sys
import traceback
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

ROOT = Path(__file__).resolve().parents[2]
# audit events of what changes files; writing itself has none
OPERATIONS = {
    "os.rename",
    "os.remove",
    "os.link",
    "os.mkdir",
    "os.rmdir",
    "os.truncate",
    "fcntl.flock",
    "os.utime",
}
INTERRUPTED = 130


@dataclass
class Run:
    """A run that was started."""

    pid: int
    output: Path
    _runner: "Runner"

    def end(self):
        """Wait for it; (exit status or minus the signal, what it printed)."""
        status = int(self._runner.process.stdout.readline())
        return status, self.output.read_text()


class Runner:
    """Starts runs, one at a time."""

    def __init__(self, folder):
        self.output = Path(folder) / f"output-{id(self)}.txt"

    def __enter__(self):
        command = [sys.executable, __file__, str(self.output)]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert self.process.stdout.readline() == "ready\n"
        return self

    def __exit__(self, *error):
        self.process.stdin.close()
        self.process.wait()
        self.process.stdout.close()

    def start(self, **what):
        self.process.stdin.write(json.dumps(what, default=str) + "\n")
        self.process.stdin.flush()
        return Run(int(self.process.stdout.readline()), self.output, self)

    def run(self, **what):
        """Start, and wait for the end."""
        return self.start(**what).end()


def _stop_at(number, how, folder):
    """Die, or be interrupted, before the ``number``-th operation on files in ``folder``."""
    seen = 0

    def hook(event, args):
        nonlocal seen
        if event in OPERATIONS or (event == "open" and str(args[0]).startswith(folder)):
            seen += 1
            if seen == number:
                if how == "interrupt":
                    raise KeyboardInterrupt
                os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(hook)


def _job(what, fetch, unpack, archive):
    if what.get("largest"):
        resource.setrlimit(resource.RLIMIT_FSIZE, (what["largest"],) * 2)
    folder = Path(what["folder"])
    if what.get("at"):
        _stop_at(what["at"], what.get("how"), str(folder))
    if what["job"] == "get":
        about = {**what["archive"], "urls": tuple(what["archive"]["urls"])}
        about["digests"] = tuple(about.get("digests", ()))
        fetch.get(archive(**about), folder)
    else:
        unpack.unpack(Path(what["path"]), folder, PurePosixPath, what["entries"], 1 << 30)


def main(output):
    sys.path.insert(0, str(ROOT))
    from datakit import fetch, unpack
    from datakit.archives import Archive
    from files import DataError

    fetch.PAUSE = 0.01
    print("ready", flush=True)
    for line in sys.stdin:
        log = os.open(output, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
        pid = os.fork()
        if pid == 0:
            status = 70
            try:
                os.dup2(log, 1)
                os.dup2(log, 2)
                _job(json.loads(line), fetch, unpack, Archive)
                status = 0
            except DataError as error:
                print(f"error: {error}", flush=True)
                status = 1
            except KeyboardInterrupt:
                status = INTERRUPTED
            except BaseException:
                traceback.print_exc()
            finally:
                sys.stdout.flush()
                os._exit(status)
        os.close(log)
        print(pid, flush=True)
        print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), flush=True)


if __name__ == "__main__":
    main(sys.argv[1])
