"""Luminance of NumPy images, by BT.601: the one place that holds its weights."""

from __future__ import annotations

import numpy as np

BT601 = (0.299, 0.587, 0.114)  # of red, green and blue


def luminance(pixels: np.ndarray) -> np.ndarray:
    """Return the luminance (BT.601) of an image: (..., 3) as float64 (...), on its own scale; grey as it is.

    Examples
    --------
    >>> luminance(np.array([[[255, 0, 0]]], np.uint8))
    array([[76.245]])
    """
    if pixels.ndim < 3 or pixels.shape[-1] != 3:
        return pixels
    return np.asarray(pixels @ np.array(BT601))


def grey(pixels: np.ndarray) -> np.ndarray:
    """Return the luminance (BT.601) of an image in its own dtype, rounded where that is of integers.

    Examples
    --------
    >>> grey(np.array([[[255, 0, 0]]], np.uint8))
    array([[76]], dtype=uint8)
    """
    values = luminance(pixels)
    return np.asarray(np.rint(values) if pixels.dtype.kind in "iu" else values, pixels.dtype)
