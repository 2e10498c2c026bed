"""Getting files: from bad servers, over interruptions of every kind, by hand, and with a full disk."""

import bz2
import contextlib
import errno
import fcntl
import gzip
import hashlib
import io
import json
import lzma
import os
import random
import re
import shutil
import signal
import tarfile
import threading
import time
import zipfile

import h5py
import numpy as np
import pytest
from http_server import PAGE, STUB, Behaviour, serve
from killing import INTERRUPTED, Runner
from PIL import Image
from scipy.io import savemat

from datakit import archives, fetch, kinds, locks, part
from datakit.archives import Archive, Sources
from files import DataError

NAME = "a.zip"
CONTENT = b"PK\x03\x04" + np.random.default_rng(0).bytes(300_000)
OTHER = CONTENT[:-1] + bytes([CONTENT[-1] ^ 1])  # of the same size
SIZE = len(CONTENT)


def sums(content, *algorithms):
    return tuple(f"{name}:{hashlib.new(name, content).hexdigest()}" for name in algorithms or ("sha256",))


KNOWN = {"digests": sums(CONTENT)}


@pytest.fixture(autouse=True)
def _no_long_pauses(monkeypatch):
    monkeypatch.setattr(fetch, "PAUSE", 0.002)


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "downloads"


@pytest.fixture(scope="module")
def runner(tmp_path_factory):
    with Runner(tmp_path_factory.mktemp("runs")) as runner:
        yield runner


def names(folder):
    return sorted(path.name for path in folder.iterdir()) if folder.exists() else []


def begun(folder, url, length, content=CONTENT, **more):
    """Leave in ``folder`` what a killed run would: the first ``length`` bytes of a file from ``url``."""
    folder.mkdir(exist_ok=True)
    (folder / f"{NAME}.part").write_bytes(content[:length])
    etag = '"' + hashlib.sha1(content).hexdigest() + '"'
    (folder / f"{NAME}.part.json").write_text(
        json.dumps({"url": url, "validator": etag, "total": SIZE, **more})
    )


# a good server


def test_it_arrives_whole_and_alone(folder, capsys):
    with serve({NAME: CONTENT}) as server:
        archive = Archive(NAME, (server.url(NAME),), SIZE, digests=sums(CONTENT))
        assert fetch.get(archive, folder) == folder / NAME
        assert (folder / NAME).read_bytes() == CONTENT
        first, last = capsys.readouterr().out.splitlines()
        assert first == f"{NAME}: 300.0 kB from {server.url(NAME)}"
        assert last == f"{NAME}: whole, 300.0 kB, its checksum is right: {folder / NAME}"
        assert names(folder) == [NAME]
        assert fetch.get(archive, folder) == folder / NAME
        assert len(server.log) == 1  # the second time nothing was asked for
    assert server.log[0][1]["Accept-Encoding"] == "identity"


def test_it_may_be_read_by_others(folder):
    with serve({NAME: CONTENT}) as server:
        fetch.get(Archive(NAME, (server.url(NAME),)), folder)
    assert (folder / NAME).stat().st_mode & 0o777 == 0o666 & ~_umask()


def _umask():
    mask = os.umask(0)
    os.umask(mask)
    return mask


@pytest.mark.parametrize("algorithm", ["md5", "sha1", "sha256"])
def test_any_of_the_checksums_is_enough(folder, algorithm):
    with serve({NAME: CONTENT}) as server:
        digests = (*sums(OTHER, "md5"), *sums(OTHER, "sha1"), *sums(CONTENT, algorithm))
        fetch.get(Archive(NAME, (server.url(NAME),), digests=digests), folder)
    assert (folder / NAME).read_bytes() == CONTENT
    assert names(folder) == [NAME] and len(server.log) == 1


def test_a_redirect_is_followed(folder):
    with serve({NAME: CONTENT}, {"old.zip": Behaviour(location=f"/{NAME}")}) as server:
        fetch.get(Archive(NAME, (server.url("old.zip"),), **KNOWN), folder)
    assert (folder / NAME).read_bytes() == CONTENT


@pytest.mark.parametrize("url", ["ftp://127.0.0.1/a", "file:///etc/passwd", "/etc/passwd", "h"])
def test_only_http(folder, url):
    with pytest.raises(DataError, match=r"a\.zip must begin with http"):
        fetch.get(Archive(NAME, (url,)), folder)
    assert not folder.exists()


def test_no_address_at_all(folder):
    with pytest.raises(DataError, match=r"there is no address for it(.|\n)*--from DIR"):
        fetch.get(Archive(NAME, (), page="http://page"), folder)


@pytest.mark.parametrize("digest", ["sha265:00", "00", "shake_128:00"])
def test_a_checksum_that_nobody_can_make(digest):
    with pytest.raises(DataError, match="ALGORITHM:HEX"):
        Sources(archives={NAME: {"digests": [digest]}}).archive(Archive(NAME, ()))


# bad connections


