"""Trunks: the classifiers that FCNs are made of, as tables, from the image to their last features.

Each is a function ``trunk(n, recipe, data, suffix)`` that adds the layers to a NetSpec and returns
the features that scores can be taken from, by name: ``fr`` is the last, at the coarsest stride; the
others are the pooling layers that skips start at. ``classifier=True`` gives the net as it was trained
for ImageNet: inner products, and the padding of one window. Names are those of the published models;
``suffix`` is added to each, for nets with two trunks.
"""

from __future__ import annotations

from dataclasses import dataclass

from caffe import layers as L
from caffe import params as P

# section 4.3: doubled learning rate for biases, and no weight decay on them
LEARNED = [{"lr_mult": 1, "decay_mult": 1}, {"lr_mult": 2, "decay_mult": 0}]
FIXED = [{"lr_mult": 0}]

# He et al.'s sqrt(2 / fan-in) keeps the scale of activations when the input's is 1. Pixels minus their
# mean spread over about 64, so a net that starts from scratch divides it out in the first weights.
FIRST_FILLER = {"type": "gaussian", "std": round((2 / 27) ** 0.5 / 64, 5)}
FILLER = {"type": "msra"}

# stage, number of 3x3 convolutions, channels (Simonyan and Zisserman, configurations D and E)
VGG16 = ((1, 2, 64), (2, 2, 128), (3, 3, 256), (4, 3, 512), (5, 3, 512))
VGG19 = ((1, 2, 64), (2, 2, 128), (3, 4, 256), (4, 4, 512), (5, 4, 512))

# stage, channels, kernel, stride, pad, groups, what follows the ReLU (Krizhevsky et al., on one GPU's pooling
# before normalisation: Caffe's reference net)
CAFFENET = (
    (1, 96, 11, 4, 0, 1, ("pool", "norm")),
    (2, 256, 5, 1, 2, 2, ("pool", "norm")),
    (3, 384, 3, 1, 1, 1, ()),
    (4, 384, 3, 1, 1, 2, ()),
    (5, 256, 3, 1, 1, 2, ("pool",)),
)

# module, channels of 1x1, of 3x3 reduced and whole, of 5x5 reduced and whole, and after its pooling
# (Szegedy et al., Table 1); None: a pooling of stride 2 between stages
INCEPTION = (
    ("3a", 64, 96, 128, 16, 32, 32),
    ("3b", 128, 128, 192, 32, 96, 64),
    None,
    ("4a", 192, 96, 208, 16, 48, 64),
    ("4b", 160, 112, 224, 24, 64, 64),
    ("4c", 128, 128, 256, 24, 64, 64),
    ("4d", 112, 144, 288, 32, 64, 64),
    ("4e", 256, 160, 320, 32, 128, 128),
    None,
    ("5a", 256, 160, 320, 32, 128, 128),
    ("5b", 384, 192, 384, 48, 128, 128),
)

BORDER = 100  # pixels of zeros around the image, so that images of any size get through fc6's window


def window_and_border(recipe, usual):
    """fc6's window, ``usual`` cells unless the recipe has its own, and the border that goes with it.

    A cell less, of 32 pixels, wants 16 less on either side.
    """
    window = recipe.window or usual
    return window, BORDER - 16 * (usual - window)


