"""Which Caffe layer type is translated by which function, and which types an exported net leaves out."""

from __future__ import annotations

from collections.abc import Callable

# Layers that matter only while a net learns or is scored: no part of an exported net.
DROPPED = {
    "Accuracy",
    "ContrastiveLoss",
    "EuclideanLoss",
    "HDF5Output",
    "HingeLoss",
    "InfogainLoss",
    "MultinomialLogisticLoss",
    "SigmoidCrossEntropyLoss",
    "Silence",
    "SoftmaxWithLoss",
}

# Layers that read files: a net with one is a training or validation net.
READERS = {"Data", "DummyData", "HDF5Data", "ImageData", "MemoryData", "WindowData"}

# A translator takes (graph, layer, bottoms, shapes): the graph to add to, the engine's layer, the
# tensors that it reads and their shapes in the net as built. It returns the tops' tensors. Only the
# number of axes, and lengths that weights fix, may be taken from a shape: the others may change.
Translator = Callable[..., list[str]]

_translators: dict[str, Translator] = {}


def translates(*types: str):
    """Function decorator: the function translates layers of these ``types``."""

    def add(function: Translator) -> Translator:
        _translators.update(dict.fromkeys(types, function))
        return function

    return add


def exportable_types() -> list[str]:
    """The layer types that can be exported, in alphabetical order."""
    return sorted({*_translators, "Input"})


def translator(layer_type: str) -> Translator:
    """The function that translates ``layer_type``; KeyError when there is none."""
    return _translators[layer_type]
