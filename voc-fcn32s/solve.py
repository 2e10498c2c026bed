"""Train FCN-32s from VGG16, an ImageNet classifier made convolutional (paper, section 4.1)."""

import training

FILES = ("../ilsvrc-nets/vgg16-fcn.caffemodel",)
HOW = "cd ilsvrc-nets && python convert.py, which makes it of VGG's published file and says where that is"

if __name__ == "__main__":
    training.main(__file__, training.Parent("vgg16-fcn", FILES, HOW), rounds=25)
