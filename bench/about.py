"""What a measurement was made on: the machine, versions, and the rates that its hardware reaches."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import subprocess
import time
from datetime import date
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
LIMITS = ("float32_gflops", "tf32_gflops", "bf16_gflops", "copy_gbs")


def threads() -> int:
    """The cores that this process may use: so many threads every engine gets."""
    return len(os.sched_getaffinity(0))


def machine() -> dict:
    """What was measured on."""
    import torch

    with open("/proc/cpuinfo") as file:
        cpu = next((line.split(":")[1].strip() for line in file if line.startswith("model name")), "unknown")
    told = ["git", "describe", "--always", "--dirty", "--exclude", "*"]
    commit = subprocess.run(told, cwd=ROOT, capture_output=True, text=True)
    return {
        "date": date.today().isoformat(),
        "commit": commit.stdout.strip(),
        "cpu": cpu,
        "cores": threads(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "numpy": np.__version__,
    }


def versions(packages: Path | None, names=("onnxruntime", "openvino", "torchfcn")) -> dict[str, str]:
    """The versions of the peers' packages, "" where one is not installed; ``packages``: their site-packages."""
    paths = [str(packages)] if packages else []
    found = {dist.name.lower(): dist.version for dist in importlib.metadata.distributions(path=paths)}
    return {
        name: found.get(name) or next((d.version for d in importlib.metadata.distributions(name=name)), "")
        for name in names
    }


def free_memory() -> int:
    """What the machine has left, bytes."""
    with open("/proc/meminfo") as file:
        return next(int(line.split()[1]) * 1024 for line in file if line.startswith("MemAvailable"))


def ceiling(device: str = "cpu", size: int | None = None, tries: int = 7) -> dict[str, str]:
    """The rates of this machine, best of ``tries``: matrix products of ``size``, and copying.

    ``float32_gflops`` and so on: 10^9 additions and multiplications a second; ``copy_gbs``: 10^9 bytes a second,
    read and written. A rate that the device does not have is "".
    """
    import torch

    torch.set_num_threads(threads())
    size = size or (8192 if device == "cuda" else 2048)
    wait = torch.cuda.synchronize if device == "cuda" else lambda: None

    def best(job) -> float:
        seconds = []
        for _ in range(tries):
            wait()
            start = time.perf_counter()
            job()
            wait()
            seconds.append(time.perf_counter() - start)
        return min(seconds)

    found = dict.fromkeys(LIMITS, "")
    for name, dtype in (("float32", torch.float32), ("tf32", torch.float32), ("bf16", torch.bfloat16)):
        if name == "tf32" and device != "cuda":
            continue
        torch.backends.cuda.matmul.allow_tf32 = name == "tf32"
        a, b = (torch.randn(size, size, device=device).to(dtype) for _ in range(2))
        found[f"{name}_gflops"] = f"{2 * size**3 / best(lambda a=a, b=b: a @ b) / 1e9:.0f}"
    source = torch.ones(64 * 2**20, device=device)
    target = torch.empty_like(source)
    seconds = best(lambda: target.copy_(source))
    found["copy_gbs"] = f"{2 * source.numel() * source.element_size() / seconds / 1e9:.1f}"
    return found


def best(limits: dict[str, str], others: dict[str, str]) -> dict[str, str]:
    """Of two measurements of the :func:`ceiling` the higher rates: whatever else the machine does lowers them."""
    return {name: max(limits[name], others[name], key=lambda rate: float(rate or 0)) for name in LIMITS}


def multiply_adds(net, backward: bool = False) -> int:
    """The multiplications that ``net`` needs at its blobs' present shapes, each done once, with no border left out.

    Of convolutions, deconvolutions and inner products; the rest is little. ``backward``: those of the
    gradients, too, of what is learned, by the layers' ``lr_mult``; nothing is computed for the data.
    """
    total, reached = 0, set()  # blobs that some gradient passes through
    for name, layer, param in zip(net._layer_names, net.layers, net._layer_params, strict=True):
        bottoms, tops = net.bottom_names[name], net.top_names[name]
        passes = 1
        if layer.type in ("Convolution", "Deconvolution", "InnerProduct"):
            grows = layer.type == "Deconvolution"
            shape = net.blobs[(bottoms if grows else tops)[0]].shape
            positions = shape[0] * int(np.prod(shape[2:])) if layer.type != "InnerProduct" else shape[0]
            learns = not param.param or param.param[0].lr_mult != 0
            if backward:
                passes += learns + any(bottom in reached for bottom in bottoms)
            total += passes * layer.blobs[0].count * positions
        else:
            learns = False
        if learns or any(bottom in reached for bottom in bottoms):
            reached.update(tops)
    return total
