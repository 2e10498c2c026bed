"""Eltwise: blobs of one shape combined value by value."""

from __future__ import annotations

from functools import reduce

import torch

from ..layer import TensorLayer
from ..proto import caffe_pb2
from ..registry import register
from .rules import dims

_SUM = caffe_pb2.EltwiseParameter.SUM
_PROD = caffe_pb2.EltwiseParameter.PROD


@register("Eltwise")
class Eltwise(TensorLayer):
    """The SUM (default; weighted by ``coeff``), PROD or MAX of two or more blobs of one shape.

    MAX passes the gradient to the winner: of the first two, the second when they are equal; a
    later one only when it is greater. The gradient of PROD is always the product of the
    others, which ``stable_prod_grad: false`` differs from only where a value is 0. An in-place
    SUM counts the operand that it overwrites, which Caffe loses.
    """

    min_bottoms = 2
    exact_tops = 1

    def configure(self, shapes):
        param = self.layer_param.eltwise_param
        self.operation = param.operation
        self.coefficients = list(param.coeff)
        if self.coefficients and len(self.coefficients) != len(shapes):
            raise self.error(
                "Eltwise Layer takes one coefficient per bottom blob. "
                f"{len(self.coefficients)} given, {len(shapes)} bottoms"
            )
        if self.coefficients and self.operation != _SUM:
            raise self.error("Eltwise layer only takes coefficients for summation.")

    def top_shapes(self, shapes):
        for i, shape in enumerate(shapes):
            if shape != shapes[0]:
                raise self.error(
                    f"all bottoms must have one shape; bottom[0]: {dims(shapes[0])}, bottom[{i}]: {dims(shape)}. "
                    "A Crop layer makes a larger one fit"
                )
        return [shapes[0]]

    def compute(self, bottoms, params):
        if self.operation == _PROD:
            return [reduce(torch.mul, bottoms)]
        if self.operation != _SUM:
            first, second, *others = bottoms
            top = torch.where(first > second, first, second)
            for other in others:
                top = torch.where(other > top, other, top)
            return [top]
        if not self.coefficients:
            return [reduce(torch.add, bottoms)]
        top = bottoms[0] * self.coefficients[0]
        for bottom, coefficient in zip(bottoms[1:], self.coefficients[1:], strict=True):
            top = torch.add(top, bottom, alpha=coefficient)
        return [top]
