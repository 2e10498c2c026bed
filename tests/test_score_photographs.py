"""python score.py PHOTOGRAPHS TRUTHS --model DIR: a net on a folder of photographs."""

import argparse
import json
import re
import shutil

import caffe
import numpy as np
import pytest
from model_dirs import random_weights, run, scratch
from PIL import Image

import infer
import score_folders
import score_photographs
import vis
from feed import ROOT

NAMES = ("ground", "sky", "sea", "boat")
MEAN = (100, 110, 120)
SIZES = {"a": (6, 9), "b": (7, 5), "c": (8, 8)}


def layer(name, kind, bottom, more=""):
    bottoms = " ".join(f'bottom: "{each}"' for each in bottom.split())
    return f'layer {{ name: "{name}" type: "{kind}" {bottoms} top: "{name}" {more} }}\n'


def given(name, channels=3):
    return layer(name, "Input", "", f"input_param {{ shape {{ dim: 1 dim: {channels} dim: 4 dim: 4 }} }}")


def scores(name, bottom, classes):
    return layer(
        name, "Convolution", bottom, f"convolution_param {{ num_output: {classes} kernel_size: 3 pad: 1 }}"
    )


def make(folder, deploy, data=("VOCSegDataLayer", {"voc_dir": "x", "split": "val", "mean": MEAN}), names=()):
    """A model directory of random weights; its data layer and its parameters are ``data``."""
    folder.mkdir()
    (folder / "deploy.prototxt").write_text(deploy)
    name, params = data
    tops = " ".join(f'top: "{top}"' for top in params.get("tops", ("data", "label")))
    (folder / "val.prototxt").write_text(
        f'layer {{ name: "data" type: "Python" {tops} python_param {{ module: "layers" layer: "{name}" '
        f'param_str: "{params}" }} }}'
    )
    if names:
        (folder / "classes.txt").write_text("\n".join(names))
    random_weights(folder / "deploy.prototxt", folder / f"{folder.name}.caffemodel", without=())
    return folder


@pytest.fixture
def model(tmp_path):
    return make(tmp_path / "toy", given("data") + scores("score", "data", len(NAMES)), names=NAMES)


@pytest.fixture
def folders(tmp_path):
    """Photographs of three sizes, one of them JPEG, and their truths of four classes and void."""
    random = np.random.default_rng(0)
    for i, (name, size) in enumerate(SIZES.items()):
        image = Image.fromarray(random.integers(0, 256, (*size, 3)).astype(np.uint8))
        vis.save(tmp_path / "photos" / f"{name}.{'jpg' if i == 1 else 'png'}", image)
        truth = random.integers(0, 4, size).astype(np.uint8)
        truth[0, :3] = 255
        vis.save_indexed(tmp_path / "truths" / f"{name}.png", truth, vis.make_palette(4))
    return tmp_path


def call(folder, *options, photos="photos", truths="truths", out="out"):
    words = [folder / photos, folder / truths, "--out", folder / out, *options]
    words += ["--cpu"] if {"--model", "--deploy"} & {*map(str, options)} else []
    return score_folders.main([str(word) for word in words])


def segmented(folder, *options, out="segmented"):
    """What infer.py makes of the photographs, without the overlays."""
    assert infer.main([str(folder / "photos"), *map(str, options), "--cpu", "--out", str(folder / out)]) == 0
    for path in (folder / out).glob("*_overlay.png"):
        path.unlink()
    return out


def results(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}


def said(capsys, folder):
    """What scoring printed, whatever net it was, wherever it went."""
    lines = capsys.readouterr().out.replace(str(folder), "OUT").splitlines()
    return lines[next(i for i, line in enumerate(lines) if "images, " in line and "pixels" in line) :]


def test_it_is_infer_and_then_the_two_folders(folders, model, capsys):
    segmented(folders, "--model", model)
    capsys.readouterr()
    assert call(folders, "--classes", model / "classes.txt", photos="segmented", out="two") == 0
    expected = said(capsys, folders / "two")
    assert call(folders, "--model", model) == 0
    assert said(capsys, folders / "out") == expected
    two = results(folders / "two")
    assert results(folders / "out") == two
    assert set(two) == {"scores.json", "classes.csv", "confusion.csv", "confusion.png"}
    # and there was something to be told apart
    assert np.count_nonzero(json.loads(two["scores.json"])["confusion"]) > 8
    assert results(folders / "out/predictions") == results(folders / "segmented")


