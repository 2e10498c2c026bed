"""Train mini-FCN-8s on three photographs, from random weights: no parent, no download, a few minutes."""

import training

if __name__ == "__main__":
    training.main(__file__, rounds=3)
