"""How far the edges of one image lie from those of another, block by block.

Images of different kinds agree in where edges are and along which lines they run, but not in which side is brighter.
So each pixel is described by its gradient as a complex number, squared (opposite gradients become equal) and divided
by its own strength (faint edges count almost as much as strong ones). The cross-correlation of two such fields is
greatest at the shift between the images.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
from scipy import fft, ndimage

from nmfuse.images import Image
from nmfuse.images.luma import luminance

_SMOOTHED = 1.0  # standard deviation in pixels, before gradients are taken
_ROWS = 256  # that are looked at together, for less memory
_GAP = 4  # pixels around a peak that are not counted as another one

Positions = Callable[[np.ndarray], np.ndarray]  # (2, ...) row and column in the fixed image -> in the moving one


@dataclass(frozen=True, eq=False)
class Plane:
    """The luminance (H, W) of an image, float32, and where it is valid (1) or not (0), float32."""

    values: np.ndarray
    valid: np.ndarray
    _smaller: dict[int, Plane] = field(default_factory=dict, repr=False)

    def smaller(self, factor: int) -> Plane:
        """Return the means of factor x factor pixels; what does not fill such a square at the end is left out."""
        if factor == 1:
            return self
        if factor in self._smaller:
            return self._smaller[factor]
        h, w = (n // factor for n in self.values.shape)

        def means(x: np.ndarray) -> np.ndarray:
            return np.asarray(x[: h * factor, : w * factor].reshape(h, factor, w, factor).mean((1, 3)))

        self._smaller[factor] = Plane(means(self.values), (means(self.valid) > 1 - 1e-4).astype(np.float32))
        return self._smaller[factor]


def plane_of(image: Image | np.ndarray) -> Plane:
    """Return what edges are looked for in: luminance, and where it is finite and valid."""
    pixels = image.pixels if isinstance(image, Image) else image
    colour = pixels.ndim > 2 and pixels.shape[-1] == 3
    values = np.empty(pixels.shape[:-1] if colour else pixels.shape, np.float32)
    for start in range(0, len(values), _ROWS):
        values[start : start + _ROWS] = luminance(pixels[start : start + _ROWS], np.float32)
    valid = np.isfinite(values)
    if isinstance(image, Image) and image.valid is not None:
        valid &= np.asarray(image.valid)
    return Plane(np.where(valid, values, np.float32(0)), valid.astype(np.float32))


def edge_field(values: np.ndarray, valid: np.ndarray) -> np.ndarray:
    """Return the squared gradients (..., H, W), complex64 of magnitude below 1; 0 at what is not valid."""
    axes = (values.ndim - 2, values.ndim - 1)
    smooth = ndimage.gaussian_filter(values, _SMOOTHED, axes=axes, mode="nearest")
    near = ndimage.minimum_filter(valid, 2 * int(3 * _SMOOTHED) + 1, axes=axes, mode="nearest")
    y, x = np.gradient(smooth, axis=axes)
    energy = (x * x + y * y) * near
    shown = near.sum()
    typical = (np.sqrt(energy).sum() / shown) ** 2 if shown else 0.0
    return np.asarray((x + 1j * y) ** 2 * near / (energy + typical + 1e-20), np.complex64)


@dataclass(frozen=True)
class Shifts:
    """By how much blocks of the moving image are shifted.

    What lies at `centre` in the fixed image lies at `centre + shift` in the moving one, as it was put on the fixed.

    Attributes
    ----------
    centres, shifts : float64 array, shape (n, 2)
        Row and column.
    weights : float64 array, shape (n,)
        How much higher the peak of the correlation is than the next; equal images have about 1.
    """

    centres: np.ndarray
    shifts: np.ndarray
    weights: np.ndarray


def block_shifts(fixed: Plane, moving: Plane, positions: Positions, *, size: int, reach: int, across: int) -> Shifts:
    """Return the shift of every block that has one, at most `reach` pixels along an axis.

    Blocks have `size` pixels along a side, or 3/8 of the image's shorter side where that is less; there are at most
    `across` of them along a side, so what it costs does not depend on the size of the images.
    """
    shortest = min(fixed.values.shape)
    size = min(size, max(3 * shortest // 8, min(32, shortest // 2)))
    corners = np.stack(np.meshgrid(*(_spread(n, size, across) for n in fixed.values.shape), indexing="ij"), -1).reshape(
        -1, 2
    )
    rows, columns = np.arange(size)[:, None], np.arange(size)
    index = (corners[:, 0, None, None] + rows, corners[:, 1, None, None] + columns)  # (n, size, size)
    places = positions(np.stack(np.broadcast_arrays(*index)).astype(np.float64))
    there = [ndimage.map_coordinates(x, places, order=1, cval=0.0) for x in (moving.values, moving.valid)]
    window = np.outer(np.hanning(size + 2)[1:-1], np.hanning(size + 2)[1:-1]).astype(np.float32)
    a = edge_field(fixed.values[index], fixed.valid[index]) * window
    b = edge_field(there[0], (there[1] > 1 - 1e-4).astype(np.float32)) * window
    surface = fft.ifft2(fft.fft2(b) * np.conj(fft.fft2(a))).real
    reach = min(reach, size // 2 - 1)
    surface = fft.fftshift(surface, axes=(1, 2))[
        :, size // 2 - reach : size // 2 + reach + 1, size // 2 - reach : size // 2 + reach + 1
    ]
    energy = np.sqrt((np.abs(a) ** 2).sum((1, 2)) * (np.abs(b) ** 2).sum((1, 2)))
    found = [
        (corner + (size - 1) / 2, at[0] - reach, at[1])
        for corner, values, most in zip(corners, surface, energy, strict=True)
        if (at := _peak(values, most)) is not None
    ]
    if not found:
        return Shifts(np.zeros((0, 2)), np.zeros((0, 2)), np.zeros(0))
    centres, shifts, weights = zip(*found, strict=True)
    return Shifts(np.array(centres), np.array(shifts), np.array(weights))


def whole_shift(fixed: np.ndarray, moving: np.ndarray) -> tuple[np.ndarray, float]:
    """Return the shift (row, column) at which two edge fields (H, W), tapered, agree best, and how well they do."""
    surface = fft.fftshift(fft.ifft2(fft.fft2(moving) * np.conj(fft.fft2(fixed))).real)
    at = np.unravel_index(surface.argmax(), surface.shape)
    centre = [n // 2 for n in surface.shape]
    return np.array([_between(surface, at, axis) for axis in (0, 1)]) - centre, float(surface[at])


def _spread(length: int, size: int, across: int) -> np.ndarray:
    """Return where blocks begin, half a block apart or further."""
    count = min(across, max(2, int(np.ceil(2 * (length - size) / size)) + 1))
    return np.unique(np.linspace(0, length - size, count).astype(int))


def _peak(surface: np.ndarray, most: float) -> tuple[np.ndarray, float] | None:
    """Return where a correlation is greatest, in pixels, and by how much; None at the border, or where nothing is."""
    at = np.unravel_index(surface.argmax(), surface.shape)
    if most <= 0 or any(k in (0, n - 1) for k, n in zip(at, surface.shape, strict=True)):
        return None
    rest = surface.copy()
    rest[tuple(slice(max(0, k - _GAP), k + _GAP + 1) for k in at)] = 0
    return np.array([_between(surface, at, axis) for axis in (0, 1)]), float((surface[at] - rest.max()) / most)


def _between(surface: np.ndarray, at: tuple[np.intp, ...], axis: int) -> float:
    """Return the vertex of the parabola through a peak and its two neighbours along an axis."""
    values = np.moveaxis(surface, axis, -1)[at[1 - axis]]
    k = int(at[axis])
    before, here, after = (float(values[(k + step) % len(values)]) for step in (-1, 0, 1))
    bend = before - 2 * here + after
    return k + (0.5 * (before - after) / bend if bend < 0 else 0.0)
