"""Unpacking: only what is picked, only where it belongs, whole or not at all, whatever the archive holds."""

import bz2
import errno
import gzip
import io
import lzma
import os
import random
import shutil
import signal
import stat
import struct
import subprocess
import sys
import tarfile
import time
import zipfile
from pathlib import PurePosixPath

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from killing import INTERRUPTED, ROOT, Runner

from datakit import members, unpack
from files import DataError

FILES = {
    "VOC/JPEGImages/a.jpg": b"a photograph" * 900,
    "VOC/JPEGImages/deep/er/b.jpg": b"another",
    "VOC/empty": b"",
    "lists/train.txt": b"a\nb\n",
    "README": b"read me",
}
TAR = {"w": "tar", "w:gz": "tar.gz", "w:bz2": "tar.bz2", "w:xz": "tar.xz"}
PACKERS = {"tar": bytes, "tar.gz": gzip.compress, "tar.bz2": bz2.compress, "tar.xz": lzma.compress}
FORMATS = [*TAR.values(), "zip"]
LARGE = 1 << 30


def entry(name, **fields):
    """The header of a tar's member."""
    made = tarfile.TarInfo(name)
    for field, value in fields.items():
        setattr(made, field, value)
    return made


def tar(path, content, mode="w", extra=(), form=tarfile.PAX_FORMAT):
    """A tar of {name: content}, with the headers ``extra``, each (TarInfo, content), in between."""
    with tarfile.open(path, mode, format=form) as made:
        for number, (name, data) in enumerate(content.items()):
            made.addfile(entry(name, size=len(data)), io.BytesIO(data))
            for header, inside in extra if number == 0 else ():
                made.addfile(header, io.BytesIO(inside))
    return path


