"""Train FCN-32s on PASCAL-Context from VGG16."""

import training

if __name__ == "__main__":
    training.main(__file__, training.classifier("vgg16"), rounds=25)
