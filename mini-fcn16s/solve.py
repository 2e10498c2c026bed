"""Train mini-FCN-16s from mini-FCN-32s."""

import training

if __name__ == "__main__":
    training.main(__file__, training.stage("mini-fcn32s"), rounds=3)
