"""Mirroring and jitter: the same for all tops of an item, a pure function of seed and position."""

import random

import numpy as np
import pytest
from trees import MEAN, context_tree, data_net, nyud_items, nyud_tree, sbd_tree, siftflow_tree, voc_tree

from files import DataError
from images import shifted

TOPS = ("color", "depth", "hha", "label")
REACH = 3


@pytest.fixture
def tree(tmp_path):
    nyud_tree(tmp_path / "nyud", nyud_items(sizes=((12, 10), (9, 16), (11, 11))), splits=("train", "test"))


def nyud(tmp_path, **changes):
    params = {"nyud_dir": str(tmp_path / "nyud"), "split": "train", "tops": list(TOPS), "seed": 5, **changes}
    return data_net(tmp_path / "net.prototxt", "NYUDSegDataLayer", params, tops=TOPS)


def served(net, count):
    """The tops of the next ``count`` items."""
    items = []
    for _ in range(count):
        net.forward()
        items.append([net.blobs[top].data[0].copy() for top in TOPS])
    return items


def moved(item, flip, down, right):
    """An item moved pixel by pixel, the slow way."""
    result = []
    for values, fill in zip(item, (0, 0, 0, 255), strict=True):
        _, height, width = values.shape
        after = np.full_like(values, fill)
        for y in range(height):
            for x in range(width):
                row, column = y - down, x - right
                if 0 <= row < height and 0 <= column < width:
                    after[:, y, x] = values[:, row, width - 1 - column if flip else column]
        result.append(after)
    return result


def equal(one, other):
    return all(a.shape == b.shape and (a == b).all() for a, b in zip(one, other, strict=True))


def all_equal(ones, others):
    return all(equal(one, other) for one, other in zip(ones, others, strict=True))


def found(item, plain, flips, reach):
    """The one (flip, down, right) that makes ``item`` of ``plain``."""
    span = range(-reach, reach + 1)
    fits = [
        (flip, down, right)
        for flip in flips
        for down in span
        for right in span
        if equal(item, moved(plain, flip, down, right))
    ]
    assert len(fits) == 1
    return fits[0]


def test_off_unless_asked_for(tmp_path, tree):
    plain = served(nyud(tmp_path)[0], 8)
    assert all_equal(served(nyud(tmp_path, mirror=False, jitter=0)[0], 8), plain)
    assert not any((label == 255).all() for *_, label in plain)


def test_mirroring_flips_every_other_item_and_all_its_tops(tmp_path, tree):
    count = 40
    plain, mirrored = served(nyud(tmp_path)[0], count), served(nyud(tmp_path, mirror=True)[0], count)
    flips = [found(item, as_is, (False, True), 0)[0] for item, as_is in zip(mirrored, plain, strict=True)]
    assert count / 4 < sum(flips) < 3 * count / 4


def test_jitter_moves_all_tops_alike_by_up_to_so_many_pixels(tmp_path, tree):
    count = 40
    plain, jittered = served(nyud(tmp_path)[0], count), served(nyud(tmp_path, jitter=REACH)[0], count)
    moves = [found(item, as_is, (False,), REACH) for item, as_is in zip(jittered, plain, strict=True)]
    for direction in (1, 2):
        assert {move[direction] for move in moves} == set(range(-REACH, REACH + 1))
    assert len({move[1:] for move in moves}) > count / 2  # one direction says nothing of the other


def test_both_together_draw_as_each_does_alone(tmp_path, tree):
    plain = served(nyud(tmp_path)[0], 12)

    def moves(**keys):
        return [
            found(item, as_is, (False, True), REACH)
            for item, as_is in zip(served(nyud(tmp_path, **keys)[0], 12), plain, strict=True)
        ]

    both = moves(mirror=True, jitter=REACH)
    assert [move[0] for move in both] == [move[0] for move in moves(mirror=True)]
    assert [move[1:] for move in both] == [move[1:] for move in moves(jitter=REACH)]


def test_one_seed_one_sequence(tmp_path, tree):
    keys = {"mirror": True, "jitter": REACH}
    first = served(nyud(tmp_path, **keys)[0], 10)
    assert all_equal(served(nyud(tmp_path, **keys)[0], 10), first)
    assert not all_equal(served(nyud(tmp_path, **keys, seed=6)[0], 10), first)


