"""What a training run leaves behind: tables, scores, TensorBoard's files; resuming; and the signs of a collapse."""

import json
import math
import os
import shutil
import signal
import subprocess
import sys
import time

import caffe
import numpy as np
import pytest
from caffe.proto import caffe_pb2
from google.protobuf import text_format
from model_dirs import call, parameters, random_weights, run, scratch
from PIL import Image
from trees import items

import board
import nets
import score
import signs
import snapshots
import surgery
import vis
import watching
from files import DataError

TIMES = ("seconds", "waiting")


def numbers(folder):
    """What both tables and scores.json hold, times aside; nan as a text, so that rows compare."""
    rows = [*watching.read_train(folder), *watching.read_scores(folder)]
    kept = [{k: v if v == v else "nan" for k, v in row.items() if k not in TIMES} for row in rows]
    return kept, watching.read_record(folder)


def quick(tmp_path, name="mini-fcn8s", **settings):
    """A narrow net that trains to 12, shows and saves at every 4th, and scores at every 4th, or as ``settings`` say."""
    directory = scratch(tmp_path, name)
    path = directory / "solver.prototxt"
    proto = nets.read_prototxt(path, caffe_pb2.SolverParameter())
    for key, value in {"max_iter": 12, "display": 4, "snapshot": 4, **settings}.items():
        setattr(proto, key, value)
    path.write_text(text_format.MessageToString(proto))
    return directory


def solve(directory, *args):
    """What solve.py prints, in this process, which is faster."""
    return call(directory / "solve.py", "--cpu", *args)


