"""What a Python layer is told in its prototxt: ``param_str``, a dictionary of constants, checked key by key."""

from __future__ import annotations

import ast
import difflib
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Any

import caffe

from files import LITERALS, DataError

REQUIRED = object()


@dataclass(frozen=True)
class Key:
    """One key: what its value ``must`` be, in words; the test of it; and the default, if it may be left out."""

    must: str
    holds: Callable[[Any], bool]
    default: Any = REQUIRED


def is_number(value: Any) -> bool:
    """Whether ``value`` is an int or a float, no bool, and finite."""
    return type(value) in (int, float) and abs(value) < float("inf")


def are_numbers(value: Any, count: int | None = None) -> bool:
    """Whether ``value`` is a tuple or list of numbers, ``count`` of them if given."""
    if not isinstance(value, (tuple, list)) or (count is not None and len(value) != count):
        return False
    return all(is_number(each) for each in value)


def text() -> Key:
    """A key for a text that is not empty."""
    return Key("a text", lambda value: isinstance(value, str) and value != "")


def flag(default: bool) -> Key:
    """A key for True or False."""
    return Key("True or False", lambda value: isinstance(value, bool), default)


def integer(low: int, high: int | None, default: int) -> Key:
    """A key for an integer from ``low`` to ``high`` (None: any larger one)."""
    range_ = f"from {low} to {high}" if high is not None else f"of {low} or more"
    return Key(
        f"an integer {range_}",
        lambda value: type(value) is int and low <= value and (high is None or value <= high),
        default,
    )


def some_of(names: Collection[str]) -> Key:
    """A key for a list that names one or more of ``names``, each at most once."""
    return Key(
        f"a list of some of {', '.join(names)}",
        lambda value: (
            isinstance(value, (tuple, list))
            and len(value) > 0
            and all(value.count(name) == 1 and name in names for name in value)
        ),
    )


SEED = Key("an integer or None", lambda value: value is None or type(value) is int, 1337)


class ParamLayer(caffe.Layer):
    """A Python layer whose ``param_str`` is a dictionary of constants with the keys of ``keys``."""

    keys: dict[str, Key] = {}

    @classmethod
    def outside(cls, param_str: str):
        """Such a layer without a net: its ``params`` are read and checked, nothing else is looked for."""
        layer = cls.__new__(cls)  # the constructor is for nets
        layer.param_str = param_str
        layer.params = layer.read_params()
        return layer

    def who(self) -> str:
        """What messages call the layer: its name, where the engine tells it, and its class."""
        name = getattr(self, "name", None)
        return f"layer {name} ({type(self).__name__})" if name else type(self).__name__

    def read_params(self) -> dict[str, Any]:
        """``param_str`` as a dictionary with the defaults filled in; DataError for a wrong key or value."""
        where = f"{self.who()}: param_str"
        try:
            with LITERALS:
                given = ast.literal_eval(self.param_str)
        except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError) as error:
            raise DataError(
                f"{where} {self.param_str!r} is no Python dictionary of constants: {error}"
            ) from None
        if not isinstance(given, dict):
            raise DataError(f"{where} {self.param_str!r} is a {type(given).__name__}, not a dictionary")
        for key in given:
            if key not in self.keys:
                close = difflib.get_close_matches(str(key), self.keys, 1)
                hint = f"did you mean {close[0]!r}? " if close else ""
                raise DataError(f"{where} has the unknown key {key!r}; {hint}Known: {', '.join(self.keys)}")
        required = [key for key, rule in self.keys.items() if rule.default is REQUIRED]
        missing = [key for key in required if key not in given]
        if missing:
            raise DataError(f"{where} lacks {', '.join(missing)}. It needs {', '.join(required)}")
        params = {key: given.get(key, rule.default) for key, rule in self.keys.items()}
        for key, value in params.items():
            if not self.keys[key].holds(value):
                raise DataError(f"{where}: {key} is {value!r}; it must be {self.keys[key].must}")
        return params
