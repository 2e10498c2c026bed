"""FCN-32s on NYUDv2's colour and HHA: a trunk for each, their scores averaged (Table 4, RGB-HHA)."""

import nets
import trunks


def late_fusion(n, recipe):
    """Two whole nets that meet in their scores, and are trained jointly."""
    both = {each: trunks.vgg16(n, recipe, data=each, suffix=each) for each in ("color", "hha")}
    nets.predict(n, recipe, nets.Head(40), both, [], n.color)


MODEL = nets.Model(late_fusion, nets.nyud("color", "hha"))

if __name__ == "__main__":
    MODEL.write(__file__)