def test_the_draws_never_change(tmp_path, tree):
    """Runs are repeated by seed: what this seed gives at these positions is for ever."""
    _, layer = nyud(tmp_path, seed=1337)
    drawn = [round(layer.draws(k).random(), 6) for k in (0, 1, 99999, 0)]
    assert drawn == [0.3683, 0.789479, 0.659272, 0.3683]


@pytest.mark.parametrize("seed", [5, None])
def test_resuming_is_exact(tmp_path, tree, seed):
    keys = {"mirror": True, "jitter": REACH}
    net, layer = nyud(tmp_path, **keys, seed=seed)
    served(net, 4)
    state = layer.get_state()
    rest = served(net, 6)
    other, other_layer = nyud(tmp_path, **keys, seed=99)
    served(other, 2)
    other_layer.set_state(state)
    assert all_equal(served(other, 6), rest)
    other_layer.skip_to(6)
    assert all_equal(served(other, 4), rest[2:])


def test_what_is_scored_stays_as_it_is(tmp_path, tree):
    plain = served(nyud(tmp_path, split="test")[0], 6)
    assert all_equal(served(nyud(tmp_path, split="test", mirror=True, jitter=REACH)[0], 6), plain)


def test_a_training_split_in_file_order_refuses_it(tmp_path, tree):
    with pytest.raises(DataError, match="mirror and jitter would change nothing where randomize is False"):
        nyud(tmp_path, mirror=True, jitter=2, randomize=False)


def test_the_global_generators_are_left_alone(tmp_path, tree):
    random.seed(3)
    np.random.seed(3)
    states = random.getstate(), np.random.get_state()[1].tolist()
    served(nyud(tmp_path, mirror=True, jitter=REACH)[0], 5)
    assert (random.getstate(), np.random.get_state()[1].tolist()) == states


@pytest.mark.parametrize("key, value", [("mirror", 1), ("jitter", -1), ("jitter", 2.5), ("jitter", True)])
def test_wrong_values_are_told(tmp_path, tree, key, value):
    with pytest.raises(DataError, match=f"{key} is {value}; it must be"):
        nyud(tmp_path, **{key: value})


@pytest.mark.parametrize("down, right", [(9, 0), (-9, 1), (0, 11), (2, -11), (4, 0), (0, -5)])
def test_an_image_moved_out_of_sight_is_void(down, right):
    values = np.arange(20, dtype=np.float32).reshape(1, 4, 5)
    assert (shifted(values, down, right, 255) == 255).all()


def test_every_data_layer_takes_the_keys(tmp_path):
    voc_tree(tmp_path / "voc")
    sbd_tree(tmp_path / "sbd")
    siftflow_tree(tmp_path / "sift", splits=("trainval",))
    context_tree(tmp_path / "VOC2010", tmp_path / "context")
    for layer, tops, params in (
        ("VOCSegDataLayer", ("data", "label"), {"voc_dir": "voc", "split": "train", "mean": MEAN}),
        ("SBDDSegDataLayer", ("data", "label"), {"sbdd_dir": "sbd", "split": "train", "mean": MEAN}),
        (
            "SIFTFlowSegDataLayer",
            ("data", "sem", "geo"),
            {"siftflow_dir": "sift", "split": "trainval", "tops": ["data", "sem", "geo"]},
        ),
        (
            "PASCALContextSegDataLayer",
            ("data", "label"),
            {"voc_dir": "VOC2010", "context_dir": "context", "split": "train"},
        ),
    ):
        for key in params:
            params[key] = str(tmp_path / params[key]) if key.endswith("_dir") else params[key]
        net, _ = data_net(tmp_path / "n.prototxt", layer, {**params, "mirror": True, "jitter": 99}, tops=tops)
        seen_void = []
        for _ in range(6):
            net.forward()
            seen_void += [(net.blobs[top].data == 255).all() for top in tops[1:]]
            if seen_void[-1]:
                assert (net.blobs["data"].data == 0).all()
        assert any(seen_void), layer