@pytest.mark.parametrize("known", [KNOWN, {"size": SIZE}, {}], ids=["checksum", "size", "nothing"])
@pytest.mark.parametrize("length", ["known", "chunked"])
def test_it_goes_on_after_each_drop(folder, known, length):
    with serve({NAME: CONTENT}, Behaviour(drop_after=70_000, length=length)) as server:
        fetch.get(Archive(NAME, (server.url(NAME),), **known), folder)
        assert (folder / NAME).read_bytes() == CONTENT
        places = [f"bytes={at}-" for at in range(70_000, SIZE, 70_000)]
        assert server.ranges(NAME)[: len(places) + 1] == [None, *places]
        assert all(headers["If-Range"] for _, headers, _ in server.log[1:])
    assert names(folder) == [NAME]


@pytest.mark.parametrize("known", [KNOWN, {"size": SIZE}, {}], ids=["checksum", "size", "nothing"])
def test_without_range_support_it_starts_over(folder, known, capsys):
    with serve({NAME: CONTENT}, Behaviour(drop_after=200_000, drops=2, ranges=False)) as server:
        fetch.get(Archive(NAME, (server.url(NAME),), **known), folder)
        assert server.statuses(NAME) == [200, 200, 200]
    assert (folder / NAME).read_bytes() == CONTENT
    assert capsys.readouterr().out.count("begins at the start again") == 2


def test_a_hopeless_server_is_given_up_and_the_part_stays(folder):
    with serve({NAME: CONTENT}, Behaviour(drop_after=200_000, ranges=False)) as server:
        archive = Archive(NAME, (server.url(NAME),), **KNOWN)
        with pytest.raises(DataError, match=r", 4 times\n.*200\.0 kB of it are here"):
            fetch.get(archive, folder)
        assert len(server.log) == fetch.TRIES
        server.behaviour.drop_after, server.behaviour.ranges = None, True
        fetch.get(archive, folder)
        assert server.ranges(NAME)[-1] == "bytes=200000-" and server.statuses(NAME)[-1] == 206
    assert (folder / NAME).read_bytes() == CONTENT and names(folder) == [NAME]


def test_drops_do_not_count_as_long_as_it_gets_further(folder):
    with serve({NAME: CONTENT}, Behaviour(drop_after=20_000)) as server:
        fetch.get(Archive(NAME, (server.url(NAME),), **KNOWN), folder)
        assert len(server.log) == 16 > fetch.TRIES


def test_a_silent_server_is_not_waited_for(folder, monkeypatch):
    monkeypatch.setattr(part, "TIMEOUT", (1, 0.1))
    with serve({NAME: CONTENT}, {NAME: Behaviour(pause=0.5)}) as server:
        with pytest.raises(DataError, match="it does not answer, 4 times"):
            fetch.get(Archive(NAME, (server.url(NAME),)), folder)


def test_a_server_that_falls_silent_in_the_middle(folder, monkeypatch):
    monkeypatch.setattr(part, "TIMEOUT", (1, 0.2))
    with serve({NAME: CONTENT}, Behaviour(drop_after=100_000, drops=1, hang=0.6)) as server:
        fetch.get(Archive(NAME, (server.url(NAME),), **KNOWN), folder)
        assert server.statuses(NAME) == [200, 206]
    assert (folder / NAME).read_bytes() == CONTENT


def test_nobody_there_then_the_next(folder):
    with serve({NAME: CONTENT}) as server:
        dead = "http://127.0.0.1:9/a.zip"
        fetch.get(Archive(NAME, (dead, server.url(NAME)), **KNOWN), folder)
    with pytest.raises(DataError, match=r"http://127\.0\.0\.1:9/a\.zip: Connection refused, 4 times"):
        fetch.get(Archive("b.zip", (dead,)), folder)


@pytest.mark.parametrize("status", [403, 404, 410])
def test_a_refusal_is_not_repeated(folder, status):
    ways = {"gone": Behaviour(status=status)}
    with serve({"gone": CONTENT, NAME: CONTENT}, ways) as server:
        fetch.get(Archive(NAME, (server.url("gone"), server.url(NAME)), **KNOWN), folder)
        assert server.statuses("gone") == [status]
        with pytest.raises(DataError, match=rf"/gone: HTTP {status} "):
            fetch.get(Archive("b.zip", (server.url("gone"),)), folder)


@pytest.mark.parametrize("status", [429, 500, 503])
def test_a_busy_server_is_asked_again(folder, status):
    with serve({NAME: CONTENT}, Behaviour(status=status, times=2)) as server:
        fetch.get(Archive(NAME, (server.url(NAME),), **KNOWN), folder)
        assert server.statuses(NAME) == [status, status, 200]


def test_nothing_tells_where_it_ends(folder):
    with serve({NAME: CONTENT}, Behaviour(length="none")) as server:
        with pytest.raises(DataError, match="neither size nor checksum is known"):
            fetch.get(Archive(NAME, (server.url(NAME),)), folder)
        fetch.get(Archive(NAME, (server.url(NAME),), **KNOWN), folder)
    assert (folder / NAME).read_bytes() == CONTENT


