"""Train the scores of FCN-32s and leave VGG16 as it is (Table 2, first row)."""

import training

if __name__ == "__main__":
    training.main(__file__, training.classifier("vgg16"), rounds=25)
