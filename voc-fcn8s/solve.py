"""Train FCN-8s from FCN-16s, as that was from FCN-32s: the scores of pool3 start at zero (section 4.2)."""

import training

FILES = ("../voc-fcn16s/snapshot/train_iter_*.caffemodel", "../voc-fcn16s/fcn16s-heavy-pascal.caffemodel")
HOW = "cd voc-fcn16s && python solve.py, or put the authors' fcn16s-heavy-pascal.caffemodel there"

if __name__ == "__main__":
    training.main(__file__, training.Parent("voc-fcn16s", FILES, HOW), rounds=10)
