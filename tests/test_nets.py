"""The model directories: what net.py prints, and that it is the nets of the paper and of the release."""

import ast
import runpy
import shutil
from pathlib import Path

import caffe
import numpy as np
import pytest
from caffe.proto import caffe_pb2
from google.protobuf import text_format

import nets
import surgery
import training
from files import DataError

ROOT = Path(nets.__file__).resolve().parent
NET_PYS = sorted(ROOT.glob("*/net.py"))
MODELS = [path.parent.name for path in NET_PYS if (path.parent / "solve.py").exists()]
VOC = ["voc-fcn32s", "voc-fcn16s", "voc-fcn8s"]


def model(name):
    return runpy.run_path(str(ROOT / name / "net.py"))["MODEL"]


def read(path, message):
    return text_format.Parse(path.read_text(), message)


def committed(name, stem):
    return read(ROOT / name / f"{stem}.prototxt", caffe_pb2.NetParameter())


def solver(name, stem="solver"):
    return read(ROOT / name / f"{stem}.prototxt", caffe_pb2.SolverParameter())


def layer(net, name):
    (found,) = (layer for layer in net.layer if layer.name == name)
    return found


def save(net, path):
    path.write_text(text_format.MessageToString(net))
    return str(path)


def build(net, tmp_path):
    return caffe.Net(save(net, tmp_path / "net.prototxt"), caffe.TEST)


# printed prototxts


@pytest.mark.parametrize("net_py", NET_PYS, ids=lambda path: path.parent.name)
def test_committed_prototxts_are_what_net_py_prints(net_py):
    module = runpy.run_path(str(net_py))
    printed = module["MODEL"].prototxts() if "MODEL" in module else module["prototxts"]()
    directory = net_py.parent
    solvers = {path.stem for path in directory.glob("solver*.prototxt")}
    assert {path.stem for path in directory.glob("*.prototxt")} - solvers == set(printed)
    for stem, net in printed.items():
        assert committed(directory.name, stem) == net, f"{stem}.prototxt is old: run python net.py"
        text = (directory / f"{stem}.prototxt").read_text()
        assert text.startswith("# made by net.py; edit that instead\n")


def test_net_py_writes_into_its_own_directory(tmp_path, monkeypatch, capsys):
    directory = tmp_path / "model"
    directory.mkdir()
    shutil.copy(ROOT / "voc-fcn16s" / "net.py", directory)
    monkeypatch.chdir("/")
    runpy.run_path(str(directory / "net.py"), run_name="__main__")
    stems = ["train", "train-heavy", "val", "deploy"]
    assert capsys.readouterr().out.split() == [str(Path("model", f"{stem}.prototxt")) for stem in stems]
    assert sorted(path.name for path in directory.iterdir()) == sorted(
        ["net.py", *(f"{stem}.prototxt" for stem in stems)]
    )
    for stem in stems:
        assert read(directory / f"{stem}.prototxt", caffe_pb2.NetParameter()) == committed("voc-fcn16s", stem)


def test_a_failed_write_leaves_nothing(tmp_path, monkeypatch):
    def full(*_):
        raise OSError("disk full")

    monkeypatch.setattr("os.replace", full)
    with pytest.raises(DataError, match="disk full"):
        nets.write_prototxts(tmp_path / "net.py", {"train": caffe_pb2.NetParameter()})
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("kind", ["net.py", "solve.py"])
def test_what_two_directories_share_lives_in_a_root_module(kind):
    """No two share more than 15% of their non-blank lines, imports and the entry line aside."""

    def lines(path):
        found = [line.strip() for line in path.read_text().splitlines()]
        entry = ("import ", "from ", "if __name__", "MODEL.write(", "training.main(", "nets.write_prototxts(")
        return [line for line in found if line and not line.startswith(entry)]

    files = {path.parent.name: lines(path) for path in ROOT.glob(f"*/{kind}")}
    assert set(VOC) < set(files)
    for name, own in files.items():
        for other, theirs in files.items():
            shared = [line for line in own if line in theirs]
            assert name == other or len(shared) <= 0.15 * len(own), f"{name} and {other}: {shared}"


