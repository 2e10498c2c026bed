"""What all cases are built with.

A case is plain data (JSON), so that both engines' processes build the same one:

- ``name``: layer type, slash, what is special;
- ``net``: prototxt of the layers after the inputs; ``@FLOOR`` stands for pooling's floor rounding,
  which the two engines spell differently;
- ``inputs``: blob name → [shape, kind]; kinds are those of ``worker.make_input``;
- ``phase``: "TRAIN" or "TEST"; ``backward``: whether gradients are compared; ``filled``: parameters
  stay as their fillers made them instead of being overwritten; ``twice``: inputs change their size
  to this and everything runs again.
"""

from __future__ import annotations

from caffe.proto import caffe_pb2

IMAGE = [2, 6, 9, 7]


def case(name, net, inputs=None, phase="TRAIN", backward=True, filled=False, twice=None) -> dict:
    """One case as a dictionary; the default input is one blob ``x`` of ordinary random numbers."""
    return {
        "name": name,
        "net": net,
        "inputs": {"x": [IMAGE, "normal"]} if inputs is None else inputs,
        "phase": phase,
        "backward": backward,
        "filled": filled,
        "twice": twice,
    }


# where a type's options are in another type's message
_MESSAGES = {
    "Deconvolution": "convolution_param",
    "Im2col": "convolution_param",
    "LSTM": "recurrent_param",
    "RNN": "recurrent_param",
    "SoftmaxWithLoss": "loss_param",
}


def layer(kind: str, options: str = "", bottoms=("x",), tops=("y",), more: str = "") -> str:
    """One layer as prototxt; ``options`` is the inside of the type's own message."""
    text = "".join(f' bottom: "{name}"' for name in bottoms) + "".join(f' top: "{name}"' for name in tops)
    inside = f" {_message(kind)} {{ {options} }}" if options else ""
    return f'layer {{ name: "{kind.lower()}" type: "{kind}"{text}{inside} {more} }}\n'


def _message(kind: str) -> str:
    """The field of LayerParameter that holds the options of a layer type."""
    fields = caffe_pb2.LayerParameter.DESCRIPTOR.fields_by_name
    return _MESSAGES.get(kind) or next(
        name for name in fields if name.replace("_", "") == f"{kind.lower()}param"
    )
