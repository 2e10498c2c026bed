"""The fast way through a net when nobody looks inside: what :mod:`caffe.whole` runs instead of layer after layer.

    plan.py     which layers of a net run together, and how
    chain.py    the layers from the image to where the net branches: runs of convolution, ReLU and pooling
    spans.py    which cells of a map a window reaches, axis by axis: what depends on the image, what on the frame
    border.py   the constant border: a chain computed for the image alone, its surroundings from a small blank one
    kernels.py  a layer's computation on weights prepared once: oneDNN's layout, Winograd, per channel, bfloat16

Each has its plain twin, the layers' own ``compute``, and tests/engine/test_fast*.py hold one against the other.
"""
