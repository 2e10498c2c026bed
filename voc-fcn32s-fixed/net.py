"""FCN-32s-fixed on PASCAL VOC (Table 2): only the scores learn, on features as ImageNet left them."""

import nets

FEATURES_AS_THEY_ARE = nets.Recipe(learn_trunk=False)


def fixed(n, recipe):
    """The net of voc-fcn32s; the recipe makes the difference."""
    nets.fcn(n, recipe, 21)


MODEL = nets.Model(fixed, nets.VOC, {"train": FEATURES_AS_THEY_ARE})

if __name__ == "__main__":
    MODEL.write(__file__)
