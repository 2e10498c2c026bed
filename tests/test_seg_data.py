import gc
import json
import random
import subprocess
import sys
import threading
import time
import weakref

import caffe
import numpy as np
import pytest
import scipy.io
import trees
from caffe.proto import caffe_pb2
from PIL import Image
from trees import MEAN, data_net, items, voc_tree

import feed
import layers
import nets
import vis
from ahead import Ahead, Order
from files import DataError
from images import load_image


def voc(tmp_path, **changes):
    params = {"voc_dir": str(tmp_path / "VOC2011"), "split": "val", "mean": MEAN, **changes}
    return data_net(tmp_path / "net.prototxt", "VOCSegDataLayer", params)


def served(net, count):
    """The labels of the next ``count`` items."""
    labels = []
    for _ in range(count):
        net.forward()
        labels.append(net.blobs["label"].data[0, 0].astype(int).copy())
    return labels


def same(a, b):
    return [x.shape == y.shape and (x == y).all() for x, y in zip(a, b, strict=True)]


@pytest.fixture
def tree(tmp_path):
    content = items()
    voc_tree(tmp_path / "VOC2011", content)
    return content


def test_data_is_bgr_minus_mean_and_label_is_indices(tmp_path, tree):
    net, _ = voc(tmp_path)
    for name, (_, label) in tree.items():
        net.forward()
        rgb = load_image(tmp_path / "VOC2011/JPEGImages" / f"{name}.jpg")
        expected = np.stack([rgb[..., 2 - c] - MEAN[c] for c in range(3)])[np.newaxis].astype(np.float32)
        assert net.blobs["data"].data.dtype == np.float32
        np.testing.assert_array_equal(net.blobs["data"].data, expected)
        np.testing.assert_array_equal(net.blobs["label"].data, label[np.newaxis, np.newaxis])


def test_file_order_wraps_around_and_reshape_does_not_advance(tmp_path, tree):
    net, _ = voc(tmp_path)
    truth = [label for _, label in tree.values()]
    net.reshape()
    net.reshape()
    assert net.blobs["label"].data.shape[2:] == truth[0].shape
    assert all(same(served(net, 7), truth + truth + truth[:1]))


def test_each_item_has_its_own_size(tmp_path, tree):
    net, _ = voc(tmp_path)
    shapes = []
    for _ in tree:
        net.forward()
        shapes.append(tuple(net.blobs["data"].data.shape))
    assert shapes == [(1, 3, 12, 10), (1, 3, 9, 16), (1, 3, 11, 11)]


# the order


def test_a_seeded_order_draws_with_replacement_and_is_a_pure_function():
    order = Order(8498, 1337)
    first = [order[k] for k in range(100)]
    assert first[:5] == [5249, 4531, 3108, 4978, 1408]  # must never change: runs are repeated by seed
    assert order[3] == first[3] and order[99] == first[99] and order[99] == first[99] and order[0] == first[0]
    assert [Order(8498, 1337)[k] for k in (99, 5, 42)] == [first[99], first[5], first[42]]
    assert [Order(8498, 1338)[k] for k in range(100)] != first
    few = [Order(3, 1)[k] for k in range(60)]
    assert set(few) == {0, 1, 2} and few != sorted(few[:3]) * 20


def test_the_order_is_the_release_s():
    """Python 2.7's random.seed(1337), then random.randint(0, 8497) for each image of SBD's train list."""
    order = Order(8498, 1337)
    assert [order[k] for k in range(6)] == [5249, 4531, 3108, 4978, 1408, 7005]


def test_only_training_splits_are_drawn(tmp_path, tree):
    truth = [label for _, label in tree.values()]

    def sequence(**params):
        return served(voc(tmp_path, **params)[0], 12)

    in_order = truth * 4
    assert all(same(sequence(split="val"), in_order))
    assert all(same(sequence(split="train", randomize=False), in_order))
    drawn = sequence(split="train", seed=5)
    assert not all(same(drawn, in_order))
    assert all(same(drawn, [truth[Order(3, 5)[k]] for k in range(12)]))


