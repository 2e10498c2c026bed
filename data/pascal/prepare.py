"""PASCAL VOC and SBD: from the published archives to what the nets train on and are scored on.

python data/pascal/prepare.py sample         three photographs with masks at once, as data/pascal/sample/VOC2011
python data/pascal/prepare.py all            get, prepare and check VOC 2011 and SBD (voc2011 sbd)
python data/pascal/prepare.py seg11valid     VOC 2011 val minus SBD train, the paper's 736 validation images
"""

from __future__ import annotations

import sys
from pathlib import Path, PurePosixPath

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))  # the shared modules, whether or not the project is installed

from datakit import command, convert, labels, pairs, splits, voc, voc_sample  # noqa: E402
from datakit.archives import Archive  # noqa: E402
from datakit.checks import Table  # noqa: E402
from datakit.facts import FACTS  # noqa: E402
from files import DataError, read_lines  # noqa: E402

_CONTOURS = "Research/Projects/CS/vision/grouping/semantic_contours"
SBD = Archive(
    "benchmark.tgz",
    tuple(f"http://{host}.eecs.berkeley.edu/{_CONTOURS}/benchmark.tgz" for host in ("www", "www2")),
    at_least=1_000_000_000,
    digests=(
        "md5:82b4d87ceb2ed10f6038a1cba92111cb",
        "sha256:6a5a2918d5c73ce032fdeba876574d150d9d04113ab87540a1304cbcc715be53",
        "md5:2b2af8a6cff7365684e002c08be823a6",  # unzipped on its way, a plain tar
    ),
    unpacked=2_000_000_000,
    page=f"http://www.eecs.berkeley.edu/{_CONTOURS}/",
)


