"""The table of published weight files, and the scripts that get and check them: narrow nets, from a local server."""

import hashlib
import importlib.util
import json
import os
import re
import runpy
import shutil
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import caffe
import numpy as np
import pytest
from caffe.proto import caffe_pb2
from google.protobuf import text_format
from model_dirs import ALL, ROOT, narrow_prototxts, random_weights

import infer
import nets
from datakit import command
from datakit.archives import Sources
from datakit.checks import Table
from datakit.weights import ALEXNET, BERKELEY, CLASSIFIERS, OXFORD, RELEASED
from reproduction.workshop import parents_of

PUBLISHED = {**CLASSIFIERS, "alexnet": ALEXNET, **RELEASED}
STUB = b"version https://git-lfs.github.com/spec/v1\n".ljust(134, b".")  # what a server once sent for VGG16
CAFFENET = CLASSIFIERS["caffenet"].name
FCN8S = RELEASED["voc-fcn8s"].name
DATA = ROOT / "data"


# the table


def parameters(prototxt):
    """How many numbers the weights of a net are."""
    return sum(blob.count for blobs in caffe.Net(str(prototxt), caffe.TEST).params.values() for blob in blobs)


@pytest.mark.parametrize("directory", RELEASED)
def test_a_released_file_is_as_large_as_the_parameters_of_its_net(directory):
    assert RELEASED[directory].at_least == 4 * parameters(ROOT / directory / "deploy.prototxt")


def test_fourteen_nets_were_released_each_under_its_own_name():
    assert len(RELEASED) == len({file.name for file in RELEASED.values()}) == 14
    assert {name for name in RELEASED if (ROOT / name / "solve.py").is_file()} == set(RELEASED)
    assert "nyud-fcn32s-color-d" not in RELEASED  # the only one of the release without a file


@pytest.mark.parametrize("name", CLASSIFIERS)
def test_a_classifier_s_file_holds_its_net(name):
    """Four bytes a parameter, and a few kB of names and shapes; GoogLeNet's has two heads more."""
    needed = 4 * parameters(ROOT / "ilsvrc-nets" / f"{name}.prototxt")
    if name == "googlenet":
        assert needed < CLASSIFIERS[name].size < 2 * needed
    else:
        assert needed < CLASSIFIERS[name].size < needed + 16384


@pytest.mark.parametrize("name", PUBLISHED)
def test_addresses_and_checksums_are_well_formed(name):
    file = PUBLISHED[name]
    assert file.urls[0] == (OXFORD if name.startswith("vgg") else BERKELEY) + file.name
    for url in file.urls:
        assert re.fullmatch(r"https?://[\w.~/-]+\.caffemodel", url)
    for digest in file.digests:
        algorithm, _, value = digest.partition(":")
        assert re.fullmatch(f"[0-9a-f]{{{2 * hashlib.new(algorithm).digest_size}}}", value)
    # a file that sits in none of the scripts' lists is known by checksum, or at least by its least size
    assert file.digests or file.at_least > 200_000_000


@pytest.mark.parametrize("name", ALL)
def test_every_solve_py_names_its_parents_files_as_the_table_does(name):
    for parent in parents_of(name):
        if parent.name.removesuffix("-fcn") in CLASSIFIERS:
            assert parent.how == f"python ilsvrc-nets/prepare.py all {parent.name.removesuffix('-fcn')}"
            assert parent.files == (f"../ilsvrc-nets/{parent.name}.caffemodel",)
        elif parent.name in RELEASED:
            assert parent.files[1:] == (f"../{parent.name}/{RELEASED[parent.name].name}",)
            assert parent.how.endswith(f"python data/released/prepare.py get {parent.name}")
        else:
            assert len(parent.files) == 1 and "released" not in parent.how


# the scripts, in a tree of narrow nets


