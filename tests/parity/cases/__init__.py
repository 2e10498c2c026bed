"""The layer cases: for each layer type, nets of one layer over a grid of its options (see ``build``)."""

from __future__ import annotations

from . import fcn, losses, norms, pointwise, recurrent, shapes

FAMILIES = (fcn, losses, norms, pointwise, recurrent, shapes)


def all_cases() -> list[dict]:
    """Every layer case, in order of layer type."""
    found = [each for family in FAMILIES for each in family.cases()]
    names = [each["name"] for each in found]
    assert len(set(names)) == len(names), "two cases of one name"
    return found


def layer_jobs() -> list[dict]:
    """The same as jobs of the worker."""
    return [{"kind": "layer", **each} for each in all_cases()]
