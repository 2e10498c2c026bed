"""Crop against slices."""

import numpy as np
import pytest
from layer_check import Rig, check_gradient, noise, refuses

TEXT = 'type: "Crop" crop_param { %s }'


@pytest.mark.parametrize(
    ("fields", "source", "reference", "part"),
    [
        ("", (2, 3, 5, 6), (1, 1, 2, 4), np.s_[:, :, :2, :4]),
        ("offset: 2", (2, 3, 5, 6), (1, 1, 2, 4), np.s_[:, :, 2:4, 2:6]),
        ("offset: 3 offset: 1", (2, 3, 5, 6), (1, 1, 2, 4), np.s_[:, :, 3:5, 1:5]),
        ("axis: 1 offset: 1 offset: 0 offset: 2", (2, 3, 4, 5), (9, 2, 4, 2), np.s_[:, 1:3, :, 2:4]),
        ("axis: -1 offset: 3", (2, 3, 5), (1, 1, 2), np.s_[:, :, 3:5]),
        ("axis: 0 offset: 1", (4, 3), (2, 1), np.s_[1:3, 1:2]),
        ("", (1, 2, 3, 3), (1, 1, 3, 3), np.s_[:]),
        ("axis: 1", (2, 4), (7, 2, 5), np.s_[:, :2]),
    ],
)
def test_values_and_gradients(fields, source, reference, part):
    rig = check_gradient(TEXT % fields, noise(*source), noise(*reference, seed=1))
    assert np.array_equal(rig.top[0].data, rig.bottom[0].data[part])
    assert (rig.bottom[1].diff == 0).all()


def test_the_size_is_read_at_every_forward():
    rig = Rig(TEXT % "offset: 1", noise(1, 2, 6, 6), noise(1, 1, 3, 3))
    rig.bottom[1].reshape(1, 1, 5, 2)
    assert np.array_equal(rig.forward()[0], rig.bottom[0].data[:, :, 1:6, 1:3])
    rig.bottom[1].reshape(1, 1, 6, 2)
    with pytest.raises(
        RuntimeError, match="the crop for dimension 2 is out-of-bounds with size 6 and offset 1"
    ):
        rig.forward()


@pytest.mark.parametrize(
    ("fields", "source", "reference", "message"),
    [
        (
            "offset: 3",
            (1, 1, 5, 5),
            (1, 1, 2, 3),
            "the crop for dimension 3 is out-of-bounds with size 3 and offset 3",
        ),
        (
            "",
            (1, 1, 5, 5),
            (1, 1, 6, 3),
            "the crop for dimension 2 is out-of-bounds with size 6 and offset 0",
        ),
        (
            "axis: 1 offset: 1 offset: 2",
            (1, 4, 5, 5),
            (1, 1, 2, 3),
            "number of offset values specified must be equal to the number of dimensions following axis.",
        ),
        ("axis: 4", (1, 1, 5, 5), (1, 1, 2, 3), "axis 4 out of range for 4-D Blob with shape 1x1x5x5"),
        ("", (1, 1, 5, 5), (5, 5), "bottom[1] needs as many axes as bottom[0]"),
    ],
)
def test_refusals(fields, source, reference, message):
    refuses(message, TEXT % fields, source, reference)
