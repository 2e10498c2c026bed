"""What the engine's public functions say of themselves agrees with what they take."""

import importlib
import inspect
import pkgutil
import re

import caffe
import pytest

GENERATED = {"caffe.proto.caffe_pb2"}
# Caffe's words, which mean one thing everywhere: the layer's blobs, their shapes, a net, a path
OBVIOUS = {"bottom", "top", "propagate_down", "bottoms", "params", "shapes", "net", "path", "layer", "blob"}


def modules():
    """Every module of the engine whose name is public."""
    names = [each.name for each in pkgutil.walk_packages(caffe.__path__, "caffe.")]
    public = [name for name in names if not any(part.startswith("_") for part in name.split("."))]
    return [importlib.import_module(name) for name in ["caffe", *public] if name not in GENERATED]


def callables():
    """(name, function or class) for everything public that a module of the engine defines."""
    found = {}
    for module in modules():
        for name, thing in vars(module).items():
            if name.startswith("_") or getattr(thing, "__module__", None) != module.__name__:
                continue
            if inspect.isfunction(thing) or inspect.isclass(thing):
                found[f"{module.__name__}.{name}"] = thing
            if inspect.isclass(thing):
                for inner, method in vars(thing).items():
                    method = getattr(method, "__func__", method)
                    if not inner.startswith("_") and inspect.isfunction(method):
                        found[f"{module.__name__}.{name}.{inner}"] = method
    return found


CALLABLES = callables()


@pytest.mark.parametrize("module", modules(), ids=lambda module: module.__name__)
def test_every_module_says_what_it_is(module):
    assert module.__doc__


@pytest.mark.parametrize("name", CALLABLES)
def test_signature_and_docstring_agree(name):
    thing = CALLABLES[name]
    text = documentation(name, thing)
    assert text, f"{name} has no docstring"
    assert undocumented(thing, text) == []
    assert unknown(thing, text) == []


def documentation(name, thing):
    """Its docstring: for a method that overrides, the one it inherits."""
    return inspect.getdoc(thing) or inspect.getdoc(getattr(owner(name), name.rpartition(".")[2], None))


def owner(name):
    """The class that a method's dotted name lies in, or None."""
    return CALLABLES.get(name.rpartition(".")[0])


def parameters(thing):
    """The names of what it takes; of a class, what its constructor takes."""
    function = vars(thing).get("__init__") if inspect.isclass(thing) else thing
    if function is None or not inspect.isfunction(function):
        return []
    named = inspect.signature(function).parameters.values()
    kinds = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    return [each.name for each in named if each.name not in ("self", "cls") and each.kind not in kinds]


def undocumented(thing, text):
    """The parameters that the docstring does not name. Of a single one it is plain what is meant."""
    names = parameters(thing)
    if inspect.isclass(thing) or len(names) < 2 or OBVIOUS >= set(names):
        return []
    return [name for name in names if not re.search(rf"\b{name}\b", text) and name not in OBVIOUS]


def unknown(thing, text):
    """Names in ``double backticks`` followed by ``=``, as arguments are shown, that it does not take."""
    if inspect.isclass(thing):
        return []
    shown = re.findall(rf"\b{thing.__name__}\(([^()]*)\)", text)
    given = [name for arguments in shown for name in re.findall(r"\b(\w+)=", arguments)]
    catches_all = any(each.kind == each.VAR_KEYWORD for each in inspect.signature(thing).parameters.values())
    return [] if catches_all else [name for name in given if name not in parameters(thing)]