class Pascal(command.DataSet):
    name = "pascal"
    parts = {
        "voc2011": "VOC 2011, with the paper's validation split",
        "sbd": "SBD, which the nets train on",
        "voc2012": "VOC 2012, for its own benchmark",
        "voc2010": "VOC 2010's photographs and lists, for PASCAL-Context",
    }
    default = ("voc2011", "sbd")

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.sbd = self.root / "sbdd" / "dataset"
        self.classes = read_lines(ROOT / "data" / "pascal" / "classes.txt", "class list")
        self.absent = self.facts.get("absent classes", ())  # of a synthetic set

    def get(self, part: str) -> None:
        if part == "sbd":
            self.bring(SBD, self.sbd.parent, _pick_sbd, (self.sbd.name,))
        else:
            voc.get(self, int(part[3:]))

    def prepare(self, part: str) -> None:
        if part == "sbd":
            convert.to_png(self.sbd / "cls", labels.read_sbd, len(self.classes), self.again("get", "sbd"))
        if part not in ("voc2011", "sbd"):
            print(f"{part}: nothing to prepare", flush=True)
            return
        have_voc, have_sbd = voc.split(self, 2011, "val").is_file(), (self.sbd / "train.txt").is_file()
        missing = "sbd" if have_voc and not have_sbd else "voc2011" if part == "sbd" and not have_voc else ""
        if missing:
            print(f"seg11valid waits for {missing}: `{self.again('all', missing)}`", flush=True)
        else:
            self.seg11valid()

    def seg11valid(self, voc_dir: Path | None = None, sbd_dir: Path | None = None) -> None:
        """Write the split seg11valid: the ids of VOC 2011's val that SBD's train does not hold, sorted."""
        voc_dir, sbd_dir = voc_dir or voc.folder(self, 2011), sbd_dir or self.sbd
        lists, facts = voc_dir / "ImageSets" / "Segmentation", self.facts
        val, train = lists / "val.txt", sbd_dir / "train.txt"
        if not val.is_file():
            raise DataError(f"{val} does not exist; seg11valid needs VOC 2011. {self._not_2012()}")
        if not train.is_file():
            raise DataError(
                f"{train} does not exist; seg11valid needs SBD. Get {SBD.name} with `{self.again('get', 'sbd')}`"
            )
        val_ids, train_ids = (set(read_lines(path, "list")) for path in (val, train))
        if len(val_ids) == facts["voc2012 val"]:
            raise DataError(f"{val} is the list of VOC 2012 ({len(val_ids)} images). {self._not_2012()}")
        ids = sorted(val_ids - train_ids)
        digest = splits.sha256(ids)
        if (len(ids), digest) != (facts["seg11valid"], facts["seg11valid sha256"]):
            raise DataError(
                f"val minus SBD train gives {len(ids)} images (sha256 {digest[:12]}...), not the paper's "
                f"{facts['seg11valid']} ({facts['seg11valid sha256'][:12]}...). {val} has {len(val_ids)} ids, VOC "
                f"2011's has {facts['voc2011 val']}; {train} has {len(train_ids)}, SBD's has {facts['sbd train']}: "
                "get the one that differs again"
            )
        splits.write_unless_same(lists / "seg11valid.txt", ids)

    def check(self, part: str, table: Table) -> None:
        folder = self.sbd if part == "sbd" else voc.folder(self, int(part[3:]))
        fix = f"`{self.again('all', part)}`"
        if not folder.is_dir():
            reason = f". {self._not_2012()}" if part == "voc2011" else ""
            table.fact("folder", f"{folder} is not there", "there", False, fix + reason)
            return
        fix = f"remove {folder}, then {fix}"
        if part == "sbd":
            self._check_sbd(table, fix)
        elif part == "voc2010":
            facts = self.sources.facts_of("pascal-context", FACTS["pascal-context"])
            ids = voc.check_main(self, table, 2010, facts, fix)
            pairs.check(table, ids, voc.photograph(self, 2010), fix=fix)
        else:
            self._check_voc(int(part[3:]), table, fix)

    def _check_voc(self, year: int, table: Table, fix: str) -> None:
        listed = {}
        for name in ("train", "val"):
            path = voc.split(self, year, name)
            listed[name] = splits.check_list(table, path, self.facts[f"voc{year} {name}"], fix)
        splits.check_disjoint(table, "train and val are disjoint", listed["val"], listed["train"], fix)
        sbd = self._ids(self.sbd / "train.txt")
        if year == 2011:
            if len(listed["val"]) == self.facts["voc2012 val"]:
                table.fact("year", "the lists are VOC 2012's", "2011", False, self._not_2012())
            listed["seg11valid"] = self._check_seg11valid(table, listed["val"], sbd)
        elif sbd:
            rest = set(listed["val"]) - set(sbd)
            table.fact("val minus SBD train", len(rest), self.facts["voc2012 val minus sbd train"], fix=fix)
        masks = voc.folder(self, year) / "SegmentationClass"
        labeling = pairs.Labeling(
            "mask", lambda name: masks / f"{name}.png", self.classes, True, fix, self.absent
        )
        ids = [name for each in listed.values() for name in each]
        pairs.check(table, ids, voc.photograph(self, year), [labeling], fix=fix)

    def _check_seg11valid(self, table: Table, val: list[str], sbd: list[str]) -> list[str]:
        path, fix = voc.split(self, 2011, "seg11valid"), f"`{self.again('seg11valid')}`"
        if not path.is_file() and not sbd:
            table.fact("seg11valid list", f"not made yet, for it needs SBD: {self.again('all', 'sbd')}")
            return []
        ids = splits.check_list(table, path, self.facts["seg11valid"], fix)
        splits.check_sha256(table, path, self.facts["seg11valid sha256"], fix)
        splits.check_within(table, "seg11valid is within val", ids, val, fix)
        if sbd:
            splits.check_disjoint(table, "seg11valid and SBD train are disjoint", ids, sbd, fix)
        return ids

    def _check_sbd(self, table: Table, fix: str) -> None:
        train, val = (
            splits.check_list(table, self.sbd / f"{name}.txt", self.facts[f"sbd {name}"], fix)
            for name in ("train", "val")
        )
        splits.check_sha256(table, self.sbd / "train.txt", self.facts["sbd train sha256"], fix)
        splits.check_disjoint(table, "train and val are disjoint", val, train, fix)
        ids = [*train, *val]
        there = [path.stem for path in (self.sbd / "img").glob("*.jpg")]
        splits.check_within(table, "all photographs are listed", there, ids, fix)

        def png(name: str) -> Path:
            return self.sbd / "cls" / f"{name}.png"

        remake = f"remove what is wrong, then `{self.again('prepare', 'sbd')}`"
        labeling = pairs.Labeling("mask", png, self.classes, False, remake, self.absent)
        pairs.check(
            table,
            ids,
            lambda name: self.sbd / "img" / f"{name}.jpg",
            [labeling],
            fix=fix,
            mean_of=set(train),
        )
        convert.check_same(table, "mask", [png(name) for name in ids], labels.read_sbd, remake)

    def _ids(self, path: Path) -> list[str]:
        return read_lines(path, "list") if path.is_file() else []

    def _not_2012(self) -> str:
        """Why VOC 2012 is no substitute for 2011, and what is."""
        return (
            "VOC 2012 cannot stand in for VOC 2011: its val minus SBD train has "
            f"{self.facts['voc2012 val minus sbd train']} images, another benchmark. Get VOC 2011 with "
            f"`{self.again('get', 'voc2011')}`, or {voc.ARCHIVES[2011].by_hand()}, unpacked so that its "
            f"TrainVal/VOCdevkit/VOC2011 becomes {voc.folder(self, 2011)}"
        )


def _pick_sbd(path: PurePosixPath) -> PurePosixPath | None:
    if path.parts[:2] == ("benchmark_RELEASE", "dataset") and not path.name.startswith("._"):
        return PurePosixPath(*path.parts[1:])
    return None


def _extra_commands(commands) -> None:
    common = [command.common_options()]
    sample = commands.add_parser("sample", parents=common, help="get three photographs with masks")
    sample.add_argument(
        "--from", dest="archive", type=Path, metavar="FILE", help=f"{voc_sample.ARCHIVE}, got by hand"
    )

    def get_sample(args) -> None:
        voc_sample.sample(command.root_of(args.data_root), args.archive)

    sample.set_defaults(call=get_sample)
    split = commands.add_parser("seg11valid", parents=common, help="make the paper's validation split")
    split.add_argument("--voc-dir", type=Path, help="default: pascal/VOC2011 under the data root")
    split.add_argument("--sbdd-dir", type=Path, help="default: sbdd/dataset under the data root")

    def seg11valid(args) -> None:
        root = command.root_of(args.data_root)
        Pascal(root, command.sources_of(args.sources, root)).seg11valid(args.voc_dir, args.sbdd_dir)

    split.set_defaults(call=seg11valid)


def main(argv: list[str] | None = None) -> int:
    """Run the command line ``argv``; returns the exit status."""
    return command.main(Pascal, __doc__, argv, _extra_commands)


if __name__ == "__main__":
    sys.exit(main())
