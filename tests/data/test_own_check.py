"""One's own data: what ``check`` recognises, what ``remap`` makes of it, and that each says what to type next."""

import importlib.util
import json
import shlex
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageFilter

import images
import vis
from datakit import masks, meaning, own, own_check, remap, scenes
from files import DataError

ROOT = Path(__file__).resolve().parents[2]
SCRIPT = ROOT / "data/own/prepare.py"
SIZE = (60, 80)

spec = importlib.util.spec_from_file_location("prepare_own", SCRIPT)
prepare = importlib.util.module_from_spec(spec)
spec.loader.exec_module(prepare)


def labels(classes, count=8, void=False):
    """Labels of 0 to ``classes`` - 1, each of which occurs; perhaps with void borders."""
    made = [scenes.scene(5, i, SIZE, classes) for i in range(count)]
    made = [scene.label if void else scene.bare for scene in made]
    assert set(range(classes)) <= set(np.unique(made).tolist())
    return made


def write(folder, truth, encode, suffix=".png", ending="", photos="photos", marks="masks", **options):
    """Photographs and masks: ``encode`` makes of a label what is stored. Returns (images, masks)."""
    for i, label in enumerate(truth):
        photo = scenes.scene(5, i, SIZE).image
        for name in (photos, marks):
            (folder / name).mkdir(parents=True, exist_ok=True)
        Image.fromarray(photo).save(folder / photos / f"a{i}.jpg")
        mask = encode(label)
        mask = mask if isinstance(mask, Image.Image) else Image.fromarray(mask)
        mask.save(folder / marks / f"a{i}{ending}{suffix}", **options)
    return folder / photos, folder / marks


def run(capsys, *words):
    """(exit status, what it said, the words of the next command, after the script)."""
    status = prepare.main(list(map(str, words)))
    said = capsys.readouterr()
    text = said.out + said.err
    last = text.rstrip().splitlines()[-1].strip()
    return status, text, shlex.split(last)[2:] if "Next:" in text else []


def fails(text):
    """The names of the facts that FAIL."""
    return {line[8:].split("  ")[0] for line in text.splitlines() if line.startswith("  FAIL")}


COLORS = np.array([(0, 0, 0), (220, 20, 60), (0, 130, 180), (250, 170, 30)], np.uint8)
PALETTE = vis.make_palette(256)


def palette(values, colors):
    image = Image.fromarray(values)
    image.putpalette(np.asarray(colors, np.uint8).tobytes())
    return image


def alpha(label):
    """One colour, painted where the object is."""
    mask = np.zeros((*label.shape, 4), np.uint8)
    mask[..., 0] = np.where(label, 200, 17)
    mask[..., 3] = label * 255
    return mask


def optimised(label):
    """As programs save that number the colours anew in every file, in the order in which they come."""
    used = list(dict.fromkeys(label.ravel().tolist()))
    number = np.zeros(256, np.uint8)
    number[used] = np.arange(len(used))
    return palette(number[label], COLORS[used])


# name → (classes, void, how a label is stored, what the report says, how remap is told); all without loss
FORMS = {
    "0 and 255": (2, False, lambda k: k * np.uint8(255), "0 and 255 for two classes", ["--map", "0=0 255=1"]),
    "RGB 0 and 255": (
        2,
        False,
        lambda k: np.repeat(k[..., None] * np.uint8(255), 3, 2),
        "255,255,255",
        ["--colors", "0,0,0=0 255,255,255=1"],
    ),
    "black on white": (
        2,
        False,
        lambda k: Image.fromarray(k > 0).convert("1"),
        "P or L",
        ["--map", "0=0 255=1"],
    ),
    "times 50": (4, False, lambda k: k * np.uint8(50), "class indices times 50", None),
    "times 60, void": (
        4,
        True,
        lambda k: np.where(k == 255, k, k * np.uint8(60)),
        "class indices times 60",
        ["--map", "0=0 60=1 120=2 180=3 255=255"],
    ),
    "from 1": (4, False, lambda k: k + np.uint8(1), "numbered from 1 to 4", ["--map", "1=0 2=1 3=2 4=3"]),
    "16 bits": (4, False, lambda k: k.astype(np.uint16) * 1000, "class indices times 1000", None),
    "scattered": (
        4,
        False,
        lambda k: palette(np.array([0, 7, 11, 92], np.uint8)[k], PALETTE),
        "scattered values",
        ["--map", "0=0 7=1 11=2 92=3"],
    ),
    "alpha": (2, False, alpha, "in the alpha channel", ["--map", "0=0 255=1", "--alpha"]),
    "VOC's colours": (4, True, lambda k: PALETTE[k], "colours", None),
    "VOC's colours with alpha": (4, True, lambda k: np.dstack([PALETTE[k], 0 * k + 255]), "colours", None),
}


