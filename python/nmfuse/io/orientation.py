"""The orientation that TIFF and EXIF give an image, and the one that volumes of all formats are read in."""

from __future__ import annotations

import numpy as np

LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])  # of DICOM and ITK, whose mm go to the left and the back; its own inverse
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


def to_ras(voxels: np.ndarray, affine: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return a volume with its axial slices first: from feet to head, rows from back to front, columns left to right.

    An oblique volume is not turned, but brought to the closest of such orders (nibabel).

    Parameters
    ----------
    voxels : array, shape (X, Y, Z) or (X, Y, Z, 3)
        In any order and any direction of its axes.
    affine : float64 array, shape (4, 4)
        Takes the index of a voxel to its place in mm, to the right, the front and the head (RAS+).

    Returns
    -------
    array, shape (D, H, W) or (D, H, W, 3), in native byte order
    affine of its axes, shape (4, 4)

    Examples
    --------
    >>> pixels, affine = to_ras(np.zeros((48, 64, 20), np.int16), np.diag([-1.0, 1.0, 3.0, 1.0]))
    >>> pixels.shape, affine[:3, 3].tolist()
    ((20, 64, 48), [-47.0, 0.0, 0.0])
    """
    from nibabel.orientations import apply_orientation, inv_ornt_aff, io_orientation

    orientation = io_orientation(affine)
    pixels = np.swapaxes(apply_orientation(voxels, orientation), 0, 2)
    of_pixels = affine @ inv_ornt_aff(orientation, voxels.shape[:3])
    return np.ascontiguousarray(pixels, pixels.dtype.newbyteorder("=")), np.asarray(of_pixels[:, [2, 1, 0, 3]])


def from_ras(pixels: np.ndarray, affine: np.ndarray) -> np.ndarray:
    """Return the pixels of a volume in the order of a file: `to_ras` turned back.

    Parameters
    ----------
    pixels : array, shape (D, H, W)
        Slices to the head, rows to the front, columns to the right.
    affine : array, shape (4, 4)
        Of the file: from the indices of what it stores to mm, RAS+.

    Returns
    -------
    array, shape (X, Y, Z)
        As the file stores it.

    Examples
    --------
    >>> affine = np.diag([-1.0, 1.0, 3.0, 1.0])
    >>> voxels = np.arange(24).reshape(2, 3, 4)
    >>> bool((from_ras(to_ras(voxels, affine)[0], affine) == voxels).all())
    True
    """
    from nibabel.orientations import apply_orientation, axcodes2ornt, io_orientation, ornt_transform

    back = ornt_transform(axcodes2ornt("RAS"), io_orientation(affine))
    voxels: np.ndarray = apply_orientation(pixels.transpose(), back)
    return voxels
