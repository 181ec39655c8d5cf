"""Hannmean: a Hann-window-weighted local mean that ignores unreliable and background pixels."""

from __future__ import annotations

import math

from nmfuse.kernels._array import AnyArray, Array, take
from nmfuse.kernels._native import native_for
from nmfuse.kernels._traced import operators
from nmfuse.kernels.background import detect_background
from nmfuse.kernels.checks import check_spatial, is_number, is_whole

_UNRELIABLE, _RELIABLE, _BACKGROUND = 0, 1, 2  # as in csrc/nmfuse/hannmean.h


def hannmean(
    x: Array,
    size: int = 3,
    mask: Array | None = None,
    *,
    spatial: int = 2,
    background: Array | float | str | None = None,
    outliers: float | None = None,
    out: Array | None = None,
) -> Array:
    """Smooth an image or a volume by the Hann-weighted mean of each pixel's reliable neighbours.

    ``out(p) = sum_q K(q) m(p+q) x(p+q) / sum_q K(q) m(p+q)`` with ``K = h h'`` and the Hann window without its zero
    ends, ``h_k = 0.5 (1 - cos(2 pi k / (size + 1)))``: ``size=3`` is ``[1 2 1] / 4``. The edge pixel is repeated
    beyond the border. A pixel without any reliable neighbour keeps its value. In a volume the window is a cube, the
    product of one Hann window for each axis; sums are taken along the depth first, then down, then across.

    Parameters
    ----------
    x : array, shape (..., H, W) or (..., D, H, W)
        The image or volume, in float32, float64, uint8 or uint16, as a NumPy, torch or CuPy array. Integers are rounded
        to the nearest integer (ties to even): at size 3 and 5 from exact sums (except for volumes of uint16 at size 5),
        at other sizes from sums in float32. Arrays whose last axis is contiguous are read in place, others from a
        contiguous copy.
    size : int
        The length of the window in pixels: odd, from 3 to 63.
    mask : bool array, shape of `x`, optional
        True where a pixel is reliable. Unreliable pixels are not used, and are replaced by the mean of their
        neighbours.
    spatial : {2, 3}
        The number of last axes that are filtered together: 2 smooths each image, 3 smooths each volume.
    background : {None, "auto"}, float or bool array, optional
        The pixels that are not used and keep their value: those that are at most this value, those where this bool
        array is True, or those that `detect_background` finds ("auto").
    outliers : float, optional
        The factor k: a pixel with ``|x - median| > k * 1.4826 * MAD`` in its window (a square, or a cube in a volume)
        is unreliable, where MAD is the median absolute deviation. The usual value is 3.
    out : array, shape and dtype of `x`, optional
        The array to write the result into; it may not overlap `x`.

    Returns
    -------
    array, shape of `x`
        An array of the same library, dtype and device as ` x`.

    Raises
    ------
    TypeError
        For a dtype or kind of array that is not supported.
    ValueError
        For an even or too large `size`, another `spatial`, or shapes or devices that do not match.

    References
    ----------
    Das et al., IJACSA 14 (2023), Sec. IV-B, read as a normalised convolution (Knutsson & Westin, CVPR 1993).

    Examples
    --------
    >>> import numpy as np, nmfuse
    >>> nmfuse.hannmean(np.eye(3, dtype=np.float32))[1]
    array([0.3125, 0.375 , 0.3125], dtype=float32)
    >>> spike = np.zeros((3, 3, 3)); spike[1, 1, 1] = 64
    >>> nmfuse.hannmean(spike, spatial=3)[0, 1]
    array([2., 4., 2.])
    """
    check_spatial(spatial)
    if (ops := operators(x, mask, background)) is not None:
        return ops.hannmean(x, size, mask, spatial=spatial, background=background, outliers=outliers, out=out)
    image = take(x, "x")
    native, stream = native_for(image)
    image.require("x", native.dtypes["hannmean"], spatial)
    image = image.plain()
    check_size(size, native.max_hann_size)
    target = image.result(out, image.shape)
    codes = _reliability(image, mask, background, spatial, copy=outliers is not None)
    depth = _depth(image, spatial)
    if outliers is not None:
        check_outliers(outliers)
        if codes is None:
            codes = image.empty(image.shape, "uint8")
            codes.data[...] = _RELIABLE
        native.reject_outliers(image.data, size, depth, float(outliers), codes.data, stream)
    native.hannmean(image.data, None if codes is None else codes.data, size, depth, target.data, stream)
    return image.given_back(target, out)


