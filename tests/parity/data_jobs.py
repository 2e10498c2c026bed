"""The layers that bring data in or out, on both engines: HDF5Data, HDF5Output, MemoryData.

The original's build has neither LMDB nor OpenCV, so Data, ImageData and WindowData are held to
numbers that the original's DataTransformer, Boost and OpenCV gave, in the engine's own tests.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np


def jobs(folder: Path) -> list[dict]:
    """The jobs, of kind "data"; makes the HDF5 files that they read in ``folder``.

    ``nets`` are prototxts run one after the other, ``forwards`` times each, @OUT a folder for what
    they write; ``items`` is how many the MemoryData layer that begins one is given, 0 if none does.
    """
    several, single = _files(folder, "several", 3, 4, 2), _files(folder, "single", 5)
    return [
        # no other may shuffle: one sequence of the original's serves a whole process
        _job("HDF5Data/shuffled", _rows(several, "batch_size: 4 shuffle: true"), forwards=9),
        _job("HDF5Data/several files", _rows(several, "batch_size: 4"), forwards=6),
        _job("HDF5Data/one file", _rows(single, "batch_size: 3"), forwards=4),
        _job("HDF5Data/batch above the file", _rows(single, "batch_size: 12")),
        _job("HDF5Data/one top", _rows(single, "batch_size: 2", ("label",)), forwards=3),
        _job("HDF5Data/testing", _rows(several, "batch_size: 2"), phase="TEST", forwards=5),
        _job(
            "HDF5Output/read again",
            _rows(single, "batch_size: 5")
            + 'layer { name: "out" type: "HDF5Output" bottom: "data" bottom: "label" '
            'hdf5_output_param { file_name: "@OUT/out.h5" } }',
            _rows("@OUT/list.txt", "batch_size: 5"),
        ),
        _job(
            "MemoryData/in turn", _memory("batch_size: 2 channels: 3 height: 4 width: 5"), items=6, forwards=5
        ),
        _job(
            "MemoryData/one batch",
            _memory("batch_size: 3 channels: 1 height: 2 width: 1"),
            items=3,
            forwards=2,
        ),
    ]


def refused(folder: Path) -> list[dict]:
    """The jobs that both engines refuse, with their key words; makes files in ``folder``."""
    single = _files(folder, "refused", 5)
    empty = Path(folder, "empty.txt")
    empty.touch()
    cases = [
        (
            "HDF5Data does not transform data",
            _rows(single, "batch_size: 1", more="transform_param { scale: 2 }"),
        ),
        ("Failed to find HDF5 dataset other", _rows(single, "batch_size: 1", ("other",))),
        ("Must have at least 1 HDF5 filename listed in", _rows(empty, "batch_size: 1")),
        ("Failed to open source file", _rows(Path(folder, "none.txt"), "batch_size: 1")),
        ("batch_size, channels, height, and width must be specified and", _memory("batch_size: 2")),
        (
            "MemoryDataLayer needs to be initialized by calling Reset",
            _memory("batch_size: 1 channels: 1 height: 1 width: 1"),
        ),
    ]
    return [{**_job(f"refused/{words}", net), "words": words} for words, net in cases]


def run(job: dict, open_net) -> dict:
    """Every blob after every forward; ``open_net`` makes a net of prototxt text and a phase (0 or 1)."""
    arrays = {}
    with tempfile.TemporaryDirectory() as out:
        Path(out, "list.txt").write_text(f"{out}/out.h5")
        for number, text in enumerate(job["nets"]):
            net = open_net(text.replace("@OUT", out), {"TRAIN": 0, "TEST": 1}[job["phase"]])
            if job["items"]:
                shape = job["items"], *tuple(net.blobs["data"].shape)[1:]
                data = np.arange(np.prod(shape), dtype=np.float32).reshape(shape)
                net.set_input_arrays(data, np.arange(len(data), dtype=np.float32) / 2)
            for step in range(job["forwards"]):
                net.forward()
                for name, blob in net.blobs.items():
                    arrays[f"net {number}, forward {step}: {name} data"] = np.array(blob.data)
            del net  # closes the original's HDF5 output
    return arrays


def _job(name: str, *nets: str, phase: str = "TRAIN", forwards: int = 1, items: int = 0) -> dict:
    return {"kind": "data", "name": name, "nets": nets, "phase": phase, "forwards": forwards, "items": items}


def _rows(source, options: str, tops=("data", "label"), more: str = "") -> str:
    names = " ".join(f'top: "{name}"' for name in tops)
    param = f'hdf5_data_param {{ source: "{source}" {options} }}'
    return f'layer {{ name: "rows" type: "HDF5Data" {names} {param} {more} }}\n'


def _memory(options: str) -> str:
    return f'layer {{ name: "in" type: "MemoryData" top: "data" top: "label" memory_data_param {{ {options} }} }}\n'


def _files(folder: Path, name: str, *counts: int) -> Path:
    """HDF5 files of so many rows each, and their list; returns the list's path."""
    import h5py  # the original's Python has none, and makes no files

    random = np.random.RandomState(len(name))
    folder.mkdir(parents=True, exist_ok=True)
    paths, row = [], 0
    for number, count in enumerate(counts):
        paths.append(Path(folder, f"{name} {number}.h5".replace(" ", "_")))
        with h5py.File(paths[-1], "w") as file:
            file["data"] = random.standard_normal((count, 3, 2, 4))
            file["label"] = np.arange(row, row + count)
        row += count
    source = Path(folder, f"{name}.txt")
    source.write_text("\n".join(map(str, paths)))
    return source
