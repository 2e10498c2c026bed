"""FCN-32s on PASCAL VOC: VGG16 made convolutional, its scores upsampled 32 times in one step.

Paper, section 4.1 and Figure 3, first row; Table 1 calls it FCN-VGG16.
"""

import nets


def fcn32s(n, recipe):
    nets.fcn(n, recipe, classes=21)


MODEL = nets.Model(fcn32s, nets.VOC)

if __name__ == "__main__":
    MODEL.write(__file__)
