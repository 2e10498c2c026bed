"""surgery: what is copied, coerced, dropped and left at zero; bilinear kernels; nets that cannot learn."""

import sys
from pathlib import Path

import caffe
import numpy as np
import pytest
from caffe import NetSpec
from caffe import layers as L
from google.protobuf import text_format

import surgery
from surgery import SurgeryError


def spec(build, size=8):
    n = NetSpec()
    n.data = L.Input(shape={"dim": [1, 2, size, size]})
    build(n)
    return n.to_proto()


@pytest.fixture
def make(tmp_path):
    """``make(build)``: the Net of the layers that ``build(n)`` adds on n.data, 1 x 2 x 8 x 8, filled at random."""
    numbers = iter(range(100))

    def make_net(build, fill=True):
        path = tmp_path / f"net{next(numbers)}.prototxt"
        path.write_text(text_format.MessageToString(spec(build)))
        net = caffe.Net(str(path), caffe.TEST)
        random = np.random.default_rng(len(str(path)) + next(numbers))
        for blobs in net.params.values() if fill else ():
            for blob in blobs:
                blob.data[...] = random.normal(size=blob.data.shape)
        return net

    return make_net


def classifier(n):
    n.conv = L.Convolution(n.data, num_output=4, kernel_size=3)
    n.fc = L.InnerProduct(n.conv, num_output=5)
    n.classes = L.InnerProduct(n.fc, num_output=10)


def convolutional(n):
    n.conv = L.Convolution(n.data, num_output=4, kernel_size=3)
    n.fc = L.Convolution(n.conv, num_output=5, kernel_size=6)
    n.score = L.Convolution(n.fc, num_output=3, kernel_size=1)
    n.up = deconv(n.score, 3)


def deconv(bottom, channels, kernel=4, **params):
    shape = {"num_output": channels, "kernel_size": kernel, "stride": 2, "bias_term": False, **params}
    return L.Deconvolution(bottom, convolution_param=shape)


def weights(net):
    return {name: [blob.data.copy() for blob in blobs] for name, blobs in net.params.items()}


def assert_same(one, other):
    assert one.keys() == other.keys()
    for name in one:
        for a, b in zip(one[name], other[name], strict=True):
            np.testing.assert_array_equal(a, b)


# transplant


def test_transplant_reports_what_became_of_every_blob(make):
    old, new = make(classifier), make(convolutional, fill=False)
    report = surgery.transplant(new, old)
    assert report.copied == {"conv[0]": "", "conv[1]": "", "fc[1]": ""}
    assert report.coerced == {"fc[0]": "(5, 144) -> (5, 4, 6, 6)"}
    assert list(report.dropped) == ["classes[0]", "classes[1]"]
    assert "no such layer" in report.dropped["classes[0]"]
    assert list(report.missing) == ["score[0]", "score[1]", "up[0]"]
    assert report.zero == ["score", "up"]
    np.testing.assert_array_equal(new.params["fc"][0].data.ravel(), old.params["fc"][0].data.ravel())
    np.testing.assert_array_equal(new.params["conv"][0].data, old.params["conv"][0].data)


def test_a_transplanted_inner_product_computes_the_same(make):
    old, new = make(classifier), make(convolutional)
    surgery.transplant(new, old)
    image = np.random.default_rng(1).normal(size=(1, 2, 8, 8))
    for net in (old, new):
        net.blobs["data"].data[...] = image
        net.forward()
    np.testing.assert_allclose(new.blobs["fc"].data[:, :, 0, 0], old.blobs["fc"].data, rtol=1e-5, atol=1e-5)


def test_blobs_of_another_size_are_dropped_with_the_reason(make):
    def wider(n):
        n.conv = L.Convolution(n.data, num_output=6, kernel_size=3)
        n.fc = L.Convolution(n.conv, num_output=5, kernel_size=4, bias_term=False)

    old, new = make(classifier), make(wider)
    before = weights(new)
    report = surgery.transplant(new, old)
    assert not report.copied and not report.coerced
    assert report.dropped["conv[0]"] == "((4, 2, 3, 3) -> (6, 2, 3, 3): 72 values do not fill 108)"
    assert "no such blob" in report.dropped["fc[1]"]
    assert_same(weights(new), before)


def test_a_suffix_names_the_target_layers(make):
    def two_streams(n):
        for stream in ("color", "hha"):
            n[f"conv{stream}"] = L.Convolution(n.data, num_output=4, kernel_size=3)

    old, new = make(classifier), make(two_streams, fill=False)
    report = surgery.transplant(new, old, "hha")
    assert list(report.copied) == ["convhha[0]", "convhha[1]"]
    assert report.zero == ["convcolor"]
    np.testing.assert_array_equal(new.params["convhha"][0].data, old.params["conv"][0].data)


