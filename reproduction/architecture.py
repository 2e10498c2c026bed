"""What a net is by its prototxt: the architecture columns of Table 1, and what its units see.

All of it comes from :func:`caffe.explain.explain`: exact, and without running the net.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

from caffe import explain
from caffe.errors import CaffeError
from caffe.proto import caffe_pb2

from files import DataError
from reproduction import paper

ROOT = Path(__file__).resolve().parents[1]
TABLE_1 = {row.name: row.directory for row in paper.TABLE1.rows}


def columns(model) -> dict:
    """The architecture columns of Table 1 for ``model``: a model directory, a prototxt file, or a NetParameter.

    - "conv layers": layers with weights on the longest path from the image, the scores' layer included (5 + 2 + 1 in
      FCN-AlexNet; in FCN-GoogLeNet 22 of the 58 that there are, because most lie side by side);
    - "parameters": those that can be learned, all but the kernels of fixed upsampling, which are interpolation;
      "millions" is their number rounded to whole millions, as the paper prints it; "fixed": the others;
    - "rf size": the receptive field of an output unit before upsampling, pixels (along its longer side);
    - "max stride": the coarsest stride within the net, pixels.

    All are integers. With this one rule the deploy nets give the paper's numbers, but for FCN-GoogLeNet's
    receptive field; see :func:`table_1`. Raises DataError where there is no such file, or no net in it whose
    units have a place in the image.
    """
    totals = _explained(model).totals
    if not totals.receptive_field:
        raise DataError(
            f"{_name(model)} has no receptive fields: no layer keeps positions in an image. "
            "Table 1 is about nets like voc-fcn32s/deploy.prototxt"
        )
    return {
        "conv layers": totals.parameter_layers,
        "parameters": totals.learned,
        "millions": round(totals.learned / 1e6),
        "fixed": totals.parameters - totals.learned,
        "rf size": max(totals.receptive_field),
        "max stride": math.ceil(max(totals.max_stride)),
    }


def table_1() -> dict[str, dict]:
    """:func:`columns` of the three nets, by the paper's names.

    FCN-GoogLeNet has one more, "rf size with pooling". The paper says that its last average pooling, over 7x7, is
    discarded (section 4.1), and prints the receptive field of the net with it: 907. Without it a unit sees 715.
    """
    rows = {name: columns(ROOT / directory) for name, directory in TABLE_1.items()}
    with_pooling = columns(ROOT / "ilsvrc-nets" / "googlenet-fcn.prototxt")
    rows["FCN-GoogLeNet"]["rf size with pooling"] = with_pooling["rf size"]
    return rows


def multiply_adds(param: caffe_pb2.NetParameter) -> int:
    """Multiplications (each with its addition) of the filters and matrices in one forward of ``param``."""
    return _explained(param).totals.multiply_adds


def strides(param: caffe_pb2.NetParameter) -> list[tuple[str, int]]:
    """The layers of ``param`` that subsample, from below, each with its stride (along its longer side)."""
    lines = _explained(param).layers
    return [(line.name, max(line.stride)) for line in lines if line.stride and max(line.stride) > 1]


@dataclass(frozen=True)
class Units:
    """The units of a map: each sees ``field`` x ``field`` pixels, ``stride`` pixels on from its neighbour's.

    The field of unit 0 begins at pixel ``first``, which is negative where padding comes before the image.
    """

    field: int
    stride: int
    first: int

    def inside(self, length: int) -> range:
        """The units along an axis of ``length`` pixels whose field is all image, no padding."""
        return range(-(self.first // self.stride), (length - self.field - self.first) // self.stride + 1)


def units(param: caffe_pb2.NetParameter, blob: str) -> Units:
    """What the units of the map ``blob`` of the net ``param`` see; :class:`DataError` when it is no such map.

    Fields must be squares whose corners are whole pixels, as those of all nets here.
    """
    lines = [line for line in _explained(param).layers if blob in line.tops and line.field]
    if not lines:
        raise DataError(f"the net {param.name!r} has no map {blob!r} whose units have a place in the image")
    line = lines[-1]  # the last of the layers that work in place
    axes = {
        (field, jump, centre - Fraction(field - 1, 2))
        for field, jump, centre in zip(line.field, line.jump, line.centre, strict=True)
    }
    if len(axes) > 1 or any(number != int(number) for number in min(axes)):
        found = " and ".join(
            f"{field} pixels from {first} on, {jump} apart" for field, jump, first in sorted(axes)
        )
        raise DataError(f"units of {blob!r} see {found}; squares of whole pixels are needed")
    return Units(*map(int, axes.pop()))


def _explained(model) -> explain.Explanation:
    if isinstance(model, (str, Path)) and Path(model).is_dir():
        model = Path(model) / "deploy.prototxt"
    if not isinstance(model, caffe_pb2.NetParameter) and not Path(model).is_file():
        raise DataError(
            f"there is no {model}: give a model directory with a deploy.prototxt (python net.py there makes it)"
        )
    try:
        return explain.explain(model)
    except CaffeError as error:
        raise DataError(f"the engine refuses {_name(model)}: {error}") from error


def _name(model) -> str:
    return f"the net {model.name!r}" if isinstance(model, caffe_pb2.NetParameter) else str(model)
