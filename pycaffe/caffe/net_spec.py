"""Nets written in Python: ``n.conv1 = L.Convolution(n.data, num_output=64, kernel_size=3)``.

A call of a name in ``layers`` records one layer as a :class:`Function` and gives its outputs as
:class:`Top` objects, which are the inputs of other calls. Assigning a Top to an attribute of a
:class:`NetSpec` names it; ``str(n.to_proto())`` is the prototxt. Nothing is computed and no layer
type is looked up here, so a spec may use types that only a Python module or another engine has.
"""

from __future__ import annotations

from collections import Counter
from difflib import get_close_matches

from .proto import caffe_pb2


def param_name_dict() -> dict[str, str]:
    """Layer type → stem of its own field in LayerParameter: ``{"Convolution": "convolution", ...}``.

    Types without a message of their own (Deconvolution, SoftmaxWithLoss, Input ...) are absent
    unless a ``<Type>Parameter`` exists.
    """
    stems = {}
    for field in caffe_pb2.LayerParameter.DESCRIPTOR.fields:
        if field.name.endswith("_param"):
            stems[field.message_type.name.removesuffix("Parameter")] = field.name.removesuffix("_param")
    return stems


_param_names = param_name_dict()


def to_proto(*tops):
    """The NetParameter of the layers that ``tops`` need, inputs first, all named automatically."""
    layers, autonames = {}, Counter()
    for top in tops:
        top._to_proto(layers, {}, autonames)
    return caffe_pb2.NetParameter(layer=layers.values())


def assign_proto(proto, name, val):
    """Set field ``name`` of the message ``proto`` from a plain Python value, ``val``.

    A dict fills a message, a list a repeated field (a list of dicts a repeated message), and a
    single value given for a repeated field becomes its only entry.

    Raises AttributeError for an unknown field, IndexError for an empty list, TypeError for a tuple
    or a value of the wrong type.
    """
    repeated = hasattr(getattr(proto, name), "extend")
    if repeated and not isinstance(val, list):
        val = [val]
    if isinstance(val, list):
        if not val:
            raise IndexError(f"{name}: an empty list; leave the parameter out instead")
        if isinstance(val[0], dict):
            for item in val:
                _fill(getattr(proto, name).add(), item)
        else:
            getattr(proto, name).extend(val)
    elif isinstance(val, dict):
        _fill(getattr(proto, name), val)
    else:
        setattr(proto, name, val)


def _fill(message, fields):
    for name, val in fields.items():
        assign_proto(message, name, val)


class Top:
    """Output number ``n`` of the layer ``fn``."""

    def __init__(self, fn, n):
        self.fn = fn
        self.n = n

    def to_proto(self):
        """The NetParameter of all layers that this top needs."""
        return to_proto(self)

    def _to_proto(self, layers, names, autonames):
        self.fn._to_proto(layers, names, autonames)


