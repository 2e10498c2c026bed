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
from model_dirs import randomize

import nets
import surgery
import training
from files import DataError

ROOT = Path(nets.__file__).resolve().parent
NET_PYS = sorted(ROOT.glob("*/net.py"))
MODELS = [path.parent.name for path in NET_PYS if (path.parent / "solve.py").exists()]
HEAVY = [name for name in MODELS if (ROOT / name / "train-heavy.prototxt").exists()]


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
    assert set(MODELS) <= set(files)
    for name, own in files.items():
        for other, theirs in files.items():
            shared = [line for line in own if line in theirs]
            assert name == other or len(shared) <= 0.15 * len(own), f"{name} and {other}: {shared}"


def test_every_net_of_the_paper_and_of_its_release_is_there():
    assert set(NAMES) == set(MODELS) and set(RELEASED) < set(MODELS)


# architecture

TRUNK = (
    "conv1_1 relu1_1 conv1_2 relu1_2 pool1 conv2_1 relu2_1 conv2_2 relu2_2 pool2 conv3_1 relu3_1 conv3_2 relu3_2 "
    "conv3_3 relu3_3 pool3 conv4_1 relu4_1 conv4_2 relu4_2 conv4_3 relu4_3 pool4 conv5_1 relu5_1 conv5_2 relu5_2 "
    "conv5_3 relu5_3 pool5 fc6 relu6 drop6 fc7 relu7 drop7"
).split()
CAFFENET = (
    "conv1 relu1 pool1 norm1 conv2 relu2 pool2 norm2 conv3 relu3 conv4 relu4 conv5 relu5 pool5 "
    "fc6 relu6 drop6 fc7 relu7 drop7"
).split()
MODALITIES = ("color", "hha")
BOTH = [name + each for each in MODALITIES for name in TRUNK]


def head(stride, suffix="", scores=(), scale=False):
    """The layers from the first scores to the pixels, in the order in which the released nets have them."""
    made = [*(scores or [f"score_fr{suffix}"])]
    up = "upscore2"
    for pool in {32: (), 16: ("pool4",), 8: ("pool4", "pool3")}[stride]:
        made += [f"{up}{suffix}", *([f"scale_{pool}"] if scale else [])]
        made += [f"score_{pool}{suffix}", f"score_{pool}{suffix}c", f"fuse_{pool}{suffix}"]
        up = f"upscore_{pool}"
    return [*made, f"upscore{'' if stride == 32 else stride}{suffix}", f"score{suffix}"]


def of_inception():
    """GoogLeNet's, up to its last module, as its classifier is published, without the two other losses."""
    made = ["conv1/7x7_s2", "conv1/relu_7x7", "pool1/3x3_s2", "pool1/norm1", "conv2/3x3_reduce"]
    made += ["conv2/relu_3x3_reduce", "conv2/3x3", "conv2/relu_3x3", "conv2/norm2", "pool2/3x3_s2"]
    for module in "3a 3b 4a 4b 4c 4d 4e 5a 5b".split():
        at = f"inception_{module}"
        for what in "1x1 3x3_reduce 3x3 5x5_reduce 5x5".split():
            made += [f"{at}/{what}", f"{at}/relu_{what}"]
        made += [f"{at}/pool", f"{at}/pool_proj", f"{at}/relu_pool_proj", f"{at}/output"]
        made += [f"pool{module[0]}/3x3_s2"] if module in ("3b", "4e") else []
    return [*made, "pool5/drop_7x7_s1"]


