"""The scripts data/*/prepare.py as one uses them, against a server that serves the archives badly."""

import io
import json
import os
import random
import re
import resource
import signal
import subprocess
import sys
import tarfile
import time
from pathlib import Path

import pytest
import small_sets
from http_server import STUB, Behaviour, serve

ROOT = small_sets.ROOT
SETS = {  # the archives that `all` gets, in their order
    "pascal": ("VOCtrainval_25-May-2011.tar", "benchmark.tgz"),
    "pascal-context": ("VOCtrainval_03-May-2010.tar", "trainval.tar.gz"),
    "sift-flow": ("SiftFlowDataset.zip",),
    "nyud": ("nyud.tar.gz",),
}


@pytest.fixture(scope="module")
def published(tmp_path_factory):
    """(sources without addresses, {archive: content})."""
    folder = tmp_path_factory.mktemp("published")
    sources = json.loads(small_sets.publish(folder).read_text())
    return sources, {name: (folder / name).read_bytes() for name in sources["archives"]}


class Here:
    """A data root, and the sources that a server gives it."""

    def __init__(self, folder, sources, server, mirrors=("",)):
        self.root, self.sources = folder / "data", folder / "sources.json"
        archives = {
            name: {**about, "urls": [server.url(f"{mirror}{name}") for mirror in mirrors]}
            for name, about in sources["archives"].items()
        }
        self.sources.write_text(json.dumps({**sources, "archives": archives}))

    def start(self, name, *arguments, largest=None):
        """Start data/<name>/prepare.py. ``largest``: bytes that a file may have, as if the disk were full then."""
        limit = largest and (lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (largest, largest)))
        command = [sys.executable, f"data/{name}/prepare.py", *map(str, arguments)]
        command += ["--data-root", str(self.root), "--sources", str(self.sources)]
        environment = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1"}
        return subprocess.Popen(command, cwd=ROOT, env=environment, preexec_fn=limit,
                                stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)  # fmt: skip

    def run(self, name, *arguments, **how):
        """... and wait for it: (exit status, what it printed)."""
        process = self.start(name, *arguments, **how)
        said, _ = process.communicate(timeout=60)
        assert "Traceback" not in said, said
        return process.returncode, said

    def content(self):
        """{path: content} of all files in the data root but downloads, and what is left of unpacking."""
        paths = (path for path in self.root.rglob("*") if path.is_file() and "downloads" not in path.parts)
        paths = (path for path in paths if not any(part.startswith(".unpacking-") for part in path.parts))
        return {str(path.relative_to(self.root)): path.read_bytes() for path in paths}


@pytest.fixture(scope="module")
def undisturbed(published, tmp_path_factory):
    """{set: what its `all` makes where nothing goes wrong}."""
    made = {}
    sources, files = published
    with serve(files) as server:
        for name in SETS:
            here = Here(tmp_path_factory.mktemp(name), sources, server)
            status, said = here.run(name, "all")
            assert status == 0 and "facts hold" in said, said
            made[name] = here.content()
    return made


@pytest.fixture
def serving(published, tmp_path):
    """A function: serve, as well as Behaviour says, all files; returns (server, Here)."""
    sources, files = published
    open_ones = []

    def begin(behaviour=None, changed=None, mirrors=("",), **more):
        about = json.loads(json.dumps(sources))
        for name, changes in more.get("about", {}).items():
            about["archives"][name].update(changes)
        served = {f"{mirror}{name}": content for mirror in mirrors for name, content in files.items()}
        context = serve({**served, **(changed or {})}, behaviour)
        server = context.__enter__()
        open_ones.append(context)
        return server, Here(tmp_path, about, server, mirrors)

    yield begin
    for context in open_ones:
        context.__exit__(None, None, None)


# ------------------------------------------------------------------ connections


@pytest.mark.parametrize("name", SETS)
def test_all_survives_dropped_connections(name, serving, undisturbed):
    behaviours = {archive: Behaviour(drop_after=6000, drops=1) for archive in SETS[name]}
    server, here = serving(behaviours)
    status, said = here.run(name, "all")
    assert status == 0 and "facts hold" in said, said
    assert here.content() == undisturbed[name]
    assert server.ranges(SETS[name][0]) == [None, "bytes=6000-"]


