"""Train the geometric head alone, from VGG16."""

import training

if __name__ == "__main__":
    training.main(__file__, training.classifier("vgg16"), rounds=25)
