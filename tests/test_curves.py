"""python vis.py curves: how training runs went, over each other."""

import json
import math
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import curves
import watching

ROOT = Path(__file__).resolve().parents[1]


def leave(folder, iterations=100, seconds=1.0, heads=("score",), classes=(21,)):
    """What a run to ``iterations``, ``seconds`` each, leaves in ``folder``."""
    folder.mkdir(parents=True)
    watch = watching.Watch(folder / "train", 0, heads)
    chance = sum(map(math.log, classes))
    for n in range(20, iterations + 1, 20):
        watch.seconds = n * seconds
        watch.trained(n, watch.seconds, 9.0, chance * math.exp(-n / iterations), 1e-4, 0.0)
        fields = dict.fromkeys(watching.SCORES, n / iterations)
        fields |= {"iteration": n, "seconds": watch.seconds, "pixel_accuracy": 0.5}
        watch.scores.add([fields | {"head": head} for head in heads])
    heads = {head: {"classes": [{}] * count} for head, count in zip(heads, classes, strict=True)}
    record = {"iteration": iterations, "split": "val", "images": 3, "heads": heads}
    (folder / "scores.json").write_text(json.dumps(record))
    return folder


@pytest.fixture
def runs(tmp_path):
    """Two model directories."""
    leave(tmp_path / "fcn32s/snapshot")
    leave(tmp_path / "fcn16s/snapshot", 200, 0.25)
    return [tmp_path / "fcn32s", tmp_path / "fcn16s"]


def lines(axes):
    return [line for line in axes.lines if len(line.get_xdata()) > 2]


def test_the_curves_are_what_the_runs_left(runs):
    left, right = curves.draw([curves.read(path) for path in runs]).axes
    first, second = lines(left)
    np.testing.assert_array_equal(first.get_xdata(), [20, 40, 60, 80, 100])
    np.testing.assert_allclose(first.get_ydata(), [math.log(21) * math.exp(-n / 5) for n in (1, 2, 3, 4, 5)])
    assert second.get_xdata()[-1] == 200 and first.get_color() != second.get_color()
    iu, accuracy, other, _ = lines(right)
    np.testing.assert_allclose(iu.get_ydata(), [0.2, 0.4, 0.6, 0.8, 1.0])
    np.testing.assert_allclose(accuracy.get_ydata(), 0.5)
    assert iu.get_linestyle() == "-" != accuracy.get_linestyle()
    assert iu.get_color() == first.get_color() == accuracy.get_color() != other.get_color()


def test_the_axis_may_be_the_time(runs):
    left, right = curves.draw([curves.read(path) for path in runs], "time").axes
    np.testing.assert_allclose(lines(left)[1].get_xdata(), [0.25 * n for n in range(20, 201, 20)])
    np.testing.assert_allclose(lines(right)[0].get_xdata(), [20, 40, 60, 80, 100])
    assert left.get_xlabel() == "seconds of training"
    long = leave(runs[0].parent / "long", 100, 3600.0)
    left, _ = curves.draw([curves.read(long), curves.read(runs[0])], "time").axes
    assert left.get_xlabel() == "hours of training" and lines(left)[0].get_xdata()[-1] == 100


def test_a_line_says_where_a_net_knows_nothing(runs, tmp_path):
    left, _ = curves.draw([curves.read(path) for path in runs]).axes
    assert [text.get_text() for text in left.texts] == ["ln 21 = 3.04: knows nothing"]  # once for both
    two = leave(tmp_path / "two", heads=("score_sem", "score_geo"), classes=(33, 3))
    left, right = curves.draw([curves.read(two)]).axes
    assert [text.get_text() for text in left.texts] == ["ln 33 + ln 3 = 4.60: knows nothing"]
    assert [text.get_text() for text in right.get_legend().get_texts()][2:] == ["score_sem", "score_geo"]
    (two / "scores.json").unlink()
    left, _ = curves.draw([curves.read(two)]).axes
    assert not left.texts


def test_a_long_run_is_drawn_with_its_moving_mean(tmp_path):
    folder = leave(tmp_path / "long", 2000)
    left, _ = curves.draw([curves.read(folder)]).axes
    raw, mean = lines(left)
    values = raw.get_ydata()
    assert raw.get_alpha() < 1 and mean.get_alpha() in (None, 1)
    assert mean.get_ydata()[50] == pytest.approx(np.mean(values[48:53]))
    assert mean.get_ydata()[0] == pytest.approx(np.mean(values[:3]))


def test_runs_are_called_as_their_directories(runs, tmp_path):
    def called(*paths):
        return curves.labels([curves.read(path) for path in paths])

    assert called(*runs) == ["fcn32s", "fcn16s"]
    assert called(runs[0] / "snapshot", runs[1] / "snapshot/train.csv") == ["fcn32s", "fcn16s"]
    other = leave(tmp_path / "seed2/fcn32s/snapshot").parent
    assert called(runs[0], other) == [f"{tmp_path.name}/fcn32s", "seed2/fcn32s"]
    shutil.copy(runs[0] / "snapshot/scores.csv", tmp_path / "kept.csv")
    assert called(tmp_path / "kept.csv") == ["kept"]


@pytest.mark.parametrize("suffix", ["png", "pdf"])
def test_the_command_writes_a_picture(runs, tmp_path, suffix, capsys):
    out = tmp_path / f"out/picture.{suffix}"
    assert curves.main(["curves", *map(str, runs), "--out", str(out), "--by", "time"]) == 0
    assert capsys.readouterr().out == f"{out}: fcn32s, fcn16s\n"
    if suffix == "png":
        pixels = np.asarray(Image.open(out).convert("RGB")).reshape(-1, 3)
        for color in curves.COLORS[:2]:
            wanted = [int(color[i : i + 2], 16) for i in (1, 3, 5)]
            assert (pixels == wanted).all(1).sum() > 500
    else:
        assert out.read_bytes().startswith(b"%PDF")


def test_one_table_alone_is_drawn(runs, tmp_path):
    out = tmp_path / "one.png"
    for table in ("train.csv", "scores.csv"):
        assert curves.main(["curves", str(runs[0] / "snapshot" / table), "--out", str(out)]) == 0


@pytest.mark.parametrize("what", ["missing", "no run", "damaged", "no rows", "another file"])
def test_a_run_that_cannot_be_drawn_is_told(runs, tmp_path, what, capsys):
    path, said = tmp_path / "it", {"missing": "does not exist", "no run": "no train.csv"}.get(what)
    if what == "no run":
        path.mkdir()
    if what == "damaged":
        path, said = runs[0], "line 2"
        (path / "snapshot/train.csv").write_text(",".join(watching.TRAIN) + "\n20,x\n")
    if what == "no rows":
        path.mkdir()
        watching.Watch(path / "train", 0, ["score"])
        said = "no row yet"
    if what == "another file":
        path.write_text("a,b\n1,2\n")
        said = "begins with"
    assert curves.main(["curves", str(path), "--out", str(tmp_path / "c.png")]) == 1
    assert said in capsys.readouterr().err and not (tmp_path / "c.png").exists()


def test_vis_alone_prints_help(tmp_path):
    done = subprocess.run([sys.executable, ROOT / "vis.py"], capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0 and "curves" in done.stdout and not done.stderr
    done = subprocess.run(
        [sys.executable, ROOT / "vis.py", "curves", "x", "--out", "c.gif"],
        capture_output=True,
        text=True,
        cwd=tmp_path,
    )
    assert done.returncode == 2 and ".png" in done.stderr