def test_the_global_generator_is_left_alone(tmp_path, tree):
    random.seed(3)
    np.random.seed(3)
    states = random.getstate(), np.random.get_state()[1].tolist()
    served(voc(tmp_path, split="train")[0], 5)
    assert (random.getstate(), np.random.get_state()[1].tolist()) == states


# resuming


@pytest.mark.parametrize("split", ["train", "val"])
def test_a_state_goes_on_where_it_was_taken(tmp_path, tree, split):
    net, layer = voc(tmp_path, split=split)
    served(net, 4)
    state = layer.get_state()
    rest = served(net, 6)
    other, other_layer = voc(tmp_path, split=split, seed=99)
    served(other, 1)
    other_layer.set_state(state)
    assert all(same(served(other, 6), rest))
    assert json.loads(state)["position"] == 4


def test_skip_to_is_the_same_as_having_served_so_many(tmp_path, tree):
    whole = served(voc(tmp_path, split="train")[0], 9)
    net, layer = voc(tmp_path, split="train")
    for k in (6, 2, 8, 0):
        layer.skip_to(k)
        assert same(served(net, 1), whole[k : k + 1]) == [True]


def test_without_a_seed_each_layer_draws_its_own_and_keeps_it_in_its_state(tmp_path, tree):
    seeds = [json.loads(voc(tmp_path, split="train", seed=None)[1].get_state())["seed"] for _ in range(3)]
    assert len(set(seeds)) > 1


def test_resume_moves_the_training_nets_only(tmp_path, tree):
    params = {"voc_dir": str(tmp_path / "VOC2011"), "split": "train", "mean": MEAN}
    _, training = data_net(tmp_path / "a.prototxt", "VOCSegDataLayer", params)
    _, testing = data_net(tmp_path / "b.prototxt", "VOCSegDataLayer", params, caffe.TEST)
    feed.resume(17)
    assert (training.position, testing.position) == (17, 0)


@pytest.mark.parametrize("state", ["", "{}", '{"position": -1, "seed": 1}', '{"position": 1, "seed": "x"}'])
def test_a_wrong_state_is_refused(tmp_path, tree, state):
    with pytest.raises(DataError, match="no state of such a layer"):
        voc(tmp_path)[1].set_state(state)


# loading ahead


@pytest.mark.parametrize("workers", [1, 2, 5])
@pytest.mark.parametrize("depth", [0, 1, 7])
def test_loading_ahead_changes_neither_order_nor_values(workers, depth):
    asked = []

    def slow(k, index):
        asked.append((index, threading.current_thread()))
        time.sleep(0.002 * (index % 3))
        return k, index

    order = Order(50, 7)
    ahead = Ahead(slow, order, depth, workers)
    assert [ahead.get(k) for k in range(40)] == [(k, order[k]) for k in range(40)]
    assert [ahead.get(k) for k in (39, 3, 4, 4, 20)] == [(k, order[k]) for k in (39, 3, 4, 4, 20)]
    assert {index for index, _ in asked} >= {order[k] for k in range(40)}
    assert threading.main_thread() not in {thread for _, thread in asked}
    assert len({thread for _, thread in asked}) <= workers


@pytest.mark.parametrize("randomize", [True, False])
def test_the_sequence_of_samples_is_that_of_loading_one_by_one(tmp_path, tree, randomize):
    """With threads that overtake each other, through a net: images and labels as the plain loop gives them."""
    net, layer = voc(
        tmp_path, split="train", seed=3, randomize=randomize, mirror=randomize, jitter=2 * randomize
    )
    load = layer.load

    def uneven(name):
        time.sleep(0.004 * (int(name[-1]) % 3 == 0))
        return load(name)

    layer.load = uneven
    layer.start(0, layer.seed)
    order = Order(len(layer.ids), layer.seed)
    for k in range(30):
        net.forward()
        plain = layer._load_item(k, order[k])
        assert all(same([net.blobs[top].data[0] for top in ("data", "label")], plain))


def test_the_next_items_are_loaded_while_the_first_is_used():
    loaded = [threading.Event() for _ in range(9)]
    ahead = Ahead(lambda k, index: loaded[index].set(), Order(9), depth=3)
    ahead.get(0)
    assert all(event.wait(5) for event in loaded[:4]) and not any(event.is_set() for event in loaded[5:])


