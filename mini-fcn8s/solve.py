"""Train mini-FCN-8s on three photographs: from mini-FCN-16s if that was trained, else from random weights."""

import training

if __name__ == "__main__":
    training.main(__file__, training.stage("mini-fcn16s", optional=True), rounds=3)
