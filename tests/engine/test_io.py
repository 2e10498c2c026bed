"""caffe.io: the Transformer, images, and arrays in protobuf messages."""

import caffe
import numpy as np
import pytest
from caffe import io
from caffe.proto import caffe_pb2
from PIL import Image

SHAPE = (4, 3, 6, 8)


@pytest.fixture
def random():
    return np.random.RandomState(0)


def transformer():
    made = io.Transformer({"data": SHAPE})
    made.set_transpose("data", (2, 0, 1))
    made.set_channel_swap("data", (2, 0, 1))  # not its own inverse
    made.set_raw_scale("data", 255)
    made.set_mean("data", np.array([1.0, 20.0, 100.0]))
    made.set_input_scale("data", 0.5)
    return made


# -- Transformer ------------------------------------------------------------------------------------------


def test_preprocess_is_this_formula(random):
    image = random.rand(6, 8, 3).astype(np.float32)
    given = image.copy()
    result = transformer().preprocess("data", image)
    expected = (image.transpose(2, 0, 1)[[2, 0, 1]] * 255 - np.array([1, 20, 100]).reshape(3, 1, 1)) * 0.5
    assert result.dtype == np.float32 and np.allclose(result, expected, atol=1e-4)
    assert np.array_equal(image, given)


def test_each_step_is_optional_and_never_changes_the_image(random):
    image = random.rand(3, 6, 8).astype(np.float32)
    plain = io.Transformer({"x": (1, 6, 3, 6)})
    assert np.array_equal(plain.preprocess("x", image), image)
    plain.set_raw_scale("x", 2)
    given = image.copy()
    assert np.array_equal(plain.preprocess("x", image), 2 * given) and np.array_equal(image, given)


def test_preprocess_resizes_what_does_not_fit(random):
    image = random.rand(12, 9, 3).astype(np.float32)
    made = io.Transformer({"data": SHAPE})
    assert np.array_equal(made.preprocess("data", image), io.resize_image(image, (6, 8)))


def test_deprocess_undoes_preprocess(random):
    image = random.rand(6, 8, 3).astype(np.float32)
    made = transformer()
    blob = made.preprocess("data", image)[np.newaxis]
    kept = blob.copy()
    assert np.allclose(made.deprocess("data", blob), image, atol=1e-6)
    assert np.array_equal(blob, kept)


def test_means_of_every_shape(random):
    made = io.Transformer({"data": SHAPE})
    for mean, expected in [
        (np.array([1, 2, 3]), np.array([1, 2, 3]).reshape(3, 1, 1)),
        (np.ones((6, 8)), np.ones((1, 6, 8))),
        (np.arange(144.0).reshape(3, 6, 8), np.arange(144.0).reshape(3, 6, 8)),
    ]:
        made.set_mean("data", mean)
        assert np.array_equal(made.mean["data"], expected)
    large = random.rand(3, 13, 17) * 255
    made.set_mean("data", large)
    assert np.allclose(
        made.mean["data"], io.resize_image(large.transpose(1, 2, 0), (6, 8)).transpose(2, 0, 1), atol=1e-4
    )
    made.set_mean("data", np.full((3, 13, 17), 7.0))  # a constant one has no range
    assert np.array_equal(made.mean["data"], np.full((3, 6, 8), 7))


@pytest.mark.parametrize(
    ("method", "value", "error", "words"),
    [
        ("set_transpose", (1, 0), Exception, "Transpose order needs"),
        ("set_channel_swap", (1, 0), Exception, "Channel swap needs"),
        ("set_mean", np.ones(4), ValueError, "Mean channels incompatible with input."),
        ("set_mean", np.ones((4, 6, 8)), ValueError, "Mean channels incompatible with input."),
        ("set_mean", np.ones((1, 3, 6, 8)), ValueError, "Mean shape invalid"),
    ],
)
def test_settings_that_do_not_fit_are_refused(method, value, error, words):
    made = io.Transformer({"data": SHAPE})
    with pytest.raises(error, match=words):
        getattr(made, method)("data", value)
    assert not (made.mean or made.transpose or made.channel_swap)


@pytest.mark.parametrize(
    "method",
    [
        "set_transpose",
        "set_channel_swap",
        "set_raw_scale",
        "set_mean",
        "set_input_scale",
        "preprocess",
        "deprocess",
    ],
)
def test_unknown_inputs_are_named(method):
    with pytest.raises(Exception, match=r"image is not one of the net inputs: .*data"):
        getattr(io.Transformer({"data": SHAPE}), method)("image", np.ones(3))


# -- images -----------------------------------------------------------------------------------------------


