"""Histograms of oriented gradients."""

from __future__ import annotations

import numpy as np

_CELL = 8  # pixels
_BLOCK = 3  # cells
_BINS = 9  # of 20 degrees
_EPS = 1e-5
_CLIP = 0.2  # of a block's length: no single strong edge rules it


def hog(image: np.ndarray) -> np.ndarray:
    """Return the histograms of oriented gradients of an image.

    Central differences, 0 at the border; nine bins of unsigned direction, without interpolation, in cells of 8 x 8
    pixels; blocks of 3 x 3 cells at every cell, each normalised, clipped at 0.2 and normalised again (L2-Hys).

    Parameters
    ----------
    image : array, shape (H, W)
        Height and width multiples of 8, of 24 at least; any range.

    Returns
    -------
    array, shape (n,)
        float64, n = (H / 8 - 2) (W / 8 - 2) 81.

    Raises
    ------
    ValueError
        For another shape.

    References
    ----------
    Dalal & Triggs, CVPR 2005.

    Examples
    --------
    >>> hog(np.eye(24)).shape
    (81,)
    """
    if image.ndim != 2 or min(image.shape) < _BLOCK * _CELL or any(side % _CELL for side in image.shape):
        raise ValueError(f"image: shape {image.shape}; expected (H, W), multiples of 8 from 24 on: resize it")
    x = image.astype(np.float64)
    down, along = np.zeros_like(x), np.zeros_like(x)
    down[1:-1], along[:, 1:-1] = x[2:] - x[:-2], x[:, 2:] - x[:, :-2]
    bins = (np.rad2deg(np.arctan2(down, along)) % 180 // (180 / _BINS)).astype(np.int64) % _BINS
    votes = np.where(np.arange(_BINS) == bins[..., None], np.hypot(along, down)[..., None], 0)
    rows, columns = (side // _CELL for side in x.shape)
    cells = votes.reshape(rows, _CELL, columns, _CELL, _BINS).mean((1, 3))
    windows = np.lib.stride_tricks.sliding_window_view(cells, (_BLOCK, _BLOCK), (0, 1))
    blocks = np.moveaxis(windows, 2, -1).reshape(rows - _BLOCK + 1, columns - _BLOCK + 1, -1)
    blocks = np.minimum(_normalised(blocks), _CLIP)
    return _normalised(blocks).ravel()


def _normalised(blocks: np.ndarray) -> np.ndarray:
    length: np.ndarray = np.sqrt((blocks**2).sum(-1, keepdims=True) + _EPS**2)
    return np.asarray(blocks / length)