def refused(directory, *args):
    """What solve.py says in a process of its own, in which it fails."""
    done = run(directory / "solve.py", "--cpu", *args, check=False, OMP_NUM_THREADS="1")
    assert done.returncode and "Traceback" not in done.stderr
    return done.stderr


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A run that nobody stopped, and what it printed; tests work on copies."""
    root = tmp_path_factory.mktemp("whole")
    directory = quick(root)
    return directory, solve(directory, "--resume")


@pytest.fixture
def trained(whole, tmp_path):
    """A copy of that run, which may be spoiled."""
    for folder in (whole[0], whole[0].parent / "data"):
        shutil.copytree(folder, tmp_path / folder.name)
    return tmp_path / whole[0].name


# tables


def test_a_run_leaves_rows_scores_and_the_record(whole):
    directory, printed = whole
    assert "no snapshot to resume from" in printed and "starting from the beginning" in printed
    assert "warning" not in printed.replace("warning: 3 of the 3 images that are scored", "")  # a healthy run
    train, scores = watching.read_train(directory / "snapshot"), watching.read_scores(directory / "snapshot")
    assert [row["iteration"] for row in train] == [4, 8, 12]
    assert [(row["iteration"], row["head"]) for row in scores] == [(n, "score") for n in (4, 8, 12)]
    seconds = [row["seconds"] for row in train]
    assert (
        0 < seconds[0] < seconds[1] < seconds[2] == scores[-1]["seconds"]
        or seconds[2] <= scores[-1]["seconds"]
    )
    assert all(0 <= row["waiting"] <= 1 and math.isfinite(row["loss"]) for row in train)
    record = watching.read_record(directory / "snapshot")
    assert (record["iteration"], record["split"], record["images"]) == (12, "val", 3)
    head, last = record["heads"]["score"], scores[-1]
    hist = np.array(head["confusion"])
    assert last["mean_iu"] == score.mean_iu(hist) == head["metrics"]["skip"]["mean IU"]
    assert last["mean_iu_zero"] == score.mean_iu(hist, "zero")
    assert last["mean_accuracy_zero"] == score.mean_accuracy(hist, "zero")
    assert (last["pixel_accuracy"], last["fw_iu"]) == (
        score.pixel_accuracy(hist),
        score.freq_weighted_iu(hist),
    )
    assert f"Iteration 12 loss per pixel {last['loss_per_pixel']:.6g}" in printed
    assert [each["name"] for each in head["classes"]][:2] == ["background", "aeroplane"]


@pytest.mark.needs_embedded("it does not tell its learning rate")
def test_the_learning_rate_is_the_solver_s(whole):
    assert [row["learning_rate"] for row in watching.read_train(whole[0] / "snapshot")] == [0.001] * 3


def test_a_row_is_the_mean_since_the_row_before(tmp_path):
    """With a row for every iteration, every fourth of them comes to the rows of four."""
    tables = []
    for display in (1, 4):
        directory = quick(tmp_path / str(display), max_iter=9, display=display, snapshot=0)
        solve(directory)
        tables.append(watching.read_train(directory / "snapshot"))
    each, four = tables
    assert [row["iteration"] for row in four] == [4, 8, 9]
    for row, span in zip(four, (each[:4], each[4:8], each[8:]), strict=True):
        for name in ("loss", "loss_per_pixel"):
            assert row[name] == pytest.approx(np.mean([one[name] for one in span]), rel=1e-12)


@pytest.mark.needs_embedded("its snapshots do not hold the random state, which draws dropout")
@pytest.mark.parametrize("when", ["in training", "before the row's scores", "before the last scores"])
def test_a_killed_run_leaves_the_rows_of_one_that_was_not(whole, trained, when):
    folder = trained / "snapshot"
    scores = (folder / "scores.csv").read_text().splitlines(keepends=True)
    stays = {"in training": 8, "before the row's scores": 8, "before the last scores": 12}[when]
    for each in snapshots.found(str(folder / "train")):
        if each.iteration > stays:
            each.state.unlink()
    if when == "in training":
        with open(folder / "train.csv", "a") as out:
            out.write("16,9.0,1.0,1.")  # killed while it wrote
    else:
        (folder / "scores.csv").write_text("".join(scores[: 2 if stays == 8 else 3]))
        (folder / "scores.json").unlink()
    before = watching.read_train(folder)
    done = solve(trained, "--resume")
    assert f"resumed at iteration {stays}" in done
    assert numbers(folder) == numbers(whole[0] / "snapshot")
    seconds = [row["seconds"] for row in watching.read_train(folder)]
    assert seconds == sorted(seconds)
    assert seconds[: stays // 4] == [row["seconds"] for row in before][: stays // 4]
    assert parameters(folder / "train_iter_12.caffemodel") == parameters(
        whole[0] / "snapshot/train_iter_12.caffemodel"
    )


@pytest.mark.needs_embedded("its snapshots do not hold the random state, which draws dropout")
def test_a_run_killed_by_force_goes_on_to_the_same_rows(whole, tmp_path):
    directory = quick(tmp_path)
    folder = directory / "snapshot"
    process = subprocess.Popen(
        [sys.executable, directory / "solve.py", "--cpu", "--resume"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    while not (folder / "train_iter_4.solverstate").exists():
        assert process.poll() is None
        time.sleep(0.002)
    process.kill()
    process.wait()
    solve(directory, "--resume")
    assert numbers(folder) == numbers(whole[0] / "snapshot")


def test_a_cut_last_line_is_passed_over_and_damage_is_told(tmp_path):
    table = watching.Watch(tmp_path / "train", 0, ["score"])
    table.trained(20, 1.5, 3.0, 2.0, None, 0.3)
    (row,) = watching.read_train(tmp_path)
    assert row["iteration"] == 20 and type(row["iteration"]) is int and math.isnan(row["learning_rate"])
    assert row["waiting"] == pytest.approx(0.2)
    path = tmp_path / "train.csv"
    good = path.read_text()
    path.write_text(good + "40,3.1")
    assert watching.read_train(tmp_path)[0]["loss"] == 3.0 and len(watching.read_train(tmp_path)) == 1
    for text, found in ((good + "40,3.1\n", "line 3"), (good[3:], "begins with"), ("", "no whole line")):
        path.write_text(text)
        with pytest.raises(DataError, match=rf"train\.csv.*{found}.*remove"):
            watching.read_train(tmp_path)
    path.unlink()
    with pytest.raises(DataError, match=r"train\.csv does not exist"):
        watching.read_train(tmp_path)


@pytest.mark.parametrize("text", ["", "[1]", '{"iteration": 3}', "{", b"\xff"])
def test_a_damaged_record_is_told(tmp_path, text):
    with pytest.raises(DataError, match="does not exist"):
        watching.read_record(tmp_path)
    (tmp_path / "scores.json").write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(DataError, match=r"scores\.json is damaged"):
        watching.read_record(tmp_path)


# resuming


def test_at_the_end_there_is_nothing_to_do(trained):
    def left():
        return {path: path.read_bytes() for path in (trained / "snapshot").rglob("*") if path.is_file()}

    before = left()
    done = solve(trained, "--resume")
    assert "nothing to do: trained to iteration 12" in done and "mean IU" not in done
    assert left() == before


def test_a_lost_last_scoring_is_made_again(trained):
    folder = trained / "snapshot"
    expected = numbers(folder)
    (folder / "scores.json").write_text("{")
    said = solve(trained, "--resume")
    assert "Iteration 12 mean IU" in said and "Iteration 12 (" not in said
    assert numbers(folder) == expected


def spoil(path, how):
    content = path.read_bytes()
    path.write_bytes({"cut": content[: len(content) // 2], "empty": b"", "zeros": bytes(len(content))}[how])


@pytest.mark.parametrize("file", ["solverstate", "caffemodel"])
@pytest.mark.parametrize("how", ["cut", "empty", "zeros", "gone"])
def test_a_damaged_snapshot_is_passed_over(trained, capsys, monkeypatch, file, how):
    monkeypatch.chdir(trained)
    path = trained / f"snapshot/train_iter_12.{file}"
    path.unlink() if how == "gone" else spoil(path, how)
    newest = snapshots.Story("snapshot/train").newest("solver.prototxt")
    assert newest.iteration == 8 and newest.weights.name == "train_iter_8.caffemodel"
    assert (how == "gone") != ("passed over snapshot/train_iter_12.solverstate: " in capsys.readouterr().out)


@pytest.mark.needs_embedded("it cannot look into HDF5 files")
@pytest.mark.parametrize("file", ["solverstate", "caffemodel"])
def test_snapshots_in_hdf5_are_gone_on_from(tmp_path, monkeypatch, capsys, file):
    directory = quick(tmp_path, max_iter=4, snapshot=2, snapshot_format=caffe_pb2.SolverParameter.HDF5)
    solve(directory)
    assert "resumed at iteration 4 from snapshot/train_iter_4.solverstate.h5" in solve(
        directory, "--resume", "--iterations", 5
    )
    for number in (4, 5):
        spoil(directory / f"snapshot/train_iter_{number}.{file}.h5", "cut")
    monkeypatch.chdir(directory)
    assert snapshots.Story("snapshot/train").newest("solver.prototxt").iteration == 2
    assert capsys.readouterr().out.count("passed over") == 2


def test_training_goes_on_from_the_one_before_a_damaged_one(trained):
    for number in (4, 12):
        spoil(trained / f"snapshot/train_iter_{number}.caffemodel", "cut")
    said = solve(trained, "--resume")
    assert "passed over snapshot/train_iter_12.solverstate" in said and "resumed at iteration 8" in said
    assert "Iteration 12 mean IU" in said


def test_snapshots_of_an_earlier_run_are_not_gone_on_from(trained, capsys, monkeypatch):
    """A new run in the same folder that was stopped before its first snapshot."""
    monkeypatch.chdir(trained)
    solve(trained, "--iterations", 2)
    newest = snapshots.Story("snapshot/train").newest("solver.prototxt")
    assert newest.iteration == 2
    assert capsys.readouterr().out.count("it is of an earlier run") == 3
    solve(trained, "--iterations", 5, "--resume")  # overwrites that of iteration 4
    assert [row["iteration"] for row in watching.read_train("snapshot")] == [2, 4, 5]
    newest = snapshots.Story("snapshot/train").newest("solver.prototxt")
    assert newest.iteration == 5


def test_going_back_leaves_later_snapshots_behind(trained, capsys, monkeypatch):
    monkeypatch.chdir(trained)
    solve(trained, "--iterations", 5, "--snapshot", "snapshot/train_iter_4.solverstate")
    assert [row["iteration"] for row in watching.read_train("snapshot")] == [4, 5]
    assert snapshots.Story("snapshot/train").newest("solver.prototxt").iteration == 5


def test_another_solver_s_snapshots_are_refused(trained):
    shutil.copy(trained / "solver.prototxt", trained / "other.prototxt")
    assert "solver.prototxt --resume" in refused(trained, "--resume", "--solver", "other.prototxt")


@pytest.mark.needs_embedded("the original ends the process over a state that does not fit")
def test_snapshots_of_another_net_are_refused(trained):
    solver = (trained / "solver.prototxt").read_text().replace('"Adam"', '"SGD"')
    (trained / "solver.prototxt").write_text(solver)
    said = refused(trained, "--resume", "--iterations", 20)
    assert "history" in said and "without" in said


def test_resume_excludes_a_snapshot(trained):
    assert "not allowed with" in refused(
        trained, "--resume", "--snapshot", "snapshot/train_iter_8.solverstate"
    )


def test_a_parent_is_looked_for_only_at_the_beginning(tmp_path):
    directory = quick(tmp_path, "mini-fcn16s", max_iter=4)
    assert "mini-fcn32s" in refused(directory, "--resume")
    random_weights(directory / "deploy.prototxt", tmp_path / "parent.caffemodel")
    solve(directory, "--weights", tmp_path / "parent.caffemodel")
    assert "resumed at iteration 4" in solve(directory, "--resume", "--iterations", 6)


# TensorBoard


class Writer:
    """As much of SummaryWriter as is used."""

    def __init__(self):
        self.scalars, self.images, self.flushed = {}, {}, 0

    def add_scalar(self, tag, value, step):
        self.scalars[tag, step] = value

    def add_image(self, tag, image, step, dataformats):
        assert dataformats == "HWC"
        self.images[tag, step] = image

    def flush(self):
        self.flushed += 1


def test_the_board_has_the_rows_and_pictures_side_by_side(tmp_path, monkeypatch):
    writer, opened = Writer(), []
    monkeypatch.setattr(board.Board, "open", lambda *args: opened.append(args) or board.Board(writer))
    watch = watching.Watch(tmp_path / "train", 0, ["score"])
    watch.trained(20, 1.5, 3.0, 2.0, None, 0.3)
    watch.scored(20, [score.Scores(np.eye(3, dtype=int), 2.0, 1.0)], [["a", "b", "c"]], "val", 1)
    assert (
        writer.scalars["train/loss_per_pixel", 20] == 2.0
        and ("train/learning_rate", 20) not in writer.scalars
    )
    assert writer.scalars["val/mean_iu", 20] == 1.0 and ("val/head", 20) not in writer.scalars
    watching.Watch(tmp_path / "train", 20, ["score"])
    assert opened == [(tmp_path / "tensorboard", 0), (tmp_path / "tensorboard", 21)]

    seen = watch.board.viewer(20, lambda name: None if name == "b" else np.full((2, 3, 3), 9, np.uint8))
    truth, prediction = np.array([[0, 1, 255], [2, 2, 2]], np.float32), np.array([[0, 1, 1], [2, 2, 0]])
    for name in "abcdefg":
        seen(name, score.Head(), truth, prediction, 3)
    assert [tag for tag, _ in writer.images] == [f"score/{name}" for name in "abcd"]
    picture, palette = writer.images["score/a", 20], vis.make_palette(3)
    assert picture.shape == (2, 9 + 2 * 8, 3) and (picture[:, :3] == 9).all()
    assert (picture[:, 11:14] == vis.color_seg(truth.astype(int), palette)).all()
    assert (picture[:, 22:] == vis.color_seg(prediction, palette)).all()
    assert writer.images["score/b", 20].shape == (2, 6 + 8, 3)  # no photograph


def test_training_shows_the_validation_images(tmp_path, monkeypatch):
    writer = Writer()
    monkeypatch.setattr(board.Board, "open", lambda *args: board.Board(writer))
    directory = quick(tmp_path)
    solve(directory)
    ids = sorted(items(((4, 4),) * 3))
    assert set(writer.images) == {(f"score/{name}", step) for name in ids for step in (4, 8, 12)}
    (height, width) = (40, 30)
    assert writer.images[f"score/{ids[0]}", 12].shape == (height, 3 * width + 2 * 8, 3)
    with Image.open(tmp_path / f"data/pascal/sample/VOC2011/JPEGImages/{ids[0]}.jpg") as photo:
        np.testing.assert_array_equal(writer.images[f"score/{ids[0]}", 12][:, :width], np.asarray(photo))
    assert {step for tag, step in writer.scalars if tag == "val/mean_iu"} == {4, 8, 12}


def test_tensorboard_gets_files_where_it_is_installed(trained):
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    solve(trained, "--iterations", 16, "--resume")
    events = EventAccumulator(str(trained / "snapshot/tensorboard"))
    events.Reload()
    shown = [(each.step, each.value) for each in events.Scalars("train/loss")]
    rows = watching.read_train(trained / "snapshot")
    assert shown == [(row["iteration"], pytest.approx(row["loss"])) for row in rows]
    assert {f"score/{name}" for name in items(((4, 4),) * 3)} == set(events.Tags()["images"])


# signs of a collapse

HEAD = """
layer { name: "data" type: "Input" top: "data" input_param { shape { dim: 1 dim: 3 dim: 6 dim: 6 } } }
layer { name: "label" type: "Input" top: "label" input_param { shape { dim: 1 dim: 1 dim: 6 dim: 6 } } }
"""
CONV = """
layer {{ name: "{0}" type: "Convolution" bottom: "{1}" top: "{0}" convolution_param {{ num_output: {2} kernel_size: 1
  weight_filler {{ type: "xavier" }} }} }}