@pytest.mark.parametrize("name", FORMS)
def test_each_form_is_recognised_and_mended_by_the_command_that_is_printed(name, tmp_path, capsys):
    classes, void, encode, says, options = FORMS[name]
    truth = labels(classes, void=void)
    photos, marks = write(tmp_path, truth, encode)
    status, said, command = run(capsys, "check", "--images", photos, "--masks", marks)
    assert status == 1 and says in said
    assert fails(said) <= {"mask modes", "mask values"} and fails(said)
    assert command[0] == "remap" and (options is None or command[-len(options) :] == options)
    status, said, command = run(capsys, *command)
    out = tmp_path / "prepared"
    assert status == 0 and command == ["check", "--data", str(out)]
    for i, label in enumerate(truth):
        mask = Image.open(out / "masks" / f"a{i}.png")
        assert mask.mode == "P"
        np.testing.assert_array_equal(np.asarray(mask), label)
        assert (out / "images" / f"a{i}.jpg").read_bytes() == (photos / f"a{i}.jpg").read_bytes()
    assert (out / "classes.txt").read_text().split() == ["background", "class1", "class2", "class3"][:classes]
    status, said, command = run(capsys, *command)
    assert status == 0 and not fails(said) and command == ["split", "--data", str(out)]
    status, said, command = run(capsys, *command)
    assert status == 0 and command == ["new", "my-net", "--data", str(out), "--base", "mini-fcn8s"]
    status, said, command = run(capsys, "check", "--data", out)
    assert status == 0 and command[0] == "new"


def test_colours_that_each_file_numbers_anew_are_colours(tmp_path, capsys):
    truth = labels(4)
    photos, marks = write(tmp_path, truth, optimised)
    status, said, command = run(capsys, "check", "--images", photos, "--masks", marks)
    assert status == 1 and command[-2] == "--colors" and "Is that their order?" in said
    # the order of the colours is the user's to say
    numbers = " ".join(f"{','.join(map(str, color))}={i}" for i, color in enumerate(COLORS))
    assert sorted(word.split("=")[0] for word in command[-1].split()) == sorted(
        word.split("=")[0] for word in numbers.split()
    )
    assert run(capsys, *command[:-1], numbers)[0] == 0
    for i, label in enumerate(truth):
        np.testing.assert_array_equal(images.load_label(tmp_path / "prepared/masks" / f"a{i}.png"), label)


@pytest.mark.parametrize("mode", ["P", "L"])
def test_masks_that_are_right_are_left_as_they_are(mode, tmp_path, capsys):
    def encode(label):
        return palette(label, PALETTE) if mode == "P" else label

    truth = labels(4, void=True)
    write(tmp_path, truth, encode, photos="images")
    status, said, command = run(capsys, "check", "--data", tmp_path)
    assert status == 1 and fails(said) == {"class names"}
    assert "classes.txt && " in said  # the names are to be written first
    (tmp_path / "classes.txt").write_text("ground\nred\nblue\nyellow\n")
    status, said, command = run(capsys, "check", "--data", tmp_path)
    assert status == 0 and command == ["split", "--data", str(tmp_path)]
    # two folders that are called otherwise become one
    photos, marks = write(tmp_path / "b", truth, encode)
    status, said, command = run(capsys, "check", "--images", photos, "--masks", marks)
    assert status == 0 and command[-1] == "0=0 1=1 2=2 3=3 255=255"


