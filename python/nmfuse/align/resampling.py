"""An image onto the grid of another, by SimpleITK."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
from scipy.ndimage import distance_transform_edt

from nmfuse.images import Grid, Image
from nmfuse.kernels import num_threads

Finished = Callable[[np.ndarray], np.ndarray]  # floats -> values of the image's own dtype
_INTERPOLATIONS = {"linear": "sitkLinear", "bspline": "sitkBSpline", "nearest": "sitkNearestNeighbor"}


def resample(image: Image, grid: Grid, *, interpolation: str = "linear") -> Image:
    """Return an image on another grid; pixels outside of the image, or where it is not valid, are not valid.

    Nothing is registered: the positions are those of the two grids. A grid that is much coarser than that of the image
    only samples it; smooth the image first if it has finer structure.

    Parameters
    ----------
    image : Image
        An image that has a grid. Its pixels are a NumPy array with the shape of the grid, or with a last axis of three
        colours in addition, of any dtype that `nmfuse.fuse` takes. NaN is not valid.
    grid : Grid
        The grid of the result, with as many axes: that of another image, ``other.grid``, or one that you create.
    interpolation : str
        "linear"; "bspline", which is cubic, sharper, and may overshoot; or "nearest", which never mixes values and is
        right for labels.

    Returns
    -------
    Image
        The image on `grid`, in its dtype (integers are rounded) and with its metadata. If `grid` is its own, it is
        unchanged.

    Raises
    ------
    TypeError
        If the pixels are not a NumPy array.
    ValueError
        If the image has no grid or lies outside of `grid`, or for an unknown interpolation.
    ModuleNotFoundError
        If SimpleITK is not installed.

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
    if image.grid is not None and not image.grid.difference(grid) and interpolation in _INTERPOLATIONS:
        _check(image)
        return replace(image, spacing=grid.spacing, grid=grid)
    return onto_grid(image, grid, np.eye(len(grid.shape) + 1), interpolation)


def onto_grid(image: Image, grid: Grid, matrix: np.ndarray, interpolation: str) -> Image:
    """Return an image on a grid; the matrix takes places of that grid, in mm, to those of the image's own."""
    if interpolation not in _INTERPOLATIONS:
        raise ValueError(f"interpolation: got {interpolation!r}; expected one of {', '.join(_INTERPOLATIONS)}")
    _check(image)
    of, name = image.grid, image.name or "image"
    if of is None:
        raise ValueError(
            f"{name}: has no grid, so nothing says where its pixels lie; give it one, "
            "dataclasses.replace(image, grid=nmfuse.images.Grid(shape, affine)), or resize it by other means"
        )
    if len(grid.shape) != len(of.shape):
        raise ValueError(f"grid: has {len(grid.shape)} axes, but {name} has {len(of.shape)}; expected as many")
    indices = np.linalg.solve(of.affine, matrix @ grid.affine)

    def take(pixels: np.ndarray, valid: np.ndarray | None, finished: Finished) -> tuple[np.ndarray, np.ndarray]:
        seen = np.ones(of.shape, np.uint8) if valid is None else valid.astype(np.uint8)
        shown = _interpolated(seen, indices, grid.shape, "nearest") > 0
        work = pixels.astype(working_dtype(pixels.dtype))
        return finished(_interpolated(work, indices, grid.shape, interpolation)), shown

    return sampled(image, take, grid.spacing, grid, f"the other grid, {of.difference(grid)}")