@pytest.mark.parametrize(
    "known, second", [(KNOWN, None), ({"size": SIZE}, "bytes=100000-")], ids=["checksum", "size"]
)
def test_the_end_comes_too_early_and_nobody_says_so(folder, known, second):
    with serve({NAME: CONTENT}, Behaviour(length="none", drop_after=100_000, drops=1)) as server:
        fetch.get(Archive(NAME, (server.url(NAME),), **known), folder)
        assert server.ranges(NAME) == [None, second]
    assert (folder / NAME).read_bytes() == CONTENT


# wrong content


def test_wrong_at_the_first_mirror_right_at_the_second(folder, capsys):
    with serve({"1.zip": OTHER, "2.zip": CONTENT}) as server:
        fetch.get(Archive(NAME, (server.url("1.zip"), server.url("2.zip")), SIZE, **KNOWN), folder)
        assert len(server.log) == 2
    assert (folder / NAME).read_bytes() == CONTENT and names(folder) == [NAME]
    assert f"1.zip: its checksum is {sums(OTHER)[0].replace(':', ' ')}" in capsys.readouterr().out


def test_wrong_everywhere_ends_clearly_and_leaves_nothing(folder):
    with serve({"1.zip": OTHER, "2.zip": OTHER[:-1], "3.zip": PAGE}) as server:
        urls = tuple(server.url(f"{n}.zip") for n in (1, 2, 3, 4))
        archive = Archive(NAME, urls, SIZE, digests=sums(CONTENT), page="http://page")
        with pytest.raises(DataError) as error:
            fetch.get(archive, folder)
    text = str(error.value)
    found, wanted = (sums(content)[0].replace(":", " ") for content in (OTHER, CONTENT))
    assert f"  {urls[0]}: its checksum is {found}, not {wanted}\n" in text
    assert f"  {urls[1]}: it has {SIZE - 1} bytes, not {SIZE}\n" in text
    assert f"  {urls[2]}: it has {len(PAGE)} bytes, not {SIZE}; it is a page of text" in text
    assert f"  {urls[3]}: HTTP 404 Not Found\n" in text
    assert archive.by_hand() in text and "http://page" in text and "--from DIR" in text
    assert names(folder) == []


@pytest.mark.parametrize("body", [STUB, PAGE], ids=["stub", "page"])
@pytest.mark.parametrize("name", ["a.zip", "a.tar", "a.tgz", "a.mat", "a.caffemodel"])
@pytest.mark.parametrize("known", [{}, {"size": SIZE}, {"at_least": 1000}, KNOWN], ids=str)
def test_a_text_is_not_taken_for_the_file(folder, body, name, known):
    with serve({name: body}) as server:
        with pytest.raises(DataError, match="it is a page of text, not the file; it begins"):
            fetch.get(Archive(name, (server.url(name),), **known), folder)
    assert names(folder) == []


def test_a_wrong_size_is_seen_before_anything_is_downloaded(folder):
    huge = CONTENT * 20
    with serve({NAME: huge}, Behaviour(rate=100_000)) as server:
        start = time.monotonic()
        with pytest.raises(DataError, match=f"it has {len(huge)} bytes, not {SIZE}"):
            fetch.get(Archive(NAME, (server.url(NAME),), SIZE), folder)
        assert time.monotonic() - start < 10  # all of it would take a minute


def test_without_end_it_stops_at_the_size(folder):
    with serve({NAME: CONTENT * 20}, Behaviour(length="chunked")) as server:
        with pytest.raises(DataError, match=rf"it has (\d+) bytes, not {SIZE}") as error:
            fetch.get(Archive(NAME, (server.url(NAME),), SIZE), folder)
        assert int(re.search(r"has (\d+) bytes", str(error.value))[1]) < 2 * SIZE
    assert names(folder) == []


def test_too_small_and_empty(folder):
    with serve({NAME: CONTENT, "empty": b""}) as server:
        with pytest.raises(DataError, match=f"it has {SIZE} bytes, and must have {SIZE + 1} at least"):
            fetch.get(Archive(NAME, (server.url(NAME),), at_least=SIZE + 1), folder)
        with pytest.raises(DataError, match="it has 0 bytes, and must have 1 at least"):
            fetch.get(Archive("a.caffemodel", (server.url("empty"),)), folder)
    assert names(folder) == []


def test_packed_on_the_way_is_refused(folder):
    with serve({NAME: CONTENT}, Behaviour(encoding="gzip")) as server:
        with pytest.raises(DataError, match=r"comes packed \(gzip\)"):
            fetch.get(Archive(NAME, (server.url(NAME),), **KNOWN), folder)


def test_a_packed_file_that_is_called_packed_stays_packed(folder):
    tgz = gzip.compress(CONTENT)
    with serve({"a.tgz": tgz}, Behaviour(encoding="label")) as server:
        fetch.get(Archive("a.tgz", (server.url("a.tgz"),), len(tgz), digests=sums(tgz)), folder)
    assert (folder / "a.tgz").read_bytes() == tgz


# going on with what is there


