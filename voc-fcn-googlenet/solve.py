"""Train FCN-GoogLeNet from the published GoogLeNet; the paper had one of its own (footnote 4)."""

import training

if __name__ == "__main__":
    training.main(__file__, training.classifier("googlenet"), rounds=25)
