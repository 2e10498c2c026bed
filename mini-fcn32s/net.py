"""FCN-32s an eighth as wide, on three photographs: the first of the paper's three stages in miniature."""

import nets


def mini_fcn32s(n, recipe):
    """voc-fcn32s from random weights."""
    nets.fcn(n, recipe, 21, skips=[])


MODEL = nets.Model(mini_fcn32s, nets.VOC_SAMPLE, {"train": nets.MINI})

if __name__ == "__main__":
    MODEL.write(__file__)