@pytest.mark.parametrize("known", [KNOWN, {"size": SIZE}, {}], ids=["checksum", "size", "nothing"])
def test_a_part_is_gone_on_with(folder, known):
    with serve({NAME: CONTENT}) as server:
        begun(folder, server.url(NAME), 100_000)
        fetch.get(Archive(NAME, (server.url(NAME),), **known), folder)
        assert server.ranges(NAME) == ["bytes=100000-"] and server.statuses(NAME) == [206]
    assert (folder / NAME).read_bytes() == CONTENT and names(folder) == [NAME]


def test_a_complete_part_is_not_asked_for(folder):
    with serve({NAME: CONTENT}) as server:
        begun(folder, server.url(NAME), SIZE)
        fetch.get(Archive(NAME, (server.url(NAME),), **KNOWN), folder)
        assert server.log == []
        begun(folder, server.url(NAME), SIZE, total=None)
        (folder / NAME).unlink()
        fetch.get(Archive(NAME, (server.url(NAME),), **KNOWN), folder)
        assert server.statuses(NAME) == [416]
    assert (folder / NAME).read_bytes() == CONTENT and names(folder) == [NAME]


@pytest.mark.parametrize(
    "way, asked",
    [
        (Behaviour(), [200]),  # the ETag is another: all of it at once
        (Behaviour(if_range=False), [206, 200]),  # seen by the ETag of the rest
        (Behaviour(weak=True), [200]),  # no strong one now
        (Behaviour(ranges=False), [200]),
    ],
)
@pytest.mark.parametrize("known", [True, False], ids=["checksum", "nothing"])
def test_the_file_has_changed_at_the_server(folder, way, asked, known):
    new = CONTENT[:4] + CONTENT[:3:-1]
    with serve({NAME: new}, way) as server:
        begun(folder, server.url(NAME), 100_000)
        fetch.get(Archive(NAME, (server.url(NAME),), digests=sums(new) if known else ()), folder)
        assert server.statuses(NAME) == asked
    assert (folder / NAME).read_bytes() == new


def test_a_weak_etag_is_none(folder):
    with serve({NAME: CONTENT}, Behaviour(weak=True, drop_after=100_000, drops=1)) as server:
        fetch.get(Archive(NAME, (server.url(NAME),)), folder)
        assert server.ranges(NAME) == [None, None]
    assert (folder / NAME).read_bytes() == CONTENT


def test_the_file_changes_while_it_is_got(folder):
    new = CONTENT[:4] + CONTENT[:3:-1]
    with serve({NAME: CONTENT}, Behaviour(drop_after=100_000, drops=1, change=new)) as server:
        fetch.get(Archive(NAME, (server.url(NAME),)), folder)
        assert server.statuses(NAME) == [200, 200]
    assert (folder / NAME).read_bytes() == new


def test_the_size_has_changed_and_there_is_no_etag(folder):
    new = CONTENT + b"more"
    with serve({NAME: new}, Behaviour(if_range=False, validators=False)) as server:
        begun(folder, server.url(NAME), 100_000)
        fetch.get(Archive(NAME, (server.url(NAME),)), folder)
        assert server.statuses(NAME) == [206, 200]
    assert (folder / NAME).read_bytes() == new


def test_a_mixture_fails_its_checksum_and_is_fetched_once_more(folder, capsys):
    with serve({NAME: CONTENT}, Behaviour(if_range=False, validators=False)) as server:
        begun(folder, server.url(NAME), 100_000, content=CONTENT[::-1], validator=None)
        fetch.get(Archive(NAME, (server.url(NAME),), **KNOWN), folder)
        assert server.ranges(NAME) == ["bytes=100000-", None]
    assert (folder / NAME).read_bytes() == CONTENT
    assert "once more from the start" in capsys.readouterr().out


def test_once_more_but_not_for_ever(folder):
    with serve({NAME: OTHER}, Behaviour(drop_after=100_000)) as server:
        with pytest.raises(DataError, match="its checksum is"):
            fetch.get(Archive(NAME, (server.url(NAME),), **KNOWN), folder)
        assert server.ranges(NAME).count(None) == 2
    assert names(folder) == []


def test_nothing_would_tell_a_mixture_so_it_starts_over(folder):
    with serve({NAME: CONTENT}, Behaviour(validators=False)) as server:
        begun(folder, server.url(NAME), 100_000, content=CONTENT[::-1], validator=None)
        fetch.get(Archive(NAME, (server.url(NAME),), SIZE), folder)
        assert server.ranges(NAME) == [None]
    assert (folder / NAME).read_bytes() == CONTENT


@pytest.mark.parametrize("about", ["", "{", "[1]", "{}", '{"url": 3}'])
def test_a_part_of_which_nothing_is_known_is_not_used(folder, about):
    with serve({NAME: CONTENT}) as server:
        begun(folder, server.url(NAME), 100_000, content=CONTENT[::-1])
        (folder / f"{NAME}.part.json").write_text(about)
        fetch.get(Archive(NAME, (server.url(NAME),)), folder)
    assert (folder / NAME).read_bytes() == CONTENT and names(folder) == [NAME]


