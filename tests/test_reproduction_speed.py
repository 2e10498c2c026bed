"""reproduction: Table 1's architecture and times, patch by patch against one pass, shift-and-stitch's cost."""

import itertools

import caffe
import numpy as np
import pytest
from caffe import NetSpec
from caffe import layers as L
from caffe import params as P
from model_dirs import narrow_prototxts

import dense
import nets
from files import DataError
from reproduction import architecture, patchwise, stitching, timing

pytestmark = pytest.mark.needs_embedded("it is not timed here, and has no explain")
NARROW = {"recipe": nets.Recipe(divide=16), "classes": 7}


class Ticks:
    """A timer by which every interval takes 1 ms."""

    def start(self):
        pass

    def stop(self):
        self.ms = 1.0


def net_of(size, build, channels=2, name="tiny"):
    n = NetSpec()
    n.data = nets.image((1, channels, *size))
    build(n)
    made = n.to_proto()
    made.name = name
    return made


# Table 1: what is exact


@pytest.mark.parametrize(
    ("name", "layers", "parameters", "millions", "fixed", "field"),
    [
        ("FCN-AlexNet", 8, 56_954_261, 57, 1_750_329, 355),
        ("FCN-VGG16", 16, 134_346_581, 134, 1_806_336, 404),
        ("FCN-GoogLeNet", 22, 5_995_077, 6, 1_750_329, 715),
    ],
)
def test_the_architecture_columns_are_the_paper_s(name, layers, parameters, millions, fixed, field):
    found = architecture.columns(architecture.ROOT / architecture.TABLE_1[name])
    assert found == {
        "conv layers": layers,
        "parameters": parameters,
        "millions": millions,
        "fixed": fixed,
        "rf size": field,
        "max stride": 32,
    }


def test_googlenet_s_receptive_field_in_the_paper_is_that_of_the_net_with_its_average_pooling():
    rows = architecture.table_1()
    assert list(rows) == ["FCN-AlexNet", "FCN-VGG16", "FCN-GoogLeNet"]
    assert rows["FCN-GoogLeNet"]["rf size with pooling"] == 907
    assert "rf size with pooling" not in rows["FCN-VGG16"]


def test_columns_of_a_net_that_is_given_as_a_message():
    def build(n):
        n.conv = L.Convolution(n.data, num_output=3, kernel_size=5, stride=2)
        n.pool = L.Pooling(n.conv, kernel_size=2, stride=2, pool=P.Pooling.MAX)

    found = architecture.columns(net_of((9, 9), build))
    assert (found["conv layers"], found["parameters"], found["fixed"]) == (1, 3 * 2 * 25 + 3, 0)
    assert (found["rf size"], found["max stride"], found["millions"]) == (7, 4, 0)


def test_columns_of_nothing_are_refused(tmp_path):
    with pytest.raises(DataError, match=r"there is no .*deploy\.prototxt.*python net\.py"):
        architecture.columns(tmp_path)
    n = NetSpec()
    n.data = L.Input(shape={"dim": [2, 3]})
    n.fc = L.InnerProduct(n.data, num_output=2)
    with pytest.raises(DataError, match="no receptive fields"):
        architecture.columns(n.to_proto())
    n.pool = L.Pooling(n.data, kernel_size=2)
    with pytest.raises(DataError, match="the engine refuses"):
        architecture.columns(n.to_proto())


def test_units_see_what_the_coordinates_say():
    """FCN-32s's see 404 pixels, from 189 before the image on: 100 of border and what inner layers pad."""
    deploy = nets.read_prototxt(
        architecture.ROOT / "voc-fcn32s" / "deploy.prototxt", architecture.caffe_pb2.NetParameter()
    )
    seen = architecture.units(deploy, "score_fr")
    assert seen == architecture.Units(404, 32, -189)
    assert (
        list(seen.inside(500)) == [6, 7, 8] and list(seen.inside(406)) == [] and list(seen.inside(407)) == [6]
    )
    assert architecture.units(deploy, "pool1") == architecture.Units(6, 2, -101)
    assert architecture.strides(deploy)[:5] == [(f"pool{i}", 2) for i in range(1, 6)]
    with pytest.raises(DataError, match="no map 'pool9'"):
        architecture.units(deploy, "pool9")


def test_units_that_are_no_squares_are_refused():
    wide = net_of(
        (9, 9), lambda n: setattr(n, "conv", L.Convolution(n.data, num_output=1, kernel_size=[3, 2]))
    )
    with pytest.raises(DataError, match="squares of whole pixels"):
        architecture.units(wide, "conv")