FUSED = ["score_frcolor", "score_frhha", "score_fused"]
NAMES = {
    "voc-fcn-alexnet": [*CAFFENET, *head(32)],
    "voc-fcn-googlenet": [*of_inception(), *head(32)],
    "voc-fcn-pool4": [*TRUNK[: TRUNK.index("pool4") + 1], "score_pool4", "upscore16", "score"],
    "voc-fcn32s-fixed": [*TRUNK, *head(32)],
    "voc-fcn32s-pool5s1": [*TRUNK, "score_fr", "upscore16", "score"],
    "voc-fcn8s-atonce": [*TRUNK, *head(8, scale=True)],
    "nyud-fcn32s-color": [*TRUNK, *head(32)],
    "nyud-fcn32s-hha": [*TRUNK, *head(32)],
    "nyud-fcn32s-color-d": ["data", "conv1_1_bgrd", *TRUNK[1:], *head(32)],
    "nyud-fcn32s-color-hha": [*BOTH, *head(32, scores=FUSED)],
    "nyud-fcn16s-color-hha": [
        *BOTH, *FUSED, "upscore2", "score_pool4color", "score_pool4hha", "score_pool4", "score_pool4c",
        "fuse_pool4", "upscore16", "score",
    ],
    "siftflow-fcn16s-semantic": [*TRUNK, *head(16, "_sem")],
    "siftflow-fcn16s-geometric": [*TRUNK, *head(16, "_geo")],
}  # fmt: skip
for stride in (32, 16, 8):
    NAMES[f"siftflow-fcn{stride}s"] = [*TRUNK, *head(stride, "_sem"), *head(stride, "_geo")]
    for data in ("voc", "pascalcontext", "mini"):
        NAMES[f"{data}-fcn{stride}s"] = [*TRUNK, *head(stride)]
INPUTS = {"color-hha": ["input", "input_hha"], "color-d": ["input", "input_depth"]}


@pytest.mark.parametrize("name", NAMES)
def test_layers_have_the_names_of_the_released_models(name):
    """The published classifiers' for GoogLeNet, which was not released as an FCN."""
    inputs = next((names for end, names in INPUTS.items() if name.endswith(end)), ["input"])
    for stem, net in model(name).prototxts().items():
        names = [layer.name for layer in net.layer]
        losses = [layer.name for layer in net.layer if layer.type == "SoftmaxWithLoss"]
        if stem == "deploy":
            assert names == [*inputs, *NAMES[name]] and not losses
        else:
            # the data layer is called as its first top is, or "data"
            assert [name for name in names[1:] if name not in losses] == NAMES[name]
            two = name.startswith("siftflow") and not name.endswith(("semantic", "geometric"))
            single = ["loss_geo"] if name.endswith("geometric") else ["loss"]
            assert losses == (["loss", "loss_geo"] if two else single)


STEPS = {32: {"score": 19}, 16: {"score_pool4c": 5, "score": 27}}
STEPS[8] = {"score_pool4c": 5, "score_pool3c": 9, "score": 31}
OFFSETS = {
    "voc-fcn-alexnet": {"score": 18},
    "voc-fcn-googlenet": {"score": 98},
    "voc-fcn-pool4": {"score": 107},
    "voc-fcn32s-pool5s1": {"score": 19},
    **{
        f"siftflow-fcn16s-{kind}": {f"score_pool4{end}c": 5, f"score{end}": 27}
        for kind, end in (("semantic", "_sem"), ("geometric", "_geo"))
    },
}
for name in MODELS:
    if name not in OFFSETS:
        stride = int(name.split("fcn")[1].split("s")[0])
        ends = ("_sem", "_geo") if name.startswith("siftflow") else ("",)
        OFFSETS[name] = {
            (f"{crop[:-1]}{end}c" if crop.endswith("c") else f"{crop}{end}"): offset
            for end in ends
            for crop, offset in STEPS[stride].items()
        }


@pytest.mark.parametrize("name", MODELS)
def test_crop_offsets(name):
    for net in model(name).prototxts().values():
        crops = {crop.name: list(crop.crop_param.offset) for crop in net.layer if crop.type == "Crop"}
        assert crops == {crop: [offset] for crop, offset in OFFSETS[name].items()}


