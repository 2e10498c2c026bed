"""Make a published ImageNet classifier convolutional: the weights that the FCNs start from (section 3.1).

    python convert.py vgg16                  the published file, which prepare.py put beside this script
    python convert.py PATH.caffemodel        any training of vgg16, vgg19, caffenet or googlenet

writes ``vgg16-fcn.caffemodel`` (or another net's) beside this script: its inner products, fc8 included, are
convolutions, by a flat copy. Which net a file is for is seen by the shapes of its layers. Nothing is
written unless the new net computes what the classifier does, which is checked on images of noise:

- on an image of the classifier's own size, the new net's 1x1 map is the classifier's scores;
- on a larger one, its map is the classifier's fully connected part, slid over the last features (Figure 2);
- slid over pixels, too, the classifier gives this map if neither net pads: then a window of pixels
  (404 for VGG16, 355 for CaffeNet) is all that a score sees. GoogLeNet's modules do not work unpadded.

As they are, all four pad inside, and then the last is not so: the classifier sees zeros around each window,
the map what is there. That difference is printed; it is no error. VGG16 takes ten seconds and 2.2 GB of
memory (on the original engine 22 seconds and 4.5 GB).
"""

import argparse
import os
import sys
from math import prod
from pathlib import Path
from tempfile import TemporaryDirectory

# Caffe logs every layer it builds; show warnings only, unless asked (GLOG_minloglevel=0 shows all)
os.environ.setdefault("GLOG_minloglevel", "2")

import caffe
import numpy as np
from caffe.proto import caffe_pb2
from google.protobuf import text_format

import nets
import surgery
from datakit.weights import ALEXNET, CLASSIFIERS
from files import replacing

HERE = Path(__file__).resolve().parent
TOLERANCE = 1e-4  # of the largest score: sums in another order, in float32


def recognise(source, directory=HERE):
    """The name of the net that the weight file ``source`` is for, by the shapes of its layers.

    A file may hold more (GoogLeNet's two auxiliary losses). ``directory`` has the prototxts. Raises SurgeryError
    that tells what was found.
    """
    if not ALEXNET.fault(source):
        raise surgery.SurgeryError(
            f"{source} is {ALEXNET.name}, whose layers have CaffeNet's shapes, but AlexNet normalises before it "
            "pools: as CaffeNet it would compute something else. The paper's nets take "
            f"{CLASSIFIERS['caffenet'].by_hand()}"
        )
    found, lacking = surgery.shapes_in_file(source), {}
    for name in CLASSIFIERS:
        params = caffe.Net(str(directory / f"{name}.prototxt"), caffe.TEST).params
        wrong = [layer for layer, blobs in params.items() if not surgery.fits(found.get(layer, ()), blobs)]
        lacking[name] = len(wrong), -len(params), wrong, params
    # VGG19 has all that VGG16 has: of two that fit, the larger
    name = min(lacking, key=lambda name: lacking[name][:2])
    count, _, wrong, params = lacking[name]
    if count:
        layers = [f"{layer} {surgery.listed(shapes)}" for layer, shapes in found.items() if shapes]
        own = surgery.listed([blob.shape for blob in params[wrong[0]]])
        raise surgery.SurgeryError(
            f"{source} holds none of the classifiers {', '.join(CLASSIFIERS)}: it has {len(layers)} layers with "
            f"weights ({', '.join(layers[:3])}, ...). The nearest is {name}, of which {count} of {len(params)} "
            f"layers differ or are not there: {', '.join(wrong[:4])}; its {wrong[0]} is {own}, the file's "
            f"{surgery.listed(found.get(wrong[0], ()))}"
        )
    return name