def zipped(path, content, extra=()):
    """A zip, likewise; ``extra``: each (ZipInfo, content)."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as made:
        for number, (name, data) in enumerate(content.items()):
            made.writestr(name, data)
            for header, inside in extra if number == 0 else ():
                made.writestr(header, inside)
    return path


def archive(tmp_path, kind, content=FILES):
    path = tmp_path / f"archive.{kind}"
    if kind == "zip":
        return zipped(path, content)
    return tar(path, content, next(mode for mode, name in TAR.items() if name == kind))


def tree(folder):
    """{path: content} of all files below a folder, and its empty folders with None."""
    found = {}
    for path in sorted(folder.rglob("*")) if folder.exists() else ():
        name = path.relative_to(folder).as_posix()
        if path.is_symlink() or not path.is_dir():
            found[name] = (
                path.read_bytes() if path.is_file() and not path.is_symlink() else "not a plain file"
            )
        elif not any(path.iterdir()):
            found[name] = None
    return found


TOPS = ("VOC", "lists", "README")


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "ground" / "data"


@pytest.fixture(scope="module")
def runner(tmp_path_factory):
    with Runner(tmp_path_factory.mktemp("runs")) as runner:
        yield runner


# what it does


@pytest.mark.parametrize("kind", FORMATS)
@pytest.mark.parametrize("called", ["tar", "zip", "whatever"])
def test_every_format_by_content_and_not_by_name(tmp_path, folder, kind, called, capsys):
    path = archive(tmp_path, kind).rename(tmp_path / f"given.{called}")
    assert unpack.unpack(path, folder, PurePosixPath, TOPS, LARGE) is True
    assert tree(folder) == FILES
    assert f"unpacking {path} into {folder}" in capsys.readouterr().out
    assert unpack.unpack(path, folder, PurePosixPath, TOPS, LARGE) is False
    assert f"{folder}: VOC, lists, README there already" in capsys.readouterr().out


@pytest.mark.parametrize("form", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_dialects_of_tar(tmp_path, folder, form):
    long = "/".join(["VOC"] + ["some folder of a name" * 3] * 3)
    content = {f"{long}/a.jpg": b"1", **FILES}
    unpack.unpack(tar(tmp_path / "a", content, form=form), folder, PurePosixPath, TOPS, LARGE)
    assert tree(folder) == content


@pytest.mark.skipif(not (shutil.which("tar") and shutil.which("gzip")), reason="no tar program here")
def test_what_the_tar_program_makes(tmp_path, folder):
    """With a ./ before all names, folders as members, modes, and the padding that it puts at the end."""
    source = tmp_path / "source"
    for name, data in FILES.items():
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        (source / name).write_bytes(data)
    (source / "README").chmod(0o4755)
    (source / "lists" / "train.txt").chmod(0o400)
    subprocess.run(["tar", "-C", source, "-czf", tmp_path / "a.tgz", "."], check=True)
    unpack.unpack(tmp_path / "a.tgz", folder, PurePosixPath, TOPS, LARGE)
    assert tree(folder) == FILES
    for path in folder.rglob("*"):
        if path.is_file():
            assert stat.S_IMODE(path.stat().st_mode) == 0o666 & ~_umask()


def _umask():
    mask = os.umask(0)
    os.umask(mask)
    return mask


@pytest.mark.parametrize("kind", FORMATS)
def test_only_what_is_picked_and_where_it_is_put(tmp_path, folder, kind):
    asked = []

    def pick(name):
        asked.append(name)
        return PurePosixPath("images", name.name) if name.suffix == ".jpg" else None

    unpack.unpack(archive(tmp_path, kind), folder, pick, ("images",), LARGE)
    assert tree(folder) == {"images/a.jpg": FILES["VOC/JPEGImages/a.jpg"], "images/b.jpg": b"another"}
    assert asked == [PurePosixPath(name) for name in FILES]


@pytest.mark.parametrize("kind", ["tar", "zip"])
def test_an_entry_that_is_there_is_left_alone(tmp_path, folder, kind):
    (folder / "VOC").mkdir(parents=True)
    (folder / "VOC" / "mine").write_text("mine")
    assert unpack.unpack(
        archive(tmp_path, kind), folder, PurePosixPath, TOPS, limit=11
    )  # bytes of the others
    assert tree(folder) == {"VOC/mine": b"mine", "lists/train.txt": b"a\nb\n", "README": b"read me"}


def test_an_entry_that_the_archive_lacks(tmp_path, folder):
    with pytest.raises(DataError, match=r"archive\.tar has nothing for .*/data/labels"):
        unpack.unpack(archive(tmp_path, "tar"), folder, PurePosixPath, (*TOPS, "labels"), LARGE)
    assert tree(folder) == {}


def test_a_pick_that_is_wrong_is_the_programs_own_fault(tmp_path, folder):
    for wrong in ("/etc/a", "VOC/../../a", "other/a", ""):
        with pytest.raises(ValueError, match="pick gives"):
            unpack.unpack(
                archive(tmp_path, "tar"), folder, lambda name, to=wrong: PurePosixPath(to), TOPS, LARGE
            )
    assert tree(folder) == {}


def test_folders_in_zips_of_any_system(tmp_path, folder):
    extra = [(zipfile.ZipInfo("VOC/sub/"), b""), (zipfile.ZipInfo("VOC\\sub2\\"), b"")]
    extra += [(zipfile.ZipInfo("VOC\\sub\\c.jpg"), b"backslashes between folders")]
    unpack.unpack(zipped(tmp_path / "a", FILES, extra), folder, PurePosixPath, TOPS, LARGE)
    assert tree(folder) == {**FILES, "VOC/sub/c.jpg": b"backslashes between folders"}


# malice


def symlink(name, to):
    return entry(name, type=tarfile.SYMTYPE, linkname=to), b""


def ziplink(name, to):
    made = zipfile.ZipInfo(name)
    made.create_system, made.external_attr = 3, (stat.S_IFLNK | 0o777) << 16
    return made, to.encode()


def zipmode(name, mode):
    made = zipfile.ZipInfo(name)
    made.create_system, made.external_attr = 3, mode << 16
    return made, b"x"


NAMES = {
    "absolute path": [
        "/etc/evil",
        "//evil",
        "\\evil",
        "\\\\host\\share\\evil",
        "C:\\evil",
        "c:evil",
        "./C:/evil",
    ],
    "out of its folder": [
        "../evil",
        "VOC/../../evil",
        "..\\evil",
        "VOC\\..\\..\\evil",
        "VOC/..",
        "..",
        "VOC/.. /evil",
        "VOC/.../evil",
        "./../evil",
        "VOC/ /evil",
    ],
}
BAD_NAMES = [(name, why) for why, names in NAMES.items() for name in names] + [
    ("VOC/D:/evil", "absolute path")
]
BAD = [
    *[(f"tar {name}", "tar", [(entry(name, size=1), b"x")], why) for name, why in BAD_NAMES],
    *[(f"zip {name}", "zip", [(zipfile.ZipInfo(name), b"x")], why) for name, why in BAD_NAMES],
    ("tar folder", "tar", [(entry("../evil", type=tarfile.DIRTYPE), b"")], "out of its folder"),
    ("tar NUL", "tar", [(entry("VOC/a\0.jpg", pax_headers={"path": "VOC/a\0.jpg"}), b"")], "has a NUL"),
    ("tar symlink", "tar", [symlink("VOC/evil", "/etc/passwd")], "but: link"),
    ("tar symlink inside", "tar", [symlink("VOC/evil", "empty")], "but: link"),
    (
        "tar through a link",
        "tar",
        [symlink("VOC/up", "../.."), (entry("VOC/up/evil", size=1), b"x")],
        "but: link",
    ),
    (
        "tar hard link",
        "tar",
        [(entry("VOC/evil", type=tarfile.LNKTYPE, linkname="/etc/passwd"), b"")],
        "but: link",
    ),
    ("tar pipe", "tar", [(entry("VOC/evil", type=tarfile.FIFOTYPE), b"")], "but: device or pipe"),
    ("tar device", "tar", [(entry("VOC/evil", type=tarfile.CHRTYPE), b"")], "but: device or pipe"),
    ("tar block", "tar", [(entry("VOC/evil", type=tarfile.BLKTYPE), b"")], "but: device or pipe"),
    ("tar unknown", "tar", [(entry("VOC/evil", type=b"Z"), b"")], "unknown kind of file"),
    ("tar twice", "tar", [(entry("VOC/empty", size=1), b"x")], "is there twice"),
    ("tar twice, dot", "tar", [(entry("VOC/empty.", size=1), b"x")], "is there twice"),
    ("tar twice, blank", "tar", [(entry("VOC./empty ", size=1), b"x")], "is there twice"),
    ("tar twice, case", "tar", [(entry("VOC/EMPTY", size=1), b"x")], "is there twice"),
    ("tar twice, slash", "tar", [(entry("VOC//./empty", size=1), b"x")], "is there twice"),
    ("tar twice, backslash", "tar", [(entry("VOC\\empty", size=1), b"x")], "is there twice"),
    ("tar file as folder", "tar", [(entry("VOC/empty/b", size=1), b"x")], "cannot be made beside"),
    ("tar folder as file", "tar", [(entry("VOC/JPEGImages", size=1), b"x")], "cannot be made beside"),
    ("tar long name", "tar", [(entry("VOC/" + "a" * 300, size=1), b"x")], "cannot be made beside"),
    ("tar bomb", "tar", [(entry("VOC/evil", size=2_000_000), b"x" * 2_000_000)], "2000000 bytes, of which"),
    ("zip symlink", "zip", [ziplink("VOC/evil", "/etc/passwd")], "but: link"),
    ("zip link to a folder", "zip", [ziplink("VOC/evil/", "..")], "but: link"),
    ("zip pipe", "zip", [zipmode("VOC/evil", stat.S_IFIFO | 0o666)], "but: device or pipe"),
    ("zip device", "zip", [zipmode("VOC/evil", stat.S_IFCHR | 0o666)], "but: device or pipe"),
    ("zip twice", "zip", [(zipfile.ZipInfo("VOC/empty"), b"x")], "is there twice"),
    ("zip twice, dot", "zip", [(zipfile.ZipInfo("VOC/empty."), b"x")], "is there twice"),
    ("zip bomb", "zip", [(zipfile.ZipInfo("VOC/evil"), b"x" * 2_000_000)], "2000000 bytes, of which"),
]


@pytest.fixture
def ground(folder):
    """All that is around the folder, which must stay as it is; outside of it, ../evil would lie here."""
    folder.mkdir(parents=True)
    (folder.parent / "neighbour").write_text("safe")
    yield folder.parent
    assert tree(folder.parent) == {"neighbour": b"safe", "data": None}
    assert not any(os.path.lexists(path) for path in ("/etc/evil", "/evil", "evil"))


@pytest.mark.filterwarnings("ignore:Duplicate name")
@pytest.mark.parametrize("kind, extra, why", [case[1:] for case in BAD], ids=[case[0] for case in BAD])
@pytest.mark.parametrize("first", [True, False], ids=["first", "later"])
def test_malice_is_refused_and_nothing_is_left(tmp_path, folder, ground, kind, extra, why, first):
    content = {"lists/train.txt": FILES["lists/train.txt"], **FILES} if first else {"VOC/empty": b"", **FILES}
    make = zipped if kind == "zip" else tar
    path = make(tmp_path / "bad", content, extra=extra)

    def pick(name):
        return PurePosixPath("VOC", *name.parts[1:]) if name.parts[0] in ("VOC", "VOC.") else None

    with pytest.raises(DataError) as error:
        unpack.unpack(path, folder, pick, ("VOC",), limit=1_000_000)
    text = str(error.value)
    assert why in text and str(path) in text and "member" in text


@pytest.mark.parametrize("name", [name for name, _ in BAD_NAMES])
@pytest.mark.parametrize("kind", ["tar", "zip"])
def test_bad_names_are_refused_even_if_nobody_picks_them(tmp_path, folder, ground, kind, name):
    if kind == "tar":
        path = tar(tmp_path / "bad", FILES, extra=[(entry(name, size=1), b"x")])
    else:
        path = zipped(tmp_path / "bad", FILES, [(zipfile.ZipInfo(name), b"x")])
    with pytest.raises(DataError, match=r"archive .*bad: member"):
        pick = lambda each: each if str(each) == "README" else None  # noqa: E731
        unpack.unpack(path, folder, pick, ("README",), LARGE)


def test_a_nul_in_a_zip(tmp_path, folder, ground):
    """zipfile cuts names at a NUL, when it writes and when it reads: they are put in afterwards."""
    path = zipped(tmp_path / "bad", {"VOC/a": b"1", "VOC/aXb": b"2"})
    path.write_bytes(path.read_bytes().replace(b"VOC/aXb", b"VOC/a\0b"))
    with pytest.raises(DataError, match="has a NUL"):
        unpack.unpack(path, folder, PurePosixPath, ("VOC",), LARGE)


def test_links_and_devices_that_nobody_picks_are_passed_over(tmp_path, folder):
    extra = [symlink("link", "/etc"), (entry("pipe", type=tarfile.FIFOTYPE), b"")]
    extra += [(entry("twin", type=tarfile.LNKTYPE, linkname="README"), b"")]
    path = tar(tmp_path / "a", FILES, extra=extra)
    unpack.unpack(path, folder, lambda name: name if name.parts[0] == "VOC" else None, ("VOC",), LARGE)
    assert tree(folder) == {name: data for name, data in FILES.items() if name.startswith("VOC")}


def test_a_zip_with_a_name_that_is_no_text(tmp_path, folder, ground):
    path = zipped(tmp_path / "bad", {"VOC/\u00e9": b"1"})  # the flag says that it is UTF-8
    path.write_bytes(path.read_bytes().replace("\u00e9".encode(), b"\xff\xff"))
    with pytest.raises(DataError, match="damaged or cut off"):
        unpack.unpack(path, folder, PurePosixPath, ("VOC",), LARGE)


def test_an_encrypted_zip(tmp_path, folder, ground):
    """zipfile cannot make one: the flag is set in both of a member's headers."""
    data = bytearray(zipped(tmp_path / "bad", {"VOC/a": b"1"}).read_bytes())
    for mark, place in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        data[data.index(mark) + place] |= 1
    (tmp_path / "bad").write_bytes(data)
    with pytest.raises(DataError, match="but: encrypted file"):
        unpack.unpack(tmp_path / "bad", folder, PurePosixPath, ("VOC",), LARGE)


