"""FCN-8s-atonce on PASCAL VOC: all skips trained together from VGG16, not stage by stage."""

import nets

# pool4 and pool3 are scaled down to fc7's size, so that one learning rate suits all three scores
SCALES = {"pool4": 0.01, "pool3": 0.0001}


def at_once(n, recipe):
    """FCN-8s with scaled skips."""
    nets.fcn(n, recipe, 21, skips=list(SCALES), scales=SCALES)


MODEL = nets.Model(at_once, nets.VOC)

if __name__ == "__main__":
    MODEL.write(__file__)