def saved(tmp_path, array, mode=None):
    path = tmp_path / "image.png"
    image = Image.fromarray(array)
    (image.convert(mode) if mode else image).save(path)
    return str(path)


def test_load_image_gives_rgb_or_gray_between_0_and_1(tmp_path, random):
    rgb = random.randint(0, 256, (5, 7, 3)).astype(np.uint8)
    image = io.load_image(saved(tmp_path, rgb))
    assert image.dtype == np.float32 and np.array_equal(image, rgb / np.float32(255))
    gray = io.load_image(saved(tmp_path, rgb), color=False)
    assert gray.shape == (5, 7, 1) and np.allclose(
        gray[:, :, 0], rgb / 255 @ [0.2125, 0.7154, 0.0721], atol=1e-6
    )


@pytest.mark.parametrize("mode", ["L", "LA", "1", "RGBA", "P", "I;16"])
def test_load_image_of_every_kind(tmp_path, random, mode):
    gray = random.randint(0, 2, (5, 7)).astype(np.uint8) * 255
    if mode == "I;16":
        path = saved(tmp_path, gray.astype(np.uint16) * 257)
    elif mode == "RGBA":
        path = saved(tmp_path, np.dstack([gray, gray, gray, 255 - gray]))
    else:
        path = saved(tmp_path, gray, mode)
    assert np.array_equal(io.load_image(path), np.dstack([gray] * 3) / np.float32(255))
    assert np.array_equal(io.load_image(path, color=False)[:, :, 0].round(6), gray / np.float32(255))


def test_what_is_no_image_is_an_oserror_that_names_the_file(tmp_path, random):
    with pytest.raises(FileNotFoundError, match=r"missing\.png"):
        io.load_image("missing.png")
    text = tmp_path / "text.png"
    text.write_text("not an image")
    with pytest.raises(OSError, match=r"text\.png: not a readable image"):
        io.load_image(text)
    whole = saved(tmp_path, random.randint(0, 256, (40, 40, 3)).astype(np.uint8))
    half = tmp_path / "half.png"
    half.write_bytes(open(whole, "rb").read()[:900])
    with pytest.raises(OSError, match=r"half\.png: not a readable image"):
        io.load_image(half)


def bilinear(image, height, width):
    """Centres of pixels aligned, the smallest value beyond the border: in loops, to be compared with."""
    low = image.min()
    padded = np.pad(image, ((1, 1), (1, 1), (0, 0)), constant_values=low)
    result = np.zeros((height, width, image.shape[2]))
    for i in range(height):
        for j in range(width):
            y = (i + 0.5) * image.shape[0] / height - 0.5 + 1
            x = (j + 0.5) * image.shape[1] / width - 0.5 + 1
            a, b = int(y), int(x)
            v, u = y - a, x - b
            result[i, j] = (1 - v) * ((1 - u) * padded[a, b] + u * padded[a, b + 1]) + v * (
                (1 - u) * padded[a + 1, b] + u * padded[a + 1, b + 1]
            )
    return result


@pytest.mark.parametrize("dims", [(5, 4), (20, 31), (7, 9), (3, 30), (1, 1)])
@pytest.mark.parametrize("channels", [1, 3])
def test_resize_is_bilinear_with_aligned_centres(random, dims, channels):
    image = random.rand(7, 9, channels).astype(np.float32) * 50 - 20
    result = io.resize_image(image, dims)
    assert result.dtype == np.float32 and result.shape == (*dims, channels)
    assert np.allclose(result, bilinear(image, *dims), atol=1e-4)


def test_resize_numbers_of_scikit_image():
    """Of 0.25: 3 * resize(x / 3, (3, 3), order=1, mode="constant", anti_aliasing=False)."""
    image = np.arange(4, dtype=np.float32).reshape(2, 2, 1)
    expected = [
        [0, 0.41666667, 0.69444444],
        [0.83333333, 1.5, 1.66666667],
        [1.38888889, 2.08333333, 2.08333333],
    ]
    assert np.allclose(io.resize_image(image, (3, 3))[:, :, 0], expected, atol=1e-6)


def test_resize_of_constant_images_and_other_orders(random):
    assert np.array_equal(
        io.resize_image(np.full((4, 4, 3), 7, np.uint8), (3, 2)), np.full((3, 2, 3), 7, np.float32)
    )
    image = random.rand(6, 6, 3)
    nearest = io.resize_image(image, (3, 3), interp_order=0)
    assert np.isin(nearest.round(5), image.astype(np.float32).round(5)).all()
    assert io.resize_image(image, (9, 9), interp_order=3).max() <= np.float32(image.max())


