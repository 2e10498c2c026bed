"""``python nets.py new``: the directory it makes, how that compares with its base, and where its weights come from."""

import ast
import runpy
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import caffe
import numpy as np
import pytest
from caffe.proto import caffe_pb2
from google.protobuf import text_format
from model_dirs import call, narrow_trunk, parameters, random_weights
from PIL import Image

import nets
import newnet
import vis
from datakit.model_texts import BASES
from datakit.weights import RELEASED
from files import DataError
from reproduction.workshop import model_of

ROOT = Path(__file__).resolve().parents[1]
SIZE = (33, 40)
bases = pytest.mark.parametrize("base", BASES)


def own_data(root, count=5, classes=2, channels=3, spread=None):
    """Own data with lists; ``spread``: arrays of that spread, by channel, in the place of pictures."""
    random = np.random.default_rng(0)
    for name in ("images", "masks"):
        (root / name).mkdir(parents=True)
    for i in range(count):
        if spread:
            values = 1000 + random.standard_normal((*SIZE, len(spread))) * spread
            np.save(root / f"images/a{i}.npy", values.astype(np.float32))
        else:
            values = random.integers(0, 256, (*SIZE, channels)).astype(np.uint8)
            Image.fromarray(values.squeeze()).save(root / f"images/a{i}.png")
        label = random.integers(0, classes, SIZE).astype(np.uint8)
        vis.save_indexed(root / f"masks/a{i}.png", label, vis.make_palette(256))
    (root / "train.txt").write_text("".join(f"a{i}\n" for i in range(count - 2)))
    (root / "val.txt").write_text(f"a{count - 2}\na{count - 1}\n")
    (root / "classes.txt").write_text("".join(f"thing{i}\n" for i in range(classes)))
    return root


def new(directory, data, base="mini-fcn8s", channels=None, classes=None):
    return newnet.new(str(directory), data, classes, base, channels)


def net_of(path, message=caffe_pb2.NetParameter):
    return nets.read_prototxt(path, message())


def without_scales(net):
    """The net without its scale layers; the recipe's only difference to stages that are trained one by one."""
    copy = caffe_pb2.NetParameter()
    for layer in net.layer:
        if layer.type != "Scale":
            added = copy.layer.add()
            added.CopyFrom(layer)
            added.bottom[:] = [bottom.removeprefix("scale_") for bottom in layer.bottom]
    return copy


# what it makes


@bases
def test_with_its_bases_classes_and_data_it_is_its_base(base, tmp_path):
    made = new(tmp_path / "my-net", own_data(tmp_path / "own", classes=21), base)
    own = model_of_file(made.directory / "net.py")
    scaled = [layer for layer in own.prototxts()["deploy"].layer if layer.type == "Scale"]
    exact = base == "voc-fcn8s-atonce"
    assert len(scaled) == (0 if base.startswith("mini") else len(BASES[base].skips))
    deploys = net_of(made.directory / "deploy.prototxt"), net_of(ROOT / base / "deploy.prototxt")
    theirs = model_of(base)
    mine = replace(own, data=theirs.data).prototxts()
    assert set(mine) == set(theirs.prototxts())
    pairs = [deploys] + [(mine[stem], net) for stem, net in theirs.prototxts().items()]
    for net, other in pairs:
        assert (net if exact else without_scales(net)) == other


def model_of_file(path):
    return runpy.run_path(str(path))["MODEL"]


@bases
def test_the_solver_is_its_bases_but_for_how_long(base, tmp_path):
    made = new(tmp_path / "my-net", own_data(tmp_path / "own"), base)
    source = ROOT / ("voc-fcn8s-atonce" if base in ("voc-fcn16s", "voc-fcn8s") else base)
    files = sorted(path.name for path in source.glob("solver*.prototxt"))
    assert sorted(path.name for path in made.directory.glob("solver*.prototxt")) == files
    for file in files:
        mine, theirs = (
            net_of(folder / file, caffe_pb2.SolverParameter) for folder in (made.directory, source)
        )
        assert mine.test_iter == [2]
        assert mine.snapshot * 10 == mine.max_iter
        assert mine.max_iter * mine.iter_size >= 1000
        if theirs.stepvalue:
            share = theirs.stepvalue[0] / theirs.max_iter
            assert mine.stepvalue[0] == pytest.approx(share * mine.max_iter, abs=1)
        for field in ("test_iter", "snapshot", "max_iter", "stepvalue"):
            mine.ClearField(field)
            theirs.ClearField(field)
        assert mine == theirs, file
        assert (made.directory / mine.train_net).exists()