def test_a_missing_class_list_is_written_by_the_command_that_is_printed(tmp_path, capsys):
    write(tmp_path, labels(2), lambda k: k, photos="images")
    said = run(capsys, "check", "--data", tmp_path)[1]
    line = said.rstrip().splitlines()[-1].strip().partition(" && ")[0]
    subprocess.run(line, shell=True, check=True)
    assert (tmp_path / "classes.txt").read_text() == "background\nclass1\n"
    assert run(capsys, "check", "--data", tmp_path)[0] == 0


def test_rgb_damaged_masks_of_each_sort_are_snapped(tmp_path, capsys):
    truth = labels(2)
    damages = {
        "aa": (
            lambda k: Image.fromarray(k * np.uint8(255)).filter(ImageFilter.GaussianBlur(1)),
            ".png",
            "smoothed",
            0.97,
        ),
        "jpeg": (lambda k: np.repeat(k[..., None] * np.uint8(255), 3, 2), ".jpg", "JPEG", 1),
        "grey jpeg": (lambda k: k * np.uint8(255), ".jpeg", "JPEG", 1),
    }
    for name, (encode, suffix, says, share) in damages.items():
        photos, marks = write(
            tmp_path / name, truth, encode, suffix, **({} if suffix == ".png" else {"quality": 60})
        )
        status, said, command = run(capsys, "check", "--images", photos, "--masks", marks)
        assert status == 1 and says in said and command[-2:] == ["--snap", "127"], name
        status, said, _ = run(capsys, *command)
        assert status == 0 and "pixels snapped" in said and "0 could not be told" in said
        made = [
            images.load_label(tmp_path / name / "prepared/masks" / f"a{i}.png") for i in range(len(truth))
        ]
        agree = np.mean(np.array(made) == np.array(truth))
        assert agree >= share, (name, agree)


def test_what_cannot_be_told_becomes_void_and_is_counted(tmp_path, capsys):
    truth = labels(4)
    photos, marks = write(tmp_path, truth, lambda k: k * np.uint8(60), ".jpg", quality=50)
    status, said, command = run(capsys, "check", "--images", photos, "--masks", marks)
    assert status == 1 and command[-2:] == ["--snap", "15"] and command[-3] == "0=0 60=1 120=2 180=3"
    said = run(capsys, *command)[1]
    made = np.array([images.load_label(tmp_path / "prepared/masks" / f"a{i}.png") for i in range(len(truth))])
    stored = np.array([np.array(Image.open(marks / f"a{i}.jpg")) for i in range(len(truth))]).astype(int)
    near = np.abs(stored[..., None] - np.arange(0, 181, 60)).min(-1)
    assert (made == 255).sum() == (near > 15).sum() > 0
    words = said.split()
    assert int(words[words.index("could") - 1]) == (made == 255).sum()
    assert int(words[words.index("pixels") - 1]) == ((near > 0) & (near <= 15)).sum()
    sure = made != 255
    assert np.mean(made[sure] == np.array(truth)[sure]) > 0.99


def test_lines_that_are_all_edge_are_a_class(tmp_path, capsys):
    truth = []
    for i in range(5):
        label = np.zeros(SIZE, np.uint8)
        label[8 + 7 * i, 4:70] = label[:, 10 + 12 * i] = 1
        truth.append(label)
    photos, marks = write(tmp_path, truth, lambda k: k * np.uint8(255))
    command = run(capsys, "check", "--images", photos, "--masks", marks)[2]
    assert command[-2:] == ["--map", "0=0 255=1"]


# faults that only people can mend: name → (what is done to good data, the fact that FAILs, words of the report)


def _jpeg_of_indices(data):
    for path in sorted((data / "masks").iterdir()):
        Image.fromarray(np.array(Image.open(path))).save(path.with_suffix(".jpg"))
        path.unlink()


def _photos_as_masks(data):
    for path in (data / "masks").iterdir():
        Image.open((data / "images" / path.name).with_suffix(".jpg")).save(path)


def _one_value(data):
    for path in (data / "masks").iterdir():
        vis.save_indexed(path, np.ones(SIZE, np.uint8), PALETTE)


def _turned(data):
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(scenes.scene(1, 0, SIZE).image).save(data / "images/a0.jpg", exif=exif)