def test_any_other_net_by_its_files(folders, model, tmp_path):
    assert call(folders, "--model", model) == 0
    shutil.move(model / "toy.caffemodel", tmp_path / "w.caffemodel")
    shutil.move(model / "deploy.prototxt", tmp_path / "net.prototxt")
    options = ["--deploy", tmp_path / "net.prototxt", "--weights", tmp_path / "w.caffemodel", "--mean", *MEAN]
    assert call(folders, *options, "--classes", model / "classes.txt", out="named") == 0
    assert results(folders / "named") == results(folders / "out")
    assert call(folders, *options, out="nameless") == 0
    nameless = json.loads((folders / "nameless/scores.json").read_text())
    assert nameless["classes"][1]["name"] == "class 1"
    assert nameless["confusion"] == json.loads((folders / "out/scores.json").read_text())["confusion"]
    options[-1] = 250  # another mean gives another answer
    assert call(folders, *options, out="other") == 0
    assert results(folders / "other/predictions") != results(folders / "out/predictions")


def test_a_mini_fcn_of_this_project(tmp_path):
    directory = scratch(tmp_path, "mini-fcn8s")
    random_weights(directory / "deploy.prototxt", directory / "mini-fcn8s.caffemodel")
    voc = tmp_path / "data/pascal/VOC2011"
    (tmp_path / "photos").symlink_to(voc / "JPEGImages")
    options = ["--model", directory]
    assert call(tmp_path, *options, truths=voc / "SegmentationClass") == 0
    segmented(tmp_path, *options)
    assert results(tmp_path / "out/predictions") == results(tmp_path / "segmented")
    classes = ROOT / "data/pascal/classes.txt"
    truths = voc / "SegmentationClass"
    assert call(tmp_path, "--classes", classes, photos="segmented", truths=truths, out="two") == 0
    assert results(tmp_path / "two") == results(tmp_path / "out")


def test_each_photograph_is_seen_once_and_the_net_is_built_once(folders, model, monkeypatch, capsys):
    built, seen = [], []
    load, segment = infer.load, infer.Segmenter.__call__
    monkeypatch.setattr(infer, "load", lambda args: built.append(args) or load(args))
    monkeypatch.setattr(
        infer.Segmenter,
        "__call__",
        lambda self, values: seen.append(values[0].shape) or segment(self, values),
    )
    vis.save(folders / "photos/d.png", np.zeros((5, 5, 3), np.uint8))
    (folders / "photos/notes.txt").write_text("no photograph")
    assert call(folders, "--model", model) == 0
    assert len(built) == 1 and seen == [(3, *size) for size in SIZES.values()]
    assert "1 photographs without truth are passed over" in capsys.readouterr().err
    assert not (folders / "out/predictions/d.png").exists()


# sizes


def halved(folders):
    """A photograph of half the size of its truth: as generated, and as Pillow enlarges it."""
    path = folders / "photos/c.png"
    with Image.open(path) as image:
        small = image.resize((4, 4))
    vis.save(path, small)
    return path, small.resize((8, 8), Image.Resampling.BILINEAR)


def test_photographs_are_resized_to_their_truths_if_that_is_asked_for(folders, model):
    path, enlarged = halved(folders)
    assert call(folders, "--model", model, "--resize", "truth") == 0
    assert Image.open(path).size == (4, 4)  # the photograph stays as it is
    vis.save(path, enlarged)
    assert call(folders, "--model", model, out="by_hand") == 0
    assert results(folders / "out") == results(folders / "by_hand")
    assert results(folders / "out/predictions") == results(folders / "by_hand/predictions")
    # those that fit are as they were
    assert call(folders, "--model", model, "--resize", "truth", out="again") == 0
    assert results(folders / "again") == results(folders / "by_hand")


def test_other_sizes_are_refused_with_what_helps(folders, model, capsys):
    halved(folders)
    assert call(folders, "--model", model) == 1
    told = capsys.readouterr().err
    assert "c.png is 4 x 4 pixels, its truth" in told and "8 x 8" in told and "--resize truth" in told
    assert not results(folders / "out")


# heads, and what the net sees besides


@pytest.fixture
def two_heads(tmp_path):
    return make(
        tmp_path / "heads",
        given("data") + scores("score_sem", "data", 33) + scores("score_geo", "data", 3),
        ("SIFTFlowSegDataLayer", {"siftflow_dir": "x", "split": "test", "tops": ["data", "sem", "geo"]}),
    )


