"""Train FCN-16s from FCN-32s: the new scores of pool4 start at zero (paper, section 4.2)."""

import training

if __name__ == "__main__":
    training.main(__file__, training.stage("voc-fcn32s", "fcn32s-heavy-pascal"), rounds=10)
