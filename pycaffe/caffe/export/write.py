"""ONNX files: the graph as a message, its weights inside or in a file beside it."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from ..blob import INT_MAX
from ..errors import CaffeError
from .graph import OPSET, Graph

INSTALL = "pip install 'pycaffe-torch[export]'"
IR_VERSION = 8  # the one that came with opset 17
PAGE = 4096  # weights beside the model begin at multiples of it, so that they can be mapped


def load_onnx():
    """The onnx package; CaffeError with the command that installs it when it is not there."""
    try:
        import onnx
    except ImportError as error:
        raise CaffeError(f"the export to ONNX needs the package onnx: {INSTALL}") from error
    return onnx


def write_onnx(
    g: Graph, name: str, inputs: dict, outputs: dict, metadata: dict, path: Path, beside: bool
) -> Path:
    """Write the graph ``g``, named ``name``, to ``path``.

    ``inputs`` and ``outputs``: tensor → its lengths, numbers or (where they may change) names. ``metadata``: key →
    text. The weights go to ``path`` + ".data" if ``beside``, or if they are over 2 GiB; returns that path, whether
    there is such a file or not. Raises CaffeError when ONNX's own checker refuses the result.
    """
    onnx = load_onnx()
    helper, proto = onnx.helper, onnx.TensorProto

    def values(shapes):
        return [helper.make_tensor_value_info(key, proto.FLOAT, dims) for key, dims in shapes.items()]

    nodes = []
    for node in g.nodes:
        attributes = dict(node.attributes)
        if node.kind == "Cast":
            attributes["to"] = getattr(proto, attributes["to"])
        nodes.append(helper.make_node(node.kind, node.inputs, node.outputs, node.name, **attributes))
    data = path.with_name(path.name + ".data")
    beside = beside or sum(array.nbytes for array in g.constants.values()) > INT_MAX - 2**24
    constants = _beside(onnx, g.constants, data) if beside else _inside(onnx, g.constants)
    graph = helper.make_graph(nodes, name or "net", values(inputs), values(outputs), constants)
    model = helper.make_model(
        graph,
        opset_imports=[helper.make_opsetid("", OPSET)],
        ir_version=IR_VERSION,
        producer_name="pycaffe-torch",
    )
    helper.set_model_props(model, metadata)
    path.write_bytes(model.SerializeToString())
    try:
        onnx.checker.check_model(str(path), full_check=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        raise CaffeError(f"the exported net breaks a rule of ONNX: {error}") from error
    return data


def _inside(onnx, constants: dict[str, np.ndarray]) -> list:
    return [onnx.numpy_helper.from_array(np.asarray(array), name) for name, array in constants.items()]


def _beside(onnx, constants: dict[str, np.ndarray], data: Path) -> list:
    """The constants as references into the file ``data``, which is written; small ones as themselves."""
    small = {name: array for name, array in constants.items() if array.nbytes < PAGE}
    tensors = _inside(onnx, small)
    with data.open("wb") as file:
        for name, array in constants.items():
            if name in small:
                continue
            file.write(bytes(-file.tell() % PAGE))
            place = {"location": data.name, "offset": file.tell(), "length": array.nbytes}
            file.write(memoryview(np.ascontiguousarray(array)).cast("B"))
            tensor = onnx.TensorProto(name=name, dims=array.shape)
            tensor.data_type = onnx.helper.np_dtype_to_tensor_dtype(array.dtype)
            tensor.data_location = onnx.TensorProto.EXTERNAL
            for key, value in place.items():
                tensor.external_data.add(key=key, value=str(value))
            tensors.append(tensor)
    return tensors
