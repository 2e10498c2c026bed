"""NYUDv2: as the FCN authors packed it, or made here of what was published.

python data/nyud/prepare.py all              get, prepare and check the authors' pack
python data/nyud/prepare.py all raw          the same of nyu_depth_v2_labeled.mat (3 GB), HHA computed here
python data/nyud/prepare.py hha              make what is missing in data/hha of data/depth and data/rawdepth
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path, PurePosixPath

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
sys.path[:0] = [
    str(ROOT),
    str(HERE),
]  # the shared modules, whether or not the project is installed; and this folder's

import hha  # noqa: E402

import vis  # noqa: E402
from datakit import checks, command, convert, labels, nyud, nyud_check, splits  # noqa: E402
from datakit.archives import Archive  # noqa: E402
from datakit.checks import Table  # noqa: E402
from datakit.nyud_mat import Labeled, class_table  # noqa: E402
from datakit.processes import in_processes  # noqa: E402
from files import DataError, read_lines, replacing  # noqa: E402
from images import load_mat  # noqa: E402

PAGE = "https://cs.nyu.edu/~fergus/datasets/nyu_depth_v2.html"
SILBERMAN = "http://horatio.cs.nyu.edu/mit/silberman"
HANDA = "https://raw.githubusercontent.com/ankurhanda/nyuv2-meta-data/master"
PACK = Archive(
    "nyud.tar.gz",
    ("http://dl.caffe.berkeleyvision.org/nyud.tar.gz",),
    at_least=300_000_000,  # neither size nor checksum was published
    unpacked=2_500_000_000,
    page="https://github.com/shelhamer/fcn.berkeleyvision.org/tree/master/data/nyud",
)
RAW = Archive(
    "nyu_depth_v2_labeled.mat",
    (f"{SILBERMAN}/nyu_depth_v2/nyu_depth_v2_labeled.mat",),
    size=2_972_037_809,
    digests=(
        "sha256:2d724b0c0ab358aa1ce5df855e5bd14a2279ab7202efe22f32a30d612dcb86aa",
        "md5:520609c519fba3ba5ac58c8fefcc3530",
    ),
    unpacked=2_000_000_000,  # the PNGs that are made of it
    page=PAGE,
)
SPLITS = Archive(
    "splits.mat",
    (
        f"{SILBERMAN}/indoor_seg_sup/splits.mat",
        f"{HANDA}/splits.mat",
        "https://raw.githubusercontent.com/VainF/nyuv2-python-toolkit/master/splits.mat",
    ),
    size=2626,
    digests=("sha256:6e081404491a8bfba2f066beaa9713ef6046f9007aa5f799f2a350506a580cee",),
    page=PAGE,
)
MAPPING = Archive(
    "classMapping40.mat",
    (f"{HANDA}/classMapping40.mat",),
    size=10_474,
    digests=("sha256:ff177194cce9a2163517f1e1e6f1c64c50987162f542dedddc04bbf6ebe6d851",),
    page="https://github.com/ankurhanda/nyuv2-meta-data",
)


class NYUD(command.DataSet):
    name = "nyud"
    parts = {
        "pack": "1449 indoor scenes with depth, HHA and 40 classes, as the FCN authors packed them",
        "raw": "the same, made here of nyu_depth_v2_labeled.mat",
    }
    default = ("pack",)

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.classes = read_lines(HERE / "classes.txt", "class list")
        self.first = self.facts["first id"]
        self.count = self.facts["last id"] - self.first + 1

    def get(self, part: str) -> None:
        nyud.refuse_other(self, part)
        if part == "pack":
            self._get_pack()
            return
        # the small ones first: what is not to be had is told before 3 GB are
        made = (self.folder / "data").is_dir()
        for archive in (SPLITS, MAPPING, RAW):
            self._keep(archive, 0 if made else self.sources.archive(archive).unpacked)

    def _get_pack(self) -> None:
        try:
            self.bring(PACK, self.folder, _pick, nyud.ENTRIES)
        except DataError as error:
            raw = f"`{self.again('get', 'raw')}`, then `{self.again('prepare', 'raw')}`"
            raise DataError(f"{error}\nOr make the set of what its authors published: {raw}") from None
        nyud.claim(self, "pack")
        if not self._splits("pack"):
            self._keep(SPLITS)

    def _keep(self, archive: Archive, room: int = 0) -> None:
        """Get an archive that ``prepare`` needs. One got by hand stays where it is: downloads/ has a link to it."""
        got, path = self.fetch(archive, room), self.folder / "downloads" / archive.name
        if not (path.exists() and path.samefile(got)):
            with replacing(path) as temporary:
                temporary.symlink_to(got.absolute())

    def _downloaded(self, archive: Archive) -> Path:
        path = self.folder / "downloads" / archive.name
        if not path.is_file():
            raise DataError(f"{path} does not exist. Get it with `{self.again('get', 'raw')}`")
        return path

    def prepare(self, part: str) -> None:
        nyud.claim(self, part)
        with nyud.alone(self.folder):
            made = self._splits(part)  # before the long work
            if not made:
                get = self.again("get", part)
                raise DataError(f"{self.folder} has nothing that tells its splits. `{get}` gets it")
            if part == "pack":
                folder, get = self.folder / "segmentation", self.again("get", "pack")
                convert.to_png(folder, labels.read_nyud, len(self.classes), get)
            else:
                self._extract()
                self._make_hha()
            for split, ids in made.items():
                splits.write_unless_same(self.folder / f"{split}.txt", ids)

    def _splits(self, part: str) -> dict[str, list[str]]:
        """The ids of trainval and test, and of train and val where they are known; {} if nothing tells them.

        The pack's MATLAB files tell them, else splits.mat, else lists that are there: those of the release, say.
        """
        mats = nyud.split_files(self.folder, "mat") if part == "pack" else {}
        if mats:
            return nyud.standard({split: nyud.read_split_ids(path) for split, path in mats.items()})
        path = self.folder / "downloads" / SPLITS.name
        if path.is_file():
            valid = range(1, self.count + 1)
            return {
                split: [str(self.first - 1 + n) for n in load_mat(path, name, valid).ravel()]
                for split, name in (("trainval", "trainNdxs"), ("test", "testNdxs"))
            }
        lists = nyud.split_files(self.folder, "txt")
        found = {split: read_lines(path, "list") for split, path in lists.items()}
        return nyud.standard(found) if found else {}

    def _extract(self) -> None:
        """Make the PNGs of images, depth and labels of each image of the published file, unless they are there."""
        table = class_table(self._downloaded(MAPPING), len(self.classes))
        with Labeled(self._downloaded(RAW)) as file:
            if len(file) != self.count:
                raise DataError(f"{file.path} holds {len(file)} images, not {self.count}: it is another file")
            readers = {"images": file.color, "depth": file.depth, "rawdepth": file.raw_depth}

            def missing(index: int) -> list[Path]:
                paths = [
                    nyud.path(self.folder, kind, self.first + index) for kind in (*readers, "segmentation")
                ]
                return [path for path in paths if not path.exists()]

            def save(index: int) -> None:
                for path in missing(index):
                    kind = path.parent.name
                    if kind == "segmentation":
                        vis.save_indexed(path, file.label(index, table), convert.PALETTE)
                    else:
                        vis.save(path, readers[kind](index))

            rest = [index for index in range(self.count) if missing(index)]
            made, wrong = checks.over(rest, save, "images, depth, labels")
        print(
            f"{self.folder}: {len(made)} images with depth and label made, {self.count - len(rest)} there already"
        )
        if wrong:
            raise DataError("\n".join(wrong[:5]) + f"\n{len(wrong)} of {self.count} images could not be made")

    def make_hha(self, again: bool = False) -> None:
        """Make what is missing of data/hha, or all of it ``again``."""
        with nyud.alone(self.folder):
            self._make_hha(again)

    def _make_hha(self, again: bool = False) -> None:
        depths = sorted((self.folder / "data" / "depth").glob("img_*.png"))
        if not depths:
            raise DataError(
                f"{self.folder / 'data' / 'depth'} holds no images. Get them with `{self.again('all')}`"
            )
        jobs = []
        for depth in depths:
            raw, out = (self.folder / "data" / kind / depth.name for kind in ("rawdepth", "hha"))
            if again or not out.exists():
                jobs.append((depth, raw if raw.exists() else None, out))
        unmasked = sum(raw is None for _, raw, _ in jobs)
        if unmasked:
            print(
                f"{unmasked} have no data/rawdepth: where their depth was filled in, it counts as if measured"
            )
        in_processes(hha.convert, jobs, "HHA")
        print(
            f"{self.folder / 'data' / 'hha'}: {len(jobs)} made, {len(depths) - len(jobs)} there already",
            flush=True,
        )

    def check(self, part: str, table: Table) -> None:
        nyud_check.check(self, part, self.classes, table)


def _pick(path: PurePosixPath) -> PurePosixPath | None:
    """What the layers read, whatever folder is around it; the lists go into data."""
    *around, folder, name = ("", "", *path.parts)[-3:]
    if path.name.startswith("._"):
        return None
    if folder == "segmentation" and path.suffix == ".mat":
        return PurePosixPath(folder, name)
    if around == ["data"] and folder in nyud.KINDS and path.suffix == ".png":
        return PurePosixPath("data", folder, name)
    if path.stem in nyud.SPLITS and path.suffix == ".mat" and len(path.parts) <= 2:
        return PurePosixPath("data", name)
    return None


def hha_command(commands) -> None:
    """Add the command ``hha``."""
    about = "make data/hha of data/depth and data/rawdepth: what is missing"
    parser = commands.add_parser("hha", parents=[command.common_options()], help=about, description=about)
    parser.add_argument("--again", action="store_true", help="make all of it, over what is there")
    parser.set_defaults(call=_run_hha)


def _run_hha(args: argparse.Namespace) -> None:
    root = command.root_of(args.data_root)
    NYUD(root, command.sources_of(args.sources, root)).make_hha(args.again)


def main(argv: list[str] | None = None) -> int:
    """Run the command line ``argv``; returns the exit status."""
    return command.main(NYUD, __doc__, argv, hha_command)


if __name__ == "__main__":
    sys.exit(main())
