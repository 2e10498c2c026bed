"""The fast way through a net when nobody looks inside: what :mod:`caffe.whole` runs instead of layer after layer.

    plan.py        which layers of a net run together in testing, and how
    training.py    the same in training
    chain.py       the layers from the image to where the net branches: runs of convolution, ReLU and pooling
    spans.py       which cells of a map a window reaches, axis by axis: what depends on the image, what on the frame
    layout.py      how much of a chain to compute for the image alone
    border.py      to compute that, its constant surroundings from a small blank image
    kernels.py     convolutions on weights prepared once, in oneDNN's layout
    winograd.py    3 x 3 convolutions with fewer multiplications
    upsampling.py  upsampling channel by channel, an axis at a time
    products.py    convolutions with more weights than inputs as matrix products, in training

Each has its plain twin, the layers' own ``compute``, and tests/engine/test_fast*.py hold one against the other.
"""