@pytest.mark.parametrize(("count", "wanted"), [(4, 1000), (60, 5800), (300, 10000)])
def test_more_images_are_trained_on_for_longer(count, wanted, tmp_path):
    made = new(tmp_path / "my-net", own_data(tmp_path / "own", count))
    solver = net_of(made.directory / "solver.prototxt", caffe_pb2.SolverParameter)
    assert solver.max_iter == wanted  # a hundred times all of them, within limits


def test_its_files_are_those_of_any_directory(tmp_path):
    made = new(tmp_path / "my-net", own_data(tmp_path / "own", classes=3))
    names = "classes.txt deploy.prototxt net.py solve.py solver.prototxt train.prototxt val.prototxt"
    assert sorted(path.name for path in made.directory.iterdir()) == names.split()
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []
    text = (made.directory / "net.py").read_text()
    assert len(text.splitlines()) <= 25 and "mini-fcn8s" in text
    assert (made.directory / "classes.txt").read_text() == "thing0\nthing1\nthing2\n"
    before = {path.name: path.read_bytes() for path in made.directory.glob("*.prototxt")}
    printed = call(made.directory / "net.py").split()
    assert len(printed) == 3 and before == {p.name: p.read_bytes() for p in made.directory.glob("*.prototxt")}


@pytest.mark.parametrize("name", ["nets", "import", "3-d.net", "trunks"])
def test_any_name_makes_a_net_py_that_runs(name, tmp_path):
    made = new(tmp_path / name, own_data(tmp_path / "own"), "voc-fcn-googlenet")
    assert model_of_file(made.directory / "net.py").prototxts()


def test_data_in_the_project_is_called_relative_to_the_directory(tmp_path, monkeypatch):
    monkeypatch.delenv("FCN_DATA", raising=False)
    assert newnet.seen_from(ROOT / "my-net", ROOT / "data/discs") == "../data/discs"
    assert newnet.seen_from(ROOT / "a/my-net", ROOT / "discs") == "../../discs"
    assert newnet.seen_from(ROOT / "my-net", tmp_path) == str(tmp_path)
    assert newnet.seen_from(tmp_path / "my-net", ROOT / "data/discs") == str(ROOT / "data/discs")
    # ../data stands for FCN_DATA in every prototxt
    monkeypatch.setenv("FCN_DATA", str(tmp_path))
    assert newnet.seen_from(ROOT / "my-net", ROOT / "data/discs") == str(ROOT / "data/discs")


def test_odd_paths_survive_quoting(tmp_path):
    data = own_data(tmp_path / 'it\'s "own" é')
    made = new(tmp_path / "my-net", data)
    layer = net_of(made.directory / "train.prototxt").layer[0]
    assert str(data) in runpy.run_path(str(made.directory / "net.py"))["DATA"].splits["train"][1].values()
    assert ast.literal_eval(layer.python_param.param_str)["own_dir"] == str(data)


WEIGHTED = {
    "mini-fcn8s": ("nets.MINI", 'replace(nets.MINI, class_weights={"loss": [0.5, 2.0]})'),
    "voc-fcn-alexnet": ("nets.PAPER", 'nets.Recipe(class_weights={"loss": [0.5, 2.0]})'),
}


@pytest.mark.parametrize("base", WEIGHTED)
def test_class_weights_are_pasted_as_the_readme_says(base, tmp_path):
    made = new(tmp_path / "my-net", own_data(tmp_path / "own"), base)
    net_py = made.directory / "net.py"
    before = model_of_file(net_py).prototxts()
    text = net_py.read_text()
    assert text.count(WEIGHTED[base][0]) == 1
    net_py.write_text(
        text.replace(*WEIGHTED[base]).replace(
            "import nets\n", "from dataclasses import replace\n\nimport nets\n"
        )
    )
    call(net_py)
    loss = net_of(made.directory / "train.prototxt").layer[-1]
    assert loss.python_param.layer == "ClassWeightedLossLayer"
    assert ast.literal_eval(loss.python_param.param_str)["weights"] == [0.5, 2]
    assert list(before["train"].layer)[:-1] == list(net_of(made.directory / "train.prototxt").layer)[:-1]