def _copy(data):
    lists(data, train="a0 a1 a2", val="a3 a4")
    (data / "images/a4.jpg").write_bytes((data / "images/a1.jpg").read_bytes())


def lists(data, **ids):
    for name, words in ids.items():
        (data / f"{name}.txt").write_text("\n".join(words.split()) + "\n")


FAULTS = {
    "a damaged image": (
        lambda d: (d / "images/a3.jpg").write_bytes((d / "images/a3.jpg").read_bytes()[:300]),
        "images readable",
        "a3.jpg",
    ),
    "an empty mask file": (
        lambda d: (d / "masks/a3.png").write_bytes(b""),
        "masks readable",
        "a3.png is empty",
    ),
    "no image for a mask": (lambda d: (d / "images/a3.jpg").unlink(), "masks' images", "a3.png"),
    "two images of one name": (
        lambda d: Image.new("RGB", SIZE[::-1]).save(d / "images/a3.png"),
        "one file each",
        "a3.jpg and a3.png",
    ),
    "another size": (
        lambda d: vis.save_indexed(d / "masks/a3.png", np.zeros((30, 40), np.uint8), PALETTE),
        "sizes",
        "a3.jpg is 80 x 60, its mask 40 x 30",
    ),
    "turned by EXIF": (_turned, "sizes", "a0.jpg is 60 x 80, which its EXIF data turns"),
    "one value everywhere": (_one_value, "values in a mask", "8 of one value throughout"),
    "indices as JPEG": (_jpeg_of_indices, "mask values", "no two classes can be told apart"),
    "photographs as masks": (_photos_as_masks, "mask values", "these are photographs"),
    "too few names": (
        lambda d: (d / "classes.txt").write_text("ground\nred\n"),
        "class names",
        "2, but the masks have 4 classes",
    ),
    "no name for the background": (
        lambda d: (d / "classes.txt").write_text("red\nblue\nyellow\n"),
        "class names",
        "(is background missing?); or, if 0 means unlabelled, remap with --map '0=255 1=0 2=1 3=2'",
    ),
    "an array with NaN": (
        lambda d: (
            (d / "images/a3.jpg").unlink(),
            np.save(d / "images/a3.npy", np.full((*SIZE, 3), np.nan)),
        ),
        "images readable",
        "not finite",
    ),
    "an array among pictures": (
        lambda d: ((d / "images/a3.jpg").unlink(), np.save(d / "images/a3.npy", np.zeros((*SIZE, 3)))),
        "image modes (channels)",
        "a3.npy",
    ),
    "an id without image": (lambda d: lists(d, train="a0 a1 b7", val="a2"), "train list", "b7"),
    "ids with suffixes": (lambda d: lists(d, train="a0 a1", val="a2.jpg"), "val list", "a2.jpg"),
    "an id in both lists": (lambda d: lists(d, train="a0 a1 a2", val="a2 a3"), "train and val", "a2"),
    "one photograph in both lists": (_copy, "train and val", "a1 = a4"),
    "0 and 255 of four classes": (
        lambda d: [
            vis.save_indexed(p, (np.array(Image.open(p)) > 0) * np.uint8(255), PALETTE)
            for p in (d / "masks").iterdir()
        ],
        "mask values",
        "0 and 255 (void) only, of 4 classes",
    ),
}


@pytest.fixture
def good(tmp_path):
    """Data on which a net could be trained, but for its lists."""
    write(tmp_path, labels(4), lambda k: palette(k, PALETTE), photos="images")
    (tmp_path / "classes.txt").write_text("ground\nred\nblue\nyellow\n")
    return tmp_path


@pytest.mark.parametrize("name", FAULTS)
def test_each_fault_fails_by_name_and_the_next_command_is_to_look_again(name, good, capsys):
    assert run(capsys, "check", "--data", good)[0] == 0
    plant, fact, words = FAULTS[name]
    plant(good)
    status, said, command = run(capsys, "check", "--data", good)
    assert status == 1 and fact in fails(said) and words in said, said
    assert command == ["check", "--data", str(good)]
    assert "Traceback" not in said


