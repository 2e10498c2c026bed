"""The jobs beyond single layers: model directories' nets, and training runs of every solver."""

from __future__ import annotations

from pathlib import Path

from caffe.proto import caffe_pb2
from google.protobuf import text_format

ROOT = Path(__file__).resolve().parents[2]


def model_directories() -> list[str]:
    """The names of the directories that hold a net."""
    return sorted(path.parent.name for path in ROOT.glob("*/solve.py"))


def net_jobs(names, sizes=((61, 47),)) -> list[dict]:
    """Train and deploy net of each model directory, on random images of ``sizes`` (height, width)."""
    jobs = []
    for name in names:
        for file in (ROOT / name / "deploy.prototxt", ROOT / name / "train.prototxt"):
            for height, width in sizes:
                inputs = _inputs(file, height, width)
                phase = "TRAIN" if file.stem.startswith("train") else "TEST"
                jobs.append(
                    {
                        "kind": "net",
                        "name": f"{name}/{file.stem} {height}x{width}",
                        "file": str(file),
                        "inputs": inputs,
                        "phase": phase,
                        "backward": True,
                    }
                )
    return jobs


def _inputs(file: Path, height: int, width: int) -> dict[str, list]:
    """What stands for the data layer of a net: images of the deploy net's channels, and labels."""
    deploy = text_format.Parse((file.parent / "deploy.prototxt").read_text(), caffe_pb2.NetParameter())
    inputs = {
        layer.top[0]: [[1, layer.input_param.shape[0].dim[1], height, width], "image"]
        for layer in deploy.layer
        if layer.type == "Input"
    }
    if file.stem != "deploy":
        net = text_format.Parse(file.read_text(), caffe_pb2.NetParameter())
        losses = [layer for layer in net.layer if layer.type == "SoftmaxWithLoss"]
        inputs |= {
            layer.bottom[1]: [
                [1, 1, height, width],
                "labels of 3" if layer.bottom[1] == "geo" else "labels ignored",
            ]
            for layer in losses
        }
    return inputs


# Random images and labels drawn by DummyData under the solver's seed, and dropout: all of it must
# come out of both engines' generators alike.
DRAWN = """
layer { name: "data" type: "DummyData" top: "data" dummy_data_param {
  shape { dim: 4 dim: 3 dim: 9 dim: 7 } data_filler { type: "uniform" min: -1 max: 1 } } }
layer { name: "label" type: "DummyData" top: "label" dummy_data_param {
  shape { dim: 4 } data_filler { type: "uniform" min: 0 max: 3 } } }
"""
GIVEN = """
layer { name: "data" type: "Input" top: "data" input_param { shape { dim: 4 dim: 3 dim: 9 dim: 7 } } }
layer { name: "label" type: "Input" top: "label" input_param { shape { dim: 4 } } }
"""
BODY = """
layer { name: "conv" type: "Convolution" bottom: "data" top: "conv" param { lr_mult: 1 decay_mult: 1 }
  param { lr_mult: 2 decay_mult: 0 } convolution_param { num_output: 5 kernel_size: 3 pad: 1 } }
layer { name: "relu" type: "ReLU" bottom: "conv" top: "conv" }
layer { name: "pool" type: "Pooling" bottom: "conv" top: "pool" pooling_param { kernel_size: 2 stride: 2 } }
layer { name: "again" type: "Convolution" bottom: "pool" top: "again" param { name: "w" }
  param { lr_mult: 0 } convolution_param { num_output: 5 kernel_size: 3 pad: 1 } }
layer { name: "more" type: "Convolution" bottom: "again" top: "more" param { name: "w" }
  convolution_param { num_output: 5 kernel_size: 3 pad: 1 bias_term: false } }
DROPOUT
layer { name: "score" type: "InnerProduct" bottom: "more" top: "score" param { lr_mult: 1.5 }
  inner_product_param { num_output: 3 } }
layer { name: "loss" type: "SoftmaxWithLoss" bottom: "score" bottom: "label" top: "loss" }
"""
DROPOUT = (
    'layer { name: "drop" type: "Dropout" bottom: "more" top: "more" dropout_param { dropout_ratio: 0.4 } }'
)

