"""The losses.

Not InfogainLoss, which takes probabilities in the original and scores in BVLC master, nor the options
that master added to SigmoidCrossEntropyLoss.
"""

from __future__ import annotations

from .build import case, layer


def _pair(a, b, kind="normal"):
    return {"x": [a, "normal"], "z": [b, kind]}


def _euclidean():
    shapes = {
        "4-D": ([2, 3, 4, 5], [2, 3, 4, 5]),
        "vectors": ([4, 3], [4, 3]),
        "other shapes": ([3, 4, 2], [3, 2, 4, 1]),
        "numbers": ([5], [5]),
    }
    plain = layer("EuclideanLoss", bottoms=("x", "z"))
    cases = [case(f"EuclideanLoss/{name}", plain, _pair(*each)) for name, each in shapes.items()]
    weighted = layer("EuclideanLoss", bottoms=("x", "z"), more="loss_weight: 0.3")
    cases.append(case("EuclideanLoss/loss_weight", weighted, _pair([4, 3], [4, 3])))
    below = layer("InnerProduct", "num_output: 3", tops=("p",)) + layer("EuclideanLoss", bottoms=("p", "z"))
    cases.append(case("EuclideanLoss/of a layer", below, _pair([4, 5], [4, 3])))
    cases.append(
        case("EuclideanLoss/new size", plain, _pair([4, 3], [4, 3]), twice={"x": [2, 6], "z": [2, 6]})
    )
    return cases


def _contrastive():
    cases = []
    for options in ("", "margin: 3", "legacy_version: true", "margin: 9 legacy_version: true"):
        for shape in ([6, 3], [6, 3, 1, 1]):
            inputs = {**_pair(shape, shape), "similar": [[6, 1, 1, 1], "0 or 1"]}
            text = layer("ContrastiveLoss", options, ("x", "z", "similar"))
            cases.append(case(f"ContrastiveLoss/{len(shape)} axes {options}", text, inputs))
    numbers = {**_pair([5], [5, 1]), "similar": [[5], "labels"]}
    cases.append(
        case("ContrastiveLoss/numbers", layer("ContrastiveLoss", "", ("x", "z", "similar")), numbers)
    )
    return cases


def _hinge():
    cases = []
    for options in ("", "norm: L1", "norm: L2"):
        text = layer("HingeLoss", options, ("x", "z"))
        cases.append(case(f"HingeLoss/{options}", text, _pair([7, 5], [7], "labels")))
        cases.append(case(f"HingeLoss/4-D {options}", text, _pair([4, 2, 3, 2], [4, 1, 1, 1], "labels")))
    return cases


def _multinomial():
    inputs = {"x": [[6, 5], "normal"], "z": [[6, 1, 1, 1], "labels"]}
    chain = layer("Softmax", tops=("p",)) + layer("MultinomialLogisticLoss", bottoms=("p", "z"))
    plain = layer("MultinomialLogisticLoss", bottoms=("x", "z"))
    positive = {**inputs, "x": [[6, 5], "positive"]}
    volume = {"x": [[3, 5, 2, 1], "positive"], "z": [[3], "labels"]}
    return [
        case("MultinomialLogisticLoss/after Softmax", chain, inputs),
        case(
            "MultinomialLogisticLoss/after Softmax, sure",
            chain,
            {**inputs, "x": [[6, 5], "large"]},
        ),
        case("MultinomialLogisticLoss/positive", plain, positive),
        case("MultinomialLogisticLoss/negative and zero", plain, {**inputs, "x": [[6, 5], "ties"]}),
        case("MultinomialLogisticLoss/4-D", plain, volume),
    ]


def _sigmoid_cross_entropy():
    text = layer("SigmoidCrossEntropyLoss", bottoms=("x", "z"))
    shape = [3, 4, 2]
    return [
        case("SigmoidCrossEntropyLoss/0 or 1", text, _pair(shape, shape, "0 or 1")),
        case("SigmoidCrossEntropyLoss/any target", text, _pair(shape, shape)),
        case("SigmoidCrossEntropyLoss/other shape", text, _pair(shape, [3, 8], "0 or 1")),
        case("SigmoidCrossEntropyLoss/large scores", text, {"x": [shape, "large"], "z": [shape, "0 or 1"]}),
        case(
            "SigmoidCrossEntropyLoss/loss_weight",
            layer("SigmoidCrossEntropyLoss", bottoms=("x", "z"), more="loss_weight: 4"),
            _pair(shape, shape, "0 or 1"),
        ),
    ]


def cases() -> list[dict]:
    """The cases of this module, by layer type."""
    makers = (_contrastive, _euclidean, _hinge, _multinomial, _sigmoid_cross_entropy)
    return [each for make in makers for each in make()]
