"""reproduce.py: what each command trains, and that it can be killed at any moment."""

import json
import os
import random
import re
import shutil
import subprocess
import sys
import time

import numpy as np
import psutil
import pytest
from caffe.proto import caffe_pb2
from google.protobuf import text_format

import reproduce
import surgery
from files import DataError
from reproduction import records, stages, toyset, workshop
from reproduction.miniature import LESSONS, Miniature
from reproduction.order import Order
from reproduction.targets import BESIDE, TARGETS, in_order
from reproduction.workshop import DONE, ROOT, Net, Stage, Workshop

pytestmark = pytest.mark.needs_embedded("it resumes to the same bytes, which the original engine cannot")


def net_of(text):
    return text_format.Parse(text, caffe_pb2.NetParameter())


def layers(text):
    return {layer.name: layer for layer in net_of(text).layer}


# the workshop


def test_what_nets_start_from_is_what_their_solve_py_says():
    assert [parent.name for parent in workshop.parents_of("voc-fcn16s")] == ["voc-fcn32s"]
    both = [parent.name for parent in workshop.parents_of("nyud-fcn32s-color-hha")]
    assert both == ["nyud-fcn32s-color", "nyud-fcn32s-hha"]
    assert workshop.classifier_of("nyud-fcn16s-color-hha") == "vgg16"
    assert workshop.classifier_of("voc-fcn-alexnet") == "caffenet"


def test_a_net_brings_its_ancestors_in_order(tmp_path):
    shop = Miniature(tmp_path / "seed1", seed=1)
    found = shop.add(Net("voc-fcn8s", "voc-fcn8s"))
    assert [stage.directory.name for stage in found] == ["vgg16", "voc-fcn32s", "voc-fcn16s", "voc-fcn8s"]
    assert [stage.after for stage in found] == [
        (),
        ("seed1/vgg16",),
        ("seed1/voc-fcn32s",),
        ("seed1/voc-fcn16s",),
    ]
    assert [stage.images for stage in found][1:] == [LESSONS[f"voc-fcn{n}s"].images for n in (32, 16, 8)]


def test_a_real_net_is_the_project_s_own_prototxt_with_the_project_s_solver(tmp_path):
    shop = Workshop(tmp_path / "own-seed")
    (stage,) = shop.add(Net("voc-fcn32s", "voc-fcn32s"))
    for name in ("train.prototxt", "val.prototxt", "deploy.prototxt"):
        assert net_of((stage.directory / name).read_text()) == net_of(
            (ROOT / "voc-fcn32s" / name).read_text()
        )
    solver = (ROOT / "voc-fcn32s/solver.prototxt").read_text()
    made = (stage.directory / "solver.prototxt").read_text()
    parsed = [text_format.Parse(each, caffe_pb2.SolverParameter()) for each in (made, solver)]
    assert parsed[0] == parsed[1]
    assert (stage.directory / "solve.py").read_text() == (ROOT / "voc-fcn32s/solve.py").read_text()
    assert (tmp_path / "own-seed/ilsvrc-nets").resolve() == ROOT / "ilsvrc-nets"
    heavy = Workshop(tmp_path / "heavy", recipe="heavy").add(Net("voc-fcn32s", "voc-fcn32s"))[-1]
    assert "base_lr: 1e-10" in (heavy.directory / "solver.prototxt").read_text()
    seeded = Workshop(tmp_path / "seed7", seed=7).add(Net("voc-fcn32s", "voc-fcn32s"))[-1]
    assert "random_seed: 7" in (seeded.directory / "solver.prototxt").read_text()
    assert (
        "'seed': 7"
        in net_of((seeded.directory / "train.prototxt").read_text()).layer[0].python_param.param_str
    )