def sampled(
    image: Image,
    take: Callable[[np.ndarray, np.ndarray | None, Finished], tuple[np.ndarray, np.ndarray | None]],
    spacing: tuple[float, ...] | None,
    grid: Grid | None,
    other: str,
) -> Image:
    """Return the image that an interpolation makes; what is not valid bleeds nowhere, and is not valid after.

    Parameters
    ----------
    image : Image
        NumPy pixels, (*spatial) or (*spatial, 3).
    take : callable
        (pixels, valid, finished) -> a new array of the pixels at their new places, interpolated as floats of
        `working_dtype` and passed through `finished`, and where they show something: the nearest pixel is valid. None:
        everywhere.
    spacing, grid
        Of the result.
    other : str
        What a message calls it.
    """
    pixels, axes, name = image.pixels, image.spatial, image.name or "image"
    valid = None if image.valid is None else np.asarray(image.valid)
    if pixels.dtype.kind == "f":
        finite = ~np.isnan(pixels)
        finite = finite.all(-1) if pixels.ndim > axes else finite
        valid = finite if valid is None else valid & finite
    if valid is not None and valid.all():
        valid = None
    if valid is not None:  # the nearest valid value, so that nothing bleeds in from what is not
        nearest = distance_transform_edt(~valid, return_distances=False, return_indices=True)
        pixels = pixels[tuple(nearest)]

    def finished(values: np.ndarray) -> np.ndarray:
        if pixels.dtype.kind in "iu":
            limits = np.iinfo(pixels.dtype)
            values = np.rint(values).clip(limits.min, limits.max)
        return (values >= 0.5 if pixels.dtype.kind == "b" else values).astype(pixels.dtype)

    values, shown = take(pixels, valid, finished)
    if shown is not None and not shown.any():
        raise ValueError(f"{name}: shows nothing of {other}; are they of one space?")
    if shown is not None and shown.all():
        shown = None
    if shown is not None:
        values[~shown] = 0
    return replace(image, pixels=values, valid=shown, spacing=spacing, grid=grid)


def working_dtype(dtype: np.dtype) -> type[np.floating[Any]]:
    """Return the type of floats that values of this one are interpolated in: single holds integers of 16 bits."""
    return np.float64 if dtype.itemsize > 4 or dtype.name == "int32" else np.float32


def _check(image: Image) -> None:
    name, pixels = image.name or "image", image.pixels
    if not isinstance(pixels, np.ndarray):
        raise TypeError(f"{name}: pixels are a {type(pixels).__name__}; expected a NumPy array")
    if image.grid is None:
        return
    axes = len(image.grid.shape)
    if pixels.shape[:axes] != image.grid.shape or pixels.ndim > axes + 1:
        raise ValueError(
            f"{name}: shape {pixels.shape}, but its grid has {image.grid.shape}; give it a grid of its own"
        )


def _interpolated(pixels: np.ndarray, indices: np.ndarray, shape: tuple[int, ...], interpolation: str) -> np.ndarray:
    """Return the pixels at other places, 0 outside; `indices` takes an index of the result to one of the pixels."""
    sitk, axes = simple_itk(), len(shape)
    transform = sitk.AffineTransform(axes)  # ITK counts axes backwards
    transform.SetMatrix(indices[:axes, :axes][::-1, ::-1].ravel().tolist())
    transform.SetTranslation(indices[:axes, -1][::-1].tolist())
    resampler: Any = sitk.ResampleImageFilter()
    resampler.SetSize(shape[::-1])
    resampler.SetOutputOrigin([0.0] * axes)
    resampler.SetOutputSpacing([1.0] * axes)
    resampler.SetOutputDirection(np.eye(axes).ravel().tolist())
    resampler.SetTransform(transform)
    resampler.SetInterpolator(getattr(sitk, _INTERPOLATIONS[interpolation]))
    resampler.SetNumberOfThreads(num_threads())
    image = sitk.GetImageFromArray(np.ascontiguousarray(pixels), isVector=pixels.ndim > axes)
    return np.asarray(sitk.GetArrayFromImage(resampler.Execute(image)))


def simple_itk() -> Any:
    """Return the module SimpleITK; ModuleNotFoundError where it is not there."""
    try:
        import SimpleITK as sitk  # noqa: N813
    except ImportError as error:
        raise ModuleNotFoundError(
            "resampling and registering volumes need SimpleITK, which is not installed; pip install 'nmfuse[medical]'",
            name="SimpleITK",
        ) from error
    return sitk