# bombs


@pytest.mark.parametrize("kind", FORMATS)
def test_many_files_are_counted_together(tmp_path, folder, ground, kind):
    content = {f"VOC/{n}": bytes(1000) for n in range(11)}
    with pytest.raises(DataError, match="'VOC/10' has 1000 bytes, of which 999 may"):
        unpack.unpack(archive(tmp_path, kind, content), folder, PurePosixPath, ("VOC",), limit=10_999)


def test_just_as_many_as_may_be(tmp_path, folder):
    content = {f"VOC/{n}": bytes(1000) for n in range(11)}
    assert unpack.unpack(archive(tmp_path, "tar.gz", content), folder, PurePosixPath, ("VOC",), limit=11_000)


@pytest.mark.parametrize("kind", ["tar.gz", "tar.bz2", "tar.xz"])
def test_a_packed_bomb_that_nobody_picks_stops_the_reading(tmp_path, folder, ground, kind, monkeypatch):
    """100 MB of zeros, packed a thousand times smaller, before the file that is wanted."""
    path = tmp_path / "bomb"
    open_ = {"tar.gz": gzip.open, "tar.bz2": bz2.open, "tar.xz": lambda p, m: lzma.open(p, m, preset=0)}[kind]
    with open_(path, "wb") as packed:
        packed.write(entry("zeros", size=100_000_000).tobuf())
        for _ in range(100):
            packed.write(bytes(1_000_000))
        packed.write(bytes(-100_000_000 % 512))
        packed.write(entry("README", size=0).tobuf() + bytes(1024))
    monkeypatch.setattr(members, "RATIO", 1)  # the least is 64 MB, whatever the ratio
    with pytest.raises(DataError, match=r"swells out of all proportion \(6[78]\d{6} bytes"):
        unpack.unpack(path, folder, lambda n: n if str(n) == "README" else None, ("README",), LARGE)


