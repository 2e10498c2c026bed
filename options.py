"""The options of command lines that choose a net and what it runs on; imports no engine."""

from __future__ import annotations

import argparse

PRECISIONS = ("float32", "tf32", "bf16")


def add_net(parser: argparse._ActionsContainer, model: str = "model directory") -> None:
    """Add what ``infer.load`` takes, but for --classes, and what the net sees beside photographs.

    ``model`` is the help of --model.
    """
    parser.add_argument("--model", metavar="DIR", help=model)
    parser.add_argument("--deploy", metavar="FILE", help="default: deploy.prototxt of the model")
    parser.add_argument("--weights", metavar="FILE", help="default: the model's own, or its newest snapshot")
    parser.add_argument(
        "--mean", nargs=3, type=float, metavar=("B", "G", "R"), help="default: of the model's data"
    )
    parser.add_argument("--depth", metavar="PATH", help="depth beside the images, a file or a folder")
    parser.add_argument("--hha", metavar="PATH", help="HHA beside the images, a file or a folder")


def add_device(parser: argparse._ActionsContainer) -> None:
    """Add --gpu and --cpu, which ``training.choose_device`` takes."""
    device = parser.add_mutually_exclusive_group()
    device.add_argument(
        "--gpu", type=int, metavar="N", help="use GPU N (default: the first one, if there is one)"
    )
    device.add_argument("--cpu", action="store_true", help="use the CPU")


def add_precision(parser: argparse._ActionsContainer) -> None:
    """Add --precision, which ``infer.choose_precision`` takes."""
    parser.add_argument(
        "--precision",
        choices=PRECISIONS,
        help="how convolutions compute: as Caffe (float32, the default), with products of 10 bits (tf32, on a GPU; "
        "elsewhere as float32), or in bfloat16 up to the scores (bf16); the original engine has float32 alone",
    )