def test_a_part_longer_than_the_file(folder):
    with serve({NAME: CONTENT}) as server:
        begun(folder, server.url(NAME), SIZE + 9, content=CONTENT + b"x" * 9)
        fetch.get(Archive(NAME, (server.url(NAME),), **KNOWN), folder)
        assert server.statuses(NAME)[-1] == 200
    assert (folder / NAME).read_bytes() == CONTENT


def test_another_mirror_goes_on_if_a_checksum_will_tell(folder):
    ways = {"1.zip": Behaviour(drop_after=100_000, ranges=False)}
    for known, ranges in ((KNOWN, ["bytes=100000-"]), ({}, [None])):
        with serve({"1.zip": CONTENT, "2.zip": CONTENT}, ways) as server:
            fetch.get(Archive(NAME, (server.url("1.zip"), server.url("2.zip")), **known), folder)
            assert server.ranges("2.zip") == ranges
        assert (folder / NAME).read_bytes() == CONTENT
        (folder / NAME).unlink()


def test_the_mirror_that_was_begun_goes_on_first(folder):
    with serve({"1.zip": CONTENT, "2.zip": CONTENT}) as server:
        begun(folder, server.url("2.zip"), 100_000)
        fetch.get(Archive(NAME, (server.url("1.zip"), server.url("2.zip"))), folder)
        assert [path for path, _, _ in server.log] == ["2.zip"]


# what is there under the name already


def test_a_wrong_file_under_the_name_is_moved_aside_and_kept(folder, capsys):
    folder.mkdir()
    with serve({NAME: CONTENT}) as server:
        archive = Archive(NAME, (server.url(NAME),), **KNOWN)
        for expected in (["a.zip", "a.zip.bad"], ["a.zip", "a.zip.bad", "a.zip.bad2"]):
            (folder / NAME).write_bytes(expected[-1].encode())
            fetch.get(archive, folder)
            assert names(folder) == expected
            assert (folder / NAME).read_bytes() == CONTENT
            assert (folder / expected[-1]).read_bytes() == expected[-1].encode()
    assert "is called a.zip.bad2 now" in capsys.readouterr().out


@pytest.mark.parametrize("content", [PAGE, b"", b"\0" * 2000])
def test_one_put_there_by_hand_must_at_least_look_right(folder, content):
    folder.mkdir()
    (folder / NAME).write_bytes(content)
    with serve({NAME: CONTENT}) as server:
        fetch.get(Archive(NAME, (server.url(NAME),)), folder)
    assert (folder / NAME).read_bytes() == CONTENT


def test_a_folder_under_the_name(folder):
    (folder / NAME).mkdir(parents=True)
    with pytest.raises(DataError, match="is a folder"):
        fetch.get(Archive(NAME, ("http://127.0.0.1:9/",)), folder)


def test_leftovers_go_and_what_is_anybody_elses_stays(folder):
    folder.mkdir()
    old, young, full = (folder / name for name in ("tmpabcd_123", "tmpyoung_12", "tmp_weights"))
    given = folder / "tmpgiven_12"
    for path in (old, young, given):
        path.touch()
    full.write_bytes(b"mine")
    for path in (old, full):
        os.utime(path, (1, 1))
    given.write_bytes(CONTENT)
    with serve({NAME: CONTENT}) as server:
        begun(folder, server.url(NAME), SIZE, given=given.name)
        fetch.get(Archive(NAME, (server.url(NAME),)), folder)
    assert names(folder) == [NAME, full.name, young.name]


# by hand


@pytest.fixture
def nobody():
    """A server that must not be asked."""
    with serve({NAME: CONTENT}) as server:
        yield server
        assert server.log == []


@pytest.fixture
def given(tmp_path):
    path = tmp_path / "given"
    path.mkdir()
    return path


@pytest.mark.parametrize("known", [KNOWN, {"size": SIZE}, {}], ids=["checksum", "size", "nothing"])
def test_by_hand_it_is_used_where_it_lies(folder, given, nobody, known):
    (given / NAME).write_bytes(CONTENT)
    archive = Archive(NAME, (nobody.url(NAME),), **known)
    assert fetch.get(archive, folder, by_hand=given) == given / NAME
    assert fetch.get(archive, folder, by_hand=given / NAME) == given / NAME
    assert not folder.exists() and names(given) == [NAME]


@pytest.mark.parametrize("known", [KNOWN, {"size": SIZE}], ids=["checksum", "size"])
def test_by_hand_any_name_will_do_if_it_can_be_known(folder, given, nobody, known):
    (given / "a (1).zip").write_bytes(CONTENT)
    (given / "b.zip").write_bytes(CONTENT[:-1])
    (given / NAME).write_bytes(PAGE)  # under its own name there is something else
    archive = Archive(NAME, (nobody.url(NAME),), **known)
    assert fetch.get(archive, folder, by_hand=given) == given / "a (1).zip"
    assert fetch.get(archive, folder, by_hand=given / "a (1).zip") == given / "a (1).zip"


