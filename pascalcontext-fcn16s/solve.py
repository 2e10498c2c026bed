"""Train FCN-16s on PASCAL-Context from FCN-32s."""

import training

if __name__ == "__main__":
    training.main(__file__, training.stage("pascalcontext-fcn32s", "pascalcontext-fcn32s-heavy"), rounds=10)
