"""Overlapping-block aggregation: block scores on a strided grid to a per-pixel mean."""

from __future__ import annotations

import math

from nmfuse.kernels._array import Array, take
from nmfuse.kernels._native import native_for
from nmfuse.kernels._traced import operators
from nmfuse.kernels.checks import check_spatial, is_number, is_whole

_MOST = 2**63 - 1  # what the kernels count with


def aggregate_blocks(
    scores: Array,
    block: int = 16,
    stride: int = 2,
    shape: tuple[int, ...] | None = None,
    *,
    spatial: int = 2,
    fill: str | float = "nearest",
    out: Array | None = None,
) -> Array:
    """Give each pixel the mean of the scores of all blocks that cover it.

    Score ``(j, i)`` belongs to the pixels ``[j*stride, j*stride + block) x [i*stride, i*stride + block)``, clipped at
    the border. In a volume, blocks are cubes at the same stride along all three axes, and the mean is taken along the
    depth first. The cost per pixel does not depend on the size of the block (except for that mean in a volume).

    Parameters
    ----------
    scores : array, shape (..., hs, ws) or (..., ds, hs, ws)
        The scores, in float32 or float64, as a NumPy, torch or CuPy array. A NaN affects only the pixels of its block.
    block, stride : int
        The side of a block and the distance between blocks, in pixels; both at least 1.
    shape : (H, W) or (D, H, W), optional
        The size of the image or volume; by default the size that the blocks exactly fill. Every block must begin inside
        it.
    spatial : {2, 3}
        The number of last axes that the blocks cover: 2 for images, 3 for volumes.
    fill : "nearest" or float
        The value of pixels that no block covers: that of the nearest covered pixel (along each axis, the one with the
        lower index if two are equally near), or this constant.
    out : array, shape (..., H, W) or (..., D, H, W), dtype of `scores`, optional
        The array to write the result into.

    Returns
    -------
    array, shape (..., H, W) or (..., D, H, W)
        An array of the same library, dtype and device as `scores`.

    Raises
    ------
    TypeError
        For a dtype or kind of array that is not supported.
    ValueError
        For a grid that does not fit `shape`, another `spatial`, or shapes or devices that do not match.

    References
    ----------
    Liu et al., Information Fusion 36 (2017) 191-207, Sec. 3.3: the weight map of a Siamese network.

    Examples
    --------
    >>> import numpy as np, nmfuse
    >>> nmfuse.aggregate_blocks(np.array([[0.0, 1.0]]), block=2, stride=1, shape=(2, 3))
    array([[0. , 0.5, 1. ],
           [0. , 0.5, 1. ]])
    >>> nmfuse.aggregate_blocks(np.array([[[0.0]], [[1.0]]]), block=2, stride=1, spatial=3)[:, 0, 0]
    array([0. , 0.5, 1. ])
    """
    check_spatial(spatial)
    if (ops := operators(scores)) is not None:
        return ops.aggregate_blocks(scores, block, stride, shape, spatial=spatial, fill=fill, out=out)
    given = take(scores, "scores")
    native, stream = native_for(given)
    given.require("scores", native.dtypes["aggregate_blocks"], spatial)
    given = given.plain()
    batch, grid = given.shape[:-spatial], given.shape[-spatial:]
    shape = pixels_of(grid, block, stride, shape, fill)
    target = given.result(out, (*batch, *shape), apart_from="scores")
    nearest = fill == "nearest"
    value = 0.0 if nearest else float(fill)
    (hs, ws), (ds, depth) = grid[-2:], (grid[0], shape[0]) if spatial == 3 else (1, 1)
    needed = native.aggregate_blocks_workspace(given.dtype, math.prod(batch), hs, ws, ds, depth)
    workspace = given.empty((needed,), "uint8").data if needed > 0 else None
    native.aggregate_blocks(given.data, block, stride, nearest, value, ds, depth, target.data, workspace, stream)
    return given.given_back(target, out)


