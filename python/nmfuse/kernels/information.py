"""What the windows of two images tell of each other: the kernel of feature mutual information."""

from __future__ import annotations

from nmfuse.kernels._array import Array, take
from nmfuse.kernels._native import native_for
from nmfuse.kernels._traced import operators


def window_information(x: Array, y: Array, *, out: Array | None = None) -> Array:
    """Return how much information the 3 x 3 windows of two images have in common, ``2 I / (H_x + H_y)``.

    Each window is read column by column, as a distribution of nine values: its pixels minus their minimum, divided by
    their sum. The joint distribution is the mixture of the independent one and the Frechet bound that has the
    correlation of the windows. The result is 1 for equal windows, and 0 if one of two different windows is flat. It is
    also 0 if the entropies of both sum to less than 1e-4 nats, that is, if each has one bright pixel and at most a
    millionth of it in the others. A window with NaN gives NaN.

    Parameters
    ----------
    x, y : array, shape (..., H, W)
        The two images, in float32 or float64, as NumPy, torch or CuPy arrays with H and W of at least 3. Once the
        minimum of a window is subtracted, single precision is used.
    out : float32 array, shape (..., H - 2, W - 2), optional
        The array to write the result into; it may overlap neither image.

    Returns
    -------
    float32 array, shape (..., H - 2, W - 2)
        An array of the same library and device as `x`.

    Raises
    ------
    TypeError
        For a dtype or kind of array that is not supported.
    ValueError
        For shapes or devices that do not match, or images under 3 x 3.

    References
    ----------
    Haghighat & Razian, "Fast-FMI: non-reference image fusion metric", AICT 2014.

    Examples
    --------
    >>> import numpy as np
    >>> x = np.arange(16.0).reshape(4, 4)
    >>> window_information(x, x)
    array([[1., 1.],
           [1., 1.]], dtype=float32)
    """
    if (ops := operators(x, y)) is not None:
        return ops.window_information(x, y, out=out)
    first = take(x, "x")
    native, stream = native_for(first)
    first.require("x", native.dtypes["window_information"])
    second = take(y, "y")
    second.require("y", (first.dtype,))
    second.require_place("y", first)
    shape = first.shape
    if second.shape != shape:
        raise ValueError(f"y: shape {second.shape}; expected {shape}, as x")
    if min(shape[-2:]) < 3:
        raise ValueError(f"x: shape {shape}; expected at least 3 x 3 pixels")
    first, second = first.plain(), second.plain()
    target = first.result(out, (*shape[:-2], shape[-2] - 2, shape[-1] - 2), "float32", apart_from="x or y")
    if target.overlaps(second):
        raise ValueError("out: overlaps x or y; pass another array")
    native.window_information(first.data, second.data, target.data, stream)
    return first.given_back(target, out)
