"""Train FCN-32s from VGG16, an ImageNet classifier made convolutional (paper, section 4.1)."""

import training

VGG16 = training.Parent(
    name="ilsvrc-nets (VGG16)",
    files=("../ilsvrc-nets/vgg16-fcn.caffemodel",),
    how="cd ilsvrc-nets && python convert.py VGG_ILSVRC_16_layers.caffemodel (which says where that file is)",
)

if __name__ == "__main__":
    training.main(__file__, VGG16, rounds=25, iterations=400)