def test_a_value_too_many_is_named_and_offered_as_void(good, capsys):
    path = good / "masks/a2.png"
    label = np.array(Image.open(path))
    label[:9, :9] = 77
    vis.save_indexed(path, label, PALETTE)
    status, said, command = run(capsys, "check", "--data", good)
    assert status == 1 and "77: no class of 4; taken for void" in said
    assert command[-1] == "0=0 1=1 2=2 3=3 77=255"


def test_notes_that_do_not_fail(good, capsys):
    (good / "images/a9.jpg").write_bytes((good / "images/a0.jpg").read_bytes()[:-1] + b"\xd9")
    (good / "images/notes.doc").write_text("x")
    (good / "images/a7.jpg").write_bytes((good / "images/a6.jpg").read_bytes())
    void = np.full(SIZE, 255, np.uint8)
    void[0, :7] = 1
    vis.save_indexed(good / "masks/a1.png", void, PALETTE)
    Image.open(good / "images/a2.jpg").convert("L").save(good / "images/a2.jpg")
    status, said, _ = run(capsys, "check", "--data", good)
    assert status == 0, said
    assert "1 without, left out (a9.jpg)" in said
    assert "1 passed over (notes.doc)" in said
    assert "a6 = a7" in said
    assert "1 with less than 10 (a1.png)" in said
    assert "7 of RGB (3), 1 of L (1); a net for them sees 3" in said
    command = run(capsys, "split", "--data", good)[2]
    assert command[-2:] == ["--channels", "3"]


@pytest.mark.parametrize("ending", ["_mask", "-label", "_GT", "_segmentation"])
def test_masks_may_be_called_after_their_images(ending, tmp_path, capsys):
    truth = labels(2)
    photos, marks = write(tmp_path, truth, lambda k: k, ending=ending)
    status, said, command = run(capsys, "check", "--images", photos, "--masks", marks)
    assert status == 1 and fails(said) == {"mask names"} and f"8 end in {ending}" in said
    assert run(capsys, *command)[0] == 0
    assert sorted(p.name for p in (tmp_path / "prepared/masks").iterdir()) == [f"a{i}.png" for i in range(8)]


def test_images_and_masks_may_share_a_folder(tmp_path, capsys):
    write(tmp_path, labels(2), lambda k: k, ending="_mask", photos="all", marks="all")
    _, said, command = run(capsys, "check", "--images", tmp_path / "all", "--masks", tmp_path / "all")
    assert "8 images with masks" in said and command[0] == "remap"


def test_frequencies_and_weights_are_those_of_the_labels(good, capsys):
    truth = labels(4)
    said = run(capsys, "check", "--data", good)[1]
    pixels = [sum((label == k).sum() for label in truth) for k in range(4)]
    within = [sum(label.size for label in truth if (label == k).any()) for k in range(4)]
    frequency = np.array(pixels) / within
    expected = np.median(frequency) / frequency
    weights = json.loads(said.split('{"loss": ')[1].split("}")[0])
    np.testing.assert_allclose(weights, expected, rtol=6e-3)
    for k, name in enumerate(("ground", "red", "blue", "yellow")):
        (line,) = (line for line in said.splitlines() if line.startswith(f"    {k}  {name}"))
        assert f"{100 * pixels[k] / sum(pixels):.2f}%" in line
    # as the recipe takes them
    assert "nets.Recipe(class_weights=" in said and "unnecessary" in said


def test_masks_none_of_which_is_called_as_an_image(good, capsys):
    for path in list((good / "masks").iterdir()):
        path.rename(path.with_name(f"q{path.name}"))
    status, said, command = run(capsys, "check", "--data", good)
    assert status == 1 and fails(said) == {"pairs", "masks' images"} and command[0] == "check"
    status, said, _ = run(capsys, "remap", "--data", good, "--out", good / "new", "--map", "0=0 1=1")
    assert status == 1 and "is called as an image" in said and not (good / "new").exists()


def test_folders_that_are_not_there_or_empty_are_one_message(tmp_path, capsys):
    status, said, _ = run(capsys, "check", "--data", tmp_path / "no")
    assert status == 1 and said.startswith("error: there is no folder") and said.count("\n") == 1
    (tmp_path / "images").mkdir()
    (tmp_path / "masks").mkdir()
    assert "holds no images" in run(capsys, "check", "--data", tmp_path)[1]
    with pytest.raises(SystemExit):
        prepare.main(["check", "--images", str(tmp_path)])