def test_by_hand_the_name_must_match_where_nothing_else_can(folder, given, nobody):
    (given / "b.zip").write_bytes(CONTENT)
    archive = Archive(NAME, (nobody.url(NAME),))
    with pytest.raises(DataError, match=r"given does not hold a\.zip\. With --from nothing is downloaded"):
        fetch.get(archive, folder, by_hand=given)
    with pytest.raises(DataError, match=r"b\.zip is not a\.zip: neither size nor checksum is known"):
        fetch.get(archive, folder, by_hand=given / "b.zip")


@pytest.mark.parametrize(
    "content, known, fault",
    [
        (OTHER, KNOWN, "its checksum is sha256"),
        (CONTENT[:-1], {"size": SIZE}, f"it has {SIZE - 1} bytes, not {SIZE}"),
        (PAGE, {}, "it is a page of text"),
    ],
)
def test_by_hand_a_wrong_file_is_told(folder, given, nobody, content, known, fault):
    (given / NAME).write_bytes(content)
    archive = Archive(NAME, (nobody.url(NAME),), **known)
    for path in (given, given / NAME):
        with pytest.raises(DataError) as error:
            fetch.get(archive, folder, by_hand=path)
        assert f"{given / NAME} is not {NAME}: {fault}" in str(error.value)
        assert archive.by_hand() in str(error.value)


def test_by_hand_what_was_downloaded_before_counts(folder, given, nobody):
    folder.mkdir()
    (folder / NAME).write_bytes(CONTENT)
    archive = Archive(NAME, (nobody.url(NAME),), **KNOWN)
    assert fetch.get(archive, folder, by_hand=given) == folder / NAME


def test_by_hand_nothing_there(folder, given, nobody):
    with pytest.raises(DataError, match="nowhere does not exist"):
        fetch.get(Archive(NAME, (nobody.url(NAME),)), folder, by_hand=given / "nowhere")


# the disk


def free(monkeypatch, size):
    usage = shutil.disk_usage("/")._replace(free=size)
    monkeypatch.setattr(fetch.shutil, "disk_usage", lambda path: usage)


@pytest.mark.parametrize(
    "known, room, short",
    [
        ({"size": SIZE}, 0, SIZE),
        ({"size": SIZE}, 10**9, 10**9 + SIZE),
        ({}, 0, SIZE),
        ({"at_least": 9}, 5, SIZE + 5),
    ],
)
def test_free_disk_is_looked_at_first(folder, monkeypatch, known, room, short):
    with serve({NAME: CONTENT}) as server:
        archive = Archive(NAME, (server.url(NAME),), **known)
        free(monkeypatch, short - 1)
        with pytest.raises(DataError, match=rf"GB free; a\.zip needs {short / 1e9:.2f} GB: .*--data-root"):
            fetch.get(archive, folder, room=room)
        assert names(folder) == []
        free(monkeypatch, short)
        fetch.get(archive, folder, room=room)
    assert names(folder) == [NAME]


def test_only_what_is_missing_needs_room(folder, monkeypatch):
    with serve({NAME: CONTENT}) as server:
        begun(folder, server.url(NAME), SIZE - 1000)
        free(monkeypatch, 1000)
        path = fetch.get(Archive(NAME, (server.url(NAME),), SIZE), folder)
        free(monkeypatch, 7)
        archive = Archive(NAME, (server.url(NAME),), SIZE)
        assert fetch.get(archive, folder, room=7) == path  # it is there: only what is unpacked
        for by_hand in (None, path):
            with pytest.raises(DataError, match="8 bytes to unpack"):
                fetch.get(archive, folder, by_hand, room=8)


def test_the_disk_becomes_full_and_the_part_stays(folder, runner):
    """Really: the system writes no more than so many bytes."""
    with serve({NAME: CONTENT}) as server:
        about = {"name": NAME, "urls": [server.url(NAME)], "size": SIZE}
        status, text = runner.run(job="get", folder=folder, archive=about, largest=100_000)
        assert status == 1
        assert (
            f"cannot write {folder / NAME}.part: the disk is full. It has 100.0 kB so far, which stays"
            in text
        )
        assert names(folder) == [f"{NAME}.part", f"{NAME}.part.json"]
        assert runner.run(job="get", folder=folder, archive=about)[0] == 0
        assert server.ranges(NAME) == [None, "bytes=100000-"]
    assert (folder / NAME).read_bytes() == CONTENT and names(folder) == [NAME]


@pytest.mark.parametrize("what", ["lock", "note", "bytes", "link"])
def test_no_space_left_at_any_of_the_writes(folder, monkeypatch, what):
    def full(*args, **kwargs):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with serve({NAME: CONTENT}) as server, monkeypatch.context() as patch:
        archive = Archive(NAME, (server.url(NAME),), **KNOWN)
        if what == "lock":
            patch.setattr(locks.os, "open", full)
        elif what == "note":
            patch.setattr(part.Part, "note", full)
        elif what == "bytes":
            patch.setattr(part.os, "fsync", full)
        else:
            patch.setattr(fetch.os, "link", full)
            patch.setattr(fetch.shutil, "copyfile", full)
        with pytest.raises(DataError, match=r"cannot write(.|\n)*(the disk is full|No space left)"):
            fetch.get(archive, folder)
        patch.undo()
        patch.setattr(fetch, "PAUSE", 0)
        fetch.get(archive, folder)
    assert (folder / NAME).read_bytes() == CONTENT and names(folder) == [NAME]


