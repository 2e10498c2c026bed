"""The evaluation server's archive: packed, checked, and each of its rules broken."""

import gzip
import importlib.util
import io
import json
import struct
import tarfile
import zipfile
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from small_sets import failed

import vis
from datakit import layouts, submission
from datakit.members import BUFFER
from files import DataError

ROOT = Path(__file__).resolve().parents[2]
SIZES = {"2008_000001": (6, 9), "2008_000004": (7, 5), "2010_000009": (40, 30)}  # height, width
IDS = sorted(SIZES)
FOLDER = "results/VOC2012/Segmentation/comp6_test_cls"
FIRST = f"{FOLDER}/{IDS[0]}.png"


@pytest.fixture(scope="module")
def script():
    spec = importlib.util.spec_from_file_location("submission_script", ROOT / "data/pascal/submission.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def label(name, classes=21):
    return np.random.default_rng(int(name[-6:])).integers(0, classes, SIZES[name]).astype(np.uint8)


def png(array, mode=None, **options):
    """The bytes of a PNG: of indices with VOC's palette, or as Pillow saves an image of this mode."""
    image, file = Image.fromarray(np.asarray(array)), io.BytesIO()
    if mode is None:
        image.putpalette(vis.make_palette(256).tobytes())
    image.save(file, "PNG", **options)
    return file.getvalue()


def good():
    """{path: bytes} of an archive in which all is right."""
    return {f"{FOLDER}/{name}.png": png(label(name)) for name in IDS}


def write(path, members):
    """A gzipped tar of (path, bytes or, for what is no file, its tarfile type) in order; returns its path."""
    pairs = members.items() if isinstance(members, dict) else members
    with tarfile.open(path, "w:gz") as tar:
        for name, content in pairs:
            info = tarfile.TarInfo(name)
            if isinstance(content, str):
                info.type, info.linkname = content.encode(), "results"
                tar.addfile(info)
            else:
                info.size = len(content)
                tar.addfile(info, io.BytesIO(content))
    return path


def check(path, **more):
    return submission.check(path, IDS, SIZES, 2012, **more)


def lines(table):
    assert failed(str(table)) == {line.name for line in table.failed}  # what is printed is what was found
    return {line.name for line in table.failed}


@pytest.fixture
def predictions(tmp_path):
    folder = tmp_path / "predictions"
    for name in IDS:
        vis.save_indexed(folder / f"{name}.png", label(name), vis.make_palette(21))
    vis.save_indexed(folder / "of_no_test_image.png", label(IDS[0]), vis.make_palette(21))
    return folder


# packing


def test_what_is_packed_is_right_and_holds_the_predictions_as_they_are(tmp_path, predictions):
    path = submission.pack(predictions, IDS, tmp_path / "a.tgz", 2012)
    table = check(path, published=3)
    assert not table.failed, table
    with tarfile.open(path, "r:gz") as tar:
        assert tar.getnames() == [f"{FOLDER}/{name}.png" for name in IDS]
        for name in IDS:
            data = tar.extractfile(f"{FOLDER}/{name}.png").read()
            assert data == (predictions / f"{name}.png").read_bytes()


def test_the_same_predictions_give_the_same_bytes(tmp_path, predictions):
    one = submission.pack(predictions, IDS, tmp_path / "a.tgz", 2012)
    for name in IDS:
        path = predictions / f"{name}.png"
        content = path.read_bytes()
        path.unlink()
        path.write_bytes(content)  # another time, another inode
    path.chmod(0o600)
    two = submission.pack(predictions, [*reversed(IDS), IDS[0]], tmp_path / "other/b.tar.gz", 2012)
    assert one.read_bytes() == two.read_bytes()
    with tarfile.open(one) as tar:
        assert {(each.mtime, each.uid, each.gid, each.uname, each.gname) for each in tar} == {
            (0, 0, 0, "", "")
        }
    assert one.read_bytes()[4:8] == bytes(4)  # gzip's own time


def test_year_competition_and_testset_are_in_the_path(tmp_path, predictions):
    path = submission.pack(predictions, IDS, tmp_path / "a.tgz", 2011, 5, "mini")
    with tarfile.open(path) as tar:
        assert {str(Path(name).parent) for name in tar.getnames()} == {
            "results/VOC2011/Segmentation/comp5_mini_cls"
        }
    assert not submission.check(path, IDS, SIZES, 2011, 5, "mini").failed


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"ids": [*IDS, "2010_000010"]}, r"lacks 1 of 4 images, such as 2010_000010\.png"),
        ({"ids": []}, "list of test images is empty"),
        ({"archive": "a.zip"}, r"a\.zip: .*gzipped tar"),
        ({"competition": 7}, "no segmentation competition 7: 5, .*; 6, "),
        ({"predictions": "nowhere"}, "nowhere does not exist"),
    ],
)
def test_what_cannot_be_packed_is_told_and_nothing_is_written(tmp_path, predictions, change, said):
    call = {"ids": IDS, "competition": 6} | change
    archive = tmp_path / call.pop("archive", "a.tgz")
    folder = tmp_path / call.pop("predictions", "predictions")
    with pytest.raises(DataError, match=said):
        submission.pack(folder, archive=archive, year=2012, **call)
    assert sorted(each.name for each in tmp_path.iterdir()) == ["predictions"]


