"""Luminance by BT.601, of arrays and of images."""

from __future__ import annotations

import numpy as np
import pytest

from nmfuse.images import Image
from nmfuse.images.luma import BT601, grey, luminance


def test_the_weights_are_a_mean() -> None:
    assert sum(BT601) == pytest.approx(1)
    assert luminance(np.full((1, 1, 3), 7, np.int16))[0, 0] == pytest.approx(7)


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "int16", "int32", "float16", "float32", "float64"])
def test_grey_keeps_the_dtype_and_rounds_integers(dtype: str) -> None:
    colour = np.array([[[200, 100, 50], [10, 20, 30]]], dtype)
    expected = np.array([[0.299 * 200 + 0.587 * 100 + 0.114 * 50, 0.299 * 10 + 0.587 * 20 + 0.114 * 30]])
    found = grey(colour)
    assert (found.shape, found.dtype) == ((1, 2), dtype)
    np.testing.assert_array_equal(found, np.rint(expected) if "int" in dtype else expected.astype(dtype))
    assert luminance(colour).dtype == np.float64


def test_grey_images_are_left_as_they_are() -> None:
    plane = np.arange(12, dtype=np.uint16).reshape(3, 4)
    volume = np.zeros((5, 3, 4), np.uint8)
    assert luminance(plane) is plane
    assert grey(volume).shape == (5, 3, 4)


def test_volumes_in_colour_and_images() -> None:
    colour = np.random.default_rng(0).integers(0, 256, (2, 4, 5, 3), np.uint8)
    assert grey(colour).shape == (2, 4, 5)
    image = Image(colour[0], valid=np.zeros((4, 5), bool), name="x.png")
    np.testing.assert_array_equal(grey(image), grey(colour[0]))
    np.testing.assert_array_equal(luminance(image), luminance(colour[0]))