layer {{ name: "relu_{0}" type: "ReLU" bottom: "{0}" top: "{0}" }}
"""
SCORE = """
layer {{ name: "{0}" type: "Convolution" bottom: "{1}" top: "{0}"
  convolution_param {{ num_output: 2 kernel_size: 1 }} }}
"""
FUSE = """
layer { name: "fuse" type: "Eltwise" bottom: "score" bottom: "score_skip" top: "fuse" }
layer { name: "loss" type: "SoftmaxWithLoss" bottom: "fuse" bottom: "label" top: "loss"
  loss_param { ignore_label: 255 } }
"""


@pytest.fixture
def skip_net(tmp_path):
    """conv1 → conv2 → score and conv1 → score_skip, added up; scores start at zero, as those of every stage do."""
    text = HEAD + CONV.format("conv1", "data", 8) + CONV.format("conv2", "conv1", 8)
    text += SCORE.format("score", "conv2") + SCORE.format("score_skip", "conv1") + FUSE
    path = tmp_path / "net.prototxt"
    path.write_text(text)
    net = caffe.Net(str(path), caffe.TRAIN)
    net.blobs["data"].data[...] = np.random.default_rng(0).standard_normal((1, 3, 6, 6))
    return net, text_format.Parse(text, caffe_pb2.NetParameter())


@pytest.mark.parametrize("layer", ["conv1", "conv2"])
def test_the_first_layer_that_gives_nothing_is_named(skip_net, layer):
    net, param = skip_net
    net.params[layer][1].data[...] = -1e6  # all below zero, so that the ReLU leaves nothing
    net.forward()
    said = signs.blind(net, param)
    assert said.startswith(f"{layer} gives exactly 0") and "gets to fuse" in said


def test_scores_of_zero_and_a_net_that_sees_are_no_sign(skip_net):
    net, param = skip_net
    net.forward()
    assert not net.blobs["score"].data.any() and signs.blind(net, param) == ""
    net.params["conv2"][1].data[:4] = -1e6  # half of its channels
    net.forward()
    assert signs.blind(net, param) == ""


def test_one_dead_branch_of_several_is_no_sign(tmp_path):
    text = HEAD + CONV.format("left", "data", 4) + CONV.format("right", "data", 4)
    text += 'layer { name: "both" type: "Concat" bottom: "left" bottom: "right" top: "both" }'
    text += SCORE.format("score", "both") + FUSE.replace('bottom: "score_skip"', 'bottom: "score"')
    path = tmp_path / "net.prototxt"
    path.write_text(text)
    net, param = caffe.Net(str(path), caffe.TRAIN), text_format.Parse(text, caffe_pb2.NetParameter())
    net.blobs["data"].data[...] = np.random.default_rng(0).standard_normal((1, 3, 6, 6))
    net.params["left"][1].data[...] = -1e6
    net.forward()
    assert signs.blind(net, param) == ""
    net.params["right"][1].data[...] = -1e6
    net.forward()
    assert signs.blind(net, param).startswith("left gives")


def test_solve_names_a_layer_that_gives_nothing(tmp_path):
    directory = quick(tmp_path, max_iter=2)
    net = random_weights(directory / "deploy.prototxt", tmp_path / "parent.caffemodel")
    net.params["conv5_1"][1].data[...] = -1e9
    net.save(str(tmp_path / "hole.caffemodel"))
    said = solve(directory, "--weights", tmp_path / "hole.caffemodel")
    assert said.count("warning: conv5_1 gives exactly 0 everywhere") == 1
    said = solve(directory, "--weights", tmp_path / "parent.caffemodel")
    assert "gives exactly 0" not in said


def counted(skip_net, labels, times, padded=False, sure=10.0):
    """What is said over so many iterations with these labels."""
    net, param = skip_net
    net.params["score"][1].data[0] = sure  # of class 0
    meter, said = signs.LossMeter(net, param, padded), []
    for i in range(times):
        net.blobs["label"].data[...] = labels(i)
        net.forward()
        meter.update()
        said += meter.warnings()
    return said


def halves(first, second):
    both = np.full((6, 6), first)
    both[3:] = second
    return lambda i: both


def test_masks_of_0_and_255_are_found_by_their_only_class(skip_net):
    (said,) = counted(skip_net, halves(0, 255), 120)
    assert "every labelled pixel of label" in said and "class 0" in said and "50.0%" in said and "255" in said
    assert counted(skip_net, halves(0, 255), 49) == []
    assert counted(skip_net, halves(0, 255), 120, padded=True) == []  # void from moving images
    assert counted(skip_net, halves(0, 255), 120, sure=1.0) == []  # the loss is no less than it should be


def test_labels_that_are_all_void_are_told(skip_net):
    (said,) = counted(skip_net, halves(255, 255), 60)
    assert "void" in said and "nothing to learn" in said


def test_labels_of_two_classes_are_no_sign(skip_net):
    assert counted(skip_net, halves(0, 1), 600) == []
    # the other class is rare: in one image of the first fifty
    assert counted(skip_net, lambda i: halves(0, 1 if i == 30 else 255)(i), 600) == []
    # no void, and the other class not yet seen: said late only
    assert counted(skip_net, halves(0, 0), 499) == []
    assert len(counted(skip_net, halves(0, 0), 501)) == 1


def test_solve_tells_that_masks_hold_0_and_255(tmp_path):
    content = {
        name: (image, np.where(label == 0, 0, 255).astype(np.uint8))
        for name, (image, label) in items(sizes=((40, 30),) * 2, classes=2).items()
    }
    directory = scratch(tmp_path, "mini-fcn8s", content=content)
    said = solve(directory, "--iterations", 52)
    assert said.count("warning: every labelled pixel of label") == 1 and "class 0" in said


def test_swapped_classes_are_named_where_most_pixels_are_right():
    hist = np.diag([9000, 400, 300, 300])
    assert score.fingerprints(hist, 0.2) == []
    hist[[1, 2]] = [[0, 50, 350, 0], [0, 200, 100, 0]]
    (said,) = score.fingerprints(hist, 0.2)
    assert "classes 1 and 2 are taken for one another" in said and "88%" in said and "67%" in said
    assert "BGR" in said and "order of classes" in said


def test_confusion_one_way_of_few_pixels_or_in_a_poor_net_is_no_sign():
    hist = np.diag([9000, 400, 300, 300])
    one_way = hist.copy()
    one_way[1] = [0, 50, 350, 0]
    assert score.swapped(one_way) == []
    few = hist.copy()
    few[[1, 2]] = [[0, 0, 9, 0], [0, 9, 0, 0]]
    assert score.swapped(few) == []
    poor = np.array([[1, 9], [8, 2]]) * 100
    assert score.swapped(poor) == []
    assert score.swapped(np.zeros((3, 3), int)) == []


def test_a_filler_that_is_not_bilinear_is_told(tmp_path):
    directory = quick(tmp_path, max_iter=1)
    assert "bilinear" not in solve(directory)
    for stem in ("train", "val"):
        path = directory / f"{stem}.prototxt"
        param = nets.read_prototxt(path, caffe_pb2.NetParameter())
        learned = next(layer for layer in param.layer if layer.type == "Deconvolution")
        learned.param[0].lr_mult = 1
        learned.convolution_param.weight_filler.type = "xavier"
        path.write_text(text_format.MessageToString(param))
    said = solve(directory)
    assert f"warning: {learned.name} is in no weight file, and its weight_filler, xavier" in said
    random_weights(directory / "deploy.prototxt", tmp_path / "parent.caffemodel")
    assert "in no weight file" not in solve(directory, "--weights", tmp_path / "parent.caffemodel")


@pytest.fixture
def parent_and_child(tmp_path):
    """``made(parent_hist, child_hist, **change)``: a child whose parent's record has other fields."""

    def made(before, after, **change):
        watches = []
        for name, hist in (("parent", before), ("child", after)):
            watch = watching.Watch(tmp_path / name / "train", 0, ["score"])
            watch.scored(40, [score.Scores(np.array(hist))], [["sky", "sea"]], "val", 3)
            watches.append(watch)
        path = tmp_path / "parent/scores.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | change))
        return watches[1].worse_than([str(tmp_path / "parent/train_iter_40.caffemodel")])

    return made