# architecture

TRUNK = (
    "conv1_1 relu1_1 conv1_2 relu1_2 pool1 conv2_1 relu2_1 conv2_2 relu2_2 pool2 conv3_1 relu3_1 conv3_2 relu3_2 "
    "conv3_3 relu3_3 pool3 conv4_1 relu4_1 conv4_2 relu4_2 conv4_3 relu4_3 pool4 conv5_1 relu5_1 conv5_2 relu5_2 "
    "conv5_3 relu5_3 pool5 fc6 relu6 drop6 fc7 relu7 drop7 score_fr "
)
SKIP4 = "upscore2 score_pool4 score_pool4c fuse_pool4 "
SKIP3 = "upscore_pool4 score_pool3 score_pool3c fuse_pool3 "
NAMES = {
    "voc-fcn32s": TRUNK + "upscore score",
    "voc-fcn16s": TRUNK + SKIP4 + "upscore16 score",
    "voc-fcn8s": TRUNK + SKIP4 + SKIP3 + "upscore8 score",
    "mini-fcn8s": TRUNK + SKIP4 + SKIP3 + "upscore8 score",
}
OFFSETS = {
    "voc-fcn32s": {"score": 19},
    "voc-fcn16s": {"score_pool4c": 5, "score": 27},
    "voc-fcn8s": {"score_pool4c": 5, "score_pool3c": 9, "score": 31},
    "mini-fcn8s": {"score_pool4c": 5, "score_pool3c": 9, "score": 31},
}


@pytest.mark.parametrize("name", NAMES)
def test_layers_have_the_names_of_the_released_models(name):
    assert [layer.name for layer in committed(name, "deploy").layer] == ["input", *NAMES[name].split()]
    for split in ("train", "val"):
        assert [layer.name for layer in committed(name, split).layer] == [
            "data",
            *NAMES[name].split(),
            "loss",
        ]


@pytest.mark.parametrize("name", OFFSETS)
def test_crop_offsets(name):
    for net in model(name).prototxts().values():
        crops = {crop.name: list(crop.crop_param.offset) for crop in net.layer if crop.type == "Crop"}
        assert crops == {crop: [offset] for crop, offset in OFFSETS[name].items()}


@pytest.mark.parametrize(
    ("name", "count"), [("voc-fcn32s", 136_152_917), ("voc-fcn16s", 134_815_994), ("voc-fcn8s", 134_489_759)]
)
def test_number_of_parameters_is_the_released_models(name, count):
    net = caffe.Net(str(ROOT / name / "deploy.prototxt"), caffe.TEST)
    assert sum(blob.count for blobs in net.params.values() for blob in blobs) == count


def test_fcn8s_has_these_weights(tmp_path):
    deploy = committed("voc-fcn8s", "deploy")
    layer(deploy, "input").input_param.shape[0].dim[2:] = [32, 32]
    shapes = {
        name: [tuple(blob.shape) for blob in blobs] for name, blobs in build(deploy, tmp_path).params.items()
    }
    trunk = {f"conv{stage}_{i}" for stage, convs, _ in nets.VGG16 for i in range(1, convs + 1)}
    heads = {"score_fr", "score_pool4", "score_pool3", "upscore2", "upscore_pool4", "upscore8"}
    assert set(shapes) == {"fc6", "fc7"} | trunk | heads
    expected = {
        "conv1_1": [(64, 3, 3, 3), (64,)],
        "conv3_1": [(256, 128, 3, 3), (256,)],
        "conv5_3": [(512, 512, 3, 3), (512,)],
        "fc6": [(4096, 512, 7, 7), (4096,)],
        "fc7": [(4096, 4096, 1, 1), (4096,)],
        "score_fr": [(21, 4096, 1, 1), (21,)],
        "upscore2": [(21, 21, 4, 4)],
        "score_pool4": [(21, 512, 1, 1), (21,)],
        "upscore_pool4": [(21, 21, 4, 4)],
        "score_pool3": [(21, 256, 1, 1), (21,)],
        "upscore8": [(21, 21, 16, 16)],
    }
    assert {name: shapes[name] for name in expected} == expected


