"""Scores from pool4 alone, on PASCAL VOC: what section 4.2 holds against skips that do without fc7."""

import nets
import trunks


def pool4_alone(n, recipe):
    """VGG16 up to pool4, at stride 16."""
    features = trunks.vgg16(n, recipe, until="pool4")
    nets.predict(n, recipe, nets.Head(21), {"": features}, (), n.data, stride=16, start="pool4")


MODEL = nets.Model(pool4_alone, nets.VOC, recipes={"train": nets.PAPER})

if __name__ == "__main__":
    MODEL.write(__file__)
