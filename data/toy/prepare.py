"""Synthetic twins: small data sets, drawn here, in the layout of each of the real ones.

python data/toy/prepare.py trees             as the published archives unpack, into data/toy/root
python data/toy/prepare.py archives DIR      as archives, for data/*/prepare.py to get
python data/toy/prepare.py crops             pictures of one object each, to pretrain a classifier on
python data/toy/prepare.py show              a picture of it all
"""

from __future__ import annotations

import argparse
import json
import os
import shlex
import shutil
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))  # the shared modules, whether or not the project is installed

from tqdm import tqdm  # noqa: E402

import files  # noqa: E402
import vis  # noqa: E402
from datakit import layouts, scenes, twin_sheet  # noqa: E402
from datakit.archives import Sources, digest  # noqa: E402
from datakit.twin_pascal import Pascal  # noqa: E402
from datakit.twins import LEAST, Nyud, SiftFlow, Twins  # noqa: E402
from files import DataError  # noqa: E402

DEFAULT = ROOT / "data" / "toy" / "root"
# set: the folders in the data root that are its own
SETS = {
    "pascal": ("pascal/VOC2011", "pascal/VOC2012", "sbdd/dataset"),
    "nyud": ("nyud",),
    "sift-flow": ("sift-flow",),
    "pascal-context": ("pascal/VOC2010", "pascal-context"),
}


def lay_out(name: str, twins: Twins, root: Path) -> dict[str, Any]:
    """Write a set's folders into ``root``, where none of them is; returns its facts."""
    if name == "nyud":
        made = Nyud(twins)
        return {**made.facts(), **made.pack_tree(root / "nyud")[1]}
    if name == "sift-flow":
        made = SiftFlow(twins)
        return {**made.facts(), **made.tree(root / "sift-flow")[1]}
    made = Pascal(twins)
    if name == "pascal-context":
        made.voc_tree(root / "pascal/VOC2010", 2010)
        made.context_tree(root / "pascal-context")
        return made.context_facts()
    for year in (2011, 2012):
        made.voc_tree(root / f"pascal/VOC{year}", year)
    made.sbd_tree(root / "sbdd/dataset")
    return made.facts()


def pack(name: str, twins: Twins, tree: Path) -> dict[str, dict[str, Path]]:
    """Of a set that lies in ``tree``: {archive: {path in it: file or folder}}; {"": file} if it is a mere file."""
    if name == "nyud":
        raw = Nyud(twins).raw(tree / "raw")
        pack = {each.name: each for each in sorted((tree / "nyud").iterdir())}
        return {"nyud.tar.gz": pack, **{each.name: {"": each} for each in sorted(raw.iterdir())}}
    if name == "sift-flow":
        top = "SiftFlowDataset"
        return {
            "SiftFlowDataset.zip": {f"{top}/{each.name}": each for each in sorted((tree / name).iterdir())}
        }
    if name == "pascal-context":
        return {
            "VOCtrainval_03-May-2010.tar": {"VOCdevkit/VOC2010": tree / "pascal/VOC2010"},
            "trainval.tar.gz": {"trainval": tree / "pascal-context/trainval"},
        }
    code = tree / "benchmark_code_RELEASE"
    code.mkdir()
    (code / "README").write_bytes(b"The real archive has the benchmark's code here.\n")
    return {
        "VOCtrainval_25-May-2011.tar": {"TrainVal/VOCdevkit/VOC2011": tree / "pascal/VOC2011"},
        "VOCtrainval_11-May-2012.tar": {"VOCdevkit/VOC2012": tree / "pascal/VOC2012"},
        "benchmark.tgz": {
            "benchmark_RELEASE/benchmark_code_RELEASE": code,
            "benchmark_RELEASE/dataset": tree / "sbdd/dataset",
        },
    }


