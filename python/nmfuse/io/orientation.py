"""The orientation that TIFF and EXIF give an image."""

from __future__ import annotations

import numpy as np

TURNED = (5, 6, 7, 8)  # rows are stored as columns


def upright(array: np.ndarray, orientation: int) -> np.ndarray:
    """Return an array as it is to be looked at.

    Parameters
    ----------
    array : array, shape (H, W, ...)
        As stored.
    orientation : int
        Tag 274 of TIFF 6.0 and EXIF, 1 to 8. Anything else counts as 1, "as it is".

    Returns
    -------
    array
        Contiguous.

    Examples
    --------
    >>> upright(np.array([[1, 2], [3, 4]]), 6)
    array([[3, 1],
           [4, 2]])
    """
    if orientation in TURNED:
        array = np.swapaxes(array, 0, 1)
    if orientation in (3, 4, 7, 8):
        array = array[::-1]
    if orientation in (2, 3, 6, 7):
        array = array[:, ::-1]
    return np.ascontiguousarray(array)