def hannmean_adjoint(
    grad: Array,
    size: int = 3,
    mask: Array | None = None,
    *,
    spatial: int = 2,
    background: Array | None = None,
    out: Array | None = None,
) -> Array:
    """Apply the adjoint of `hannmean` for a fixed mask: ``<hannmean(x), y> == <x, hannmean_adjoint(y)>``.

    Parameters
    ----------
    grad : array, shape (..., H, W) or (..., D, H, W)
        The array to which the adjoint is applied, in float32 or float64.
    size, spatial : int
        The same as for `hannmean`.
    mask, background : bool array, shape of `grad`, optional
        The same as for `hannmean`.
    out : array, shape and dtype of `grad`, optional
        The array to write the result into; it may not overlap `grad`.

    Returns
    -------
    array, shape of `grad`
        An array of the same library, dtype and device as ` grad`.

    Raises
    ------
    TypeError, ValueError
        For the same reasons as `hannmean`.

    Examples
    --------
    >>> import numpy as np, nmfuse
    >>> float(nmfuse.hannmean_adjoint(np.ones((4, 4))).sum())
    16.0
    """
    check_spatial(spatial)
    if (ops := operators(grad, mask, background)) is not None:
        return ops.hannmean_adjoint(grad, size, mask, spatial=spatial, background=background, out=out)
    given = take(grad, "grad")
    native, stream = native_for(given)
    given.require("grad", native.dtypes["hannmean_adjoint"], spatial)
    given = given.plain()
    check_size(size, native.max_hann_size)
    target = given.result(out, given.shape, apart_from="grad")
    codes = _reliability(given, mask, background, spatial, copy=False)
    needed = native.hannmean_adjoint_workspace(given.dtype, given.planes, *given.shape[-2:])
    workspace = given.empty((needed,), "uint8")
    native.hannmean_adjoint(
        given.data,
        None if codes is None else codes.data,
        size,
        _depth(given, spatial),
        target.data,
        workspace.data,
        stream,
    )
    return given.given_back(target, out)


def check_size(size: int, most: int) -> None:
    """Refuse a window that is no odd number of pixels from 3 to `most`."""
    if not is_whole(size) or size % 2 == 0 or not 3 <= size <= most:
        raise ValueError(f"size: got {size!r}; expected an odd int from 3 to {most}")


def check_outliers(outliers: float) -> None:
    """Refuse what is no number of deviations."""
    if not (is_number(outliers) and math.isfinite(outliers) and outliers > 0):
        raise ValueError(f"outliers: got {outliers!r}; expected a positive number of deviations, such as 3")


def _depth(x: AnyArray, spatial: int) -> int:
    """How many planes make a volume; 1 for images. An empty volume has no planes, and any number divides them."""
    return max(1, x.shape[-3]) if spatial == 3 else 1


def _reliability(
    x: AnyArray, mask: Array | None, background: Array | float | str | None, spatial: int, *, copy: bool
) -> AnyArray | None:
    """One code a pixel (csrc/nmfuse/hannmean.h) from the mask and the background; None where all are reliable."""
    if mask is None and background is None:
        return None
    codes = None
    if mask is not None:
        codes = _flags(mask, "mask", x)
    if background is None:
        if not copy:
            return codes
        own = x.empty(x.shape, "uint8")
        own.data[...] = _RELIABLE if codes is None else codes.data
        return own
    if isinstance(background, str):
        if background != "auto":
            raise ValueError(f"background: got {background!r}; expected 'auto', a number or a bool array")
        background = detect_background(x.data, spatial)
    elif is_number(background):
        background = x.at_most(background)
    flags = _flags(background, "background", x)
    merged = x.empty(x.shape, "uint8")
    merged.data[...] = _RELIABLE if codes is None else codes.data
    merged.put(flags, _BACKGROUND)
    return merged


def _flags(flags: Array, name: str, x: AnyArray) -> AnyArray:
    held = take(flags, name)
    held.require(name, ("bool",), 0)
    held.require_place(name, x)
    if held.shape != x.shape:
        raise ValueError(f"{name}: shape {held.shape}; expected {x.shape}, as the image")
    return held.plain()
