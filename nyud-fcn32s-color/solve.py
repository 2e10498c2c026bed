"""Train FCN-32s on NYUDv2's colour images from VGG16 (section 5)."""

import training

if __name__ == "__main__":
    training.main(__file__, training.classifier("vgg16"), rounds=25)