def test_a_disk_without_links_and_locks(folder, monkeypatch):
    def cannot(*args):
        raise OSError(errno.EOPNOTSUPP, "not supported")

    monkeypatch.setattr(fetch.os, "link", cannot)
    monkeypatch.setattr(fcntl, "flock", cannot)
    with serve({NAME: CONTENT}) as server:
        digests = sums(OTHER) + sums(CONTENT)
        fetch.get(Archive(NAME, (server.url(NAME),), digests=digests), folder)
        assert len(server.log) == 1
    assert (folder / NAME).read_bytes() == CONTENT


def test_a_folder_that_cannot_be_written(folder, monkeypatch):
    folder.mkdir()

    def forbidden(*args):
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(locks.os, "open", forbidden)
    archive = Archive(NAME, ("http://127.0.0.1:9/",), **KNOWN)
    with pytest.raises(DataError, match=r"cannot write to .*Permission denied"):
        fetch.get(archive, folder)
    (folder / NAME).write_bytes(CONTENT)
    assert fetch.get(archive, folder) == folder / NAME


# killed, interrupted, and two at once


def settle(folder):
    """Let a minute pass for what a dead run left empty: so long it might be another's, who is alive."""
    for path in folder.glob("tmp*"):
        assert path.stat().st_size == 0 or path.samefile(folder / f"{NAME}.part")
        os.utime(path, (1, 1))


@pytest.mark.parametrize(
    "how, known, start",
    [
        ("kill", True, "nothing"),
        ("kill", True, "wrong file"),
        ("kill", False, "part"),
        ("interrupt", True, "part"),
        ("interrupt", False, "nothing"),
    ],
)
def test_stopped_before_each_operation_on_files_and_run_again(folder, runner, how, known, start):
    stops = 0
    with serve({NAME: CONTENT}) as server:
        about = {
            "name": NAME,
            "urls": [server.url(NAME)],
            "digests": sums(OTHER) + sums(CONTENT) if known else (),
        }
        for at in range(1, 100):
            shutil.rmtree(folder, ignore_errors=True)
            if start == "part":
                begun(folder, server.url(NAME), 100_000)
            if start == "wrong file":
                folder.mkdir()
                (folder / NAME).write_bytes(PAGE)
            status, text = runner.run(job="get", folder=folder, archive=about, at=at, how=how)
            if status == 0:
                break
            assert status == (-signal.SIGKILL if how == "kill" else INTERRUPTED), text
            stops += 1
            if (folder / NAME).exists() and (folder / NAME).read_bytes() != CONTENT:
                assert start == "wrong file" and (folder / NAME).read_bytes() == PAGE
            settle(folder) if folder.exists() else None
            status, text = runner.run(job="get", folder=folder, archive=about)
            assert status == 0, text
            assert (folder / NAME).read_bytes() == CONTENT
            assert names(folder) == [NAME, *([f"{NAME}.bad"] if start == "wrong file" else [])]
    assert stops >= 10


def part_size(folder):
    part = folder / f"{NAME}.part"
    return part.stat().st_size if part.exists() else 0


def test_killed_at_sixty_moments_over_a_slow_server(folder, runner):
    random.seed(6)
    content = CONTENT * 10
    with serve({NAME: content}, Behaviour(rate=6_000_000)) as server:
        about = {"name": NAME, "urls": [server.url(NAME)], "digests": sums(content)}
        stopped, sizes = 0, []
        while stopped < 60:
            before = part_size(folder)
            run = runner.start(job="get", folder=folder, archive=about)
            late = time.monotonic() + 2
            while stopped % 2 and part_size(folder) == before and time.monotonic() < late:
                time.sleep(0.002)  # every other time it gets something first
            time.sleep(random.uniform(0, 0.05))
            sign = random.choice([signal.SIGKILL, signal.SIGKILL, signal.SIGINT])
            with contextlib.suppress(ProcessLookupError):
                os.kill(run.pid, sign)
            status, text = run.end()
            assert status in (0, -signal.SIGKILL, -signal.SIGINT, INTERRUPTED), text
            stopped += status != 0
            if (folder / NAME).exists():
                assert (folder / NAME).read_bytes() == content
                (folder / NAME).unlink()  # it was done: from the start
            sizes.append(part_size(folder))
        assert len({size for size in sizes if size}) > 5  # it was stopped in the middle, again and again
        if folder.exists():
            settle(folder)
        assert runner.run(job="get", folder=folder, archive=about)[0] == 0
        assert 206 in server.statuses(NAME)
    assert (folder / NAME).read_bytes() == content and names(folder) == [NAME]