def test_the_report_prints_as_a_table(make):
    report = surgery.transplant(make(convolutional, fill=False), make(classifier))
    assert str(report).splitlines() == [
        "      copied    3 blobs  conv, fc[1]",
        "     coerced    1 blobs  fc[0] (5, 144) -> (5, 4, 6, 6)",
        "     dropped    2 blobs  classes (the new net has no such layer)",
        "     missing    3 blobs  score, up",
        "left at zero   2 layers  score, up",
    ]
    assert str(surgery.Report()).splitlines()[0] == "      copied    0 blobs"


# load_parent


def engines_way(monkeypatch):
    """Leave only what the original engine has: no caffe.caffemodel."""
    monkeypatch.setitem(sys.modules, "caffe.caffemodel", None)


@pytest.fixture(params=["embedded", "original"])
def reading(request, monkeypatch):
    if request.param == "original":
        engines_way(monkeypatch)


def test_load_parent_copies_by_name_and_tells_the_rest(make, tmp_path, reading):
    def parent(n):
        n.conv = L.Convolution(n.data, num_output=4, kernel_size=3)
        n.old = L.Convolution(n.conv, num_output=2, kernel_size=1)

    old, new, path = make(parent), make(convolutional, fill=False), tmp_path / "parent.caffemodel"
    old.save(str(path))
    report = surgery.load_parent(new, path)
    assert list(report.copied) == ["conv[0]", "conv[1]"]
    assert list(report.dropped) == ["old[0]", "old[1]"]
    assert list(report.missing) == ["fc[0]", "fc[1]", "score[0]", "score[1]", "up[0]"]
    assert report.zero == ["fc", "score", "up"]
    np.testing.assert_array_equal(new.params["conv"][1].data, old.params["conv"][1].data)


def test_load_parent_reads_legacy_files(make, tmp_path, reading):
    model = caffe.proto.caffe_pb2.NetParameter()
    values = np.arange(72, dtype=np.float32)
    layer = model.layers.add(name="conv", type=caffe.proto.caffe_pb2.V1LayerParameter.CONVOLUTION)
    layer.blobs.add(num=4, channels=2, height=3, width=3, data=values)
    layer.blobs.add(num=1, channels=1, height=1, width=4, data=[1, 2, 3, 4])
    path = tmp_path / "legacy.caffemodel"
    path.write_bytes(model.SerializeToString())
    net = make(convolutional)
    assert list(surgery.load_parent(net, path).copied) == ["conv[0]", "conv[1]"]
    np.testing.assert_array_equal(net.params["conv"][0].data.ravel(), values)
    np.testing.assert_array_equal(net.params["conv"][1].data, [1, 2, 3, 4])


def test_weights_of_another_net_are_refused_and_nothing_changes(make, tmp_path, reading):
    old, new, path = make(classifier), make(convolutional), tmp_path / "classifier.caffemodel"
    old.save(str(path))
    before = weights(new)
    with pytest.raises(SurgeryError, match=r"fc is 5x144 and 5 in the file, 5x4x6x6 and 5 in the net"):
        surgery.load_parent(new, path)
    assert_same(weights(new), before)

    def stranger(n):
        n.other = L.Convolution(n.data, num_output=1, kernel_size=1)

    make(stranger).save(str(path))
    with pytest.raises(SurgeryError, match=r"file: other\[0\].*net: conv, fc"):
        surgery.load_parent(new, path)

    def no_bias(n):
        n.conv = L.Convolution(n.data, num_output=4, kernel_size=3, bias_term=False)

    make(no_bias).save(str(path))
    with pytest.raises(SurgeryError, match="conv is 4x2x3x3 in the file, 4x2x3x3 and 4 in the net"):
        surgery.load_parent(new, path)
    assert_same(weights(new), before)


def test_a_missing_weight_file_is_named(make):
    with pytest.raises(SurgeryError, match=r"no weight file nowhere\.caffemodel"):
        surgery.load_parent(make(convolutional), Path("nowhere.caffemodel"))


@pytest.mark.parametrize("content", [b"not weights, only text", b"\xff" * 50])
def test_a_file_that_holds_no_weights_is_named(make, tmp_path, reading, content):
    net, path = make(convolutional), tmp_path / "page.caffemodel"
    before = weights(net)
    path.write_bytes(content)
    with pytest.raises(RuntimeError, match=r"page\.caffemodel: not a readable caffemodel"):
        surgery.load_parent(net, path)
    assert_same(weights(net), before)


