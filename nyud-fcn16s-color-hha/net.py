"""FCN-16s on NYUDv2's colour and HHA, the best of Table 4; its weights were never released."""

import nets
import trunks

MODALITIES = ("color", "hha")


def late_fusion_with_skip(n, recipe):
    """Both trunks' pool4 give scores, averaged as those of fc7 are."""
    features = {name: trunks.vgg16(n, recipe, name, name) for name in MODALITIES}
    nets.predict(n, recipe, nets.Head(40), features, skips=["pool4"], like=n.color)


MODEL = nets.Model(late_fusion_with_skip, nets.nyud(*MODALITIES))

if __name__ == "__main__":
    MODEL.write(__file__)
