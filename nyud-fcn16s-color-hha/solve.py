"""Train the skip of both modalities from their FCN-32s (Table 4, last row)."""

import training

if __name__ == "__main__":
    training.main(__file__, training.stage("nyud-fcn32s-color-hha", "nyud-fcn32s-color-hha-heavy"), rounds=10)
