import hashlib
import importlib.util
import io
import json
import re
import subprocess
import sys
import tarfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import feed
import layers
from datakit import voc_sample

PATH = Path(feed.ROOT) / "data" / "pascal" / "prepare.py"
IDS = ("2011_000003", "2011_000006", "2011_000025")
# the archive's own spelling, in another order than VOC's
CLASSES = ["_background_", "person", "tv/monitor", "potted plant"]


@pytest.fixture
def prepare(monkeypatch):
    spec = importlib.util.spec_from_file_location("prepare_pascal", PATH)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    monkeypatch.setattr(voc_sample, "ARCHIVE_SHA256", voc_sample.ARCHIVE_SHA256)  # tests set it

    def no_pip(*args, **kwargs):
        raise AssertionError("pip was called")

    monkeypatch.setattr(subprocess, "run", no_pip)
    return module


def members():
    """{name in the archive's folder: content} of a stand-in for the real archive."""
    made = {"class_names.txt": "\n".join(CLASSES).encode()}
    for i, name in enumerate(IDS):
        photo, mask = io.BytesIO(), io.BytesIO()
        Image.fromarray(np.full((6 + i, 8, 3), 40 * i, np.uint8)).save(photo, "JPEG")
        indices = np.arange((6 + i) * 8, dtype=np.uint8).reshape(6 + i, 8) % 4
        indices[0] = 255
        Image.fromarray(indices).save(mask, "PNG")
        made[f"JPEGImages/{name}.jpg"] = photo.getvalue()
        made[f"SegmentationClass/{name}.png"] = mask.getvalue()
    return made


def archive(prepare, path, content=None, edit=lambda info: None, **changes):
    """Write a source distribution to ``path``, and have ``prepare`` expect its checksum."""
    content = {**(members() if content is None else content), **changes}
    with tarfile.open(path, "w:gz") as tar:
        for name, data in {**content, "../../evil.txt": b"evil"}.items():
            info = tarfile.TarInfo(f"{voc_sample.FOLDER}/{name}")
            info.size = len(data)
            edit(info)
            tar.addfile(info, io.BytesIO(data) if info.isreg() else None)
    voc_sample.ARCHIVE_SHA256 = hashlib.sha256(path.read_bytes()).hexdigest()
    return path


def run(prepare, tmp_path, *args):
    return prepare.main([args[0], "--data-root", str(tmp_path / "data"), *map(str, args[1:])])


def files(folder):
    return sorted(str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file())


def test_sample_is_a_voc_tree_that_the_layer_reads(prepare, tmp_path, capsys):
    made = archive(prepare, tmp_path / "a.tar.gz")
    assert run(prepare, tmp_path, "sample", "--from", made) == 0
    tree = tmp_path / "data/pascal/sample/VOC2011"
    assert files(tree) == sorted(
        [f"ImageSets/Segmentation/{s}.txt" for s in ("train", "trainval", "val")]
        + [f"JPEGImages/{i}.jpg" for i in IDS]
        + [f"SegmentationClass/{i}.png" for i in IDS]
        + ["SHA256SUMS"]
    )
    assert str(tree) in capsys.readouterr().out
    for split in ("train", "val", "trainval"):
        params = {"voc_dir": str(tree), "split": split, "mean": (1, 2, 3)}
        assert layers.VOCSegDataLayer.source_ids(str(params)) == list(IDS)
    assert (tree / "JPEGImages" / f"{IDS[1]}.jpg").read_bytes() == members()[f"JPEGImages/{IDS[1]}.jpg"]


def test_sample_masks_carry_vocs_indices_and_palette(prepare, tmp_path):
    run(prepare, tmp_path, "sample", "--from", archive(prepare, tmp_path / "a.tar.gz"))
    mask = Image.open(tmp_path / "data/pascal/sample/VOC2011/SegmentationClass" / f"{IDS[0]}.png")
    assert mask.mode == "P" and mask.getpalette()[15 * 3 : 15 * 3 + 3] == [192, 128, 128]
    values = np.array(mask)
    assert (values[0] == 255).all() and values[1].tolist() == [0, 15, 20, 16] * 2