def test_spatial_sizes(tmp_path):
    blobs = "conv1_1 pool1 pool2 pool3 pool4 pool5 fc6 upscore2 upscore_pool4 upscore8 score".split()
    sizes = {
        1: [199, 100, 50, 25, 13, 7, 1, 4, 10, 88, 1],
        224: [422, 211, 106, 53, 27, 14, 8, 18, 38, 312, 224],
        256: [454, 227, 114, 57, 29, 15, 9, 20, 42, 344, 256],
        375: [573, 287, 144, 72, 36, 18, 12, 26, 54, 440, 375],
        500: [698, 349, 175, 88, 44, 22, 16, 34, 70, 568, 500],
    }
    net = build(model("voc-fcn8s").prototxts(divide=64)["deploy"], tmp_path)
    for height, rows in sizes.items():
        for width, columns in sizes.items():
            net.blobs["data"].reshape(1, 3, height, width)
            net.reshape()
            assert [net.blobs[name].data.shape[2:] for name in blobs] == list(zip(rows, columns, strict=True))


def test_mini_is_an_eighth_as_wide(tmp_path):
    net = build(committed("mini-fcn8s", "deploy"), tmp_path)
    channels = {name: len(blobs[0].data) for name, blobs in net.params.items()}
    convs = [channels[f"conv{stage}_1"] for stage in (1, 2, 3, 4, 5)]
    assert (convs, channels["fc6"], channels["fc7"]) == ([8, 16, 32, 64, 64], 512, 512)
    assert {channels[name] for name in channels if "score" in name} == {21}


def test_mini_starts_with_activations_of_one_scale(tmp_path):
    """Random weights keep the scale of pixels, about 64 around their mean, near 1 up to fc7."""
    train = committed("mini-fcn8s", "train")
    train.layer[0].CopyFrom(layer(committed("mini-fcn8s", "deploy"), "input"))
    train.layer[0].input_param.shape[0].dim[2:] = [128, 128]
    del train.layer[-1]
    caffe.set_random_seed(3)
    net = build(train, tmp_path)
    pixels = np.random.default_rng(3).normal(0, 64, net.blobs["data"].data.shape)
    net.blobs["data"].data[...] = pixels
    net.forward()
    inner = net.blobs["conv3_1"].data[..., 30:-30, 30:-30]
    assert 0.3 < np.sqrt((inner**2).mean()) < 3
    assert 0.05 < np.sqrt((net.blobs["fc7"].data ** 2).mean()) < 5
    assert not net.blobs["score"].data.any()


# recipes


@pytest.mark.parametrize("name", VOC)
def test_the_recipes_differ_in_loss_and_intermediate_upsampling_only(name):
    train, heavy = committed(name, "train"), committed(name, "train-heavy")
    last = [layer.name for layer in train.layer if layer.type == "Deconvolution"][-1]
    for paper, release in zip(train.layer, heavy.layer, strict=True):
        if paper.type == "Deconvolution":
            assert [param.lr_mult for param in release.param] == [0]
            assert [param.lr_mult for param in paper.param] == [0 if paper.name == last else 1]
            paper.param[0].lr_mult = 0
        if paper.type == "SoftmaxWithLoss":
            assert (paper.loss_param.normalize, release.loss_param.normalize) == (True, False)
            assert paper.loss_param.ignore_label == release.loss_param.ignore_label == 255
            paper.loss_param.normalize = False
        assert paper == release


@pytest.mark.parametrize("name", MODELS)
def test_learning_multipliers_and_initial_weights(name):
    for net_layer in committed(name, "train").layer:
        multipliers = [(param.lr_mult, param.decay_mult) for param in net_layer.param]
        filler = net_layer.convolution_param.weight_filler
        if net_layer.type == "Convolution":
            assert multipliers == [(1, 1), (2, 0)]
        random = name.startswith("mini") and net_layer.name.startswith(("conv", "fc"))
        kind = "gaussian" if net_layer.name == "conv1_1" else "msra"
        assert filler.type == (kind if random else "constant"), net_layer.name


