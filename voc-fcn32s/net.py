"""FCN-32s on PASCAL VOC, called FCN-VGG16 in Table 1 (paper, section 4.1; Figure 3, first row)."""

import nets


def fcn32s(n, recipe):
    """VGG16 made convolutional; its scores, at stride 32, are upsampled to pixels in one step."""
    nets.fcn(n, recipe, classes=21)


MODEL = nets.Model(fcn32s, nets.VOC)

if __name__ == "__main__":
    MODEL.write(__file__)
