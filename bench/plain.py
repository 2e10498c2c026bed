"""An FCN on VGG16 as a plain PyTorch module: what one writes without Caffe, and without thinking of speed.

Names of layers are those of the prototxts, so that the weights of a caffemodel load by name.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import nn

BLOCKS = (2, 2, 3, 3, 3)  # convolutions before each pooling
SKIPS = (("pool4", 5), ("pool3", 9))  # fused in, coarsest first; where their crop begins
CROPS = {32: 19, 16: 27, 8: 31}  # the last stride; where the last crop begins


class FCN(nn.Module):
    """FCN-32s, -16s or -8s, of any width and number of classes: ``state``, its weights by name, says which.

    ``forward`` takes N x 3 x H x W and gives scores, N x C x H x W. ``dropout``: ratio while training.
    """

    def __init__(self, state: Mapping[str, torch.Tensor], dropout: float = 0.5):
        super().__init__()
        self.skips = [(pool, begin) for pool, begin in SKIPS if f"score_{pool}.weight" in state]
        self.stride = 32 >> len(self.skips)
        self.dropout = dropout
        for name in [name.removesuffix(".weight") for name in state if name.endswith(".weight")]:
            first, second, size, _ = state[f"{name}.weight"].shape
            if name.startswith("upscore"):
                layer = nn.ConvTranspose2d(first, second, size, stride=size // 2, bias=False)
            else:
                pad = 100 if name == "conv1_1" else 1 if name.startswith("conv") else 0
                layer = nn.Conv2d(second, first, size, padding=pad)
            self.add_module(name, layer)
        self.load_state_dict(dict(state))

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        h, pools = image, {}
        for block, convolutions in enumerate(BLOCKS, 1):
            for number in range(1, convolutions + 1):
                h = F.relu(self.get_submodule(f"conv{block}_{number}")(h), inplace=True)
            h = pools[f"pool{block}"] = F.max_pool2d(h, 2, 2, ceil_mode=True)
        for layer in (self.fc6, self.fc7):
            h = F.dropout(F.relu(layer(h), inplace=True), self.dropout, self.training)
        h, up = self.score_fr(h), "upscore2"
        for pool, begin in self.skips:
            h = self.get_submodule(up)(h)
            h = h + _window(self.get_submodule(f"score_{pool}")(pools[pool]), begin, h)
            up = f"upscore_{pool}"
        h = self.get_submodule("upscore" if self.stride == 32 else f"upscore{self.stride}")(h)
        return _window(h, CROPS[self.stride], image).contiguous()


def _window(x: torch.Tensor, begin: int, like: torch.Tensor) -> torch.Tensor:
    """The part of ``x`` from ``begin`` on, along both axes, as large as ``like``."""
    height, width = like.shape[2:]
    return x[:, :, begin : begin + height, begin : begin + width]


def optimizer(model: nn.Module, lr: float, momentum: float, decay: float) -> torch.optim.SGD:
    """SGD as the solver has it: biases at twice the rate without decay; the upsampling stays as it is."""
    weights, biases = [], []
    for name, param in model.named_parameters():
        if name.startswith("upscore"):
            param.requires_grad_(False)
        else:
            (biases if name.endswith(".bias") else weights).append(param)
    groups = [{"params": weights, "weight_decay": decay}, {"params": biases, "lr": 2 * lr}]
    return torch.optim.SGD(groups, lr=lr, momentum=momentum)


def iteration(model, optimize, image, label, images: int = 1, precision: str = "float32") -> float:
    """One training iteration: forward and backward of so many ``images`` in turn, then the update; the last loss.

    The loss is summed over the pixels, as the heavy recipe has it; label 255 is void.
    """
    optimize.zero_grad()
    for _ in range(images):
        with autocast(image, precision):
            scores = model(image)
        loss = F.cross_entropy(scores.float(), label, ignore_index=255, reduction="sum") / images
        loss.backward()
    optimize.step()
    return loss.item() * images


def autocast(image: torch.Tensor, precision: str):
    """The context in which a net computes in bf16, or as it is."""
    return torch.autocast(image.device.type, torch.bfloat16, enabled=precision == "bf16")
