"""Train FCN-32s from VGG16, an ImageNet classifier made convolutional (paper, section 4.1)."""

import training

if __name__ == "__main__":
    training.main(__file__, training.classifier("vgg16"), rounds=25)
