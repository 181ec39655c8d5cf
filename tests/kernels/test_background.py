"""The background of an image: Otsu's threshold as scikit-image has it, one object, its holes filled."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from nmfuse.kernels import detect_background
from nmfuse.kernels.background import otsu_threshold

# skimage.filters.threshold_otsu of scikit-image 0.26 with 256 bins, of `made(kind, shape)` with all axes but one joined
OTSU = {
    ("even", (37, 53)): 0.4978212080416067,
    ("even", (5, 11, 13)): 0.4974560712327106,
    ("two", (37, 53)): 0.13369038853626608,
    ("two", (5, 11, 13)): 0.13368874184085341,
    ("levels", (37, 53)): 0.427734375,
    ("levels", (5, 11, 13)): 0.427734375,
    ("skewed", (37, 53)): -2.6510238318951673,
    ("skewed", (5, 11, 13)): -2.652046559881502,
    ("sparse", (37, 53)): 0.087890625,
    ("sparse", (5, 11, 13)): 0.087890625,
    ("tie", (37, 53)): 0.001953125,  # every threshold between the two values is as good: the lowest
    ("tie", (5, 11, 13)): 0.001953125,
}


def made(kind, shape):
    n = np.arange(np.prod(shape), dtype=np.float64)
    u = np.modf(n * 0.6180339887498949)[0].reshape(shape)  # spread evenly, alike for every version of NumPy
    return {
        "even": u,
        "two": np.where(u > 0.7, 0.8, 0.1) + 0.05 * u,
        "levels": np.floor(u * 8) / 7,
        "skewed": u**4 - 3,
        "sparse": np.where(u > 0.97, 5.0, u / 10),
        "tie": np.where(u > 0.5, 1.0, 0.0),
    }[kind]


@pytest.mark.parametrize(("kind", "shape"), OTSU, ids=str)
def test_otsu_is_that_of_scikit_image(kind, shape):
    assert otsu_threshold(made(kind, shape)) == pytest.approx(OTSU[kind, shape], rel=1e-14)


def scene(dtype=np.float64):
    """A ring with a dark hole, a small bright spot beside it, and a faint surround."""
    y, x = np.mgrid[:40, :50]
    distance = np.hypot(y - 20, x - 20)
    values = 0.01 + np.where((distance < 12) & (distance > 5), 0.8, 0.0)
    values[3:6, 42:46] = 0.9
    if np.issubdtype(dtype, np.integer):
        values = np.round(values * np.iinfo(dtype).max)
    return values.astype(dtype), distance >= 12


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.uint8, np.uint16], ids=lambda t: t.__name__)
def test_everything_but_the_largest_object_and_its_holes(dtype):
    values, surround = scene(dtype)
    got = detect_background(values)
    assert got.dtype == bool
    np.testing.assert_array_equal(got, surround)


def test_planes_are_judged_each_by_itself():
    values, surround = scene()
    together = detect_background(np.stack([values, values[::-1] * 40, np.zeros_like(values)]))
    np.testing.assert_array_equal(together, [surround, surround[::-1], np.zeros_like(surround)])


@pytest.mark.parametrize("value", [0.0, 7.0])
def test_without_contrast_there_is_no_background(value):
    assert not detect_background(np.full((6, 7), value)).any()


def test_nan_and_infinities_count_as_zero():
    values, surround = scene()
    spoiled = values.copy()
    spoiled[0, 0], spoiled[39, 49], spoiled[0, 49] = np.nan, np.inf, -np.inf
    np.testing.assert_array_equal(detect_background(spoiled), surround)


def test_takes_and_gives_torch():
    values, surround = scene(np.float32)
    got = detect_background(torch.from_numpy(values))
    assert isinstance(got, torch.Tensor)
    np.testing.assert_array_equal(got.numpy(), surround)


@pytest.mark.parametrize("shape", [(0, 4, 5), (3, 0, 5), (0, 5)], ids=str)
def test_empty_images(shape):
    assert detect_background(np.zeros(shape)).shape == shape


def test_refuses_what_it_cannot_judge():
    with pytest.raises(ValueError, match=r"x: shape \(5,\) has 1 axes; expected at least 2"):
        detect_background(np.ones(5))
    with pytest.raises(ValueError, match=r"spatial: got 4; expected 2 \(images\) or 3 \(volumes\)"):
        detect_background(np.ones((5, 5)), 4)