class Server:
    """Serves ``files`` (path → bytes), takes down in ``asked`` what is asked for; use as a context manager."""

    def __init__(self):
        self.files, self.asked = {}, []
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self):
                outer.asked.append(self.path)
                content = outer.files.get(self.path)
                self.send_response(404 if content is None else 200)
                self.send_header("Content-Length", str(len(content or b"")))
                self.end_headers()
                self.wfile.write(content or b"")

            def do_HEAD(self):
                self.send_error(405)

            def log_message(self, *_):
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.address = f"http://127.0.0.1:{self.server.server_port}"

    def __enter__(self):
        self.thread = threading.Thread(target=self.server.serve_forever, args=(0.05,))
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.server.shutdown()
        self.server.server_close()
        self.thread.join()


@pytest.fixture
def server():
    with Server() as made:
        yield made


def write(path, param):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text_format.MessageToString(param))


@pytest.fixture(scope="module")
def originals(tmp_path_factory):
    """The narrow nets and random weights for them: copied for each test."""
    root = tmp_path_factory.mktemp("originals")
    made = runpy.run_path(str(ROOT / "ilsvrc-nets" / "net.py"))["prototxts"](
        recipe=nets.Recipe(divide=16), classes=10
    )
    for stem, param in made.items():
        write(root / "ilsvrc-nets" / f"{stem}.prototxt", param)
    for path, text in (
        ("ilsvrc-nets", "prepare.py"),
        ("ilsvrc-nets", "convert.py"),
        ("data/released", "prepare.py"),
    ):
        (root / path).mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / path / text, root / path / text)
    for directory in ("voc-fcn8s", "voc-fcn8s-atonce"):
        write(root / directory / "deploy.prototxt", narrow_prototxts(directory)["deploy"])
    weights = root / "weights"
    weights.mkdir()
    random_weights(root / "ilsvrc-nets" / "caffenet.prototxt", weights / CAFFENET, without=())
    random_weights(
        root / "ilsvrc-nets" / "googlenet.prototxt", weights / CLASSIFIERS["googlenet"].name, without=()
    )
    random_weights(root / "voc-fcn8s" / "deploy.prototxt", weights / FCN8S, without=())
    return root


class Tree:
    """A copy of the tree whose scripts run in this process."""

    def __init__(self, root, monkeypatch):
        self.root, self.monkeypatch = root, monkeypatch
        self.classifiers, self.released = root / "ilsvrc-nets", root / "data" / "released"

    def weights(self, name):
        return (self.root / "weights" / name).read_bytes()

    def script(self, folder):
        """The class in ``folder``/prepare.py of this tree, and its documentation."""
        self.monkeypatch.setattr(sys, "path", list(sys.path))
        spec = importlib.util.spec_from_file_location("prepare", folder / "prepare.py")
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        return getattr(module, "Released" if folder == self.released else "Classifiers"), module.__doc__

    def run(self, folder, *argv):
        """The exit status of ``folder``/prepare.py with these arguments."""
        return command.main(*self.script(folder), [str(each) for each in argv])

    def sources(self, **archives):
        """A file for --sources in which these (file name → fields) are other than published."""
        path = self.root / "sources.json"
        path.write_text(json.dumps({"archives": archives}))
        return path

    def check(self, folder, part, content=None):
        """The table of ``part``'s check, after its file was given this ``content``, which counts as published."""
        cls, _ = self.script(folder)
        archives = {}
        if content is not None:
            (cls(DATA).file(part)).write_bytes(content)
            archives = {cls.published[part].name: known(content)}
        table = Table(part)
        cls(DATA, Sources(archives=archives)).check(part, table)
        return table

    def files(self, folder):
        return {path.name for path in folder.iterdir() if path.suffix not in (".prototxt", ".py")} - {
            "__pycache__"
        }


def known(content):
    """What tells a file of this ``content``."""
    return {"size": len(content), "digests": [f"sha256:{hashlib.sha256(content).hexdigest()}"]}


@pytest.fixture
def tree(originals, tmp_path, monkeypatch):
    monkeypatch.delenv("FCN_DATA", raising=False)
    root = tmp_path / "tree"
    shutil.copytree(originals, root)
    return Tree(root, monkeypatch)


