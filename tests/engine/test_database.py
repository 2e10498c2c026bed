"""The Data layer, and the databases beneath it (LMDB, LevelDB)."""

import gc
import json
import shutil
import sys
import threading

import caffe
import lmdb
import numpy as np
import pytest
from caffe import common
from caffe.data_transformer import DataTransformer
from caffe.database import Cursor, new_database, open_database
from caffe.datum import make_datum
from caffe.draws import draw_seed
from caffe.errors import CaffeError
from caffe.layer_types.batches import Ahead
from caffe.proto import caffe_pb2
from google.protobuf import text_format
from image_tools import BACKENDS, needs_leveldb, photo, png
from layer_check import TEST, TRAIN, Rig, refuses


def store(path, datums, backend="lmdb"):
    """A database of these Datums (or bytes) under keys 00000000_x, 00000001_x, ...; returns its path."""
    with new_database(path, backend) as put:
        for number, datum in enumerate(datums):
            value = datum if isinstance(datum, bytes) else datum.SerializeToString()
            put(f"{number:08d}_x".encode(), value)
    return path


def numbered(count, shape=(1, 2, 2)):
    """Datums whose values are all their number, which is also their label."""
    return [make_datum(np.full(shape, number, np.uint8), number) for number in range(count)]


def data(source, more="batch_size: 2", transform="", backend="LMDB"):
    param = f'source: "{source}" backend: {backend} {more}'
    return f'type: "Data" data_param {{ {param} }} transform_param {{ {transform} }}'


def labels(rig, batches):
    return [rig.forward()[1].astype(int).tolist() for _ in range(batches)]


@pytest.fixture
def db(tmp_path):
    return store(tmp_path / "db", numbered(5))


# -- what it gives -------------------------------------------------------------------------------


@pytest.mark.parametrize("backend", BACKENDS)
def test_round_and_round_in_the_order_of_the_keys(tmp_path, backend):
    source = store(tmp_path / "db", numbered(5), backend)
    rig = Rig(data(source, backend=backend.upper()), tops=2)
    assert [blob.shape for blob in rig.top] == [(2, 1, 2, 2), (2,)]
    for expected in ([0, 1], [2, 3], [4, 0], [1, 2], [3, 4], [0, 1]):
        images, found = rig.forward()
        assert found.tolist() == expected
        assert images.tolist() == [np.full((1, 2, 2), number).tolist() for number in expected]
    rig.backward(1, 1)


def test_a_net_with_it(db, make_net):
    net = make_net(f'layer {{ name: "in" top: "x" top: "y" {data(db)} }}', caffe.TRAIN)
    view = net.blobs["y"].data
    net.forward()
    net.forward()
    assert view.tolist() == [2, 3]
    both = [make_net(f'layer {{ name: "in" top: "x" {data(db)} }}', caffe.TEST) for _ in range(2)]
    for again in both:  # the same database open several times
        again.forward()
        assert again.blobs["x"].data[:, 0, 0, 0].tolist() == [0, 1]


def test_one_top_is_the_images_alone(db):
    assert Rig(data(db), tops=1).forward()[0].shape == (2, 1, 2, 2)


def test_the_labels_of_unlabelled_datums_are_zero(tmp_path):
    source = store(tmp_path / "db", [make_datum(np.zeros((1, 1, 1), np.uint8))])
    assert labels(Rig(data(source), tops=2), 1) == [[0, 0]]


def test_raw_float_and_encoded_datums(tmp_path):
    image = photo(3, 4)
    planes = image.transpose(2, 0, 1)
    encoded = caffe_pb2.Datum(encoded=True, data=png(image), label=2)
    source = store(tmp_path / "db", [make_datum(planes, 0), make_datum(planes / 2, 1), encoded])
    images, found = Rig(data(source, "batch_size: 3"), tops=2).forward()
    assert found.tolist() == [0, 1, 2]
    np.testing.assert_array_equal(images, np.stack([planes, planes / 2, planes]))


