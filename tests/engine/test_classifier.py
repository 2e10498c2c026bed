"""caffe.Classifier."""

import caffe
import numpy as np
import pytest
from image_net import CLASSES, SETTINGS, SIDE, probabilities, write_files


@pytest.fixture
def files(tmp_path):
    return write_files(tmp_path)


@pytest.fixture
def images():
    return list(np.random.RandomState(1).rand(4, SIDE, SIDE, 3).astype(np.float32))


def test_it_is_a_net_with_a_transformer_for_its_input(files):
    classifier = caffe.Classifier(*files, **SETTINGS, input_scale=2)
    assert isinstance(classifier, caffe.Net) and classifier.outputs == ["prob"]
    assert list(classifier.crop_dims) == list(classifier.image_dims) == [SIDE, SIDE]
    transformer = classifier.transformer
    assert transformer.transpose == {"data": (2, 0, 1)} and transformer.input_scale == {"data": 2}
    assert transformer.raw_scale == {"data": 255} and transformer.channel_swap == {"data": (2, 1, 0)}


def test_it_classifies_more_images_than_a_batch_holds(files, images):
    classifier = caffe.Classifier(*files, **SETTINGS)
    result = classifier.predict(images, oversample=False)
    assert result.shape == (4, CLASSES)
    assert np.allclose(result, probabilities(classifier, images), atol=1e-5)


def test_without_oversampling_it_takes_the_centre(files):
    classifier = caffe.Classifier(*files, image_dims=(SIDE + 3, SIDE + 4), **SETTINGS)
    image = np.random.RandomState(2).rand(SIDE + 3, SIDE + 4, 3).astype(np.float32)
    expected = probabilities(classifier, [image[1 : 1 + SIDE, 2 : 2 + SIDE]])
    assert np.allclose(classifier.predict([image], oversample=False), expected, atol=1e-5)


def test_with_oversampling_it_averages_ten_crops(files, images):
    classifier = caffe.Classifier(*files, image_dims=(SIDE + 2, SIDE + 4), **SETTINGS)
    result = classifier.predict(images[:2])
    resized = [caffe.io.resize_image(image, (SIDE + 2, SIDE + 4)) for image in images[:2]]
    crops = caffe.io.oversample(resized, (SIDE, SIDE))
    expected = probabilities(classifier, crops).reshape(2, 10, CLASSES).mean(1)
    assert result.shape == (2, CLASSES) and np.allclose(result, expected, atol=1e-5)


def test_image_dims_below_the_input_are_refused(files):
    with pytest.raises(
        caffe.CaffeError, match=r"image_dims \(4, 9\) are smaller than the net's input, \(8, 8\)"
    ):
        caffe.Classifier(*files, image_dims=(4, 9))


def test_missing_files_are_named(files):
    with pytest.raises(RuntimeError, match="Could not open file nowhere"):
        caffe.Classifier("nowhere.prototxt", files[1])
    with pytest.raises(RuntimeError, match="Could not open file nowhere"):
        caffe.Classifier(files[0], "nowhere.caffemodel")


def test_nets_without_an_image_for_input_are_refused(files, tmp_path):
    flat = 'layer { name: "in" type: "Input" top: "x" input_param { shape { dim: 2 dim: 3 } } }'
    for text, words in ((flat, r"'x' has shape \(2, 3\)"), ("name: 'empty'", "it has no Input layer")):
        (tmp_path / "other.prototxt").write_text(text)
        for kind in (caffe.Classifier, caffe.Detector):
            with pytest.raises(caffe.CaffeError, match=rf"other\.prototxt: images need a net .*{words}"):
                kind(str(tmp_path / "other.prototxt"), files[1])