def test_sample_is_quick_when_whole_and_mends_what_is_not(prepare, tmp_path, capsys):
    made = archive(prepare, tmp_path / "a.tar.gz")
    run(prepare, tmp_path, "sample", "--from", made)
    assert run(prepare, tmp_path, "sample", "--from", "nowhere") == 0
    assert "nothing to do" in capsys.readouterr().out
    tree = tmp_path / "data/pascal/sample/VOC2011"
    for damage in (lambda p: p.unlink(), lambda p: p.write_bytes(b"x")):
        damage(tree / "SegmentationClass" / f"{IDS[2]}.png")
        assert run(prepare, tmp_path, "sample", "--from", made) == 0
        assert np.array(Image.open(tree / "SegmentationClass" / f"{IDS[2]}.png")).shape == (8, 8)
    assert [p.name for p in tree.parent.iterdir()] == ["VOC2011"]


def refused(prepare, tmp_path, capsys, *args):
    assert run(prepare, tmp_path, *args) == 1
    assert not (tmp_path / "data/pascal/sample/VOC2011").exists()
    sample = tmp_path / "data/pascal/sample"
    assert not sample.exists() or not list(sample.iterdir())
    assert not (tmp_path / "evil.txt").exists()
    said = capsys.readouterr().err
    assert said.startswith("error: ") and "Traceback" not in said
    return said


def test_a_wrong_checksum_is_refused(prepare, tmp_path, capsys):
    made = archive(prepare, tmp_path / "a.tar.gz")
    made.write_bytes(made.read_bytes() + b"x")
    said = refused(prepare, tmp_path, capsys, "sample", "--from", made)
    assert str(made) in said and "damaged or another file" in said


def test_the_checksum_is_that_of_the_published_archive(prepare):
    assert voc_sample.ARCHIVE_SHA256 == "2947e0d8341a92faa7b3ee50cf4b672f838051c6bf24892526e95b64fd3a707e"
    assert voc_sample.ARCHIVE == "labelme-6.3.1.tar.gz"


def test_an_odd_archive_is_refused_and_writes_nothing(prepare, tmp_path, capsys):
    path = tmp_path / "a.tar.gz"

    def link(info):
        if info.name.endswith(".png"):
            info.type, info.linkname, info.size = tarfile.SYMTYPE, "/etc/passwd", 0

    content = members()
    del content[f"JPEGImages/{IDS[1]}.jpg"]
    cases = [
        ({"edit": link}, "not a plain file"),
        ({"content": content}, f"lacks .*{IDS[1]}.jpg"),
        ({"class_names.txt": b"_background_\nunicorn"}, "class 'unicorn'"),
        ({f"JPEGImages/{IDS[0]}.jpg": content[f"JPEGImages/{IDS[2]}.jpg"]}, "differ in size"),
        ({f"JPEGImages/{IDS[0]}.jpg": bytes(5 << 20)}, "at most"),
        ({f"SegmentationClass/{IDS[0]}.png": b"junk"}, "cannot identify"),
    ]
    for changes, said in cases:
        edit, given = changes.pop("edit", lambda info: None), changes.pop("content", None)
        made = archive(prepare, path, given, edit, **changes)
        text = refused(prepare, tmp_path, capsys, "sample", "--from", made)
        assert re.search(said, text), text


def test_a_file_that_is_no_archive_is_refused(prepare, tmp_path, capsys):
    (tmp_path / "junk.tar.gz").write_bytes(b"junk")
    assert "sha256" in refused(prepare, tmp_path, capsys, "sample", "--from", tmp_path / "junk.tar.gz")
    assert "does not exist" in refused(prepare, tmp_path, capsys, "sample", "--from", tmp_path / "none")


def test_without_pip_or_network_it_says_how_to_do_it_by_hand(prepare, tmp_path, capsys, monkeypatch):
    commands = []

    def failing(command, **kwargs):
        commands.append(command)
        return subprocess.CompletedProcess(command, 1, "", "ERROR: no network\n")

    monkeypatch.setattr(subprocess, "run", failing)
    said = refused(prepare, tmp_path, capsys, "sample")
    assert "no network" in said and "labelme-6.3.1.tar.gz" in said and "--from" in said
    assert commands[0][1:4] == ["-m", "pip", "download"] and "--require-hashes" in commands[0]


