"""FCN-GoogLeNet on PASCAL VOC (Table 1): the final loss only, and no average pooling (section 4.1)."""

import nets
import trunks


def inception(n, recipe):
    """Scores of the last inception module, upsampled 32 times.

    An output pixel k lies at 32 k - 67 in the image, counted from conv1's border of 100: the convolution
    takes 97 off and halves, four poolings over 3x3 add 1 + 2 + 4 + 8 pixels at stride 2. The middle of the
    upsampling kernel is its pixel 31; so the image begins 98 pixels in.
    """
    nets.fcn(n, recipe, trunk=trunks.googlenet, kernel=63, offset=98, classes=21)


MODEL = nets.Model(inception, data=nets.VOC, recipes={"train": nets.PAPER})

if __name__ == "__main__":
    MODEL.write(__file__)