def test_sizes_may_change_between_batches_not_within(tmp_path):
    shapes = [(1, 2, 3), (1, 4, 5), (3, 1, 1)]
    datums = [make_datum(np.full(shape, 9, np.uint8), i) for i, shape in enumerate(shapes)]
    source = store(tmp_path / "db", datums)
    rig = Rig(data(source, "batch_size: 1"), tops=1)
    assert [rig.forward()[0].shape for _ in range(4)] == [(1, *shape) for shape in [*shapes, shapes[0]]]
    with pytest.raises(
        CaffeError, match=r"key '00000001_x': it gives \(1, 4, 5\), the first of its batch gave"
    ):
        Rig(data(source), tops=1).forward()
    cropped = Rig(data(store(tmp_path / "2", datums[:2]), transform="crop_size: 2"), tops=1)
    assert cropped.forward()[0].shape == (2, 1, 2, 2)


def test_transformed_with_seeds_drawn_in_caffes_order(tmp_path):
    planes = [photo(6, 7, seed).transpose(2, 0, 1) for seed in range(4)]
    source = store(tmp_path / "db", [make_datum(each, i) for i, each in enumerate(planes)])
    text = "crop_size: 3 mirror: true mean_value: 5 scale: 0.5"
    common.set_random_seed(11)
    rig = Rig(data(source, "batch_size: 3", text), tops=1, phase=TRAIN)
    after = draw_seed()
    common.set_random_seed(11)
    draw_seed()  # a first seed, unused
    transformer = DataTransformer(text_format.Parse(text, caffe_pb2.TransformationParameter()), TRAIN)
    transformer.init_rand()
    draw_seed()  # the thread's
    assert draw_seed() == after
    for batch in ([0, 1, 2], [3, 0, 1], [2, 3, 0]):
        expected = np.stack([transformer.transform(planes[i]) for i in batch])
        np.testing.assert_array_equal(rig.forward()[0], expected)


def test_solvers_in_parallel_share_the_items(db):
    found = []
    try:
        for rank in range(3):
            common.set_solver_count(3)
            common.set_solver_rank(rank)
            found.append(labels(Rig(data(db), tops=2, phase=TRAIN), 3))
            assert labels(Rig(data(db), tops=2, phase=TEST), 1) == [[0, 1]]  # testing reads all
    finally:
        common.set_solver_count(1)
        common.set_solver_rank(0)
    assert found == [[[0, 3], [1, 4], [2, 0]], [[1, 4], [2, 0], [3, 1]], [[2, 0], [3, 1], [4, 2]]]


def test_fields_that_do_nothing_are_named(db, capsys, caplog):
    caplog.set_level("WARNING", "caffe")
    Rig(data(db, "batch_size: 1 mirror: true rand_skip: 3"), tops=1)
    said = capsys.readouterr().err
    assert "mirror is ignored" in said and "rand_skip is ignored" in said and "scale" not in said


# -- going on after a restart, and the thread ----------------------------------------------------


def test_state_is_the_position_and_the_seed(tmp_path):
    source = store(tmp_path / "db", numbered(5, (1, 6, 6)))
    text = data(source, "batch_size: 3", "crop_size: 2 mirror: true")
    rig = Rig(text, tops=2, phase=TRAIN)
    for _ in range(4):
        rig.forward()
    state = rig.layer.get_state()
    expected = [rig.forward() for _ in range(2)]
    other = Rig(text, tops=2, phase=TRAIN)  # of another seed
    other.forward()
    other.layer.set_state(state)
    for wanted in expected:
        for ours, theirs in zip(other.forward(), wanted, strict=True):
            np.testing.assert_array_equal(ours, theirs)
    rig.layer.set_state(state)  # back
    np.testing.assert_array_equal(rig.forward()[0], expected[0][0])


def test_states_that_are_none(db):
    layer = Rig(data(db, transform="mirror: true"), tops=1).layer
    good = json.loads(layer.get_state())
    for bad in (
        {},
        {**good, "batches": -1},
        {**good, "seeds": {}},
        {**good, "seeds": {"transform": "x"}},
        [],
    ):
        with pytest.raises(CaffeError, match=r"layer 'probe'.*is no state of this layer"):
            layer.set_state(json.dumps(bad))
    with pytest.raises(CaffeError, match="no state"):
        layer.set_state("{")


