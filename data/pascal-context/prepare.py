"""PASCAL-Context: from the published archives to what the nets train on and are scored on.

python data/pascal-context/prepare.py all    get, prepare and check the labels, and VOC 2010's photographs
"""

from __future__ import annotations

import sys
from pathlib import Path, PurePosixPath

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))  # the shared modules, whether or not the project is installed

from datakit import command, convert, labels, pairs, splits, voc  # noqa: E402
from datakit.archives import Archive  # noqa: E402
from datakit.checks import Table  # noqa: E402
from files import read_lines  # noqa: E402

PAGE = "https://www.cs.stanford.edu/~roozbeh/pascal-context/"
ARCHIVE = Archive(
    "trainval.tar.gz",
    tuple(
        f"{scheme}://www.cs.stanford.edu/~roozbeh/pascal-context/trainval.tar.gz"
        for scheme in ("http", "https")
    ),
    at_least=10_000_000,
    digests=("md5:df034edb2c12aa7d33b42b20bb1796e3",),
    unpacked=300_000_000,
    page=PAGE,
)
# what three of the 59 are called among the 459
RENAMED = {"diningtable": "table", "bedcloth": "bedclothes", "clothes": "cloth"}


class Context(command.DataSet):
    name = "pascal-context"
    parts = {
        "voc2010": "VOC 2010, its photographs and lists",
        "labels": "a class for every pixel of them",
    }
    default = ("voc2010", "labels")

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.labels = self.folder / "trainval"
        self.classes = read_lines(ROOT / "data" / "pascal-context" / "classes.txt", "class list")

    def get(self, part: str) -> None:
        if part == "voc2010":
            voc.get(self, 2010)
        else:
            self.bring(ARCHIVE, self.folder, _pick, (self.labels.name,))

    def prepare(self, part: str) -> None:
        if part == "labels":
            convert.to_png(self.labels, labels.read_context, len(self.classes), self.again("get", "labels"))
        else:
            print(f"{part}: nothing to prepare", flush=True)

    def check(self, part: str, table: Table) -> None:
        folder = voc.folder(self, 2010) if part == "voc2010" else self.labels
        fix = f"`{self.again('all', part)}`"
        if not folder.is_dir():
            table.fact("folder", f"{folder} is not there", "there", False, fix)
            return
        fix = f"remove {folder}, then {fix}"
        if part == "voc2010":
            ids = voc.check_main(self, table, 2010, self.facts, fix)
            there = {path.stem for path in (folder / "JPEGImages").glob("*.jpg")}
            splits.check_within(table, "photographs there", ids, there, fix)
        else:
            self._check_labels(table, fix)

    def _check_labels(self, table: Table, fix: str) -> None:
        ids = [
            name
            for each in ("train", "val")
            if (path := voc.split(self, 2010, each, "Main")).is_file()
            for name in read_lines(path, "list")
        ]
        count = self.facts["train"] + self.facts["val"]
        stems = {path.stem for path in self.labels.glob("*.mat") if not path.name.startswith(".")}
        table.fact(".mat files", len(stems), count, fix=fix)
        splits.check_within(
            table, "all labels are listed", sorted(stems), ids, f"`{self.again('all', 'voc2010')}`"
        )
        self._check_class_ids(table)

        def png(name: str) -> Path:
            return self.labels / f"{name}.png"

        remake = f"remove what is wrong, then `{self.again('prepare', 'labels')}`"
        labeling = pairs.Labeling(
            "label", png, self.classes, False, remake, self.facts.get("absent classes", ())
        )
        voc_fix = f"remove {voc.folder(self, 2010)}, then `{self.again('all', 'voc2010')}`"
        pairs.check(table, ids, voc.photograph(self, 2010), [labeling], fix=voc_fix)
        convert.check_same(table, "label", [png(name) for name in ids], labels.read_context, remake)

    def _check_class_ids(self, table: Table) -> None:
        """Enter that the 59 classes have the numbers that labels.txt, where somebody has put it, gives them."""
        path = self.folder / "labels.txt"
        names = self.classes[1:]
        if not path.is_file():
            table.fact("class ids", len(names), len(labels.CONTEXT_IDS))
            return
        numbers = {}
        for line in read_lines(path, "list"):
            number, _, name = line.partition(":")
            numbers[name.replace(" ", "")] = number.strip()
        wrong = [
            f"{name} is {numbers.get(RENAMED.get(name, name))} there, {number} here"
            for name, number in zip(names, labels.CONTEXT_IDS, strict=True)
            if numbers.get(RENAMED.get(name, name)) != str(number)
        ]
        table.none(
            "class ids", wrong, len(names), "classes, as labels.txt has them", f"get {path} again from {PAGE}"
        )


def _pick(path: PurePosixPath) -> PurePosixPath | None:
    if path.parent.name == "trainval" and path.suffix == ".mat" and not path.name.startswith("._"):
        return PurePosixPath("trainval", path.name)
    return None


def main(argv: list[str] | None = None) -> int:
    """Run the command line ``argv``; returns the exit status."""
    return command.main(Context, __doc__, argv)


if __name__ == "__main__":
    sys.exit(main())