# bilinear upsampling


def test_upsample_filt():
    row = [0.25, 0.75, 0.75, 0.25]
    np.testing.assert_array_equal(surgery.upsample_filt(4), np.outer(row, row))
    row = [0.5, 1, 0.5]
    np.testing.assert_array_equal(surgery.upsample_filt(3), np.outer(row, row))
    for size in (1, 2, 5, 16, 63, 64):
        kernel = surgery.upsample_filt(size)
        assert kernel.shape == (size, size)
        np.testing.assert_array_equal(kernel, kernel[::-1, ::-1])
        factor = (size + 1) // 2
        if size > 1:  # each phase of the upsampling is a weighted mean
            one = kernel[size // 2] / kernel[size // 2].sum() * factor
            np.testing.assert_allclose([one[i::factor].sum() for i in range(factor)], 1)


def test_interp_fills_the_diagonal_only_and_upsamples_linearly(make):
    net = make(convolutional)
    before = weights(net)
    surgery.interp(net, ["up"])
    kernel = net.params["up"][0].data
    for i in range(3):
        for j in range(3):
            expected = surgery.upsample_filt(4) if i == j else np.zeros((4, 4))
            np.testing.assert_array_equal(kernel[i, j], expected.astype(np.float32))
    assert surgery.is_bilinear(net.params["up"][0])
    del before["up"]
    assert_same({name: values for name, values in weights(net).items() if name != "up"}, before)


def test_bilinear_upsampling_keeps_a_plane_and_its_channels(make):
    def plane(n):
        n.up = deconv(n.data, 2, kernel=8, stride=4)

    net = make(plane)
    surgery.interp(net, ["up"])
    rows, columns = np.mgrid[:8, :8]
    net.blobs["data"].data[0] = [rows, 2 * columns]
    net.forward()
    fine = (np.arange(36) - 3.5) / 4
    inner = slice(4, -4)
    got = net.blobs["up"].data[0]
    np.testing.assert_allclose(got[0, inner, 10], fine[inner], rtol=1e-5)
    np.testing.assert_allclose(got[1, 10, inner], 2 * fine[inner], rtol=1e-5)


def test_interp_fills_every_group_of_a_grouped_kernel(make):
    def grouped(n):
        n.up = deconv(n.data, 2, group=2)

    net = make(grouped)
    surgery.interp(net, ["up"])
    assert net.params["up"][0].data.shape == (2, 1, 4, 4)
    for plane in net.params["up"][0].data[:, 0]:
        np.testing.assert_array_equal(plane, surgery.upsample_filt(4).astype(np.float32))
    assert surgery.is_bilinear(net.params["up"][0])


@pytest.mark.parametrize(
    ("channels", "kernel", "message"),
    [
        (3, {}, r"layer up of shape \(2, 3, 4, 4\).*must be equal"),
        (2, {"kernel_size": [3, 4]}, r"layer up of shape \(2, 2, 3, 4\).*is square"),
    ],
)
def test_interp_refuses_other_kernels_and_changes_nothing(make, channels, kernel, message):
    def odd(n):
        n.fine = deconv(n.data, 2)
        n.up = deconv(n.data, channels, **kernel)

    net = make(odd)
    before = weights(net)
    with pytest.raises(SurgeryError, match=message):
        surgery.interp(net, ["fine", "up"])
    assert_same(weights(net), before)
    assert not surgery.is_bilinear(net.params["up"][0])
    with pytest.raises(SurgeryError, match="layer upscore: the net has no weights"):
        surgery.interp(net, ["upscore"])


def test_is_bilinear_sees_what_is_off(make):
    net = make(convolutional)
    up = net.params["up"][0]
    surgery.interp(net, ["up"])
    up.data[0, 1, 0, 0] = 1e-3
    assert not surgery.is_bilinear(up)
    up.data[...] = 0
    assert not surgery.is_bilinear(up)
    assert not surgery.is_bilinear(net.params["conv"][1])


# more classes


def scores(channels, inputs=2):
    def build(n):
        n[f"score{channels}"] = L.Convolution(n.data, num_output=channels, kernel_size=1, group=2 // inputs)

    return build


def test_expand_score_keeps_the_old_classes(make):
    old, new = make(scores(3)), make(scores(5))
    before = weights(new)
    report = surgery.expand_score(new, "score5", old, "score3")
    for i in range(2):
        np.testing.assert_array_equal(new.params["score5"][i].data[:3], old.params["score3"][i].data)
        np.testing.assert_array_equal(new.params["score5"][i].data[3:], before["score5"][i][3:])
    assert report.copied["score5[1]"] == "(3,) -> (5,)"


def test_expand_score_refuses_fewer_classes_and_other_features(make):
    small, large, other = make(scores(4)), make(scores(6)), make(scores(8, inputs=1))
    before = weights(small)
    with pytest.raises(
        SurgeryError, match=r"score6 of shape \(6, 2, 1, 1\) into score4 of shape \(4, 2, 1, 1\)"
    ):
        surgery.expand_score(small, "score4", large, "score6")
    with pytest.raises(SurgeryError, match="the same in all else"):
        surgery.expand_score(other, "score8", small, "score4")
    assert_same(weights(small), before)


# more channels, and holes


def seeing(channels, **change):
    def build(n):
        n.more = L.Convolution(n.data, num_output=channels, kernel_size=1)
        n.conv = L.Convolution(n.more, **{"num_output": 4, "kernel_size": 3, **change})

    return build


def test_widen_keeps_the_old_channels_and_fills_the_new(make):
    old = make(seeing(3))
    source = old.params["conv"][0].data.copy()
    expected = {
        "average": np.concatenate([source, np.repeat(source.mean(1, keepdims=True), 2, 1)], 1),
        "replicate": np.concatenate([source, source[:, :2]], 1),
        "inflate": np.concatenate([source, source[:, :2]], 1) * 3 / 5,
    }
    for how, wanted in expected.items():
        new = make(seeing(5))
        report = surgery.widen(new, "conv", old, "conv", how)
        np.testing.assert_allclose(new.params["conv"][0].data, wanted, rtol=1e-6)
        np.testing.assert_array_equal(new.params["conv"][1].data, old.params["conv"][1].data)
        assert report.coerced == {"conv[0]": f"(4, 3, 3, 3) -> (4, 5, 3, 3), {how}"}
        assert report.copied == {"conv[1]": ""}
        np.testing.assert_array_equal(old.params["conv"][0].data, source)


def test_an_inflated_layer_gives_the_response_of_before_to_channels_that_are_alike(make):
    old, new = make(seeing(3)), make(seeing(6))
    surgery.widen(new, "conv", old, "conv", "inflate")
    image = np.random.default_rng(0).normal(size=(8, 8))
    for net in (old, new):
        net.blobs["more"].data[...] = image
        net.forward(start="conv")
    np.testing.assert_allclose(new.blobs["conv"].data, old.blobs["conv"].data, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("change", "how", "message"),
    [
        (
            {"num_output": 5},
            "average",
            r"cannot widen conv of shape \(4, 3, 3, 3\) into conv of shape \(5, 5,",
        ),
        ({"kernel_size": 5}, "average", r"into conv of shape \(4, 5, 5, 5\)"),
        ({}, "stretch", "by 'stretch': it is one of average, replicate, inflate"),
    ],
)
def test_widen_refuses_other_layers_and_changes_nothing(make, change, how, message):
    old, new = make(seeing(3)), make(seeing(5, **change))
    before = weights(new)
    with pytest.raises(SurgeryError, match=message):
        surgery.widen(new, "conv", old, "conv", how)
    with pytest.raises(SurgeryError, match="more input channels"):
        surgery.widen(old, "conv", new, "conv")
    assert_same(weights(new), before)


@pytest.mark.parametrize("channels", [1, 2, 3, 4, 5, 7])
def test_rechannel_gives_the_response_of_before_to_channels_that_are_alike(make, channels):
    old, new = make(seeing(3)), make(seeing(channels))
    source = old.params["conv"][0].data.copy()
    report = surgery.rechannel(new, "conv", old, "conv")
    made = new.params["conv"][0].data
    np.testing.assert_allclose(made.sum(1), source.sum(1), rtol=1e-5, atol=1e-5)
    if channels > 3:
        np.testing.assert_allclose(made[:, :3], source * 3 / channels, rtol=1e-6)
        for other in range(3, channels):
            np.testing.assert_allclose(made[:, other], source.mean(1) * 3 / channels, rtol=1e-5, atol=1e-6)
    elif channels < 3:
        np.testing.assert_array_equal(made, np.repeat(made[:, :1], channels, 1))
    np.testing.assert_array_equal(new.params["conv"][1].data, old.params["conv"][1].data)
    assert report.coerced == {"conv[0]": f"(4, 3, 3, 3) -> (4, {channels}, 3, 3), of the same sum"}
    assert report.copied == {"conv[1]": ""}
    image = np.random.default_rng(0).normal(size=(8, 8))
    for net in (old, new):
        net.blobs["more"].data[...] = image
        net.forward(start="conv")
    np.testing.assert_allclose(new.blobs["conv"].data, old.blobs["conv"].data, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("change", [{"num_output": 5}, {"kernel_size": 5}])
def test_rechannel_refuses_other_layers_and_changes_nothing(make, change):
    old, new = make(seeing(5)), make(seeing(2, **change))
    before = weights(new)
    with pytest.raises(
        SurgeryError, match=r"cannot rechannel conv of shape \(4, 5, 3, 3\) into conv of shape"
    ):
        surgery.rechannel(new, "conv", old, "conv")
    assert_same(weights(new), before)


@pytest.mark.parametrize(("factor", "size"), [(2, 5), (3, 7), (2, 6)])
def test_rarefy_puts_zeros_between_the_filters_values(make, factor, size):
    old, new = make(seeing(2)), make(seeing(2, kernel_size=size))
    source = old.params["conv"][0].data
    report = surgery.rarefy(new, "conv", old, "conv", factor)
    expected = np.zeros((4, 2, size, size))
    for i in range(3):
        for j in range(3):
            expected[:, :, factor * i, factor * j] = source[:, :, i, j]
    np.testing.assert_array_equal(new.params["conv"][0].data, expected)
    np.testing.assert_array_equal(new.params["conv"][1].data, old.params["conv"][1].data)
    change = f"(4, 2, 3, 3) -> (4, 2, {size}, {size})"
    assert report.coerced == {"conv[0]": f"{change}, rarefied by {factor}"}


@pytest.mark.parametrize("change", [{"kernel_size": 4}, {"kernel_size": 7, "num_output": 5}])
def test_rarefy_refuses_kernels_without_room_and_changes_nothing(make, change):
    old, new = make(seeing(2)), make(seeing(2, **change))
    before = weights(new)
    with pytest.raises(SurgeryError, match=r"cannot rarefy conv .*at least 5 x 5, and the channels the same"):
        surgery.rarefy(new, "conv", old, "conv", 2)
    assert_same(weights(new), before)


# what a file holds


def test_fits_does_not_count_leading_ones(make):
    blobs = make(classifier).params["fc"]
    assert surgery.fits([(5, 144), (5,)], blobs)
    assert surgery.fits([(1, 1, 5, 144), (1, 1, 1, 5)], blobs)
    for shapes in ([(144, 5), (5,)], [(5, 144)], [(5, 144, 1), (5,)], []):
        assert not surgery.fits(shapes, blobs)


def test_holds_tells_whether_a_layer_is_in_the_file(make, tmp_path, reading):
    net, path = make(classifier), tmp_path / "net.caffemodel"
    net.save(str(path))
    assert surgery.shapes_in_file(path)["conv"] == [(4, 2, 3, 3), (4,)]
    assert surgery.holds(path, make(classifier), "fc")
    assert not surgery.holds(path, make(convolutional), "fc")
    assert not surgery.holds(path, make(convolutional), "score")


# nets that cannot learn


def ready(make, *zeroed):
    def build(n):
        n.conv = L.Convolution(n.data, num_output=4, kernel_size=3)
        n.relu = L.ReLU(n.conv, in_place=True)
        n.fc = L.Convolution(n.relu, num_output=5, kernel_size=1)
        n.score_fc = L.Convolution(n.fc, num_output=3, kernel_size=1)
        n.score_conv = L.Convolution(n.relu, num_output=3, kernel_size=1)
        n.sum = L.Eltwise(n.score_fc, n.score_conv)
        n.up = deconv(n.sum, 3)

    net = make(build)
    for name in zeroed:
        net.params[name][0].data[...] = 0
    return net, spec(build)


def test_score_layers_may_start_at_zero(make):
    net, param = ready(make, "score_fc", "score_conv")
    assert surgery.zero_layers(net) == ["score_fc", "score_conv"]
    surgery.check_ready(net, param)


def test_zeros_below_learned_layers_are_refused_by_name(make):
    net, param = ready(make, "conv", "fc", "score_fc")
    with pytest.raises(SurgeryError, match=r"can never learn: conv, fc\. .*--weights"):
        surgery.check_ready(net, param)


def test_zero_upsampling_is_refused_by_name(make):
    net, param = ready(make, "up")
    with pytest.raises(SurgeryError, match=r"zeros: up\. Fill it"):
        surgery.check_ready(net, param)
