"""FCN-32s on NYUDv2's colour images: 40 classes of things in rooms (Table 4, RGB)."""

import nets


def color(n, recipe):
    """The net of voc-fcn32s with 40 classes."""
    nets.fcn(n, recipe, 40)


MODEL = nets.Model(color, nets.nyud("color"))

if __name__ == "__main__":
    MODEL.write(__file__)
