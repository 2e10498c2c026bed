"""How a net trains fast: the chain from the image on without its constant border, gradients by autograd.

The same constant border as in testing (:mod:`caffe.fast.border`), but the small blank image is
computed in every pass, on the same parameters, so that what they learn from the border flows
back through it: each of its cells stands for all that are alike, and gets the sum of their gradients.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F

from . import border, chain, layout, products, winograd
from .kernels import evened
from .plan import ChainedPlan, fused_relus
from .upsampling import upsampling


class TrainingPlan(ChainedPlan):
    """The way of a net through a pass that gives the blobs ``wanted``; asked by :mod:`caffe.whole` layer by layer."""

    prices = layout.Prices(blank=1, copy=300)  # what is copied is copied back, and added up, in backward

    def __init__(self, net, wanted: frozenset[str]):
        super().__init__()
        self.layers = net.layers
        self.fused = {i: relu for i, relu in fused_relus(net, wanted).items() if net._needs[i]}
        self.stages = chain.find(net, self.fused, wanted)
        links = [link for stage in self.stages for link in stage.links]
        # a chain is one graph: either all of it learns, and the image gets no gradient, or it runs layer by layer
        if not all(net._needs[link.index] for link in links) or (
            links and net._bottom_needs[links[0].index][0]
        ):
            self.stages = []

    def start(self, leaves) -> None:
        """A pass begins; ``leaves(layer)`` gives the parameters of a layer, as tensors that record gradients."""
        self._leaves, self._ready = leaves, {}

    def _compute(self, index, sources):
        layer = self.layers[index]
        if chain.is_plane_convolution(layer) and torch.is_grad_enabled():
            result = self._convolution(layer, layer.completed(sources[0]), index in self.fused)
            if index not in self.fused:
                return [result]
            self._ready[self.fused[index]] = result
            return [None]
        leaves = self._leaves(layer)
        if (
            layer.type == "Deconvolution"
            and len(sources) == 1
            and not any(leaf.requires_grad for leaf in leaves)
        ):
            if kernel := upsampling(layer, leaves):
                return [kernel(sources[0])]
        return layer.compute(sources, leaves)

    def _convolution(self, layer, x, relu):
        weight, bias = self._weights(layer)
        (shape,) = layer.top_shapes([tuple(x.shape)])
        if winograd.pays(layer, weight, x.dtype, winograd.LEARNING) and max(layer.pad) < layer.kernel[0]:
            return winograd.learning(x, weight, bias, layer.pad, relu)
        if products.pays(layer, x, shape):
            y = products.product(layer, x, weight, bias)
        else:
            (y,) = layer.compute([x], self._leaves(layer))
        return y.relu() if relu else y

    def _weights(self, layer):
        leaves = self._leaves(layer)
        return leaves[0], leaves[1] if len(leaves) > 1 else None

    def _link(self, link, x, sides):
        if not chain.is_plane_convolution(link.layer):
            return link.layer.compute([x], self._leaves(link.layer))[0]
        layer, (x, pad) = link.layer, evened(x, sides, link.layer.extent)
        if x.device.type == "cpu":
            x = x.contiguous(memory_format=torch.channels_last)
        weight, bias = self._weights(layer)
        if winograd.pays(layer, weight, x.dtype, winograd.LEARNING):
            return winograd.learning(x, weight, bias, pad, link.last != link.index)
        y = F.conv2d(x, weight, bias, layer.stride, pad, layer.dilation, layer.group)
        return y.relu_() if link.last != link.index else y

    def _run_chain(self, image):
        place, legs = self._legs(image)
        if not legs or not legs[0].blank:
            return False
        blank = border.blanks(legs, self._link, image)
        self._ready.update(border.run(legs, place, self._link, image, blank))
        return True
