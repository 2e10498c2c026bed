"""The commands that messages tell are commands that there are."""

import re
import runpy
import sys

import pytest

import infer
import layers
import training
from datakit import command
from datakit.weights import CLASSIFIERS, RELEASED
from feed import ROOT
from files import DataError

NOWHERE = "/nowhere"
LAYERS = {
    "VOCSegDataLayer": {"voc_dir": NOWHERE, "split": "val", "mean": (1, 2, 3)},
    "SBDDSegDataLayer": {"sbdd_dir": NOWHERE, "split": "train", "mean": (1, 2, 3)},
    "NYUDSegDataLayer": {"nyud_dir": NOWHERE, "split": "test", "tops": ["color", "label"]},
    "SIFTFlowSegDataLayer": {"siftflow_dir": NOWHERE, "split": "test", "tops": ["data", "sem"]},
    "PASCALContextSegDataLayer": {"voc_dir": NOWHERE, "context_dir": NOWHERE, "split": "val"},
}
COMMAND = re.compile(r"python ((?:data|ilsvrc-nets)\S*/prepare\.py) (\w+)(?: ([\w-]+))?")


def takes(script, verb, part):
    """Whether ``script`` has the command ``verb``, and ``part`` is one of its parts, if any is named."""
    module = runpy.run_path(str(ROOT / script))
    (data_set,) = (
        each
        for each in module.values()
        if isinstance(each, type) and issubclass(each, command.DataSet) and each.__module__ == "<run_path>"
    )
    if verb in ("get", "prepare", "check", "all"):
        return not part or part in data_set.parts
    with pytest.raises(SystemExit) as stop:
        module["main"]([verb, "--help"]) if "main" in module else None
    return stop.value.code == 0


def commands_in(text):
    found = COMMAND.findall(text)
    assert found, text
    return found


@pytest.mark.parametrize("name", LAYERS)
def test_a_layer_without_its_data_tells_commands_that_work(name, monkeypatch):
    monkeypatch.delenv("FCN_DATA", raising=False)
    with pytest.raises(DataError, match="does not exist") as error:
        getattr(layers, name).source_ids(str(LAYERS[name]))
    for script, verb, part in commands_in(str(error.value)):
        assert takes(script, verb, part), (script, verb, part)


def test_a_layer_names_the_data_root_that_is_not_the_usual(monkeypatch):
    monkeypatch.setenv("FCN_DATA", "/data here")
    with pytest.raises(DataError, match=r"prepare\.py all --data-root '/data here'`"):
        layers.VOCSegDataLayer.source_ids(str(LAYERS["VOCSegDataLayer"]))


def test_parents_are_got_by_commands_that_work():
    told = [training.classifier(name).how for name in CLASSIFIERS]
    told += [
        training.stage(name, archive.name.removesuffix(".caffemodel")).how
        for name, archive in RELEASED.items()
    ]
    for text in told:
        for script, verb, part in commands_in(text):
            assert takes(script, verb, part), (script, verb, part)


def test_weights_are_got_by_commands_that_work(tmp_path):
    for name in RELEASED:
        (tmp_path / name).mkdir()
        with pytest.raises(DataError) as error:
            infer.find_weights(tmp_path / name)
        ((script, verb, part),) = commands_in(str(error.value))
        assert part == name and takes(script, verb, part)


def test_every_script_has_the_same_commands(capsys):
    scripts = sorted(ROOT.glob("data/*/prepare.py")) + [ROOT / "ilsvrc-nets/prepare.py"]
    scripts = [path for path in scripts if path.parent.name not in ("own", "toy")]
    assert len(scripts) == 6
    for path in scripts:
        for verb in ("get", "prepare", "check", "all"):
            argv, sys.argv = sys.argv, [str(path), verb, "--help"]
            try:
                with pytest.raises(SystemExit) as stop:
                    runpy.run_path(str(path), run_name="__main__")
            finally:
                sys.argv = argv
            assert stop.value.code == 0, (path, verb)
        assert "--data-root" in capsys.readouterr().out
