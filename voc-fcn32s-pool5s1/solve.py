"""Train FCN-32s with pool5 at stride 1 from VGG16, whose fc6 sees the denser pool5 through holes (section 3.2)."""

import surgery
import training


def through_holes(net, vgg16):
    """fc6 with zeros between its values starts by giving what it gave, twice as densely."""
    return surgery.rarefy(net, "fc6", vgg16, "fc6", factor=2)


if __name__ == "__main__":
    training.main(__file__, training.classifier("vgg16", changed="fc6", change=through_holes), rounds=25)