# checking


def test_a_good_archive_may_hold_folders_and_those_of_other_tasks(tmp_path):
    folders = ["results", "results/VOC2012", *(f"results/VOC2012/{name}" for name in ("Main", "Layout"))]
    members = [(name, tarfile.DIRTYPE.decode()) for name in [*folders, "results/VOC2012/Main/x", FOLDER]]
    assert not check(write(tmp_path / "a.tgz", [*members, *good().items()])).failed
    dotted = {f"./{name}": content for name, content in good().items()}  # as of tar czf a.tgz ./results
    assert not check(write(tmp_path / "b.tgz", dotted)).failed


def changed(**content):
    """A fault: the first prediction replaced by other bytes."""
    return lambda members: {**members, FIRST: content["by"]}


def moved(to):
    """A fault: the first prediction at another place."""
    return lambda members: [(to if name == FIRST else name, content) for name, content in members.items()]


def added(name, content=b"text"):
    return lambda members: [*members.items(), (name, content)]


def with_value(value):
    array = label(IDS[0])
    array[2, 3] = value
    return png(array)


def resized(data):
    with Image.open(io.BytesIO(data)) as image:
        return png(np.asarray(image)[:, :-1])


def grey_of_4_bits(height, width):
    """A PNG that Pillow reads as values 17 times as large, but cannot write."""

    def chunk(kind, content):
        return (
            struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))
        )

    header = struct.pack(">IIBBBBB", width, height, 4, 0, 0, 0, 0)
    rows = zlib.compress(b"".join(b"\0" + b"\x22" * -(-width // 2) for _ in range(height)))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


RGB = np.zeros((*SIZES[IDS[0]], 3), np.uint8)
FEW = np.resize(np.arange(4, dtype=np.uint8), SIZES[IDS[0]])
BIG = png(label(IDS[2]))
# what is planted: (how, the one line that must find it, what it must say)
FAULTS = {
    "absolute": (moved(f"/{FIRST}"), "paths", f"/{FIRST}"),
    "parent": (moved(f"../{FIRST}"), "paths", f"../{FIRST}"),
    "parent inside": (moved(f"results/../{FIRST}"), "paths", "results/../"),
    "backslashes": (moved(FIRST.replace("/", "\\")), "paths", "results\\VOC2012"),
    "drive": (moved(f"C:/{FIRST}"), "paths", "C:/"),
    "link": (added(f"{FOLDER}/{IDS[0]}", tarfile.SYMTYPE.decode()), "kinds", "is a link"),
    "hard link": (added(f"{FOLDER}/x", tarfile.LNKTYPE.decode()), "kinds", "is a link"),
    "pipe": (added(f"{FOLDER}/x", tarfile.FIFOTYPE.decode()), "kinds", "pipe"),
    "no results": (moved(FIRST.removeprefix("results/")), "top folder", "VOC2012/"),
    "all without results": (
        lambda members: {name.removeprefix("results/"): each for name, each in members.items()},
        "top folder",
        "3 of 3",
    ),
    "mere png": (moved(f"{IDS[0]}.png"), "top folder", f"{IDS[0]}.png is not in a folder results"),
    "folder around": (moved(f"mine/{FIRST}"), "top folder", "mine/results"),
    "another folder": (added("results2", tarfile.DIRTYPE.decode()), "top folder", "results2"),
    "year": (moved(FIRST.replace("2012", "2011")), "year folder", "not in a folder VOC2012"),
    "task": (moved(FIRST.replace("Segmentation", "Main")), "task folder", "Main/comp6"),
    "task folder": (added("results/VOC2012/Other", tarfile.DIRTYPE.decode()), "task folder", "Other"),
    "competition": (moved(FIRST.replace("comp6", "comp5")), "competition folder", "comp5_test_cls"),
    "testset": (moved(FIRST.replace("test", "val")), "competition folder", "comp6_val_cls"),
    "no competition": (moved(FIRST.replace("/comp6_test_cls", "")), "competition folder", "comp6_test_cls"),
    "below": (moved(f"{FOLDER}/more/{IDS[0]}.png"), "subfolders", "more/"),
    "folder below": (added(f"{FOLDER}/more", tarfile.DIRTYPE.decode()), "subfolders", "more"),
    "text": (added(f"{FOLDER}/readme.txt"), "nothing else", "readme.txt"),
    "mac": (added(f"{FOLDER}/._{IDS[0]}.png"), "nothing else", "._2008"),
    "capitals": (moved(FIRST.replace(".png", ".PNG")), "nothing else", ".PNG"),
    "missing": (
        lambda members: {name: each for name, each in members.items() if name != FIRST},
        "predictions there",
        f"1 of 3: {IDS[0]}",
    ),
    "more": (added(f"{FOLDER}/2007_000001.png", BIG), "no others", "1 of 4: 2007_000001"),
    "twice": (added(FIRST, png(label(IDS[0]))), "each once", IDS[0]),
    "in two places": (added(f"./{FIRST}", png(label(IDS[0]))), "each once", IDS[0]),
    "empty": (changed(by=b""), "PNGs decode", "is no PNG but something else"),
    "jpeg": (changed(by=b"\xff\xd8\xff\xe0" + bytes(40)), "PNGs decode", "is no PNG but JPEG"),
    "cut": (
        lambda members: {**members, f"{FOLDER}/{IDS[2]}.png": BIG[: len(BIG) // 2]},
        "PNGs decode",
        f"{IDS[2]}.png is damaged",
    ),
    "header alone": (changed(by=png(label(IDS[0]))[:40]), "PNGs decode", "is damaged"),
    "huge": (
        changed(by=png(label(IDS[0]))[:16] + (1 << 20).to_bytes(4, "big") * 2 + bytes(30)),
        "PNGs decode",
        "1048576 x 1048576",
    ),
    "rgb": (changed(by=png(RGB, "RGB")), "PNGs are indexed", "is RGB of 8 bits"),
    "rgba": (changed(by=png(np.dstack([RGB, RGB[..., 0]]), "RGBA")), "PNGs are indexed", "RGB with alpha"),
    "grey of 16 bits": (changed(by=png(FEW.astype(np.uint16), "I;16")), "PNGs are indexed", "of 16 bits"),
    "grey of 4 bits": (changed(by=grey_of_4_bits(6, 9)), "PNGs are indexed", "is grey of 4 bits"),
    "palette of 4 bits": (changed(by=png(FEW, bits=4)), "PNGs are indexed", "is indexed of 4 bits"),
    "black and white": (changed(by=png(FEW > 1, "1")), "PNGs are indexed", "is grey of 1 bits"),
    "value": (changed(by=with_value(21)), "values", f"{IDS[0]}.png has 21"),
    "far value": (changed(by=with_value(254)), "values", "has 254"),
    "void": (changed(by=with_value(255)), "no void", f"{IDS[0]}.png (1 pixels)"),
    "size": (changed(by=resized(png(label(IDS[0])))), "sizes", "is 8 x 6 pixels, its test image 9 x 6"),
    "turned": (changed(by=png(label(IDS[0]).T)), "sizes", "is 6 x 9 pixels, its test image 9 x 6"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_each_fault_is_found_by_its_own_line_alone(tmp_path, fault):
    plant, line, said = FAULTS[fault]
    table = check(write(tmp_path / "a.tgz", plant(good())))
    assert lines(table) == {line}, table
    (found,) = table.failed
    assert said in found.found and found.fix


def test_a_grey_png_is_remarked_on_and_passes(tmp_path):
    table = check(write(tmp_path / "a.tgz", {**good(), FIRST: png(label(IDS[0]), "L")}))
    assert not table.failed
    assert f"1 have no palette, such as {IDS[0]}.png" in str(table)
    assert "grey" in {line.name for line in table.lines}
    assert "grey" not in {line.name for line in check(write(tmp_path / "b.tgz", good())).lines}


def test_values_depend_on_the_number_of_classes(tmp_path):
    path = write(tmp_path / "a.tgz", {f"{FOLDER}/{name}.png": png(label(name, 10)) for name in IDS})
    assert not check(path, classes=10).failed
    assert lines(check(path, classes=9)) == {"values"}


def test_the_published_number_of_test_images(tmp_path):
    path = write(tmp_path / "a.tgz", good())
    assert lines(check(path, published=1456)) == {"test images listed"}


def test_sizes_that_are_not_known_are_not_compared(tmp_path):
    path = write(tmp_path / "a.tgz", {**good(), FIRST: png(label(IDS[0])[:-1])})
    for sizes in (None, {}, lambda name: None, {IDS[1]: SIZES[IDS[1]]}):
        table = submission.check(path, IDS, sizes, 2012)
        assert not table.failed and "not compared" in str(table)
    assert "2 not compared" in str(table)
    assert lines(submission.check(path, IDS, SIZES.get, 2012)) == {"sizes"}


# the archive as a whole


def test_what_is_no_archive_or_another_one(tmp_path):
    path = tmp_path / "a.tgz"
    assert lines(check(path)) == {"archive"}
    path.write_bytes(b"not an archive")
    assert lines(check(path)) == {"archive"}
    path.write_bytes(gzip.compress(b"no tar inside" * 100))
    assert lines(check(path)) == {"whole"}
    packed = gzip.decompress(write(path, good()).read_bytes())
    path.write_bytes(packed)  # a tar that is not gzipped
    assert lines(check(path)) == {"archive"} and "tar" in check(path).failed[0].found
    (tmp_path / "png").write_bytes(png(label(IDS[0])))
    layouts.pack(tmp_path / "b.zip", {f"{FOLDER}/{name}.png": tmp_path / "png" for name in IDS})
    assert {"archive", "name"} <= lines(check(tmp_path / "b.zip"))
    write(path, good()).rename(tmp_path / "a.gz")
    assert lines(check(tmp_path / "a.gz")) == {"name"}


def test_an_empty_archive_fails(tmp_path):
    assert "predictions there" in lines(check(write(tmp_path / "a.tgz", {})))


def test_any_cut_is_damage(tmp_path):
    whole = write(tmp_path / "whole.tgz", good()).read_bytes()
    path = tmp_path / "a.tgz"
    for length in [*range(20, len(whole), 97), len(whole) - 1]:
        path.write_bytes(whole[:length])
        assert lines(check(path)) == {"whole"}, length


def test_damage_within_a_large_member_is_damage(tmp_path):
    big = png(np.random.default_rng(0).integers(0, 21, (1200, 1000)).astype(np.uint8))
    assert len(big) > 2 * BUFFER  # more than is read ahead
    path = write(tmp_path / "a.tgz", {FIRST: big})
    path.write_bytes(path.read_bytes()[: len(big) // 2])
    assert lines(check(path)) == {"whole"}
    with zipfile.ZipFile(tmp_path / "b.tgz", "w") as packed:
        packed.writestr(FIRST, big)
    data = bytearray((tmp_path / "b.tgz").read_bytes())
    data[len(big) // 2] ^= 1
    (tmp_path / "b.tgz").write_bytes(data)
    assert lines(check(tmp_path / "b.tgz")) == {"archive", "whole"}  # no gzipped tar either


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_whatever_is_changed_in_the_file_is_found_or_changes_nothing(tmp_path_factory, data):
    """A byte of the tar changed: a line fails, or what the server reads is what it was."""
    path = tmp_path_factory.mktemp("mutation") / "a.tgz"
    members = good()
    tar = bytearray(gzip.decompress(write(path, members).read_bytes()))
    end = tar.rindex(b"IEND") + 8
    where = data.draw(st.integers(0, end - 1))
    tar[where] ^= data.draw(st.integers(1, 255))
    path.write_bytes(gzip.compress(bytes(tar), mtime=0))
    table = check(path)
    if not table.failed:
        with tarfile.open(path) as opened:
            read = {each.name: opened.extractfile(each).read() for each in opened if each.isreg()}
        assert [Path(name).as_posix() for name in read] == list(members)
        for name, content in members.items():
            with Image.open(io.BytesIO(read[name])) as got, Image.open(io.BytesIO(content)) as wanted:
                # damage that PNG's own checksums tell is the reader's to tell
                assert got.size == wanted.size and np.asarray(got).max() < 21


@settings(max_examples=60, deadline=None)
@given(
    name=st.text(st.sampled_from("abc./\\ :é"), min_size=1, max_size=30),
    kind=st.sampled_from([tarfile.DIRTYPE, tarfile.SYMTYPE, tarfile.CHRTYPE, b"file"]),
)
def test_whatever_else_lies_in_it_is_found(tmp_path_factory, name, kind):
    path = tmp_path_factory.mktemp("more") / "a.tgz"
    content = b"content" if kind == b"file" else kind.decode()
    table = check(write(path, [*good().items(), (name, content)]))
    with tarfile.open(path) as tar:
        name = tar.getnames()[-1]
    # the folder that everything is in is nothing new
    nothing = kind == tarfile.DIRTYPE and set(name.split("/")) <= {"", "."} and not name.startswith("/")
    assert bool(table.failed) != nothing, table


# the script


@pytest.fixture
def root(tmp_path):
    """A data root with VOC 2012's test images and their list."""
    content = {name: (np.zeros((*size, 3), np.uint8), None) for name, size in SIZES.items()}
    layouts.voc_tree(tmp_path / "root/pascal/VOC2012", content, {"test": IDS})
    (tmp_path / "root/sources.json").write_text(json.dumps({"facts": {"pascal": {"voc2012 test": 3}}}))
    return tmp_path / "root"


def test_the_script_packs_and_checks(script, tmp_path, root, predictions, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert script.main(["pack", str(predictions), "--data-root", str(root)]) == 0
    path = tmp_path / "voc2012_comp6_test_cls.tgz"
    said = capsys.readouterr().out
    assert f"wrote {path.name}" in said and "facts hold" in said and "3 label images, as large as" in said
    assert script.main(["check", str(path), "--data-root", str(root)]) == 0
    assert script.main(["check", str(path), "--data-root", str(root), "--competition", "5"]) == 1
    assert failed(capsys.readouterr().out) == {"competition folder"}
    (root / "sources.json").unlink()  # and it is held against the real number
    assert script.main(["check", str(path), "--data-root", str(root)]) == 1
    assert failed(capsys.readouterr().out) == {"test images listed"}
    (tmp_path / "ids.txt").write_text("\n".join(IDS))
    options = ["--data-root", str(tmp_path / "none"), "--ids", str(tmp_path / "ids.txt")]
    assert script.main(["check", str(path), *options]) == 0
    assert "sizes               not compared" in capsys.readouterr().out


def test_the_script_fails_when_what_it_packed_is_wrong(script, tmp_path, root, predictions, capsys):
    vis.save_indexed(predictions / f"{IDS[1]}.png", np.full(SIZES[IDS[1]], 255), vis.make_palette(21))
    out = tmp_path / "a.tgz"
    assert script.main(["pack", str(predictions), "--data-root", str(root), "--out", str(out)]) == 1
    assert failed(capsys.readouterr().out) == {"no void"} and out.is_file()


def test_the_script_says_where_the_list_of_test_images_is_from(script, tmp_path, predictions, capsys):
    for year in (2011, 2012):
        call = ["pack", str(predictions), "--data-root", str(tmp_path), "--year", str(year)]
        assert script.main(call) == 1
        said = capsys.readouterr().err
        assert f"VOC{year}/ImageSets/Segmentation/test.txt does not exist" in said
        assert f"VOC{year}test.tar" in said and "register at" in said and "--ids" in said


def test_a_damaged_photograph_is_told(script, tmp_path, root, predictions, capsys):
    (root / f"pascal/VOC2012/JPEGImages/{IDS[0]}.jpg").write_bytes(b"junk")
    out = tmp_path / "a.tgz"
    assert script.main(["pack", str(predictions), "--data-root", str(root), "--out", str(out)]) == 1
    assert f"photograph {root}/pascal/VOC2012/JPEGImages/{IDS[0]}.jpg is damaged" in capsys.readouterr().err
