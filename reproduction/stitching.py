"""Shift-and-stitch against filter rarefaction: the same dense map, and what each costs (section 3.2).

Four ways are measured, each to the same map but the first:

- "plain": the net itself, a coarse map;
- "shift and stitch": the net on f² shifted images (:func:`dense.shift_and_stitch`);
- "rarefied": one run of a net without the strides, whose filters hold zeros (:func:`dense.rarefied`);
- "dilated": the same, but the zeros are not multiplied: the filters stay small and read every f-th
  value, which is how the paper says that it is done in practice.
"""

from __future__ import annotations

import caffe
import numpy as np
from caffe.proto import caffe_pb2

import dense
import nets
import surgery
import trunks
from files import DataError
from reproduction import timing
from reproduction.architecture import multiply_adds, strides, units
from reproduction.patchwise import EQUAL, difference


def compare(param: caffe_pb2.NetParameter, top: str, factor: int, rounds: int = 3, timer=caffe.Timer) -> dict:
    """The map ``top`` of the net ``param``, made ``factor`` times as dense: cost of each way, and that they agree.

    ``param`` has one input, ``data``, of the size to measure at, and is convolutional up to ``top``. The strides of
    its uppermost layers, whose product must be the factor, are those that go. Returned are

    - "net", "image", "factor", "stride" (of the dense map, pixels), "layers" (whose stride is gone), "map" and
      "dense map" (height, width), the device and threads;
    - "multiply_adds" and "times" (:func:`timing.summary`) by the four ways, and "over plain": the
      :func:`timing.ratio` of each way's time to the plain net's, measured in turn for ``rounds`` rounds;
    - "differences": for "rarefied" and "dilated", the largest "difference" from the stitched map over the largest
      value, over "cells" cells, and whether they are "equal" to 1e-5.

    Compared are the cells that must agree: (f i + y, f j + x) for every cell (i, j) of the net's own map whose
    field is all image. The ways that run once get the image followed by the zeros that the last
    shifted images have, too. Weights and image are random, the same every time. Raises DataError for a
    factor that is no product of the uppermost strides, and when no cell sees image only.
    """
    plain, _ = dense.rarefied(param, [], top)  # without the layers above
    seen, layers = units(plain, top), _uppermost(plain, factor)
    step = seen.stride // factor
    net = timing.fill(timing.build(plain))
    image = timing.noise(tuple(net.blobs["data"].shape))
    own = [seen.inside(length) for length in image.shape[2:]]
    if not all(own):
        raise DataError(
            f"{param.name!r} on {image.shape[2]}x{image.shape[3]} pixels: a cell of {top} sees {seen.field} pixels, "
            f"the first from {seen.first} on, and none sees image only. Take a larger image, or a net that sees less"
        )
    beyond = (factor - 1) * step
    extended = np.pad(image, ((0, 0), (0, 0), (0, beyond), (0, beyond)))
    rarefied, factors = dense.rarefied(timing.sized(plain, extended.shape), layers, top)
    dilated = _dilated(rarefied, plain, factors)
    made, thin = timing.build(rarefied), timing.build(dilated)
    dense.fill(made, net, factors)
    surgery.transplant(thin, net)

    maps = {}

    def once(way, run, pixels):
        def job(watch):
            with watch:
                timing.put(run, pixels)
                run.forward(blobs=[top])
            maps[way] = run.blobs[top].data.copy()

        return job

    def stitch(watch):
        with watch:
            maps["shift and stitch"] = dense.shift_and_stitch(net, image, factor, top, step)

    jobs = {
        "plain": once("plain", net, image),
        "shift and stitch": stitch,
        "rarefied": once("rarefied", made, extended),
        "dilated": once("dilated", thin, extended),
    }
    times = timing.take_turns(jobs, rounds, f"{factor} times as dense", timer)
    cells = np.s_[(..., *(slice(factor * axis.start, factor * axis.stop) for axis in own))]
    stitched = maps["shift and stitch"][cells]
    once_through = multiply_adds(plain)
    return {
        "net": param.name,
        "image": list(image.shape[2:]),
        "factor": factor,
        "stride": step,
        "layers": layers,
        "map": list(maps["plain"].shape[2:]),
        "dense map": list(maps["shift and stitch"].shape[2:]),
        **timing.circumstances(),
        "multiply_adds": {
            "plain": once_through,
            "shift and stitch": factor**2 * once_through,
            "rarefied": multiply_adds(rarefied),
            "dilated": multiply_adds(dilated),
        },
        "times": {way: timing.summary(each) for way, each in times.items()},
        "over plain": {
            way: timing.ratio(each, times["plain"]) for way, each in times.items() if way != "plain"
        },
        "differences": {way: _agree(maps[way][cells], stitched) for way in ("rarefied", "dilated")},
    }