def test_one_head_is_scored(folders, two_heads, capsys):
    assert call(folders, "--model", two_heads, "--head", "sem") == 0
    segmented(folders, "--model", two_heads)
    for name in SIZES:
        saved = (folders / f"out/predictions/{name}.png").read_bytes()
        assert saved == (folders / f"segmented/{name}_sem.png").read_bytes()
    about = json.loads((folders / "out/scores.json").read_text())
    assert len(about["classes"]) == 33 and about["classes"][27]["name"] == "sky"
    assert call(folders, "--model", two_heads, "--head", "geo", "--ignore", "255,3", out="geo") == 0
    about = json.loads((folders / "geo/scores.json").read_text())
    assert [each["name"] for each in about["classes"]] == ["sky", "horizontal", "vertical"]


def test_which_head_must_be_said_and_be_there(folders, two_heads, model, capsys):
    for options, told in (
        (["--model", two_heads], "has the heads sem, geo: choose one with --head"),
        (["--model", two_heads, "--head", "depth"], "heads sem, geo: .*; there is no head depth"),
        (["--model", model, "--head", "sem"], "has one head alone; there is no head sem"),
    ):
        assert call(folders, *options) == 1
        assert re.search(told, capsys.readouterr().err)
    assert not (folders / "out").exists()


@pytest.fixture
def colour_and_hha(tmp_path):
    params = {"nyud_dir": "x", "split": "test", "tops": ["color", "hha", "label"]}
    deploy = (
        given("color") + given("hha") + layer("both", "Concat", "color hha") + scores("score", "both", 40)
    )
    return make(tmp_path / "late", deploy, ("NYUDSegDataLayer", params))


def test_hha_beside_the_photographs(folders, colour_and_hha, capsys):
    random = np.random.default_rng(1)
    for name, size in SIZES.items():
        vis.save(folders / f"hha/{name}.png", random.integers(0, 256, (*size, 3)).astype(np.uint8))
    options = ["--model", colour_and_hha, "--hha", folders / "hha"]
    assert call(folders, *options) == 0
    segmented(folders, *options)
    assert results(folders / "out/predictions") == results(folders / "segmented")
    assert call(folders, "--model", colour_and_hha) == 1
    assert "sees color and hha: give --hha" in capsys.readouterr().err
    assert call(folders, *options, "--resize", "truth") == 1
    assert "--resize is for nets that see photographs alone" in capsys.readouterr().err


# misuse