def test_a_classifier_is_got_made_convolutional_and_checked_and_then_left_alone(tree, server, capfd):
    content = tree.weights(CAFFENET)
    server.files["/c"] = content
    sources = tree.sources(**{CAFFENET: {"urls": [f"{server.address}/c"], **known(content)}})
    args = ("all", "caffenet", "--sources", sources)
    assert tree.run(tree.classifiers, *args) == 0
    assert tree.files(tree.classifiers) == {CAFFENET, "caffenet-fcn.caffemodel"}
    assert (tree.classifiers / CAFFENET).read_bytes() == content
    said = capfd.readouterr().out
    assert "equal to" in said and "all 7 facts hold" in said
    # its values, in the shapes of convolutions
    fcn = caffe.Net(
        str(tree.classifiers / "caffenet-fcn.prototxt"),
        caffe.TEST,
        weights=str(tree.classifiers / "caffenet-fcn.caffemodel"),
    )
    old = caffe.Net(
        str(tree.classifiers / "caffenet.prototxt"), caffe.TEST, weights=str(tree.classifiers / CAFFENET)
    )
    assert fcn.params["fc6"][0].data.ndim == 4
    np.testing.assert_array_equal(fcn.params["fc6"][0].data.ravel(), old.params["fc6"][0].data.ravel())

    before = {path: path.stat().st_mtime_ns for path in tree.classifiers.iterdir()}
    asked = list(server.asked)
    assert tree.run(tree.classifiers, *args) == 0
    assert server.asked == asked
    assert {path: path.stat().st_mtime_ns for path in tree.classifiers.iterdir()} == before
    assert "nothing to do" in capfd.readouterr().out


def test_a_released_net_goes_where_infer_looks_for_it_wherever_the_data_are(tree, server, tmp_path, capsys):
    content = tree.weights(FCN8S)
    server.files["/f"] = content
    sources = tree.sources(**{FCN8S: {"urls": [f"{server.address}/f"], **known(content)}})
    tree.monkeypatch.setenv("FCN_DATA", str(tmp_path / "elsewhere"))
    assert tree.run(tree.released, "all", "--sources", sources, "--data-root", tmp_path / "other") == 0
    place = tree.root / "voc-fcn8s" / FCN8S
    assert place.read_bytes() == content and infer.find_weights(tree.root / "voc-fcn8s") == place
    assert not (tmp_path / "elsewhere").exists() and not (tmp_path / "other").exists()
    assert tree.files(tree.root / "voc-fcn8s") == {FCN8S} and tree.files(tree.released) == set()
    said = capsys.readouterr().out
    assert "voc-fcn8s: nothing to prepare" in said and "all 3 facts hold" in said


def test_a_stub_is_refused_and_the_next_mirror_asked(tree, server, capsys):
    content = tree.weights(FCN8S)
    server.files.update({"/stub": STUB, "/mirror": content})
    urls = [f"{server.address}/{name}" for name in ("gone", "stub", "mirror")]
    sources = tree.sources(**{FCN8S: {"urls": urls, **known(content)}})
    assert tree.run(tree.released, "get", "--sources", sources) == 0
    assert (tree.root / "voc-fcn8s" / FCN8S).read_bytes() == content
    assert set(server.asked) == {"/gone", "/stub", "/mirror"}
    capsys.readouterr()


@pytest.mark.parametrize(
    ("folder", "part", "rule"),
    [
        ("classifiers", "vgg16", "not 553432081"),  # its size is known
        ("released", "voc-fcn8s-atonce", "537962108"),  # only its least size is
    ],
)
def test_a_stub_is_never_taken_for_the_published_file(tree, server, capsys, folder, part, rule):
    folder = getattr(tree, folder)
    cls, _ = tree.script(folder)
    file = cls.published[part]
    server.files["/stub"] = STUB
    sources = tree.sources(
        **{file.name: {"urls": [f"{server.address}/stub"]}}
    )  # a mirror of the published file
    assert tree.run(folder, "get", part, "--sources", sources) == 1
    error = capsys.readouterr().err
    assert file.name in error and "134" in error and rule in error and "Traceback" not in error
    assert not cls(DATA).file(part).exists()
    # nor when it lies in its place already
    cls(DATA).file(part).write_bytes(STUB)
    assert tree.run(folder, "check", part) == 1
    said = capsys.readouterr().out
    assert "FAIL  file" in said and rule in said and f"prepare.py get {part}" in said
    assert tree.run(folder, "get", part, "--sources", sources) == 1