def test_the_solver_resumes_the_layer(tmp_path, make_solver):
    source = store(tmp_path / "db", numbered(7, (1, 5, 5)))
    text = f'layer {{ name: "in" top: "x" top: "y" {data(source, "batch_size: 2", "crop_size: 3")} }}'
    text += (
        'layer { name: "ip" type: "InnerProduct" bottom: "x" top: "z" inner_product_param { num_output: 7 } }'
    )
    text += 'layer { name: "loss" type: "SoftmaxWithLoss" bottom: "z" bottom: "y" top: "loss" }'
    first = make_solver(text, 'base_lr: 0.1 lr_policy: "fixed"')
    first.step(3)
    first.snapshot()
    first.step(1)
    second = make_solver(text, 'base_lr: 0.1 lr_policy: "fixed"')
    second.restore(str(tmp_path / "s0_iter_3.solverstate"))
    second.step(1)
    for name in ("x", "y"):
        np.testing.assert_array_equal(second.net.blobs[name].data, first.net.blobs[name].data)


def test_the_thread_ends_with_the_layer(db):
    gc.collect()
    before = threading.active_count()
    rig = Rig(data(db, "batch_size: 1 prefetch: 2"), tops=1)
    rig.forward()
    assert threading.active_count() == before + 1
    del rig
    gc.collect()
    assert threading.active_count() == before


def test_at_most_depth_batches_are_made_ahead():
    made, go = [], threading.Event()

    def load(number):
        made.append(number)
        if number == 6:
            go.set()
        if number == 9:
            raise ValueError("nine")
        return number

    ahead = Ahead(load, first=3, depth=3)
    assert ahead.next() == 3
    assert go.wait(10) and made[:4] == [3, 4, 5, 6]  # and no more until asked
    assert [ahead.next() for _ in range(5)] == [4, 5, 6, 7, 8]
    for _ in range(2):
        with pytest.raises(ValueError, match="nine"):
            ahead.next()
    ahead.close()
    assert made == list(range(3, 10))


# -- databases -----------------------------------------------------------------------------------


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_cursor_goes_anywhere(tmp_path, backend):
    database = open_database(store(tmp_path / "db", [b"0", b"1", b"2"], backend), backend)
    cursor = Cursor(database)
    for number in (0, 1, 5, 2, 300, 299, 0):
        assert cursor.at(number) == (f"{number % 3:08d}_x".encode(), str(number % 3).encode())


def test_a_new_lmdb_at_an_old_path_is_read_anew(tmp_path):
    old = Cursor(open_database(store(tmp_path / "db", [b"old"]), "lmdb"))
    shutil.move(tmp_path / "db", tmp_path / "moved")
    new = Cursor(open_database(store(tmp_path / "db", [b"new"]), "lmdb"))
    assert (old.at(0)[1], new.at(0)[1]) == (b"old", b"new")


def test_a_large_lmdb_grows_its_map(tmp_path):
    source = store(tmp_path / "db", [bytes(1 << 20)] * 40)
    assert open_database(source, "LMDB").entries == 40


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_database_appears_whole_or_not_at_all(tmp_path, backend):
    path = tmp_path / "db"
    with pytest.raises(ZeroDivisionError), new_database(path, backend) as put:
        put(b"a", b"b")
        raise ZeroDivisionError
    assert list(tmp_path.iterdir()) == []
    store(path, [b"1"], backend)
    assert oct(path.stat().st_mode)[-3:] == "755"
    with pytest.raises(CaffeError, match=r"mkdir .*db failed: it exists"), new_database(path, backend):
        pass
    with pytest.raises(CaffeError, match=r"mkdir .*failed"), new_database(tmp_path / "no" / "db", backend):
        pass


def test_keys_that_lmdb_cannot_take(tmp_path):
    with pytest.raises(CaffeError, match=r"cannot write .*db"), new_database(tmp_path / "db", "lmdb") as put:
        put(b"k" * 600, b"")


# -- bad input -----------------------------------------------------------------------------------