# remap


def told(tmp_path, good, out="out", **change):
    found = meaning.Meaning("values", {0: 0, 1: 1, 2: 2, 3: 3}, **change)
    return remap.Remapping(own.read(good), found, ["a", "b", "c", "d"], tmp_path / out)


def test_an_unknown_value_is_refused_with_the_file_and_nothing_appears(good, capsys):
    status, said, _ = run(capsys, "remap", "--data", good, "--out", good / "new", "--map", "0=0 1=1")
    assert status == 1 and "values that are given no class: " in said and "masks/a" in said
    assert "--snap" in said and not (good / "new").exists()


@pytest.mark.parametrize(
    ("words", "colors", "message"),
    [
        ("0", False, "'0' is not a value"),
        ("0=x", False, "'0=x'"),
        ("0=256", False, "0 to 254, or 255"),
        ("-1=0", False, "'-1=0'"),
        ("70000=0", False, "'70000=0'"),
        ("0=0 0=1", False, "0 comes twice"),
        ("", False, "no value"),
        ("0=0", True, "is not a colour"),
        ("0,0,256=0", True, "is not a colour"),
    ],
)
def test_maps_that_say_nothing_are_refused(words, colors, message):
    with pytest.raises(DataError, match=message):
        remap.parse(words, colors)


def test_names_must_do_for_the_map(good, capsys):
    said = run(capsys, "remap", "--data", good, "--out", good / "n", "--map", "0=0 1=1 2=2 3=9")[1]
    assert "the masks have 10 classes" in said and "names 4" in said


def test_lists_and_names_are_kept(good, capsys):
    lists(good, train="a0 a1 a2", val="a3 a4")
    assert run(capsys, "remap", "--data", good, "--out", good / "new", "--map", "0=0 1=1 2=2 3=2")[0] == 0
    assert (good / "new/classes.txt").read_text() == (good / "classes.txt").read_text()
    for name in ("train.txt", "val.txt"):
        assert (good / "new" / name).read_bytes() == (good / name).read_bytes()


def test_it_does_not_write_into_what_it_did_not_make(good, tmp_path, capsys):
    taken = tmp_path / "taken"
    taken.mkdir()
    (taken / "dear.txt").write_text("mine")
    made = told(tmp_path, good, "taken")
    with pytest.raises(DataError, match="is there already and is not this remapping"):
        made.is_made()
    (taken / "dear.txt").unlink()
    words = ["remap", "--data", good, "--out", taken, "--map", "0=0 1=1 2=2 3=3"]
    assert run(capsys, *words)[0] == 0  # an empty one will do
    before = (taken / "masks/a0.png").stat().st_mtime_ns
    status, said, _ = run(capsys, *words)
    assert status == 0 and "there already" in said
    assert (taken / "masks/a0.png").stat().st_mtime_ns == before
    status, said, _ = run(capsys, *words[:-1], "0=0 1=1 2=2 3=1")
    assert status == 1 and "give another --out" in said


def test_an_interrupted_run_goes_on_and_the_folder_appears_whole(good, tmp_path, monkeypatch):
    made, done = told(tmp_path, good, snap=1), []
    original = remap.Remapping._one_pair

    def dies(self, part, name, palette):
        if len(done) == 3:
            raise KeyboardInterrupt
        done.append(name)
        return original(self, part, name, palette)

    monkeypatch.setattr(remap.checks.os, "cpu_count", lambda: 1)
    monkeypatch.setattr(remap.Remapping, "_one_pair", dies)
    with pytest.raises(KeyboardInterrupt):
        made.run()
    assert not made.out.exists()
    part = tmp_path / ".out.part"
    with open(part / remap.JOURNAL, "a") as journal:
        journal.write('["a7", [0')  # killed while it wrote
    (part / "images/.a7.1.jpg").write_bytes(b"half")
    again = []
    monkeypatch.setattr(
        remap.Remapping,
        "_one_pair",
        lambda self, part, name, palette: again.append(name) or original(self, part, name, palette),
    )
    assert made.run() == (0, 0)
    assert len(done) == 3 and sorted(done + again) == [f"a{i}" for i in range(8)]
    assert sorted(p.name for p in made.out.iterdir()) == ["classes.txt", "images", "masks", remap.NOTE]
    assert len(list((made.out / "images").iterdir())) == len(list((made.out / "masks").iterdir())) == 8
    assert not part.exists() and not list(tmp_path.glob(".out*"))