@pytest.mark.parametrize("kind", [tarfile.XHDTYPE, tarfile.GNUTYPE_LONGNAME, tarfile.XGLTYPE])
def test_a_header_that_would_fill_the_memory(tmp_path, folder, ground, kind):
    """tarfile reads the long names of members into memory, of whatever size they say they are."""
    path = tmp_path / "bomb"
    with gzip.open(path, "wb", compresslevel=1) as packed:
        packed.write(entry("long", type=kind, size=60_000_000).tobuf())
        for _ in range(60):
            packed.write(b"a" * 1_000_000)
    with pytest.raises(DataError, match=r"swells out of all proportion \(\d{7} bytes"):
        unpack.unpack(path, folder, PurePosixPath, ("VOC",), LARGE)


@pytest.mark.parametrize("kind", ["tar", "zip"])
def test_too_many_members(tmp_path, folder, ground, kind, monkeypatch):
    monkeypatch.setattr(unpack, "MEMBERS", len(FILES) - 1)
    with pytest.raises(DataError, match=f"an archive may have {len(FILES) - 1} members"):
        unpack.unpack(archive(tmp_path, kind), folder, PurePosixPath, TOPS, LARGE)


def test_bytes_are_counted_as_they_are_written_whatever_the_archive_says(
    tmp_path, folder, ground, monkeypatch
):
    """No library gives more than the size it tells first; one that did would be stopped."""

    class Liar(members.Member):
        def open(self):
            return io.BytesIO(bytes(9_000_000))

    monkeypatch.setattr(unpack, "members", lambda path: iter([Liar("VOC/a", "file", 10, 0, None, None)]))
    with pytest.raises(DataError, match="has more bytes than it says"):
        unpack.unpack(archive(tmp_path, "tar"), folder, PurePosixPath, ("VOC",), limit=5_000_000)


