"""Background detection: the dark surround that belongs to no object."""

from __future__ import annotations

import math

import numpy as np

from nmfuse.kernels._array import CPU, Array, take
from nmfuse.kernels.checks import check_spatial

_OTSU_SHARE = 0.5  # tau_b = half of Otsu's threshold, ...
_LEAST = 0.02  # ... at least 2 % of the range between the 1st and 99th percentile
_BINS = 256


def detect_background(x: Array, spatial: int = 2) -> Array:
    """Return True where a pixel belongs to the dark background around the largest object.

    A pixel is foreground where it lies above ``tau_b = max(0.5 * Otsu, 2 % of the 1st-99th percentile range)``; only
    the largest connected component counts (pixels that share an edge, voxels that share a face), with its holes filled.
    An image without contrast has no background.

    Parameters
    ----------
    x : array, shape (..., H, W) or (..., D, H, W)
        The image or volume, on the CPU, in any real dtype. NaN and infinite values count as 0.
    spatial : {2, 3}
        The number of last axes that contain one object: 2 treats each plane separately, 3 each volume.

    Returns
    -------
    bool array, shape of `x`
        An array of the same library as `x`.

    Raises
    ------
    ValueError
        If `x` is not on the CPU or has fewer than `spatial` axes.

    References
    ----------
    Otsu, IEEE Trans. SMC 9 (1979) 62-66.

    Examples
    --------
    >>> import numpy as np, nmfuse
    >>> x = np.zeros((8, 8)); x[2:6, 2:6] = 1.0
    >>> int(nmfuse.detect_background(x).sum())
    48
    """
    check_spatial(spatial)
    held = take(x, "x")
    if held.device[0] != CPU:
        raise ValueError("x: background detection runs on the CPU only; pass the background as a bool array")
    if len(held.shape) < spatial:
        raise ValueError(f"x: shape {held.shape} has {len(held.shape)} axes; expected at least {spatial}")
    image = held.to_host()
    parts = image.reshape((math.prod(image.shape[:-spatial]), *image.shape[-spatial:]))
    flags = np.stack([_background_of(part) for part in parts]) if len(parts) else parts.astype(bool)
    return held.given_back(held.from_numpy(flags.reshape(image.shape)), None)


def _background_of(plane: np.ndarray) -> np.ndarray:
    from scipy import ndimage

    values = np.nan_to_num(plane.astype(np.float64), posinf=0.0, neginf=0.0)
    if values.size == 0 or values.min() == values.max():
        return np.zeros(plane.shape, bool)
    low, high = np.percentile(values, (1, 99))
    threshold = max(_OTSU_SHARE * otsu_threshold(values), low + _LEAST * (high - low))
    labels, count = ndimage.label(values > threshold)
    if count == 0:
        return np.zeros(plane.shape, bool)
    largest = 1 + int(np.argmax(np.bincount(labels.ravel())[1:]))
    background: np.ndarray = ~ndimage.binary_fill_holes(labels == largest)
    return background


def otsu_threshold(values: np.ndarray) -> float:
    """Return the value that parts the values into two classes whose means lie furthest apart, weighted by their sizes.

    The centre of one of 256 bins between the least and the largest value; of several as good, the lowest.

    Parameters
    ----------
    values : float array, any shape
        Finite, and not all equal.

    Returns
    -------
    float

    References
    ----------
    Otsu, IEEE Trans. SMC 9 (1979) 62-66, Eq. 18.

    Examples
    --------
    >>> import numpy as np
    >>> otsu_threshold(np.array([0.0, 0.0, 0.5, 8.0]))
    0.515625
    """
    counts, edges = np.histogram(values, _BINS)
    centres = (edges[:-1] + edges[1:]) / 2
    below, above = np.cumsum(counts), np.cumsum(counts[::-1])[::-1]  # never 0: the outer bins hold the extremes
    mean_below = np.cumsum(counts * centres) / below
    mean_above = np.cumsum((counts * centres)[::-1])[::-1] / above
    between = below[:-1].astype(np.float64) * above[1:] * (mean_below[:-1] - mean_above[1:]) ** 2
    return float(centres[np.argmax(between)])
