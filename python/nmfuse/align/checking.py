"""How far an image is registered with another, as far as their edges tell."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from nmfuse.align.edges import Plane, block_shifts, edge_field, plane_of, whole_shift
from nmfuse.align.models import agrees, fit
from nmfuse.align.resampling import resample
from nmfuse.images import Image

_REACH = 24  # pixels that a block may be off
_BLOCK = 128  # pixels along a block at most
_ACROSS = 5  # blocks along a side at most
_SMALL = 256  # pixels along the longer side at which one shift of all is looked for first
_GOOD = 0.6  # confidence from which on the figure is believed
_SIDE = 64  # pixels along a side without which nothing is said
_LEAST = 6  # blocks without which nothing is said


@dataclass(frozen=True)
class Registration:
    """How far an image is from being registered with another.

    Attributes
    ----------
    shift : float
        The mean distance in pixels over the blocks, by the similarity transform that fits them best; NaN if too few
        blocks have structure in common. For volumes it is that of the worst of the three slices through the middle.
    shift_mm : float or None
        The same in mm, if there is a grid.
    confidence : float
        The share of blocks, by weight, that agree with that transform to 1.5 pixels, from 0 to 1.
    blocks : int
        The number of blocks that were measured.

    Examples
    --------
    >>> Registration(2.5, None, 0.9, 40).verdict
    'misregistered'
    """

    shift: float
    shift_mm: float | None
    confidence: float
    blocks: int

    @property
    def verdict(self) -> str:
        """In words: "registered" up to 1 pixel, "misregistered" above, "cannot tell" below a confidence of 0.6."""
        if not self.confidence >= _GOOD:
            return "cannot tell"
        return "registered" if self.shift <= 1 else "misregistered"

    def __str__(self) -> str:
        """Say it in a line."""
        if self.verdict == "cannot tell":
            return f"cannot tell: its edges agree too little (confidence {self.confidence:.2f}, {self.blocks} blocks)"
        mm = "" if self.shift_mm is None else f" ({self.shift_mm:.2f} mm)"
        found = f"off by {self.shift:.2f} pixels{mm}"
        return f"{self.verdict}: {found}, confidence {self.confidence:.2f}, {self.blocks} blocks"


def check(moving: Image, fixed: Image) -> Registration:
    """Return how far an image is from being registered with another that it is to be fused with.

    The shift of each block is the one at which the orientations of edges agree best, whatever their contrast. From 512
    x 512 pixels on, the time does not depend on the size of the image. If the images differ by more than 24 pixels by
    rotation or scale, or have no edges in common, the result is "cannot tell".

    Parameters
    ----------
    moving, fixed : Image
        The two images, of the same size or both with a grid, with NumPy pixels. For volumes, the three slices through
        the middle are compared; a volume on a different grid is resampled first.

    Returns
    -------
    Registration

    Raises
    ------
    ValueError
        If the images differ in size and have no grid.

    Examples
    --------
    >>> from nmfuse.data import brain_phantom
    >>> t2, ct = Image(brain_phantom(256).t2), Image(brain_phantom(256).ct)
    >>> check(ct, t2).verdict, check(Image(np.roll(ct.pixels, 3, 0)), t2).verdict
    ('registered', 'misregistered')
    """
    if moving.grid is not None and fixed.grid is not None:
        moving = resample(moving, fixed.grid)
    if moving.shape[: fixed.spatial] != fixed.shape[: fixed.spatial] or moving.spatial != fixed.spatial:
        raise ValueError(
            f"{moving.name or 'moving'}: size {moving.shape}, but {fixed.name or 'fixed'} is {fixed.shape}; resize or "
            "align it first (nmfuse align; --resize, --align)"
        )
    if fixed.spatial == 2:
        return _of_planes(plane_of(fixed), plane_of(moving), fixed.spacing)
    a, b = plane_of(fixed), plane_of(moving)
    found = []
    for axis in range(3):
        middle = a.values.shape[axis] // 2
        one, two = (Plane(p.values.take(middle, axis), p.valid.take(middle, axis)) for p in (a, b))
        spacing = None if fixed.spacing is None else tuple(np.delete(fixed.spacing, axis))
        found.append(_of_planes(one, two, spacing))
    sure = [one for one in found if one.verdict != "cannot tell"]
    return max(sure, key=lambda one: one.shift) if sure else max(found, key=lambda one: one.confidence)


def _of_planes(a: Plane, b: Plane, spacing: tuple[float, ...] | None) -> Registration:
    if min(a.values.shape) < _SIDE:
        return Registration(float("nan"), None, 0.0, 0)
    start = _one_shift(a, b)
    shifts = block_shifts(
        a, b, lambda places: places + start[:, None, None, None], size=_BLOCK, reach=_REACH, across=_ACROSS
    )
    count, total = len(shifts.centres), shifts.weights.sum()
    if count < _LEAST or total <= 0:
        return Registration(float("nan"), None, 0.0, count)
    weights = shifts.weights**2
    matrix, errors = fit("similarity", shifts.centres, shifts.centres + shifts.shifts, weights)
    moved = shifts.centres @ (matrix[:2, :2] - np.eye(2)).T + matrix[:2, 2] + start
    near, confidence = agrees(errors, weights, _LEAST)

    def mean(off: np.ndarray) -> float:
        return float(np.average(np.linalg.norm(off, axis=1), weights=weights * near + 1e-12))

    return Registration(mean(moved), None if spacing is None else mean(moved * spacing), confidence, count)


def _one_shift(a: Plane, b: Plane) -> np.ndarray:
    """Return by how much all of an image is shifted, in pixels; (0, 0) where that is little."""
    factor = max(1, -(-max(a.values.shape) // _SMALL))
    fields = [edge_field(p.values, p.valid) for p in (a.smaller(factor), b.smaller(factor))]
    taper = np.sqrt(np.outer(*(np.hanning(n + 2)[1:-1] for n in fields[0].shape)))
    shift, _ = whole_shift(fields[0] * taper, fields[1] * taper)
    return shift * factor if np.abs(shift * factor).max() > _REACH / 2 else np.zeros(2)
