"""python score.py PREDICTIONS TRUTHS: any two folders of label images."""

import csv
import json
import subprocess
import sys
import time

import numpy as np
import pytest
from model_dirs import run
from PIL import Image

import score
import score_folders
import vis
from feed import ROOT
from files import DataError


def save(path, label):
    path.parent.mkdir(parents=True, exist_ok=True)
    vis.save_indexed(path, np.asarray(label, np.uint8), vis.make_palette(21))


@pytest.fixture
def folders(tmp_path):
    """Three pairs of unequal sizes with four classes and void; class 3 does not occur in the truth."""
    random, content = np.random.default_rng(0), {}
    for i, size in enumerate(((7, 9), (12, 5), (6, 6))):
        truth = random.integers(0, 3, size)
        truth[0, :2] = 255
        predicted = np.where(random.random(size) < 0.6, truth, random.integers(0, 4, size))
        predicted[truth == 255] = 1
        content[f"image{i}"] = predicted, truth
        save(tmp_path / "predictions" / f"image{i}.png", predicted)
        save(tmp_path / "truths" / f"image{i}.png", truth)
    return tmp_path, content


def call(tmp_path, *options):
    words = [tmp_path / "predictions", tmp_path / "truths", "--out", tmp_path / "out", *options]
    return score_folders.main([str(word) for word in words])


def counted(content, classes=4, ignore=255):
    """The matrix, pixel by pixel."""
    hist = np.zeros((classes, classes), int)
    for predicted, truth in content.values():
        for t, p in zip(truth.ravel(), predicted.ravel(), strict=True):
            if t != ignore:
                hist[t, p] += 1
    return hist


def test_matrix_metrics_and_files(folders, capsys):
    tmp_path, content = folders
    assert call(tmp_path, "--classes", 4) == 0
    hist = counted(content)
    said, about = capsys.readouterr().out, json.loads((tmp_path / "out/scores.json").read_text())
    assert about["confusion"] == hist.tolist()
    iu = [hist[i, i] / (hist[i].sum() + hist[:, i].sum() - hist[i, i]) for i in range(3)]
    assert about["metrics"]["skip"]["mean IU"] == pytest.approx(np.mean(iu))
    assert about["metrics"]["zero"]["mean IU"] == pytest.approx(sum(iu) / 4)
    assert about["metrics"]["skip"]["pixel accuracy"] == pytest.approx(np.trace(hist) / hist.sum())
    assert [each["IU"] for each in about["classes"]] == [*map(pytest.approx, iu), None]
    assert (
        f"mean IU         {np.mean(iu):.4f}   over the 3 classes that occur; {sum(iu) / 4:.4f} over all 4"
        in said
    )
    with open(tmp_path / "out/confusion.csv", newline="") as file:
        rows = list(csv.reader(file))
    assert [[int(value) for value in row[1:]] for row in rows[1:]] == hist.tolist()
    assert rows[0][1:] == [row[0] for row in rows[1:]] == ["class 0", "class 1", "class 2", "class 3"]
    with open(tmp_path / "out/classes.csv", newline="") as file:
        assert [row["true"] for row in csv.DictReader(file)] == [str(n) for n in hist.sum(1)]
    with Image.open(tmp_path / "out/confusion.png") as picture:
        assert picture.size[0] > 300


def test_names_of_classes(folders, capsys):
    tmp_path, _ = folders
    (tmp_path / "names.txt").write_text("ground\ncat\ndog\nbird\n")
    assert call(tmp_path, "--classes", tmp_path / "names.txt") == 0
    assert "cat" in capsys.readouterr().out
    assert [each["name"] for each in json.loads((tmp_path / "out/scores.json").read_text())["classes"]][
        3
    ] == "bird"


def test_another_value_may_be_ignored_or_none(folders):
    tmp_path, content = folders
    assert call(tmp_path, "--classes", 256, "--ignore", 0) == 0
    assert (
        json.loads((tmp_path / "out/scores.json").read_text())["confusion"]
        == counted(content, 256, 0).tolist()
    )
    assert call(tmp_path, "--classes", 256, "--ignore", "none") == 0
    assert (
        json.loads((tmp_path / "out/scores.json").read_text())["confusion"]
        == counted(content, 256, -1).tolist()
    )


def test_several_values_may_be_ignored(folders):
    tmp_path, content = folders
    assert call(tmp_path, "--classes", 4, "--ignore", "255,2") == 0
    found = np.array(json.loads((tmp_path / "out/scores.json").read_text())["confusion"])
    expected = counted(content)
    expected[2] = 0
    assert (found == expected).all() and counted(content)[2].any()
    # a value beyond the classes counts as soon as it is not ignored
    save(tmp_path / "truths/image2.png", np.full((6, 6), 19))
    assert call(tmp_path, "--classes", 4, "--ignore", "255,19", "--out", tmp_path / "b") == 0
    assert call(tmp_path, "--classes", 4, "--out", tmp_path / "c") == 1


@pytest.mark.parametrize("ignore", ["256", "-1", "x", "1,", "1,,2", ""])
def test_values_to_ignore_are_bytes(folders, capsys, ignore):
    with pytest.raises(SystemExit) as stop:
        call(folders[0], "--classes", 4, f"--ignore={ignore}")
    assert stop.value.code == 2 and "--ignore must be 0 to 255" in capsys.readouterr().err