@pytest.mark.parametrize("name", MODELS)
def test_data_layers(name):
    splits = {"voc-": ("SBDDSegDataLayer", "seg11valid"), "mini": ("VOCSegDataLayer", "val")}[name[:4]]
    for stem, split in (("train", "train"), ("val", splits[1])):
        python = committed(name, stem).layer[0].python_param
        params = ast.literal_eval(python.param_str)
        assert python.module == "layers"
        assert python.layer == (splits[0] if stem == "train" else "VOCSegDataLayer")
        in_turn = ["randomize"] if (name[:4], stem) == ("mini", "train") else []
        assert list(params)[1:] == ["split", *in_turn, "mean", "seed"]
        assert (params["split"], params["seed"]) == (split, 1337)
        assert params["mean"] == (104.00699, 116.66877, 122.67892)
        assert params[next(iter(params))].startswith("../data/")


RATES = {"voc-fcn32s": (1e-4, 1e-10), "voc-fcn16s": (1e-6, 1e-12), "voc-fcn8s": (1e-8, 1e-14)}


@pytest.mark.parametrize("name", VOC)
def test_solvers_are_the_paper_s_and_the_release_s(name):
    paper, heavy = solver(name), solver(name, "solver-heavy")
    for recipe, rate in zip((paper, heavy), RATES[name], strict=True):
        assert recipe.base_lr == pytest.approx(rate)
        assert (recipe.lr_policy, recipe.weight_decay) == ("fixed", pytest.approx(5e-4))
    assert (paper.iter_size, paper.momentum, paper.train_net) == (20, pytest.approx(0.9), "train.prototxt")
    assert (heavy.iter_size, heavy.momentum, heavy.train_net) == (
        1,
        pytest.approx(0.99),
        "train-heavy.prototxt",
    )
    assert (heavy.average_loss, heavy.max_iter) == (20, 100_000)
    assert list(paper.test_iter) == list(heavy.test_iter) == [736]


@pytest.mark.parametrize("name", MODELS)
def test_every_solver_is_seeded_and_leaves_scoring_to_solve_py(name):
    for path in (ROOT / name).glob("solver*.prototxt"):
        recipe = solver(name, path.stem)
        assert (path.parent / recipe.train_net).exists()
        assert list(recipe.test_net) == ["val.prototxt"]
        assert (recipe.test_interval, recipe.test_initialization) == (999_999_999, False)
        assert (recipe.random_seed, recipe.display) == (1337, 20)
        assert recipe.snapshot_prefix == "snapshot/train"


@pytest.mark.parametrize("name", MODELS)
def test_solve_py_looks_for_its_parent_where_a_directory_is(name, monkeypatch):
    calls = []
    monkeypatch.setattr(training, "main", lambda file, parent=None, **steps: calls.append((file, parent)))
    runpy.run_path(str(ROOT / name / "solve.py"), run_name="__main__")
    ((file, parent),) = calls
    assert Path(file) == ROOT / name / "solve.py"
    assert (parent is None) == name.startswith("mini")
    for pattern in parent.files if parent else ():
        directory = (ROOT / name / pattern).resolve().relative_to(ROOT).parts[0]
        assert (ROOT / directory / "net.py").exists()
        assert f"cd {directory} && python" in parent.how


# ImageNet's classifier


def small_classifiers(tmp_path, divide=16):
    recipe = nets.Recipe(divide=divide)
    for name, classifier in (("vgg16", True), ("vgg16-fcn", False)):
        n = caffe.NetSpec()
        n.data = nets.image((1, 3, 224, 224))
        top = nets.vgg16(n, recipe, pad=1, classifier=classifier)
        if classifier:
            n.fc8 = nets.L.InnerProduct(top, num_output=10)
        save(n.to_proto(), tmp_path / f"{name}.prototxt")


