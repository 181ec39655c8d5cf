"""An image onto the grid of another, by SimpleITK."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from nmfuse.images import Grid, Image
from nmfuse.kernels import num_threads

_INTERPOLATIONS = {"linear": "sitkLinear", "bspline": "sitkBSpline", "nearest": "sitkNearestNeighbor"}


def resample(image: Image, grid: Grid, *, interpolation: str = "linear") -> Image:
    """Return an image on another grid; what lies outside of it, or where it is not valid, is not valid.

    Nothing is registered: the grids of both say where they lie. A grid that is much coarser than the image's own takes
    samples of it; smooth it before, if it has finer structure.

    Parameters
    ----------
    image : Image
        With a grid; pixels a NumPy array (*grid.shape) or (*grid.shape, 3), any dtype that `nmfuse.fuse` takes. NaN is
        not valid.
    grid : Grid
        Of as many axes: that of another image, ``other.grid``, or one of your own.
    interpolation : str
        "linear"; "bspline" (cubic, sharper, and may overshoot); "nearest" for labels, which are never mixed.

    Returns
    -------
    Image
        On `grid`, in the dtype of the image (integers rounded), with all that it carries. On its own grid it is what it
        was.

    Raises
    ------
    TypeError
        If the pixels are no NumPy array.
    ValueError
        If the image has no grid or lies outside of the other, or for an unknown interpolation.
    ModuleNotFoundError
        If SimpleITK is not there.

    References
    ----------
    Lowekamp, Chen, Ibáñez & Blezek, "The design of SimpleITK", Front. Neuroinform. 7 (2013); "bspline": Unser, Aldroubi
    & Eden, "B-spline signal processing", IEEE Trans. Signal Process. 41 (1993).

    Examples
    --------
    >>> fine, coarse = Grid((8, 8), np.eye(3)), Grid((5, 5), np.diag([2.0, 2.0, 1.0]))
    >>> image = resample(Image(np.arange(64).reshape(8, 8), grid=fine), coarse)
    >>> image.pixels[1], image.valid[1]
    (array([16, 18, 20, 22,  0]), array([ True,  True,  True,  True, False]))
    """
    if interpolation not in _INTERPOLATIONS:
        raise ValueError(f"interpolation: got {interpolation!r}; expected one of {', '.join(_INTERPOLATIONS)}")
    name = image.name or "image"
    if image.grid is None:
        raise ValueError(
            f"{name}: has no grid, so nothing says where its pixels lie; give it one, "
            "dataclasses.replace(image, grid=nmfuse.images.Grid(shape, affine)), or resize it by other means"
        )
    pixels, axes = image.pixels, len(image.grid.shape)
    if not isinstance(pixels, np.ndarray):
        raise TypeError(f"{name}: pixels are a {type(pixels).__name__}; expected a NumPy array")
    if pixels.shape[:axes] != image.grid.shape or pixels.ndim > axes + 1:
        raise ValueError(
            f"{name}: shape {pixels.shape}, but its grid has {image.grid.shape}; give it a grid of its own"
        )
    if len(grid.shape) != axes:
        raise ValueError(f"grid: has {len(grid.shape)} axes, but {name} has {axes}; expected as many")
    if not image.grid.difference(grid):
        return replace(image, spacing=grid.spacing, grid=grid)
    valid = np.ones(image.grid.shape, bool) if image.valid is None else np.asarray(image.valid)
    if pixels.dtype.kind == "f":
        finite = ~np.isnan(pixels)
        valid = valid & (finite.all(-1) if pixels.ndim > axes else finite)
    shown = _onto(valid.astype(np.uint8), image.grid, grid, "nearest") > 0
    if not shown.any():
        raise ValueError(
            f"{name}: shows nothing of the other grid, {image.grid.difference(grid)}; are they of one space?"
        )
    # single precision holds integers of 16 bits
    work = np.float64 if pixels.dtype.itemsize > 4 or pixels.dtype.name == "int32" else np.float32
    values = _onto(_continued(pixels, valid).astype(work), image.grid, grid, interpolation)
    if pixels.dtype.kind in "iu":
        limits = np.iinfo(pixels.dtype)
        values = np.rint(values).clip(limits.min, limits.max)
    elif pixels.dtype.kind == "b":
        values = values >= 0.5
    values[~shown] = 0
    return replace(
        image,
        pixels=values.astype(pixels.dtype),
        valid=None if shown.all() else shown,
        spacing=grid.spacing,
        grid=grid,
    )


def _continued(pixels: np.ndarray, valid: np.ndarray) -> np.ndarray:
    """Return the pixels with the nearest valid value where they are not valid, so that nothing bleeds in from there."""
    if valid.all() or not valid.any():
        return pixels
    from scipy import ndimage

    nearest = ndimage.distance_transform_edt(~valid, return_distances=False, return_indices=True)
    return np.asarray(pixels[tuple(nearest)])


def _onto(pixels: np.ndarray, of: Grid, grid: Grid, interpolation: str) -> np.ndarray:
    """Return the pixels on another grid, 0 outside."""
    try:
        import SimpleITK as sitk  # noqa: N813
    except ImportError as error:
        raise ModuleNotFoundError(
            "resampling needs SimpleITK, which is not installed; pip install 'nmfuse[medical]'", name="SimpleITK"
        ) from error
    axes = len(of.shape)
    indices = np.linalg.solve(of.affine, grid.affine)  # of the grid's pixels to the image's; ITK counts axes backwards
    transform = sitk.AffineTransform(axes)
    transform.SetMatrix(indices[:axes, :axes][::-1, ::-1].ravel().tolist())
    transform.SetTranslation(indices[:axes, -1][::-1].tolist())
    resampler: Any = sitk.ResampleImageFilter()
    resampler.SetSize(grid.shape[::-1])
    resampler.SetOutputOrigin([0.0] * axes)
    resampler.SetOutputSpacing([1.0] * axes)
    resampler.SetOutputDirection(np.eye(axes).ravel().tolist())
    resampler.SetTransform(transform)
    resampler.SetInterpolator(getattr(sitk, _INTERPOLATIONS[interpolation]))
    resampler.SetNumberOfThreads(num_threads())
    image = sitk.GetImageFromArray(np.ascontiguousarray(pixels), isVector=pixels.ndim > axes)
    return np.asarray(sitk.GetArrayFromImage(resampler.Execute(image)))
