"""Train FCN-16s on SIFT Flow from FCN-32s; each head's new scores start at zero."""

import training

if __name__ == "__main__":
    training.main(__file__, training.stage("siftflow-fcn32s", "siftflow-fcn32s-heavy"), rounds=10)
