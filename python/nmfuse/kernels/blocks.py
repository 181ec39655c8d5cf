"""Overlapping-block aggregation: block scores on a strided grid to a per-pixel mean."""

from __future__ import annotations

import math

from nmfuse.kernels import _array
from nmfuse.kernels._array import FLOATS, Array
from nmfuse.kernels._native import native_for

_MOST = 2**63 - 1  # what the kernels count with


def aggregate_blocks(
    scores: Array,
    block: int = 16,
    stride: int = 2,
    shape: tuple[int, int] | None = None,
    *,
    fill: str | float = "nearest",
    out: Array | None = None,
) -> Array:
    """Give each pixel the mean of the scores of all blocks that cover it.

    Score ``(j, i)`` belongs to the pixels ``[j*stride, j*stride + block) x [i*stride, i*stride + block)``, clipped at
    the border. The cost per pixel does not depend on the block.

    Parameters
    ----------
    scores : array, shape (..., hs, ws)
        float32 or float64; NumPy, torch or CuPy. A NaN reaches only the pixels of its block.
    block, stride : int
        Side of a block and distance between blocks, in pixels, at least 1.
    shape : (H, W), optional
        Size of the image; by default the one that the blocks exactly fill. Every block must start inside it.
    fill : "nearest" or float
        What a pixel that no block covers becomes: the nearest covered pixel's value (along each axis, ties to the
        lower index), or this constant.
    out : array, shape (..., H, W), dtype of `scores`, optional
        Where to write.

    Returns
    -------
    array, shape (..., H, W)
        Of the same library, dtype and device as `scores`.

    Raises
    ------
    TypeError
        For a dtype or kind of array that is not supported.
    ValueError
        For a grid that does not fit `shape`, or shapes or devices that do not match.

    References
    ----------
    Liu et al., Information Fusion 36 (2017) 191-207, Sec. 3.3: the weight map of a Siamese network.

    Examples
    --------
    >>> import numpy as np, nmfuse
    >>> nmfuse.aggregate_blocks(np.array([[0.0, 1.0]]), block=2, stride=1, shape=(2, 3))
    array([[0. , 0.5, 1. ],
           [0. , 0.5, 1. ]])
    """
    scores = _array.plain(_array.take(scores, "scores", dtypes=FLOATS))
    _check_grid(block, stride, fill)
    grid = tuple(scores.shape[-2:])
    if 0 in grid:
        raise ValueError(f"scores: shape {tuple(scores.shape)} has no blocks; expected at least 1 x 1")
    if shape is None:
        shape = tuple((n - 1) * stride + block for n in grid)
    shape = _pair(shape, "shape")
    _check_fit(grid, shape, stride)
    native, stream = native_for(scores)
    target = _array.result(out, scores, (*scores.shape[:-2], *shape))
    if out is not None and _array.overlap(scores, target):
        raise ValueError("out: overlaps scores; pass another array")
    nearest = fill == "nearest"
    value = 0.0 if nearest else float(fill)
    native.aggregate_blocks(scores, block, stride, nearest, value, target, stream)
    return target


def aggregate_blocks_adjoint(
    grad: Array,
    block: int = 16,
    stride: int = 2,
    shape: tuple[int, int] | None = None,
    *,
    fill: str | float = "nearest",
    out: Array | None = None,
) -> Array:
    """Apply the adjoint of `aggregate_blocks`: ``<aggregate(s), y> == <s, aggregate_adjoint(y)>`` (fill constant 0).

    Parameters
    ----------
    grad : array, shape (..., H, W)
        float32 or float64.
    block, stride : int
        As for `aggregate_blocks`.
    shape : (hs, ws), optional
        Size of the block grid; by default all the blocks that lie wholly inside the image.
    fill : "nearest" or float
        As for `aggregate_blocks`; a constant takes no gradient.
    out : array, shape (..., hs, ws), dtype of `grad`, optional
        Where to write.

    Returns
    -------
    array, shape (..., hs, ws)
        Of the same library, dtype and device as `grad`.

    Raises
    ------
    TypeError, ValueError
        As `aggregate_blocks`.

    Examples
    --------
    >>> import numpy as np, nmfuse
    >>> nmfuse.aggregate_blocks_adjoint(np.ones((2, 3)), block=2, stride=1, shape=(1, 2))
    array([[3., 3.]])
    """
    grad = _array.plain(_array.take(grad, "grad", dtypes=FLOATS))
    _check_grid(block, stride, fill)
    rows, cols = grad.shape[-2:]
    if shape is None:
        shape = tuple(max(1, 1 + (n - block) // stride) for n in (rows, cols))
    shape = _pair(shape, "shape")
    _check_fit(shape, (rows, cols), stride)
    native, stream = native_for(grad)
    target = _array.result(out, grad, (*grad.shape[:-2], *shape))
    if out is not None and _array.overlap(grad, target):
        raise ValueError("out: overlaps grad; pass another array")
    batch = _array.batch_of(grad.shape)
    needed = native.aggregate_blocks_adjoint_workspace(_array.dtype_of(grad), batch, *shape, rows, cols)
    workspace = _array.empty(grad, (needed,), "uint8")
    native.aggregate_blocks_adjoint(grad, block, stride, fill == "nearest", target, workspace, stream)
    return target


def _check_grid(block: int, stride: int, fill: str | float) -> None:
    for name, value in (("block", block), ("stride", stride)):
        if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= _MOST:
            raise ValueError(f"{name}: got {value!r}; expected an int of at least 1 pixel and less than 2**63")
    if fill == "nearest":
        return
    if isinstance(fill, (str, bool)) or not isinstance(fill, (int, float)) or _MOST < abs(fill) < math.inf:
        raise ValueError(f"fill: got {fill!r}; expected 'nearest' or a number")


def _pair(shape: tuple[int, int], name: str) -> tuple[int, int]:
    values = tuple(shape) if hasattr(shape, "__iter__") else (shape,)
    if len(values) != 2 or not all(isinstance(n, int) and not isinstance(n, bool) and n >= 1 for n in values):
        raise ValueError(f"{name}: got {shape!r}; expected two ints of at least 1, (rows, columns)")
    return values


def _check_fit(grid: tuple[int, ...], shape: tuple[int, int], stride: int) -> None:
    for axis, (n, size) in enumerate(zip(grid, shape, strict=True)):
        if (n - 1) * stride >= size:
            raise ValueError(
                f"shape: axis {axis} has {size} pixels, but block {n - 1} of {n} at stride {stride} starts at pixel "
                f"{(n - 1) * stride}; expected at most {math.ceil(size / stride)} blocks"
            )
