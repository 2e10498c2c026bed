"""Flags as Caffe's tools take them: ``-flag`` or ``--flag``, ``--flag value`` or ``--flag=value``."""

from __future__ import annotations

import argparse
import difflib
import re
import textwrap
from collections.abc import Iterable

from ..errors import CaffeError
from ..log import init_log, log_to_folder

HELP = ("-h", "-help", "--help")
_SINGLE_DASH = re.compile(r"-[A-Za-z]\w+(=.*)?", re.DOTALL)
_TRUTH = {"true": True, "t": True, "yes": True, "y": True, "1": True}
_TRUTH |= {"false": False, "f": False, "no": False, "n": False, "0": False}


class Parser(argparse.ArgumentParser):
    """An argument parser that takes one dash for two, knows ``--noflag``, and raises CaffeError."""

    def __init__(self, *args, **kwargs):
        kwargs.setdefault("allow_abbrev", False)
        kwargs.setdefault("formatter_class", argparse.RawDescriptionHelpFormatter)
        kwargs["description"] = textwrap.fill(kwargs.get("description", ""), 100)
        self._switches: set[str] = set()
        super().__init__(*args, **kwargs)

    def add_switch(self, name: str, help: str) -> None:
        """Add the flag ``name`` of type bool: ``--name``, ``--noname``, ``--name=true``; false by default.

        ``help`` says what it does.
        """
        self._switches.add(name)
        self.add_argument(f"--{name}", type=_truth, default=False, metavar="true|false", help=help)

    def parse_known_args(self, args, namespace=None):
        """As argparse's: the values of ``args``, put into ``namespace``, and the words that are no flag here."""
        return super().parse_known_args([self._spelled(word) for word in args], namespace)

    def _spelled(self, word: str) -> str:
        """``word`` as argparse wants it: two dashes, and a value for every switch."""
        if _SINGLE_DASH.fullmatch(word):
            word = "-" + word
        for name in self._switches:
            if word == f"--{name}":
                return f"--{name}=true"
            if word == f"--no{name}":
                return f"--{name}=false"
        return word

    def complaint(self, rest: list[str]) -> str:
        """What to say about ``rest``, the words that are left over."""
        word = rest[0].split("=")[0]
        if word.startswith("-"):
            flags = [flag for action in self._actions for flag in action.option_strings]
            return f"unknown command line flag '{word}'{nearest(word, flags)}. '{self.prog} --help' lists the flags"
        return f"'{word}' is one word too many. '{self.prog} --help' shows how to call it"

    def error(self, message: str):
        """Raise CaffeError with argparse's ``message`` instead of ending the process."""
        raise CaffeError(
            f"{self.prog.removeprefix('caffe ')}: {message}. '{self.prog} --help' shows how to call it"
        )


def _truth(text: str) -> bool:
    if text.lower() not in _TRUTH:
        raise argparse.ArgumentTypeError(f"'{text}' is neither true nor false")
    return _TRUTH[text.lower()]


def nearest(word: str, known: Iterable[str]) -> str:
    """`` (did you mean ...?)`` with the nearest of the ``known`` words to ``word``, or nothing."""
    near = difflib.get_close_matches(word, list(known), 1)
    return f" (did you mean {near[0]}?)" if near else ""


def command_first(argv: list[str]) -> list[str]:
    """``argv`` with the command in front: Caffe's tool takes ``caffe --solver x train`` too.

    Every flag of Caffe's own commands has a value, so the word after one that has no '=' is its value.
    """
    at = 0
    while at < len(argv) and argv[at].startswith("-") and argv[at] not in HELP:
        at += 1 if "=" in argv[at] else 2
    if 0 < at < len(argv) and not argv[at].startswith("-"):
        return [argv[at], *argv[:at], *argv[at + 1 :]]
    return argv


def add_logging(parser: Parser) -> None:
    """Add glog's flags to ``parser``: what is logged, and where to."""
    parser.add_argument("--log_dir", default="", metavar="FOLDER", help="write the log into a file there too")
    parser.add_argument(
        "--minloglevel", type=int, metavar="N", help="log from level 0 info, 1 warning, 2 error"
    )
    for name in ("logtostderr", "alsologtostderr"):
        parser.add_switch(name, help="not needed: the log goes to stderr")


def start_logging(args) -> None:
    """Set up the log as the flags of :func:`add_logging` in ``args`` say."""
    if args.minloglevel is not None:
        init_log(args.minloglevel)
    if args.log_dir:
        log_to_folder(args.log_dir)


def add_gpu(parser: argparse.ArgumentParser) -> None:
    """Add the flag ``--gpu`` to ``parser``."""
    parser.add_argument(
        "--gpu", default="", metavar="ID", help="run on this GPU (a number, or 'all'); else the CPU"
    )


def add_state(parser: argparse.ArgumentParser) -> None:
    """Add the flags ``--level`` and ``--stage`` to ``parser``."""
    parser.add_argument("--level", type=int, help="network level, for include and exclude rules (0)")
    parser.add_argument("--stage", default="", metavar="A,B", help="network stages, separated by commas")


def add_iterations(parser: argparse.ArgumentParser) -> None:
    """Add the flag ``--iterations`` to ``parser``."""
    parser.add_argument(
        "--iterations", type=int, default=50, metavar="N", help="how many iterations to run (50)"
    )


def stages(args) -> list[str]:
    """The stages in ``args.stage``."""
    return [stage.strip() for stage in args.stage.split(",") if stage.strip()]


def need(value, message: str) -> None:
    """Raise CaffeError with ``message`` when ``value``, that of a required flag, is empty."""
    if not value:
        raise CaffeError(message)


def positive(args) -> int:
    """``args.iterations``; CaffeError below 1."""
    if args.iterations < 1:
        raise CaffeError(f"--iterations must be at least 1, found {args.iterations}")
    return args.iterations
