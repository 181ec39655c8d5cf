"""Background detection: the dark surround that belongs to no object."""

from __future__ import annotations

import numpy as np

from nmfuse.kernels import _array
from nmfuse.kernels._array import Array

_OTSU_SHARE = 0.5  # tau_b = half of Otsu's threshold, ...
_LEAST = 0.02  # ... at least 2 % of the range between the 1st and 99th percentile


def detect_background(x: Array) -> Array:
    """Return True where a pixel belongs to the dark surround of the largest object.

    A pixel is foreground where it lies above ``tau_b = max(0.5 * Otsu, 2 % of the 1st-99th percentile range)``; only
    the largest connected component counts, with its holes filled. An image without contrast has no background.

    Parameters
    ----------
    x : array, shape (..., H, W)
        On the CPU; any real dtype. Each plane is treated by itself.

    Returns
    -------
    bool array, shape (..., H, W)
        Of the same library as `x`.

    Raises
    ------
    ValueError
        If `x` is not on the CPU.

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
    if _array.device_of(x)[0] != _array.CPU:
        raise ValueError("x: background detection runs on the CPU only; pass the background as a bool array")
    image = _array.to_numpy(x)
    planes = image.reshape((-1, *image.shape[-2:]))
    flags = np.stack([_plane_background(plane) for plane in planes]) if len(planes) else planes.astype(bool)
    return _array.from_numpy(x, flags.reshape(image.shape))


def _plane_background(plane: np.ndarray) -> np.ndarray:
    from scipy import ndimage
    from skimage.filters import threshold_otsu

    values = np.nan_to_num(plane.astype(np.float64), posinf=0.0, neginf=0.0)
    if values.size == 0 or values.min() == values.max():
        return np.zeros(plane.shape, bool)
    low, high = np.percentile(values, (1, 99))
    otsu = float(threshold_otsu(values))  # type: ignore[no-untyped-call]
    threshold = max(_OTSU_SHARE * otsu, low + _LEAST * (high - low))
    labels, count = ndimage.label(values > threshold)
    if count == 0:
        return np.zeros(plane.shape, bool)
    largest = 1 + int(np.argmax(np.bincount(labels.ravel())[1:]))
    background: np.ndarray = ~ndimage.binary_fill_holes(labels == largest)
    return background
