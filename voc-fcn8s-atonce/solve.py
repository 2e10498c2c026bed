"""Train FCN-8s straight from VGG16: no stages, all scores start at zero together."""

import training

if __name__ == "__main__":
    training.main(__file__, training.classifier("vgg16"), rounds=25)
