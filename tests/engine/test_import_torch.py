"""torchvision's classifiers as Caffe nets, against the same nets built here from plain torch.nn layers."""

import re

import caffe
import caffe.export
import numpy as np
import onnxruntime
import pytest
import torch
from caffe import caffemodel, torch_nets
from caffe.command import main
from caffe.import_torch import CAFFE_MEAN, import_torch
from torch import nn

MEAN = torch.tensor([0.485, 0.456, 0.406]).view(3, 1, 1)
DEVIATION = torch.tensor([0.229, 0.224, 0.225]).view(3, 1, 1)
VGG16 = [64, 64, "M", 128, 128, "M", 256, 256, 256, "M", 512, 512, 512, "M", 512, 512, 512, "M"]


class Classifier(nn.Module):
    """Features, average to one size, classifier: torchvision's VGG16 and AlexNet."""

    def __init__(self, features, size, classifier):
        super().__init__()
        self.features = nn.Sequential(*features)
        self.avgpool = nn.AdaptiveAvgPool2d(size)
        self.classifier = nn.Sequential(*classifier)

    def forward(self, x):
        return self.classifier(self.avgpool(self.features(x)).flatten(1))


def vgg16(divide=1, classes=1000):
    features, channels = [], 3
    for width in VGG16:
        if width == "M":
            features.append(nn.MaxPool2d(2, 2))
        else:
            features += [nn.Conv2d(channels, width // divide, 3, padding=1), nn.ReLU()]
            channels = width // divide
    hidden = 4096 // divide
    fc = [nn.Linear(channels * 49, hidden), nn.ReLU(), nn.Dropout(), nn.Linear(hidden, hidden), nn.ReLU()]
    return Classifier(features, 7, [*fc, nn.Dropout(), nn.Linear(hidden, classes)])


def alexnet(divide=1, classes=1000):
    a, b, c, d, hidden = (n // divide for n in (64, 192, 384, 256, 4096))
    features = [nn.Conv2d(3, a, 11, 4, 2), nn.ReLU(), nn.MaxPool2d(3, 2)]
    features += [nn.Conv2d(a, b, 5, padding=2), nn.ReLU(), nn.MaxPool2d(3, 2)]
    features += [nn.Conv2d(b, c, 3, padding=1), nn.ReLU(), nn.Conv2d(c, d, 3, padding=1), nn.ReLU()]
    features += [nn.Conv2d(d, d, 3, padding=1), nn.ReLU(), nn.MaxPool2d(3, 2)]
    fc = [nn.Dropout(), nn.Linear(d * 36, hidden), nn.ReLU(), nn.Dropout(), nn.Linear(hidden, hidden)]
    return Classifier(features, 6, [*fc, nn.ReLU(), nn.Linear(hidden, classes)])


class ConvNorm(nn.Module):
    def __init__(self, source, channels, **shape):
        super().__init__()
        self.conv = nn.Conv2d(source, channels, bias=False, **shape)
        self.bn = nn.BatchNorm2d(channels, eps=0.001)

    def forward(self, x):
        return torch.relu(self.bn(self.conv(x)))


class Inception(nn.Module):
    def __init__(self, source, one, reduce3, three, reduce5, five, project):
        super().__init__()
        self.branch1 = ConvNorm(source, one, kernel_size=1)
        self.branch2 = nn.Sequential(
            ConvNorm(source, reduce3, kernel_size=1), ConvNorm(reduce3, three, kernel_size=3, padding=1)
        )
        self.branch3 = nn.Sequential(
            ConvNorm(source, reduce5, kernel_size=1), ConvNorm(reduce5, five, kernel_size=3, padding=1)
        )
        self.branch4 = nn.Sequential(
            nn.MaxPool2d(3, 1, 1, ceil_mode=True), ConvNorm(source, project, kernel_size=1)
        )

    def forward(self, x):
        return torch.cat([self.branch1(x), self.branch2(x), self.branch3(x), self.branch4(x)], 1)


class GoogLeNet(nn.Module):
    def __init__(self, classes=1000, transform_input=True):
        super().__init__()
        self.transform_input = transform_input
        self.conv1 = ConvNorm(3, 64, kernel_size=7, stride=2, padding=3)
        self.conv2 = ConvNorm(64, 64, kernel_size=1)
        self.conv3 = ConvNorm(64, 192, kernel_size=3, padding=1)
        self.inception3a = Inception(192, 64, 96, 128, 16, 32, 32)
        self.inception3b = Inception(256, 128, 128, 192, 32, 96, 64)
        self.inception4a = Inception(480, 192, 96, 208, 16, 48, 64)
        self.inception4b = Inception(512, 160, 112, 224, 24, 64, 64)
        self.inception4c = Inception(512, 128, 128, 256, 24, 64, 64)
        self.inception4d = Inception(512, 112, 144, 288, 32, 64, 64)
        self.inception4e = Inception(528, 256, 160, 320, 32, 128, 128)
        self.inception5a = Inception(832, 256, 160, 320, 32, 128, 128)
        self.inception5b = Inception(832, 384, 192, 384, 48, 128, 128)
        self.fc = nn.Linear(1024, classes)

    def forward(self, x):
        if self.transform_input:
            x = x * (DEVIATION / 0.5) + (MEAN - 0.5) / 0.5

        def pool(x, kernel=3):
            return nn.functional.max_pool2d(x, kernel, 2, ceil_mode=True)

        x = pool(self.conv3(self.conv2(pool(self.conv1(x)))))
        x = pool(self.inception3b(self.inception3a(x)))
        x = self.inception4c(self.inception4b(self.inception4a(x)))
        x = pool(self.inception4e(self.inception4d(x)), 2)
        x = self.inception5b(self.inception5a(x))
        return self.fc(x.mean((2, 3)))


def randomised(model, seed=0):
    """``model`` in evaluation, its weights random and such that values keep their scale."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, tensor in model.state_dict().items():
            if tensor.dim() > 1:
                tensor.normal_(generator=generator).mul_((2 / tensor[0].numel()) ** 0.5)
            elif name.endswith(("bn.weight", "running_var")):
                tensor.uniform_(0.5, 1.5, generator=generator)
            elif tensor.is_floating_point():
                tensor.normal_(generator=generator).mul_(0.1)
    return model.eval()


@pytest.fixture
def narrow(monkeypatch):
    """torchvision's VGG16 and AlexNet with a sixteenth of the channels, so that tests are quick."""
    monkeypatch.setattr(torch_nets, "_VGG16", tuple((s, n, c // 16) for s, n, c in torch_nets._VGG16))
    monkeypatch.setattr(
        torch_nets, "_ALEXNET", tuple((*r[:2], r[2] // 16, *r[3:]) for r in torch_nets._ALEXNET)
    )
    monkeypatch.setattr(torch_nets, "_HIDDEN", 256)


IMAGE = np.random.RandomState(0).randint(0, 256, (1, 224, 224, 3)).astype(np.float32)  # RGB, 0 to 255


def torch_scores(model, layer=None):
    """The model's scores of IMAGE, or what its module ``layer`` gives, on input as torchvision documents it."""
    x = (torch.from_numpy(IMAGE).permute(0, 3, 1, 2) / 255 - MEAN) / DEVIATION
    seen = []
    if layer is not None:
        layer.register_forward_hook(lambda module, given, result: seen.append(result))
    with torch.no_grad():
        scores = model(x)
    return (seen[0] if layer is not None else scores).numpy()


def caffe_net(found, layer=None):
    """The imported net after a forward of IMAGE: BGR minus the mean."""
    net = caffe.Net(str(found.prototxt), caffe.TEST, weights=str(found.caffemodel))
    image = IMAGE[..., ::-1] - np.array(found.mean, np.float32)
    net.blobs["data"].data[...] = image.transpose(0, 3, 1, 2)
    net.forward(end=layer)
    return net


def imported(model, tmp_path, **options):
    torch.save(model.state_dict(), tmp_path / "model.pth")
    return import_torch(tmp_path / "model.pth", tmp_path / "model.caffemodel", **options)


def close(found, expected):
    return np.abs(found - expected).max() < 1e-4 * np.abs(expected).max()


MODELS = {
    "VGG16": lambda: vgg16(16, 10),
    "AlexNet": lambda: alexnet(16, 10),
    "GoogLeNet": lambda: GoogLeNet(10),
}
SCORES = {"VGG16": "fc8", "AlexNet": "fc8", "GoogLeNet": "loss3/classifier"}


@pytest.mark.parametrize("name", MODELS)
def test_scores_are_those_of_pytorch(narrow, tmp_path, name):
    model = randomised(MODELS[name]())
    found = imported(model, tmp_path, mean=None)
    assert found.net == name and found.border == 0
    net = caffe_net(found)
    expected = torch_scores(model)
    assert expected.std() > 0.01
    assert close(net.blobs[SCORES[name]].data, expected)
    assert net.blobs["prob"].data.sum() == pytest.approx(1, rel=1e-5) and net.outputs == ["prob"]


@pytest.mark.parametrize("name", MODELS)
def test_with_caffes_mean_only_the_border_differs(narrow, tmp_path, name):
    model = randomised(MODELS[name]())
    found = imported(model, tmp_path)
    assert found.mean == CAFFE_MEAN
    if name == "GoogLeNet":
        expected = torch_scores(model, model.conv1.bn)
        net = caffe_net(found, "conv1/7x7_s2/scale")
        scale = (model.conv1.bn.weight / (model.conv1.bn.running_var + 0.001).sqrt()).detach().numpy()
        layer, reach = "conv1/7x7_s2", 2
    else:
        expected = torch_scores(model, model.features[0])
        net, scale, layer, reach = caffe_net(found, "conv1_1" if name == "VGG16" else "conv1"), 1.0, "", 1
        layer = "conv1_1" if name == "VGG16" else "conv1"
    difference = np.abs(net.blobs[layer].data - expected)
    inner = (..., slice(reach, -reach), slice(reach, -reach))
    assert difference[inner].max() < 1e-4 * np.abs(expected).max()
    assert 1e-4 * np.abs(expected).max() < difference.max() <= found.border * np.abs(scale).max() * 1.001


def test_mean_of_the_user(narrow, tmp_path):
    model = randomised(vgg16(16, 10))
    found = imported(model, tmp_path, mean=(0, 0, 0))
    expected = torch_scores(model, model.features[0])
    net = caffe_net(found, "conv1_1")
    assert found.mean == (0, 0, 0)
    assert close(net.blobs["conv1_1"].data[..., 1:-1, 1:-1], expected[..., 1:-1, 1:-1])


def test_there_and_back(tmp_path):
    """PyTorch to Caffe to ONNX: the scores stay."""
    model = randomised(GoogLeNet(10))
    found = imported(model, tmp_path, mean=None)
    export = caffe.export.to_onnx(found.prototxt, found.caffemodel, tmp_path / "net.onnx", check=False)
    image = (IMAGE[..., ::-1] - np.array(found.mean, np.float32)).transpose(0, 3, 1, 2)
    (probability,) = onnxruntime.InferenceSession(str(export.path)).run(None, {"data": image})
    assert close(probability, torch.softmax(torch.from_numpy(torch_scores(model)), 1).numpy())
    assert export.inputs["data"] == ["batch", 3, "height", "width"]  # its average is over the whole image


def test_googlenet_trained_without_transform_input(tmp_path):
    model = randomised(GoogLeNet(10, transform_input=False))
    found = imported(model, tmp_path, mean=None, transform_input=False)
    assert found.mean == pytest.approx((255 * 0.406, 255 * 0.456, 255 * 0.485))
    assert close(caffe_net(found).blobs["loss3/classifier"].data, torch_scores(model))


def test_googlenets_auxiliary_classifiers_are_left_out(tmp_path):
    model = randomised(GoogLeNet(10))
    model.aux1 = ConvNorm(512, 128, kernel_size=1)
    found = imported(model, tmp_path, mean=None)
    assert "auxiliary classifiers are left out" in found.notes[0]
    assert close(caffe_net(found).blobs["loss3/classifier"].data, torch_scores(model))


def test_layers_have_the_names_and_shapes_of_caffes_vgg16():
    net = torch_nets.KNOWN["VGG16"].net(1000).spec.to_proto()
    names = [layer.name for layer in net.layer if layer.type in ("Convolution", "InnerProduct", "Pooling")]
    assert (
        names
        == (
            "conv1_1 conv1_2 pool1 conv2_1 conv2_2 pool2 conv3_1 conv3_2 conv3_3 pool3 conv4_1 conv4_2 conv4_3 pool4 "
            "conv5_1 conv5_2 conv5_3 pool5 fc6 fc7 fc8"
        ).split()
    )


def test_alexnet_is_said_not_to_be_caffenet(narrow, tmp_path):
    assert "torchvision's AlexNet is not CaffeNet" in imported(randomised(alexnet(16, 3)), tmp_path).notes[0]


@pytest.mark.parametrize(
    "wrap", [lambda s: {"state_dict": s, "epoch": 3}, lambda s: {f"module.{k}": v for k, v in s.items()}]
)
def test_checkpoints_of_training_scripts(narrow, tmp_path, wrap):
    model = randomised(vgg16(16, 4))
    torch.save(wrap(model.state_dict()), tmp_path / "model.pth")
    found = import_torch(tmp_path / "model.pth", tmp_path / "out.caffemodel", tmp_path / "deploy.prototxt")
    assert found.prototxt == tmp_path / "deploy.prototxt"
    stored = caffemodel.load(found.caffemodel)
    assert np.array_equal(stored["fc8"][0], model.classifier[6].weight.detach().numpy())


def test_half_precision(narrow, tmp_path):
    model = randomised(vgg16(16, 4)).half()
    stored = caffemodel.load(imported(model, tmp_path).caffemodel)
    assert np.array_equal(stored["fc7"][1], model.classifier[3].bias.detach().float().numpy())


def refused(message, tmp_path, content, name="model.pth"):
    if content is not None:
        torch.save(content, tmp_path / name)
    with pytest.raises(caffe.CaffeError, match=re.escape(message)) as caught:
        import_torch(tmp_path / name, tmp_path / "out.caffemodel")
    assert name in str(caught.value)
    assert not [path for path in tmp_path.iterdir() if path.name != name]


def test_other_nets_are_refused(narrow, tmp_path):
    state = vgg16(16).state_dict()
    del state["features.0.bias"]
    refused("VGG16 is the closest, but 1 names differ: 'features.0.bias' is missing", tmp_path, state)
    state = vgg16(16).state_dict() | {"features.1.running_mean": torch.zeros(4)}
    refused("'features.1.running_mean' is in the file", tmp_path, state)
    refused("not the weights of a net that can be imported: VGG16, AlexNet, GoogLeNet", tmp_path, {})


def test_other_shapes_are_refused(narrow, tmp_path):
    state = vgg16(16).state_dict() | {"features.2.weight": torch.zeros(4, 4, 5, 5)}
    refused("'features.2.weight' is 4x4x5x5, and should be 4x4x3x3", tmp_path, state)
    state = vgg16(16).state_dict() | {"classifier.6.bias": torch.zeros(())}
    refused("should be", tmp_path, state)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_numbers_that_are_none_are_refused(narrow, tmp_path, value):
    model = vgg16(16)
    with torch.no_grad():
        model.classifier[0].weight[2, 3] = value
    refused("'classifier.0.weight' holds NaN or infinity", tmp_path, model.state_dict())


def test_other_files_are_refused(tmp_path):
    refused("Could not open file", tmp_path, None)
    refused("it should hold a state_dict (tensors by name), and holds list", tmp_path, [1, 2])
    refused("it holds more than tensors", tmp_path, nn.Conv2d(1, 1, 1))
    for content in (b"", b"PK\x03\x04 and no more", b"weights"):
        (tmp_path / "model.pth").write_bytes(content)
        refused("model.pth", tmp_path, None)


@pytest.mark.parametrize("mean", [(1, 2), (1, 2, float("nan"))])
def test_wrong_means_are_refused(narrow, tmp_path, mean):
    with pytest.raises(caffe.CaffeError, match="three finite numbers"):
        imported(vgg16(16), tmp_path, mean=mean)
    assert [path.name for path in tmp_path.iterdir()] == ["model.pth"]


def test_the_net_would_overwrite_the_weights(tmp_path):
    with pytest.raises(caffe.CaffeError, match="two files"):
        import_torch(tmp_path / "model.pth", tmp_path / "model.prototxt")


def test_nothing_is_half_written(narrow, tmp_path):
    torch.save(randomised(vgg16(16)).state_dict(), tmp_path / "model.pth")
    with pytest.raises(caffe.CaffeError, match="cannot write"):
        import_torch(
            tmp_path / "model.pth", tmp_path / "nowhere" / "out.caffemodel", tmp_path / "net.prototxt"
        )
    assert [path.name for path in tmp_path.iterdir()] == ["model.pth"]


@pytest.mark.full
@pytest.mark.parametrize(("build", "name"), [(vgg16, "VGG16"), (alexnet, "AlexNet")])
def test_at_full_width(tmp_path, build, name):
    model = randomised(build())
    found = imported(model, tmp_path, mean=None)
    assert found.net == name
    assert close(caffe_net(found).blobs["fc8"].data, torch_scores(model))


def test_command(narrow, tmp_path, capsys):
    torch.save(randomised(alexnet(16, 3)).state_dict(), tmp_path / "model.pth")
    flags = ["--from", str(tmp_path / "model.pth"), "--output", str(tmp_path / "model.caffemodel")]
    assert main(["import", *flags]) == 0
    printed = capsys.readouterr().out
    assert (
        "AlexNet of torchvision. Its input is BGR, 0 to 255, minus 104.00699, 116.66877, 122.67892."
        in printed
    )
    assert "is not CaffeNet" in printed and "covers padding" in printed
    assert "trained differently" in printed and "about 5 points of mean IU" in printed
    assert printed.endswith(f"wrote {tmp_path / 'model.caffemodel'} and {tmp_path / 'model.prototxt'}\n")
    assert main(["import", *flags, "--mean", "exact", "--prototxt", str(tmp_path / "other.prototxt")]) == 0
    assert "covers padding" not in capsys.readouterr().out and (tmp_path / "other.prototxt").exists()


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ([], "Need weights to import: --from"),
        (["--from", "a.pth"], "Need a file to write: --output"),
        (["--from", "a.pth", "--output", "a.caffemodel"], "Could not open file a.pth"),
        (
            ["--from", "a.pth", "--output", "a.caffemodel", "--mean", "grey"],
            "--mean 'grey': numbers separated",
        ),
    ],
)
def test_command_refusals(capsys, flags, message):
    assert main(["import", *flags]) == 1
    assert message in capsys.readouterr().err
