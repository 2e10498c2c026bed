"""What the two ``prepare.py`` for weights share: files that lie beside the nets, and a look into them."""

from __future__ import annotations

import filecmp
import shutil
from collections.abc import Mapping
from math import prod
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from datakit import fetch
from datakit.archives import Archive
from datakit.checks import Table
from datakit.command import DataSet
from files import replacing


class WeightFiles(DataSet):
    """Published weight files, a part each, in the folders where the scripts of the nets look for them.

    They are no data: ``--data-root`` does not move them.
    """

    published: ClassVar[Mapping[str, Archive]]

    def home(self, part: str) -> Path:
        """The folder where the file of ``part`` belongs."""
        raise NotImplementedError

    def load(self, prototxt: Path, weights: Path) -> tuple[Any, Any, Mapping[str, Any]]:
        """The net of ``prototxt`` with ``weights`` in it, surgery's report, and the shapes in that file by layer.

        This needs the engine. Raises ImportError where there is none, RuntimeError for weights of another net.
        """
        raise NotImplementedError

    def archive(self, part: str) -> Archive:
        """The file of ``part``, as ``--sources`` has it."""
        return self.sources.archive(self.published[part])

    def file(self, part: str) -> Path:
        """Where the file of ``part`` belongs."""
        return self.home(part) / self.published[part].name

    def get(self, part: str) -> None:
        """Download the file of ``part`` to its place; one that was got by hand is copied there."""
        archive, path = self.archive(part), self.file(part)
        copies = self.copies(part) + (self.by_hand is not None and not path.exists())
        room = copies * (archive.size or archive.at_least)
        found = fetch.get(archive, path.parent, self.by_hand, room)
        if found != path and not (path.is_file() and filecmp.cmp(found, path, shallow=False)):
            with replacing(path) as temporary:
                shutil.copyfile(found, temporary)
            print(f"copied to {path}", flush=True)

    def copies(self, part: str) -> int:
        """How many files of this size :meth:`prepare` has still to make."""
        return 0

    def check_file(self, part: str, table: Table) -> bool:
        """Enter whether the file of ``part`` is there and is the published one; returns whether it is."""
        archive, path = self.archive(part), self.file(part)
        get = self.again("get", part)
        if not path.is_file():
            return table.fact("file", f"{path} does not exist", holds=False, fix=get)
        fault = archive.fault(path)
        sums = [f"{digest.partition(':')[0]} as published" for digest in archive.digests]
        good = ", ".join([f"{path.stat().st_size} bytes", *(sums or ["no checksum was published"])])
        return table.fact("file", f"{path}: {fault or good}", holds=not fault, fix=f"remove it, then {get}")

    def check_layers(
        self, table: Table, prototxt: Path, weights: Path, fix: str, more: tuple[str, ...] = ()
    ) -> Any:
        """Enter whether ``weights`` has all that the net of ``prototxt`` needs, no more, and sound values.

        ``more``: how the names of layers begin that the file may have besides. Returns the net with these
        weights; None if they do not fit it, or there is no engine.
        """
        name, net = f"layers of {weights.name}", None
        try:
            net, report, shapes = self.load(prototxt, weights)
        except ImportError as error:
            table.fact(
                name, f"not looked at, for want of the engine ({error}): pip install -e ./pycaffe -e ."
            )
        except RuntimeError as error:
            table.fact(name, error, holds=False, fix=fix)
        if net is None:
            return None
        wrong = [f"{blob} is not in the file" for blob in report.missing]
        wrong += [f"the net has no {blob}" for blob in report.dropped if not (more and blob.startswith(more))]
        wrong += [f"{layer} is all zeros" for layer in report.zero if layer in shapes]
        arrays = {layer: [blob.data for blob in blobs] for layer, blobs in net.params.items()}
        wrong += [f"{layer} has NaN or infinity" for layer in arrays if not _finite(arrays[layer])]
        table.none(name, wrong, len(arrays), f"layers, those of {prototxt.parent.name}/{prototxt.name}", fix)
        stored = sum(prod(shape) for layer in arrays for shape in shapes.get(layer, ()))
        needed = sum(array.size for layer in arrays.values() for array in layer)
        table.fact(f"parameters of {weights.name}", stored, needed, fix=fix)
        return net


def _finite(arrays) -> bool:
    return all(np.isfinite(array).all() for array in arrays)