GOOD, POOR = [[90, 10], [10, 90]], [[70, 30], [30, 70]]


def test_a_net_worse_than_its_parent_is_told(parent_and_child, tmp_path):
    (said,) = parent_and_child(GOOD, POOR)
    assert (
        f"worse than its parent {tmp_path}/parent/train_iter_40.caffemodel, which had mean IU 0.8182" in said
    )
    assert "0.5385" in said and "learning rate" in said


def test_a_better_net_and_a_parent_that_cannot_be_compared_are_passed_over(parent_and_child):
    assert parent_and_child(POOR, GOOD) == [] and parent_and_child(GOOD, GOOD) == []
    assert parent_and_child(GOOD, POOR, split="test") == []
    assert parent_and_child(GOOD, POOR, iteration=20) == []  # scores of other weights than those taken
    assert parent_and_child([[180, 20], [20, 180]], POOR) == []  # other images
    assert parent_and_child(GOOD, POOR, heads={}) == []


def test_solve_compares_a_stage_with_its_parent(tmp_path):
    parent, child = (quick(tmp_path, f"mini-fcn{name}", max_iter=2) for name in ("32s", "16s"))
    solve(parent, "--resume")
    said = solve(child, "--resume", "--iterations", 1)
    assert "weights from ../mini-fcn32s/snapshot/train_iter_2.caffemodel" in said
    path = parent / "snapshot/scores.json"
    record = json.loads(path.read_text())
    before = record["heads"]["score"]["metrics"]["skip"]["mean IU"]
    own = watching.read_record(child / "snapshot")["heads"]["score"]["metrics"]["skip"]["mean IU"]
    assert ("worse than its parent" in said) == (own < before - 0.001)
    record["heads"]["score"]["metrics"]["skip"]["mean IU"] = 0.9
    path.write_text(json.dumps(record))
    said = solve(child, "--resume")  # the run still knows whom it started from
    assert (
        "worse than its parent ../mini-fcn32s/snapshot/train_iter_2.caffemodel, which had mean IU 0.9" in said
    )