def test_two_at_once_get_it_once(folder, tmp_path, runner):
    with serve({NAME: CONTENT}, Behaviour(rate=100_000)) as server, Runner(tmp_path) as second:
        about = {"name": NAME, "urls": [server.url(NAME)], "digests": sums(CONTENT)}
        one = runner.start(job="get", folder=folder, archive=about)
        while not server.log:
            time.sleep(0.01)
        two = second.start(job="get", folder=folder, archive=about)
        while "waiting" not in two.output.read_text():
            time.sleep(0.01)
        server.behaviour.rate = None
        (status, first), (other_status, other) = one.end(), two.end()
        assert (status, other_status) == (0, 0), first + other
        assert f"waiting for process {one.pid} on " in other and "is getting a.zip" in other
        assert server.statuses(NAME) == [200]
    assert (folder / NAME).read_bytes() == CONTENT and names(folder) == [NAME]


def test_who_waits_goes_on_when_the_other_is_killed(folder, tmp_path, runner):
    with serve({NAME: CONTENT}, Behaviour(rate=100_000)) as server, Runner(tmp_path) as second:
        about = {"name": NAME, "urls": [server.url(NAME)], "digests": sums(CONTENT)}
        one = runner.start(job="get", folder=folder, archive=about)
        while not (folder / f"{NAME}.part").exists() or (folder / f"{NAME}.part").stat().st_size < 65_000:
            time.sleep(0.01)
        two = second.start(job="get", folder=folder, archive=about)
        while "waiting" not in two.output.read_text():
            time.sleep(0.01)
        server.behaviour.rate = None
        os.kill(one.pid, signal.SIGKILL)
        assert one.end()[0] == -signal.SIGKILL and two.end()[0] == 0
        assert server.statuses(NAME) == [200, 206]
    assert (folder / NAME).read_bytes() == CONTENT and names(folder) == [NAME]


def test_many_at_a_lock_are_alone_in_turn(tmp_path):
    inside, most, rounds = 0, 0, []

    def work():
        nonlocal inside, most
        for _ in range(20):
            with locks.alone(tmp_path / "x.lock", "testing") as held:
                inside += 1
                most = max(most, inside)
                time.sleep(0.0005)
                inside -= 1
                rounds.append(held)

    threads = [threading.Thread(target=work) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == 1 and rounds == [True] * 120 and list(tmp_path.iterdir()) == []


# what a file is


def _tar(mode):
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode=mode) as tar:
        tar.addfile(tarfile.TarInfo("a"), io.BytesIO())
    return file.getvalue()


def _zip():
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as made:
        made.writestr("a", "b")
    return file.getvalue()


def _mat(version):
    file = io.BytesIO()
    savemat(file, {"a": np.ones(3)}, format=version)
    return file.getvalue()


def _hdf5(**options):
    file = io.BytesIO()
    with h5py.File(file, "w", **options) as made:
        made["a"] = np.ones(3)
    return file.getvalue()


def _image(kind):
    file = io.BytesIO()
    Image.new("RGB", (8, 8)).save(file, kind)
    return file.getvalue()


MADE = {
    "tar": _tar("w"),
    "gzip": gzip.compress(b"a"),
    "bzip2": bz2.compress(b"a"),
    "xz": lzma.compress(b"a"),
    "zip": _zip(),
    "HDF5": _hdf5(),
    "HDF5 ": _hdf5(userblock_size=512),
    "MATLAB": _mat("5"),
    "PNG": _image("PNG"),
    "JPEG": _image("JPEG"),
    "": b"\x0a\x05VGG16\x12\x03abc" * 200,
}
FITTING = {
    "a.tar": {"tar", "gzip", "bzip2", "xz", "zip"},
    "a.tar.gz": {"tar", "gzip", "bzip2", "xz", "zip"},
    "a.tgz": {"tar", "gzip", "bzip2", "xz", "zip"},
    "A.ZIP": {"tar", "gzip", "bzip2", "xz", "zip"},
    "a.mat": {"HDF5", "HDF5 ", "MATLAB"},
    "a.h5": {"HDF5", "HDF5 "},
    "a.png": {"PNG"},
    "a.caffemodel": set(MADE),
}


@pytest.mark.parametrize("name", FITTING)
@pytest.mark.parametrize("made", MADE)
def test_kinds(name, made):
    head = MADE[made][: kinds.HEAD]
    assert kinds.kind(head) == made.strip()
    assert (kinds.unlike(name, head) == "") == (made in FITTING[name])


def test_texts_may_be_texts_but_not_pages():
    assert kinds.unlike("a.txt", b"2007_000032\n" * 90) == ""
    assert kinds.unlike("a.prototxt", "name: 'é'".encode()) == ""
    assert "page of text" in kinds.unlike("a.txt", PAGE)
    assert "page of text" in kinds.unlike("a.caffemodel", ("é" * 600).encode()[: kinds.HEAD - 1])
    assert kinds.unlike("a.caffemodel", b"") == ""


def test_amounts():
    assert [archives.amount(n) for n in (134, 9999, 5_000_000, 1_999_639_040)] == [
        "134 bytes",
        "10.0 kB",
        "5.0 MB",
        "2.0 GB",
    ]