def test_the_classifier_and_its_convolutional_form_hold_the_same_weights():
    classifier, fcn = (
        caffe.Net(str(ROOT / "ilsvrc-nets" / f"{name}.prototxt"), caffe.TEST)
        for name in ("vgg16", "vgg16-fcn")
    )
    assert set(classifier.params) - set(fcn.params) == {"fc8"}
    assert [tuple(blob.shape) for blob in classifier.params["fc6"]] == [(4096, 25088), (4096,)]
    assert [tuple(blob.shape) for blob in classifier.params["fc8"]] == [(1000, 4096), (1000,)]
    for name, blobs in fcn.params.items():
        assert [blob.count for blob in blobs] == [blob.count for blob in classifier.params[name]]
    assert sum(blob.count for blobs in fcn.params.values() for blob in blobs) == 134_260_544
    parent = caffe.Net(str(ROOT / "voc-fcn32s" / "deploy.prototxt"), caffe.TEST).params
    for name, blobs in fcn.params.items():
        assert [list(blob.shape) for blob in blobs] == [list(blob.shape) for blob in parent[name]]


def test_convert_gives_the_net_that_computes_the_same(tmp_path):
    script = runpy.run_path(str(ROOT / "ilsvrc-nets" / "convert.py"))
    small_classifiers(tmp_path)
    classifier = caffe.Net(str(tmp_path / "vgg16.prototxt"), caffe.TEST)
    random = np.random.default_rng(0)
    for blobs in classifier.params.values():
        for blob in blobs:
            blob.data[...] = random.normal(0, (2 / max(blob.data[0].size, 100)) ** 0.5, blob.data.shape)
    source, target = tmp_path / "vgg16.caffemodel", tmp_path / "vgg16-fcn.caffemodel"
    classifier.save(str(source))
    report = script["convert"](source, target, tmp_path)
    assert set(report.coerced) == {"fc6[0]", "fc7[0]"}
    assert set(report.dropped) == {"fc8[0]", "fc8[1]"}
    assert not report.missing and not report.zero
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(
        ["vgg16.caffemodel", "vgg16.prototxt", "vgg16-fcn.caffemodel", "vgg16-fcn.prototxt"]
    )
    fcn = caffe.Net(str(tmp_path / "vgg16-fcn.prototxt"), caffe.TEST, weights=str(target))
    image = random.normal(0, 50, (1, 3, 224, 224))
    for net in (classifier, fcn):
        net.blobs["data"].data[...] = image
        net.forward()
    features = classifier.blobs["fc7"].data
    assert features.std() > 1e-3
    np.testing.assert_allclose(
        fcn.blobs["fc7"].data[:, :, 0, 0], features, rtol=1e-4, atol=1e-5 * abs(features).max()
    )


@pytest.mark.parametrize(
    ("content", "message"),
    [(None, "553432081 bytes"), (b"not weights, only text", "VGG_ILSVRC_16_layers.caffemodel")],
)
def test_convert_without_the_file_says_where_it_is(tmp_path, monkeypatch, content, message):
    source = tmp_path / "VGG_ILSVRC_16_layers.caffemodel"
    if content:
        source.write_bytes(content)
    monkeypatch.setattr("sys.argv", ["convert.py", str(source)])
    with pytest.raises(SystemExit, match=message) as caught:
        runpy.run_path(str(ROOT / "ilsvrc-nets" / "convert.py"), run_name="__main__")
    assert str(caught.value).startswith("error: ")


def test_convert_refuses_half_a_classifier(tmp_path):
    script = runpy.run_path(str(ROOT / "ilsvrc-nets" / "convert.py"))
    small_classifiers(tmp_path)
    source, target = tmp_path / "half.caffemodel", tmp_path / "out.caffemodel"
    caffe.Net(str(tmp_path / "vgg16-fcn.prototxt"), caffe.TEST).save(str(source))
    with pytest.raises(surgery.SurgeryError, match=r"half.caffemodel holds the weights of another net: fc6"):
        script["convert"](source, target, tmp_path)
    assert not target.exists()
