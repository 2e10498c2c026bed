"""From a folder of photographs and masks to a segmented picture, by no other commands than the messages suggest."""

import contextlib
import io
import os
import runpy
import shlex
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import images
import score
import vis
from datakit import scenes

ROOT = Path(__file__).resolve().parents[1]
PREPARE = ROOT / "data/own/prepare.py"


def in_a_process(command, cwd):
    """(exit status, what was printed) of a command line as a shell runs it."""
    env = {**os.environ, "OMP_NUM_THREADS": "2"}
    done = subprocess.run(
        command, shell=True, cwd=cwd, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    return done.returncode, done.stdout


def in_this_one(command, cwd):
    """The same for a Python script, without a process of its own; quick."""
    python, script, *words = shlex.split(command)
    assert python == sys.orig_argv[0]
    argv, here, printed = sys.argv, os.getcwd(), io.StringIO()
    try:
        os.chdir(cwd)
        sys.argv = [script, *words]
        with contextlib.redirect_stdout(printed), contextlib.redirect_stderr(printed):
            runpy.run_path(script, run_name="__main__")
        status = 0
    except SystemExit as stop:
        status = stop.code or 0
    finally:
        sys.argv = argv
        os.chdir(here)
    return status, printed.getvalue()


def follow(command, cwd, run, iterations):
    """Run ``command`` and then whatever each message says comes next; returns (command, status, message) of each."""
    done = []
    while command:
        if "solve.py" in command:
            command += f" --cpu --iterations {iterations}"
        status, said = run(command, cwd)
        assert "Traceback" not in said, said
        done.append((command, status, said))
        after = said.split("\nNext: ")[1:]
        assert len(after) <= 1 and len(done) < 10, said
        command = after[0].splitlines()[1].strip() if after else ""
        assert not after or said.rstrip().endswith(command)  # it is the last thing said
    return done


def steps(done):
    """The scripts and commands that were run."""
    names = [shlex.split(command)[1:3] for command, _, _ in done]
    return [
        f"{Path(script).name} {word}" if word in ("check", "remap", "split", "new") else Path(script).name
        for script, word in names
    ]


def test_from_photographs_and_0_255_rgb_masks_to_a_segmented_picture(tmp_path):
    for folder in ("photos", "masks"):
        (tmp_path / "field trip" / folder).mkdir(parents=True)
    truth = {}
    for i in range(20):
        scene = scenes.scene(3, i, (96, 128), classes=2)
        name = f"IMG_{i:04}"
        truth[name] = scene.bare
        Image.fromarray(scene.image).save(tmp_path / "field trip/photos" / f"{name}.jpg", quality=92)
        mask = np.repeat(scene.bare[..., None] * np.uint8(255), 3, 2)
        Image.fromarray(mask).save(tmp_path / "field trip/masks" / f"{name}.png")
    first = [sys.executable, PREPARE, "check", "--images", "field trip/photos", "--masks", "field trip/masks"]
    done = follow(shlex.join(map(str, first)), tmp_path, in_a_process, 100)
    prepared = [f"prepare.py {word}" for word in ("check", "remap", "check", "split")]
    assert steps(done) == [*prepared, "nets.py new", "solve.py", "infer.py"]
    assert [status for _, status, _ in done] == [1, 0, 0, 0, 0, 0, 0]  # only the first look finds fault
    train, val = (
        (tmp_path / "field trip/prepared" / f"{split}.txt").read_text().split() for split in ("train", "val")
    )
    (segmented,) = (path.stem for path in (tmp_path / "out").glob("*[0-9].png"))
    assert segmented in val and segmented not in train and len(train) == 16
    assert "class1" in done[-1][2]
    overlay = images.load_image(tmp_path / "out" / f"{segmented}_overlay.png")
    assert overlay.shape[0] > 96 and overlay.shape[1] >= 128
    prediction = images.load_label(tmp_path / "out" / f"{segmented}.png")
    hist = score.fast_hist(truth[segmented], prediction, 2)
    union = hist[1].sum() + hist[:, 1].sum() - hist[1, 1]
    # all background would give 0; on the four pictures of val it was 0.87 to 0.91 with the random seeds 1 to 5
    assert hist[1, 1] / union > 0.6


def write(folder, photo, classes, count=5):
    """Own data as the layers read it, without lists: ``photo(image)`` is what is stored of a photograph."""
    for name in ("images", "masks"):
        (folder / name).mkdir(parents=True)
    for i in range(count):
        scene = scenes.scene(7, i, (40, 48), classes=min(classes, 21))
        stored = photo(scene.image)
        if isinstance(stored, Image.Image):
            stored.save(folder / f"images/a{i}.png")
        else:
            np.save(folder / f"images/a{i}.npy", stored)
        vis.save_indexed(folder / f"masks/a{i}.png", scene.label, vis.make_palette(256))
    (folder / "classes.txt").write_text("".join(f"thing{i}\n" for i in range(classes)))


def bands(image):
    """Red, green, blue and how green it is, as real numbers of quite different sizes."""
    red, green, blue = np.moveaxis(image.astype(np.float32), -1, 0)
    return np.stack([red / 255, green, blue * 100, green - red], -1)


VARIANTS = {
    "one channel": (lambda image: Image.fromarray(image).convert("L"), 21, 1),
    "four channels": (bands, 5, 4),
    "200 classes": (Image.fromarray, 200, 3),
}


@pytest.mark.parametrize("name", VARIANTS)
def test_the_same_with(name, tmp_path):
    photo, classes, channels = VARIANTS[name]
    write(tmp_path / "mine", photo, classes)
    first = shlex.join([sys.orig_argv[0], str(PREPARE), "check", "--data", "mine"])
    done = follow(first, tmp_path, in_this_one, 3)
    assert steps(done) == ["prepare.py check", "prepare.py split", "nets.py new", "solve.py", "infer.py"]
    assert not any(status for _, status, _ in done), done
    assert f"{classes} classes" in done[2][2] and f"of {channels} channels" in done[2][2]
    assert "Iteration 3 mean IU" in done[3][2] and "thing0" in done[3][2]
    (indexed,) = (tmp_path / "out").glob("a?.png")
    assert images.load_label(indexed).max() < classes
    assert (
        images.load_image(tmp_path / "out" / f"{indexed.stem}_overlay.png").std() > 20
    )  # there is a picture
    # a folder of them, too
    words = "infer.py", "mine/images", "--model", "my-net", "--cpu", "--out", "all"
    status, _ = in_this_one(shlex.join([sys.orig_argv[0], str(ROOT / words[0]), *words[1:]]), tmp_path)
    assert status == 0 and len(list((tmp_path / "all").glob("a?.png"))) == 5


def test_a_net_trained_elsewhere_segments_without_its_data(tmp_path):
    write(tmp_path / "mine", Image.fromarray, 3)
    first = shlex.join([sys.orig_argv[0], str(PREPARE), "check", "--data", "mine"])
    follow(first, tmp_path, in_this_one, 2)
    (tmp_path / "mine/images/a0.png").rename(tmp_path / "a.png")
    (tmp_path / "mine").rename(tmp_path / "gone")
    command = shlex.join(
        [sys.orig_argv[0], str(ROOT / "infer.py"), "a.png", "--model", "my-net", "--out", "o"]
    )
    status, said = in_this_one(command, tmp_path)
    assert status == 0 and "thing" in said


def test_mean_is_for_three_channels(tmp_path):
    write(tmp_path / "mine", VARIANTS["one channel"][0], 3)
    first = shlex.join([sys.orig_argv[0], str(PREPARE), "check", "--data", "mine"])
    follow(first, tmp_path, in_this_one, 1)
    words = "infer.py mine/images/a0.png --model my-net --mean 1 2 3".split()
    status, _ = in_this_one(shlex.join([sys.orig_argv[0], str(ROOT / words[0]), *words[1:]]), tmp_path)
    assert "3 channels" in status and "sees 1" in status
