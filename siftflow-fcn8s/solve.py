"""Train FCN-8s on SIFT Flow from FCN-16s."""

import training

if __name__ == "__main__":
    training.main(__file__, training.stage("siftflow-fcn16s", "siftflow-fcn16s-heavy"), rounds=10)
