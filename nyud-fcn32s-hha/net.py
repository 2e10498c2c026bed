"""FCN-32s on NYUDv2's depth as HHA: disparity, height above ground, angle with gravity (Table 4, HHA)."""

import nets


def hha(n, recipe):
    """HHA has three channels, so the net is the one that sees colour."""
    nets.fcn(n, recipe, classes=40)


MODEL = nets.Model(build=hha, data=nets.nyud("hha"))

if __name__ == "__main__":
    MODEL.write(__file__)