@pytest.mark.parametrize(("shape", "dims"), [((4, 4), (2, 2)), ((4, 4, 3), (0, 2)), ((0, 4, 3), (2, 2))])
def test_what_cannot_be_resized_is_refused(shape, dims):
    with pytest.raises(ValueError, match="cannot resize an image of shape"):
        io.resize_image(np.zeros(shape), dims)


def test_resize_of_many_channels_aligns_the_corners(random):
    image = random.rand(4, 5, 6)
    result = io.resize_image(image, (7, 9))
    assert result.shape == (7, 9, 6)
    assert np.allclose(result[::2, ::2], image, atol=1e-6)
    assert np.allclose(result[1, 0], (image[0, 0] + image[1, 0]) / 2, atol=1e-6)


def test_oversample_takes_corners_centre_and_their_mirrors(random):
    images = random.rand(2, 7, 9, 3)
    crops = io.oversample(images, (4, 5))
    assert crops.shape == (20, 4, 5, 3) and crops.dtype == np.float32
    for n, image in enumerate(images.astype(np.float32)):
        for k, (y, x) in enumerate([(0, 0), (0, 4), (3, 0), (3, 4), (1, 2)]):
            crop = image[y : y + 4, x : x + 5]
            assert np.array_equal(crops[10 * n + k], crop)
            assert np.array_equal(crops[10 * n + 5 + k], crop[:, ::-1])
    with pytest.raises(ValueError, match="crops of 8×5 from images of 7×9"):
        io.oversample(images, (8, 5))


# -- protobuf ---------------------------------------------------------------------------------------------


def test_arrays_go_into_blobprotos_and_back(random):
    array, diff = random.rand(2, 3, 4).astype(np.float32), random.rand(2, 3, 4).astype(np.float32)
    blob = io.array_to_blobproto(array, diff)
    assert list(blob.shape.dim) == [2, 3, 4] and not blob.HasField("num")
    back = io.blobproto_to_array(blob)
    assert back.dtype == np.float64 and np.array_equal(back, array)
    assert np.array_equal(io.blobproto_to_array(blob, return_diff=True), diff)
    text = io.arraylist_to_blobprotovector_str([array, diff[0]])
    assert isinstance(text, bytes)
    first, second = io.blobprotovector_str_to_arraylist(text)
    assert np.array_equal(first, array) and np.array_equal(second, diff[0])


def test_old_double_and_broken_blobprotos():
    assert io.blobproto_to_array(
        caffe_pb2.BlobProto(channels=2, num=1, height=1, width=1, data=[1, 2])
    ).shape == (
        1,
        2,
        1,
        1,
    )
    double = caffe_pb2.BlobProto(double_data=[0.1, 0.2], shape=caffe_pb2.BlobShape(dim=[2]))
    assert io.blobproto_to_array(double).tolist() == [0.1, 0.2]
    assert io.blobproto_to_array(caffe_pb2.BlobProto(data=[5])).shape == ()
    with pytest.raises(ValueError):
        io.blobproto_to_array(caffe_pb2.BlobProto(data=[1, 2]))


def test_a_mean_file_is_read_as_the_tutorials_do(tmp_path):
    mean = np.arange(24.0).reshape(1, 2, 3, 4)
    (tmp_path / "mean.binaryproto").write_bytes(io.array_to_blobproto(mean).SerializeToString())
    blob = caffe.io.caffe_pb2.BlobProto()
    blob.ParseFromString((tmp_path / "mean.binaryproto").read_bytes())
    assert np.array_equal(caffe.io.blobproto_to_array(blob)[0], mean[0])


def test_datums(random):
    pixels = random.randint(0, 256, (3, 4, 5)).astype(np.uint8)
    datum = io.array_to_datum(pixels, 7)
    assert (datum.channels, datum.height, datum.width, datum.label) == (3, 4, 5, 7)
    assert datum.data == pixels.tobytes() and not datum.float_data
    back = io.datum_to_array(datum)
    assert back.dtype == np.uint8 and np.array_equal(back, pixels)
    back[0] = 0  # writable
    floats = io.array_to_datum(pixels / 3.0)
    assert not floats.data and not floats.HasField("label")
    back = io.datum_to_array(floats)
    assert back.dtype == np.float64 and np.allclose(back, pixels / 3.0, rtol=1e-6)


def test_datums_refuse_other_shapes_and_encoded_images():
    with pytest.raises(ValueError, match="Incorrect array shape"):
        io.array_to_datum(np.zeros((2, 2)))
    with pytest.raises(ValueError):
        io.datum_to_array(caffe_pb2.Datum(channels=1, height=2, width=2, data=b"abc"))
    with pytest.raises(ValueError, match="encoded"):
        io.datum_to_array(caffe_pb2.Datum(encoded=True, data=b"abc"))
