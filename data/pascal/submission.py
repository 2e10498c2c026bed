"""The archive for PASCAL VOC's evaluation server: make it of a folder of predictions, and check it.

python data/pascal/submission.py pack PREDICTIONS     write voc2012_comp6_test_cls.tgz, and check it
python data/pascal/submission.py check FILE           check an archive: a line for each rule of the server

PREDICTIONS holds <id>.png for every id of ImageSets/Segmentation/test.txt: 8-bit PNGs of class indices 0 to 20,
as infer.py writes them. The exit status is 1 when a rule does not hold.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))  # the shared modules, whether or not the project is installed

from datakit import command, submission  # noqa: E402
from files import exit_status, read_lines  # noqa: E402

SERVER = "http://host.robots.ox.ac.uk:8080"


def _list(args: argparse.Namespace, voc: Path) -> list[str]:
    """The ids of the test images, of --ids or of VOC's own list; DataError says how to get that."""
    own = voc / "ImageSets" / "Segmentation" / "test.txt"
    tar = f"VOC{args.year}test.tar"
    return read_lines(
        args.ids or own,
        "list of test images",
        f"It comes with the test images, {tar}, a download of its own: register at {SERVER}/, get "
        f"{SERVER}/eval/downloads/{tar}, and unpack it so that its VOCdevkit/VOC{args.year} is added to {voc}. "
        "Or name a list of ids, an id a line: --ids FILE",
    )


def run(args: argparse.Namespace) -> int:
    """Pack, if that is asked for, and check; returns the exit status."""
    root = command.root_of(args.data_root)
    sources = command.sources_of(args.sources, root)
    voc = root / "pascal" / f"VOC{args.year}"
    ids = _list(args, voc)
    published = None if args.ids or sources.path else submission.TEST_IMAGES.get(args.year)
    published = sources.facts_of("pascal", {}).get(f"voc{args.year} test", published)
    classes = len(read_lines(ROOT / "data" / "pascal" / "classes.txt", "class list"))
    if args.command == "pack":
        name = f"voc{args.year}_{submission.folder(args.year, args.competition).name}.tgz"
        archive = submission.pack(args.predictions, ids, args.out or Path(name), args.year, args.competition)
        print(f"wrote {archive}: {archive.stat().st_size / 1e6:.1f} MB", flush=True)
    else:
        archive = args.archive
    table = submission.check(
        archive,
        ids,
        lambda name: submission.photograph_size(voc / "JPEGImages" / f"{name}.jpg"),
        args.year,
        args.competition,
        classes=classes,
        published=published,
    )
    print(table, flush=True)
    return bool(table.failed)


def main(argv: list[str] | None = None) -> int:
    """Run the command line ``argv``; returns the exit status."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(dest="command", required=True)
    common = command.common_options()
    common.add_argument("--year", type=int, default=2012, choices=(2011, 2012), help="default: %(default)s")
    common.add_argument("--ids", type=Path, metavar="FILE", help="list of the test images, if not VOC's own")
    rules = "; ".join(f"{number}: {what}" for number, what in submission.COMPETITIONS.items())
    common.add_argument(
        "--competition", type=int, default=6, choices=submission.COMPETITIONS, help=f"{rules} (default: 6)"
    )
    pack = commands.add_parser("pack", parents=[common], help="make an archive of predictions, and check it")
    pack.add_argument("predictions", type=Path, metavar="PREDICTIONS", help="folder of <id>.png")
    pack.add_argument(
        "--out", type=Path, metavar="FILE", help="default: voc<year>_comp<competition>_test_cls.tgz"
    )
    check = commands.add_parser("check", parents=[common], help="check an archive")
    check.add_argument("archive", type=Path, metavar="FILE")
    args = parser.parse_args(argv)
    return exit_status(lambda: run(args))


if __name__ == "__main__":
    sys.exit(main())
