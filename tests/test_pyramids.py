"""Pyramids: exact reconstruction, agreement with SciPy, and bounds."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.ndimage import correlate1d, maximum_filter, minimum_filter

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


@pytest.mark.parametrize(("shape", "spatial"), [((33, 20), 2), ((2, 18, 7), 2), ((9, 5, 6), 3), ((2, 10, 4, 3), 3)])
@pytest.mark.parametrize("rows", [1, 3])
def test_parts_of_an_image_give_the_bits_of_the_whole(
    shape: tuple[int, ...], spatial: int, rows: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    x = image(*shape)
    small = pyramids.reduce(x, spatial)
    large = pyramids.expand(small, shape[-spatial:])
    monkeypatch.setattr(pyramids, "_AT_ONCE", rows * x.numel() // shape[-spatial])
    assert torch.equal(pyramids.reduce(x, spatial), small)
    assert torch.equal(pyramids.expand(small, shape[-spatial:]), large)
    recorded = x.clone().requires_grad_()
    assert pyramids.expand(pyramids.reduce(recorded, spatial), shape[-spatial:]).requires_grad


def test_constants_stay_constant() -> None:
    x = torch.full((11, 13), 0.3, dtype=torch.float64)
    torch.testing.assert_close(pyramids.expand(pyramids.reduce(x), (11, 13)), x)
    deep = x.expand(4, 11, 13)
    torch.testing.assert_close(pyramids.expand(pyramids.reduce(deep, 3), (4, 11, 13)), deep)


@pytest.mark.parametrize("count", [2, 5])
@pytest.mark.parametrize("shape", [(33, 20), (6, 17, 20)])
def test_limits_hold_at_every_level(count: int, shape: tuple[int, ...]) -> None:
    sources = image(count, *shape)
    levels, spatial = 4, len(shape)
    limits = [pyramids.local_range(level) for level in pyramids.gaussian_pyramid(sources, levels, spatial)]
    wild = [10 * level for level in pyramids.laplacian_pyramid(sources[0] - sources[1], levels, spatial)]
    result = pyramids.collapse_laplacian(wild, limits, spatial)
    assert result.shape == shape
    assert bool((result >= limits[0][0]).all())
    assert bool((result <= limits[0][1]).all())


@pytest.mark.parametrize("count", [2, 5])
@pytest.mark.parametrize("shape", [(9, 7), (5, 9, 7), (1, 9, 7)])
def test_local_range_is_that_of_all_sources_around_a_pixel(count: int, shape: tuple[int, ...]) -> None:
    sources = image(count, *shape)
    low, high = pyramids.local_range(sources)
    np.testing.assert_array_equal(low.numpy(), minimum_filter(sources.numpy().min(0), 3, mode="nearest"))
    np.testing.assert_array_equal(high.numpy(), maximum_filter(sources.numpy().max(0), 3, mode="nearest"))


VOLUMES = [(8, 16, 16), (5, 17, 23), (1, 9, 6), (2, 3, 1), (1, 1, 1)]


@pytest.mark.parametrize("shape", VOLUMES)
@pytest.mark.parametrize("levels", [1, 3])
def test_volumes_are_reconstructed_exactly(shape: tuple[int, ...], levels: int) -> None:
    x = image(2, *shape)
    bands = pyramids.laplacian_pyramid(x, levels, 3)
    laplacian = pyramids.collapse_laplacian(bands, spatial=3)
    contrast = pyramids.collapse_contrast(pyramids.contrast_pyramid(x, levels, 1e-6, 3), epsilon=1e-6, spatial=3)
    torch.testing.assert_close(laplacian, x, rtol=0, atol=1e-14)
    torch.testing.assert_close(contrast, x, rtol=0, atol=1e-14)
    expected = [shape]
    while len(expected) < levels:
        expected.append(tuple((n + 1) // 2 for n in expected[-1]))
    assert [tuple(band.shape) for band in bands] == [(2, *each) for each in expected]


@pytest.mark.parametrize("shape", VOLUMES)
def test_volumes_are_reduced_along_three_axes(shape: tuple[int, ...]) -> None:
    x = image(*shape)
    blurred = x.numpy()
    for axis in range(3):
        blurred = correlate1d(blurred, TAPS, axis=axis, mode="reflect")
    np.testing.assert_allclose(pyramids.reduce(x, 3).numpy(), blurred[::2, ::2, ::2], atol=1e-15)


@pytest.mark.parametrize("shape", [(4, 10, 6), (3, 9, 5), (1, 1, 1), (1, 2, 1), (2, 4, 4)])
def test_volumes_are_expanded_along_three_axes(shape: tuple[int, int, int]) -> None:
    x = image(*((n + 1) // 2 for n in shape))
    padded = np.pad(x.numpy(), 1, mode="edge")
    filtered = np.zeros([2 * n for n in padded.shape])
    filtered[::2, ::2, ::2] = 8 * padded
    for axis in range(3):
        filtered = correlate1d(filtered, TAPS, axis=axis, mode="constant")
    expected = filtered[2 : 2 + shape[0], 2 : 2 + shape[1], 2 : 2 + shape[2]]
    np.testing.assert_allclose(pyramids.expand(x, shape).numpy(), expected, atol=1e-15)


def test_a_volume_does_not_prefer_an_axis() -> None:
    x = image(11, 12, 13)
    small = pyramids.reduce(x, 3)
    torch.testing.assert_close(pyramids.reduce(x.permute(2, 0, 1), 3), small.permute(2, 0, 1), rtol=0, atol=1e-15)
    large = pyramids.expand(small.permute(2, 0, 1), (13, 11, 12))
    torch.testing.assert_close(large, pyramids.expand(small, (11, 12, 13)).permute(2, 0, 1), rtol=0, atol=1e-15)


@pytest.mark.parametrize("levels", [1, 2, 4])
def test_a_volume_of_one_slice_is_an_image(levels: int) -> None:
    x = image(3, 33, 20)
    for make in (pyramids.gaussian_pyramid, pyramids.laplacian_pyramid):
        flat, deep = make(x, levels), make(x[:, None], levels, spatial=3)
        for one, other in zip(flat, deep, strict=True):
            torch.testing.assert_close(other[:, 0], one, rtol=0, atol=1e-15)
    flat = pyramids.contrast_pyramid(x, levels)
    deep = pyramids.contrast_pyramid(x[:, None], levels, spatial=3)
    for one, other in zip(flat, deep, strict=True):
        torch.testing.assert_close(other[:, 0], one, rtol=0, atol=1e-12)
    for one, other in zip(pyramids.local_range(x), pyramids.local_range(x[:, None]), strict=True):
        torch.testing.assert_close(other[0], one, rtol=0, atol=0)
    limits = [pyramids.local_range(level) for level in pyramids.gaussian_pyramid(x[:, None], levels, 3)]
    bands = pyramids.laplacian_pyramid(x[0], levels)
    within = pyramids.collapse_laplacian([band[None] for band in bands], limits, 3)
    torch.testing.assert_close(within[0], x[0], rtol=0, atol=1e-14)


def test_slices_of_an_image_pyramid_do_not_know_of_each_other() -> None:
    x = image(4, 20, 21)
    for z in range(4):
        for one, other in zip(pyramids.laplacian_pyramid(x, 3), pyramids.laplacian_pyramid(x[z], 3), strict=True):
            torch.testing.assert_close(one[z], other, rtol=0, atol=0)


def test_levels_go_down_to_two_or_three_pixels() -> None:
    assert pyramids.max_levels((256, 256)) == 8
    assert pyramids.max_levels((17, 300)) == 4
    assert [tuple(g.shape) for g in pyramids.gaussian_pyramid(image(9, 6), 3)] == [(9, 6), (5, 3), (3, 2)]