def test_a_file_got_by_hand_is_taken(tree, tmp_path, capsys):
    content = tree.weights(FCN8S)
    (tmp_path / "hand").mkdir()
    (tmp_path / "hand" / FCN8S).write_bytes(content)
    sources = tree.sources(**{FCN8S: known(content)})
    args = ("get", "--sources", sources, "--from", tmp_path / "hand")
    assert tree.run(tree.released, *args) == 0
    place = tree.root / "voc-fcn8s" / FCN8S
    assert place.read_bytes() == content and (tmp_path / "hand" / FCN8S).is_file()
    assert tree.files(place.parent) == {FCN8S}
    # again: it is left alone, unless it is another
    stamp = place.stat().st_mtime_ns
    assert tree.run(tree.released, *args) == 0 and place.stat().st_mtime_ns == stamp
    place.write_bytes(content[::-1])
    assert tree.run(tree.released, *args) == 0 and place.read_bytes() == content
    # a stub is not taken
    (tmp_path / "hand" / FCN8S).write_bytes(STUB)
    place.unlink()
    capsys.readouterr()
    assert tree.run(tree.released, *args) == 1 and not place.exists()
    assert "134 bytes" in capsys.readouterr().err


def test_a_disk_without_room_for_both_forms_is_told_before_the_download(tree, server, capsys):
    content = tree.weights(CAFFENET)
    server.files["/c"] = content
    sources = tree.sources(**{CAFFENET: {"urls": [f"{server.address}/c"], **known(content)}})
    free = [2 * len(content) - 1]
    tree.monkeypatch.setattr("shutil.disk_usage", lambda _: shutil._ntuple_diskusage(1 << 40, 0, free[0]))
    assert tree.run(tree.classifiers, "get", "caffenet", "--sources", sources) == 1
    assert "free" in capsys.readouterr().err and not server.asked
    free[0] += 1
    assert tree.run(tree.classifiers, "get", "caffenet", "--sources", sources) == 0
    (tree.classifiers / "caffenet-fcn.caffemodel").write_bytes(b"made")
    free[0] = 0  # nothing is left to do
    assert tree.run(tree.classifiers, "get", "caffenet", "--sources", sources) == 0
    capsys.readouterr()


def test_the_convolutional_form_is_made_again_when_the_published_file_is_newer(tree):
    cls, _ = tree.script(tree.classifiers)
    made = cls(DATA)
    assert not made.up_to_date("caffenet")
    (tree.classifiers / "caffenet-fcn.caffemodel").write_bytes(b"made")
    assert made.up_to_date("caffenet")  # the published file may go once it is made
    source = tree.classifiers / CAFFENET
    source.write_bytes(b"published")
    stamp = (tree.classifiers / "caffenet-fcn.caffemodel").stat().st_mtime_ns
    for late, expected in ((0, True), (1_000_000_000, False)):
        os.utime(source, ns=(stamp + late, stamp + late))
        assert made.up_to_date("caffenet") is expected


def test_prepare_says_what_is_missing_or_wrong(tree, capfd):
    assert tree.run(tree.classifiers, "prepare", "caffenet") == 1
    error = capfd.readouterr().err
    assert f"{CAFFENET} does not exist. To get it: python ilsvrc-nets/prepare.py get caffenet" in error
    # the file of another net under this name
    (tree.classifiers / CAFFENET).write_bytes(tree.weights(FCN8S))
    assert tree.run(tree.classifiers, "prepare", "caffenet") == 1
    error = capfd.readouterr().err
    assert "holds none of the classifiers" in error and "did not make" in error and "Traceback" not in error
    assert tree.files(tree.classifiers) == {CAFFENET}
    # no engine
    tree.monkeypatch.setitem(sys.modules, "caffe", None)
    assert tree.run(tree.classifiers, "prepare", "caffenet") == 1
    assert "is made with the engine, which is not installed" in capfd.readouterr().err