def test_refusals(tmp_path, db):
    refuses("database /no/where: No such file or directory", data("/no/where"), tops=1)
    refuses("data_param needs a source", 'type: "Data" data_param { batch_size: 1 }', tops=1)
    refuses("Positive batch size required", data(db, ""), tops=1)
    refuses("blob size exceeds INT_MAX", data(db, "batch_size: 4000000000"), tops=1)
    refuses(
        "is of kind LMDB, but its backend is said to be LEVELDB: say backend: LMDB",
        data(db, backend="LEVELDB"),
        tops=1,
    )
    refuses("crop_size 3 does not fit", data(db, transform="crop_size: 3"), tops=1)
    empty = store(tmp_path / "empty", [])
    refuses("is empty: it holds no key", data(empty), tops=1)
    (tmp_path / "folder").mkdir()
    refuses("not a readable LMDB", data(tmp_path / "folder"), tops=1)
    with pytest.raises(CaffeError, match="Unknown database backend: rocksdb"):
        open_database(db, "rocksdb")


@needs_leveldb
def test_refusals_of_leveldb(tmp_path):
    refuses("is empty", data(store(tmp_path / "empty", [], "leveldb"), backend="LEVELDB"), tops=1)
    (tmp_path / "folder").mkdir()
    refuses("Failed to open leveldb", data(tmp_path / "folder", backend="LEVELDB"), tops=1)


def test_damaged_lmdbs(tmp_path):
    source = store(tmp_path / "db", [bytes(5000)] * 20)
    gc.collect()  # closed, or its pages would still be seen
    file = source / "data.mdb"
    whole = file.read_bytes()
    file.write_bytes(whole[: len(whole) // 2])
    refuses("the LMDB is truncated", data(source), tops=1)
    file.write_bytes(b"no such thing" * 1000)
    refuses("not a readable LMDB", data(source), tops=1)


@pytest.mark.parametrize("backend", BACKENDS)
def test_values_that_lie(tmp_path, backend):
    liar = caffe_pb2.Datum(channels=3, height=2, width=2, data=b"123").SerializeToString()
    for number, (value, words) in enumerate(
        [
            (b"\xff\xff\xff\xff", "is no Datum"),
            (b"", "each must be at least 1"),
            (liar, "Incorrect data field size 3: the Datum states 3x2x2, which is 12"),
        ]
    ):
        source = store(tmp_path / f"db{number}", [numbered(1)[0], numbered(1)[0], value], backend)
        rig = Rig(data(source, backend=backend.upper()), tops=1)
        rig.forward()
        for _ in range(2):  # and it stays so
            with pytest.raises(CaffeError, match=rf"layer 'probe' \(Data\): .*key '00000002_x': .*{words}"):
                rig.forward()


@needs_leveldb
def test_leveldb_without_its_package(tmp_path, monkeypatch):
    source = store(tmp_path / "db", [b"1"], "leveldb")
    copy = tmp_path / "copy"
    shutil.copytree(source, copy)
    monkeypatch.setitem(sys.modules, "plyvel", None)
    refuses("LevelDB needs the package plyvel (pip install", data(copy, backend="LEVELDB"), tops=1)


def test_reading_writes_nothing(tmp_path, db):
    (db / "lock.mdb").unlink()
    before = {path.name: path.stat().st_mtime_ns for path in db.iterdir()}
    Rig(data(db), tops=1).forward()
    assert {path.name: path.stat().st_mtime_ns for path in db.iterdir()} == before
    alone = tmp_path / "alone.mdb"  # LMDB's form without a folder
    shutil.copy(db / "data.mdb", alone)
    assert labels(Rig(data(alone), tops=2), 1) == [[0, 1]]


def test_other_peoples_lmdb(tmp_path):
    with lmdb.open(str(tmp_path / "db"), map_size=1 << 20) as env, env.begin(write=True) as transaction:
        for key in (b"b", b"a", b"c"):
            transaction.put(key, make_datum(np.zeros((1, 1, 1)), ord(key)).SerializeToString())
    assert labels(Rig(data(tmp_path / "db", "batch_size: 3"), tops=2), 1) == [[97, 98, 99]]