def trees(names: Sequence[str], twins: Twins, root: Path) -> None:
    """Write twins into ``root``, and what is true of them into its sources.json.

    A twin that is there is drawn anew. DataError if anything else is there: see :func:`_refuse`.
    """
    known = _sources(root)
    _refuse(root, [path for name in names if name not in known["facts"] for path in SETS[name]])
    root.mkdir(parents=True, exist_ok=True)
    for name in names:
        with tempfile.TemporaryDirectory(prefix=".making-", dir=root) as scratch:
            made = Path(scratch) / "made"
            known["facts"][name] = lay_out(name, twins, made)
            # the facts first: whatever bears a set's name and has facts here was drawn, and may be drawn again
            _write_sources(root, known)
            for path in SETS[name]:
                if (root / path).exists():
                    (Path(scratch) / "old" / path).parent.mkdir(parents=True, exist_ok=True)
                    os.replace(root / path, Path(scratch) / "old" / path)
                (root / path).parent.mkdir(parents=True, exist_ok=True)
                os.replace(made / path, root / path)
        print(
            f"wrote the twin of {name}: {', '.join(str(_short(root / path)) for path in SETS[name])}",
            flush=True,
        )
    print("\nNow, as with the real ones:")
    for name in names:
        for step in ("prepare", "check"):
            print(f"    FCN_DATA={_quoted(root)} python data/{name}/prepare.py {step}")


def archives(names: Sequence[str], twins: Twins, folder: Path, url: str) -> None:
    """Write the twins' archives into ``folder``, and sources.json, which tells where ``url`` serves them."""
    known = _sources(folder)
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        with tempfile.TemporaryDirectory(prefix=".making-", dir=folder) as scratch:
            known["facts"][name] = lay_out(name, twins, Path(scratch))
            contents = pack(name, twins, Path(scratch))
            _refuse(folder, [archive for archive in contents if archive not in known["archives"]])
            for archive, content in contents.items():
                with files.replacing(folder / archive) as temporary:
                    if "" in content:
                        shutil.copyfile(content[""], temporary)
                    else:
                        layouts.pack(temporary, content)
                    known["archives"][archive] = {
                        "urls": [f"{url.rstrip('/')}/{archive}"],
                        "size": temporary.stat().st_size,
                        "digests": [f"sha256:{digest(temporary, 'sha256')}"],
                        "unpacked": sum(_bytes(each) for each in content.values()),
                    }
                    _write_sources(folder, known)
                print(f"wrote {_short(folder / archive)}", flush=True)
    print(
        f"\nNow serve them:\n    python -m http.server --directory {_quoted(folder)}\nand elsewhere, for each set:"
    )
    for name in names:
        rest = f"--sources {_quoted(folder / 'sources.json')}"
        print(f"    python data/{name}/prepare.py all --data-root NEW-FOLDER {rest}")


