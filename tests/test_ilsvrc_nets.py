"""ilsvrc-nets: the published classifiers, their convolutional forms, and the script that turns one into the other."""

import hashlib
import runpy
from dataclasses import replace
from pathlib import Path

import caffe
import numpy as np
import pytest
from caffe.proto import caffe_pb2
from google.protobuf import text_format

import nets
import surgery
from datakit.archives import Archive
from surgery import SurgeryError

DIRECTORY = Path(nets.__file__).resolve().parent / "ilsvrc-nets"
NETS = {"vgg16": 138_357_544, "vgg19": 143_667_240, "caffenet": 60_965_224, "googlenet": 6_998_552}


@pytest.fixture(scope="module")
def script():
    return runpy.run_path(str(DIRECTORY / "convert.py"))


@pytest.fixture(scope="module")
def narrow(tmp_path_factory):
    """A directory of all the prototxts at a sixteenth of the width, for ten classes."""
    directory = tmp_path_factory.mktemp("narrow")
    prototxts = runpy.run_path(str(DIRECTORY / "net.py"))["prototxts"]
    for stem, param in prototxts(recipe=nets.Recipe(divide=16), classes=10).items():
        (directory / f"{stem}.prototxt").write_text(text_format.MessageToString(param))
    return directory


def trained(directory, stem):
    """A net of ``directory`` with random weights that keep the scale of its values."""
    net = caffe.Net(str(directory / f"{stem}.prototxt"), caffe.TEST)
    random = np.random.default_rng(0)
    for weights, bias in net.params.values():
        weights.data[...] = random.normal(0, (2 / weights.data[0].size) ** 0.5, weights.data.shape)
        bias.data[...] = random.normal(0, 0.1, bias.data.shape)
    return net


@pytest.fixture
def saved(narrow, tmp_path):
    """``saved(stem)``: a weight file for a net of ``narrow``."""

    def save(stem):
        path = tmp_path / f"{stem}-weights.caffemodel"
        trained(narrow, stem).save(str(path))
        return path

    return save


def weights(net):
    return {name: [blob.data for blob in blobs] for name, blobs in net.params.items()}


# the nets


@pytest.mark.parametrize("name", NETS)
def test_the_classifier_and_its_convolutional_form_hold_the_same_weights(name):
    classifier, fcn = (
        caffe.Net(str(DIRECTORY / f"{stem}.prototxt"), caffe.TEST) for stem in (name, f"{name}-fcn")
    )
    counts = [
        {layer: [blob.count for blob in blobs] for layer, blobs in net.params.items()}
        for net in (classifier, fcn)
    ]
    assert counts[0] == counts[1]
    assert sum(map(sum, counts[0].values())) == NETS[name]
    side = 227 if name == "caffenet" else 224
    for net in (classifier, fcn):
        assert tuple(net.blobs["data"].shape) == (1, 3, side, side)
        assert list(net.outputs) == ["prob"]
    scores = "loss3/classifier" if name == "googlenet" else "fc8"
    assert tuple(classifier.blobs[scores].shape) == (1, 1000)
    assert tuple(fcn.blobs[scores].shape) == (1, 1000, 1, 1)
    assert [tuple(blob.shape) for blob in classifier.params[scores]] == [
        (1000, 1024 if name == "googlenet" else 4096),
        (1000,),
    ]
    if name != "googlenet":
        assert tuple(classifier.params["fc6"][0].shape) == (4096, 9216 if name == "caffenet" else 25088)
    else:
        assert tuple(fcn.blobs["pool5/7x7_s1"].shape) == (1, 1024, 1, 1)