WINDOWS = {
    "Convolution": "convolution_param",
    "Pooling": "pooling_param",
    "Deconvolution": "convolution_param",
}


def single(values, default):
    """The value of a field that may be repeated."""
    if not hasattr(values, "__len__"):
        return values
    return values[0] if len(values) else default


@pytest.mark.parametrize("name", MODELS)
def test_every_crop_lays_pixels_on_the_pixels_that_they_came_from(name):
    """Where the middle of pixel k of a blob lies in the image, p k + q, from windows alone.

    A window of k at stride s with padding d has its middle at s i + (k - 1)/2 - d of what it looks at, and a
    deconvolution the other way round. All that is joined must lie alike, and a crop must begin where its
    reference does.
    """
    lies, crops = {}, 0
    for net_layer in committed(name, "deploy").layer:
        below = [lies[bottom] for bottom in net_layer.bottom]
        if net_layer.type == "Input":
            at = 1, 0
        elif net_layer.type == "Crop":
            (p, q), (other, start) = below
            assert p == other and q + p * net_layer.crop_param.offset[0] == start, net_layer.name
            at, crops = (other, start), crops + 1
        else:
            assert len(set(below)) == 1, net_layer.name
            (p, q) = below[0]
            at = p, q
            if net_layer.type in WINDOWS:
                window = getattr(net_layer, WINDOWS[net_layer.type])
                kernel, stride, pad = (
                    single(getattr(window, field), default)
                    for field, default in (("kernel_size", 0), ("stride", 1), ("pad", 0))
                )
                middle = (kernel - 1) / 2 - pad
                if net_layer.type == "Deconvolution":
                    at = p / stride, q - p / stride * middle
                else:
                    at = p * stride, q + p * middle
        for top in net_layer.top:
            lies[top] = at
    assert crops == len(OFFSETS[name])


# weights

VGG = {
    f"conv{stage}_{i}": 64 * 2 ** min(stage - 1, 3)
    for stage, n in enumerate((2, 2, 3, 3, 3), 1)
    for i in range(1, n + 1)
}
FIGURE = {"pool4": 512, "pool3": 256}


def vgg_shapes(divide, suffix=""):
    shapes, channels = {}, 3
    for name, width in VGG.items():
        width //= divide
        shapes[name + suffix] = [(width, channels, 3, 3), (width,)]
        channels = width
    wide = 4096 // divide
    return shapes | {
        f"fc6{suffix}": [(wide, channels, 7, 7), (wide,)],
        f"fc7{suffix}": [(wide, wide, 1, 1), (wide,)],
    }