# channels


def param_of(made):
    return ast.literal_eval(net_of(made.directory / "train.prototxt").layer[0].python_param.param_str)


def test_one_channel_has_the_mean_of_its_training_images(tmp_path):
    data = own_data(tmp_path / "own", channels=1)
    made = new(tmp_path / "my-net", data)
    param = param_of(made)
    grey = [np.array(Image.open(data / f"images/a{i}.png")) for i in range(3)]
    assert param["channels"] == 1 and param["scale"] == 1
    np.testing.assert_allclose(param["mean"], [np.mean(grey)], rtol=1e-4)
    assert net_of(made.directory / "deploy.prototxt").layer[0].input_param.shape[0].dim[1] == 1


def test_arrays_are_scaled_to_the_spread_of_photographs(tmp_path):
    made = new(tmp_path / "my-net", own_data(tmp_path / "own", spread=[0.1, 5, 3000, 64]))
    param = param_of(made)
    assert param["channels"] == 4
    np.testing.assert_allclose(np.array(param["scale"]) * [0.1, 5, 3000, 64], 64, rtol=0.05)
    np.testing.assert_allclose(param["mean"], 1000, rtol=0.1)
    net = caffe.Net(str(made.directory / "train.prototxt"), caffe.TEST)
    values = []
    for _ in range(12):
        net.forward(end="data")
        values.append(net.blobs["data"].data[0].reshape(4, -1).copy())
    np.testing.assert_allclose(np.std(values, axis=(0, 2)), 64, rtol=0.1)
    assert newnet.scale_for([50, 100]) == 1 and newnet.scale_for([32, 32.0]) == 2
    assert newnet.scale_for([0, 16]) == (1.0, 4.0)


def test_photographs_have_imagenets_mean_and_alpha_counts_where_it_varies(tmp_path):
    assert param_of(new(tmp_path / "a", own_data(tmp_path / "colour")))["mean"] == nets.MEAN
    assert param_of(new(tmp_path / "b", own_data(tmp_path / "rgba", channels=4)))["channels"] == 4
    opaque = own_data(tmp_path / "opaque", channels=4)
    for path in (opaque / "images").iterdir():
        image = Image.open(path)
        image.putalpha(255)
        image.save(path)
    assert param_of(new(tmp_path / "c", opaque))["channels"] == 3


def test_images_that_differ_in_channels_need_to_be_told(tmp_path):
    data = own_data(tmp_path / "own")
    Image.open(data / "images/a1.png").convert("L").save(data / "images/a1.png")
    with pytest.raises(DataError, match="add --channels 3"):
        new(tmp_path / "my-net", data)
    assert param_of(new(tmp_path / "my-net", data, channels=3))["channels"] == 3
    with pytest.raises(DataError, match="has 3 channels; the net sees 2"):
        new(tmp_path / "other", own_data(tmp_path / "colour"), channels=2)


# refusals


def lacking(data, what):
    (data / what).unlink()
    return data


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda d: lacking(d, "classes.txt"), r"classes\.txt, which names the classes.*prepare\.py check"),
        (lambda d: lacking(d, "val.txt"), r"no .*val\.txt.*prepare\.py split"),
        (lambda d: lacking(d, "masks/a1.png"), r"masks/a1\.png \(1 such.*prepare\.py check"),
        (lambda d: (d / "train.txt").write_text("\n"), "train.txt is empty"),
        (lambda d: (d / "classes.txt").write_text("one\n"), "has 1 lines; there can be 2 to 254"),
        (lambda d: (d / "classes.txt").write_text("\n".join(map(str, range(255)))), "has 255 lines"),
        (lambda d: (d / "classes.txt").write_text("a\na\n"), "names a twice"),
        (lambda d: (d / "images/a0.png").write_bytes(b"x"), r"a0\.png.*prepare\.py check"),
    ],
)
def test_data_that_will_not_do_is_refused_and_nothing_is_made(spoil, words, tmp_path):
    data = own_data(tmp_path / "own")
    spoil(data)
    with pytest.raises(DataError, match=words):
        new(tmp_path / "my-net", data)
    assert [path.name for path in tmp_path.iterdir()] == ["own"]


