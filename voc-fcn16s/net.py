"""FCN-16s on PASCAL VOC (paper, section 4.2; Figure 3, second row)."""

import nets


def fcn16s(n, recipe):
    """FCN-32s's scores, upsampled twofold, are summed with scores of pool4."""
    nets.fcn(n, recipe, classes=21, skips=["pool4"])


MODEL = nets.Model(fcn16s, nets.VOC)

if __name__ == "__main__":
    MODEL.write(__file__)
