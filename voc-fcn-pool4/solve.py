"""Train scores on VGG16's pool4; what lies above it in the weight file is left out."""

import training

if __name__ == "__main__":
    training.main(__file__, training.classifier("vgg16"), rounds=25)
