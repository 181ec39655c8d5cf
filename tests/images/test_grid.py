"""What a grid is, and how two of them are said to differ."""

from __future__ import annotations

import numpy as np
import pytest

from nmfuse.images import Grid

GRID = Grid((20, 64, 48), np.diag([3.0, 1.0, 1.0, 1.0]))


def moved(offset: tuple[float, ...] = (0, 0, 0), angle: float = 0, scale: float = 1) -> Grid:
    cos, sin = np.cos(np.radians(angle)), np.sin(np.radians(angle))
    turn = np.eye(4)
    turn[1:3, 1:3] = (cos, -sin), (sin, cos)
    affine = turn @ GRID.affine
    affine[:3, :3] *= scale
    affine[:3, 3] += offset
    return Grid(GRID.shape, affine)


def test_grids_that_agree() -> None:
    for other in (GRID, moved((0.005, 0, 0)), moved(scale=1 + 1e-5), moved(angle=0.005)):
        assert GRID.difference(other) == ""


@pytest.mark.parametrize(
    ("other", "words"),
    [
        (moved((12.5, 0, 0)), "first pixels 12.5 mm apart, pixels lie up to 12.5 mm apart"),
        (moved(scale=2), "spacing 3 x 1 x 1 mm against 6 x 2 x 2 mm, pixels lie up to 97.1 mm apart"),
        (moved(angle=10), "axes turned by up to 10 degrees, pixels lie up to 13.7 mm apart"),
        (Grid((20, 64, 50), GRID.affine), "20 x 64 x 48 pixels against 20 x 64 x 50"),
        (
            Grid((40, 64, 48), np.diag([1.5, 1, 1, 1])),
            "20 x 64 x 48 pixels against 40 x 64 x 48, spacing 3 x 1 x 1 mm against 1.5 x 1 x 1 mm",
        ),
        (Grid((4, 4), np.eye(3)), "3 spatial axes against 2"),
    ],
)
def test_grids_that_differ(other: Grid, words: str) -> None:
    assert GRID.difference(other) == words
    assert bool(other.difference(GRID))


@pytest.mark.parametrize(
    ("affine", "message"),
    [
        (np.eye(3), r"affine: shape \(3, 3\); expected \(4, 4\) for 3 axes"),
        (np.diag([1.0, 0, 1, 1]), "affine: got .*; expected one that gives each pixel a place of its own"),
        (np.full((4, 4), np.nan), "affine: got .*; expected one that gives"),
    ],
)
def test_affines_that_are_none(affine: np.ndarray, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Grid((4, 4, 4), affine)


def test_nobody_changes_a_grid() -> None:
    affine = np.eye(3)
    grid = Grid((4, 4), affine)
    affine[:] = 0
    np.testing.assert_array_equal(grid.affine, np.eye(3))
    with pytest.raises(ValueError, match="read-only"):
        grid.affine[0] = 0
