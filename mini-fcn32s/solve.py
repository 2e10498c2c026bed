"""Train mini-FCN-32s on three photographs, from random weights: no parent, no download."""

import training

if __name__ == "__main__":
    training.main(__file__, rounds=3)
