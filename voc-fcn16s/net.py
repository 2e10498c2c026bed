"""FCN-16s on PASCAL VOC: scores of pool4 are summed with FCN-32s's, twofold upsampled.

Paper, section 4.2 and Figure 3, second row.
"""

import nets


def fcn16s(n, recipe):
    nets.fcn(n, recipe, classes=21, skips=["pool4"])


MODEL = nets.Model(fcn16s, nets.VOC)

if __name__ == "__main__":
    MODEL.write(__file__)
