"""Train FCN-16s from FCN-32s: the new scores of pool4 start at zero (paper, section 4.2)."""

import training

FCN32S = training.Parent(
    name="voc-fcn32s",
    files=("../voc-fcn32s/snapshot/train_iter_*.caffemodel", "../voc-fcn32s/fcn32s-heavy-pascal.caffemodel"),
    how="cd voc-fcn32s && python solve.py, or put the authors' fcn32s-heavy-pascal.caffemodel there",
)

if __name__ == "__main__":
    training.main(__file__, FCN32S, rounds=10, iterations=400)