def test_with_pip_the_archive_is_checked_and_not_kept(prepare, tmp_path, monkeypatch):
    made = archive(prepare, tmp_path / "a.tar.gz")

    def downloads(command, **kwargs):
        folder = Path(command[command.index("--dest") + 1])
        assert voc_sample.ARCHIVE_SHA256 in Path(command[command.index("-r") + 1]).read_text()
        (folder / voc_sample.ARCHIVE).write_bytes(made.read_bytes())
        return subprocess.CompletedProcess(command, 0, "", "")

    monkeypatch.setattr(subprocess, "run", downloads)
    assert run(prepare, tmp_path, "sample") == 0
    assert [p.name for p in (tmp_path / "data/pascal/sample").iterdir()] == ["VOC2011"]


def test_fcn_data_is_the_default_root(prepare, tmp_path, monkeypatch):
    monkeypatch.setenv("FCN_DATA", str(tmp_path / "mine"))
    assert prepare.main(["sample", "--from", str(archive(prepare, tmp_path / "a.tar.gz"))]) == 0
    assert (tmp_path / "mine/pascal/sample/VOC2011/SHA256SUMS").exists()


# seg11valid


def lists(tmp_path, val, train):
    voc = tmp_path / "data/pascal/VOC2011/ImageSets/Segmentation"
    voc.mkdir(parents=True)
    (tmp_path / "data/sbdd/dataset").mkdir(parents=True)
    (voc / "val.txt").write_text("\n".join(val))
    (tmp_path / "data/sbdd/dataset/train.txt").write_text("\n".join(train))
    return voc / "seg11valid.txt"


def test_seg11valid_is_val_minus_sbd_train_sorted(prepare, tmp_path):
    path = lists(tmp_path, ["c", "a", "b", "d"], ["b", "x"])
    facts = {"seg11valid": 3, "seg11valid sha256": hashlib.sha256(b"a\nc\nd\n").hexdigest()}
    (tmp_path / "data/sources.json").write_text(json.dumps({"facts": {"pascal": facts}}))
    assert run(prepare, tmp_path, "seg11valid") == 0
    assert path.read_text() == "a\nc\nd\n"


def test_seg11valid_refuses_any_other_result(prepare, tmp_path, capsys):
    assert prepare.FACTS["pascal"]["seg11valid"] == 736
    path = lists(tmp_path, [f"v{i}" for i in range(736)], ["x"])
    assert run(prepare, tmp_path, "seg11valid") == 1 and not path.exists()
    said = capsys.readouterr().err
    assert "gives 736 images" in said and "VOC 2011's has 1111" in said


def test_seg11valid_refuses_voc_2012_with_the_reason(prepare, tmp_path, capsys):
    path = lists(tmp_path, [f"v{i}" for i in range(1449)], ["x"])
    assert run(prepare, tmp_path, "seg11valid") == 1 and not path.exists()
    said = capsys.readouterr().err
    assert "list of VOC 2012" in said and "904 images" in said and "VOCtrainval_25-May-2011.tar" in said


def test_seg11valid_says_what_is_missing(prepare, tmp_path, capsys):
    assert run(prepare, tmp_path, "seg11valid") == 1
    assert "VOCtrainval_25-May-2011.tar" in capsys.readouterr().err
    lists(tmp_path, ["a"], ["b"])
    (tmp_path / "data/sbdd/dataset/train.txt").unlink()
    assert run(prepare, tmp_path, "seg11valid") == 1
    assert "benchmark.tgz" in capsys.readouterr().err


def test_prepare_needs_no_engine():
    script = "import sys, runpy; runpy.run_path(sys.argv[1]); print({'caffe', 'torch'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", script, str(PATH)], capture_output=True, text=True)
    assert done.stdout == "set()\n", done.stderr
