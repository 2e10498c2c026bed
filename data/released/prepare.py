"""The nets that the paper's authors trained and released: 14 weight files, each for one model directory.

python data/released/prepare.py get voc-fcn8s      puts fcn8s-heavy-pascal.caffemodel into voc-fcn8s/
python data/released/prepare.py check voc-fcn8s    its size and checksum, and its layers against the net's

There infer.py and solve.py look for it. Weights belong to the nets, not to the data: --data-root and FCN_DATA
do not move them.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))  # the shared modules, whether or not the project is installed

from datakit import command  # noqa: E402
from datakit.checks import Table  # noqa: E402
from datakit.weight_files import WeightFiles  # noqa: E402
from datakit.weights import RELEASED, megabytes  # noqa: E402


class Released(WeightFiles):
    """The authors' nets, by model directory."""

    name = "released"
    published = RELEASED
    parts = {directory: f"{file.name}, {megabytes(file)} MB" for directory, file in RELEASED.items()}
    default = ("voc-fcn8s",)

    def home(self, part: str) -> Path:
        return ROOT / part

    def load(self, prototxt, weights):
        os.environ.setdefault("GLOG_minloglevel", "2")  # no line per layer from the original engine
        import caffe

        import surgery

        net = caffe.Net(str(prototxt), caffe.TEST)
        return net, surgery.load_parent(net, weights), surgery.shapes_in_file(weights)

    def prepare(self, part: str) -> None:
        """Nothing is to be made of them."""
        print(f"{part}: nothing to prepare, infer.py and solve.py read the file as it is")

    def check(self, part: str, table: Table) -> None:
        if self.check_file(part, table):
            path = self.file(part)
            fix = f"remove {path}, then {self.again('get', part)}"
            self.check_layers(table, self.home(part) / "deploy.prototxt", path, fix)


if __name__ == "__main__":
    sys.exit(command.main(Released, __doc__))
