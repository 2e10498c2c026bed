"""``caffe convert_imageset`` and ``caffe compute_image_mean``: databases of images and their mean."""

from __future__ import annotations


def add_parser(commands) -> None:
    """Add the commands to the subparsers ``commands``."""
    parser = commands.add_parser(
        "convert_imageset",
        help="write a list of images into a database",
        description="Write the images in a list, one 'path label' a line, into a database of Datums.",
        epilog="example:\n  caffe convert_imageset --resize_width 256 --resize_height 256 --shuffle "
        "images/ train.txt train_lmdb",
    )
    parser.add_argument("root", metavar="ROOTFOLDER", help="the folder that the paths in the list start from")
    parser.add_argument("list", metavar="LISTFILE", help="the list, one 'path label' a line")
    parser.add_argument(
        "database", metavar="DB_NAME", help="the database to make, a folder that is not there yet"
    )
    _add_backend(parser)
    parser.add_switch("gray", help="read the images as gray ones")
    parser.add_switch("shuffle", help="shuffle the list first")
    parser.add_argument(
        "--resize_width", type=int, default=0, metavar="N", help="resize to this width (0: do not)"
    )
    parser.add_argument("--resize_height", type=int, default=0, metavar="N", help="and this height")
    parser.add_switch("check_size", help="refuse images of different size")
    parser.add_switch("encoded", help="store the files as they are, compressed")
    parser.add_argument(
        "--encode_type", default="", metavar="EXT", help="compress anew as this: png, jpg, ..."
    )
    parser.set_defaults(run=convert_imageset)

    parser = commands.add_parser(
        "compute_image_mean",
        help="compute the mean image of a database",
        description="Compute the mean image of a database of Datums; write it as a binaryproto if a file is named.",
        epilog="example:\n  caffe compute_image_mean train_lmdb mean.binaryproto",
    )
    parser.add_argument("database", metavar="INPUT_DB", help="the database")
    parser.add_argument("output", metavar="OUTPUT_FILE", nargs="?", help="the .binaryproto to write")
    _add_backend(parser)
    parser.set_defaults(run=compute_image_mean)


def _add_backend(parser) -> None:
    parser.add_argument("--backend", default="lmdb", metavar="KIND", help="lmdb or leveldb (lmdb)")


def convert_imageset(args) -> None:
    """Make the database that ``args`` describe."""
    from ..datasets import convert_imageset as convert

    convert(
        args.root,
        args.list,
        args.database,
        backend=args.backend,
        gray=args.gray,
        shuffle=args.shuffle,
        resize_width=args.resize_width,
        resize_height=args.resize_height,
        encoded=args.encoded,
        encode_type=args.encode_type,
        check_size=args.check_size,
    )


def compute_image_mean(args) -> None:
    """Compute the mean image of ``args.database`` into ``args.output``."""
    from ..datasets import compute_image_mean as compute

    compute(args.database, args.output, backend=args.backend)
