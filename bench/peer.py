"""A process with one peer: ``python peer.py KIND PRECISION DEVICE`` answers the jobs that ``caffes.py`` answers.

KIND is pytorch (:mod:`plain`), compile (the same by torch.compile), torchfcn, onnxruntime or openvino. Each has its
weights the way its users have them: a .pth file, or ONNX.
"""

from __future__ import annotations

import importlib
import importlib.util
import os
import sys
import types

import answering
import numpy as np
from answering import image

THREADS = int(os.environ.get("OMP_NUM_THREADS") or len(os.sched_getaffinity(0)))


class Peer:
    """What all have in common: a net, run on an image."""

    def forward(self, height: int, width: int, batch: int = 1, save: str = "") -> dict:
        """One forward pass, until the scores are in the CPU's memory; ``save`` writes them there."""
        seconds, scores = self._timed(image(height, width, batch))
        if save:
            np.save(save, scores)
        return {"seconds": seconds}

    def _timed(self, picture: np.ndarray) -> tuple[float, np.ndarray]:
        self.ready(picture.shape)
        watch = answering.Watch(DEVICE)
        with watch:
            scores = self.run(picture)
        return watch.seconds, scores

    def labels(self, pictures: list[str], save: list[str]) -> dict:
        """The class of every pixel of each of ``pictures`` (files of what the net sees), written to ``save``."""
        return answering.labels(self._timed, pictures, save)

    def ready(self, shape) -> None:
        """Whatever an image of a new ``shape`` needs, which is not timed."""

    def run(self, picture: np.ndarray) -> np.ndarray:
        """The scores of ``picture``."""
        raise NotImplementedError


class Torch(Peer):
    """PyTorch: a module of ours, or torchfcn's; eager or compiled."""

    def __init__(self, kind: str, precision: str):
        import torch

        self.torch, self.kind, self.precision = torch, kind, precision
        torch.set_num_threads(THREADS)
        allowed = precision == "tf32"
        torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = allowed
        self.model = self.optimize = None

    def _module(self, state: str, net: str):
        weights = self.torch.load(state, map_location="cpu", mmap=True)
        if self.kind != "torchfcn":
            import plain

            return plain.FCN(weights, dropout=0)
        model = torchfcn_model(net)
        for layer in ("drop6", "drop7"):  # what is compared must not be drawn at random
            getattr(model, layer).p = 0
        model.load_state_dict(weights)
        return model

    def load(self, state: str, net: str, **_) -> dict:
        """Build the net with its weights; the seconds that took."""
        watch = answering.Watch(DEVICE)
        with watch:
            self.model = self._module(state, net).eval().to(DEVICE)
            if self.precision == "bf16":
                self.model.to(memory_format=self.torch.channels_last)
            if self.kind == "compile":
                import torch._inductor.config

                torch._inductor.config.freezing = True
                self.model = torch.compile(self.model, dynamic=False)
        return {"seconds": watch.seconds}

    def _on_device(self, picture: np.ndarray):
        there = self.torch.from_numpy(picture).to(DEVICE)
        return there.contiguous(memory_format=self.torch.channels_last) if self.precision == "bf16" else there

    def run(self, picture: np.ndarray) -> np.ndarray:
        import plain

        there = self._on_device(picture)
        with self.torch.no_grad(), plain.autocast(there, self.precision):
            return self.model(there).float().cpu().numpy()

    def train(self, state, net, height, width, rates, images=1, steps=1, save="", **_) -> dict:
        """Training iterations; ``rates``: learning rate, momentum, decay. As the Caffes' ``train``."""
        import plain

        if self.optimize is None:
            self.module = self._module(state, net).train().to(DEVICE)
            if self.precision == "bf16":
                self.module.to(memory_format=self.torch.channels_last)
            self.optimize = plain.optimizer(self.module, *rates)
            self.model = (
                self.torch.compile(self.module, dynamic=False) if self.kind == "compile" else self.module
            )
        label = self.torch.from_numpy(answering.label(height, width)).long()[None].to(DEVICE)
        picture = image(height, width)
        watch = answering.Watch(DEVICE)
        with watch:
            for _ in range(steps):
                there = self._on_device(picture)
                loss = plain.iteration(self.model, self.optimize, there, label, images, self.precision)
        if save:
            params = dict(self.module.named_parameters())
            weights = {name: params.get(f"{name}.weight") for name in answering.COMPARED}
            updates = {
                name: (rates[0] * self.optimize.state[weight]["momentum_buffer"]).cpu().numpy()
                for name, weight in weights.items()
                if weight is not None
            }
            np.savez(save, **updates)
        return {"seconds": watch.seconds / steps, "loss": loss}


