"""FCN-8s an eighth as wide, from scratch on three photographs: what a laptop trains in minutes."""

import nets

# All three skips' scores learn at once here, with nothing pretrained that they could disturb. Dropout
# keeps too little of a net this narrow, so there is none.
RECIPE = nets.Recipe(divide=8, from_scratch=True, dropout=0, learn_upsampling=False)


def mini_fcn8s(n, recipe):
    nets.fcn(n, recipe, 21, ["pool4", "pool3"])


MODEL = nets.Model(mini_fcn8s, nets.VOC_SAMPLE, {"train": RECIPE})

if __name__ == "__main__":
    MODEL.write(__file__)
