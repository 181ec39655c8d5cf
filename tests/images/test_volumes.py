"""Images with a grid: volumes without a word, and refused where their pixels lie elsewhere."""

from __future__ import annotations

import numpy as np
import pytest

import nmfuse
from nmfuse.align import resample
from nmfuse.images import Grid, Image

GRID = Grid((17, 20, 24), np.diag([3.0, 1.0, 1.0, 1.0]))
PIXELS = [np.random.default_rng(seed).integers(0, 256, GRID.shape, np.uint8) for seed in range(2)]


def volumes(*grids: Grid) -> list[Image]:
    return [Image(x, name=f"{k}.nii", grid=grid) for k, (x, grid) in enumerate(zip(PIXELS, grids, strict=True))]


@pytest.mark.parametrize("slice_axis", [0, 1])
def test_a_grid_of_three_axes_says_that_it_is_a_volume(slice_axis: int) -> None:
    one, two = volumes(GRID, GRID)
    fused = nmfuse.fuse(one, two, method="laplacian", slice_axis=slice_axis)
    assert fused.grid is one.grid
    expected = nmfuse.fuse(*PIXELS, method="laplacian", spatial=3, slice_axis=slice_axis)
    np.testing.assert_array_equal(fused, expected)
    mixed = nmfuse.fuse(one, PIXELS[1], method="laplacian", slice_axis=slice_axis)  # an array has no grid to differ
    np.testing.assert_array_equal(mixed, expected)
    steps = nmfuse.Fuser("laplacian").explain(iter([one, two]), slice_axis=slice_axis)
    np.testing.assert_array_equal(steps.fused, expected)


def test_grids_that_differ_are_refused_in_mm() -> None:
    affine = GRID.affine.copy()
    affine[1, 3] = 4.5
    with pytest.raises(
        ValueError,
        match=r"1\.nii: is not on the grid of 0\.nii: first pixels 4\.5 mm apart, .*; put all sources on one grid, by "
        r"nmfuse\.align\.resample\(image, grid\), in the shell by --resample-to 1",
    ):
        nmfuse.fuse(*volumes(GRID, Grid(GRID.shape, affine)))
    one = Image(np.zeros((34, 20, 24), np.uint8), name="half.nii", grid=Grid((34, 20, 24), np.diag([1.5, 1, 1, 1])))
    with pytest.raises(
        ValueError, match=r"half\.nii: .* 34 x 20 x 24 pixels against 17 x 20 x 24, spacing 1\.5 x 1 x 1 mm"
    ):
        nmfuse.fuse(PIXELS[0], volumes(GRID, GRID)[0], one, spatial=3)  # whichever two of them differ
    assert nmfuse.fuse(volumes(GRID, GRID)[0], resample(one, GRID), method="average").shape == GRID.shape


def test_an_image_among_volumes_is_refused_in_words() -> None:
    image, volume = Image(PIXELS[0][0], name="a.png"), volumes(GRID, GRID)[0]
    with pytest.raises(
        ValueError, match=r"a\.png: is an image of shape \(20, 24\) among volumes; images are fused with"
    ):
        nmfuse.fuse(volume, image)
    for spatial in (None, 2):
        with pytest.raises(
            ValueError, match=r"0\.nii: is a volume of shape \(17, 20, 24\) among images; .* take a slice"
        ):
            nmfuse.fuse(image, volume, spatial=spatial)
    with pytest.raises(ValueError, match=r"0\.nii: shape \(17, 20, 9\), but its grid has \(17, 20, 24\)"):
        nmfuse.fuse(volume.with_pixels(PIXELS[0][..., :9]), volume)