SOLVERS = {
    "SGD": 'type: "SGD" base_lr: 0.003 momentum: 0.9',
    "Nesterov": 'type: "Nesterov" base_lr: 0.003 momentum: 0.9',
    "AdaGrad": 'type: "AdaGrad" base_lr: 0.02',
    "RMSProp": 'type: "RMSProp" base_lr: 0.002 rms_decay: 0.9',
    "AdaDelta": 'type: "AdaDelta" base_lr: 1 momentum: 0.95 delta: 1e-6',
    "Adam": 'type: "Adam" base_lr: 0.005 momentum: 0.9 momentum2: 0.99',
}
POLICIES = {
    "step": 'lr_policy: "step" gamma: 0.5 stepsize: 12',
    "exp": 'lr_policy: "exp" gamma: 0.97',
    "inv": 'lr_policy: "inv" gamma: 0.1 power: 0.75',
    "multistep": 'lr_policy: "multistep" gamma: 0.3 stepvalue: 10 stepvalue: 11 stepvalue: 30',
    "poly": 'lr_policy: "poly" power: 0.9 max_iter: 60',
    "sigmoid": 'lr_policy: "sigmoid" gamma: 0.2 stepsize: 20',
}
SMOOTH = 'type: "SGD" base_lr: 2e-5 lr_policy: "fixed" momentum: 0.9 weight_decay: 5e-4'
FIXED = 'lr_policy: "fixed"'
DECAY = "weight_decay: 0.01"


def solver_jobs(iterations: int = 50) -> list[dict]:
    """Every solver type with several settings, and every learning-rate policy, on a small net."""
    settings = {}
    for name, text in SOLVERS.items():
        settings[name] = f"{text} {FIXED} {DECAY}"
        settings[f"{name}, L1, clipping, iter_size 3"] = (
            f'{text} {FIXED} {DECAY} regularization_type: "L1" clip_gradients: 0.8 iter_size: 3'
        )
    for name, text in POLICIES.items():
        settings[f"SGD, {name}"] = f"{SOLVERS['SGD']} {text} {DECAY}"
        settings[f"Adam, {name}"] = f"{SOLVERS['Adam']} {text} {DECAY}"
    net = DRAWN + BODY.replace("DROPOUT", DROPOUT)
    return [
        {"kind": "solver", "name": f"solver/{name}", "net": net, "solver": text, "iterations": iterations}
        for name, text in settings.items()
    ]


def training_job(directory: Path, weights: Path, dropout: float, iterations: int = 100) -> dict:
    """Training of a model directory's net on its own data from common weights, with this dropout ratio.

    By SGD with small steps, which still bring the loss from ln C to a third of it. With the net's own
    recipe rounding grows too fast: the original with one and with two threads of BLAS is 0.4%
    apart after a dozen iterations.
    """
    return {
        "kind": "training",
        "name": f"{directory.name}, {iterations} iterations, dropout {dropout:g}",
        "directory": str(directory),
        "weights": str(weights),
        "dropout": dropout,
        "solver": SMOOTH,
        "iterations": iterations,
    }


def resumable_jobs(iterations: int, snapshot_format: str = "BINARYPROTO", **more) -> list[dict]:
    """Every solver type on data that stays, so that a run can be cut and go on in another engine."""
    inputs = {"data": [None, "normal"], "label": [None, "labels of 3"]}
    return [
        {
            "kind": "solver",
            "name": f"resume/{name}",
            "net": GIVEN + BODY.replace("DROPOUT", ""),
            "solver": f"{text} {POLICIES['multistep']} {DECAY} snapshot_format: {snapshot_format}",
            "inputs": inputs,
            "iterations": iterations,
            **{key: value.format(name=name) for key, value in more.items()},
        }
        for name, text in SOLVERS.items()
    ]