@pytest.mark.parametrize("lie", [10, 5_000_000])
def test_a_zip_that_lies_about_a_size(tmp_path, folder, ground, lie):
    path = zipped(tmp_path / "bad", {"VOC/a": b"x" * 1000})
    data = bytearray(path.read_bytes())
    for mark, place in ((b"PK\x03\x04", 22), (b"PK\x01\x02", 24)):
        struct.pack_into("<I", data, data.index(mark) + place, lie)
    path.write_bytes(data)
    with pytest.raises(DataError, match=r"damaged or cut off|as it says"):
        unpack.unpack(path, folder, PurePosixPath, ("VOC",), LARGE)


def test_a_sparse_file(tmp_path, folder, ground):
    """It may say that it has any size, and have a few bytes."""
    header = entry("VOC/evil", type=tarfile.GNUTYPE_SPARSE, size=0).tobuf(tarfile.GNU_FORMAT)
    header = bytearray(header)
    header[483:495] = b"%011o\0" % 8_000_000_000  # its size when it is written out
    header[148:156] = b" " * 8
    header[148:156] = b"%06o\0 " % sum(header)
    (tmp_path / "bad").write_bytes(bytes(header) + bytes(1024))
    with pytest.raises(DataError, match="but: sparse or unknown kind of file"):
        unpack.unpack(tmp_path / "bad", folder, PurePosixPath, ("VOC",), LARGE)