@pytest.mark.parametrize("kernel", ["zero", "ones"])
def test_a_fixed_kernel_is_filled_or_told(tmp_path, kernel):
    """A weight file with upsampling of zeros, as without surgery.interp, or of anything else."""
    directory = quick(tmp_path, "voc-fcn8s", max_iter=1)
    net = random_weights(directory / "deploy.prototxt", tmp_path / "parent.caffemodel")
    net.params["upscore8"][0].data[...] = kernel == "ones"
    net.save(str(tmp_path / "parent.caffemodel"))
    said = solve(directory, "--weights", tmp_path / "parent.caffemodel")
    assert ("warning: upscore8 is fixed (lr_mult: 0), and its kernel is not bilinear" in said) == (
        kernel == "ones"
    )
    after = caffe.Net(
        str(directory / "deploy.prototxt"),
        caffe.TEST,
        weights=str(directory / "snapshot/train_iter_1.caffemodel"),
    )
    assert surgery.is_bilinear(after.params["upscore8"][0]) == (kernel == "zero")


def test_ctrl_c_keeps_the_row_that_was_under_way(tmp_path):
    directory = quick(tmp_path, max_iter=100000, display=1000, snapshot=0)
    process = subprocess.Popen(
        [sys.executable, "mini-fcn8s/solve.py", "--cpu"],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
    )
    next(line for line in process.stdout if line.startswith("Iteration 0 "))
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    (row,) = watching.read_train(directory / "snapshot")
    assert f"stopped at iteration {row['iteration']}" in errors
    assert errors.strip().endswith("mini-fcn8s/solve.py --cpu --resume")
