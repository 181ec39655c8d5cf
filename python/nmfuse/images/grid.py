"""Where the pixels of an image lie, in millimetres."""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import product
from typing import Any

import numpy as np


@dataclass(frozen=True, eq=False)
class Grid:
    """The positions of the pixels of an image in space.

    Attributes
    ----------
    shape : tuple of int
        The number of pixels along each spatial axis, in the order of the pixel axes: (D, H, W) or (H, W).
    affine : float64 array, shape (n + 1, n + 1) for n axes
        The matrix that takes the index of a pixel, in the order of the pixel axes, to its position in mm.
    header : optional
        The description of the geometry in the file, in the form of its format; a writer of the same format stores it
        again exactly as it was.

    Raises
    ------
    ValueError
        If the affine has the wrong shape, is not finite, or takes different pixels to the same position.

    Examples
    --------
    >>> grid = Grid((20, 64, 48), np.diag([3.0, 1.0, 1.0, 1.0]))
    >>> grid.spacing
    (3.0, 1.0, 1.0)
    """

    shape: tuple[int, ...]
    affine: np.ndarray
    header: Any = field(default=None, repr=False)

    def __post_init__(self) -> None:
        affine = np.array(self.affine, np.float64)
        axes = len(self.shape)
        if affine.shape != (axes + 1, axes + 1):
            raise ValueError(f"affine: shape {affine.shape}; expected {(axes + 1, axes + 1)} for {axes} axes")
        if not np.isfinite(affine).all() or np.linalg.matrix_rank(affine[:axes, :axes]) < axes:
            raise ValueError(f"affine: got {affine.tolist()}; expected one that gives each pixel a place of its own")
        affine.setflags(write=False)
        object.__setattr__(self, "shape", tuple(int(n) for n in self.shape))
        object.__setattr__(self, "affine", affine)

    @property
    def spacing(self) -> tuple[float, ...]:
        """The distance from one pixel to the next along each axis, in mm."""
        axes = len(self.shape)
        return tuple(float(step) for step in np.linalg.norm(self.affine[:axes, :axes], axis=0))

    def difference(self, other: Grid, tolerance: float = 0.01) -> str:
        """Return in words how two grids differ, in mm; the text is empty if they agree.

        Parameters
        ----------
        other : Grid
            The grid to compare with.
        tolerance : float
            How far apart the two positions of a pixel may be, as a share of the smallest spacing.

        Returns
        -------
        str
            The difference; empty if the shapes are equal and no pixel is further apart.

        Examples
        --------
        >>> one, two = Grid((4, 4), np.eye(3)), Grid((4, 8), np.diag([1, 0.5, 1]))
        >>> one.difference(one)
        ''
        >>> one.difference(two)
        '4 x 4 pixels against 4 x 8, spacing 1 x 1 mm against 1 x 0.5 mm'
        """
        if len(self.shape) != len(other.shape):
            return f"{len(self.shape)} spatial axes against {len(other.shape)}"
        words = []
        if self.shape != other.shape:
            words.append(f"{_product(self.shape)} pixels against {_product(other.shape)}")
        allowed = tolerance * min(*self.spacing, *other.spacing)
        sides = np.maximum(self.shape, other.shape)
        corners = np.array([(*corner, 1) for corner in product(*((0, n - 1) for n in sides))]).T
        apart = float(np.linalg.norm((self.affine - other.affine) @ corners, axis=0).max())
        if apart > allowed:
            words += self._how_affines_differ(other, allowed, sides)
            if self.shape == other.shape:
                words.append(f"pixels lie up to {apart:.3g} mm apart")
        return ", ".join(words)

    def _how_affines_differ(self, other: Grid, allowed: float, sides: np.ndarray) -> list[str]:
        axes = len(self.shape)
        words = []
        mine, theirs = np.array(self.spacing), np.array(other.spacing)
        if (np.abs(mine - theirs) * sides > allowed).any():
            words.append(f"spacing {_product(self.spacing)} mm against {_product(other.spacing)} mm")
        cosines = (self.affine[:axes, :axes] / mine * (other.affine[:axes, :axes] / theirs)).sum(0)
        angle = float(np.degrees(np.arccos(np.clip(cosines, -1, 1))).max())
        if angle > 0.1:
            words.append(f"axes turned by up to {angle:.3g} degrees")
        shift = float(np.linalg.norm(self.affine[:axes, -1] - other.affine[:axes, -1]))
        if shift > allowed:
            words.append(f"first pixels {shift:.3g} mm apart")
        return words


def _product(numbers: tuple[float, ...]) -> str:
    return " x ".join(f"{number:.4g}" if isinstance(number, float) else str(number) for number in numbers)