@pytest.mark.parametrize(
    ("name", "model"),
    [("vgg16", "voc-fcn32s"), ("caffenet", "voc-fcn-alexnet"), ("googlenet", "voc-fcn-googlenet")],
)
def test_the_convolutional_form_has_all_that_the_fcn_starts_from(name, model):
    fcn, child = (
        caffe.Net(str(path), caffe.TEST).params
        for path in (DIRECTORY / f"{name}-fcn.prototxt", DIRECTORY.parent / model / "deploy.prototxt")
    )
    trunk = [layer for layer in child if "score" not in layer]
    assert trunk == list(fcn)[:-1]
    for layer in trunk:
        assert [list(blob.shape) for blob in fcn[layer]] == [list(blob.shape) for blob in child[layer]]


# conversion


@pytest.mark.parametrize("name", NETS)
def test_convert_gives_the_net_that_computes_the_same(script, narrow, saved, tmp_path, name):
    source, target = saved(name), tmp_path / "out" / f"{name}-fcn.caffemodel"
    assert script["recognise"](source, narrow) == name
    text = list(script["convert"](name, source, target, narrow))
    assert [path.name for path in target.parent.iterdir()] == [target.name]
    side, window = (227, "355x355") if name == "caffenet" else (224, "404x404")
    larger = f"its 3x2 map on {side + 64}x{side + 32} pixels"
    last = "googlenet cannot do without padding"
    if name != "googlenet":
        last = f"without padding, slid over windows of {'460x460' if name == 'vgg19' else window} pixels"
    assert f"on {side}x{side} pixels" in text[1] and "equal to" in text[1]
    features = "inception_5b/output" if name == "googlenet" else "pool5"
    assert f"{larger}, the fully connected part slid over {features}" in text[2] and "equal to" in text[2]
    assert larger in text[3] and "which pads each window with zeros, differs by" in text[3]
    assert last in text[4]

    classifier = trained(narrow, name)
    fcn = caffe.Net(str(narrow / f"{name}-fcn.prototxt"), caffe.TEST, weights=str(target))
    image = np.random.default_rng(1).normal(0, 50, (1, 3, side, side))
    for net in (classifier, fcn):
        net.blobs["data"].data[...] = image
        net.forward()
    wanted = classifier.blobs["prob"].data
    assert wanted.std() > 1e-3
    np.testing.assert_allclose(fcn.blobs["prob"].data[..., 0, 0], wanted, rtol=1e-3, atol=1e-5)


def test_convert_reads_legacy_files_and_leaves_auxiliary_losses(script, narrow, tmp_path):
    classifier, source = trained(narrow, "googlenet"), tmp_path / "old.caffemodel"
    model = caffe_pb2.NetParameter(name="GoogleNet")
    for name, blobs in [*weights(classifier).items(), ("loss1/classifier", [np.ones((3, 2), np.float32)])]:
        layer = model.layers.add(name=name)
        for data in blobs:
            num, channels, height, width = (1, 1, 1, 1, *data.shape)[-4:]
            layer.blobs.add(num=num, channels=channels, height=height, width=width, data=data.ravel())
    source.write_bytes(model.SerializeToString())
    assert script["recognise"](source, narrow) == "googlenet"
    target = tmp_path / "googlenet-fcn.caffemodel"
    lines = list(script["convert"]("googlenet", source, target, narrow))
    assert lines[0] == "not used: loss1/classifier[0]"
    fcn = caffe.Net(str(narrow / "googlenet-fcn.prototxt"), caffe.TEST, weights=str(target))
    for name, blobs in weights(classifier).items():
        for old, new in zip(blobs, weights(fcn)[name], strict=True):
            np.testing.assert_array_equal(new.ravel(), old.ravel())


def doctored(directory, tmp_path, change):
    """A copy of the prototxts of ``directory``, of which vgg16-fcn's is changed by ``change(layers by name)``."""
    copy = tmp_path / "doctored"
    copy.mkdir()
    for path in directory.glob("*.prototxt"):
        param = nets.read_prototxt(path, caffe_pb2.NetParameter())
        if path.stem == "vgg16-fcn":
            change({layer.name: layer for layer in param.layer})
        (copy / path.name).write_text(text_format.MessageToString(param))
    return copy


