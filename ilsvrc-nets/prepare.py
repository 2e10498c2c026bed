"""ImageNet's classifiers, from which the nets start: get the published weights and make them convolutional.

python ilsvrc-nets/prepare.py all vgg16        get, prepare and check: ilsvrc-nets/vgg16-fcn.caffemodel

The files go beside this script, where solve.py looks for them: weights belong to the nets, not to the data, so
--data-root and FCN_DATA do not move them. AlexNet is none of the parts: the paper's nets take CaffeNet, and
its weights would not do in their place. Weights that were got or trained elsewhere: see convert.py.
"""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))  # the shared modules, whether or not the project is installed

from datakit import command  # noqa: E402
from datakit.checks import Table  # noqa: E402
from datakit.weight_files import WeightFiles  # noqa: E402
from datakit.weights import CLASSIFIERS, megabytes  # noqa: E402
from files import DataError  # noqa: E402

AUXILIARY = ("loss1/", "loss2/")  # GoogLeNet's heads that only its training used


class Classifiers(WeightFiles):
    """The published classifiers and their convolutional forms, by the names of the prototxts here."""

    name = "ilsvrc-nets"
    published = CLASSIFIERS
    parts = {name: f"{file.name}, {megabytes(file)} MB" for name, file in CLASSIFIERS.items()}
    default = ("vgg16",)

    def home(self, part: str) -> Path:
        return HERE

    def script(self) -> str:
        return "ilsvrc-nets/prepare.py"

    def load(self, prototxt, weights):
        os.environ.setdefault("GLOG_minloglevel", "2")  # no line per layer from the original engine
        import caffe

        import surgery

        net = caffe.Net(str(prototxt), caffe.TEST)
        return net, surgery.load_parent(net, weights), surgery.shapes_in_file(weights)

    def made(self, part: str) -> Path:
        """Where the convolutional form of ``part`` belongs."""
        return HERE / f"{part}-fcn.caffemodel"

    def up_to_date(self, part: str) -> bool:
        """Whether the convolutional form is there, and was made after the published file got there."""
        source, made = self.file(part), self.made(part)
        if not made.is_file():
            return False
        return not source.is_file() or made.stat().st_mtime_ns >= source.stat().st_mtime_ns

    def copies(self, part: str) -> int:
        return 0 if self.up_to_date(part) else 1

    def prepare(self, part: str) -> None:
        """Let convert.py make the convolutional form, unless it is there."""
        source, made = self.file(part), self.made(part)
        if self.up_to_date(part):
            print(f"{made} is there: nothing to do", flush=True)
            return
        if not source.is_file():
            raise DataError(f"{source} does not exist. To get it: {self.again('get', part)}")
        if importlib.util.find_spec("caffe") is None:
            raise DataError(
                f"{made} is made with the engine, which is not installed: pip install -e ./pycaffe -e ."
            )
        print(f"making {made} ...", flush=True)
        done = subprocess.run([sys.executable, str(HERE / "convert.py"), part])
        if done.returncode or not self.up_to_date(part):
            raise DataError(f"ilsvrc-nets/convert.py did not make {made} of {source}; it said why, above")

    def check(self, part: str, table: Table) -> None:
        classifier = None
        if self.check_file(part, table):
            source, fix = self.file(part), f"remove it, then {self.again('get', part)}"
            classifier = self.check_layers(table, HERE / f"{part}.prototxt", source, fix, AUXILIARY)
        made, fix = self.made(part), self.again("prepare", part)
        if not table.fact(
            "convolutional form", made.name if made.is_file() else "is not there", made.name, fix=fix
        ):
            return
        fix = f"remove {made}, then {fix}"
        fcn = self.check_layers(table, HERE / f"{part}-fcn.prototxt", made, fix)
        if classifier and fcn:
            other = [
                layer for layer, blobs in classifier.params.items() if not _same(blobs, fcn.params[layer])
            ]
            table.none("weights of both", other, len(classifier.params), "layers have the same values", fix)


def _same(blobs, others) -> bool:
    """Whether the values are the same, whatever their shapes."""
    return all((a.data.ravel() == b.data.ravel()).all() for a, b in zip(blobs, others, strict=True))


if __name__ == "__main__":
    sys.exit(command.main(Classifiers, __doc__))