def test_the_time_spent_waiting_is_known(tmp_path, tree):
    net, layer = voc(tmp_path, split="train")
    load = layer.load
    layer.load = lambda name: time.sleep(0.05) or load(name)
    layer.start(0, layer.seed)
    net.forward()
    first = layer.waited
    assert first > 0.04
    layer.start(0, layer.seed)  # and is not forgotten by starting over
    assert layer.waited == first and feed.waited() >= first
    time.sleep(0.6)  # all that is loaded ahead is there now
    net.forward()
    net.forward()
    assert layer.waited - first < 0.1


def test_a_hundred_images_a_second(tmp_path):
    """Photographs of 500 x 375 pixels with PNG labels: the least that must come; it is several times as many."""
    y, x = np.mgrid[:375, :500]
    waves = np.stack([np.sin(x / (9 + c)) * np.cos(y / (13 - c)) for c in range(3)], 2)
    noise = np.random.default_rng(0).normal(0, 6, waves.shape)
    photo = np.clip(128 + 90 * waves + noise, 0, 255).astype(np.uint8)
    label = ((x // 60 + y // 60) % 21).astype(np.uint8)
    voc_tree(tmp_path / "VOC2011", {f"2011_{i:06d}": (photo, label) for i in range(8)})
    net, _ = voc(tmp_path, split="train")
    rates = []
    for _ in range(4):  # the best counts: the machine may be busy
        start = time.perf_counter()
        for _ in range(60):
            net.forward()
        rates.append(60 / (time.perf_counter() - start))
    assert max(rates) > 100, rates


def test_an_error_in_the_worker_comes_when_its_item_does(tmp_path, tree):
    (tmp_path / "VOC2011/JPEGImages/2011_000001.jpg").write_text("junk")
    net, _ = voc(tmp_path)
    net.forward()
    with pytest.raises(DataError, match=r"2011_000001\.jpg is not an image"):
        net.forward()
    with pytest.raises(DataError):  # again: the item is not skipped
        net.forward()


def test_the_interpreter_ends_at_once_and_quietly(tmp_path, tree):
    voc(tmp_path)
    script = f"import caffe; n = caffe.Net({str(tmp_path / 'net.prototxt')!r}, caffe.TEST); n.forward(); print('done')"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout, done.stderr) == (0, "done\n", "")


# bad input


@pytest.mark.parametrize(
    "text, said",
    [
        ("", "no Python dictionary"),
        ("{'voc_dir': open('x')}", "no Python dictionary"),
        ("[1]", "is a list"),
        ("{'split': 'val'}", "lacks voc_dir, mean"),
        ("{'voc_dir': 'x', 'spilt': 'val'}", "unknown key 'spilt'; did you mean 'split'"),
        ("{'voc_dir': 'x', 'split': 'val', 'mean': (1, 2)}", "mean is .* three numbers, B, G, R"),
        (
            "{'voc_dir': 'x', 'split': 'val', 'mean': (1, 2, 3), 'seed': 'a'}",
            "seed is 'a'; it must be an integer",
        ),
        ("{'voc_dir': 'x', 'split': 3, 'mean': (1, 2, 3)}", "split is 3; it must be a text"),
        ("{'voc_dir': 'x', 'split': 'val', 'mean': (1, 2, 3), 'randomize': 1}", "randomize is 1"),
        ("{'voc_dir': 'x', 'split': 'val', 'mean': (1, 2, 3), 'classes': 0}", "classes is 0"),
    ],
)
def test_a_wrong_param_str_is_told_with_layer_and_key(tmp_path, text, said):
    with pytest.raises(DataError, match=said) as error:
        data_net(tmp_path / "net.prototxt", "VOCSegDataLayer", text)
    assert "VOCSegDataLayer" in str(error.value)


def test_a_missing_data_set_says_what_to_get_and_where_to_put_it(tmp_path):
    with pytest.raises(DataError) as error:
        voc(tmp_path)
    for part in (
        str(tmp_path / "VOC2011"),
        "VOCtrainval_25-May-2011.tar",
        "`python data/pascal/prepare.py all` (in ",
        "prepare.py sample",
    ):
        assert part in str(error.value)
    with pytest.raises(DataError, match=r"benchmark\.tgz.*`python data/pascal/prepare\.py all sbd`"):
        sbdd(tmp_path)
    with pytest.raises(DataError, match=r"Get it with `python data/pascal/prepare\.py sample`"):
        voc(tmp_path, voc_dir=str(tmp_path / "sample/VOC2011"))


def test_a_missing_split_says_which_there_are(tmp_path, tree):
    with pytest.raises(DataError, match=r"test\.txt does not exist. There are the splits: train, val"):
        voc(tmp_path, split="test")
    with pytest.raises(
        DataError, match=r"seg11valid\.txt does not exist. Make it with .*prepare\.py seg11valid"
    ):
        voc(tmp_path, split="seg11valid")
    (tmp_path / "VOC2011/ImageSets/Segmentation/val.txt").write_text("\n\n")
    with pytest.raises(DataError, match=r"val\.txt is empty"):
        voc(tmp_path)


@pytest.mark.parametrize("what", ["JPEGImages/2011_000000.jpg", "SegmentationClass/2011_000000.png"])
def test_a_missing_image_or_label_names_the_list_that_wants_it(tmp_path, tree, what):
    (tmp_path / "VOC2011" / what).unlink()
    with pytest.raises(DataError, match=rf"{what} does not exist, though .*val\.txt lists it"):
        voc(tmp_path)


def test_wrong_labels_are_refused_at_first_sight(tmp_path, tree):
    path = tmp_path / "VOC2011/SegmentationClass/2011_000000.png"
    label = tree["2011_000000"][1].copy()
    label[3, 3:5] = 30
    vis.save_indexed(path, label, vis.make_palette(21))
    with pytest.raises(DataError, match=r"2011_000000\.png holds 30 \(2 pixels\); valid are 0 to 20"):
        voc(tmp_path)
    voc(tmp_path, classes=31)
    vis.save_indexed(path, label[1:], vis.make_palette(21))
    with pytest.raises(DataError, match=r"2011_000000\.png is 10 x 11 pixels, its image 10 x 12"):
        voc(tmp_path)
    Image.new("RGB", (10, 12)).save(path)
    with pytest.raises(DataError, match="mode RGB"):
        voc(tmp_path)


def test_tops_must_be_two(tmp_path, tree):
    params = {"voc_dir": str(tmp_path / "VOC2011"), "split": "val", "mean": MEAN}
    (tmp_path / "n.prototxt").write_text(
        f'layer {{ name: "data" type: "Python" top: "data" python_param {{ module: "layers" '
        f'layer: "VOCSegDataLayer" param_str: "{params}" }} }}'
    )
    with pytest.raises(DataError, match="0 bottoms and 1 tops; it takes no bottom, and the tops data, label"):
        caffe.Net(str(tmp_path / "n.prototxt"), caffe.TEST)


# where the data is


def test_fcn_data_replaces_the_data_folder(tmp_path, tree, monkeypatch):
    (tmp_path / "elsewhere" / "pascal").mkdir(parents=True)
    (tmp_path / "VOC2011").rename(tmp_path / "elsewhere/pascal/VOC2011")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DataError):
        voc(tmp_path, voc_dir="../data/pascal/VOC2011")
    monkeypatch.setenv("FCN_DATA", str(tmp_path / "elsewhere"))
    net, _ = voc(tmp_path, voc_dir="../data/pascal/VOC2011")
    assert len(served(net, 1)) == 1