def mean_in_pool5(layers):
    layers["pool5"].pooling_param.pool = 1


def every_other_fc7(layers):
    layers["fc7"].convolution_param.stride[:] = [2]


@pytest.mark.parametrize(
    ("change", "where"),
    [(mean_in_pool5, "on 224x224 pixels"), (every_other_fc7, "fully connected part slid")],
)
def test_nets_that_do_not_agree_are_refused_and_nothing_is_written(
    script, narrow, saved, tmp_path, change, where
):
    directory, source = doctored(narrow, tmp_path, change), saved("vgg16")
    target = tmp_path / "out.caffemodel"
    with pytest.raises(SurgeryError, match=where):
        list(script["convert"]("vgg16", source, target, directory))
    assert not target.exists()


@pytest.mark.parametrize("value", [0, np.nan])
def test_weights_that_tell_nothing_are_refused(script, narrow, tmp_path, value):
    net, source, target = trained(narrow, "caffenet"), tmp_path / "in.caffemodel", tmp_path / "out.caffemodel"
    for blob in net.params["fc8"]:
        blob.data[...] = value
    net.save(str(source))
    with pytest.raises(SurgeryError, match="convolutional caffenet is not the classifier"):
        list(script["convert"]("caffenet", source, target, narrow))
    assert not target.exists()


def test_an_interrupted_write_leaves_nothing(script, narrow, saved, tmp_path, monkeypatch):
    def full(*_):
        raise OSError("disk full")

    source, target = saved("caffenet"), tmp_path / "out" / "caffenet-fcn.caffemodel"
    monkeypatch.setattr("os.replace", full)
    with pytest.raises(RuntimeError):
        list(script["convert"]("caffenet", source, target, narrow))
    assert list(target.parent.iterdir()) == []


# recognition


def test_files_of_other_nets_are_refused_with_what_was_found(script, narrow, saved):
    with pytest.raises(SurgeryError) as caught:
        script["recognise"](saved("vgg16-fcn"), narrow)
    text = str(caught.value)
    assert "holds none of the classifiers vgg16, vgg19, caffenet, googlenet: it has 16 layers" in text
    assert "conv1_1 4x3x3x3 and 4" in text
    assert "The nearest is vgg16, of which 3 of 16 layers differ or are not there: fc6, fc7, fc8" in text
    assert text.endswith("its fc6 is 256x1568 and 256, the file's 256x32x7x7 and 256")


def test_half_a_classifier_is_refused(script, narrow, tmp_path):
    model, source = caffe_pb2.NetParameter(), tmp_path / "half.caffemodel"
    for name, blobs in list(weights(trained(narrow, "vgg16")).items())[:-1]:
        layer = model.layer.add(name=name)
        for data in blobs:
            layer.blobs.add(data=data.ravel()).shape.dim.extend(data.shape)
    source.write_bytes(model.SerializeToString())
    with pytest.raises(
        SurgeryError,
        match=r"vgg16, of which 1 of 16 layers .*: fc8; its fc8 is 10x256 and 10, .* without weights",
    ):
        script["recognise"](source, narrow)
    with pytest.raises(SurgeryError, match=r"not a whole vgg16: it lacks fc8\[0\], fc8\[1\]"):
        list(script["convert"]("vgg16", source, tmp_path / "out.caffemodel", narrow))