@pytest.mark.parametrize("name", ["..", ".hidden", 'a"""b', "a b"])
def test_odd_names_are_refused(name, tmp_path):
    with pytest.raises(DataError, match=r"does not do as a name|is there already"):
        new(f"{tmp_path}/x/{name}", own_data(tmp_path / "own"))


def test_an_existing_directory_is_left_as_it_is(tmp_path):
    data = own_data(tmp_path / "own")
    (tmp_path / "my-net").mkdir()
    with pytest.raises(DataError, match="is there already"):
        new(tmp_path / "my-net", data)
    assert not list((tmp_path / "my-net").iterdir())


def test_a_failure_on_the_way_leaves_nothing(tmp_path, monkeypatch):
    monkeypatch.setattr(newnet, "solve_text", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        new(tmp_path / "my-net", own_data(tmp_path / "own"))
    assert [path.name for path in tmp_path.iterdir()] == ["own"]


def test_as_a_command_it_ends_with_what_to_type_next_or_one_message(tmp_path, monkeypatch, capsys):
    own_data(tmp_path / "own", classes=200)
    words = "new my-net --data own --classes own/classes.txt --base mini-fcn32s".split()
    command = [sys.executable, str(ROOT / "nets.py"), *words]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "200 classes" in done.stdout and "3 images to train on, 2 to score" in done.stdout
    assert done.stdout.rstrip().splitlines()[-1].strip() == f"{sys.executable} my-net/solve.py"
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit, match="error: my-net is there already"):
        newnet.main(words)
    for wrong in ("--base fcn8", "--channels 0", "--data"):
        with pytest.raises(SystemExit, match="2"):
            newnet.main("new other --data own".split() + wrong.split())
    assert "invalid choice" in capsys.readouterr().err


# weights


@pytest.fixture
def project(tmp_path, monkeypatch):
    """A project of narrow nets at ``tmp_path``; the real one stays out of it."""
    monkeypatch.setattr(newnet, "ROOT", tmp_path)
    return tmp_path


def narrow(directory):
    """Make a directory's nets a sixteenth as wide, without random weights: what is not loaded is zero."""
    for stem, net in model_of_file(directory / "net.py").prototxts(divide=16).items():
        if stem == "deploy":
            net.layer[0].input_param.shape[0].dim[2:] = SIZE
        (directory / f"{stem}.prototxt").write_text(text_format.MessageToString(net))


def base_weights(project, base, iteration=3):
    """Random weights of the narrow base, as it would have been trained; returns the file."""
    directory = project / base
    directory.mkdir(exist_ok=True)
    net = model_of(base).prototxts(divide=16)["deploy"]
    net.layer[0].input_param.shape[0].dim[2:] = SIZE
    (directory / "deploy.prototxt").write_text(text_format.MessageToString(net))
    path = directory / "snapshot" / f"train_iter_{iteration}.caffemodel"
    path.parent.mkdir(exist_ok=True)
    random_weights(directory / "deploy.prototxt", path, without=("up", "scale"))
    return path


def classifier_weights(project, name):
    folder = project / "ilsvrc-nets"
    folder.mkdir(exist_ok=True)
    (folder / f"{name}.prototxt").write_text(text_format.MessageToString(narrow_trunk(name)))
    random_weights(folder / f"{name}.prototxt", folder / f"{name}-fcn.caffemodel")
    return folder / f"{name}-fcn.caffemodel"


def started(directory, monkeypatch, path=None):
    """(the net of ``directory``, what was said, the file) once its solve.py's weights were loaded."""
    narrow(directory)
    monkeypatch.chdir(directory)
    parent = newnet.start_from(directory.name.removeprefix("of-"))
    path = path or parent.find()
    net = caffe.Net("deploy.prototxt", caffe.TEST)
    return net, parent.load(net, path), path


FULL = [base for base in BASES if not BASES[base].mini]