# times


def test_jobs_take_turns_and_the_first_round_does_not_count():
    clock, called = itertools.count(), []

    class Timer:
        def start(self):
            self.began = next(clock)

        def stop(self):
            self.ms = (next(clock) - self.began) * 10.0

    def once(watch):
        called.append("once")
        with watch:
            next(clock)

    def thrice(watch):
        called.append("thrice")
        next(clock)  # not watched
        for _ in range(3):
            with watch:
                pass

    times = timing.take_turns({"a": once, "b": thrice}, 3, timer=Timer)
    assert called == ["once", "thrice"] * 4
    assert times == {"a": [20.0] * 3, "b": [30.0] * 3}
    with pytest.raises(DataError, match="at least 1"):
        timing.take_turns({}, 0)


def test_the_first_round_is_dropped_and_time_is_kept_by_round():
    slow = iter([100.0, 4.0, 1.0, 2.0])

    class Timer(Ticks):
        def stop(self):
            self.ms = next(slow)

    def job(watch):
        with watch:
            pass

    times = timing.take_turns({"a": job}, 3, timer=Timer)["a"]
    assert times == [4.0, 1.0, 2.0]
    assert timing.summary(times) == {
        "median_ms": 2.0,
        "mean_ms": pytest.approx(7 / 3),
        "min_ms": 1.0,
        "max_ms": 4.0,
        "trials": 3,
    }


def test_ratios_are_taken_round_by_round():
    # a slow second round, which both had, does not show
    assert timing.ratio([10.0, 30.0, 12.0], [5.0, 15.0, 4.0]) == {"median": 2.0, "min": 2.0, "max": 3.0}


def test_fill_keeps_the_spread_and_makes_upsampling_bilinear():
    def build(n):
        n.conv = L.Convolution(n.data, num_output=64, kernel_size=5)
        n.up = nets.upsample(n.conv, 64, 2)

    first, again, other = (timing.fill(timing.build(net_of((9, 9), build)), seed) for seed in (0, 0, 1))
    weights = first.params["conv"][0].data
    assert (
        weights.std() == pytest.approx((2 / 50) ** 0.5, rel=0.05)
        and (first.params["conv"][1].data != 0).all()
    )
    np.testing.assert_array_equal(weights, again.params["conv"][0].data)
    assert (weights != other.params["conv"][0].data).all()
    kernel = first.params["up"][0].data
    assert kernel[3, 3].sum() == pytest.approx(4) and not kernel[3, 4].any()


def test_forward_is_timed_for_each_net():
    made = {name: narrow_prototxts(name) for name in ("voc-fcn-alexnet", "voc-fcn32s")}
    deploy = {name: params["deploy"] for name, params in made.items()}
    found = timing.forward(deploy, (40, 60), 2)
    assert list(found["nets"]) == list(made) and (found["size"], found["device"]) == ([40, 60], "cpu")
    assert found["threads"] >= 1
    for each in found["nets"].values():
        assert each["trials"] == 2 and 0 < each["min_ms"] <= each["median_ms"] <= each["max_ms"]
    ticking = timing.forward(deploy, (40, 60), 1, Ticks)
    assert {each["mean_ms"] for each in ticking["nets"].values()} == {1.0}


def test_the_nets_run_forward_at_the_size(monkeypatch):
    built = []
    original = timing.build
    monkeypatch.setattr(timing, "build", lambda *args: built.append(original(*args)) or built[-1])
    made = narrow_prototxts("voc-fcn-alexnet")
    timing.forward({"a": made["deploy"]}, (40, 60), 1)
    (deploy,) = built
    assert deploy.blobs["score"].data.shape == (1, 21, 40, 60) and deploy.blobs["score"].data.std() > 0


def test_what_cannot_be_timed_is_named(tmp_path):
    with pytest.raises(DataError, match=r"deploy\.prototxt does not exist"):
        timing.forward({"a": tmp_path})


# section 3.1


