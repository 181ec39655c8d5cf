"""Hannmean: a Hann-window-weighted local mean that ignores unreliable and background pixels."""

from __future__ import annotations

import math

from nmfuse.kernels import _array
from nmfuse.kernels._array import FLOATS, Array
from nmfuse.kernels._native import native_for
from nmfuse.kernels.background import detect_background

DTYPES = (*FLOATS, "uint8", "uint16")
MAX_SIZE = 63
_UNRELIABLE, _RELIABLE, _BACKGROUND = 0, 1, 2  # as in csrc/nmfuse/hannmean.h


def hannmean(
    x: Array,
    size: int = 3,
    mask: Array | None = None,
    *,
    background: Array | float | str | None = None,
    outliers: float | None = None,
    out: Array | None = None,
) -> Array:
    """Smooth an image by the Hann-weighted mean of each pixel's reliable neighbours.

    ``out(p) = sum_q K(q) m(p+q) x(p+q) / sum_q K(q) m(p+q)`` with ``K = h h'`` and the Hann window without its zero
    ends, ``h_k = 0.5 (1 - cos(2 pi k / (size + 1)))``: ``size=3`` is ``[1 2 1] / 4``. The edge pixel is repeated
    beyond the border. A pixel without any reliable neighbour keeps its value.

    Parameters
    ----------
    x : array, shape (..., H, W)
        float32, float64, uint8 or uint16; NumPy, torch or CuPy. Integers are computed in float32, rounded to nearest
        even. Row and leading strides are read in place, other layouts from a contiguous copy.
    size : int
        Window length in pixels, odd, 3 to 63.
    mask : bool array, shape of `x`, optional
        True where a pixel is reliable. Unreliable pixels are not used and are replaced by their neighbours' mean.
    background : {None, "auto"}, float or bool array, optional
        Pixels that are not used and keep their value: those at most this value, those of a bool array, or those that
        `detect_background` finds ("auto").
    outliers : float, optional
        k: a pixel with ``|x - median| > k * 1.4826 * MAD`` in its window is unreliable; 3 is usual.
    out : array, shape and dtype of `x`, optional
        Where to write; it may not overlap `x`.

    Returns
    -------
    array, shape (..., H, W)
        Of the same library, dtype and device as `x`.

    Raises
    ------
    TypeError
        For a dtype or kind of array that is not supported.
    ValueError
        For an even or too large `size`, or shapes or devices that do not match.

    References
    ----------
    Das et al., IJACSA 14 (2023), Sec. IV-B, read as a normalised convolution (Knutsson & Westin, CVPR 1993).

    Examples
    --------
    >>> import numpy as np, nmfuse
    >>> nmfuse.hannmean(np.eye(3, dtype=np.float32))[1]
    array([0.3125, 0.375 , 0.3125], dtype=float32)
    """
    x = _array.plain(_array.take(x, "x", dtypes=DTYPES))
    _check_size(size)
    native, stream = native_for(x)
    target = _array.result(out, x, tuple(x.shape))
    if out is not None and _array.overlap(x, target):
        raise ValueError("out: overlaps x; the filter cannot run in place, pass another array")
    codes = _reliability(x, mask, background, copy=outliers is not None)
    if outliers is not None:
        if not (isinstance(outliers, (int, float)) and math.isfinite(outliers) and outliers > 0):
            raise ValueError(f"outliers: got {outliers!r}; expected a positive number of deviations, such as 3")
        if codes is None:
            codes = _array.empty(x, tuple(x.shape), "uint8")
            codes[...] = _RELIABLE
        native.reject_outliers(x, size, float(outliers), codes, stream)
    native.hannmean(x, codes, size, target, stream)
    return target


def hannmean_adjoint(
    grad: Array,
    size: int = 3,
    mask: Array | None = None,
    *,
    background: Array | None = None,
    out: Array | None = None,
) -> Array:
    """Apply the adjoint of `hannmean` for a fixed mask: ``<hannmean(x), y> == <x, hannmean_adjoint(y)>``.

    Parameters
    ----------
    grad : array, shape (..., H, W)
        float32 or float64.
    size : int
        As for `hannmean`.
    mask, background : bool array, shape of `grad`, optional
        As for `hannmean`.
    out : array, shape and dtype of `grad`, optional
        Where to write; it may not overlap `grad`.

    Returns
    -------
    array, shape (..., H, W)
        Of the same library, dtype and device as `grad`.

    Raises
    ------
    TypeError, ValueError
        As `hannmean`.

    Examples
    --------
    >>> import numpy as np, nmfuse
    >>> float(nmfuse.hannmean_adjoint(np.ones((4, 4))).sum())
    16.0
    """
    grad = _array.plain(_array.take(grad, "grad", dtypes=FLOATS))
    _check_size(size)
    native, stream = native_for(grad)
    target = _array.result(out, grad, tuple(grad.shape))
    if out is not None and _array.overlap(grad, target):
        raise ValueError("out: overlaps grad; pass another array")
    codes = _reliability(grad, mask, background, copy=False)
    batch, (rows, cols) = _array.batch_of(grad.shape), grad.shape[-2:]
    needed = native.hannmean_adjoint_workspace(_array.dtype_of(grad), batch, rows, cols)
    workspace = _array.empty(grad, (needed,), "uint8")
    native.hannmean_adjoint(grad, codes, size, target, workspace, stream)
    return target


def _check_size(size: int) -> None:
    if isinstance(size, bool) or not isinstance(size, int) or size % 2 == 0 or not 3 <= size <= MAX_SIZE:
        raise ValueError(f"size: got {size!r}; expected an odd int from 3 to {MAX_SIZE}")


def _reliability(x: Array, mask: Array | None, background: Array | float | str | None, *, copy: bool) -> Array | None:
    """One code a pixel (csrc/nmfuse/hannmean.h) from the mask and the background; None where all are reliable."""
    if mask is None and background is None:
        return None
    codes = None
    if mask is not None:
        codes = _flags(mask, "mask", x)
    if background is None:
        if not copy:
            return codes
        own = _array.empty(x, tuple(x.shape), "uint8")
        own[...] = codes
        return own
    if isinstance(background, str):
        if background != "auto":
            raise ValueError(f"background: got {background!r}; expected 'auto', a number or a bool array")
        background = detect_background(x)
    elif isinstance(background, (int, float)) and not isinstance(background, bool):
        background = _array.at_most(x, background)
    flags = _flags(background, "background", x)
    merged = _array.empty(x, tuple(x.shape), "uint8")
    merged[...] = _RELIABLE if codes is None else codes
    _array.put(merged, flags, _BACKGROUND)
    return merged


def _flags(flags: Array, name: str, x: Array) -> Array:
    flags = _array.take(flags, name, dtypes=("bool",), ndim=0)
    _array.same_place(flags, x, name)
    if tuple(flags.shape) != tuple(x.shape):
        raise ValueError(f"{name}: shape {tuple(flags.shape)}; expected {tuple(x.shape)}, as the image")
    return _array.plain(flags)
