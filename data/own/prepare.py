"""Your own images and masks: look at them, mend the masks, divide them, until a net can be made for them.

python data/own/prepare.py check --images DIR --masks DIR     what there is, what is wrong, and what to type next
python data/own/prepare.py remap ... --out NEW                the masks as class indices, in a new folder
python data/own/prepare.py split --data NEW                   train.txt and val.txt

Each ends with the next command. README.md, beside this file, tells what the layers read.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))  # the shared modules, whether or not the project is installed

from datakit import own, own_check, remap  # noqa: E402
from datakit.meaning import Meaning  # noqa: E402
from files import exit_status  # noqa: E402


def check(args: argparse.Namespace) -> int:
    """Report on the data; the exit status is 1 when training on it would go wrong."""
    folder = own.read(args.data, args.images, args.masks, args.classes)
    found = own_check.Check(folder)
    print(found.report(), flush=True)
    own.say_next(*found.next_step(where(args)))
    return 1 if found.table.failed else 0


def where(args: argparse.Namespace) -> list[str]:
    """The options that say which data it is, as they were given."""
    options = [
        ("--data", args.data),
        ("--images", args.images),
        ("--masks", args.masks),
        ("--classes", args.classes),
    ]
    return [str(word) for option, path in options if path for word in (option, path)]


def remap_(args: argparse.Namespace) -> int:
    """Write the new folder."""
    folder = own.read(args.data, args.images, args.masks, args.classes)
    space = "colors" if args.colors else "alpha" if args.alpha else "values"
    classes = remap.parse(args.colors or args.map, bool(args.colors))
    meaning = Meaning(space, classes, args.snap)
    made = remap.Remapping(folder, meaning, own.names_for(folder, meaning.count), args.out)
    if made.is_made():
        print(f"{args.out} is there already, as this command makes it")
    else:
        snapped, void = made.run()
        print(
            f"{args.out}: {len(folder.pairs)} images and masks of {meaning.count} classes: {', '.join(made.names)}"
        )
        if meaning.snap:
            print(
                f"  {snapped} pixels snapped to the nearest value; {void} could not be told and became 255, void"
            )
        if folder.alone:
            print(f"  {len(folder.alone)} images without mask were left out")
    own.say_next("look at the result", own.typed(own.PREPARE, "check", "--data", args.out))
    return 0


def split(args: argparse.Namespace) -> int:
    """Write train.txt and val.txt."""
    folder = own.read(args.data)
    photos = own.look_at_all(folder)
    made = own.split(photos, args.val, args.seed)
    own.write_split(folder, made)
    for name, ids in made.items():
        print(f"wrote {args.data / name}.txt: {len(ids)} of {len(folder.pairs)} images")
    own.say_next(*own.new_net(folder, photos.values()))
    return 0


def share(text: str) -> float:
    """A number between 0 and 1, of the command line."""
    value = float(text)
    if not 0 < value < 1:
        raise ValueError
    return value


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; errors are told in one message, with exit status 1."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(dest="command", required=True)
    data = argparse.ArgumentParser(add_help=False)
    data.add_argument(
        "--data", type=Path, metavar="DIR", help="the folder that holds images, masks, classes.txt"
    )
    data.add_argument("--images", type=Path, metavar="DIR", help="or else the images")
    data.add_argument("--masks", type=Path, metavar="DIR", help="and the masks")
    data.add_argument("--classes", type=Path, metavar="FILE", help="names of the classes, a line each")
    command = commands.add_parser("check", parents=[data], help="look at the data; says what to type next")
    command.set_defaults(call=check)
    command = commands.add_parser(
        "remap", parents=[data], help="make class indices of the masks, in a new folder"
    )
    command.add_argument("--out", type=Path, required=True, metavar="NEW", help="the folder to make")
    values = command.add_mutually_exclusive_group(required=True)
    values.add_argument("--map", metavar="'0=0 255=1'", help="the class of each value, 255 for void")
    values.add_argument("--colors", metavar="'0,0,0=0 255,255,255=1'", help="the class of each colour")
    command.add_argument("--alpha", action="store_true", help="the values are those of the alpha channel")
    command.add_argument(
        "--snap",
        type=int,
        default=0,
        metavar="N",
        help="for damaged masks: take the nearest value within N, else void",
    )
    command.set_defaults(call=remap_)
    command = commands.add_parser("split", help="divide the images into train.txt and val.txt")
    command.add_argument(
        "--data", type=Path, required=True, metavar="DIR", help="the folder that holds images and masks"
    )
    command.add_argument(
        "--val", type=share, default=0.2, metavar="SHARE", help="how much is for val (%(default)s)"
    )
    command.add_argument("--seed", type=int, default=1337, help="draws another split (%(default)s)")
    command.set_defaults(call=split)
    args = parser.parse_args(argv)
    if args.command != "split" and not (args.data or (args.images and args.masks)):
        parser.error("give --images DIR and --masks DIR, or --data DIR with both in it")
    return exit_status(lambda: args.call(args))


if __name__ == "__main__":
    sys.exit(main())