@pytest.mark.parametrize(
    ("name", "side", "image", "cells"), [("caffenet", 227, (387, 355), 2), ("vgg16", 224, (410, 442), 2)]
)
def test_patch_by_patch_is_the_map_where_nothing_is_padded(name, side, image, cells):
    found = patchwise.compare(name, image, sample=4, rounds=2, timer=Ticks, **NARROW)
    apart = found["differences"]
    for what, bound in (("fields", 1e-5), ("gradients", 1e-4)):
        assert apart[what]["cells"] == cells and apart[what]["equal"]
        assert 0 <= apart[what]["difference"] <= bound
    assert apart["patches"]["cells"] == 4 and apart["patches"]["difference"] > 1e-2
    assert (found["patch"], found["stride"], found["timed"]) == (side, 32, 4)
    rows, columns = found["map"]
    assert found["patches"] == rows * columns
    # the clock ticks once a pass, so times count passes: four for 4 patches, times what was left out
    for direction in ("forward", "backward"):
        each = found[direction]
        assert [each[kind]["median_ms"] for kind in ("whole", "one by one", "batched")] == [
            1,
            rows * columns,
            rows * columns / 4,
        ]
        assert each["ratio"]["one by one"]["median"] == rows * columns
        assert each["ratio"]["batched"] == dict.fromkeys(("median", "min", "max"), rows * columns / 4)


@pytest.mark.parametrize("name", ["caffenet", "vgg16"])
def test_the_paper_s_geometry(name):
    """500x500 gives 10x10; 81 patches lie inside, the others reach over the end."""
    pair = patchwise.Pair(name, (500, 500), NARROW["recipe"], 7)
    net = pair.net(timing.sized(pair.convolutional, (1, 3, 500, 500)))
    assert tuple(net.blobs["fc8"].shape) == (1, 7, 10, 10)
    assert pair.inside(pair.side) == [(i, j) for i in range(9) for j in range(9)]
    assert (
        pair.units
        == {
            "caffenet": architecture.Units(355, 32, -64),
            "vgg16": architecture.Units(404, 32, -90),
        }[name]
    )


def test_scores_of_the_race_are_those_of_the_nets():
    pair = patchwise.Pair("caffenet", (387, 387), NARROW["recipe"], 7)
    cells = [(0, 1), (2, 0), (5, 5)]
    _, found = pair.race(cells, 1, caffe.Timer)
    assert found["one by one"].shape == (3, 7)
    np.testing.assert_allclose(found["batched"], found["one by one"], rtol=1e-4, atol=1e-5)
    classifier = timing.fill(timing.build(pair.classifier))  # the same seed
    timing.put(classifier, pair.image[:, :, 64 : 64 + 227, :227])
    classifier.forward()
    np.testing.assert_array_equal(found["one by one"][1], classifier.blobs["fc8"].data[0])


@pytest.mark.parametrize("layer", ["conv1", "conv4", "fc6", "fc8"])
def test_a_weight_that_is_not_the_same_is_found(layer):
    pair = patchwise.Pair("caffenet", (355, 355), NARROW["recipe"], 7)
    assert all(each["equal"] for each in pair.on_fields().values())
    pair.cast.params[layer][0].data[...] *= 1.001
    assert not any(each["equal"] for each in pair.on_fields().values())


def test_one_cell_in_another_place_is_found():
    pair = patchwise.Pair("caffenet", (387, 355), NARROW["recipe"], 7)
    cut, moved = pair.patches, []

    def patches(cells, side, first=0):
        moved.append(cells)
        return cut(cells, side, first + (len(moved) == 2))  # the second, by a pixel

    pair.image = np.pad(pair.image, ((0, 0), (0, 0), (0, 8), (0, 8)))
    pair.patches = patches
    found = pair.on_fields()
    assert len(moved) == 2 and not found["fields"]["equal"] and not found["gradients"]["equal"]


@pytest.mark.parametrize("error", [1e-2, np.nan])
def test_gradients_are_compared_by_themselves(error):
    pair = patchwise.Pair("caffenet", (355, 355), NARROW["recipe"], 7)
    make, made, cut = pair.net, [], pair.patches
    pair.net = lambda param: made.append(make(param)) or made[-1]

    def patches(*args):
        made[1].params["conv4"][0].diff[0, 0, 0, 0] += error
        return cut(*args)

    pair.patches = patches
    found = pair.on_fields()
    assert found["fields"]["equal"] and not found["gradients"]["equal"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"name": "googlenet"}, "names are caffenet, vgg16, vgg19"),
        ({"image": (500, 354)}, "500x354 is too small for caffenet: a cell of its map sees 355"),
        ({"sample": 0}, "at least 1"),
        ({"rounds": 0}, "at least 1"),
    ],
)
def test_comparisons_that_make_no_sense_are_refused(change, message):
    with pytest.raises(DataError, match=message):
        patchwise.compare(**{"name": "caffenet", "image": (355, 355), **NARROW, **change})


# section 3.2