def torchfcn_model(net: str):
    """The published module for ``net`` (fcn8s, fcn32s), without the packages that its downloads and training need."""
    found = importlib.util.find_spec("torchfcn")
    if found is None:
        raise ImportError("torchfcn is not installed")
    package = types.ModuleType("torchfcn")  # without its __init__, which imports all that it has
    package.__path__ = list(found.submodule_search_locations)
    sys.modules["torchfcn"] = package
    for unneeded in ("fcn", "torchvision"):
        if importlib.util.find_spec(unneeded) is None:
            sys.modules[unneeded] = types.ModuleType(unneeded)
    models = importlib.import_module("torchfcn.models")
    return getattr(models, net.upper().replace("S", "s"))()


class OnnxRuntime(Peer):
    """ONNX Runtime, on the CPU."""

    def __init__(self, _: str, precision: str):
        import onnxruntime

        self.runtime = onnxruntime

    def load(self, onnx: str, **_) -> dict:
        """Read the net and make it ready; the seconds that took."""
        options = self.runtime.SessionOptions()
        options.intra_op_num_threads = THREADS
        watch = answering.Watch()
        with watch:
            self.session = self.runtime.InferenceSession(onnx, options, providers=["CPUExecutionProvider"])
        return {"seconds": watch.seconds}

    def run(self, picture: np.ndarray) -> np.ndarray:
        return self.session.run(None, {self.session.get_inputs()[0].name: picture})[0]


class OpenVino(Peer):
    """OpenVINO, on the CPU, compiled for the image's size, in the precision that is asked for."""

    def __init__(self, _: str, precision: str):
        import openvino

        self.openvino = openvino
        hint = {"float32": "f32", "bf16": "bf16"}[precision]
        self.options = {
            "INFERENCE_PRECISION_HINT": hint,
            "INFERENCE_NUM_THREADS": THREADS,
            "PERFORMANCE_HINT": "LATENCY",
        }
        self.shape = self.request = None

    def load(self, onnx: str, height: int = 0, width: int = 0, **_) -> dict:
        """Read the net, and compile it for a size if one is given; the seconds that took."""
        watch = answering.Watch()
        with watch:
            self.core = self.openvino.Core()
            self.onnx = onnx
            self.model = self.core.read_model(onnx)
            self.shape = None
            if height:
                self.ready((1, 3, height, width))
        return {"seconds": watch.seconds}

    def ready(self, shape) -> None:
        if self.shape != tuple(shape):
            self.request = None  # one net at a time
            self.model.reshape({0: list(shape)})
            self.request = self.core.compile_model(self.model, "CPU", self.options).create_infer_request()
            self.shape = tuple(shape)

    def run(self, picture: np.ndarray) -> np.ndarray:
        return self.request.infer({0: picture}, share_inputs=True, share_outputs=True)[0]


KINDS = {
    "pytorch": Torch,
    "compile": Torch,
    "torchfcn": Torch,
    "onnxruntime": OnnxRuntime,
    "openvino": OpenVino,
}


def peak() -> int:
    """The most memory that was in use, bytes: the GPU's where one computes."""
    if DEVICE == "cuda":
        import torch

        return torch.cuda.max_memory_reserved()
    return answering.memory()


if __name__ == "__main__":
    KIND, PRECISION, DEVICE = sys.argv[1:4]
    answering.serve(lambda: KINDS[KIND](KIND, PRECISION), peak)
