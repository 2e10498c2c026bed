"""A small classifier, its files and some image files, for the tests of Classifier, Detector and the notebooks."""

import caffe
import numpy as np
from PIL import Image

SIDE, CLASSES, BATCH = 8, 4, 3
TEXT = f"""
layer {{ name: "data" type: "Input" top: "data"
  input_param {{ shape {{ dim: {BATCH} dim: 3 dim: {SIDE} dim: {SIDE} }} }} }}
layer {{ name: "ip" type: "InnerProduct" bottom: "data" top: "ip"
  inner_product_param {{ num_output: {CLASSES} weight_filler {{ type: "gaussian" std: 0.001 }} }} }}
layer {{ name: "prob" type: "Softmax" bottom: "ip" top: "prob" }}
"""
MEAN = np.array([104.0, 117.0, 123.0])
SETTINGS = {"mean": MEAN, "raw_scale": 255, "channel_swap": (2, 1, 0)}


def write_files(folder):
    """The prototxt and the weights of the classifier, written into ``folder``: two paths."""
    model, weights = str(folder / "deploy.prototxt"), str(folder / "net.caffemodel")
    (folder / "deploy.prototxt").write_text(TEXT)
    caffe.Net(model, caffe.TEST).save(weights)
    return model, weights


def write_image(path, height, width, seed=0):
    """Random pixels as a PNG at ``path``; returns what ``caffe.io.load_image`` should make of it."""
    pixels = np.random.RandomState(seed).randint(0, 256, (height, width, 3)).astype(np.uint8)
    Image.fromarray(pixels).save(path)
    return pixels / np.float32(255)


def probabilities(net, images):
    """By NumPy: what ``net`` should give for N×SIDE×SIDE×3 images between 0 and 1."""
    x = (np.asarray(images, np.float64).transpose(0, 3, 1, 2)[:, ::-1] * 255 - MEAN.reshape(3, 1, 1)).reshape(
        len(images), -1
    )
    weights, bias = (blob.data.astype(np.float64) for blob in net.params["ip"])
    scores = np.exp(x @ weights.T + bias)
    return scores / scores.sum(1, keepdims=True)