def vgg16(size, recipe: nets.Recipe = nets.PAPER, top: str = "score_fr", border: int = trunks.BORDER):
    """VGG16's trunk on an image of ``size`` up to ``top``: "score_fr" is FCN-32s's scores, "pool5" its last pooling.

    ``border``: zeros around the image. Returns a NetParameter.
    """
    n = caffe.NetSpec()
    n.data = nets.image((1, 3, *size))
    until = {} if top == "score_fr" else {"until": top}
    features = trunks.vgg16(n, recipe, border=border, **until)
    if not until:
        n.score_fr = nets.score(features["fr"], 21)
    made = n.to_proto()
    made.name = f"VGG16 to {top}" + (f", width 1/{recipe.divide}" if recipe.divide > 1 else "")
    return made


def section_32(rounds: int = 3) -> list[dict]:
    """:func:`compare` by factors 2 and 4: FCN-32s's scores at an eighth of the width, and VGG16's pool5 at full width.

    On 500x500 and 256x256 pixels; less than two minutes on two cores. Scores at full width are left out: rarefied by
    4, fc6 alone would have 1.3 billion values, all but 103 million of them zeros.
    """
    narrow = vgg16((500, 500), nets.Recipe(divide=8))
    wide = vgg16((256, 256), top="pool5", border=1)
    cases = (
        (param, top, factor) for param, top in ((narrow, "score_fr"), (wide, "pool5")) for factor in (2, 4)
    )
    return [compare(*case, rounds) for case in cases]


def _uppermost(param, factor):
    """The names of the uppermost layers whose strides multiply to ``factor``, lowest first."""
    layers, left, found = [], factor, strides(param)
    while left > 1 and found:
        name, stride = found.pop()
        layers.append(name)
        left = left // stride if left % stride == 0 else 0
    if left != 1 or factor < 2:
        known = ", ".join(f"{name} {stride}" for name, stride in strides(param)) or "none"
        raise DataError(
            f"{param.name!r} cannot be made {factor} times as dense: the factor must be the product of its uppermost "
            f"strides, which are, from below: {known}"
        )
    return layers[::-1]


def _dilated(rarefied, plain, factors):
    """``rarefied`` with the kernels of ``plain``, dilated by ``factors`` (of convolutions, by name)."""
    original = {layer.name: layer.convolution_param for layer in plain.layer}
    made = caffe_pb2.NetParameter()
    made.CopyFrom(rarefied)
    for layer in made.layer:
        if layer.name in factors:
            shape, own = layer.convolution_param, original[layer.name]
            for field in ("kernel_size", "kernel_h", "kernel_w"):
                shape.ClearField(field)
            for field in ("kernel_h", "kernel_w"):
                if own.HasField(field):
                    setattr(shape, field, getattr(own, field))
            shape.kernel_size.extend(own.kernel_size)
            shape.dilation[:] = [factors[layer.name] * hole for hole in own.dilation or [1]]
    return made


def _agree(one, stitched):
    worst = difference(one, stitched)
    return {"cells": stitched[0, 0].size, "difference": worst, "equal": worst <= EQUAL}
