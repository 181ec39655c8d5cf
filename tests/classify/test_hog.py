"""Histograms of oriented gradients: by hand, and as scikit-image 0.26 has them."""

from __future__ import annotations

import numpy as np
import pytest

from nmfuse.classify.hog import hog

BLOCK = 3 * 3 * 9
# skimage.feature.hog(x, pixels_per_cell=(8, 8)) of the image below, the first row of cells
KNOWN = [
    0.207549, 0.0, 0.0, 0.139563, 0.050637, 0.0, 0.173254, 0.083674, 0.0,
    0.207549, 0.0, 0.0, 0.167475, 0.0, 0.0, 0.207549, 0.083674, 0.0,
    0.207549, 0.0, 0.0, 0.139563, 0.050637, 0.0, 0.173254, 0.083674, 0.0,
]  # fmt: skip


def test_values_of_another_implementation() -> None:
    image = (np.arange(24)[:, None] * 7 % 11 + np.arange(24) * 5 % 13).astype(float)
    found = hog(image)
    np.testing.assert_allclose(found[:27], KNOWN, atol=1e-6)
    assert found.sum() == pytest.approx(5.996490, abs=1e-5)


@pytest.mark.parametrize(("step", "expected"), [((0, 1), 0), ((1, 0), 4), ((1, 1), 2), ((1, -1), 6), ((-1, -1), 2)])
def test_a_ramp_votes_for_its_direction(step: tuple[int, int], expected: int) -> None:
    rows, columns = np.mgrid[:40, :48]
    cells = hog(1.0 * (step[0] * rows + step[1] * columns)).reshape(3, 4, 9, 9)
    inside = cells[1, 1, 4]  # without the border, where differences are 0
    assert inside.argmax() == expected
    assert np.count_nonzero(inside > 1e-6) == 1
    assert 0 < inside.max() <= 1 / 3 + 1e-9  # nine cells alike


def test_brightness_and_contrast_do_not_matter() -> None:
    image = np.random.default_rng(0).random((32, 40))
    np.testing.assert_allclose(hog(5 * image + 3), hog(image), atol=1e-5)
    assert hog(image).shape == (2 * 3 * BLOCK,)
    assert not hog(np.full((24, 24), 7, np.uint8)).any()


@pytest.mark.parametrize("shape", [(16, 24), (24, 30), (24,), (3, 24, 24)])
def test_sizes_that_are_no_whole_cells_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"image: shape \(.*\); expected \(H, W\), multiples of 8 from 24 on: resize"):
        hog(np.zeros(shape))
