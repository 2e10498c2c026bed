"""Train FCN-8s from FCN-16s, as that was from FCN-32s: the scores of pool3 start at zero (section 4.2)."""

import training

if __name__ == "__main__":
    training.main(__file__, training.stage("voc-fcn16s", "fcn16s-heavy-pascal"), rounds=10)