@pytest.mark.parametrize("name", SETS)
def test_all_survives_a_server_without_ranges(name, serving, undisturbed):
    behaviours = {archive: Behaviour(drop_after=6000, drops=1, ranges=False) for archive in SETS[name]}
    server, here = serving(behaviours)
    status, said = here.run(name, "all")
    assert status == 0, said
    assert here.content() == undisturbed[name]
    assert server.statuses(SETS[name][0]) == [200, 200]


def test_a_wrong_checksum_means_the_next_mirror(serving, published, undisturbed):
    archive = SETS["pascal"][1]
    wrong = bytearray(published[1][archive])
    wrong[1000] ^= 1
    server, here = serving(changed={f"bad/{archive}": bytes(wrong)}, mirrors=("bad/", "good/"))
    status, said = here.run("pascal", "all")
    assert status == 0 and here.content() == undisturbed["pascal"], said
    assert "its checksum is" in said and server.statuses(f"good/{archive}") == [200]


@pytest.mark.parametrize(
    "content", [STUB, b"<!DOCTYPE html><html><title>Login</title></html>"], ids=["stub", "page"]
)
def test_what_is_not_the_archive_ends_clearly(content, serving):
    archive = SETS["pascal"][0]
    _, here = serving(changed={f"{n}/{archive}": content for n in (1, 2)}, mirrors=("1/", "2/"))
    status, said = here.run("pascal", "all")
    assert status == 1 and said.count("bytes, not") >= 2 and "--from DIR" in said
    assert not (here.root / "pascal/VOC2011").exists()


def test_nothing_is_asked_of_the_network_again(serving, undisturbed):
    server, here = serving()
    assert here.run("sift-flow", "all")[0] == 0
    asked = len(server.log)
    for path in (here.root / "sift-flow/downloads").iterdir():
        path.unlink()
    status, said = here.run("sift-flow", "all")
    assert status == 0 and len(server.log) == asked and here.content() == undisturbed["sift-flow"], said


# ------------------------------------------------------------------ the end at any moment


