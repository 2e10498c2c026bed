"""The published weight files: ImageNet's classifiers, from which the nets start, and the authors' trained nets."""

from __future__ import annotations

from datakit.archives import Archive

OXFORD = "http://www.robots.ox.ac.uk/~vgg/software/very_deep/caffe/"
BERKELEY = "http://dl.caffe.berkeleyvision.org/"  # it has had long outages
NVIDIA = "https://nvidia.box.com/shared/static/"
ZOO = "https://github.com/BVLC/caffe/tree/master/models/"
AUTHORS = "https://github.com/shelhamer/fcn.berkeleyvision.org"

# The classifiers that ilsvrc-nets/convert.py makes convolutional, by the names of their prototxts.
CLASSIFIERS = {
    "vgg16": Archive(
        "VGG_ILSVRC_16_layers.caffemodel",
        (f"{OXFORD}VGG_ILSVRC_16_layers.caffemodel",),
        size=553_432_081,
        digests=("sha256:a6196bc498e45ea4cb2637114ae8db9410cf1556fd60a55ae93272371beba197",),
        page="http://www.robots.ox.ac.uk/~vgg/research/very_deep/",
    ),
    "vgg19": Archive(
        "VGG_ILSVRC_19_layers.caffemodel",
        (f"{OXFORD}VGG_ILSVRC_19_layers.caffemodel",),
        size=574_671_192,
        digests=(
            "sha384:86b83739d448a81ddc927922d4d7581e06113478106b59480097b02cc63ff51c9da7c3cd8a865b08946d07d0281d5b2e",
        ),
        page="http://www.robots.ox.ac.uk/~vgg/research/very_deep/",
    ),
    "caffenet": Archive(
        "bvlc_reference_caffenet.caffemodel",
        (f"{BERKELEY}bvlc_reference_caffenet.caffemodel",),
        size=243_862_418,
        digests=("sha1:4c8d77deb20ea792f84eb5e6d0a11ca0a8660a46",),
        page=f"{ZOO}bvlc_reference_caffenet",
    ),
    "googlenet": Archive(
        "bvlc_googlenet.caffemodel",
        (f"{BERKELEY}bvlc_googlenet.caffemodel", f"{NVIDIA}at8b1105ww1c5h7p30j5ko8qfnxrs0eg.caffemodel"),
        size=53_533_754,
        digests=("sha256:6f7101e3a2183738a7125a0c5021ba82a1feb4228c5ca0924d991b6daf6f6fad",),
        page=f"{ZOO}bvlc_googlenet",
    ),
}
# Its layers have the names and shapes of CaffeNet's, but it normalises before it pools. Known, to be refused.
ALEXNET = Archive(
    "bvlc_alexnet.caffemodel",
    (f"{BERKELEY}bvlc_alexnet.caffemodel", f"{NVIDIA}5j264j7mky11q8emy4q14w3r8hl5v6zh.caffemodel"),
    size=243_862_414,
    digests=("sha256:4bff209a9837298157915ef50a4831a59636a6ca1a6b8ebacd990c3a5f3053e0",),
    page=f"{ZOO}bvlc_alexnet",
)


def _released(
    name: str, parameters: int, mirrors: tuple[str, ...] = (), digests: tuple[str, ...] = ()
) -> Archive:
    """A file of the authors', which holds so many float32 ``parameters`` and a few kB more."""
    file = f"{name}.caffemodel"
    urls = (BERKELEY + file, *mirrors)
    return Archive(file, urls, at_least=4 * parameters, digests=digests, page=AUTHORS)


# The authors' nets, by the model directory that each fits. Only one checksum is known publicly.
RELEASED = {
    "voc-fcn-alexnet": _released("fcn-alexnet-pascal", 58_704_590),
    "voc-fcn32s": _released("fcn32s-heavy-pascal", 136_152_917),
    "voc-fcn16s": _released("fcn16s-heavy-pascal", 134_815_994),
    "voc-fcn8s": _released(
        "fcn8s-heavy-pascal",
        134_489_759,
        ("https://obs-model-ascend.obs.cn-east-2.myhuaweicloud.com/fcn-8s/fcn8s-heavy-pascal.caffemodel",),
        ("sha1:c449ea74dd7d83751d1357d6a8c323fcf4038962",),
    ),
    "voc-fcn8s-atonce": _released("fcn8s-atonce-pascal", 134_490_527),
    "nyud-fcn32s-color": _released("nyud-fcn32s-color-heavy", 140_978_024),
    "nyud-fcn32s-hha": _released("nyud-fcn32s-hha-heavy", 140_978_024),
    "nyud-fcn32s-color-hha": _released("nyud-fcn32s-color-hha-heavy", 275_402_448),
    "siftflow-fcn32s": _released("siftflow-fcn32s-heavy", 138_905_444),
    "siftflow-fcn16s": _released("siftflow-fcn16s-heavy", 135_568_424),
    "siftflow-fcn8s": _released("siftflow-fcn8s-heavy", 134_751_980),
    "pascalcontext-fcn32s": _released("pascalcontext-fcn32s-heavy", 149_251_964),
    "pascalcontext-fcn16s": _released("pascalcontext-fcn16s-heavy", 138_281_144),
    "pascalcontext-fcn8s": _released("pascalcontext-fcn8s-heavy", 135_589_364),
}


def megabytes(archive: Archive) -> int:
    """How large a weight file is, in MB, for messages."""
    return round((archive.size or archive.at_least) / 1e6)