def aggregate_blocks_adjoint(
    grad: Array,
    block: int = 16,
    stride: int = 2,
    shape: tuple[int, ...] | None = None,
    *,
    spatial: int = 2,
    fill: str | float = "nearest",
    out: Array | None = None,
) -> Array:
    """Apply the adjoint of `aggregate_blocks`: ``<aggregate(s), y> == <s, aggregate_adjoint(y)>`` (fill constant 0).

    Parameters
    ----------
    grad : array, shape (..., H, W) or (..., D, H, W)
        The array to which the adjoint is applied, in float32 or float64.
    block, stride, spatial : int
        The same as for `aggregate_blocks`.
    shape : (hs, ws) or (ds, hs, ws), optional
        The size of the grid of blocks; by default that of all blocks that lie wholly inside the image or volume.
    fill : "nearest" or float
        The same as for `aggregate_blocks`; pixels with a constant do not contribute.
    out : array, shape (..., H, W) or (..., D, H, W), dtype of `grad`, optional
        The array to write the result into.

    Returns
    -------
    array, shape (..., H, W) or (..., D, H, W)
        An array of the same library, dtype and device as `grad`.

    Raises
    ------
    TypeError, ValueError
        For the same reasons as `aggregate_blocks`.

    Examples
    --------
    >>> import numpy as np, nmfuse
    >>> nmfuse.aggregate_blocks_adjoint(np.ones((2, 3)), block=2, stride=1, shape=(1, 2))
    array([[3., 3.]])
    """
    check_spatial(spatial)
    if (ops := operators(grad)) is not None:
        return ops.aggregate_blocks_adjoint(grad, block, stride, shape, spatial=spatial, fill=fill, out=out)
    given = take(grad, "grad")
    native, stream = native_for(given)
    given.require("grad", native.dtypes["aggregate_blocks_adjoint"], spatial)
    given = given.plain()
    batch, pixels = given.shape[:-spatial], given.shape[-spatial:]
    grid = grid_of(pixels, block, stride, shape, fill)
    target = given.result(out, (*batch, *grid), apart_from="grad")
    (hs, ws), (rows, cols), (ds, depth) = grid[-2:], pixels[-2:], (grid[0], pixels[0]) if spatial == 3 else (1, 1)
    needed = native.aggregate_blocks_adjoint_workspace(given.dtype, math.prod(batch), hs, ws, rows, cols, ds, depth)
    workspace = given.empty((needed,), "uint8")
    native.aggregate_blocks_adjoint(
        given.data, block, stride, fill == "nearest", ds, depth, target.data, workspace.data, stream
    )
    return given.given_back(target, out)


def pixels_of(
    grid: tuple[int, ...], block: int, stride: int, shape: tuple[int, ...] | None, fill: str | float
) -> tuple[int, ...]:
    """Return the size of the image or volume that a grid of blocks makes, checked."""
    _check_grid(block, stride, fill)
    if 0 in grid:
        raise ValueError(f"scores: shape {grid} has no blocks; expected at least {' x '.join('1' * len(grid))}")
    if shape is None:
        shape = tuple((n - 1) * stride + block for n in grid)
    shape = _shape(shape, len(grid))
    _check_fit(grid, shape, stride)
    return shape


def grid_of(
    pixels: tuple[int, ...], block: int, stride: int, shape: tuple[int, ...] | None, fill: str | float
) -> tuple[int, ...]:
    """Return the size of the grid of blocks of an image or volume, checked."""
    _check_grid(block, stride, fill)
    if shape is None:
        shape = tuple(max(1, 1 + (n - block) // stride) for n in pixels)
    grid = _shape(shape, len(pixels))
    _check_fit(grid, pixels, stride)
    return grid


def _check_grid(block: int, stride: int, fill: str | float) -> None:
    for name, value in (("block", block), ("stride", stride)):
        if not is_whole(value) or not 1 <= value <= _MOST:
            raise ValueError(f"{name}: got {value!r}; expected an int of at least 1 pixel and less than 2**63")
    if fill == "nearest":
        return
    if not is_number(fill) or _MOST < abs(fill) < math.inf:
        raise ValueError(f"fill: got {fill!r}; expected 'nearest' or a number")


def _shape(shape: tuple[int, ...], spatial: int) -> tuple[int, ...]:
    values: tuple[int, ...] = tuple(shape) if hasattr(shape, "__iter__") else ()
    if len(values) != spatial or not all(is_whole(n) and n >= 1 for n in values):
        wanted = "three ints of at least 1, (planes, " if spatial == 3 else "two ints of at least 1, ("
        raise ValueError(f"shape: got {shape!r}; expected {wanted}rows, columns)")
    return values


def _check_fit(grid: tuple[int, ...], shape: tuple[int, ...], stride: int) -> None:
    for axis, (n, size) in enumerate(zip(grid, shape, strict=True)):
        if (n - 1) * stride >= size:
            raise ValueError(
                f"shape: axis {axis} has {size} pixels, but block {n - 1} of {n} at stride {stride} starts at pixel "
                f"{(n - 1) * stride}; expected at most {math.ceil(size / stride)} blocks"
            )