@pytest.mark.parametrize(
    ("name", "kills"), [("pascal", 5), ("pascal-context", 3), ("sift-flow", 3), ("nyud", 3)]
)
def test_killed_at_random_moments_it_finishes_when_run_again(name, kills, serving, published, undisturbed):
    size = sum(len(published[1][archive]) for archive in SETS[name])
    server, here = serving(Behaviour(rate=size * 2 // 3))  # a second and a half of moments to be killed at
    moments = random.Random(name)
    ended = 0
    for _ in range(kills):
        process = here.start(name, "all")
        time.sleep(moments.uniform(0.3, 1.4))
        process.kill()
        said, _ = process.communicate()
        ended += process.returncode == 0
        assert "Traceback" not in said
        found = here.content()  # whatever bears its final name is whole
        named = [path for path in found if not Path(path).name.startswith(".")]
        assert [path for path in named if found[path] != undisturbed[name][path]] == []
    assert ended < kills  # else nothing was tested
    server.behaviour.rate = None
    status, said = here.run(name, "all")
    assert status == 0 and "facts hold" in said, said
    assert here.content() == undisturbed[name]


def test_ctrl_c_says_how_to_go_on_and_the_next_run_does(serving, undisturbed):
    archive = SETS["sift-flow"][0]
    server, here = serving({archive: Behaviour(rate=6_000)})
    process = here.start("sift-flow", "all")
    downloads, end = here.root / "sift-flow/downloads", time.time() + 20
    while time.time() < end and not any(path.stat().st_size > 4000 for path in downloads.glob("*.part")):
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    said, _ = process.communicate(timeout=20)
    assert process.returncode == 130 and "run the same command again" in said and "Traceback" not in said, (
        said
    )
    server.behaviour[archive].rate = None
    status, said = here.run("sift-flow", "all")
    assert status == 0 and here.content() == undisturbed["sift-flow"], said
    assert re.fullmatch(r"bytes=[1-9]\d*-", server.ranges(archive)[-1])


# ------------------------------------------------------------------ disks


@pytest.mark.parametrize(
    ("step", "largest"),
    [("get", 20_000), ("get", 80_000), ("prepare", 300)],
    ids=["download", "unpack", "prepare"],
)
def test_a_full_disk_is_told_and_what_was_begun_is_finished_later(
    step, largest, serving, undisturbed, published
):
    about = {}
    if largest == 80_000:  # room for the archive, none for a file in it
        content = io.BytesIO(published[1]["benchmark.tgz"])
        packed = io.BytesIO()
        with tarfile.open(fileobj=content) as old, tarfile.open(fileobj=packed, mode="w:gz") as new:
            for member in old:
                new.addfile(member, old.extractfile(member) if member.isreg() else None)
            large = tarfile.TarInfo("benchmark_RELEASE/dataset/img/large.jpg")
            large.size = 200_000
            new.addfile(large, io.BytesIO(bytes(200_000)))
        changes = {"size": len(packed.getvalue()), "digests": [], "unpacked": 400_000}
        about = {"about": {"benchmark.tgz": changes}, "changed": {"benchmark.tgz": packed.getvalue()}}
    _, here = serving(**about)
    if step == "prepare":
        assert here.run("pascal", "get")[0] == 0
    status, said = here.run("pascal", step, largest=largest)
    assert status == 1 and re.search("error: .*cannot.*(disk is full|File too large)", said, re.DOTALL), said
    if largest == 80_000:
        assert not (here.root / "sbdd/dataset").exists()
        return
    status, said = here.run("pascal", "all")
    assert status == 0 and here.content() == undisturbed["pascal"], said


def test_too_little_room_is_told_before_anything_is_asked_for(serving):
    about = {archive: {"unpacked": 10**16} for archive in SETS["pascal"]}
    server, here = serving(about=about)
    status, said = here.run("pascal", "all")
    assert status == 1 and "10000000.0 GB" in said and "choose another disk with --data-root" in said
    assert not server.log


# ------------------------------------------------------------------ archives that mean ill


def evil(kind):
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as tar:
        name = {"absolute": "/tmp/fcn-evil", "dots": "benchmark_RELEASE/dataset/../../../evil"}.get(kind)
        info = tarfile.TarInfo(name or "benchmark_RELEASE/dataset/img/evil.jpg")
        if kind == "link":
            info.type, info.linkname = tarfile.SYMTYPE, "/etc/passwd"
        elif kind == "bomb":
            info.size = 3 << 30
            tar.fileobj.write(info.tobuf())
            for _ in range(3):  # much less than it says; the size is enough to be refused
                tar.fileobj.write(bytes(1 << 20))
            return packed
        tar.addfile(info)
    return packed


@pytest.mark.parametrize("kind", ["absolute", "dots", "link", "bomb"])
def test_an_evil_archive_writes_nothing(kind, serving, tmp_path):
    content = evil(kind).getvalue()
    changes = {"size": len(content), "digests": [], "unpacked": 1000}
    _, here = serving(about={"benchmark.tgz": changes}, changed={"benchmark.tgz": content})
    status, said = here.run("pascal", "all", "sbd")
    assert status == 1 and "error: archive" in said, said
    assert set(here.content()) == set() and not Path("/tmp/fcn-evil").exists()
    assert not [path for path in tmp_path.rglob("*") if "evil" in path.name]


# ------------------------------------------------------------------ the synthetic twins


@pytest.fixture(scope="module")
def twins(tmp_path_factory):
    folder = tmp_path_factory.mktemp("twins")
    command = [sys.executable, "data/toy/prepare.py", "archives", str(folder)]
    subprocess.run(
        [*command, "pascal", "pascal-context", "sift-flow"], cwd=ROOT, check=True, capture_output=True
    )
    return json.loads((folder / "sources.json").read_text()), folder


@pytest.mark.parametrize(
    ("name", "parts"), [("pascal", ("voc2011", "sbd", "voc2012")), ("pascal-context", ()), ("sift-flow", ())]
)
def test_the_twins_are_got_prepared_and_hold_every_fact(name, parts, twins, tmp_path):
    sources, folder = twins
    with serve({archive: (folder / archive).read_bytes() for archive in sources["archives"]}) as server:
        here = Here(tmp_path, sources, server)
        status, said = here.run(name, "all", *parts)
    assert status == 0 and "FAIL" not in said and "facts hold" in said, said