def convert(name, source, target, directory=HERE):
    """Write the convolutional form of the classifier ``name``, with the weights in ``source``, to ``target``.

    ``directory`` has the prototxts. Yields what was done and found, in lines to print. Raises SurgeryError, and
    writes nothing, when the weights are not all there or the two nets do not agree.
    """
    classifier = caffe.Net(str(directory / f"{name}.prototxt"), caffe.TEST)
    loaded = surgery.load_parent(classifier, source)
    if loaded.missing:
        raise surgery.SurgeryError(f"{source} is not a whole {name}: it lacks {', '.join(loaded.missing)}")
    if loaded.dropped:
        yield f"not used: {', '.join(loaded.dropped)}"
    convolutional = caffe.Net(str(directory / f"{name}-fcn.prototxt"), caffe.TEST)
    yield str(surgery.transplant(convolutional, classifier))
    yield from Check(name, directory, classifier, convolutional).lines()
    with replacing(target) as temporary:
        convolutional.save(str(temporary))


class Check:
    """That ``convolutional``, a net, computes what ``classifier`` does: both of ``name``, with their weights.

    ``directory`` has their prototxts.
    """

    def __init__(self, name, directory, classifier, convolutional):
        self.name, self.classifier, self.convolutional = name, classifier, convolutional
        self.params = [
            nets.read_prototxt(directory / f"{stem}.prototxt", caffe_pb2.NetParameter())
            for stem in (name, f"{name}-fcn")
        ]
        layers = self.params[1].layer
        self.windows = [_window(layer) for layer in layers if layer.type in ("Convolution", "Pooling")]
        self.stride = prod(stride for _, stride in self.windows)
        self.scores = layers[-1].bottom[0]  # below prob
        # the fully connected part starts where the map of an image of the own size becomes a point
        self.head = next(
            layer for layer in layers if tuple(convolutional.blobs[layer.top[0]].shape)[2:] == (1, 1)
        )
        self.random = np.random.default_rng(0)

    def lines(self):
        """Make the three comparisons; yields a line on each. SurgeryError when a pair does not agree."""
        size = self.classifier.blobs["data"].shape[2]
        image = self.noise(size, size)
        wanted = self.run(self.classifier, image)[..., None, None]
        yield self.agree(self.run(self.convolutional, image), wanted, f"on {size}x{size} pixels")

        image = self.noise(size + 2 * self.stride, size + self.stride)
        scores = self.run(self.convolutional, image)
        features = self.convolutional.blobs[self.head.bottom[0]].data.copy()
        shape = "x".join(map(str, scores.shape[2:]))
        where = f"its {shape} map on {image.shape[2]}x{image.shape[3]} pixels"
        slid = self.slide(self.classifier, features, 1, self.head)
        yield self.agree(scores, slid, f"{where}, the fully connected part slid over {self.head.bottom[0]}")

        slid = self.slide(self.classifier, image, self.stride)
        yield (
            f"{where}: the whole classifier slid over the pixels, which pads each window with zeros, differs "
            f"by {_difference(scores, slid):.1e} of the largest score"
        )
        if any(layer.type == "Concat" for layer in self.params[0].layer):
            yield f"{self.name} cannot do without padding: its modules join maps of one size"
        else:
            yield self.unpadded()

    def unpadded(self):
        """Compare both nets without their padding: then the map is the classifier slid over the pixels."""
        size = 1
        for kernel, stride in reversed(self.windows):
            size = (size - 1) * stride + kernel
        image = self.noise(size, size + self.stride)
        with TemporaryDirectory() as folder:
            classifier, convolutional = (
                _without_padding(param, own, shape, Path(folder, "net.prototxt"))
                for param, own, shape in zip(
                    self.params,
                    (self.classifier, self.convolutional),
                    ((1, 3, size, size), image.shape),
                    strict=True,
                )
            )
        scores = self.run(convolutional, image)
        slid = self.slide(classifier, image, self.stride)
        return self.agree(scores, slid, f"without padding, slid over windows of {size}x{size} pixels")

    def noise(self, height, width):
        """An image of noise, as spread as a photograph minus its mean."""
        return self.random.normal(0, 64, (1, 3, height, width)).astype(np.float32)

    def run(self, net, image):
        """The scores of ``net`` on ``image``, at any size that the net takes."""
        if tuple(net.blobs["data"].shape) != image.shape:
            net.blobs["data"].reshape(*image.shape)
            net.reshape()
        net.blobs["data"].data[...] = image
        net.forward(blobs=[self.scores])
        return net.blobs[self.scores].data.copy()

    def slide(self, net, values, stride, first=None):
        """A map of the scores of ``net`` at every window of ``values``, ``stride`` apart.

        The window is the input of the layer ``first``: the image, if it is not given.
        """
        blob = net.blobs[first.bottom[0] if first else "data"]
        height, width = blob.shape[2], blob.shape[3]
        rows, columns = ((values.shape[2] - height) // stride + 1, (values.shape[3] - width) // stride + 1)
        slid = np.empty((*net.blobs[self.scores].shape, rows, columns), np.float32)
        for i, j in np.ndindex(rows, columns):
            y, x = i * stride, j * stride
            blob.data[...] = values[:, :, y : y + height, x : x + width]
            net.forward(blobs=[self.scores], start=first.name if first else None)
            slid[:, :, i, j] = net.blobs[self.scores].data
        return slid

    def agree(self, got, wanted, where):
        """A line that tells how close the maps of scores are; SurgeryError when they are not."""
        apart = _difference(got, wanted) if got.shape == wanted.shape else np.inf
        if not apart <= TOLERANCE:
            raise surgery.SurgeryError(
                f"the convolutional {self.name} is not the classifier: {where}, scores differ by {apart:.1e} of "
                f"the largest, more than {TOLERANCE}. Nothing was written"
            )
        return f"equal to {apart:.1e} of the largest score: {where}"


def _difference(got, wanted):
    """The largest difference between scores, over the largest score."""
    largest = np.abs(wanted).max()
    return np.abs(got - wanted).max() / largest if largest else np.inf


def _window(layer):
    """Kernel and stride of a convolution or pooling, as these nets give them."""
    if layer.type == "Pooling":
        return layer.pooling_param.kernel_size, layer.pooling_param.stride
    shape = layer.convolution_param
    return shape.kernel_size[0], shape.stride[0] if shape.stride else 1


def _without_padding(param, net, shape, path):
    """The net of ``param`` for an image of ``shape``, without padding, on the weights of ``net``."""
    bare = caffe_pb2.NetParameter()
    bare.CopyFrom(param)
    bare.layer[0].input_param.shape[0].dim[:] = shape
    for layer in bare.layer:
        if layer.type == "Convolution":
            layer.convolution_param.ClearField("pad")
    path.write_text(text_format.MessageToString(bare), encoding="utf-8")
    made = caffe.Net(str(path), caffe.TEST)
    made.share_with(net)
    return made


def main():
    """Find the file that the command line names, convert it, and say what became of it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "what",
        metavar="NAME_OR_FILE",
        nargs="?",
        default="vgg16",
        help=f"{', '.join(CLASSIFIERS)}, or a file",
    )
    what = parser.parse_args().what
    source = HERE / CLASSIFIERS[what].name if what in CLASSIFIERS else Path(what)
    if not source.is_file():
        lines = [f"error: no such file: {source}"]
        known = {name: file for name, file in CLASSIFIERS.items() if file.name == source.name}
        for name, file in (known or CLASSIFIERS).items():
            lines += [f"  To get it: python ilsvrc-nets/prepare.py get {name}", f"  {file.by_hand()}"]
        sys.exit("\n".join(lines))
    try:
        name = recognise(source)
        if fault := CLASSIFIERS[name].fault(source):
            print(
                f"warning: {source} is not the published {CLASSIFIERS[name].name}: {fault}. It is another training, "
                "or the download broke off",
                file=sys.stderr,
            )
        target = HERE / f"{name}-fcn.caffemodel"
        for line in convert(name, source, target):
            print(line)
    except (RuntimeError, OSError) as error:
        sys.exit(f"error: {error}")
    except KeyboardInterrupt:
        sys.exit("stopped; nothing was written")
    print(f"wrote {target}")


if __name__ == "__main__":
    main()
