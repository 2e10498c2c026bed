"""Train FCN-8s from FCN-16s, as that was from FCN-32s, with pool3 in place of pool4 (section 4.2)."""

import training

FCN16S = training.Parent(
    name="voc-fcn16s",
    files=("../voc-fcn16s/snapshot/train_iter_*.caffemodel", "../voc-fcn16s/fcn16s-heavy-pascal.caffemodel"),
    how="cd voc-fcn16s && python solve.py, or put the authors' fcn16s-heavy-pascal.caffemodel there",
)

if __name__ == "__main__":
    training.main(__file__, FCN16S, rounds=10, iterations=400)