def test_kill_9_at_any_moment_leaves_nothing_half_made(tmp_path, capsys):
    for i in range(60):
        write_one(tmp_path, i)
    words = ["--data", str(tmp_path), "--map", "0=0 1=1", "--out", str(tmp_path / "new")]
    journal = tmp_path / ".new.part" / remap.JOURNAL
    killed = 0
    for _ in range(3):
        before = journal.read_bytes().count(b"\n") if journal.exists() else 0
        process = subprocess.Popen([sys.executable, SCRIPT, "remap", *words], stderr=subprocess.PIPE)
        while process.poll() is None:
            if journal.exists() and journal.read_bytes().count(b"\n") > before + 5:
                process.kill()
            time.sleep(0.002)
        process.communicate()
        killed += process.returncode != 0
        assert (tmp_path / "new").exists() == (process.returncode == 0)
    assert killed
    assert run(capsys, "remap", *words)[0] == 0
    for i in range(60):
        name = f"a{i}.png"
        np.testing.assert_array_equal(
            images.load_label(tmp_path / "new/masks" / name), images.load_label(tmp_path / "masks" / name)
        )
        assert (tmp_path / "new/images" / name).read_bytes() == (tmp_path / "images" / name).read_bytes()
    assert len(list((tmp_path / "new/images").iterdir())) == 60


def write_one(folder, i):
    rng = np.random.default_rng(i)
    for name, values in (
        ("images", rng.integers(0, 256, (90, 90, 3))),
        ("masks", rng.integers(0, 2, (90, 90))),
    ):
        (folder / name).mkdir(exist_ok=True)
        Image.fromarray(values.astype(np.uint8)).save(folder / name / f"a{i}.png")


# split


def test_a_split_is_drawn_by_its_seed_and_shares_nothing(good, capsys):
    assert run(capsys, "split", "--data", good, "--val", "0.25")[0] == 0
    train, val = ((good / f"{name}.txt").read_text().split() for name in ("train", "val"))
    assert sorted(train + val) == [f"a{i}" for i in range(8)] and len(val) == 2
    status, said, _ = run(capsys, "split", "--data", good)
    assert status == 1 and "is there already" in said
    photos = own.look_at_all(own.read(good))
    assert own.split(photos, 0.25, 1337) == {"train": train, "val": val}
    assert len({tuple(own.split(photos, 0.25, seed)["val"]) for seed in range(8)}) > 3


def test_copies_of_an_image_stay_on_one_side(good):
    for i in (1, 2, 3):
        (good / f"images/a{i}.jpg").write_bytes((good / "images/a0.jpg").read_bytes())
    photos = own.look_at_all(own.read(good))
    for seed in range(10):
        made = own.split(photos, 0.3, seed)
        assert {"a0", "a1", "a2", "a3"} <= set(made["train"]) or {"a0", "a1", "a2", "a3"} <= set(made["val"])
    for share in (0.001, 0.999):
        assert all(own.split(photos, share, 1).values())
    with pytest.raises(DataError, match="2 at the least"):
        own.split({name: photos[name] for name in ("a0", "a1")}, 0.5, 1)


# pieces


def test_codes_are_what_people_write():
    assert masks.written(255, "values") == "255" and masks.written(0xFF8001, "colors") == "255,128,1"
    assert remap.parse("255,128,1=3", True) == {0xFF8001: 3}


def test_balance_counts_only_images_where_a_class_occurs():
    counts = np.array([[90, 10, 0], [100, 0, 0]])
    assert meaning.balance(counts) == [float(f"{(0.95 + 0.1) / 2 / 0.95:.3g}"), 5.25, 1.0]


def test_engine_free():
    code = "import sys; import datakit.own_check, datakit.remap; assert 'caffe' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)


def test_the_report_names_the_folder(good):
    assert str(good) in own_check.Check(own.read(good)).report()
