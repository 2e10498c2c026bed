"""FCN-8s on PASCAL VOC, the finest net of the paper (section 4.2; Figure 3, third row)."""

import nets


def fcn8s(n, recipe):
    """FCN-16s's scores, upsampled twofold, are summed with scores of pool3."""
    nets.fcn(n, recipe, classes=21, skips=["pool4", "pool3"])


MODEL = nets.Model(fcn8s, nets.VOC)

if __name__ == "__main__":
    MODEL.write(__file__)
