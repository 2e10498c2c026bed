"""FCN-16s an eighth as wide, on three photographs: the second stage in miniature."""

import nets


def mini_fcn16s(n, recipe):
    """voc-fcn16s, of which all but the scores of pool4 starts as mini-fcn32s left it."""
    nets.fcn(n, recipe, 21, ["pool4"])


MODEL = nets.Model(mini_fcn16s, nets.VOC_SAMPLE, recipes={"train": nets.MINI})

if __name__ == "__main__":
    MODEL.write(__file__)
