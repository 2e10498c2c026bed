"""SIFT Flow: from the published archive to what the nets train on and are scored on.

python data/sift-flow/prepare.py all         get, prepare and check
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path, PurePosixPath, PureWindowsPath

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))  # the shared modules, whether or not the project is installed

import numpy as np  # noqa: E402

from datakit import command, convert, labels, pairs, splits  # noqa: E402
from datakit.archives import Archive  # noqa: E402
from datakit.checks import Table  # noqa: E402
from files import DataError, read_lines  # noqa: E402

ARCHIVE = Archive(
    "SiftFlowDataset.zip",
    ("http://www.cs.unc.edu/~jtighe/Papers/ECCV10/siftflow/SiftFlowDataset.zip",),
    at_least=100_000_000,  # neither size nor checksum was published; about 140 MB
    unpacked=200_000_000,
    page="https://jovapo.github.io/publications/2010-10-ECCV-Superparsing",
)
FOLDER = "spatial_envelope_256x256_static_8outdoorcategories"
KINDS = {
    "semantic label": ("SemanticLabels", "classes.txt"),
    "geometric label": ("GeoLabels", "classes-geo.txt"),
}
TEST_LIST = "TestSet1.txt"
ENTRIES = ("Images", "SemanticLabels", "GeoLabels", TEST_LIST)


class SiftFlow(command.DataSet):
    name = "sift-flow"
    parts = {"siftflow": "2688 outdoor scenes with semantic and geometric labels"}
    default = ("siftflow",)

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        about = ROOT / "data" / "sift-flow"
        self.classes = {what: read_lines(about / file, "class list") for what, (_, file) in KINDS.items()}

    def get(self, part: str) -> None:
        self.bring(ARCHIVE, self.folder, _pick, ENTRIES)

    def prepare(self, part: str) -> None:
        for what, (kind, _) in KINDS.items():
            folder = self.folder / kind / FOLDER
            convert.to_png(folder, labels.read_siftflow, len(self.classes[what]), self.again("get"))
        test, trainval = self._splits()
        splits.write_unless_same(self.folder / "test.txt", test)
        splits.write_unless_same(self.folder / "trainval.txt", trainval)

    def _splits(self) -> tuple[list[str], list[str]]:
        """test, which the archive lists, and trainval: all others but those that nobody annotated, sorted."""
        path = self.folder / TEST_LIST
        test = [
            PureWindowsPath(line).stem
            for line in read_lines(path, "list", f"Get it with `{self.again('get')}`")
        ]
        there = {each.stem for each in (self.folder / "Images" / FOLDER).glob("*.jpg")}
        trainval = sorted(there - {*test, *self.facts["not annotated"]})
        for name, ids in (("test", test), ("trainval", trainval)):
            if len(ids) != self.facts[name]:
                raise DataError(
                    f"{name} comes to {len(ids)} photographs, not {self.facts[name]}: {path} lists {len(test)}, "
                    f"{self.folder / 'Images' / FOLDER} holds {len(there)}, and {len(self.facts['not annotated'])} are "
                    f"not annotated. Remove {self.folder / 'Images'} and {path}, then `{self.again('all')}`"
                )
        return test, trainval

    def check(self, part: str, table: Table) -> None:
        fix = f"`{self.again('all')}`"
        if not (self.folder / "Images").is_dir():
            table.fact("folder", f"{self.folder / 'Images'} is not there", "there", False, fix)
            return
        relist = f"`{self.again('prepare')}`"
        remake = f"remove what is wrong, then {relist}"
        test, trainval = (
            splits.check_list(table, self.folder / f"{name}.txt", self.facts[name], relist)
            for name in ("test", "trainval")
        )
        splits.check_disjoint(table, "trainval and test are disjoint", test, trainval, relist)
        bare = [name for name in self.facts["not annotated"] if name in {*test, *trainval}]
        table.none(
            "not annotated", bare, len(self.facts["not annotated"]), "photographs are in no list", relist
        )
        labelings = [
            pairs.Labeling(what, self._png(kind), self.classes[what], None, remake)
            for what, (kind, _) in KINDS.items()
        ]
        seen = pairs.check(
            table,
            [*trainval, *test],
            lambda name: self.folder / "Images" / FOLDER / f"{name}.jpg",
            labelings,
            fix=f"remove {self.folder / 'Images'}, then {fix}",
            size=(self.facts["height"], self.facts["width"]),
            mean_of=set(trainval),
            mean=self.facts["mean"],
        )
        tested = set(test)
        self._check_absent(table, [each for each in seen if each.name in tested], fix)
        for labeling in labelings:
            pngs = [labeling.path(name) for name in (*trainval, *test)]
            convert.check_same(table, labeling.what, pngs, labels.read_siftflow, remake)

    def _png(self, kind: str):
        return lambda name: self.folder / kind / FOLDER / f"{name}.png"

    def _check_absent(self, table: Table, test: Sequence[pairs.Seen], fix: str) -> None:
        """Enter which semantic classes no photograph of test shows: they count in no mean."""
        what = "semantic label"
        total = np.sum([each.labels[what] for each in test if what in each.labels], axis=0, initial=0)
        absent = [name for k, name in enumerate(self.classes[what]) if not np.any(total) or not total[k]]
        table.fact("absent from test", ", ".join(absent), ", ".join(self.facts["absent from test"]), fix=fix)


def _pick(path: PurePosixPath) -> PurePosixPath | None:
    """The archive's folders and list, whether or not it has a folder around them."""
    for n, part in enumerate(path.parts[:2]):
        if part in ENTRIES and path.parts[0] != "__MACOSX" and not path.name.startswith("._"):
            return PurePosixPath(*path.parts[n:])
    return None


def main(argv: list[str] | None = None) -> int:
    """Run the command line ``argv``; returns the exit status."""
    return command.main(SiftFlow, __doc__, argv)


if __name__ == "__main__":
    sys.exit(main())
