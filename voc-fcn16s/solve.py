"""Train FCN-16s from FCN-32s: the new scores of pool4 start at zero (paper, section 4.2)."""

import training

FILES = ("../voc-fcn32s/snapshot/train_iter_*.caffemodel", "../voc-fcn32s/fcn32s-heavy-pascal.caffemodel")
HOW = "cd voc-fcn32s && python solve.py, or put the authors' fcn32s-heavy-pascal.caffemodel there"

if __name__ == "__main__":
    training.main(__file__, training.Parent("voc-fcn32s", FILES, HOW), rounds=10)