class Function:
    """One layer: its type ``type_name``, the tops it takes (``inputs``) and its parameters (the dict ``params``).

    ``ntop`` (default 1) and ``in_place`` are taken out of the parameters. Raises TypeError for an
    input that is not a :class:`Top`.
    """

    def __init__(self, type_name, inputs, params):
        for i, top in enumerate(inputs):
            if not isinstance(top, Top):
                raise TypeError(f"{type_name} input {i} is not a Top (type is {type(top)})")
        self.type_name = type_name
        self.inputs = tuple(inputs)
        self.params = dict(params)
        self.ntop = self.params.pop("ntop", 1)
        self.in_place = self.params.pop("in_place", False)
        self.tops = tuple(Top(self, n) for n in range(self.ntop))

    def _name(self, thing, names, autonames):
        if thing not in names:
            autonames[self.type_name] += 1
            names[thing] = f"{self.type_name}{autonames[self.type_name]}"
        return names[thing]

    def _to_proto(self, layers, names, autonames):
        if self in layers:
            return
        bottoms = []
        for top in self.inputs:
            top._to_proto(layers, names, autonames)
            bottoms.append(layers[top.fn].top[top.n])
        tops = bottoms if self.in_place else [self._name(top, names, autonames) for top in self.tops]
        name = self._name(self.tops[0] if self.tops else self, names, autonames)
        layer = caffe_pb2.LayerParameter(type=self.type_name, bottom=bottoms, top=tops, name=name)
        for key, val in self.params.items():
            self._assign(layer, key, val)
        layers[self] = layer

    def _assign(self, layer, key, val):
        fields = layer.DESCRIPTOR.fields_by_name
        own = _param_names.get(self.type_name)
        own_fields = fields[f"{own}_param"].message_type.fields_by_name if own else {}
        if not key.endswith("param") and key in own_fields:
            target = getattr(layer, f"{own}_param")
        elif key in fields:
            target = layer
        else:
            raise AttributeError(self._unknown(layer.name, key, own, [*own_fields, *fields]))
        try:
            assign_proto(target, key, val)
        except (AttributeError, IndexError, TypeError, ValueError) as error:
            raise type(error)(f"layer {layer.name!r}, parameter {key!r}: {error}") from error

    def _unknown(self, name, key, own, known):
        text = f"layer {name!r}: {self.type_name} has no parameter {key!r}"
        near = get_close_matches(key, known, 3)
        if near:
            return f"{text} (did you mean {' or '.join(near)}?)"
        if own is None:
            return f"{text}: it has no message of its own, so write xyz_param=dict({key}=...)"
        return text

    def to_proto(self):
        """The NetParameter of this layer and all layers that it needs."""
        return to_proto(self)


class NetSpec:
    """A net under construction: names for tops, in order of assignment.

    ``n.data = top`` and ``n["data"] = top`` name a top (and its layer, when it is the first);
    ``n.data`` and ``n["data"]`` give it back, KeyError when there is none. ``n.tops`` holds all.
    A layer without tops (``ntop=0``) is assigned as it is: ``n.silence = L.Silence(x, ntop=0)``.
    """

    def __init__(self):
        super().__setattr__("tops", {})

    def __setattr__(self, name, value):
        if not isinstance(value, Top | Function):
            raise TypeError(
                f"NetSpec.{name} is not a Top (type is {type(value)}); "
                "a layer with several tops is assigned as n.a, n.b = L.Type(..., ntop=2)"
            )
        self.tops[name] = value

    def __getattr__(self, name):
        return self.tops[name]

    def __setitem__(self, key, value):
        setattr(self, key, value)

    def __getitem__(self, key):
        return self.tops[key]

    def to_proto(self):
        """The NetParameter of every named top and what they need, each layer after its inputs."""
        names = {top: name for name, top in self.tops.items()}
        layers, autonames = {}, Counter()
        for top in self.tops.values():
            top._to_proto(layers, names, autonames)
        return caffe_pb2.NetParameter(layer=layers.values())


class Layers:
    """``layers.Type(*bottoms, **params)`` records a layer of type ``Type``.

    Gives one :class:`Top`, a tuple of them for ``ntop`` above 1, the :class:`Function` for
    ``ntop=0``. A parameter named ``..._param`` fills that field of LayerParameter; any other goes to
    the type's own message if that has it (``num_output`` of Convolution), else to LayerParameter
    (``name``, ``include``, ``loss_weight``).
    """

    def __getattr__(self, name):
        if name.startswith("__"):
            raise AttributeError(name)

        def layer(*bottoms, **params):
            fn = Function(name, bottoms, params)
            if fn.ntop == 0:
                return fn
            return fn.tops[0] if fn.ntop == 1 else fn.tops

        return layer


class Parameters:
    """Enumerators by name: ``params.Pooling.MAX`` is ``PoolingParameter.MAX`` of the schema."""

    def __getattr__(self, name):
        if name.startswith("__"):
            raise AttributeError(name)
        return getattr(caffe_pb2, f"{name}Parameter")


layers = Layers()
params = Parameters()
