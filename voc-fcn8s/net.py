"""FCN-8s on PASCAL VOC: scores of pool3 join those of FCN-16s, the finest net of the paper.

Section 4.2 and Figure 3, third row.
"""

import nets


def fcn8s(n, recipe):
    nets.fcn(n, recipe, classes=21, skips=["pool4", "pool3"])


MODEL = nets.Model(fcn8s, nets.VOC)

if __name__ == "__main__":
    MODEL.write(__file__)
