"""Layer types by their prototxt name."""

from __future__ import annotations

from .errors import CaffeError
from .vectors import StringVec

_types: dict[str, type] = {}


def register(name: str):
    """Class decorator: the layer type ``name`` of a prototxt is this class."""

    def add(cls):
        _types[name] = cls
        return cls

    return add


def layer_type_list() -> StringVec:
    """The names of all layer types, in byte order."""
    return StringVec(sorted(_types))


def layer_class(name: str, layer_name: str) -> type:
    """The class of the layer type ``name``; CaffeError, naming ``layer_name``, when there is none."""
    if name not in _types:
        raise CaffeError(
            f"layer '{layer_name}': Unknown layer type: {name} (known types: {', '.join(layer_type_list())})"
        )
    return _types[name]
