"""Train FCN-32s on NYUDv2's HHA from VGG16: weights for colours do for disparity, height and angle."""

import training

if __name__ == "__main__":
    training.main(__file__, training.classifier("vgg16"), rounds=25)
