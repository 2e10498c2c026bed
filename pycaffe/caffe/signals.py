"""SIGINT and SIGHUP as requests to a solver, which it looks at between iterations."""

from __future__ import annotations

import signal

from .errors import CaffeError

ACTIONS = ("snapshot", "stop", "none")


class SignalActions:
    """What the solver is to do for the signals that came; a context manager that catches them.

    ``sigint_effect`` and ``sighup_effect`` are ``"stop"``, ``"snapshot"`` or ``"none"``. Within the
    ``with`` block a signal is only noted; calling the object gives the oldest request not yet given
    ("stop" or "snapshot"; SIGHUP's goes first), or None. A signal that comes twice before that
    counts once. The handlers from before come back at the end of the block. Raises CaffeError for
    any other effect.
    """

    def __init__(self, sigint_effect: str = "stop", sighup_effect: str = "snapshot"):
        for effect in (sigint_effect, sighup_effect):
            if effect not in ACTIONS:
                raise CaffeError(
                    f'Invalid signal effect "{effect}" was specified; it is one of {", ".join(ACTIONS)}'
                )
        self._effects = {signal.SIGINT: sigint_effect}
        if hasattr(signal, "SIGHUP"):  # Windows has none
            self._effects = {signal.SIGHUP: sighup_effect, **self._effects}
        self._came: set[int] = set()
        self._previous: dict[int, object] = {}

    def __enter__(self) -> SignalActions:
        for number in self._effects:
            self._previous[number] = signal.signal(number, self._note)
        return self

    def __exit__(self, *_) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, signal.SIG_DFL if handler is None else handler)

    def _note(self, number, frame):
        self._came.add(number)

    def __call__(self) -> str | None:
        """The next request, ``"stop"`` or ``"snapshot"``, or None."""
        for number, effect in self._effects.items():
            if number in self._came:
                self._came.discard(number)
                if effect != "none":
                    return effect
        return None