# damage


@pytest.mark.parametrize("kind", FORMATS)
def test_cut_off_anywhere(tmp_path, folder, ground, kind):
    random.seed(3)
    whole = archive(tmp_path, kind, {**FILES, "VOC/noise": random.randbytes(9000)}).read_bytes()
    if kind == "tar":
        whole = whole[: len(whole.rstrip(b"\0")) // 512 * 512 + 1024]  # without the padding
        lengths = [*range(512, len(whole), 512), 600, len(whole) - 513]
    else:
        lengths = [
            20,
            len(whole) - 1,
            len(whole) - 5,
            len(whole) - 9,
            *random.sample(range(30, len(whole)), 12),
        ]
    for length in lengths:
        (tmp_path / "cut").write_bytes(whole[:length])
        if kind == "tar" and len(whole) - length <= 512:
            continue  # one block of zeros is an end, too
        with pytest.raises(DataError, match=r"(damaged or cut off|no archive).* get it again"):
            unpack.unpack(tmp_path / "cut", folder, PurePosixPath, TOPS, LARGE)


@pytest.mark.parametrize("kind", ["tar.gz", "tar.bz2", "tar.xz", "zip"])
def test_a_changed_byte_is_told_by_the_archives_own_checksum(tmp_path, folder, ground, kind):
    random.seed(5)
    noise = {"VOC/noise": random.randbytes(20_000)}
    path = archive(tmp_path, kind, {**noise, "README": b"r"})
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 0x10
    path.write_bytes(data)
    with pytest.raises(DataError, match="damaged or cut off"):
        unpack.unpack(path, folder, PurePosixPath, ("VOC", "README"), LARGE)


def test_the_checksum_that_comes_after_much_padding(tmp_path, folder, ground):
    data = bytearray(gzip.compress(archive(tmp_path, "tar").read_bytes() + bytes(3_000_000)))
    (tmp_path / "good").write_bytes(data)
    assert unpack.unpack(tmp_path / "good", tmp_path / "other", PurePosixPath, TOPS, LARGE)
    data[-8] ^= 1
    (tmp_path / "bad").write_bytes(data)
    with pytest.raises(DataError, match=r"damaged or cut off .*CRC"):
        unpack.unpack(tmp_path / "bad", folder, PurePosixPath, TOPS, LARGE)


@pytest.mark.parametrize(
    "data", [b"", b"\0" * 5000, b"<html>" * 99, b"\x0a" * 999, b"\x89PNG\r\n\x1a\n" + bytes(99)]
)
def test_no_archive_at_all(tmp_path, folder, ground, data):
    (tmp_path / "not").write_bytes(data)
    with pytest.raises(DataError, match=r"not is no archive \(tar, tar\.gz"):
        unpack.unpack(tmp_path / "not", folder, PurePosixPath, TOPS, LARGE)


@pytest.mark.parametrize("packer", PACKERS.values())
def test_a_packed_file_that_is_no_tar(tmp_path, folder, ground, packer):
    (tmp_path / "not").write_bytes(packer(b"just a text" * 400))
    with pytest.raises(DataError, match=r"damaged or cut off|is no archive"):
        unpack.unpack(tmp_path / "not", folder, PurePosixPath, TOPS, LARGE)


@pytest.mark.parametrize("kind", FORMATS)
def test_damage_of_any_sort_is_told_in_words(tmp_path, folder, kind):
    """Bytes changed at random: it works, or ends in DataError, and never outside of the folder."""
    random.seed(7)
    whole = archive(tmp_path, kind).read_bytes()
    outside = tree(tmp_path)
    for n in range(60):
        data = bytearray(whole)
        for _ in range(random.choice([1, 1, 3, 20])):
            data[random.randrange(len(data))] = random.choice([0, 255, 0x2F, 0x2E, random.randrange(256)])
        (tmp_path / "bad").write_bytes(data)
        target = folder / str(n)
        try:
            unpack.unpack(
                tmp_path / "bad", target, lambda name: PurePosixPath("all", name), ("all",), 1 << 22
            )
        except DataError:
            assert tree(target) == {}
        shutil.rmtree(folder, ignore_errors=True)
        (tmp_path / "bad").unlink()
        (tmp_path / "ground").rmdir() if (tmp_path / "ground").exists() else None
        assert tree(tmp_path) == outside


PARTS = st.sampled_from("VOC|..|.|a|A|a.|| |C:|é|e\u0301|~|*|a\n|...|\\|-rf".split("|"))


@pytest.mark.filterwarnings("ignore:Duplicate name")
@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(st.lists(PARTS, min_size=1, max_size=5), min_size=1, max_size=3), st.sampled_from(["tar", "zip"])
)
def test_names_of_all_sorts_stay_inside(tmp_path, parts, kind):
    """What is unpacked lies where its name says, below the folder; else there is an error, and nothing."""
    place = tmp_path / "place"
    shutil.rmtree(place, ignore_errors=True)
    target = place / "in" / "data"
    names = ["/".join(each) for each in parts]
    if kind == "tar":
        path = tar(tmp_path / "a", {"first": b""}, extra=[(entry(name, size=4), b"evil") for name in names])
    else:
        path = zipped(
            tmp_path / "a", {"first": b""}, [(zipfile.ZipInfo(name or "x"), b"evil") for name in names]
        )
    try:
        unpack.unpack(path, target, lambda name: PurePosixPath("all", name), ("all",), LARGE)
    except DataError:
        assert tree(place) in ({"in/data": None}, {})
        return
    found = tree(place)
    assert all(name.startswith("in/data/all/") and "/../" not in name for name in found)
    files = [name for name in names if kind == "tar" or not (name or "x").replace("\\", "/").endswith("/")]
    assert len(found) == 1 + len(files)


