"""Each data set in small, of noise: its published archives, and a sources.json of what is true of it.

Also what the tests of data/*/prepare.py share: running the scripts, and reading what they print.
"""

import hashlib
import importlib.util
import io
import json
import re
import shutil
from contextlib import redirect_stderr, redirect_stdout
from functools import cache
from pathlib import Path

import numpy as np

from datakit import layouts
from datakit.labels import CONTEXT_IDS

ROOT = Path(__file__).resolve().parents[2]
SIZE = (20, 24)  # height, width
UNSEEN = (9, 11, 16)  # SIFT Flow's cow, desert and moon, from 1


@cache
def script(name):
    """The module data/<name>/prepare.py."""
    spec = importlib.util.spec_from_file_location(f"prepare_{name}", ROOT / "data" / name / "prepare.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def run(name, root, *arguments):
    """data/<name>/prepare.py with these arguments; returns (exit status, what it printed)."""
    said = io.StringIO()
    with redirect_stdout(said), redirect_stderr(said):
        status = script(name).main([*map(str, arguments), "--data-root", str(root)])
    assert "Traceback" not in said.getvalue()
    return status, said.getvalue()


def failed(text):
    """The names of the lines of a table that do not hold."""
    return set(re.findall(r"^  FAIL  (.+?)  ", text, re.MULTILINE))


def sha256(ids):
    return hashlib.sha256("".join(f"{name}\n" for name in ids).encode()).hexdigest()


def content(ids, values, seed, void=None):
    """{id: (image, label)}: each label shows nearly all of ``values``, and ``void`` in its first row."""
    made = {}
    for n, name in enumerate(ids):
        random = np.random.default_rng((seed, n))
        label = random.permutation(np.resize(np.asarray(values), SIZE[0] * SIZE[1])).reshape(SIZE)
        if void is not None:
            label[0] = void
        made[name] = random.integers(0, 256, (*SIZE, 3)).astype(np.uint8), label
    return made


IDS = [f"2009_{n:06d}" for n in range(30)]
VOC = {  # year → lists of segmentation; 2012's hold 2011's
    2011: {"train": IDS[0:5], "val": IDS[5:13]},
    2012: {"train": IDS[0:5] + IDS[16:18], "val": IDS[5:13] + IDS[13:16]},
}
SBD = {"train": IDS[0:4] + IDS[10:14] + IDS[20:24], "val": IDS[4:6] + IDS[24:27]}
MAIN = {"train": IDS[0:5], "val": IDS[5:12]}
SEG11VALID = IDS[5:10]
SIFT = [f"coast_nat{n}" for n in range(10)] + ["highway_bost181", "street_urb506"]
TEST = SIFT[2:5][::-1]


def pascal(folder):
    classes = range(21)
    for year, file in ((2011, "VOCtrainval_25-May-2011.tar"), (2012, "VOCtrainval_11-May-2012.tar")):
        ids = VOC[year]["train"] + VOC[year]["val"]
        tree = layouts.voc_tree(folder / f"VOC{year}", content(ids, classes, year, 255), VOC[year])
        around = "TrainVal/" if year == 2011 else ""
        layouts.pack(folder / file, {f"{around}VOCdevkit/VOC{year}": tree})
    photographs = {name: (image, None) for name, (image, _) in content(IDS[:12], classes, 2010).items()}
    tree = layouts.voc_tree(folder / "VOC2010", photographs, {}, MAIN)
    layouts.pack(folder / "VOCtrainval_03-May-2010.tar", {"VOCdevkit/VOC2010": tree})
    ids = [*SBD["train"], *SBD["val"]]
    labels = {
        name: (image, label.astype(np.uint8)) for name, (image, label) in content(ids, classes, 1).items()
    }
    tree = layouts.sbd_tree(folder / "sbd", labels, SBD)
    (folder / "README").write_text("read me")
    layouts.pack(
        folder / "benchmark.tgz",
        {"benchmark_RELEASE/dataset": tree, "benchmark_RELEASE/README": folder / "README"},
    )
    return {
        **{f"voc{year} {name}": len(ids) for year, lists in VOC.items() for name, ids in lists.items()},
        **{f"sbd {name}": len(ids) for name, ids in SBD.items()},
        "sbd train sha256": sha256(SBD["train"]),
        "seg11valid": len(SEG11VALID),
        "seg11valid sha256": sha256(SEG11VALID),
        "voc2012 val minus sbd train": len(set(VOC[2012]["val"]) - set(SBD["train"])),
    }


def context(folder):
    values = [1, *CONTEXT_IDS]
    labels = {name: label for name, (_, label) in content(IDS[:12], values, 2010).items()}
    tree = layouts.context_tree(folder / "context", labels)
    layouts.pack(folder / "trainval.tar.gz", {"trainval": tree / "trainval"})
    return {name: len(ids) for name, ids in MAIN.items()}


def siftflow(folder, around="SiftFlowDataset/"):
    made = {}
    semantic = content(SIFT, range(34), 5)
    geometric = content(SIFT, [-1, 1, 2, 3], 6)
    for name in SIFT:
        image, label = semantic[name]
        if name in TEST:
            label[np.isin(label, UNSEEN)] = 1
        seen = name not in SIFT[-2:]
        made[name] = (
            image,
            label.astype(np.uint8) if seen else None,
            geometric[name][1].astype(np.int16) if seen else None,
        )
    tree = layouts.siftflow_tree(folder / "siftflow", made, {}, test=TEST)
    layouts.pack(
        folder / "SiftFlowDataset.zip", {f"{around}{each.name}": each for each in sorted(tree.iterdir())}
    )
    counts = {"trainval": len(SIFT) - 2 - len(TEST), "test": len(TEST)}
    mean = np.mean([made[name][0] for name in SIFT[:-2] if name not in TEST], (0, 1, 2))[::-1].tolist()
    return {**counts, "width": SIZE[1], "height": SIZE[0], "mean": mean}


def nyud(folder):
    """The authors' pack: three images of noise at 1 to 4 m, and their HHA as far as it follows from depth alone."""
    made, names = {}, ["5001", "5002", "5003"]
    for name in names:
        random = np.random.default_rng(int(name))
        depth = random.integers(1000, 4000, SIZE)
        hha = random.integers(38, 219, (*SIZE, 3))
        hha[:, :, 0] = np.minimum(31000 / (depth / 10), 255).round()
        made[name] = {
            "color": random.integers(0, 256, (*SIZE, 3)).astype(np.uint8),
            "depth": depth.astype(np.uint16),
            "hha": hha.astype(np.uint8),
            "label": random.permutation(np.resize(np.arange(41), SIZE[0] * SIZE[1]))
            .reshape(SIZE)
            .astype(np.uint8),
        }
    tree = layouts.nyud_tree(folder / "nyud", made, {}, {"train": names[:2], "test": names[2:]})
    layouts.pack(folder / "nyud.tar.gz", {each.name: each for each in sorted(tree.iterdir())})
    means = {
        "mean color": np.mean([made[name]["color"] for name in names[:2]], (0, 1, 2)).tolist(),
        "mean depth": float(np.mean([np.log(made[name]["depth"]) for name in names[:2]])),
        "mean hha": np.mean([made[name]["hha"] for name in names[:2]], (0, 1, 2)).tolist(),
    }
    ids = {"trainval": 2, "test": 1, "first id": 5001, "last id": 5003}
    return {**ids, "width": SIZE[1], "height": SIZE[0], **means}


def publish(folder, url=None):
    """Make all archives in ``folder``, beside a sources.json; returns the path of that.

    ``url``: where a server serves the folder.
    """
    folder.mkdir(parents=True, exist_ok=True)
    facts = {
        "pascal": pascal(folder),
        "pascal-context": context(folder),
        "sift-flow": siftflow(folder),
        "nyud": nyud(folder),
    }
    archives = {
        path.name: {
            "urls": [f"{url or 'http://127.0.0.1:9'}/{path.name}"],
            "size": path.stat().st_size,
            "digests": [f"sha256:{hashlib.sha256(path.read_bytes()).hexdigest()}"],
            "unpacked": 4 * path.stat().st_size,
        }
        for path in sorted(folder.iterdir())
        if path.suffix in (".tar", ".tgz", ".gz", ".zip")
    }
    sources = folder / "sources.json"
    sources.write_text(json.dumps({"archives": archives, "facts": facts}, indent=1))
    return sources


def prepared(folder, name, *parts):
    """A data root in ``folder`` in which a set is got and prepared, and every fact holds; returns it."""
    publish(folder / "published")
    root = folder / "root"
    root.mkdir()
    shutil.copy(folder / "published/sources.json", root)
    status, said = run(name, root, "all", *parts, "--from", folder / "published")
    assert status == 0, said
    return root
