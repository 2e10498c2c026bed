"""Train FCN-AlexNet from CaffeNet made convolutional (section 4.1)."""

import training

if __name__ == "__main__":
    training.main(__file__, training.classifier("caffenet"), rounds=25)
