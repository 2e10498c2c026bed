"""The texts of a model directory that is made for one's own data: net.py, solve.py, solvers. Imports no engine."""

from __future__ import annotations

import json
import keyword
import re
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Base:
    """A net that others are made from.

    ``what`` the paper calls it; the ``skips`` it has; ``trunk``: the function of trunks.py, and the classifier it
    starts from; ``more`` arguments of nets.fcn. ``recipe``: what takes the place of both recipes in net.py.
    """

    what: str
    skips: tuple[str, ...] = ()
    trunk: str = "vgg16"
    more: str = ""
    recipe: str = ""

    @property
    def mini(self) -> bool:
        """Whether it starts from random weights."""
        return self.recipe == "nets.MINI"

    @property
    def scales(self) -> dict[str, float]:
        """Of skips that are trained at once from a classifier, as voc-fcn8s-atonce has them."""
        return {} if self.mini else {pool: {"pool4": 0.01, "pool3": 0.0001}[pool] for pool in self.skips}


_POOL4, _POOL3 = ("pool4",), ("pool4", "pool3")
BASES = {
    "voc-fcn32s": Base("FCN-32s"),
    "voc-fcn16s": Base("FCN-16s", _POOL4),
    "voc-fcn8s": Base("FCN-8s", _POOL3),
    "voc-fcn8s-atonce": Base("FCN-8s", _POOL3),
    "voc-fcn-alexnet": Base("FCN-AlexNet", trunk="caffenet", more="kernel=63", recipe="nets.PAPER"),
    "voc-fcn-googlenet": Base("FCN-GoogLeNet", (), "googlenet", "kernel=63, offset=98", "nets.PAPER"),
    "mini-fcn32s": Base("FCN-32s, an eighth as wide", recipe="nets.MINI"),
    "mini-fcn16s": Base("FCN-16s, an eighth as wide", _POOL4, recipe="nets.MINI"),
    "mini-fcn8s": Base("FCN-8s, an eighth as wide", _POOL3, recipe="nets.MINI"),
}


def net_text(name: str, base: str, count: int, data: Sequence[str]) -> str:
    """The net.py of the directory ``name``, made from ``base``, for so many classes; ``data``: nets.own's arguments."""
    its = BASES[base]
    function = re.sub(r"\W", "_", name)
    if not function.isidentifier() or keyword.iskeyword(function) or function in ("nets", "trunks"):
        function = f"net_{function}"
    call = ["n", "recipe", "CLASSES"]
    if its.scales:
        call += ["skips=list(SCALES)", "scales=SCALES"]
    elif its.skips:
        call += [f"skips={json.dumps(its.skips)}"]
    if its.more:
        call += [f"trunk=trunks.{its.trunk}", its.more]
    return NET.format(
        name=name,
        what=its.what,
        function=function,
        base=base,
        trunks="import trunks\n" if its.more else "",
        count=count,
        scales=SCALES.format(scales=json.dumps(its.scales)) if its.scales else "",
        data=", ".join(data),
        call=", ".join(call),
        recipes=f', {{"train": {its.recipe}}}' if its.recipe else "",
        at_once=", with all skips at once, scaled as in voc-fcn8s-atonce" if its.scales else "",
    )


def solve_text(name: str, base: str) -> str:
    """The solve.py."""
    text = SOLVE_MINI if BASES[base].mini else SOLVE
    return text.format(name=name, base=base, classifier=BASES[base].trunk)


def solver_text(name: str, base: str, source: str, proto, train: int, val: int) -> str:
    """A solver like ``proto``, the SolverParameter of the file ``source``, but for how long it trains.

    ``train``, ``val``: how many images there are.
    """
    epochs, least, most = (100, 1000, 10000) if BASES[base].mini else (175, 40000, proto.max_iter)
    batch = max(proto.iter_size, 1)
    iterations = min(most, max(epochs * train, least) // batch)
    iterations = max(100, round(iterations, -2))
    rows = [f"# {name}, trained as {source} says."]
    rows += [
        f'train_net: "{proto.train_net}"',
        f'test_net: "{proto.test_net[0]}"',
        TESTING.format(val=val),
        "",
    ]
    given = {field.name: value for field, value in proto.ListFields()}
    given["stepvalue"] = [iterations * step // proto.max_iter for step in proto.stepvalue]
    for key in CARRIED:
        values = given[key] if key == "stepvalue" else [given[key]] if key in given else []
        rows += [f"# {COMMENTS[key]}"] if values not in ([], [1]) and key in COMMENTS else []
        rows += [f"{key}: " + (f'"{value}"' if isinstance(value, str) else f"{value:g}") for value in values]
    times = round(iterations * batch / train)
    rows += [
        "",
        f"# {times} times as many images as there are to train on, {train}",
        f"max_iter: {iterations}",
    ]
    return "\n".join([*rows, ENDING.format(snapshot=max(1, iterations // 10))])


# What a solver takes over from its source, and what is said about it.
CARRIED = (
    *("type", "base_lr", "lr_policy", "gamma", "stepvalue", "momentum", "momentum2", "weight_decay"),
    *("iter_size", "average_loss"),
)
COMMENTS = {
    "type": "Adam gives every layer its own step size, which random weights need",
    "base_lr": "if the loss becomes NaN, or does not fall, try a tenth of it",
    "stepvalue": "a tenth of the rate at the end, so that the last image seen has no greater say than the others",
    "iter_size": "a minibatch, one image at a time because they may differ in size",
    "average_loss": "one image's loss says little",
}
TESTING = """\
# solve.py scores the {val} images of val, with the paper's four metrics; Caffe's own test is never run
test_iter: {val}
test_interval: 999999999
test_initialization: false"""
ENDING = """\
display: 20
snapshot: {snapshot}
snapshot_prefix: "snapshot/train"
# the same run every time
random_seed: 1337
"""
SCALES = """
# pool4 and pool3 are scaled down to fc7's size, so that one learning rate suits all scores
SCALES = {scales}
"""
NET = '''\
"""{name}: {what}, for {count} classes of your own data. After a change: python net.py, which prints the prototxts."""

import nets
{trunks}
CLASSES = {count}  # the lines of classes.txt
DATA = nets.own({data})
{scales}

def {function}(n, recipe):
    """{base} for other classes{at_once}."""
    nets.fcn({call})


MODEL = nets.Model({function}, DATA{recipes})

if __name__ == "__main__":
    MODEL.write(__file__)
'''
SOLVE = '''\
"""Train {name} from {base}, trained here or released, else from its classifier, {classifier}: scores start at zero."""

import newnet
import training

if __name__ == "__main__":
    training.main(__file__, newnet.start_from("{base}"), rounds=10)
'''
SOLVE_MINI = '''\
"""Train {name} from random weights: no parent, no download."""

import training

if __name__ == "__main__":
    training.main(__file__, rounds=10)
'''