@pytest.mark.parametrize("base", FULL)
def test_the_trunk_is_its_bases_and_scores_start_at_zero(base, project, monkeypatch):
    # a net of as many classes as its base: these are others, though the shapes fit
    made = new_of(base, project, classes=21)
    net, said, path = started(made.directory, monkeypatch, base_weights(project, base))
    assert path == project / base / "snapshot/train_iter_3.caffemodel"
    theirs = parameters(path)
    trunk = [name for name in net.params if not name.startswith(("score", "up", "scale"))]
    assert len(trunk) > 4
    for name in trunk:
        assert [blob.data.tobytes() for blob in net.params[name]] == theirs[name], name
    scores = [name for name in net.params if name.startswith("score")]
    assert len(scores) == 1 + len(BASES[base].skips)
    for name in scores:
        assert not net.params[name][0].data.any() and not net.params[name][1].data.any()
        assert name in said


def new_of(base, project, **data):
    """A directory made from ``base``, by the real project's tables."""
    newnet.ROOT, fake = ROOT, newnet.ROOT
    try:
        return new(project / f"of-{base}", own_data(project / "own", **data), base)
    finally:
        newnet.ROOT = fake


@pytest.mark.parametrize("base", ["voc-fcn16s", "voc-fcn-alexnet", "voc-fcn-googlenet"])
def test_without_a_trained_base_it_is_the_classifier(base, project, monkeypatch):
    made = new_of(base, project)
    path = classifier_weights(project, BASES[base].trunk)
    net, _, used = started(made.directory, monkeypatch)
    assert used == path
    theirs = parameters(path)
    first = next(iter(net.params))
    assert [blob.data.tobytes() for blob in net.params[first]] == theirs[first]


@pytest.mark.parametrize("base", ["voc-fcn32s", "voc-fcn-alexnet", "voc-fcn-googlenet"])
@pytest.mark.parametrize("channels", [1, 2, 4])
def test_other_channels_that_are_alike_give_the_response_of_before(base, channels, project, monkeypatch):
    made = new_of(base, project, channels=channels)
    path = base_weights(project, base)
    net, said, _ = started(made.directory, monkeypatch)
    assert "of the same sum" in said
    old = caffe.Net(str(project / base / "deploy.prototxt"), caffe.TEST, weights=str(path))
    image = np.random.default_rng(1).normal(0, 60, SIZE)
    first = next(iter(net.params))
    for each in (net, old):
        each.blobs["data"].data[...] = image
        each.forward(end=first)
    assert np.abs(old.blobs[first].data).max() > 1
    np.testing.assert_allclose(net.blobs[first].data, old.blobs[first].data, rtol=1e-4, atol=1e-3)


def test_what_is_trained_here_comes_before_what_is_released_before_the_classifier(project, monkeypatch):
    base = "voc-fcn8s"
    monkeypatch.chdir(project)
    parent = newnet.start_from(base)
    with pytest.raises(DataError, match=r"ilsvrc-nets/prepare\.py all vgg16.*get voc-fcn8s.*mini-fcn8s"):
        parent.find()
    wanted = [
        classifier_weights(project, "vgg16"),
        project / base / RELEASED[base].name,
        project / base / "snapshot/train_iter_90.caffemodel",
        project / base / "snapshot/train_iter_100.caffemodel",
    ]
    for path in wanted:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
        assert parent.find() == path


def test_its_own_weights_are_taken_whole(project, monkeypatch):
    made = new_of("voc-fcn8s", project)
    base_weights(project, "voc-fcn8s")
    narrow(made.directory)
    path = project / "mine.caffemodel"
    random_weights(made.directory / "deploy.prototxt", path, without=("scale",))
    net, _, _ = started(made.directory, monkeypatch, path)
    mine = parameters(path)
    assert mine["score_fr"] == [blob.data.tobytes() for blob in net.params["score_fr"]]
    assert net.params["score_pool3"][0].data.any()


@pytest.mark.parametrize("base", ["voc-fcn8s", "voc-fcn-googlenet"])
def test_solve_py_trains_it_from_its_bases_weights(base, project):
    made = new_of(base, project, channels=4)
    base_weights(project, base)
    narrow(made.directory)
    solver = made.directory / "solver.prototxt"
    solver.write_text(solver.read_text().replace("iter_size: 20", "iter_size: 2"))
    said = call(made.directory / "solve.py", "--cpu", "--iterations", "2")
    assert "of the same sum" in said and "Iteration 2 mean IU" in said and "thing1" in said
    assert (made.directory / "snapshot/train_iter_2.caffemodel").is_file()
    assert f"--model {made.directory}" in said.rstrip().splitlines()[-1]