def crops(twins: Twins, root: Path, size: int) -> None:
    """Write pictures of one object each into ``root``/toy-crops: so many of each class in train, a quarter in val.

    Beside them classes.txt, and a list a split: a picture's path and its class, from 0, a line.
    """
    target = root / "toy-crops"
    names = [each.replace(" ", "-") for each in scenes.class_names(twins.classes)[1:]]
    if target.exists() and not (target / "classes.txt").is_file():
        _refuse(root, ["toy-crops"])
    root.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".making-", dir=root) as scratch:
        made, start = Path(scratch) / "toy-crops", 0
        for split, each in (("train", twins.images), ("val", max(1, twins.images // 4))):
            lines = []
            for i in tqdm(range(start, start + each * len(names)), split, leave=False, disable=None):
                image, label = scenes.crop(twins.seed, i, (size, size), twins.classes)
                path = f"{split}/{names[label - 1]}/{i:06d}.png"
                vis.save(made / path, image)
                lines.append(f"{path} {label - 1}\n")
            files.write(made / f"{split}.txt", "".join(lines).encode())
            start += each * len(names)
        files.write(made / "classes.txt", "".join(f"{name}\n" for name in names).encode())
        if target.exists():
            os.replace(target, Path(scratch) / "old")
        os.replace(made, target)
    print(
        f"wrote {_short(target)}: {start} pictures of {len(names)} classes, train.txt and val.txt list them"
    )
    print(f"\nNow look at them:\n    python data/toy/prepare.py show --data-root {_quoted(root)}")


def _refuse(folder: Path, names: Sequence[str]) -> None:
    """Raise DataError if any of ``names`` is in ``folder``: it was not drawn here."""
    if there := [name for name in names if (folder / name).exists() or (folder / name).is_symlink()]:
        raise DataError(
            f"{folder / there[0]} is there, and {folder / 'sources.json'} does not have it as a synthetic twin: it "
            "may be real data, which is never overwritten. Give another folder, or remove it yourself"
        )


def _sources(folder: Path) -> dict[str, Any]:
    """What sources.json in ``folder`` holds, as an object of "archives" and "facts"; DataError if it is damaged."""
    path = folder / "sources.json"
    read = Sources.read(path) if path.is_file() else Sources()
    return {"archives": dict(read.archives), "facts": dict(read.facts)}


def _write_sources(folder: Path, known: Mapping[str, Any]) -> None:
    files.write(folder / "sources.json", (json.dumps(known, indent=1, sort_keys=True) + "\n").encode())


def _bytes(path: Path) -> int:
    return sum(each.stat().st_size for each in [path, *path.rglob("*")] if each.is_file())


def _short(path: Path) -> Path:
    """A path as one types it in the project's folder."""
    return path.relative_to(ROOT) if path.is_relative_to(ROOT) else path


def _quoted(path: Path) -> str:
    return shlex.quote(str(_short(path)))


def main(argv: list[str] | None = None) -> int:
    """Run the command line ``argv``; the exit status is 1 after an error, which is told in one message."""
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument(
        "--data-root", type=Path, default=DEFAULT, metavar="DIR", help="default: data/toy/root"
    )
    common.add_argument("--seed", type=int, default=0, help="another seed draws other pictures (default: 0)")
    about = "in each of VOC 2011's train and val, the others accordingly; crops: of each class in train"
    common.add_argument(
        "--images", type=int, default=LEAST, metavar="N", help=f"{about} (default: {LEAST}, the least)"
    )
    about = "pixels of the longer side of VOC's photographs, default 160; of crops, default 64"
    common.add_argument(
        "--size", type=int, metavar="N", help=f"{about}. NYUDv2 and SIFT Flow have sizes of their own"
    )
    about = "how many of VOC's classes occur, with background; crops have one less"
    common.add_argument("--classes", type=int, default=21, metavar="N", help=f"{about} (default: 21, all)")
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(dest="command", required=True)
    sets = f"{', '.join(SETS)} (default: all)"
    command = commands.add_parser("trees", parents=[common], help="as the published archives unpack")
    command.add_argument("sets", nargs="*", metavar="SET", help=sets)
    command = commands.add_parser("archives", parents=[common], help="as archives")
    command.add_argument("folder", type=Path, metavar="DIR")
    command.add_argument("sets", nargs="*", metavar="SET", help=sets)
    served = "http://127.0.0.1:8000"
    command.add_argument(
        "--url", default=served, metavar="BASE", help=f"where DIR will be served (default: {served})"
    )
    commands.add_parser("crops", parents=[common], help="pictures of one object each")
    command = commands.add_parser("show", parents=[common], help="a picture of it all")
    command.add_argument("--out", type=Path, metavar="FILE", help="default: sheet.png in the data root")
    args = parser.parse_args(argv)
    try:
        names = getattr(args, "sets", None) or list(SETS)
        if unknown := [name for name in names if name not in SETS]:
            raise DataError(f"there is no set {unknown[0]}; there are {', '.join(SETS)}")
        size = args.size or (64 if args.command == "crops" else 160)
        twins, root = Twins(args.seed, args.images, size, args.classes), args.data_root.absolute()
        if args.command == "trees":
            trees(names, twins, root)
        elif args.command == "archives":
            archives(names, twins, args.folder.absolute(), args.url)
        elif args.command == "crops":
            crops(twins, root, size)
        else:
            path = (args.out or root / "sheet.png").absolute()
            vis.save(path, twin_sheet.draw(twins))
            print(
                f"wrote {_short(path)}: VOC; crops; NYUDv2; SIFT Flow\n\nNow: python data/toy/prepare.py trees"
            )
    except (DataError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\nstopped; nothing half-done is left", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
