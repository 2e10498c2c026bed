"""Make the published VGG16 classifier convolutional: the weights that voc-fcn32s starts from.

    python convert.py VGG_ILSVRC_16_layers.caffemodel      writes vgg16-fcn.caffemodel beside this file

fc6 and fc7 become convolutions by a flat copy, fc8 (the 1000 ImageNet classes) is dropped (paper, section
4.1). Takes a few seconds and 1.3 GB of memory.
"""

import argparse
import hashlib
import os
import sys
from pathlib import Path

# Caffe logs every layer it builds; show warnings only, unless asked (GLOG_minloglevel=0 shows all)
os.environ.setdefault("GLOG_minloglevel", "2")

import caffe

import surgery
from files import replacing

HERE = Path(__file__).resolve().parent
NAME = "VGG_ILSVRC_16_layers.caffemodel"
URL = f"http://www.robots.ox.ac.uk/~vgg/software/very_deep/caffe/{NAME}"
SIZE = 553_432_081
SHA256 = "a6196bc498e45ea4cb2637114ae8db9410cf1556fd60a55ae93272371beba197"


def published(path):
    """Whether ``path`` is the published file, byte for byte."""
    with open(path, "rb") as file:
        digest = hashlib.sha256()
        while piece := file.read(1 << 20):
            digest.update(piece)
    return digest.hexdigest() == SHA256


def convert(source, target, nets=HERE):
    """Write the convolutional form of the classifier ``source`` to ``target``; returns the report.

    ``nets`` is the directory of vgg16.prototxt and vgg16-fcn.prototxt.
    """
    classifier = caffe.Net(str(nets / "vgg16.prototxt"), caffe.TEST)
    loaded = surgery.load_parent(classifier, source)
    if loaded.missing:
        raise surgery.SurgeryError(f"{source} is not a whole VGG16: it lacks {', '.join(loaded.missing)}")
    convolutional = caffe.Net(str(nets / "vgg16-fcn.prototxt"), caffe.TEST)
    report = surgery.transplant(convolutional, classifier)
    with replacing(target) as temporary:
        convolutional.save(str(temporary))
    return report


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "classifier", type=Path, nargs="?", default=HERE / NAME, help=f"{NAME}, {SIZE} bytes, from {URL}"
    )
    source = parser.parse_args().classifier
    if not source.is_file():
        sys.exit(
            f"error: no such file: {source}\n"
            f"  It is {NAME}, {SIZE} bytes, sha256 {SHA256}.\n"
            f"  To get it: curl -LO {URL}"
        )
    if not published(source):
        print(
            f"warning: {source} ({source.stat().st_size} bytes) is not the published file "
            f"({SIZE} bytes, sha256 {SHA256}): it is another training, or the download broke off",
            file=sys.stderr,
        )
    target = HERE / "vgg16-fcn.caffemodel"
    try:
        print(convert(source, target))
    except (RuntimeError, OSError) as error:
        sys.exit(f"error: {error}")
    print(f"wrote {target}; next: cd voc-fcn32s && python solve.py")


if __name__ == "__main__":
    main()
