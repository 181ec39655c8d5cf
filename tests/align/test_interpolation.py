"""Interpolation: held against SciPy's."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from nmfuse.align.interpolation import interpolated, spline_coefficients


@pytest.mark.parametrize("shape", [(40, 70), (2, 3), (1, 5), (33, 1)])
def test_spline_coefficients_are_scipys(shape: tuple[int, int]) -> None:
    planes = np.random.default_rng(0).random((3, *shape))
    expected = np.stack([ndimage.spline_filter(plane, mode="mirror") for plane in planes])
    expected = np.pad(expected, ((0, 0), (2, 2), (2, 2)), mode="reflect")
    np.testing.assert_allclose(spline_coefficients(planes), expected, atol=1e-12)
    narrow = spline_coefficients(planes.astype(np.float32), np.float32)
    assert narrow.dtype == np.float32
    np.testing.assert_allclose(narrow, expected, atol=1e-5)


@pytest.mark.parametrize(("order", "tolerance"), [(0, 0), (1, 1e-12), (3, 1e-12)])
def test_values_between_pixels_are_scipys(order: int, tolerance: float) -> None:
    rng = np.random.default_rng(1)
    planes = rng.random((2, 20, 30))
    wide = np.pad(planes, ((0, 0), (2, 2), (2, 2)), mode="reflect") if order == 3 else planes
    places = rng.uniform(0, 1, (2, 7, 9)) * np.array([19, 29])[:, None, None]
    expected = [ndimage.map_coordinates(plane, places, order=order, mode="mirror", prefilter=False) for plane in planes]
    np.testing.assert_allclose(interpolated(wide, places, order).numpy(), np.stack(expected), atol=tolerance)
