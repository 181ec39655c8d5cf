"""Pixels that stay in their file until they are asked for."""

from __future__ import annotations

import weakref
from dataclasses import dataclass
from functools import reduce
from pathlib import Path
from typing import Any

import numpy as np


@dataclass(frozen=True, eq=False)
class LazyPixels:
    """Pixels (*spatial) or (*spatial, 3) of which only what is sliced is read; NumPy takes all of them as an array.

    Attributes
    ----------
    path : Path
        What a message calls the file.
    array : array-like
        With `shape`, `dtype`, and slices that NumPy takes as arrays: of zarr, h5py, or `MappedArray`.
    first : tuple of int
        Indices along the first axes of `array`, which are no axes of the image: one page of several.
    colours_first : bool
        Whether the axis of three colours comes next, and not last.

    Examples
    --------
    >>> planes = np.arange(24).reshape(2, 3, 4)
    >>> pixels = LazyPixels(Path("x.zarr"), planes, first=(1,))
    >>> pixels.shape, pixels[1:, 2:]
    ((3, 4), array([[18, 19], [22, 23]]))
    """

    path: Path
    array: Any
    first: tuple[int, ...] = ()
    colours_first: bool = False

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the pixels."""
        shape = tuple(int(n) for n in self.array.shape[len(self.first) :])
        return (*shape[1:], shape[0]) if self.colours_first else shape

    @property
    def dtype(self) -> np.dtype:
        """Type of the pixels, in native byte order."""
        dtype: np.dtype = np.dtype(self.array.dtype).newbyteorder("=")
        return dtype

    @property
    def ndim(self) -> int:
        """Number of axes of the pixels."""
        return len(self.shape)

    def closing(self, file: Any) -> LazyPixels:
        """Close a file when these pixels are gone, and return them."""
        weakref.finalize(self, file.close)
        return self

    def __getitem__(self, place: Any) -> np.ndarray:
        """Return the pixels of one slice for each of the first axes, as an array of their own.

        Raises
        ------
        ValueError
            Where the file turns out to be broken there.
        """
        place = place if isinstance(place, tuple) else (place,)
        before = (*self.first, slice(None)) if self.colours_first else self.first
        try:
            pixels = np.asarray(self.array[(*before, *place)])
        except Exception as error:  # decoders raise errors of any kind
            raise ValueError(f"{self.path}: not a readable image ({type(error).__name__}: {error})") from error
        if self.colours_first:
            pixels = np.moveaxis(pixels, 0, -1)
        return np.ascontiguousarray(pixels, self.dtype)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        """Return all pixels, for NumPy."""
        return np.asarray(self[...], dtype)


@dataclass(frozen=True, eq=False)
class MappedArray:
    """An array that lies in a file as it is, mapped into memory only while it is sliced.

    Attributes
    ----------
    path : Path
    shape : tuple of int
    dtype : numpy.dtype
    offset : int
        Bytes before it.
    order : {"C", "F"}
    """

    path: Path
    shape: tuple[int, ...]
    dtype: np.dtype
    offset: int = 0
    order: str = "C"

    def __getitem__(self, place: Any) -> np.ndarray:
        """Return a copy of some of it, so that no page of the file stays in memory."""
        mapped = np.memmap(self.path, self.dtype, "r", self.offset, self.shape, "F" if self.order == "F" else "C")
        return np.array(mapped[place])


@dataclass(frozen=True, eq=False)
class LazyMask:
    """Where an image (H, W) or (H, W, 3) has none of some values, which stand for nothing; read when it is sliced."""

    pixels: LazyPixels
    nodata: tuple[Any, ...]

    def __getitem__(self, place: Any) -> np.ndarray:
        """Return the mask of some rows and columns, bool."""
        pixels = self.pixels[place]
        return reduce(np.logical_and, [differs(pixels, value, 2) for value in self.nodata])

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        """Return all of the mask, for NumPy."""
        return np.array(self[:], dtype, copy=copy)


def differs(pixels: np.ndarray, value: Any, spatial: int) -> np.ndarray:
    """Return where pixels (*spatial) or (*spatial, C) differ, in any channel, from a value, which may be NaN."""
    there = ~np.isnan(pixels) if np.isnan(value) else pixels != value
    return np.asarray(there.any(-1) if pixels.ndim > spatial else there)