def test_the_miniature_is_the_same_net_narrow_with_a_smaller_window(tmp_path):
    stage = Miniature(tmp_path / "seed1", seed=1).add(Net("voc-fcn8s", "voc-fcn8s"))[-1]
    made, own = (
        layers((folder / "train.prototxt").read_text()) for folder in (stage.directory, ROOT / "voc-fcn8s")
    )
    assert list(made) == list(own)
    assert made["conv5_3"].convolution_param.num_output == own["conv5_3"].convolution_param.num_output // 8
    assert list(made["fc6"].convolution_param.kernel_size) == [4] and list(
        made["conv1_1"].convolution_param.pad
    ) == [52]
    scores = [name for name in made if name.startswith(("score", "up")) and made[name].type != "Crop"]
    assert {made[name].convolution_param.num_output for name in scores} == {toyset.CLASSES}
    # 48 pixels less of border are three cells less of pool4, six of pool3; the pixels stay where they are
    offsets = [
        [each[name].crop_param.offset[0] for name in ("score_pool4c", "score_pool3c", "score")]
        for each in (own, made)
    ]
    assert np.subtract(*offsets).tolist() == [48 // 16, 48 // 8, 0]


@pytest.mark.parametrize(
    "name, parents",
    [
        ("FCN-32s from random weights", "training.main(__file__)"),
        ("FCN-16s without its parent", 'training.main(__file__, training.classifier("vgg16"))'),
        ("FCN-32s, trained as long as FCN-8s", 'training.main(__file__, training.stage("voc-fcn32s"))'),
    ],
)
def test_what_the_skips_are_compared_with_starts_from_elsewhere(tmp_path, name, parents):
    stage = Miniature(tmp_path / "seed1", seed=1).add(BESIDE[name])[-1]
    assert parents in (stage.directory / "solve.py").read_text()
    skips = LESSONS["voc-fcn16s"].images + LESSONS["voc-fcn8s"].images
    wanted = {"FCN-32s from random weights": 3000, "FCN-16s without its parent": 1500}.get(name, skips)
    assert stage.images == wanted


def test_a_directory_stays_while_nothing_changes_and_is_made_anew_when_something_does(tmp_path):
    def placed(seed, **more):
        stage = Miniature(tmp_path / "seed", seed=seed, **more).add(Net("voc-fcn16s", "voc-fcn16s"))[-1]
        kept = (stage.directory / "snapshot").is_dir()
        (stage.directory / "snapshot").mkdir(exist_ok=True)
        return kept

    assert not placed(1)
    assert placed(1)
    assert not placed(2)
    assert not placed(2, shorten=2)
    (tmp_path / "seed/vgg16/plan.json").write_text("{")  # of what it comes from; made anew, and so the same
    assert placed(2, shorten=2)


def test_what_a_kill_has_half_removed_is_made_anew(tmp_path, monkeypatch):
    stage = Miniature(tmp_path / "seed1", seed=1).add(Net("scratch", "voc-fcn32s", "nothing"))[-1]
    (stage.directory / DONE).touch()
    old = (stage.directory / "plan.json").read_text()

    def killed(path, **_):
        (path / "solver.prototxt").unlink()
        raise KeyboardInterrupt

    monkeypatch.setattr(shutil, "rmtree", killed)
    with pytest.raises(KeyboardInterrupt):
        Miniature(tmp_path / "seed1", seed=2).add(Net("scratch", "voc-fcn32s", "nothing"))
    monkeypatch.undo()
    again = Miniature(tmp_path / "seed1", seed=1).add(Net("scratch", "voc-fcn32s", "nothing"))[-1]
    assert (again.directory / "plan.json").read_text() == old
    assert (again.directory / "solver.prototxt").is_file() and not again.done()


def test_other_data_are_trained_on_anew(tmp_path, monkeypatch):
    def done(data):
        monkeypatch.setenv("FCN_DATA", str(tmp_path / data))
        (stage,) = Order("real", runs=tmp_path / "runs").stages(Net("voc-fcn32s", "voc-fcn32s"), None)
        found = stage.done()
        (stage.directory / DONE).touch()
        return found

    assert [done("twins"), done("twins"), done("voc"), done("voc")] == [False, True, False, True]


def test_runs_on_a_disk_reached_by_a_link_find_the_classifiers(tmp_path):
    (tmp_path / "far/away").mkdir(parents=True)
    (tmp_path / "runs").symlink_to(tmp_path / "far/away")
    for _ in range(2):
        shop = Workshop(tmp_path / "runs/real/own-seed")
        shop.add(Net("voc-fcn32s", "voc-fcn32s"))
        assert (shop.root / "ilsvrc-nets/net.py").is_file()
        (shop.root / "ilsvrc-nets").unlink()
        (shop.root / "ilsvrc-nets").symlink_to("nowhere")  # as after the project was moved


def test_what_must_not_be_mixed_has_folders_of_its_own(tmp_path):
    orders = [
        Order("real"), Order("toy"), Order("real", "heavy"), Order("real", weights="released"),
        Order("real", gpu=0), Order("real", shorten=2), Order("real", divide=2),
    ]  # fmt: skip
    assert len({order.home for order in orders}) == len({order.kind for order in orders}) == len(orders)
    assert Order("real", "heavy", shorten=50).command("table2", (1, 2)) == (
        "python reproduce.py table2 --data real --recipe heavy --seeds 1,2 --shorten 50"
    )
    assert Order("toy").command("table2", (1,)) == "python reproduce.py table2 --data toy"
    net = Net("voc-fcn8s", "voc-fcn8s")
    assert (
        Order("real").directory_of(net) == "voc-fcn8s" and Order("real", shorten=50).directory_of(net) == ""
    )


def test_balanced_weights_are_median_over_own_share(tmp_path, monkeypatch):
    from reproduction import studies

    toyset_root = tmp_path / "data"
    monkeypatch.setenv("FCN_DATA", str(toyset_root))
    from trees import sbd_tree

    labels = [np.array([[0, 0, 0, 0], [1, 1, 2, 255]], np.uint8)]
    sbd_tree(
        toyset_root / "sbdd/dataset",
        {f"2008_{i:06d}": (np.zeros((2, 4, 3), np.uint8), label) for i, label in enumerate(labels)},
        {"train": ["2008_000000"]},
    )
    assert studies._class_weights(toyset_root, 4) == (0.5, 1.0, 2.0, 0.0)


# processes


def stage(tmp_path, name, script, after=(), images=1):
    directory = tmp_path / name
    directory.mkdir()
    (directory / "solve.py").write_text(script)
    return Stage(name, directory, ("solve.py",), after, images)


def test_stages_follow_one_another_and_what_is_done_is_not_done_again(tmp_path):
    say = "open('../order', 'a').write('{{0}} {}\\n'); "
    note = "import time; " + say.format("begins") + "time.sleep(0.3); " + say.format("ends")
    todo = [
        stage(tmp_path, "b", note.format("b"), ("a",)),
        stage(tmp_path, "a", note.format("a")),
        stage(tmp_path, "c", note.format("c"), ("a", "b")),
    ]
    stages.run(todo, 3)
    lines = (tmp_path / "order").read_text().splitlines()
    assert lines == [f"{name} {what}" for name in "abc" for what in ("begins", "ends")]
    (tmp_path / "b" / DONE).unlink()
    stages.run(todo, 3)
    assert (tmp_path / "order").read_text().splitlines()[6:] == ["b begins", "b ends"]


def test_a_stage_that_fails_is_told_with_the_end_of_its_log_and_ends_the_others(tmp_path):
    slow = "import time, os; open('pid', 'w').write(str(os.getpid())); time.sleep(60)"
    bad = (
        "import os, time\nwhile not os.path.exists('../slow/pid'): time.sleep(0.05)\n"
        "raise SystemExit('error: no VOC')"
    )
    with pytest.raises(DataError, match=r"bad failed \(exit status 1\)[\s\S]*error: no VOC"):
        stages.run([stage(tmp_path, "slow", slow, images=2), stage(tmp_path, "bad", bad)], 2)
    assert not alive(int((tmp_path / "slow/pid").read_text()))
    assert not (tmp_path / "slow" / DONE).exists() and not (tmp_path / "bad" / DONE).exists()


def alive(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def test_when_the_parent_is_killed_its_stages_end(tmp_path):
    stage(tmp_path, "slow", "import time, os; open('pid', 'w').write(str(os.getpid())); time.sleep(60)")
    code = (
        "from pathlib import Path; from reproduction import stages; from reproduction.workshop import Stage; "
        f"stages.run([Stage('slow', Path({str(tmp_path / 'slow')!r}), ('solve.py',))], 1)"
    )
    parent = subprocess.Popen([sys.executable, "-c", code], cwd=ROOT)
    pid = tmp_path / "slow/pid"
    while not (pid.exists() and pid.read_text()):
        assert parent.poll() is None
        time.sleep(0.05)
    parent.kill()
    parent.wait()
    wait = time.monotonic() + 10
    while alive(int(pid.read_text())):
        assert time.monotonic() < wait
        time.sleep(0.05)


# conclusions


def rows(**iu):
    """Rows of these mean IUs, on two seeds: of the confusion matrix of two classes that gives about this."""
    made = []
    for name, values in iu.items():
        for seed, value in enumerate(values, 1):
            wrong = round(1000 * (1 - value) / (1 + value))
            made.append(
                records.row(name, np.array([[1000 - wrong, wrong], [wrong, 1000 - wrong]]), seed=seed)
            )
    return made


def test_a_conclusion_holds_on_the_seeds_on_which_it_does():
    (found,) = in_order(rows(a=(0.2, 0.2), b=(0.4, 0.1), c=(0.5, 0.5)), "a < b < c", ["a", "b", "c"])
    assert [case["holds"] for case in found["seeds"]] == [True, False]
    assert found["seeds"][0]["values"]["b"] == pytest.approx(0.4, abs=1e-3)


def test_only_the_last_of_an_order_may_tie_and_only_where_that_is_said():
    tied = rows(a=(0.2,), b=(0.2,))
    for names, may, holds in ((["a", "b"], False, False), (["a", "b"], True, True)):
        (found,) = in_order(tied, "", names, last_may_tie=may)
        assert found["seeds"][0]["holds"] is holds
    (found,) = in_order(rows(a=(0.2,), b=(0.2,), c=(0.3,)), "", ["a", "b", "c"], last_may_tie=True)
    assert found["seeds"][0]["holds"] is False
    assert in_order(tied, "", ["a", "c"]) == []  # c was not run


# the command line


def run(*args, timeout=600, **more):
    return subprocess.run(
        [sys.executable, str(ROOT / "reproduce.py"), *map(str, args)],
        capture_output=True, text=True, timeout=timeout, cwd=ROOT, **more,
    )  # fmt: skip


@pytest.mark.parametrize(
    "args, said",
    [
        (
            ["table2", "--data", "real", "--data-root", "nowhere"],
            "there is no data in .*nowhere/pascal/VOC2011.*--data toy",
        ),
        (["table2", "--data", "toy", "--weights", "released"], "--weights released is for real data"),
        (["table2", "--data", "toy", "--divide", "2"], "--divide 2 is for real data"),
        (["table2", "--data", "toy", "--shorten", "0"], "--shorten is 0; it must be 1 or more"),
        (
            ["table2", "--data", "toy", "--device", "gpu"],
            "--device is 'gpu'; it must be cpu, or a GPU's number",
        ),
        (["table2", "--data", "toy", "--device", "99"], "--device 99: there is no such GPU"),
        (
            ["table2", "--data", "real", "--data-root", "TWINS"],
            r"vgg16-fcn\.caffemodel does not exist, which nets start",
        ),
        (
            ["table3", "--data", "real", "--data-root", "TWINS"],
            "no list of test images: looked for .*VOC2011/",
        ),
        (
            ["table2", "--weights", "released", "--seeds", "1,2", "--data-root", "TWINS"],
            "--seeds is about training",
        ),
        (["table2", "--data-root", "nowhere"], "there is no data in .*nowhere/pascal/VOC2011"),
        (["figure5", "--weights", "released"], "figure5 is about training: leave --weights released out"),
    ],
)
def test_what_cannot_be_done_is_one_message(args, said, tmp_path, capsys, monkeypatch):
    for folder in ("pascal/VOC2011", "sbdd/dataset"):
        (tmp_path / "twins" / folder).mkdir(parents=True)
    monkeypatch.setenv("FCN_DATA", "")  # which the command sets: it is to be put back afterwards
    if "vgg16" in said and (ROOT / "ilsvrc-nets/vgg16-fcn.caffemodel").exists():
        pytest.skip("VGG16 is there")
    args = [str(tmp_path / "twins") if each == "TWINS" else each for each in args]
    assert reproduce.main([*args, "--runs", str(tmp_path / "runs")]) == 1
    message = capsys.readouterr().err
    assert message.startswith("error: ") and re.search(said, message), message


def test_released_weights_that_are_not_there_are_named_with_the_command(tmp_path):
    order = Order("real", weights="released", runs=tmp_path)
    if (ROOT / "voc-fcn8s/fcn8s-heavy-pascal.caffemodel").exists():
        pytest.skip("they are there")
    with pytest.raises(DataError, match=r"prepare\.py get voc-fcn8s"):
        order.stages(Net("voc-fcn8s", "voc-fcn8s"), None)
    assert not order.has(Net("voc-fcn32s-fixed", "voc-fcn32s-fixed"))


def test_every_target_of_the_miniature_can_be_set_up(tmp_path, monkeypatch):
    """Every net has a lesson, every stage a directory; nothing is trained."""
    monkeypatch.setattr("reproduction.studies.class_weights", lambda order: [1.0] * toyset.CLASSES)
    order = Order("toy", seeds=(1, 2), runs=tmp_path)
    counts = {name: len({stage.key for stage in target.stages(order)}) for name, target in TARGETS.items()}
    assert counts["table2"] == 2 * 8 and counts["figure5"] == 2 * 4
    assert counts["table1"] == 6 and counts["table4"] == 6 and counts["table5"] == 3
    assert counts["section31"] == counts["section32"] == 0


TIMES = ("run", "times", "checksum")


def made(folder):
    """What a run wrote: records, and the bytes of all else; what a kill cut short has a dot before its name."""
    return {
        path.name: records.read(path) if path.suffix == ".json" else path.read_bytes()
        for path in sorted(folder.iterdir())
        if path.name[0] != "."
    }


def children(pid):
    """The processes that ``pid`` started."""
    return psutil.Process(pid).children(recursive=True)


@pytest.mark.timeout(1500)
def test_killed_ten_times_at_random_it_gives_the_same_records(tmp_path):
    """FCN-8s with its archive, and both nets of Table 5: once without a break, once killed again and again."""
    args = "table3 table5 figure6 --data toy --shorten 60 --seeds 5 --device cpu".split()

    def folders(name):
        return "--runs", str(tmp_path / name), "--results", str(tmp_path / name / "results")

    began = time.monotonic()
    done = run(*args, *folders("whole"))
    assert done.returncode == 0, done.stderr
    length = time.monotonic() - began
    seed = random.randrange(2**32)
    print("kills drawn from seed", seed)
    draws = random.Random(seed)
    shares = [draws.random() for _ in range(10)]
    for kill, share in enumerate(shares):
        # spread over the run, which takes longer for its kills: it has not ended before the last
        wait = length * (0.07 + 0.7 * share / sum(shares))
        process = subprocess.Popen(
            [sys.executable, str(ROOT / "reproduce.py"), *args, *folders("killed")],
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd=ROOT,
        )  # fmt: skip
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(wait)
        started = children(process.pid)
        if kill % 2 and started:  # now and then a stage's process goes first
            draws.choice(started).kill()
        process.kill()
        process.wait()
        psutil.wait_procs(started, timeout=20)
        assert not any(each.is_running() for each in started)
    done = run(*args, *folders("killed"))
    assert done.returncode == 0, done.stderr
    whole, killed = made(tmp_path / "whole/results"), made(tmp_path / "killed/results")
    assert whole.keys() == killed.keys()
    for name, content in whole.items():
        if name.endswith(".json"):
            assert records.differences(content, killed[name]) == []
        else:
            assert content == killed[name], name


@pytest.fixture(scope="module")
def twins(tmp_path_factory):
    """Synthetic twins in the layout of the real data, prepared."""
    root = tmp_path_factory.mktemp("twins") / "data"
    for command in (
        ["data/toy/prepare.py", "trees", "pascal", "--size", "64", "--data-root", root],
        ["data/pascal/prepare.py", "prepare", "--data-root", root],
    ):
        done = subprocess.run([sys.executable, *map(str, command)], cwd=ROOT, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr
    return root


@pytest.mark.timeout(900)
def test_table_2_on_data_in_the_real_layout(twins, tmp_path):
    """The real way through, with narrow nets and a few images: the paper's rows, our own in the record."""
    args = ("--data", "real", "--data-root", twins, "--divide", "32", "--shorten", "5000", "--device", "cpu")
    done = run("table2", *args, "--runs", tmp_path / "runs", "--results", tmp_path / "results")
    assert done.returncode in (0, 1), done.stderr  # two updates teach nothing: conclusions need not hold
    record = records.read(tmp_path / "results/table2.json")
    assert [row["name"] for row in record["rows"]] == ["FCN-32s-fixed", "FCN-32s", "FCN-16s", "FCN-8s"]
    assert record["data"] == "toy" and record["recipe"] == "paper"  # twins are drawn, no real data
    assert all(len(row["confusion"]) == 21 for row in record["rows"])
    # divided nets are not the model directories'
    assert {row["directory"] for row in record["rows"]} == {""}
    home = tmp_path / "runs/real-paper-shorten5000-divide32/own-seed"
    assert (home / "voc-fcn8s/snapshot/train_iter_2.caffemodel").is_file()
    weights = surgery.shapes_in_file(home / "voc-fcn8s/snapshot/train_iter_2.caffemodel")
    assert weights["fc7"][0][0] == 128


@pytest.mark.timeout(600)
def test_weights_from_elsewhere_are_scored_as_solve_py_scores_them(twins, tmp_path, monkeypatch):
    """reproduction.scored gives the confusion matrix that training ended with."""
    shop = Workshop(tmp_path / "shop", shorten=5000, divide=32)
    todo = shop.add(Net("voc-fcn32s", "voc-fcn32s"))
    monkeypatch.setenv("FCN_DATA", str(twins))
    stages.run(todo, 1, ("--cpu",))
    directory = todo[-1].directory
    (tmp_path / "scored").mkdir()
    command = [
        sys.executable,
        "-m",
        "reproduction.scored",
        directory,
        directory / "snapshot/train_iter_2.caffemodel",
        "--cpu",
    ]
    path = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
    done = subprocess.run(
        list(map(str, command)), cwd=tmp_path / "scored", env={**os.environ, "PYTHONPATH": path},
        capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    found, wanted = (
        json.loads((folder / "snapshot/scores.json").read_text())["heads"]
        for folder in (tmp_path / "scored", directory)
    )
    assert found == wanted
    shutil.rmtree(tmp_path / "scored")