# stopped, twice at once, and a full disk


@pytest.mark.parametrize("kind", ["tar.gz", "zip"])
@pytest.mark.parametrize("how", ["kill", "interrupt"])
def test_stopped_before_each_operation_on_files_and_run_again(tmp_path, folder, runner, kind, how):
    path, stops = archive(tmp_path, kind), 0
    for at in range(1, 200):
        shutil.rmtree(folder, ignore_errors=True)
        job = {"job": "unpack", "path": path, "folder": folder, "entries": TOPS}
        status, text = runner.run(**job, at=at, how=how)
        if status == 0:
            break
        assert status == (-signal.SIGKILL if how == "kill" else INTERRUPTED), text
        stops += 1
        for top in TOPS:  # each entry is there with all it has, or not at all
            wanted = {name: data for name, data in FILES.items() if name.split("/")[0] == top}
            if (folder / top).exists():
                assert {n: d for n, d in tree(folder).items() if n.split("/")[0] == top} == wanted
        status, text = runner.run(**job)
        assert status == 0, text
        assert tree(folder) == FILES
    assert stops >= 15


def test_killed_at_many_moments(tmp_path, folder, runner):
    random.seed(8)
    content = {f"VOC/{n}.jpg": random.randbytes(9000) for n in range(250)}
    path = tar(tmp_path / "a", content, "w:gz")
    job = {"job": "unpack", "path": path, "folder": folder, "entries": ["VOC"]}
    start = time.monotonic()
    assert runner.run(**job)[0] == 0
    took = time.monotonic() - start
    stopped = 0
    for _ in range(30):
        shutil.rmtree(folder / "VOC", ignore_errors=True)
        run = runner.start(**job)
        time.sleep(random.uniform(0, took))
        try:
            os.kill(run.pid, random.choice([signal.SIGKILL, signal.SIGINT]))
        except ProcessLookupError:
            pass
        stopped += run.end()[0] != 0
        if (folder / "VOC").exists():
            assert tree(folder / "VOC") == {name[4:]: data for name, data in content.items()}
    assert stopped >= 5
    runner.run(**job)
    shutil.rmtree(folder / "VOC")
    assert runner.run(**job)[0] == 0
    assert tree(folder) == content


