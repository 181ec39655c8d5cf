"""Luminance of NumPy images, by BT.601: the one place that holds its weights."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from nmfuse.images.image import Image

BT601 = (0.299, 0.587, 0.114)  # of red, green and blue


def luminance(image: Image | np.ndarray, dtype: npt.DTypeLike = np.float64) -> np.ndarray:
    """Return the luminance (BT.601) of an image.

    Parameters
    ----------
    image : Image or array, shape (..., H, W) or (..., H, W, 3)
        Any real dtype.
    dtype : dtype
        Of the result, and of floats, where the image is in colour.

    Returns
    -------
    array, shape (..., H, W)
        On the scale of the pixels, of colour in `dtype`; grey as it is. What an `Image` carries besides is left out.

    Examples
    --------
    >>> luminance(np.array([[[255, 0, 0]]], np.uint8))
    array([[76.245]])
    """
    pixels: np.ndarray = image.pixels if isinstance(image, Image) else image
    if pixels.ndim < 3 or pixels.shape[-1] != 3:
        return pixels
    return np.asarray(pixels.astype(dtype, copy=False) @ np.array(BT601, dtype))


def grey(image: Image | np.ndarray) -> np.ndarray:
    """Return the luminance (BT.601) of an image in its own dtype, rounded where that is of integers.

    Parameters
    ----------
    image : Image or array, shape (..., H, W) or (..., H, W, 3)
        Any real dtype.

    Returns
    -------
    array, shape (..., H, W)
        In the dtype of the pixels. What an `Image` carries besides is left out.

    Examples
    --------
    >>> grey(np.array([[[255, 0, 0]]], np.uint8))
    array([[76]], dtype=uint8)
    >>> grey(Image(np.array([[[0.0, 1.0, 0.0]]])))
    array([[0.587]])
    """
    values = luminance(image)
    return np.asarray(np.rint(values) if image.dtype.kind in "iu" else values, image.dtype)
