"""The method in miniature: the paper's nets an eighth as wide, on small synthetic scenes, in minutes.

A classifier is trained on pictures of one object each, made convolutional by surgery, and becomes FCN-32s, then 16s,
then 8s, as in the paper. What differs from the paper's nets: their width; fc6's window, and with it the border
around the image, for pictures are small; no dropout, of which nets so narrow have no use; Adam, for there is
no time to find each net its rate.
"""

from __future__ import annotations

from dataclasses import dataclass

from caffe import NetSpec
from caffe import layers as L
from caffe.proto import caffe_pb2
from google.protobuf import text_format

import nets
import trunks
from reproduction import toyset
from reproduction.workshop import CLASSIFIERS, Net, Stage, Workshop, classifier_of, classifiers, shortened

NARROW = {"divide": 8, "from_scratch": True, "dropout": 0}
BATCH = 5  # images of an update
CROPS = 25  # pictures of an update of the classifier


@dataclass(frozen=True)
class Lesson:
    """How long a net is trained, in images, and the rate that it starts with; it falls to 0 in a straight line."""

    images: int
    rate: float


LESSONS = {
    "voc-fcn32s-fixed": Lesson(1500, 3e-3),
    "voc-fcn32s": Lesson(3000, 1e-3),
    "voc-fcn16s": Lesson(1500, 5e-4),
    "voc-fcn8s": Lesson(1500, 3e-4),
    "voc-fcn-alexnet": Lesson(3000, 1e-3),
    "voc-fcn-googlenet": Lesson(3000, 1e-3),
    "nyud-fcn32s-color": Lesson(600, 1e-3),
    "nyud-fcn32s-color-d": Lesson(600, 1e-3),
    "nyud-fcn32s-hha": Lesson(600, 1e-3),
    "nyud-fcn32s-color-hha": Lesson(300, 5e-4),
    "nyud-fcn16s-color-hha": Lesson(300, 5e-4),
    "siftflow-fcn32s": Lesson(1000, 1e-3),
    "siftflow-fcn16s": Lesson(500, 5e-4),
}
CLASSIFIER = Lesson(8000, 5e-4)


def classifier(name: str, recipe: nets.Recipe, split: str) -> caffe_pb2.NetParameter:
    """The classifier ``name`` on the pictures of a split (train, val) of the crops."""
    n, pictures = NetSpec(), "../../data/crops"
    training = split == "train"
    n.data, n.label = L.ImageData(
        source=f"{pictures}/{split}.txt",
        root_folder=f"{pictures}/",
        batch_size=CROPS,
        shuffle=training,
        transform_param={"mean_value": list(nets.MEAN), "mirror": training},
        ntop=2,
    )
    top = classifiers().NETS[name][0](n, recipe, classifier=True)["fr"]
    n.scores = L.InnerProduct(
        top, num_output=toyset.CLASSES - 1, param=trunks.LEARNED, weight_filler=trunks.FILLER
    )
    n.loss = L.SoftmaxWithLoss(n.scores, n.label)
    if not training:
        n.accuracy = L.Accuracy(n.scores, n.label)
    return n.to_proto()


class Miniature(Workshop):
    """A workshop of nets in miniature; their data are in ``../data``, as :mod:`reproduction.toyset` draws them."""

    def changes(self, net: Net) -> dict:
        return {**NARROW, "window": CLASSIFIERS[classifier_of(net.base)], **net.changes}

    def solver(self, net: Net) -> caffe_pb2.SolverParameter:
        lesson = LESSONS[net.like or net.base]
        model = super().solver(net)
        updates = round(lesson.images * net.longer / BATCH)
        solver = adam(self.seed, lesson.rate, updates)
        solver.train_net, solver.test_net[:] = model.train_net, model.test_net[:1]
        solver.iter_size = BATCH
        return solver

    def fitted(self, param: caffe_pb2.NetParameter) -> caffe_pb2.NetParameter:
        """The prototxt with as many scores as the scenes have classes, in the place of VOC's 21."""
        for layer in param.layer:
            if layer.convolution_param.num_output == 21 and layer.name.startswith(("score", "up")):
                layer.convolution_param.num_output = toyset.CLASSES
        return param

    def texts(self, net: Net) -> dict[str, str]:
        names = "".join(f"{name}\n" for name in toyset.class_names())
        return super().texts(net) | ({"classes.txt": names} if net.base.startswith("voc-") else {})

    def classifier(self, name: str) -> tuple[list[Stage], list[str]]:
        recipe = nets.Recipe(**NARROW, window=CLASSIFIERS[name])
        updates = round(CLASSIFIER.images / CROPS)
        solver = adam(self.seed, CLASSIFIER.rate, updates)
        solver.train_net, solver.test_net[:] = "train.prototxt", ["val.prototxt"]
        solver.test_iter[:] = [toyset.CROPS_VAL // CROPS]
        shortened(solver, self.shorten)
        fcn = classifiers().convolutional(name, recipe, toyset.CLASSES - 1)
        texts = {"solver.prototxt": text_format.MessageToString(solver)}
        for split in ("train", "val"):
            texts[f"{split}.prototxt"] = text_format.MessageToString(classifier(name, recipe, split))
        return self.pretrained(name, fcn, texts, solver.max_iter * CROPS, CROPS)


def adam(seed: int | None, rate: float, updates: int) -> caffe_pb2.SolverParameter:
    """A solver that starts with ``rate`` and ends with 0, all else as every net in miniature has it."""
    solver = caffe_pb2.SolverParameter(
        type="Adam", base_lr=rate, momentum=0.9, momentum2=0.999, lr_policy="poly", power=1, max_iter=updates
    )
    solver.display, solver.snapshot, solver.snapshot_prefix = 5, 50, "snapshot/train"
    solver.test_iter[:], solver.test_interval, solver.test_initialization = [1], 999_999_999, False
    solver.random_seed = 1337 if seed is None else seed
    return solver