def test_a_relative_directory_counts_from_the_current_one(tmp_path, tree, monkeypatch):
    (tmp_path / "model").mkdir()
    monkeypatch.chdir(tmp_path / "model")
    net, _ = voc(tmp_path, voc_dir="../VOC2011")
    monkeypatch.chdir(tmp_path)  # and stays, whoever changes it later
    assert len(served(net, 3)) == 3


# SBD


def sbdd(tmp_path, **changes):
    params = {
        "sbdd_dir": str(tmp_path / "sbdd"),
        "split": "train",
        "mean": MEAN,
        "randomize": False,
        **changes,
    }
    return data_net(tmp_path / "net.prototxt", "SBDDSegDataLayer", params)


@pytest.fixture
def sbd_tree(tmp_path):
    content = items()
    trees.sbd_tree(tmp_path / "sbdd", content)
    return content


def test_sbd_reads_matlab_labels(tmp_path, sbd_tree):
    net, _ = sbdd(tmp_path)
    assert all(same(served(net, 3), [label for _, label in sbd_tree.values()]))


def test_sbd_prefers_a_png(tmp_path, sbd_tree):
    other = np.full_like(sbd_tree["2011_000000"][1], 7)
    vis.save_indexed(tmp_path / "sbdd/cls/2011_000000.png", other, vis.make_palette(21))
    net, _ = sbdd(tmp_path)
    assert same(served(net, 1), [other]) == [True]