def test_alexnet_is_known_by_size_and_checksum_and_refused(script, narrow, saved, monkeypatch):
    source = saved("caffenet")
    content = source.read_bytes()
    alexnet = Archive(
        "bvlc_alexnet.caffemodel",
        ("http://host/",),
        size=len(content),
        digests=(f"sha1:{hashlib.sha1(content).hexdigest()}",),
    )
    monkeypatch.setitem(script["recognise"].__globals__, "ALEXNET", alexnet)
    with pytest.raises(SurgeryError, match="normalises before it pools") as caught:
        script["recognise"](source, narrow)
    text = str(caught.value)
    assert text.startswith(f"{source} is bvlc_alexnet.caffemodel")
    assert "The paper's nets take bvlc_reference_caffenet.caffemodel (243862418 bytes, sha1 4c8d77de" in text
    # what AlexNet is by its size or by its checksum alone is not AlexNet
    changed = caffe.Net(str(narrow / "caffenet.prototxt"), caffe.TEST, weights=str(source))
    changed.params["fc8"][1].data[0] += 1
    changed.save(str(source))
    assert source.stat().st_size == len(content)
    assert script["recognise"](source, narrow) == "caffenet"
    source.write_bytes(content)
    monkeypatch.setitem(script["recognise"].__globals__, "ALEXNET", replace(alexnet, size=len(content) + 1))
    assert script["recognise"](source, narrow) == "caffenet"


@pytest.mark.parametrize(
    ("name", "part", "file"),
    [
        ("vgg16", "vgg16", "VGG_ILSVRC_16_layers.caffemodel (553432081 bytes, sha256 a6196bc4"),
        ("googlenet", "googlenet", "bvlc_googlenet.caffemodel (53533754 bytes, sha256 6f7101e3"),
        (
            "nowhere/bvlc_reference_caffenet.caffemodel",
            "caffenet",
            "bvlc_reference_caffenet.caffemodel (243862418 bytes, sha1 4c8d77de",
        ),
        ("resnet50", "vgg19", "VGG_ILSVRC_19_layers.caffemodel (574671192 bytes, sha384 86b83739"),
    ],
)
def test_without_the_file_the_script_says_how_to_get_it(tmp_path, monkeypatch, name, part, file):
    copy = tmp_path / "convert.py"
    copy.write_bytes((DIRECTORY / "convert.py").read_bytes())
    monkeypatch.setattr("sys.argv", ["convert.py", name])
    with pytest.raises(SystemExit) as caught:
        runpy.run_path(str(copy), run_name="__main__")
    text = str(caught.value)
    assert text.startswith("error: no such file: ") and file in text
    assert f"To get it: python ilsvrc-nets/prepare.py get {part}\n" in text
    assert text.count("To get it") == text.count(" from http://") == (4 if name == "resnet50" else 1)


def test_a_file_that_holds_no_weights_is_named(tmp_path, monkeypatch):
    source = tmp_path / "page.caffemodel"
    source.write_bytes(b"\xff" * 50)
    monkeypatch.setattr("sys.argv", ["convert.py", str(source)])
    with pytest.raises(SystemExit, match=r"^error: .*page\.caffemodel: not a readable caffemodel"):
        runpy.run_path(str(DIRECTORY / "convert.py"), run_name="__main__")


def test_the_script_converts_a_file_and_warns_that_it_is_not_the_published_one(
    narrow, saved, tmp_path, monkeypatch, capsys
):
    source = saved("caffenet")
    for path in (DIRECTORY / "convert.py", *narrow.glob("*.prototxt")):
        (tmp_path / path.name).write_bytes(path.read_bytes())
    monkeypatch.setattr("sys.argv", ["convert.py", str(source)])
    runpy.run_path(str(tmp_path / "convert.py"), run_name="__main__")
    done = capsys.readouterr()
    target = tmp_path / "caffenet-fcn.caffemodel"
    assert done.out.splitlines()[-1] == f"wrote {target}" and target.exists()
    assert "coerced    3 blobs  fc6[0] (256, 576) -> (256, 16, 6, 6)" in done.out
    assert done.err.startswith(
        f"warning: {source} is not the published bvlc_reference_caffenet.caffemodel: it has "
        f"{source.stat().st_size} bytes, not 243862418. "
    )
    fcn = caffe.Net(str(narrow / "caffenet-fcn.prototxt"), caffe.TEST)
    assert not surgery.load_parent(fcn, target).missing
