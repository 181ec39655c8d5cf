"""One grid onto another: values where they belong, nothing made up outside."""

from __future__ import annotations

import sys

import numpy as np
import pytest

from nmfuse.align import resample
from nmfuse.images import Grid, Image

FINE = Grid((12, 20, 16), np.array([[0, 0, 1.0, -7], [0, 1.0, 0, 3], [1.5, 0, 0, 20], [0, 0, 0, 1]]))
TURN = np.array([[0.96, -0.28, 0.0], [0.28, 0.96, 0.0], [0.0, 0.0, 1.0]])


def inside() -> Grid:
    """Return an oblique grid of other steps within FINE."""
    affine = np.eye(4)
    affine[:3, :3] = TURN @ FINE.affine[:3, :3] @ np.diag([0.7, 0.6, 0.5])
    affine[:3, 3] = (-2, 6, 22)
    return Grid((9, 11, 8), affine)


def places(grid: Grid) -> np.ndarray:
    """Return where the pixels lie: (3, D, H, W), mm."""
    indices = np.indices(grid.shape).reshape(3, -1)
    return (grid.affine[:3, :3] @ indices + grid.affine[:3, 3:]).reshape(3, *grid.shape)


def linear(grid: Grid) -> np.ndarray:
    x, y, z = places(grid)
    return 2 * x - 3 * y + 0.5 * z + 40


@pytest.mark.parametrize("dtype", ["float32", "float64", "int32"])
def test_what_is_linear_in_mm_stays_so(dtype: str) -> None:
    image = Image((64 * linear(FINE)).astype(dtype), name="x", carried={"a": 1}, grid=FINE)
    other = resample(image, inside())
    assert (other.dtype, other.valid, other.name, other.carried) == (np.dtype(dtype), None, "x", {"a": 1})
    assert other.grid is not None
    assert other.spacing == other.grid.spacing
    np.testing.assert_allclose(other, 64 * linear(inside()), atol=1e-2 if dtype != "int32" else 1.01)


def test_splines_are_closer_to_what_is_smooth() -> None:
    def smooth(grid: Grid) -> np.ndarray:
        x, y, z = places(grid)
        return np.sin(x / 2) + np.cos(y / 2.5) * np.sin(z / 3)

    image, there = Image(smooth(FINE), grid=FINE), inside()
    errors = [
        np.abs(resample(image, there, interpolation=how).pixels - smooth(there)).mean() for how in ("linear", "bspline")
    ]
    assert errors[1] < errors[0] / 4


@pytest.mark.parametrize("dtype", ["uint8", "int16", "bool"])
def test_labels_are_never_mixed(dtype: str) -> None:
    labels = (np.random.default_rng(0).integers(0, 2, FINE.shape) * 200).astype(dtype)
    other = resample(Image(labels, grid=FINE), inside(), interpolation="nearest").pixels
    assert set(np.unique(other)) == set(np.unique(labels))
    index = np.linalg.solve(FINE.affine, inside().affine)
    at = np.rint(index[:3, :3] @ np.indices(other.shape).reshape(3, -1) + index[:3, 3:]).astype(int)
    assert (other.ravel() == labels[tuple(at)]).mean() > 0.99  # but for ties


def test_integers_are_rounded_and_kept_to_their_range() -> None:
    steps = np.where(np.arange(20)[None, :, None] < 6, 0, 255).astype(np.uint8) * np.ones(FINE.shape, np.uint8)
    for how in ("linear", "bspline"):
        other = resample(Image(steps, grid=FINE), inside(), interpolation=how).pixels
        assert (other.dtype, other.min(), other.max()) == (np.uint8, 0, 255)


def test_outside_is_not_valid() -> None:
    affine = FINE.affine.copy()
    affine[:3, 3] += (4, 0, 0)  # mm to the right: columns
    shifted = Grid(FINE.shape, affine)
    for dtype in ("int16", "float32"):
        image = Image(linear(FINE).astype(dtype), grid=FINE)
        other = resample(image, shifted)
        np.testing.assert_array_equal(other.valid, np.broadcast_to(np.arange(16) < 12, FINE.shape))
        np.testing.assert_array_equal(other.pixels[..., :12], image.pixels[..., 4:])
        assert not other.pixels[..., 12:].any()


@pytest.mark.parametrize("how", ["linear", "bspline", "nearest"])
def test_what_is_not_valid_bleeds_nowhere(how: str) -> None:
    pixels = np.full(FINE.shape, 7.0, np.float32)
    pixels[:, :5] = np.nan
    masked = Image(np.where(np.isnan(pixels), 1e6, pixels), ~np.isnan(pixels), grid=FINE)
    for image in (Image(pixels, grid=FINE), masked):
        other = resample(image, inside(), interpolation=how)
        assert 0 < other.valid.mean() < 1
        np.testing.assert_allclose(other.pixels[other.valid], 7, rtol=1e-5)


def test_on_its_own_grid_it_is_what_it_was() -> None:
    image = Image(np.random.default_rng(0).random(FINE.shape), np.ones(FINE.shape, bool), grid=FINE)
    same = resample(image, Grid(FINE.shape, FINE.affine, header="of the other"))
    assert same.pixels is image.pixels
    assert same.valid is image.valid
    assert same.grid is not None
    assert same.grid.header == "of the other"


def test_colour_and_two_axes() -> None:
    one, two = Grid((6, 8), np.eye(3)), Grid((12, 16), np.array([[0.5, 0, -0.25], [0, 0.5, -0.25], [0, 0, 1]]))
    colour = np.random.default_rng(0).integers(0, 256, (6, 8, 3), np.uint8)
    other = resample(Image(colour, grid=one), two)
    assert (other.shape, other.valid) == ((12, 16, 3), None)
    for k in range(3):
        np.testing.assert_array_equal(other.pixels[..., k], resample(Image(colour[..., k], grid=one), two).pixels)


def test_what_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    image = Image(np.zeros(FINE.shape), name="x.nii", grid=FINE)
    far = FINE.affine.copy()
    far[0, 3] = 900
    for wrong, grid, options, error, message in (
        (
            Image(np.zeros((4, 4))),
            FINE,
            {},
            ValueError,
            "image: has no grid, so nothing says where its pixels lie; give",
        ),
        (image, FINE, {"interpolation": "cubic"}, ValueError, "got 'cubic'; expected one of linear, bspline, nearest"),
        (image, Grid((4, 4), np.eye(3)), {}, ValueError, r"grid: has 2 axes, but x\.nii has 3; expected as many"),
        (
            image,
            Grid(FINE.shape, far),
            {},
            ValueError,
            r"x\.nii: shows nothing of the other grid, first pixels 907 mm apart",
        ),
        (
            image.with_pixels(np.zeros((2, 2, 2))),
            FINE,
            {},
            ValueError,
            r"shape \(2, 2, 2\), but its grid has \(12, 20, 16\)",
        ),
        (image.with_pixels([1]), FINE, {}, TypeError, "pixels are a list; expected a NumPy array"),
    ):
        with pytest.raises(error, match=message):
            resample(wrong, grid, **options)
    monkeypatch.setitem(sys.modules, "SimpleITK", None)
    with pytest.raises(ModuleNotFoundError, match=r"need SimpleITK, .*; pip install 'nmfuse\[medical\]'"):
        resample(image, inside())