@pytest.mark.parametrize("content", [b"junk", b""])
def test_a_damaged_matlab_file_is_named(tmp_path, sbd_tree, content):
    (tmp_path / "sbdd/cls/2011_000000.mat").write_bytes(content)
    with pytest.raises(DataError, match=r"2011_000000\.mat is no MATLAB file with GTcls\.Segmentation"):
        sbdd(tmp_path)


def test_a_matlab_file_of_something_else_is_named(tmp_path, sbd_tree):
    scipy.io.savemat(tmp_path / "sbdd/cls/2011_000000.mat", {"GTinst": 1})
    with pytest.raises(DataError, match=r"2011_000000\.mat is no MATLAB file with GTcls\.Segmentation"):
        sbdd(tmp_path)


# outside a net


def test_source_ids_needs_no_net(tmp_path, tree):
    params = {"voc_dir": str(tmp_path / "VOC2011"), "split": "val", "mean": MEAN}
    assert layers.VOCSegDataLayer.source_ids(str(params)) == list(tree)
    params["voc_dir"] = "/nowhere"
    assert layers.VOCSegDataLayer.outside(str(params)).params["mean"] == MEAN
    with pytest.raises(DataError, match="/nowhere does not exist"):
        layers.VOCSegDataLayer.source_ids(str(params))
    with pytest.raises(DataError, match="lacks sbdd_dir"):
        layers.SBDDSegDataLayer.outside("{'split': 'train', 'mean': (1, 2, 3)}")


def test_the_layers_take_what_every_model_directory_tells_them():
    told = set()
    for path in feed.ROOT.glob("*/*.prototxt"):
        if path.stem.startswith(("train", "val", "test")):
            for layer in nets.read_prototxt(path, caffe_pb2.NetParameter()).layer:
                if layer.python_param.module == "layers":
                    params = (
                        getattr(layers, layer.python_param.layer).outside(layer.python_param.param_str).params
                    )
                    assert len(params.get("tops", layer.top)) == len(layer.top)
                    told.add(layer.python_param.layer)
    assert len(told) == 5


def test_class_names_are_in_the_order_of_the_outputs():
    names = feed.class_names(layers.VOCSegDataLayer.dataset)
    assert len(names) == 21 and (names[0], names[15], names[20]) == ("background", "person", "tvmonitor")
    assert feed.class_names("pascal", "label") == names


@pytest.mark.parametrize(
    "layer", [layers.NYUDSegDataLayer, layers.SIFTFlowSegDataLayer, layers.PASCALContextSegDataLayer]
)
def test_every_head_has_as_many_names_as_classes(layer):
    for head, key in layer.labels.items():
        names = feed.class_names(layer.dataset, head)
        assert len(set(names)) == len(names) == layer.keys[key].default


@pytest.mark.needs_embedded("its Python layers hold a reference to themselves, so they never end")
def test_a_dead_net_takes_its_layer_and_its_thread_along(tmp_path, tree):
    net, layer = voc(tmp_path)
    assert layer in feed.live
    layer, threads = weakref.ref(layer), threading.active_count()
    del net
    deadline = time.monotonic() + 10
    while (layer() or threading.active_count() >= threads) and time.monotonic() < deadline:
        gc.collect()  # what is being loaded ahead holds it for a moment
        time.sleep(0.01)
    assert layer() is None and threading.active_count() < threads