def test_an_unknown_part_is_refused(tree, capsys):
    assert tree.run(tree.classifiers, "get", "alexnet") == 1
    assert "has no part alexnet; there are vgg16, vgg19, caffenet, googlenet" in capsys.readouterr().err
    assert tree.run(tree.released, "get", "nyud-fcn32s-color-d") == 1
    assert "has no part nyud-fcn32s-color-d" in capsys.readouterr().err


# planted faults


def changed(content, change):
    """A weight file with a change: ``change(layers by name, net)``."""
    net = caffe_pb2.NetParameter.FromString(content)
    change({layer.name: layer for layer in net.layer}, net)
    return net.SerializeToString()


def drop(name):
    def change(layers, net):
        net.layer.remove(layers[name])

    return change


def add(name):
    def change(layers, net):
        net.layer.add(name=name).blobs.add(data=[1.0, 2.0]).shape.dim.append(2)

    return change


def fill(name, value):
    def change(layers, net):
        layers[name].blobs[0].data[:] = [value] * len(layers[name].blobs[0].data)

    return change


def bias_only_of(name):
    def change(layers, net):
        del layers[name].blobs[1]

    return change


def one_nan(name):
    def change(layers, net):
        layers[name].blobs[1].data[0] = float("nan")

    return change


def fewer_classes(layers, net):
    for name in ("score_fr", "fc8"):
        if name in layers:
            for blob in layers[name].blobs:
                size = blob.shape.dim[0]
                blob.data[:] = blob.data[: len(blob.data) // size * (size - 1)]
                blob.shape.dim[0] -= 1


def failures(table):
    return "\n".join(f"{line.name}: {line.found}" for line in table.failed)


FAULTS = [
    (drop("conv3_2"), "conv3_2[0] is not in the file; conv3_2[1] is not in the file"),
    (add("conv9_9"), "the net has no conv9_9[0]"),
    (fill("fc7", 0), "fc7 is all zeros"),
    (fill("fc6", float("inf")), "fc6 has NaN or infinity"),
    (one_nan("score_fr"), "score_fr has NaN or infinity"),
    (fewer_classes, "score_fr is 20x256x1x1 and 20 in the file, 21x256x1x1 and 21 in the net"),
    (bias_only_of("conv1_1"), "conv1_1 is 4x3x3x3 in the file, 4x3x3x3 and 4 in the net"),
]


@pytest.mark.parametrize(("change", "found"), FAULTS)
def test_a_fault_in_a_released_file_is_found(tree, change, found):
    table = tree.check(tree.released, "voc-fcn8s", changed(tree.weights(FCN8S), change))
    assert table.failed and found in failures(table)
    assert all(line.fix.endswith("python data/released/prepare.py get voc-fcn8s") for line in table.failed)


def test_a_sound_released_file_passes_and_tells_what_it_is(tree):
    content = tree.weights(FCN8S)
    table = tree.check(tree.released, "voc-fcn8s", content)
    assert not table.failed
    count = parameters(tree.root / "voc-fcn8s" / "deploy.prototxt")
    layers = len(caffe.Net(str(tree.root / "voc-fcn8s" / "deploy.prototxt"), caffe.TEST).params)
    text = str(table)
    assert f"{FCN8S}: {len(content)} bytes, sha256 as published" in text
    assert f"{layers} layers, those of voc-fcn8s/deploy.prototxt" in text
    assert f"parameters of {FCN8S}  {count}\n" in text


@pytest.mark.parametrize(
    ("spoil", "found"),
    [
        (lambda content: content[:-1], "bytes, not"),
        (lambda content: content[:-1] + bytes([content[-1] ^ 1]), "its checksum is sha256"),
        (None, "does not exist"),
    ],
)
def test_a_file_that_is_not_the_published_one_is_found(tree, spoil, found):
    content = tree.weights(FCN8S)
    cls, _ = tree.script(tree.released)
    made = cls(DATA, Sources(archives={FCN8S: known(content)}))
    if spoil:
        made.file("voc-fcn8s").write_bytes(spoil(content))
    table = Table("")
    made.check("voc-fcn8s", table)
    assert [line.name for line in table.lines] == ["file"] and found in failures(table)
    assert table.failed[0].fix.endswith("python data/released/prepare.py get voc-fcn8s")


def convolutional(tree):
    """Make the convolutional CaffeNet of ``tree``'s weights; returns its bytes."""
    convert = runpy.run_path(str(ROOT / "ilsvrc-nets" / "convert.py"))["convert"]
    path = tree.classifiers / "caffenet-fcn.caffemodel"
    list(convert("caffenet", tree.root / "weights" / CAFFENET, path, tree.classifiers))
    return path


def other_value(layers, net):
    layers["conv5"].blobs[0].data[7] += 1


@pytest.mark.parametrize(
    ("change", "found"),
    [
        (None, "convolutional form: is not there"),
        (other_value, "weights of both: 1 of 8: conv5"),
        (drop("fc7"), "layers of caffenet-fcn.caffemodel: 2 of 8: fc7[0] is not in the file"),
        (one_nan("conv1"), "layers of caffenet-fcn.caffemodel: 1 of 8: conv1 has NaN"),
        (add("loss1/fc"), "the net has no loss1/fc[0]"),
    ],
)
def test_a_fault_in_the_convolutional_form_is_found(tree, change, found):
    path = convolutional(tree)
    assert not tree.check(tree.classifiers, "caffenet", tree.weights(CAFFENET)).failed
    if change:
        path.write_bytes(changed(path.read_bytes(), change))
    else:
        path.unlink()
    table = tree.check(tree.classifiers, "caffenet", tree.weights(CAFFENET))
    assert found in failures(table)
    assert all(line.fix.endswith("python ilsvrc-nets/prepare.py prepare caffenet") for line in table.failed)
    assert len(table.lines) == (4 if change is None else 7)


@pytest.mark.parametrize(
    ("change", "found"),
    [(drop("conv2"), "conv2[0] is not in the file"), (fewer_classes, "fc8 is 9x256 and 9 in the file")],
)
def test_a_fault_in_a_classifier_s_file_is_found(tree, change, found):
    convolutional(tree)
    table = tree.check(tree.classifiers, "caffenet", changed(tree.weights(CAFFENET), change))
    assert found in failures(table)


def test_googlenet_s_auxiliary_heads_are_no_fault_and_another_s_are(tree):
    content = tree.weights(CLASSIFIERS["googlenet"].name)
    for name, faults in (("loss1/classifier", 0), ("loss4/classifier", 1)):
        table = tree.check(tree.classifiers, "googlenet", changed(content, add(name)))
        wrong = [line for line in table.failed if line.name != "convolutional form"]
        assert len(wrong) == faults, str(table)


def test_without_the_engine_check_says_that_it_did_not_look_inside(tree):
    content = tree.weights(FCN8S)
    tree.monkeypatch.setitem(sys.modules, "caffe", None)
    table = tree.check(tree.released, "voc-fcn8s", content)
    assert not table.failed and "not looked at, for want of the engine" in str(table)


def test_both_scripts_start_without_the_engine():
    code = (
        "import runpy, sys; sys.modules['caffe'] = None; sys.argv = sys.argv[1:]; "
        "runpy.run_path(sys.argv[0], run_name='__main__')"
    )
    for script, word in (
        ("ilsvrc-nets/prepare.py", "AlexNet"),
        ("data/released/prepare.py", "14 weight files"),
    ):
        done = subprocess.run(
            [sys.executable, "-c", code, str(ROOT / script), "--help"], capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr
        assert word in done.stdout and "do not move them" in " ".join(done.stdout.split())