def head_shapes(divide, stride, classes, suffix="", kernel=None, scores=None):
    """Of the scores and of upsampling, which has kernels of twice its factor."""

    def scoring(channels):
        return [(classes, channels // divide, 1, 1), (classes,)]

    def upsampling(size):
        return [(classes, classes, size, size)]

    shapes = {f"score_fr{trunk}{suffix}": scoring(4096) for trunk in scores or ("",)}
    up = "upscore2"
    for pool in {32: (), 16: ("pool4",), 8: ("pool4", "pool3")}[stride]:
        shapes |= {f"{up}{suffix}": upsampling(4), f"score_{pool}{suffix}": scoring(FIGURE[pool])}
        up = f"upscore_{pool}"
    return shapes | {f"upscore{'' if stride == 32 else stride}{suffix}": upsampling(kernel or 2 * stride)}


def caffenet_shapes(divide):
    shapes = {}
    for i, (width, channels, kernel) in enumerate(
        ((96, 3 * divide, 11), (256, 48, 5), (384, 256, 3), (384, 192, 3), (256, 192, 3)), 1
    ):
        shapes[f"conv{i}"] = [(width // divide, channels // divide, kernel, kernel), (width // divide,)]
    wide = 4096 // divide
    shapes["fc6"] = [(wide, 256 // divide, 6, 6), (wide,)]
    return shapes | {"fc7": [(wide, wide, 1, 1), (wide,)]}


# directory: the parameters of its released model, its classes
RELEASED = {
    "voc-fcn-alexnet": (58_704_590, 21),
    "voc-fcn32s": (136_152_917, 21),
    "voc-fcn16s": (134_815_994, 21),
    "voc-fcn8s": (134_489_759, 21),
    "voc-fcn8s-atonce": (134_490_527, 21),
    "nyud-fcn32s-color": (140_978_024, 40),
    "nyud-fcn32s-hha": (140_978_024, 40),
    "nyud-fcn32s-color-hha": (275_402_448, 40),
    "siftflow-fcn32s": (138_905_444, None),
    "siftflow-fcn16s": (135_568_424, None),
    "siftflow-fcn8s": (134_751_980, None),
    "pascalcontext-fcn32s": (149_251_964, 60),
    "pascalcontext-fcn16s": (138_281_144, 60),
    "pascalcontext-fcn8s": (135_589_364, 60),
}


def released(name, divide=1):
    """Layer → shapes of what the released file of a directory holds, its trunk's widths over ``divide``."""
    classes = RELEASED[name][1]
    if name == "voc-fcn-alexnet":
        return caffenet_shapes(divide) | head_shapes(divide, 32, classes, kernel=63)
    stride = int(name.split("fcn")[1].split("s")[0])
    if name.endswith("color-hha"):
        trunks = vgg_shapes(divide, "color") | vgg_shapes(divide, "hha")
        return trunks | head_shapes(divide, stride, classes, scores=MODALITIES)
    shapes = vgg_shapes(divide)
    if name.startswith("siftflow"):
        return shapes | head_shapes(divide, stride, 33, "_sem") | head_shapes(divide, stride, 3, "_geo")
    shapes |= head_shapes(divide, stride, classes)
    if name.endswith("atonce"):
        shapes |= {f"scale_{pool}": [(channels // divide,)] for pool, channels in FIGURE.items()}
    return shapes


def small(net, size=(32, 32)):
    """The deploy net ``net`` for images of this size."""
    for each in net.layer:
        if each.type == "Input":
            each.input_param.shape[0].dim[2:] = size
    return net


@pytest.mark.parametrize("name", RELEASED)
def test_weights_are_the_released_models_to_the_last_number(name, tmp_path):
    shapes = released(name)
    assert sum(np.prod(shape) for blobs in shapes.values() for shape in blobs) == RELEASED[name][0]
    net = build(small(committed(name, "deploy")), tmp_path)
    assert {layer: [tuple(blob.shape) for blob in blobs] for layer, blobs in net.params.items()} == shapes
    assert sum(blob.count for blobs in net.params.values() for blob in blobs) == RELEASED[name][0]


@pytest.mark.parametrize("name", RELEASED)
def test_a_released_file_would_load_with_nothing_left_over(name, tmp_path):
    """A file of exactly the released names and shapes, at an eighth of the width."""
    file, random, values = caffe_pb2.NetParameter(), np.random.default_rng(0), {}
    for layer_name, shapes in released(name, 8).items():
        written = file.layer.add(name=layer_name)
        for i, shape in enumerate(shapes):
            values[layer_name, i] = random.random(shape, np.float32)
            blob = written.blobs.add(data=values[layer_name, i].ravel())
            blob.shape.dim.extend(shape)
    (tmp_path / "released.caffemodel").write_bytes(file.SerializeToString())
    net = build(small(model(name).prototxts(divide=8)["deploy"]), tmp_path)
    report = surgery.load_parent(net, tmp_path / "released.caffemodel")
    assert (report.dropped, report.missing, report.coerced, report.zero) == ({}, {}, {}, [])
    assert len(report.copied) == len(values)
    for (layer_name, i), expected in values.items():
        np.testing.assert_array_equal(net.params[layer_name][i].data, expected)


def test_fcn8s_has_these_weights(tmp_path):
    deploy = committed("voc-fcn8s", "deploy")
    layer(deploy, "input").input_param.shape[0].dim[2:] = [32, 32]
    shapes = {
        name: [tuple(blob.shape) for blob in blobs] for name, blobs in build(deploy, tmp_path).params.items()
    }
    heads = {"score_fr", "score_pool4", "score_pool3", "upscore2", "upscore_pool4", "upscore8"}
    assert set(shapes) == {"fc6", "fc7", *VGG} | heads
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


# what nets start as


def fed(net):
    """``net`` with inputs in the place of its data layer, for images of 70 x 50."""
    data = net.layer[0]
    labels = [each.bottom[1] for each in net.layer if each.type == "SoftmaxWithLoss"]
    tops = list(data.top)
    del net.layer[0]
    for top in reversed(tops):
        each = caffe_pb2.LayerParameter(name=top, type="Input", top=[top])
        each.input_param.shape.add().dim.extend([1, 1 if top in labels else 3, 70, 50])
        net.layer.insert(0, each)
    return net


def narrow(name, tmp_path, split):
    return build(fed(model(name).prototxts(divide=16)[split]), tmp_path)


def test_two_heads_lose_and_score_what_the_two_nets_of_one_head_do(tmp_path):
    both, semantic, geometric = (
        narrow(f"siftflow-fcn16s{which}", tmp_path, "test") for which in ("", "-semantic", "-geometric")
    )
    randomize(both, without=())
    random = np.random.default_rng(1)
    given = {"data": random.normal(0, 60, (1, 3, 70, 50)), "sem": random.integers(0, 33, (1, 1, 70, 50))}
    given["geo"] = random.choice([0, 1, 2, 255], (1, 1, 70, 50))
    for net, head, loss in ((semantic, "_sem", "loss"), (geometric, "_geo", "loss_geo")):
        report = surgery.transplant(net, both)
        assert not report.missing
        other = "_geo" if head == "_sem" else "_sem"
        assert report.dropped and all(other in label for label in report.dropped)
        for each in (both, net):
            for blob in each.inputs:
                each.blobs[blob].data[...] = given[blob]
            each.forward()
        assert float(net.blobs[loss].data) > 0.1
        for blob in (loss, f"score{head}"):
            # to rounding: a net of another shape adds up in another order
            np.testing.assert_allclose(net.blobs[blob].data, both.blobs[blob].data, rtol=1e-4, atol=1e-5)


STAGES = [
    (f"{data}-fcn{child}s{kind}", f"{data}-fcn{parent}s{kind}")
    for data, kind in (
        ("voc", ""),
        ("mini", ""),
        ("siftflow", ""),
        ("pascalcontext", ""),
        ("nyud", "-color-hha"),
    )
    for parent, child in ((32, 16), (16, 8))
    if (data, child) != ("nyud", 8)
]


@pytest.mark.parametrize(("name", "parent"), STAGES)
def test_a_finer_net_starts_at_its_parent_s_predictions(name, parent, tmp_path):
    """To the bit before the last upsampling: the new scores are zero, so the sum is the parent's, upsampled.

    After it, too, but for one step of upsampling being two: those differ where the parent's scores have a kink,
    within a quarter of a coarse pixel of a coarse pixel's middle.
    """
    coarse, fine = (
        build(small(model(each).prototxts(divide=16)["deploy"], (70, 50)), tmp_path)
        for each in (parent, name)
    )
    randomize(coarse)
    surgery.interp(coarse, [each for each in coarse.params if each.startswith("up")])
    coarse.save(str(tmp_path / "parent.caffemodel"))
    for each in fine.params:
        if each.startswith("score"):
            fine.params[each][0].data[...] = fine.params[each][1].data[...] = 0
    report = surgery.load_parent(fine, tmp_path / "parent.caffemodel")
    surgery.interp(fine, [each for each in fine.params if each.startswith("up")])
    stride, pool = (16, "pool4") if "fcn16s" in name else (8, "pool3")
    ends = ("_sem", "_geo") if name.startswith("siftflow") else ("",)
    assert {each.partition("[")[0] for each in report.missing if each.startswith("score")} == {
        f"score_{pool}{trunk}{end}"
        for end in ends
        for trunk in (MODALITIES if name.startswith("nyud") else ("",))
    }
    random = np.random.default_rng(2)
    for blob in coarse.inputs:
        image = random.normal(0, 60, (1, 3, 70, 50))
        for net in (coarse, fine):
            net.blobs[blob].data[...] = image
    expected, found = coarse.forward(), fine.forward()
    for end in ends:
        last = {16: f"upscore2{end}", 8: f"upscore_pool4{end}"}[stride]
        fused = fine.blobs[f"fuse_{pool}{end}"].data
        assert fused.any()
        np.testing.assert_array_equal(fused, fine.blobs[last].data)
        # the parent's coarse scores, to the bit
        first = "score_fused" if name.startswith("nyud") else f"score_fr{end}"
        first = first if stride == 16 else f"fuse_pool4{end}"
        np.testing.assert_array_equal(fine.blobs[first].data, coarse.blobs[first].data)
        before, after = expected[f"score{end}"][0], found[f"score{end}"][0]
        # pixels further than a quarter of a coarse pixel from each coarse pixel's middle
        offset = OFFSETS[parent][f"score{end}"]
        rows, columns = (
            abs((np.arange(size) + offset - (2 * stride - 0.5)) % (2 * stride) - stride) < stride / 2
            for size in (70, 50)
        )
        apart = np.ix_(range(len(before)), rows, columns)
        assert before[apart].size > 0.15 * before.size
        np.testing.assert_allclose(after[apart], before[apart], atol=1e-5 * abs(before).max())
        assert (after.argmax(0) == before.argmax(0)).mean() > 0.9


# recipes


@pytest.mark.parametrize("name", HEAVY)
def test_the_recipes_differ_in_loss_and_intermediate_upsampling_only(name):
    train, heavy = committed(name, "train"), committed(name, "train-heavy")
    inner = ("upscore2", "upscore_pool4")
    for paper, release in zip(train.layer, heavy.layer, strict=True):
        if paper.type == "Deconvolution":
            name = paper.name.removesuffix("_sem").removesuffix("_geo")
            assert [param.lr_mult for param in release.param] == [0]
            assert [param.lr_mult for param in paper.param] == [1 if name in inner else 0]
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
        scores = net_layer.name.startswith("score")
        if net_layer.type == "Convolution":
            fixed = name == "voc-fcn32s-fixed" and not scores
            assert multipliers == ([(0, 1)] * 2 if fixed else [(1, 1), (2, 0)])
        if net_layer.type == "Scale":
            value = {"scale_pool4": 0.01, "scale_pool3": 0.0001}[net_layer.name]
            assert net_layer.scale_param.filler.value == pytest.approx(value)
            assert multipliers == [(0, 1)]
        random = name.startswith("mini") and net_layer.type == "Convolution" and not scores
        kind = "gaussian" if net_layer.name == "conv1_1" else "msra"
        assert filler.type == (kind if random else "constant"), net_layer.name


PASCAL = "../data/pascal/"
DATA = {
    "voc": (
        ("train", "SBDDSegDataLayer", {"sbdd_dir": "../data/sbdd/dataset", "split": "train"}),
        ("val", "VOCSegDataLayer", {"voc_dir": f"{PASCAL}VOC2011", "split": "seg11valid"}),
    ),
    "mini": (
        (
            "train",
            "VOCSegDataLayer",
            {"voc_dir": f"{PASCAL}sample/VOC2011", "split": "train", "randomize": False},
        ),
        ("val", "VOCSegDataLayer", {"voc_dir": f"{PASCAL}sample/VOC2011", "split": "val"}),
    ),
    "nyud": tuple(
        (stem, "NYUDSegDataLayer", {"nyud_dir": "../data/nyud", "split": split})
        for stem, split in (("train", "trainval"), ("test", "test"))
    ),
    "siftflow": tuple(
        (stem, "SIFTFlowSegDataLayer", {"siftflow_dir": "../data/sift-flow", "split": split})
        for stem, split in (("train", "trainval"), ("test", "test"))
    ),
    "pascalcontext": tuple(
        (
            stem,
            "PASCALContextSegDataLayer",
            {"voc_dir": f"{PASCAL}VOC2010", "context_dir": "../data/pascal-context", "split": stem},
        )
        for stem in ("train", "val")
    ),
}
TOPS = {
    "nyud-fcn32s-color": ["color", "label"],
    "nyud-fcn32s-hha": ["hha", "label"],
    "nyud-fcn32s-color-d": ["color", "depth", "label"],
    "nyud-fcn32s-color-hha": ["color", "hha", "label"],
    "nyud-fcn16s-color-hha": ["color", "hha", "label"],
    "siftflow-fcn16s-semantic": ["data", "sem"],
    "siftflow-fcn16s-geometric": ["data", "geo"],
    **{f"siftflow-fcn{stride}s": ["data", "sem", "geo"] for stride in (32, 16, 8)},
}


@pytest.mark.parametrize("name", MODELS)
def test_data_layers(name):
    group = name.partition("-")[0]
    for stem, kind, expected in DATA[group]:
        layer = committed(name, stem).layer[0]
        params = ast.literal_eval(layer.python_param.param_str)
        assert (layer.python_param.module, layer.python_param.layer) == ("layers", kind)
        assert params.pop("seed") == 1337
        if group in ("voc", "mini"):  # the data layers of the others know theirs
            assert params.pop("mean") == (104.00699, 116.66877, 122.67892)
        assert params.pop("tops", None) == TOPS.get(name)
        assert params == expected
        assert len(layer.top) == len(TOPS.get(name, ["data", "label"]))


# the paper's rate, the release's rate and number of iterations
SOLVERS = {
    "voc-fcn-alexnet": (1e-3, 1e-4, 100_000),
    "voc-fcn-googlenet": (5e-5,),
    "voc-fcn32s": (1e-4, 1e-10, 100_000),
    "voc-fcn16s": (1e-6, 1e-12, 100_000),
    "voc-fcn8s": (1e-8, 1e-14, 100_000),
    "voc-fcn8s-atonce": (1e-4, 1e-10, 300_000),
    "voc-fcn32s-fixed": (1e-4,),
    "voc-fcn32s-pool5s1": (1e-4,),
    "voc-fcn-pool4": (1e-4,),
    "nyud-fcn32s-color": (1e-4, 1e-10, 300_000),
    "nyud-fcn32s-color-d": (1e-4, 1e-10, 300_000),
    "nyud-fcn32s-hha": (1e-4, 1e-10, 300_000),
    "nyud-fcn32s-color-hha": (1e-4, 1e-12, 300_000),
    "nyud-fcn16s-color-hha": (1e-6,),
    "siftflow-fcn32s": (1e-4, 1e-10, 300_000),
    "siftflow-fcn16s": (1e-6, 1e-12, 300_000),
    "siftflow-fcn8s": (1e-8, 1e-12, 300_000),
    "siftflow-fcn16s-semantic": (1e-4,),
    "siftflow-fcn16s-geometric": (1e-4,),
    "pascalcontext-fcn32s": (1e-4, 1e-10, 300_000),
    "pascalcontext-fcn16s": (1e-6, 1e-12, 300_000),
    "pascalcontext-fcn8s": (1e-8, 1e-14, 300_000),
}
IMAGES = {"voc": 736, "nyud": 654, "siftflow": 200, "pascalcontext": 5105, "mini": 3}


@pytest.mark.parametrize("name", SOLVERS)
def test_solvers_are_the_paper_s_and_the_release_s(name):
    rate, *release = SOLVERS[name]
    paper = solver(name)
    assert (paper.base_lr, paper.momentum) == (pytest.approx(rate), pytest.approx(0.9))
    assert (paper.iter_size, paper.train_net) == (20, "train.prototxt")
    assert (paper.type, paper.lr_policy, paper.weight_decay) == ("SGD", "fixed", pytest.approx(5e-4))
    assert (ROOT / name / "solver-heavy.prototxt").exists() == bool(release)
    if not release:
        return
    heavy = solver(name, "solver-heavy")
    alexnet = name == "voc-fcn-alexnet"  # released before the others were trained again, heavily
    assert (heavy.base_lr, heavy.max_iter) == (pytest.approx(release[0]), release[1])
    assert (heavy.momentum, heavy.iter_size) == (
        (pytest.approx(0.9), 20) if alexnet else (pytest.approx(0.99), 1)
    )
    assert heavy.train_net == ("train.prototxt" if alexnet else "train-heavy.prototxt")
    assert (heavy.type, heavy.lr_policy, heavy.weight_decay) == ("SGD", "fixed", pytest.approx(5e-4))
    if not alexnet:
        assert heavy.average_loss == 20


@pytest.mark.parametrize("name", MODELS)
def test_every_solver_is_seeded_and_leaves_scoring_to_solve_py(name):
    for path in (ROOT / name).glob("solver*.prototxt"):
        recipe = solver(name, path.stem)
        assert (path.parent / recipe.train_net).exists()
        assert len(recipe.test_net) == 1 and (path.parent / recipe.test_net[0]).exists()
        assert list(recipe.test_iter) == [IMAGES[name.partition("-")[0]]]
        assert (recipe.test_interval, recipe.test_initialization) == (999_999_999, False)
        assert (recipe.random_seed, recipe.display) == (1337, 20)
        assert recipe.snapshot_prefix == "snapshot/train"


VGG16, STAGE = "vgg16-fcn", {16: "32", 8: "16"}
PARENTS = {
    "voc-fcn-alexnet": ["caffenet-fcn"],
    "voc-fcn-googlenet": ["googlenet-fcn"],
    "voc-fcn8s-atonce": [VGG16],
    "mini-fcn32s": [],
    "nyud-fcn32s-color-hha": ["nyud-fcn32s-color", "nyud-fcn32s-hha"],
    "siftflow-fcn16s-semantic": [VGG16],
    "siftflow-fcn16s-geometric": [VGG16],
}


@pytest.mark.parametrize("name", MODELS)
def test_solve_py_looks_for_its_parents_where_a_directory_is(name, monkeypatch):
    calls = []
    monkeypatch.setattr(training, "main", lambda file, *parents, **steps: calls.append((file, parents)))
    runpy.run_path(str(ROOT / name / "solve.py"), run_name="__main__")
    ((file, parents),) = calls
    assert Path(file) == ROOT / name / "solve.py"
    before = [
        name.replace(f"fcn{fine}s", f"fcn{coarse}s")
        for fine, coarse in STAGE.items()
        if f"fcn{fine}s" in name
    ]
    assert [parent.name for parent in parents] == PARENTS.get(name, before or [VGG16])
    for parent in parents:
        assert parent.optional == (name == "mini-fcn8s")
        for pattern in parent.files:
            directory = (ROOT / name / pattern).resolve().relative_to(ROOT).parts[0]
            assert (ROOT / directory / "net.py").exists()
            trained = f"cd {directory} && python solve.py"
            assert (
                f"python {directory}/prepare.py all" if directory == "ilsvrc-nets" else trained
            ) in parent.how