def unpadded(n):
    """Stride 4; a cell sees 18 x 18 pixels."""
    n.conv1 = L.Convolution(n.data, num_output=4, kernel_size=3)
    n.pool1 = L.Pooling(n.conv1, kernel_size=2, stride=2, pool=P.Pooling.MAX)
    n.conv2 = L.Convolution(n.pool1, num_output=5, kernel_h=3, kernel_w=3)
    n.pool2 = L.Pooling(n.conv2, kernel_size=2, stride=2, pool=P.Pooling.AVE)
    n.conv3 = L.Convolution(n.pool2, num_output=3, kernel_size=3)
    n.above = L.InnerProduct(n.conv3, num_output=1)


def test_all_ways_give_the_same_map_and_their_costs_are_counted():
    found = stitching.compare(net_of((26, 30), unpadded), "conv3", 4, rounds=2, timer=Ticks)
    assert (found["layers"], found["stride"]) == (["pool1", "pool2"], 1)
    assert (found["net"], found["image"], found["map"], found["dense map"]) == (
        "tiny",
        [26, 30],
        [3, 4],
        [12, 16],
    )
    for way in ("rarefied", "dilated"):
        each = found["differences"][way]
        assert each["cells"] == 12 * 16 and each["equal"] and each["difference"] <= 1e-5
    assert {each["median_ms"] for each in found["times"].values()} == {1.0}
    assert list(found["over plain"]) == ["shift and stitch", "rarefied", "dilated"]

    plain = 24 * 28 * 4 * 2 * 9 + 10 * 12 * 5 * 4 * 9 + 3 * 4 * 3 * 5 * 9
    # on 29 x 33 pixels without strides: 27 x 31, pool 26 x 30, holes of 2: 22 x 26, pool 20 x 24, holes of 4: 12 x 16
    below = 27 * 31 * 4 * 2 * 9
    assert found["multiply_adds"] == {
        "plain": plain,
        "shift and stitch": 16 * plain,
        "rarefied": below + 22 * 26 * 5 * 4 * 25 + 12 * 16 * 3 * 5 * 81,
        "dilated": below + 22 * 26 * 5 * 4 * 9 + 12 * 16 * 3 * 5 * 9,
    }


def test_only_cells_that_see_image_alone_are_compared():
    """VGG16's pool5 sees 212 pixels from 90 before the image on: on 250 x 218, its cells (3, 3) and (4, 3)."""
    param = stitching.vgg16((250, 218), nets.Recipe(divide=32), "pool5", border=1)
    found = stitching.compare(param, "pool5", 2, rounds=1)
    assert found["net"] == "VGG16 to pool5, width 1/32" and found["layers"] == ["pool5"]
    assert found["map"] == [8, 7] and found["differences"]["rarefied"]["cells"] == 2 * 4
    assert all(each["equal"] for each in found["differences"].values())
    with pytest.raises(
        DataError, match="217x250 pixels: a cell of pool5 sees 212 pixels, the first from -90 on"
    ):
        stitching.compare(stitching.vgg16((217, 250), nets.Recipe(divide=32), "pool5", 1), "pool5", 2)


def test_a_wrong_filter_is_found(monkeypatch):
    fill = dense.fill

    def spoiled(new_net, *args):
        report = fill(new_net, *args)
        new_net.params["conv2"][0].data[0, 0, 2, 2] += 0.01
        return report

    monkeypatch.setattr(dense, "fill", spoiled)
    apart = stitching.compare(net_of((26, 30), unpadded), "conv3", 2, rounds=1)["differences"]
    assert apart["dilated"]["equal"] and not apart["rarefied"]["equal"]


@pytest.mark.parametrize("factor", [0, 1, 3, 8])
def test_factors_that_are_no_product_of_strides_are_refused(factor):
    with pytest.raises(DataError, match=f"{factor} times as dense: .* pool1 2, pool2 2"):
        stitching.compare(net_of((26, 30), unpadded), "conv3", factor)


def test_the_trunk_is_fcn_32s_up_to_its_scores():
    deploy = nets.read_prototxt(
        architecture.ROOT / "voc-fcn32s" / "deploy.prototxt", architecture.caffe_pb2.NetParameter()
    )
    until, _ = dense.rarefied(deploy, [], "score_fr")
    made = stitching.vgg16((500, 500))
    assert made.name == "VGG16 to score_fr"
    assert architecture.multiply_adds(made) == architecture.multiply_adds(until)
    assert architecture.units(made, "score_fr") == architecture.units(until, "score_fr")
