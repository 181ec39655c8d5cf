"""Windows and local statistics on (N, H, W) float64 maps, without Python loops over pixels."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional


def ratio(numerator: Tensor, denominator: Tensor, otherwise: float = 0.0) -> Tensor:
    """Divide; where the denominator is 0 there is nothing to measure, and the result is `otherwise`."""
    empty = denominator == 0
    return torch.where(empty, otherwise, numerator / torch.where(empty, 1.0, denominator))


def gaussian_taps(size: int, sigma: float) -> tuple[float, ...]:
    """Return a sampled Gaussian of odd length `size`, of sum 1; its outer product is MATLAB's fspecial('gaussian').

    Examples
    --------
    >>> [round(t, 4) for t in gaussian_taps(3, 0.6)]
    [0.1664, 0.6672, 0.1664]
    """
    taps = [math.exp(-((k - size // 2) ** 2) / (2 * sigma**2)) for k in range(size)]
    return tuple(t / sum(taps) for t in taps)


def correlate(x: Tensor, rows: Sequence[float], columns: Sequence[float] | None = None, step: int = 1) -> Tensor:
    """Correlate with the outer product of two taps, valid area, keeping every `step`-th pixel.

    Parameters
    ----------
    x : (N, H, W)
    rows, columns : sequence of float
        Taps down the rows (axis -2) and along the columns (axis -1); `columns` defaults to `rows`.
    step : int
        1 keeps all pixels.

    Returns
    -------
    (N, ceil((H - len(rows) + 1) / step), ceil((W - len(columns) + 1) / step))
    """
    x = _along(x, rows, -2, step)
    return _along(x, rows if columns is None else columns, -1, step)


def _along(x: Tensor, taps: Sequence[float], axis: int, step: int) -> Tensor:
    length = x.shape[axis] - len(taps) + 1
    out: Tensor | None = None
    for k, tap in enumerate(taps):
        if tap == 0:
            continue
        window = x.narrow(axis, k, length)
        if step > 1:
            window = window[..., ::step] if axis == -1 else window[..., ::step, :]
        out = window * tap if out is None else out.add_(window, alpha=tap)
    if out is None:
        raise AssertionError("taps are all zero")
    return out


def correlate_symmetric(x: Tensor, taps: Sequence[float]) -> Tensor:
    """Correlate with the outer product of symmetric `taps`, valid area, in the order of summation of SciPy.

    Rounding errors are then those of ``scipy.ndimage.correlate1d`` down the rows, then along the columns.
    """
    half = len(taps) // 2
    for axis in (-2, -1):
        length = x.shape[axis] - 2 * half
        out = x.narrow(axis, half, length) * taps[half]
        for k in range(half):
            out += (x.narrow(axis, k, length) + x.narrow(axis, 2 * half - k, length)) * taps[k]
        x = out
    return x


def pad(x: Tensor, width: int, mode: str) -> Tensor:
    """Pad (N, H, W) by `width` on all sides: "constant" (zeros), "reflect" (edge not repeated) or "replicate"."""
    return functional.pad(x[:, None], (width,) * 4, mode=mode)[:, 0]


def gradients(x: Tensor, centre: float, border: str) -> tuple[Tensor, Tensor]:
    """Return 3 x 3 derivatives along the columns and down the rows: Sobel with `centre` 2, Prewitt with 1.

    Parameters
    ----------
    x : (N, H, W)
    centre : float
        The middle smoothing tap: ``[1, centre, 1]`` across, ``[-1, 0, 1]`` along. Not normalised.
    border : str
        As in `pad`.
    """
    x = pad(x, 1, border)
    smooth, slope = (1.0, centre, 1.0), (-1.0, 0.0, 1.0)
    return correlate(x, smooth, slope), correlate(x, slope, smooth)


def halve(x: Tensor) -> Tensor:
    """Mean of 2 x 2 blocks; an odd last row or column is dropped."""
    return functional.avg_pool2d(x, 2)


@dataclass(frozen=True)
class LocalStatistics:
    """Local means, variances and covariances in a sliding window; every map is (N, h, w).

    Attributes
    ----------
    mean_f, var_f : Tensor
        Of the fused image.
    means, variances, covariances : tuple of Tensor
        Of each source, the last with the fused image.
    """

    mean_f: Tensor
    var_f: Tensor
    means: tuple[Tensor, ...]
    variances: tuple[Tensor, ...]
    covariances: tuple[Tensor, ...]


def local_statistics(fused: Tensor, sources: Sequence[Tensor], blur: Callable[[Tensor], Tensor]) -> LocalStatistics:
    """Return the statistics in the window that `blur` averages over (its weights sum to 1)."""
    mean_f, means = blur(fused), tuple(blur(s) for s in sources)
    return LocalStatistics(
        mean_f,
        blur(fused * fused).sub_(mean_f * mean_f),
        means,
        tuple(blur(s * s).sub_(m * m) for s, m in zip(sources, means, strict=True)),
        tuple(blur(s * fused).sub_(m * mean_f) for s, m in zip(sources, means, strict=True)),
    )


def gaussian_statistics(fused: Tensor, sources: Sequence[Tensor], size: int, sigma: float) -> LocalStatistics:
    """`local_statistics` in a Gaussian window, valid area."""
    taps = gaussian_taps(size, sigma)
    return local_statistics(fused, sources, lambda x: correlate(x, taps))


def mean(x: Tensor) -> Tensor:
    """Mean over the pixels: (N, h, w) -> (N,)."""
    return x.mean(dim=(-2, -1))


def total(x: Tensor) -> Tensor:
    """Sum over the pixels: (N, h, w) -> (N,)."""
    return x.sum(dim=(-2, -1))