FAULTS = {
    "no folder": (lambda f: shutil.rmtree(f / "photos"), "folder of photographs .*photos does not exist"),
    "no photograph": (
        lambda f: [path.unlink() for path in (f / "photos").iterdir()],
        "photos holds no image: it must hold a photograph for each image",
    ),
    "no truth": (lambda f: shutil.rmtree(f / "truths"), "folder of truths .*truths does not exist"),
    "missing": (lambda f: (f / "photos/b.jpg").unlink(), r"1 of 3 truths .* no photograph in .* b\.png"),
    "twice": (
        lambda f: vis.save(f / "photos/b.png", np.zeros((7, 5, 3), np.uint8)),
        r"photos holds b\.jpg and b\.png: keep one",
    ),
    "damaged": (lambda f: (f / "photos/a.png").write_bytes(b"\x89PNG\r\n\x1a\n"), r"image .*a\.png is"),
    "colours": (lambda f: Image.new("RGB", (9, 6)).save(f / "truths/a.png"), r"label .*a\.png has mode RGB"),
    "values": (
        lambda f: vis.save_indexed(f / "truths/a.png", np.full((6, 9), 33), vis.make_palette(40)),
        r"truth .*a\.png holds 33 \(54 pixels that count\); valid are 0 to 3, and 255 .* Set --ignore",
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_what_cannot_be_scored_is_told(folders, model, capsys, fault):
    plant, told = FAULTS[fault]
    plant(folders)
    assert call(folders, "--model", model) == 1
    error = capsys.readouterr().err
    assert error.startswith("error: ") and re.search(told, error)
    assert not (folders / "out/scores.json").exists()


def test_nothing_that_is_scored_is_overwritten(folders, model, capsys):
    before = results(folders / "photos")
    (folders / "photos").rename(folders / "predictions")
    assert call(folders, "--model", model, photos="predictions", out=".") == 1
    assert "choose another --out" in capsys.readouterr().err
    assert results(folders / "predictions") == before
    (folders / "predictions").rename(folders / "photos")
    (folders / "truths").rename(folders / "predictions")
    assert call(folders, "--model", model, truths="predictions", out=".") == 1


def test_more_classes_than_a_label_image_holds(folders, tmp_path, capsys):
    many = make(tmp_path / "many", given("data") + scores("score", "data", 257))
    (many / "classes.txt").write_text("\n".join(f"class{i}" for i in range(257)))
    assert call(folders, "--model", many) == 1
    assert "the net has 257 classes; label images hold 256" in capsys.readouterr().err


def test_a_net_that_is_not_there_or_does_not_fit(folders, model, tmp_path):
    (tmp_path / "junk.caffemodel").write_bytes(b"\xff" * 40)
    for options, told in (
        (["--model", "nix"], "there is no model nix; there are"),
        (["--model", model, "--weights", tmp_path / "none.caffemodel"], "none.caffemodel"),
        (["--model", model, "--weights", tmp_path / "junk.caffemodel"], "junk.caffemodel"),
        (
            ["--model", model, "--classes", ROOT / "data/pascal/classes.txt"],
            "21 class names for the 4 classes",
        ),
    ):
        with pytest.raises(SystemExit) as stop:
            call(folders, *options)
        assert str(stop.value.code).startswith("error: ") and told in stop.value.code


@pytest.mark.parametrize("error", [MemoryError(), RuntimeError("CUDA out of memory.\nTried to allocate")])
def test_what_is_too_large_for_the_machine_is_told(folders, model, monkeypatch, capsys, error):
    def fail(self, values):
        raise error

    monkeypatch.setattr(infer.Segmenter, "__call__", fail)
    assert call(folders, "--model", model) == 1
    told = capsys.readouterr().err
    assert "photos/a.png: " in told and "out of memory" in told and "Tried" not in told


def test_an_interrupt_is_no_traceback(folders, model, monkeypatch, capsys):
    def stop(self, values):
        raise KeyboardInterrupt

    monkeypatch.setattr(infer.Segmenter, "__call__", stop)
    assert call(folders, "--model", model) == 130
    assert "stopped" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ([], "give --classes for two folders of labels, --model or --deploy for photographs"),
        (["--classes", "4", "--weights", "w"], "--weights is for photographs"),
        (["--classes", "4", "--head", "sem"], "--head is for photographs"),
        (["--classes", "4", "--precision", "bf16"], "--precision is for photographs"),
        (["--classes", "4", "--resize", "truth"], "--resize is for photographs"),
        (["--classes", "4", "--mean", "1", "2", "3"], "--mean is for photographs"),
        (["--classes", "4", "--hha", "x"], "--hha is for photographs"),
        (["--classes", "4", "--gpu", "0"], "--gpu is for photographs"),
        (["--classes", "4", "--cpu"], "--cpu is for photographs"),
        (["--classes", "4", "--classes", "5"], "--classes may be given once"),
        (["--model", "x", "--classes", "4"], "--classes is a file of names"),
        (["--model", "x", "--resize", "half"], "--resize"),
        (["--model", "x", "--ignore", "256"], "--ignore must be 0 to 255"),
    ],
)
def test_options_that_do_not_go_together(folders, capsys, options, told):
    with pytest.raises(SystemExit) as stop:
        score_folders.main([str(folders / "photos"), str(folders / "truths"), *options])
    assert stop.value.code == 2 and told in capsys.readouterr().err


@pytest.mark.needs_embedded("it computes in float32 alone")
def test_a_precision_can_be_chosen(folders, model, monkeypatch):
    told = []
    monkeypatch.setattr(caffe, "set_precision", told.append)
    assert call(folders, "--model", model, "--precision", "tf32") == 0
    assert told == ["tf32"]


def test_as_a_command_with_the_options_anywhere(folders, model):
    photos, truths, out = folders / "photos", folders / "truths", folders / "out"
    done = run(ROOT / "score.py", "--cpu", photos, "--model", model, truths, "--out", out)
    assert "toy on CPU" in done.stdout and "mean IU" in done.stdout and "boat" in done.stdout
    assert (out / "scores.json").exists() and len(list((out / "predictions").iterdir())) == 3


def test_the_matrix_counts_what_the_net_says(folders, model):
    """Pixel by pixel, of the function under the command."""
    options = dict.fromkeys(("deploy", "weights", "mean", "classes", "gpu", "precision"))
    segmenter = infer.load(argparse.Namespace(model=str(model), cpu=True, **options))
    files, truth = [str(folders / "photos/a.png")], folders / "truths/a.png"
    hist = score_photographs.score(segmenter, 0, [(files, truth)], folders / "p")
    (predicted,), wanted = segmenter(segmenter.read(files)), np.array(Image.open(truth))
    for t in range(4):
        for p in range(4):
            assert hist[t, p] == np.count_nonzero((wanted == t) & (predicted == p))
