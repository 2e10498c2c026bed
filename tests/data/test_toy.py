"""The synthetic twins: the same bytes of the same seed, labels that fit, published layouts, nothing overwritten."""

import hashlib
import importlib.util
import json
import tarfile
import zipfile
from pathlib import Path

import h5py
import numpy as np
import pytest
from PIL import Image
from scipy.io import loadmat

from datakit import layouts, outdoors, rooms, scenes, twins
from datakit.labels import CONTEXT_IDS
from datakit.twin_pascal import Pascal, stock
from datakit.twins import Nyud, SiftFlow, Twins

ROOT = Path(__file__).resolve().parents[2]
SIFT = layouts.SIFT_FOLDER


def script(name):
    """The module data/<name>/prepare.py."""
    spec = importlib.util.spec_from_file_location(f"toy_test_{name}", ROOT / "data" / name / "prepare.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


toy = script("toy")


def lines(path):
    return path.read_text().split()


@pytest.fixture(scope="module")
def few_rooms():
    """NYUDv2's twin of two rooms: each takes half a second."""

    class Few(Nyud):
        def __init__(self, made):
            super().__init__(made)
            self.ids, self.trainval, self.test = ["5001", "5002"], ["5002"], ["5001"]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(toy, "Nyud", Few)
        yield


@pytest.fixture(scope="module")
def root(few_rooms, tmp_path_factory):
    """A data root of all twins."""
    root = tmp_path_factory.mktemp("toy") / "root"
    assert toy.main(["trees", "--data-root", str(root)]) == 0
    return root


@pytest.fixture(scope="module")
def published(few_rooms, tmp_path_factory):
    """A folder of all their archives."""
    folder = tmp_path_factory.mktemp("archives")
    assert toy.main(["archives", str(folder), "--url", "http://127.0.0.1:1/sets/"]) == 0
    return folder


# ------------------------------------------------------------------ drawing


DRAWN = {
    "scene": lambda seed, index: vars(scenes.scene(seed, index, (90, 120))),
    "crop": lambda seed, index: {"image": scenes.crop(seed, index)[0]},
    "room": lambda seed, index: vars(rooms.room(seed, index)),
    "view": lambda seed, index: {k: v for k, v in vars(outdoors.view(seed, index)).items() if k != "kind"},
}
# sha256 of all arrays of seed 7, index 3: the same on every machine and with every NumPy
GOLDEN = {
    "scene": "2166254c0e13082ccb12ae48aea537045701db4d5ffdd1d769f0ee6157fe11e6",
    "crop": "2ff25ba671eebc58038a48218227ccaabda066f0f983ad34a845ad2f78ef0e51",
    "room": "bd3143c6844e362a6d7338d2f1895c7dfa69b90e0d6ebab561d0097af05f7f7f",
    "view": "a1f41e6f1a753fc6cb0daf6bf428c4349e5b4e9bc751b2dad159009b221ab7ef",
}


def bytes_of(arrays):
    return b"".join(np.ascontiguousarray(arrays[name]).tobytes() for name in sorted(arrays))


@pytest.mark.parametrize("what", DRAWN)
def test_a_picture_is_a_function_of_seed_and_index(what):
    np.random.seed(5)
    before = np.random.get_state()[1].tobytes()
    first = bytes_of(DRAWN[what](7, 3))
    assert np.random.get_state()[1].tobytes() == before
    np.random.seed(6)
    assert bytes_of(DRAWN[what](7, 3)) == first
    assert len({first, bytes_of(DRAWN[what](8, 3)), bytes_of(DRAWN[what](7, 4))}) == 3
    assert hashlib.sha256(first).hexdigest() == GOLDEN[what]


def test_the_same_picture_at_another_size_shows_the_same_objects():
    small, large = (scenes.scene(1, 5, size) for size in ((90, 120), (180, 240)))
    assert set(np.unique(small.bare)) == set(np.unique(large.bare))
    assert (small.bare == large.bare[::2, ::2]).mean() > 0.97


def beside(label):
    """Pairs of neighbouring pixels, as two arrays of positions: down, then right."""
    yield (np.s_[1:], np.s_[:-1])
    yield (np.s_[:, 1:], np.s_[:, :-1])


@pytest.mark.parametrize("size", [(90, 120), (375, 500)])
def test_void_lies_along_every_border_and_nowhere_else(size):
    shares = []
    for index in range(4):
        scene = scenes.scene(0, index, size)
        void = scene.label == 255
        assert (scene.label[~void] == scene.bare[~void]).all() and scene.bare.max() <= 20
        for one, other in beside(scene.bare):
            differ = scene.bare[one] != scene.bare[other]
            assert differ.any() and (void[one] | void[other])[differ].all()
        near = np.zeros(size, bool)  # of the border of some object, at most three pixels away
        padded = np.pad(scene.instances, 4, "edge")
        for down in range(9):
            for right in range(9):
                near |= padded[down : down + size[0], right : right + size[1]] != scene.instances
        assert (void & ~near).sum() < 0.03 * void.sum()  # where an object ends outside of its shape's corner
        shares.append(void.mean())
    assert 0.01 < np.mean(shares) < 0.12


def test_instances_are_numbered_from_1_and_each_is_of_one_class():
    for index in range(20):
        scene = scenes.scene(2, index, (60, 80))
        numbers = np.unique(scene.instances)
        assert numbers.tolist() == list(range(numbers[0], numbers[0] + len(numbers))) and numbers[0] in (0, 1)
        assert ((scene.instances > 0) == (scene.bare > 0)).all()
        assert all(len(np.unique(scene.bare[scene.instances == n])) == 1 for n in numbers)


def test_classes_look_different_and_share_shapes_textures_and_hues():
    names = scenes.class_names(21)
    assert len(set(names)) == 21 and names[0] == "background"
    for part in range(3):
        words = [name.split()[part] for name in names[1:]]
        assert 5 <= len(set(words)) <= 10
    looks = {scenes._look(k) for k in range(59)}
    assert len(looks) == 59


@pytest.mark.parametrize("seed", range(3))
def test_every_class_occurs_in_every_set(seed):
    voc = Pascal(Twins(seed, size=96))
    drawn = {name: voc.scene(name) for name in voc.index}
    ground = np.arange(21, 21 + 44)

    def seen(names):
        return set(np.unique(np.concatenate([drawn[name].label.ravel() for name in names])))

    assert seen(voc.voc[2011]["trainval"]) == {*range(21), 255}
    assert seen([*voc.sbd["train"], *voc.sbd["val"]]) == {*range(21), 255}
    old = [drawn[name] for name in voc.main[2010]["trainval"]]
    found = np.concatenate([np.where(each.bare > 0, each.bare, ground[each.ground]).ravel() for each in old])
    assert {*range(1, 60)} <= set(np.unique(found)) and (found >= 60).any()
    sift = SiftFlow(Twins(seed))
    tested, trained = (
        np.unique(np.stack([outdoors.view(seed, sift.index[name], rare).semantic for name in names]))
        for names, rare in ((sift.test, False), (sift.trainval, True))
    )
    assert set(range(34)) - set(tested) == {9, 11, 16} and {9, 11, 16} <= set(trained)


def test_every_class_of_nyud_occurs():
    labels = np.stack([rooms.room(0, i).label[rooms.CROP] for i in range(twins.LEAST)])
    assert (np.bincount(labels.ravel(), minlength=41) > 100).all()


def test_a_room_is_seen_from_above_its_floor():
    """The floor's points, put upright by the walls' edges being vertical, lie 1.2 to 1.4 m below the camera."""
    drawn = rooms.room(0, 1)
    y, x = np.nonzero(drawn.label == rooms.NUMBERS["floor"])
    z = drawn.depth[y, x] / 1000
    points = np.stack([(x + 1 - rooms.CX) * z / rooms.FX, (y + 1 - rooms.CY) * z / rooms.FY, z], 1)
    middle = points.mean(0)
    normal = np.linalg.svd(points - middle, full_matrices=False)[2][2]
    off = np.abs((points - middle) @ normal)
    assert len(z) > 5000 and np.percentile(off, 99) < 0.02  # flat
    assert 1.2 <= abs(middle @ normal) <= 1.4
    assert 0 < np.degrees(np.arccos(abs(normal[1]))) < 18  # looking a little down
    assert (drawn.depth > 0).all() and (drawn.raw == 0).any()
    assert (drawn.raw == drawn.depth)[drawn.raw > 0].all()


def test_the_two_labelings_of_a_view_agree():
    of = {}
    for index in range(8):
        view = outdoors.view(3, index)
        assert ((view.semantic == 0) == (view.geometric == -1)).all()
        for semantic in np.unique(view.semantic):
            of.setdefault(int(semantic), set()).update(view.geometric[view.semantic == semantic].tolist())
    names = list(outdoors.CLASSES)
    assert names == (ROOT / "data/sift-flow/classes.txt").read_text().split("\n")[:33]
    assert all(len(values) == 1 for values in of.values())
    assert (
        of[names.index("sky") + 1] == {1}
        and of[names.index("road") + 1] == {2}
        and of[names.index("car") + 1] == {3}
    )
    assert list(rooms.CLASSES) == (ROOT / "data/nyud/classes.txt").read_text().strip().split("\n")


def test_crops_can_be_learned_and_not_by_colour_alone():
    """A linear classifier tells twenty classes apart; a nearest mean of colours does half as well."""
    drawn = [scenes.crop(0, i, (48, 48)) for i in range(1100)]
    pictures = np.stack([image for image, _ in drawn]).astype(np.float32)
    label, train = np.array([label - 1 for _, label in drawn]), np.s_[:800]
    assert np.bincount(label).tolist() == [55] * 20
    top, low = pictures.max(3), pictures.min(3)
    strength = (top - low) / np.maximum(top, 1)
    strongest = pictures.argmax(3)
    second = np.take_along_axis(pictures, ((strongest + 1) % 3)[..., None], 3)[..., 0]
    third = np.take_along_axis(pictures, ((strongest + 2) % 3)[..., None], 3)[..., 0]
    hue = (strongest + (second - third) / np.maximum(top - low, 1) / 2) % 3 / 3
    colours = np.stack(
        [np.histogram(h, 24, (0, 1), weights=s)[0] / s.sum() for h, s in zip(hue, strength, strict=True)]
    )
    outline = strength.reshape(-1, 16, 3, 16, 3).mean((2, 4)).reshape(len(label), -1)

    def standard(features):
        return (features - features[train].mean(0)) / (features[train].std(0) + 1e-3)

    colours, outline = standard(colours), standard(outline)
    means = np.stack([colours[train][label[train] == k].mean(0) for k in range(20)])
    by_colour = ((colours[800:, None] - means) ** 2).sum(2).argmin(1)
    features = np.concatenate([colours, outline, np.ones((len(label), 1))], 1)
    inner = features[train].T @ features[train] + 1000 * np.eye(features.shape[1])
    weights = np.linalg.solve(inner, features[train].T @ np.eye(20)[label[train]])
    by_both = (features[800:] @ weights).argmax(1)
    right = [(guess == label[800:]).mean() for guess in (by_colour, by_both)]
    assert 0.3 < right[0] < 0.65 and right[1] > right[0] + 0.15


# ------------------------------------------------------------------ splits


@pytest.mark.parametrize("images", [12, 13, 20, 37, 100, 500])
def test_splits_are_related_as_the_published_ones(images):
    voc = Pascal(Twins(images=images))
    train11, val11 = (set(voc.voc[2011][split]) for split in ("train", "val"))
    train12, val12 = (set(voc.voc[2012][split]) for split in ("train", "val"))
    sbd_train, sbd_val = set(voc.sbd["train"]), set(voc.sbd["val"])
    valid = val11 - sbd_train
    assert len(train11) == len(val11) == images and not train11 & val11
    assert train11 < train12 and val11 < val12 and not train12 & val12
    assert not sbd_train & sbd_val and val11 & sbd_train
    assert valid & sbd_val and valid - sbd_val - sbd_train
    assert {name[:4] for name in valid - sbd_val} == {"2007"}
    assert not any(name.startswith("2007") for name in sbd_train | sbd_val)
    assert valid < val12 - sbd_train
    main = set(voc.main[2011]["trainval"])
    assert sbd_train | sbd_val <= main
    old = set(voc.main[2010]["trainval"])
    assert len(old) == 2 * images and old <= main and {name[:4] for name in old} == {"2008", "2009", "2010"}
    assert all(voc.voc[2010][split] and voc.main[2010][split] for split in ("train", "val"))
    assert set(voc.voc[2010]["trainval"]) <= set(voc.voc[2011]["trainval"]) & old
    names = [photo.name for photo in stock(images)]
    assert len(set(names)) == len(names)
    nyud = Nyud(Twins(images=images))
    assert sorted(nyud.trainval + nyud.test) == nyud.ids == [str(5001 + i) for i in range(images)]


# ------------------------------------------------------------------ layouts


def test_voc_is_read_by_others(root):
    facts = json.loads((root / "sources.json").read_text())["facts"]["pascal"]
    for year in (2011, 2012):
        folder = root / f"pascal/VOC{year}"
        lists = {
            split: lines(folder / f"ImageSets/Segmentation/{split}.txt")
            for split in ("train", "val", "trainval")
        }
        assert {f"voc{year} {k}": len(lists[k]) for k in ("train", "val")}.items() <= facts.items()
        assert lists["trainval"] == sorted(lists["train"] + lists["val"])
        assert sorted(p.stem for p in (folder / "SegmentationClass").iterdir()) == lists["trainval"]
        assert not (folder / "ImageSets/Segmentation/seg11valid.txt").exists()
        for name in lists["trainval"][:5]:
            with Image.open(folder / f"SegmentationClass/{name}.png") as mask:
                palette = mask.getpalette()
                assert mask.mode == "P" and palette[3:6] == [128, 0, 0] and palette[60:63] == [0, 64, 128]
                assert palette[765:] == [224, 224, 192]
                label = np.array(mask)
            with Image.open(folder / f"JPEGImages/{name}.jpg") as photograph:
                assert (
                    photograph.format == "JPEG"
                    and photograph.size == label.shape[::-1]
                    and max(label.shape) == 160
                )
            assert (label == 255).any() and set(np.unique(label)) <= {*range(21), 255}
    assert (root / "pascal/VOC2011/ImageSets/Segmentation/val.txt").read_bytes().endswith(b"\n")


def test_sbd_is_read_by_others(root):
    folder = root / "sbdd/dataset"
    ids = sorted(lines(folder / "train.txt") + lines(folder / "val.txt"))
    assert sorted(p.stem for p in (folder / "cls").iterdir()) == ids
    assert sorted(p.stem for p in (folder / "inst").iterdir()) == ids
    for name in ids[:6]:
        struct = loadmat(folder / f"cls/{name}.mat")["GTcls"][0, 0]
        label = struct["Segmentation"]
        assert label.dtype == np.uint8 and label.max() <= 20  # no void
        present = set(np.unique(label)) - {0}
        assert set(struct["CategoriesPresent"].ravel()) == present
        assert struct["Boundaries"].shape == (20, 1)
        for k in range(1, 21):
            edge = struct["Boundaries"][k - 1, 0].toarray() > 0  # fails unless it is sparse
            assert edge.shape == label.shape and edge.any() == (k in present)
            assert (label[edge] == k).all() and edge.sum() < max(1, (label == k).sum())
        instances = loadmat(folder / f"inst/{name}.mat")["GTinst"][0, 0]
        numbers = instances["Segmentation"]
        assert numbers.max() == len(instances["Categories"]) == len(instances["Boundaries"])
        for n, k in enumerate(instances["Categories"].ravel(), 1):
            assert (label[numbers == n] == k).all() and instances["Boundaries"][n - 1, 0].nnz
        masks = root / f"pascal/VOC2012/SegmentationClass/{name}.png"
        if masks.exists():  # the same picture, but for the void
            mask = np.array(Image.open(masks))
            assert (mask[mask != 255] == label[mask != 255]).all()
            same = (root / f"pascal/VOC2012/JPEGImages/{name}.jpg").read_bytes()
            assert same == (folder / f"img/{name}.jpg").read_bytes()


def test_context_has_the_numbers_of_459_classes(root):
    voc, context = root / "pascal/VOC2010", root / "pascal-context/trainval"
    ids = sorted(lines(voc / "ImageSets/Main/train.txt") + lines(voc / "ImageSets/Main/val.txt"))
    assert (
        sorted(p.stem for p in context.iterdir())
        == ids
        == sorted(p.stem for p in (voc / "JPEGImages").iterdir())
    )
    found = set()
    for name in ids:
        label = loadmat(context / f"{name}.mat")["LabelMap"]
        found |= set(np.unique(label).tolist())
        mask = voc / f"SegmentationClass/{name}.png"
        if mask.exists():
            mask = np.array(Image.open(mask))
            for k in range(1, 21):
                assert (label[mask == k] == CONTEXT_IDS[k - 1]).all()
    assert set(CONTEXT_IDS) < found <= set(range(1, 460))


def test_siftflow_is_read_by_others(root):
    folder = root / "sift-flow"
    test = (folder / "TestSet1.txt").read_text().split()
    assert len(test) == 8 and all(line.startswith(f"{SIFT}\\") and line.endswith(".jpg") for line in test)
    images = {path.stem for path in (folder / f"Images/{SIFT}").iterdir()}
    for kind, dtype, low, high in (("SemanticLabels", np.uint8, 0, 33), ("GeoLabels", np.int16, -1, 3)):
        paths = list((folder / kind / SIFT).iterdir())
        assert images - {path.stem for path in paths} == {"highway_bost181", "street_urb506"}
        for path in paths[:4]:
            label = loadmat(path)["S"]
            assert (
                label.dtype == dtype
                and label.shape == (256, 256)
                and low <= label.min()
                and label.max() <= high
            )
    assert {name.split("_")[0] for name in images} == set(outdoors.PLACES)
    facts = json.loads((root / "sources.json").read_text())["facts"]["sift-flow"]
    assert facts["absent from test"] == ["cow", "desert", "moon"]
    trained = images - {"highway_bost181", "street_urb506"} - {line.split("\\")[1][:-4] for line in test}
    assert len(trained) == facts["trainval"]
    mean = np.mean(
        [np.array(Image.open(folder / f"Images/{SIFT}/{n}.jpg")) for n in sorted(trained)], (0, 1, 2)
    )
    assert mean[::-1] == pytest.approx(facts["mean"], abs=0.001)


def test_nyud_is_packed_as_by_its_authors(root):
    folder = root / "nyud"
    for name in ("5001", "5002"):
        color, depth, raw, above = (
            np.array(Image.open(folder / f"data/{kind}/img_{name}.png"))
            for kind in ("images", "depth", "rawdepth", "hha")
        )
        assert color.shape == above.shape == (425, 560, 3) and color.dtype == np.uint8
        assert (
            depth.shape == (425, 560)
            and depth.dtype == np.uint16
            and depth.min() > 500
            and depth.max() < 10_000
        )
        assert (raw == 0).any() and (raw == depth)[raw > 0].all()
        near = np.floor(31000 / np.maximum(depth / 10, 100) + 0.5).clip(0, 255)
        assert np.abs(above[..., 0] - near).max() <= 1
        label = loadmat(folder / f"segmentation/img_{name}.mat")["segmentation"]
        assert (
            label.dtype == np.uint8 and label.shape == (425, 560) and label.min() == 0 and label.max() <= 40
        )
        floor, ceiling = (above[..., 1][label == rooms.NUMBERS[k]] for k in ("floor", "wall"))
        assert np.median(floor) < 15 < np.median(ceiling)  # centimetres above the floor
    cells = {split: loadmat(folder / f"{split}.mat")["split_ids"].ravel() for split in ("train", "test")}
    assert {k: [c.item() for c in v] for k, v in cells.items()} == {
        "train": ["img_5002"],
        "test": ["img_5001"],
    }
    facts = json.loads((root / "sources.json").read_text())["facts"]["nyud"]
    trained = [np.array(Image.open(folder / f"data/images/img_{n}.png")) for n in ("5002",)]
    assert np.mean(trained, (0, 1, 2)) == pytest.approx(facts["mean color"], abs=0.001)


def test_nyud_is_published_as_matlab_has_it(published, root):
    path = published / "nyu_depth_v2_labeled.mat"
    head = path.read_bytes()[:520]
    assert (
        head.startswith(b"MATLAB 7.3 MAT-file")
        and head[124:128] == b"\x00\x02IM"
        and head[512:516] == b"\x89HDF"
    )
    numbers = loadmat(published / "classMapping40.mat")["mapClass"]
    assert numbers.shape == (1, 894) and np.bincount(numbers[0])[1:].tolist() == [1] * 37 + [68, 82, 707]
    names = loadmat(published / "classMapping40.mat")["className"][0]
    assert [cell.item() for cell in names] == list(rooms.CLASSES)
    split = loadmat(published / "splits.mat")
    assert split["trainNdxs"].tolist() == [[2]] and split["testNdxs"].tolist() == [[1]]
    with h5py.File(path, "r") as file:
        assert file["images"].shape == (2, 3, 640, 480) and file["images"].dtype == np.uint8
        assert file["labels"].dtype == np.uint16 and file["labels"][...].max() <= 894
        assert file["depths"].attrs["MATLAB_class"] == b"single" and file["depths"].dtype == np.float32
        crop = np.s_[45:470, 40:600]
        for i, name in enumerate(("5001", "5002")):
            color = file["images"][i].transpose(2, 1, 0)[crop]
            assert (color == np.array(Image.open(root / f"nyud/data/images/img_{name}.png"))).all()
            for key, kind in (("depths", "depth"), ("rawDepths", "rawdepth")):
                millimetres = np.floor(file[key][i].T[crop].astype(np.float64) * 1000 + 0.5)
                assert (millimetres == np.array(Image.open(root / f"nyud/data/{kind}/img_{name}.png"))).all()
            label = np.insert(numbers[0], 0, 0)[file["labels"][i].T[crop]]
            assert (label == loadmat(root / f"nyud/segmentation/img_{name}.mat")["segmentation"]).all()


# ------------------------------------------------------------------ archives


def files_under(folder, inner):
    return {f"{inner}{path.relative_to(folder).as_posix()}" for path in folder.rglob("*") if path.is_file()}


def test_archives_hold_exactly_the_published_paths(root, published):
    expected = {
        "VOCtrainval_25-May-2011.tar": files_under(root / "pascal/VOC2011", "TrainVal/VOCdevkit/VOC2011/"),
        "VOCtrainval_11-May-2012.tar": files_under(root / "pascal/VOC2012", "VOCdevkit/VOC2012/"),
        "VOCtrainval_03-May-2010.tar": files_under(root / "pascal/VOC2010", "VOCdevkit/VOC2010/"),
        "benchmark.tgz": {
            *files_under(root / "sbdd/dataset", "benchmark_RELEASE/dataset/"),
            "benchmark_RELEASE/benchmark_code_RELEASE/README",
        },
        "trainval.tar.gz": files_under(root / "pascal-context/trainval", "trainval/"),
        "nyud.tar.gz": files_under(root / "nyud", ""),
    }
    for name, paths in expected.items():
        with tarfile.open(published / name) as tar:
            members = tar.getmembers()
            assert {m.name for m in members if m.isfile()} == paths
            assert all(m.isfile() or m.isdir() for m in members) and {m.mtime for m in members} == {0}
            assert len({m.name for m in members}) == len(members)
    with zipfile.ZipFile(published / "SiftFlowDataset.zip") as zip_:
        assert {n for n in zip_.namelist() if not n.endswith("/")} == files_under(
            root / "sift-flow", "SiftFlowDataset/"
        )
    rest = {
        "nyu_depth_v2_labeled.mat",
        "splits.mat",
        "classMapping40.mat",
        "SiftFlowDataset.zip",
        "sources.json",
    }
    assert {path.name for path in published.iterdir()} == {*expected, *rest}


def test_sources_tell_what_the_archives_are(root, published):
    sources = json.loads((published / "sources.json").read_text())
    assert sources["facts"] == json.loads((root / "sources.json").read_text())["facts"]
    for path in published.iterdir():
        if path.name != "sources.json":
            about = sources["archives"].pop(path.name)
            assert (
                about["urls"] == [f"http://127.0.0.1:1/sets/{path.name}"]
                and about["size"] == path.stat().st_size
            )
            assert about["digests"] == [f"sha256:{hashlib.sha256(path.read_bytes()).hexdigest()}"]
            assert about["unpacked"] > 0
    assert not sources["archives"]


def test_archives_are_the_same_bytes_whenever_they_are_made(published, tmp_path):
    sets = ["sift-flow", "pascal-context"]
    assert toy.main(["archives", str(tmp_path), *sets]) == 0
    for name in ("SiftFlowDataset.zip", "VOCtrainval_03-May-2010.tar", "trainval.tar.gz"):
        assert (tmp_path / name).read_bytes() == (published / name).read_bytes()


@pytest.mark.parametrize(
    ("name", "parts"),
    [
        ("pascal", ["voc2011", "sbd", "voc2012"]),
        ("sift-flow", []),
        ("pascal-context", []),
    ],
)
def test_archives_pass_through_get_prepare_and_check(name, parts, published, tmp_path, capsys):
    options = [
        "--data-root",
        str(tmp_path),
        "--sources",
        str(published / "sources.json"),
        "--from",
        str(published),
    ]
    status = script(name).main(["all", *parts, *options])
    assert status == 0 and "FAIL" not in capsys.readouterr().out


# ------------------------------------------------------------------ the command line


@pytest.mark.parametrize(
    "sources", [None, {"archives": {"benchmark.tgz": {"urls": ["http://mirror"]}}, "facts": {}}]
)
def test_real_data_is_never_overwritten(sources, tmp_path, capsys):
    real = tmp_path / "pascal/VOC2011/JPEGImages/2007_000001.jpg"
    real.parent.mkdir(parents=True)
    real.write_bytes(b"a photograph")
    if sources:
        (tmp_path / "sources.json").write_text(json.dumps(sources))
    for command in (["trees"], ["trees", "pascal"], ["trees", "sift-flow", "pascal"]):
        assert toy.main([*command, "--data-root", str(tmp_path)]) == 1
        error = capsys.readouterr().err
        assert str(tmp_path / "pascal/VOC2011") in error and "never overwritten" in error
    left = {path.name for path in tmp_path.iterdir()}
    assert real.read_bytes() == b"a photograph" and left == {"pascal", *(["sources.json"] if sources else [])}
    assert toy.main(["archives", str(tmp_path), "sift-flow"]) == 0
    (tmp_path / "trainval.tar.gz").write_bytes(b"an archive")
    assert toy.main(["archives", str(tmp_path), "pascal-context"]) == 1
    assert (tmp_path / "trainval.tar.gz").read_bytes() == b"an archive"
    (tmp_path / "toy-crops").mkdir()
    assert toy.main(["crops", "--data-root", str(tmp_path)]) == 1 and not any(
        (tmp_path / "toy-crops").iterdir()
    )


def test_a_twin_is_drawn_anew(tmp_path, capsys):
    run = ["trees", "sift-flow", "--data-root", str(tmp_path)]
    photograph = tmp_path / f"sift-flow/Images/{SIFT}/coast_nat1001.jpg"
    assert toy.main(run) == 0
    first = photograph.read_bytes()
    (tmp_path / "sift-flow/trainval.txt").write_text("made by prepare")
    assert toy.main([*run, "--seed", "1"]) == 0
    assert photograph.read_bytes() != first and not (tmp_path / "sift-flow/trainval.txt").exists()
    assert toy.main(run) == 0
    assert photograph.read_bytes() == first
    assert {path.name for path in tmp_path.iterdir()} == {"sift-flow", "sources.json"}
    assert f"FCN_DATA={tmp_path} python data/sift-flow/prepare.py prepare" in capsys.readouterr().out


def test_an_interrupt_leaves_the_old_twin(tmp_path, monkeypatch):
    run = ["trees", "sift-flow", "--data-root", str(tmp_path)]
    assert toy.main(run) == 0
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}

    def stop(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(outdoors, "view", stop)
    assert toy.main([*run, "--seed", "2"]) == 130
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before


def test_crops_are_listed_with_their_classes(tmp_path):
    assert (
        toy.main(["crops", "--classes", "5", "--images", "12", "--size", "48", "--data-root", str(tmp_path)])
        == 0
    )
    folder = tmp_path / "toy-crops"
    names = lines(folder / "classes.txt")
    assert names == [name.replace(" ", "-") for name in scenes.class_names(5)[1:]]
    for split, each in (("train", 12), ("val", 3)):
        listed = [line.split() for line in (folder / f"{split}.txt").read_text().splitlines()]
        assert all(names[int(label)] == path.split("/")[1] for path, label in listed)
        assert sorted(path for path, _ in listed) == sorted(files_under(folder / split, f"{split}/"))
        assert np.bincount([int(label) for _, label in listed]).tolist() == [each] * 4
        assert Image.open(folder / listed[0][0]).size == (48, 48)


def test_the_sheet_shows_all_sets(tmp_path):
    assert toy.main(["show", "--data-root", str(tmp_path)]) == 0
    sheet = np.array(Image.open(tmp_path / "sheet.png"))
    assert sheet.shape[1] == 1440 and len(np.unique(sheet @ np.array([1, 256, 65536]))) > 10_000
    blank = (sheet == 255).all((1, 2))
    assert blank.sum() < 0.1 * len(blank)  # no strip is missing


@pytest.mark.parametrize(
    ("option", "message"),
    [
        (["trees", "imagenet"], "no set imagenet; there are pascal, nyud, sift-flow, pascal-context"),
        (["trees", "--images", "3"], "--images is 3; it must be from 12"),
        (["trees", "--size", "20"], "--size is 20; it must be from 48"),
        (["trees", "--classes", "99"], "--classes is 99; it must be from 3 to 21"),
        (["crops", "--seed", "-1"], "--seed is -1"),
    ],
)
def test_bad_options_are_told(option, message, tmp_path, capsys):
    assert toy.main([*option, "--data-root", str(tmp_path)]) == 1
    assert message in capsys.readouterr().err and not any(tmp_path.iterdir())
