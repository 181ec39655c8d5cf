"""Values of an image between its pixels, many at once."""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional

_MODES = {0: "nearest", 1: "bilinear"}
_POLE = math.sqrt(3) - 2  # of the recursive filter that undoes the smoothing of a cubic B-spline
_TERMS = 60  # of a power series in it: what is left is below 1e-34
_BORDER = 2  # coefficients beyond the outermost pixels that a value at their centres depends on
_ROWS = 256  # that are filtered along together
_TURNED = 128  # columns that become rows at once, so few that they stay in the processor's cache


def spline_coefficients(planes: np.ndarray, dtype: npt.DTypeLike = np.float64) -> np.ndarray:
    """Return the coefficients of the cubic B-spline through the pixels (C, H, W), mirrored at the outermost centres.

    They are those of `scipy.ndimage.spline_filter` with mode "mirror", found a row at a time, which is several times as
    fast, and two more of them on each side: (C, H + 4, W + 4), in the `dtype` of floats that is asked for.

    References
    ----------
    Unser, "Splines: a perfect fit for signal and image processing", IEEE Signal Process. Mag. 16 (1999), box 2.

    Examples
    --------
    >>> spline_coefficients(np.full((1, 3, 4), 7.0)).round(6).min()
    np.float64(7.0)
    """
    count, h, w = planes.shape
    wide = np.empty((count, h + 2 * _BORDER, w + 2 * _BORDER), dtype)
    inner = wide[:, _BORDER:-_BORDER, _BORDER:-_BORDER]
    np.multiply(planes, wide.dtype.type(math.prod(-6 * _POLE for n in (h, w) if n > 1)), out=inner)
    result = torch.from_numpy(inner)
    _undo_smoothing(result.movedim(1, 0))
    for part in torch.split(result, _ROWS, 1):
        turned = torch.empty((w, count, part.shape[1]), dtype=result.dtype)
        blocks = list(zip(*(torch.split(x, _TURNED) for x in (turned, part.permute(2, 0, 1))), strict=True))
        for there, here in blocks:
            there.copy_(here)
        _undo_smoothing(turned)
        for there, here in blocks:
            here.copy_(there)
    for axis, n in ((1, h), (2, w)):
        along, ends = np.moveaxis(wide, axis, 0), [0, 1, -2, -1]
        along[ends] = along[np.pad(np.arange(_BORDER, n + _BORDER), _BORDER, mode="reflect")[ends]]
    return wide


def _undo_smoothing(rows: Tensor) -> None:
    """Filter along the first axis, in place, forwards and backwards; the result is the coefficients over -6 poles."""
    n = len(rows)
    if n == 1:
        return
    period = 2 * n - 2
    start = torch.zeros_like(rows[0])
    for k in range(min(period, _TERMS)):
        start.add_(rows[min(k, period - k)], alpha=_POLE**k)
    rows[0] = start / (1 - _POLE**period)
    each = rows.unbind()
    for before, row in pairwise(each):
        row.add_(before, alpha=_POLE)
    each[-1].add_(each[-2], alpha=_POLE).div_(1 - _POLE**2)
    for after, row in pairwise(reversed(each)):
        row.add_(after, alpha=_POLE)


def interpolated(planes: np.ndarray, places: np.ndarray, order: int) -> Tensor:
    """Return the values of planes (C, H, W) at places within them; elsewhere anything.

    Parameters
    ----------
    planes : float32 or float64 array, shape (C, H, W)
        Pixels; for order 3 their `spline_coefficients`, (C, H + 4, W + 4).
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
    row, column = (torch.from_numpy(x) for x in places)
    if order < 3:
        rows, columns = (
            (x * (2 / max(1, n - 1)) - 1).to(image.dtype) for x, n in zip((row, column), planes.shape[1:], strict=True)
        )
        return _at(image, torch.stack([columns, rows], -1), _MODES[order])
    (above, below, row_share), (left, right, column_share) = (
        _halves(x, n, image.dtype) for x, n in zip((row, column), planes.shape[1:], strict=True)
    )
    grid = torch.stack([left, above], -1)
    upper = _at(image, grid)
    grid[..., 0] = right
    upper = torch.lerp(_at(image, grid), upper, column_share)
    grid[..., 1] = below
    lower = _at(image, grid)
    grid[..., 0] = left
    lower = torch.lerp(lower, _at(image, grid), column_share)
    return torch.lerp(lower, upper, row_share)


def _halves(x: Tensor, n: int, dtype: torch.dtype) -> tuple[Tensor, Tensor, Tensor]:
    """Return a place before and one behind each, and the share of the first: of linear values, a cubic B-spline's.

    Places are among n coefficients, of which _BORDER are in front of the first pixel, as torch counts them: -1 is the
    centre of the first, 1 that of the last.
    """
    pixel = x.floor()
    t = (x - pixel).to(dtype)
    pixel = pixel.sub_((n - 1) / 2 - _BORDER).to(dtype)  # from the middle, where single precision is finest
    before = t.div(-3).add_(0.5).mul_(t).add_(0.5).mul_(t).neg_().add_(5 / 6)  # the weight of the first two of four
    u = 1 - t
    first, last = (u * u).mul_(u).div_(6 * before), (t * t).mul_(t).div_(6 - 6 * before)
    step = 2 / (n - 1)
    return (pixel - first).mul_(step), (pixel + 1).add_(last).mul_(step), before


def _at(image: Tensor, grid: Tensor, mode: str = "bilinear") -> Tensor:
    return functional.grid_sample(image, grid[None], mode, padding_mode="border", align_corners=True)[0]