@dataclass
class Builder:
    """Adds layers to the NetSpec ``n``, as a recipe wants them, under names that end in ``suffix``."""

    n: object
    recipe: object
    suffix: str = ""

    def add(self, name, top):
        """``top`` under ``name``."""
        self.n[name + self.suffix] = top
        return top

    def conv(self, name, bottom, channels, kernel, stride=1, pad=0, group=1, relu="", first=False):
        """A convolution to ``channels`` (over the recipe's ``divide``), and the ReLU called ``relu``."""
        shape = {"kernel_size": kernel, "stride": stride, "pad": pad}
        if group > 1:
            shape["group"] = group
        if self.recipe.from_scratch:
            shape["weight_filler"] = FIRST_FILLER if first else FILLER
        top = L.Convolution(
            bottom, num_output=channels // self.recipe.divide, param=self.recipe.trunk_param, **shape
        )
        return self.add(relu, L.ReLU(self.add(name, top), in_place=True))

    def pool(self, name, bottom, kernel, stride=2, **more):
        """Max pooling, unless ``more`` says otherwise."""
        return self.add(
            name, L.Pooling(bottom, kernel_size=kernel, stride=stride, **{"pool": P.Pooling.MAX, **more})
        )

    def norm(self, name, bottom):
        """Local response normalisation, as both nets that have it."""
        return self.add(name, L.LRN(bottom, local_size=5, alpha=1e-4, beta=0.75))

    def fully(self, top, kernels, classifier):
        """fc6 and fc7, each with ReLU and dropout: convolutions, or the inner products they came from."""
        for number, kernel in zip((6, 7), kernels, strict=True):
            if classifier:
                shape = {"weight_filler": FILLER} if self.recipe.from_scratch else {}
                product = L.InnerProduct(top, num_output=4096 // self.recipe.divide, param=LEARNED, **shape)
                top = self.add(f"relu{number}", L.ReLU(self.add(f"fc{number}", product), in_place=True))
            else:
                top = self.conv(f"fc{number}", top, 4096, kernel, relu=f"relu{number}")
            top = self.drop(f"drop{number}", top, 0.5)
        return top

    def drop(self, name, top, ratio):
        """Dropout in place, with the classifier's ``ratio`` unless the recipe has its own."""
        own = self.recipe.dropout
        return self.add(name, L.Dropout(top, dropout_ratio=ratio if own is None else own, in_place=True))


def vgg16(n, recipe, data="data", suffix="", classifier=False, table=VGG16, **change):
    """VGG16 to fc7, at stride 32; skips start at pool3 and pool4.

    ``change`` is for what the paper tries: ``pool5_stride``, ``fc6_kernel`` and ``border`` (in the place of
    the recipe's), ``first`` (another name for conv1_1, whose input has other channels), ``until`` (the last layer:
    ``"pool4"``).
    """
    build, top, features = Builder(n, recipe, suffix), n[data], {}
    window, border = window_and_border(recipe, 7)
    for stage, convs, channels in table:
        for number in range(1, convs + 1):
            first = (stage, number) == (1, 1)
            name = change.get("first", "conv1_1") if first else f"conv{stage}_{number}"
            pad = change.get("border", border) if first and not classifier else 1
            top = build.conv(name, top, channels, 3, pad=pad, relu=f"relu{stage}_{number}", first=first)
        stride = change.get("pool5_stride", 2) if stage == 5 else 2
        features[f"pool{stage}"] = top = build.pool(f"pool{stage}", top, 2, stride)
        if change.get("until") == f"pool{stage}":
            return features
    return features | {"fr": build.fully(top, (change.get("fc6_kernel", window), 1), classifier)}


def vgg19(n, recipe, data="data", suffix="", classifier=False, **change):
    """VGG19 to fc7, as VGG16 with three more convolutions."""
    return vgg16(n, recipe, data, suffix, classifier, VGG19, **change)


def caffenet(n, recipe, data="data", suffix="", classifier=False, border=None):
    """CaffeNet, the paper's AlexNet, to fc7, at stride 32; ``border``: zeros around the image, if not the recipe's."""
    build, top, features = Builder(n, recipe, suffix), n[data], {}
    window, usual = window_and_border(recipe, 6)
    border = usual if border is None else border
    for stage, channels, kernel, stride, pad, group, after in CAFFENET:
        first = stage == 1
        pad = border if first and not classifier else pad
        top = build.conv(f"conv{stage}", top, channels, kernel, stride, pad, group, f"relu{stage}", first)
        for what in after:
            if what == "pool":
                features[f"pool{stage}"] = top = build.pool(f"pool{stage}", top, 3)
            else:
                top = build.norm(f"norm{stage}", top)
    return features | {"fr": build.fully(top, (window, 1), classifier)}


def googlenet(n, recipe, data="data", suffix="", classifier=False, border=BORDER):
    """GoogLeNet to its last inception module, at stride 32; ``border``: zeros around the image.

    The classifier ends with average pooling over 7x7, which the FCN drops (section 4.1); the two auxiliary
    losses of its training are left out of both.
    """
    build = Builder(n, recipe, suffix)
    pad = 3 if classifier else border
    top = build.conv("conv1/7x7_s2", n[data], 64, 7, 2, pad, relu="conv1/relu_7x7", first=True)
    top = build.norm("pool1/norm1", build.pool("pool1/3x3_s2", top, 3))
    top = build.conv("conv2/3x3_reduce", top, 64, 1, relu="conv2/relu_3x3_reduce")
    top = build.conv("conv2/3x3", top, 192, 3, pad=1, relu="conv2/relu_3x3")
    top = build.pool("pool2/3x3_s2", build.norm("conv2/norm2", top), 3)
    features, stage = {"pool2": top}, 3
    for row in INCEPTION:
        if row is None:
            features[f"pool{stage}"] = top = build.pool(f"pool{stage}/3x3_s2", top, 3)
            stage += 1
        else:
            top = _inception(build, top, *row)
    if classifier:
        top = build.pool("pool5/7x7_s1", top, recipe.window or 7, 1, pool=P.Pooling.AVE)
    return features | {"fr": build.drop("pool5/drop_7x7_s1", top, 0.4)}


def _inception(build, bottom, module, one, three_reduce, three, five_reduce, five, after_pool):
    """Four ways side by side, joined by channels: 1x1, 3x3, 5x5, and max pooling, each reduced by 1x1."""
    at = f"inception_{module}"

    def conv(what, below, channels, kernel=1):
        return build.conv(f"{at}/{what}", below, channels, kernel, pad=kernel // 2, relu=f"{at}/relu_{what}")

    ways = [
        conv("1x1", bottom, one),
        conv("3x3", conv("3x3_reduce", bottom, three_reduce), three, 3),
        conv("5x5", conv("5x5_reduce", bottom, five_reduce), five, 5),
        conv("pool_proj", build.pool(f"{at}/pool", bottom, 3, 1, pad=1), after_pool),
    ]
    return build.add(f"{at}/output", L.Concat(*ways))
