"""Train FCN-8s on PASCAL-Context from FCN-16s."""

import training

if __name__ == "__main__":
    training.main(__file__, training.stage("pascalcontext-fcn16s", "pascalcontext-fcn16s-heavy"), rounds=10)
