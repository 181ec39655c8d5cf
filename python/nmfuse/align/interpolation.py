"""Values of an image between its pixels, many at once."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

_MODES = {0: "nearest", 1: "bilinear"}
_POLE = math.sqrt(3) - 2  # of the recursive filter that undoes the smoothing of a cubic B-spline
_TERMS = 60  # of a power series in it: what is left is below 1e-34


def spline_coefficients(planes: np.ndarray) -> np.ndarray:
    """Return the coefficients of the cubic B-spline through the pixels (C, H, W), mirrored at the outermost centres.

    It is `scipy.ndimage.spline_filter` with mode "mirror", a row at a time, which is several times as fast.

    References
    ----------
    Unser, "Splines: a perfect fit for signal and image processing", IEEE Signal Process. Mag. 16 (1999), box 2.

    Examples
    --------
    >>> spline_coefficients(np.full((1, 3, 4), 7.0)).round(6).min()
    np.float64(7.0)
    """
    result = torch.from_numpy(np.array(planes))
    for _ in range(2):
        result = result.transpose(1, 2).contiguous()
        for plane in result:
            _undo_smoothing(plane)
    return result.numpy()


def _undo_smoothing(rows: Tensor) -> None:
    """Filter along the first axis, in place: forwards, then backwards."""
    n = len(rows)
    if n == 1:
        return
    period = 2 * n - 2
    start = torch.zeros_like(rows[0])
    for k in range(min(period, _TERMS)):
        start.add_(rows[min(k, period - k)], alpha=_POLE**k)
    rows[0] = start / (1 - _POLE**period)
    for k in range(1, n):
        rows[k].add_(rows[k - 1], alpha=_POLE)
    rows[-1] = (rows[-1] + _POLE * rows[-2]) * (_POLE / (_POLE**2 - 1))
    for k in range(n - 2, -1, -1):
        rows[k].neg_().add_(rows[k + 1]).mul_(_POLE)
    rows.mul_(6)


def interpolated(planes: np.ndarray, places: np.ndarray, order: int) -> Tensor:
    """Return the values of planes (C, H, W) at places, mirrored at the centres of the outermost pixels.

    Parameters
    ----------
    planes : float32 or float64 array, shape (C, H, W)
        Pixels; for order 3 their `spline_coefficients`.
    places : float64 array, shape (2, h, w)
        Row and column.
    order : {0, 1, 3}
        The nearest pixel, a bilinear or a cubic B-spline interpolation.

    Returns
    -------
    Tensor, shape (C, h, w)
        In the dtype of the planes.

    References
    ----------
    Sigg & Hadwiger, "Fast third-order texture filtering", GPU Gems 2 (2005), chapter 20: the 16 weights of a cubic
    B-spline as four bilinear interpolations.

    Examples
    --------
    >>> interpolated(np.arange(4.0).reshape(1, 2, 2), np.array([[[0.5]], [[0.25]]]), 1)
    tensor([[[1.2500]]], dtype=torch.float64)
    """
    image = torch.from_numpy(planes)[None]
    if order < 3:
        row, column = (
            _scaled(torch.from_numpy(x), n, image.dtype) for x, n in zip(places, planes.shape[1:], strict=True)
        )
        return _at(image, row, column, _MODES[order])
    (above, below, row_share), (left, right, column_share) = (
        _halves(torch.from_numpy(x), n, image.dtype) for x, n in zip(places, planes.shape[1:], strict=True)
    )
    upper, lower = (
        torch.lerp(_at(image, row, right, "bilinear"), _at(image, row, left, "bilinear"), column_share)
        for row in (above, below)
    )
    return torch.lerp(lower, upper, row_share)


def _halves(x: Tensor, n: int, dtype: torch.dtype) -> tuple[Tensor, Tensor, Tensor]:
    """Return a place before and one behind each, and the share of the first: of linear values, a cubic B-spline's."""
    pixel = x.floor()
    t = (x - pixel).to(dtype)
    square = t * t
    last = square * t / 6  # the weights of the four pixels around
    second = 2 / 3 - square + 3 * last
    first = (1 - t) * (1 - 2 * t + square) / 6
    before = first + second
    return (
        _scaled(pixel - 1 + second / before, n, dtype),
        _scaled(pixel + 1 + last / (1 - before), n, dtype),
        before,
    )


def _scaled(x: Tensor, n: int, dtype: torch.dtype) -> Tensor:
    """Return places among n pixels as torch counts them: -1 the centre of the first, 1 that of the last."""
    return (x * (2 / max(1, n - 1)) - 1).to(dtype)


def _at(image: Tensor, rows: Tensor, columns: Tensor, mode: str) -> Tensor:
    grid = torch.stack([columns, rows], -1)[None]
    return functional.grid_sample(image, grid, mode, padding_mode="reflection", align_corners=True)[0]