@pytest.mark.parametrize("classes", [0, 257])
def test_classes_are_as_many_as_a_byte_holds(folders, capsys, classes):
    assert call(folders[0], "--classes", classes) == 1
    assert f"--classes must be 1 to 256, got {classes}" in capsys.readouterr().err


def test_two_folders_need_no_engine(folders):
    """Nor does the help, which tells of both ways."""
    tmp_path, _ = folders
    code = """import runpy, sys
for name in ("caffe", "torch"):
    sys.modules[name] = None  # importing it fails
sys.path.insert(0, sys.argv[1])
sys.argv[:2] = [sys.argv[1] + "/score.py"]
runpy.run_path(sys.argv[0], run_name="__main__")
"""
    words = [tmp_path / "predictions", tmp_path / "truths", "--classes", "4", "--out", tmp_path / "o"]
    for options in (words, ["--help"]):
        command = [sys.executable, "-c", code, *map(str, (ROOT, *options))]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert (tmp_path / "o/scores.json").exists()
    assert "--model voc-fcn8s" in done.stdout and "--classes 21" in done.stdout


def test_it_agrees_with_fast_hist(folders):
    tmp_path, content = folders
    items = score_folders.pairs(tmp_path / "predictions", tmp_path / "truths")
    expected = sum(score.fast_hist(truth, predicted, 4) for predicted, truth in content.values())
    assert (score_folders.score_pairs(items, 4) == expected).all()


def test_predictions_without_truth_are_passed_over_and_told(folders, capsys):
    tmp_path, content = folders
    save(tmp_path / "predictions/more.png", [[1]])
    assert call(tmp_path, "--classes", 4) == 0
    assert "1 predictions without truth" in capsys.readouterr().err
    assert json.loads((tmp_path / "out/scores.json").read_text())["confusion"] == counted(content).tolist()


FAULTS = {
    "no folder": (lambda p: (p / "predictions").rename(p / "x"), "folder of predictions .* does not exist"),
    "no png": (lambda p: [f.unlink() for f in (p / "truths").iterdir()], "folder of truths .* holds no PNG"),
    "missing": (lambda p: (p / "predictions/image1.png").unlink(), r"1 of 3 truths .* such as image1\.png"),
    "size": (
        lambda p: save(p / "predictions/image1.png", [[1, 1]]),
        r"image1\.png is 2 x 1 pixels, its truth .* 5 x 12",
    ),
    "void": (
        lambda p: save(p / "predictions/image2.png", np.full((6, 6), 255)),
        r"prediction .*image2\.png holds 255",
    ),
    "class": (
        lambda p: save(p / "truths/image2.png", np.full((6, 6), 4)),
        r"truth .*image2\.png holds 4 \(36 pixels",
    ),
    "colours": (
        lambda p: Image.new("RGB", (6, 6)).save(p / "predictions/image2.png"),
        r"image2\.png has mode RGB",
    ),
    "damaged": (lambda p: (p / "truths/image0.png").write_bytes(b"\x89PNG\r\n\x1a\n"), r"image0\.png is"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_what_cannot_be_scored_is_told_and_nothing_is_written(folders, capsys, fault):
    tmp_path, _ = folders
    plant, said = FAULTS[fault]
    plant(tmp_path)
    assert call(tmp_path, "--classes", 4) == 1
    error = capsys.readouterr().err
    with pytest.raises(DataError, match=said):
        raise DataError(error)
    assert not (tmp_path / "out").exists()


def test_nothing_but_void_is_told(tmp_path, capsys):
    for folder in ("predictions", "truths"):
        save(tmp_path / folder / "a.png", np.full((3, 3), 255 if folder == "truths" else 0))
    assert call(tmp_path, "--classes", 4) == 1
    assert "no pixel of the 1 truths" in capsys.readouterr().err


def test_a_collapsed_net_is_recognised(tmp_path, capsys):
    save(tmp_path / "predictions/a.png", np.zeros((4, 4)))
    save(tmp_path / "truths/a.png", np.arange(16).reshape(4, 4) % 4)
    assert call(tmp_path, "--classes", 4) == 0
    assert "predicts class 0 for every pixel" in capsys.readouterr().out


def test_as_a_command(folders):
    tmp_path, _ = folders
    done = run(
        ROOT / "score.py",
        tmp_path / "predictions",
        tmp_path / "truths",
        "--classes",
        4,
        "--out",
        tmp_path / "o",
    )
    assert "mean IU" in done.stdout and (tmp_path / "o/scores.json").exists()


def test_a_hundred_pairs_a_second(tmp_path):
    y, x = np.mgrid[:375, :500]
    label = ((x // 70 + y // 50) % 21).astype(np.uint8)
    label[::9, ::50] = 255
    for i in range(40):
        save(tmp_path / "truths" / f"{i}.png", label)
        save(tmp_path / "predictions" / f"{i}.png", np.roll(np.where(label == 255, 0, label), i, 1))
    items, rates = score_folders.pairs(tmp_path / "predictions", tmp_path / "truths"), []
    for _ in range(4):  # the best counts: the machine may be busy
        start = time.perf_counter()
        score_folders.score_pairs(items, 21)
        rates.append(len(items) / (time.perf_counter() - start))
    assert max(rates) > 100, rates