def test_two_at_once(tmp_path, folder, runner):
    content = {f"VOC/{n}.jpg": bytes(1000) for n in range(500)}
    path = tar(tmp_path / "a", content)
    job = {"job": "unpack", "path": path, "folder": folder, "entries": ["VOC"]}
    with Runner(tmp_path) as second:
        one, two = runner.start(**job), second.start(**job)
        results = one.end(), two.end()
    assert [status for status, _ in results] == [0, 0], results
    assert sum("there already" in text for _, text in results) == 1
    assert tree(folder) == content


def test_a_full_disk(tmp_path, folder, ground, monkeypatch):
    class Full(io.FileIO):
        def write(self, data):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def full(path, mode="r"):
        return io.BufferedWriter(Full(path, mode)) if mode == "xb" else open(path, mode)

    monkeypatch.setattr(unpack, "open", full, raising=False)
    for kind in FORMATS:
        with pytest.raises(
            DataError, match=r"cannot unpack .* cannot be written \(No space left on device\)"
        ):
            unpack.unpack(archive(tmp_path, kind), folder, PurePosixPath, TOPS, LARGE)


def test_a_really_full_disk(tmp_path, folder, ground, runner):
    """The system lets no file grow above so many bytes."""
    path = archive(tmp_path, "tar")
    job = {"job": "unpack", "path": path, "folder": folder, "entries": TOPS}
    status, text = runner.run(**job, largest=5000)
    assert status == 1 and "cannot be written (File too large). Make room" in text


def test_a_place_that_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(DataError, match=r"cannot unpack .* cannot be written"):
        unpack.unpack(archive(tmp_path, "tar"), tmp_path / "file" / "data", PurePosixPath, TOPS, LARGE)


def test_nothing_here_imports_an_engine():
    code = "import sys, datakit.fetch, datakit.unpack; sys.exit(bool({'caffe', 'torch'} & set(sys.modules)))"
    assert (
        subprocess.run(
            [sys.executable, "-c", code], cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)}
        ).returncode
        == 0
    )
