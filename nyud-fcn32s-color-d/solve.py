"""Train FCN-32s on NYUDv2's colour and depth from VGG16, whose first layer learns to see depth."""

import surgery
import training


def four_channels(net, vgg16):
    """Depth starts with the mean of the weights of blue, green and red."""
    return surgery.widen(net, "conv1_1_bgrd", vgg16, "conv1_1", "average")


if __name__ == "__main__":
    training.main(
        __file__, training.classifier("vgg16", changed="conv1_1_bgrd", change=four_channels), rounds=25
    )
