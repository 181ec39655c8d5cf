"""Pyramids: exact reconstruction, agreement with SciPy, and bounds."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.ndimage import correlate1d

from nmfuse import pyramids

SHAPES = [(256, 256), (17, 23), (16, 16), (1, 5), (2, 2), (3, 1)]
TAPS = np.array([1, 4, 6, 4, 1]) / 16


def image(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.rand(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("levels", [1, 3])
def test_both_pyramids_reconstruct_exactly(shape: tuple[int, int], levels: int) -> None:
    x = image(2, *shape)
    laplacian = pyramids.collapse_laplacian(pyramids.laplacian_pyramid(x, levels))
    contrast = pyramids.collapse_contrast(pyramids.contrast_pyramid(x, levels, 1e-6), epsilon=1e-6)
    torch.testing.assert_close(laplacian, x, rtol=0, atol=1e-14)
    torch.testing.assert_close(contrast, x, rtol=0, atol=1e-14)


@pytest.mark.parametrize("shape", SHAPES)
def test_reduce_is_the_blurred_image_at_even_pixels(shape: tuple[int, int]) -> None:
    x = image(*shape)
    blurred = correlate1d(correlate1d(x.numpy(), TAPS, axis=0, mode="reflect"), TAPS, axis=1, mode="reflect")
    np.testing.assert_allclose(pyramids.reduce(x).numpy(), blurred[::2, ::2], atol=1e-15)


@pytest.mark.parametrize("shape", [(10, 6), (9, 5), (1, 1), (2, 1)])
def test_expand_is_zero_insertion_and_the_same_filter(shape: tuple[int, int]) -> None:
    x = image((shape[0] + 1) // 2, (shape[1] + 1) // 2)
    padded = np.pad(x.numpy(), 1, mode="edge")
    inserted = np.zeros((2 * padded.shape[0], 2 * padded.shape[1]))
    inserted[::2, ::2] = 4 * padded
    filtered = correlate1d(correlate1d(inserted, TAPS, axis=0, mode="constant"), TAPS, axis=1, mode="constant")
    expected = filtered[2 : 2 + shape[0], 2 : 2 + shape[1]]
    np.testing.assert_allclose(pyramids.expand(x, shape).numpy(), expected, atol=1e-15)


def test_constants_stay_constant() -> None:
    x = torch.full((11, 13), 0.3, dtype=torch.float64)
    torch.testing.assert_close(pyramids.expand(pyramids.reduce(x), (11, 13)), x)


def test_limits_hold_at_every_level() -> None:
    a, b = image(33, 20), image(33, 20, seed=1)
    levels = 4
    limits = [
        pyramids.local_range(*pair)
        for pair in zip(pyramids.gaussian_pyramid(a, levels), pyramids.gaussian_pyramid(b, levels), strict=True)
    ]
    wild = [10 * level for level in pyramids.laplacian_pyramid(a - b, levels)]
    result = pyramids.collapse_laplacian(wild, limits)
    assert bool((result >= limits[0][0]).all())
    assert bool((result <= limits[0][1]).all())


def test_levels_go_down_to_two_or_three_pixels() -> None:
    assert pyramids.max_levels((256, 256)) == 8
    assert pyramids.max_levels((17, 300)) == 4
    assert [tuple(g.shape) for g in pyramids.gaussian_pyramid(image(9, 6), 3)] == [(9, 6), (5, 3), (3, 2)]
