"""The one interface of all ``data/*/prepare.py``: get, prepare, check, and all three."""

from __future__ import annotations

import argparse
import os
import shlex
from collections.abc import Callable, Sequence
from pathlib import Path, PurePosixPath
from typing import ClassVar

from datakit import fetch
from datakit.archives import Archive, Sources
from datakit.checks import Table
from datakit.facts import FACTS
from datakit.unpack import unpack
from files import DataError, exit_status

ROOT = Path(__file__).resolve().parents[1]


class DataSet:
    """What a ``prepare.py`` does for each part of its data set.

    A data set defines ``name`` (its folder under data/), ``parts`` (name → what it is), ``default`` (the parts that
    are meant where none is named), and :meth:`get`, :meth:`prepare` and :meth:`check`. All three may be run again
    at any time: what is there and whole is left as it is, and what is half done is done again.

    ``root`` is the folder of all data sets, ``folder`` this one's in it, ``facts`` what must be true of it.
    """

    name: ClassVar[str]
    parts: ClassVar[dict[str, str]]
    default: ClassVar[tuple[str, ...]]

    def __init__(self, root: Path, sources: Sources | None = None, by_hand: Path | None = None):
        self.root, self.sources, self.by_hand = root, sources or Sources(), by_hand
        self.folder = root / self.name
        self.facts = self.sources.facts_of(self.name, FACTS.get(self.name, {}))

    def get(self, part: str) -> None:
        """Download the archives of ``part``, check them, and unpack them where the layers look for it."""
        raise NotImplementedError

    def prepare(self, part: str) -> None:
        """Make of what :meth:`get` got all that the layers read: splits, label images."""
        raise NotImplementedError

    def check(self, part: str, table: Table) -> None:
        """Hold ``part`` against what is published: a line of ``table`` for each fact."""
        raise NotImplementedError

    def fetch(self, published: Archive, room: int = 0) -> Path:
        """The archive, whole and checked, from ``--from`` or else downloaded into ``downloads/``.

        ``room``: bytes that must be free besides its own, for what is unpacked from it.
        """
        return fetch.get(self.sources.archive(published), self.folder / "downloads", self.by_hand, room)

    def bring(
        self,
        published: Archive,
        folder: Path,
        pick: Callable[[PurePosixPath], PurePosixPath | None],
        entries: Sequence[str],
        downloads: Path | None = None,
    ) -> None:
        """:meth:`fetch` an archive and unpack what ``pick`` picks of it into ``folder``, unless that is there already.

        ``entries`` are the names that then lie in ``folder``: once all do, the archive is not asked for.
        """
        if all((folder / entry).exists() for entry in entries):
            print(f"{', '.join(str(folder / entry) for entry in entries)}: there already", flush=True)
            return
        archive = self.sources.archive(published)
        path = fetch.get(archive, downloads or self.folder / "downloads", self.by_hand, archive.unpacked)
        unpack(path, folder, pick, entries, limit=max(4 * archive.unpacked, 1 << 30))

    def again(self, command: str, part: str = "") -> str:
        """The command line that runs ``command`` of this script, for messages: from the project's folder."""
        words = ["python", self.script(), command, *([part] if part else [])]
        if self.root != root_of(None):
            words += ["--data-root", str(self.root)]
        if self.sources.path not in (None, self.root / "sources.json"):
            words += ["--sources", str(self.sources.path)]
        return shlex.join(words)

    def script(self) -> str:
        """The path of this data set's ``prepare.py``, from the project's folder."""
        return f"data/{self.name}/prepare.py"


def root_of(given: Path | None) -> Path:
    """The folder of all data sets: ``given`` (--data-root), else $FCN_DATA, else data/."""
    return (given or Path(os.environ.get("FCN_DATA") or ROOT / "data")).absolute()


def sources_of(given: Path | None, root: Path) -> Sources:
    """The sources in the file ``given`` (--sources), else in ``root``/sources.json, else the published ones."""
    path = given or (root / "sources.json" if (root / "sources.json").is_file() else None)
    if path is None:
        return Sources()
    print(f"archives and facts are those of {path}, not the published ones", flush=True)
    return Sources.read(path)


def common_options() -> argparse.ArgumentParser:
    """The options of every command."""
    options = argparse.ArgumentParser(add_help=False)
    options.add_argument(
        "--data-root",
        type=Path,
        metavar="DIR",
        help="folder of all data sets (default: $FCN_DATA, else data/)",
    )
    options.add_argument(
        "--sources",
        type=Path,
        metavar="FILE",
        help="JSON: mirrors of your own, or facts of a synthetic set (default: sources.json in the data root)",
    )
    return options


def run(data_set: type[DataSet], args: argparse.Namespace) -> int:
    """Run ``args.command``, one of get, prepare, check and all; returns the exit status."""
    root = root_of(args.data_root)
    made = data_set(root, sources_of(args.sources, root), getattr(args, "by_hand", None))
    parts = args.parts or list(made.default)
    if unknown := [part for part in parts if part not in made.parts]:
        raise DataError(f"{made.name} has no part {unknown[0]}; there are {', '.join(made.parts)}")
    status = 0
    for step in ("get", "prepare", "check") if args.command == "all" else (args.command,):
        for part in parts:
            if step == "check":
                table = Table(f"{made.name} {part}: {made.parts[part]}")
                made.check(part, table)
                print(table, flush=True)
                status |= bool(table.failed)
            else:
                getattr(made, step)(part)
    return status


def add_commands(commands, data_set: type[DataSet]) -> None:
    """Add get, prepare, check and all to the subparsers ``commands``."""
    parts = "; ".join(f"{name}: {what}" for name, what in data_set.parts.items())
    for name, about in (
        ("get", "download, verify and unpack; run it again to go on where it stopped"),
        ("prepare", "make what the layers read: splits, label images"),
        ("check", "hold what is there against what is published"),
        ("all", "get, prepare, check"),
    ):
        command = commands.add_parser(
            name, parents=[common_options()], help=about, description=about, epilog=parts
        )
        default = f"default: {' '.join(data_set.default)}"
        command.add_argument(
            "parts", nargs="*", metavar="PART", help=f"{', '.join(data_set.parts)} ({default})"
        )
        if name in ("get", "all"):
            command.add_argument(
                "--from",
                dest="by_hand",
                type=Path,
                metavar="DIR",
                help="take archives from this folder, or this file, got by hand",
            )


def main(data_set: type[DataSet], doc: str, argv: Sequence[str] | None = None, extra=None) -> int:
    """The command line of a ``prepare.py`` whose docstring is ``doc``; returns the exit status.

    ``extra(commands)`` may add subparsers of its own, which set ``call``, a function of the arguments.
    Errors are told in one message, with exit status 1.
    """
    parser = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    add_commands(commands, data_set)
    if extra:
        extra(commands)
    args = parser.parse_args(argv)
    return exit_status(lambda: args.call(args) if "call" in args else run(data_set, args))
