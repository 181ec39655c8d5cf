"""Statistics of the fused image (EN, SD, SF, AG), and its correlation (CC, SCD) and error (RMSE, PSNR)."""

from __future__ import annotations

import torch
from torch import Tensor

from nmfuse.metrics._filters import mean, ratio, total
from nmfuse.metrics._input import Images


def standard_deviation(images: Images) -> Tensor:
    """SD: population standard deviation of the fused image, in grey levels of 0..255."""
    return mean(_centred(images.fused) ** 2).sqrt()


def spatial_frequency(images: Images) -> Tensor:
    """SF: ``sqrt(mean (row difference)^2 + mean (column difference)^2)`` of the fused image (Eskicioglu 1995).

    Each mean is over the differences that exist, ``(H - 1) W`` and ``H (W - 1)`` of them.
    """
    squares = [mean(images.fused.diff(dim=axis) ** 2) for axis in (-2, -1)]
    return (squares[0] + squares[1]).sqrt()


def average_gradient(images: Images) -> Tensor:
    """AG: mean of ``sqrt((gx^2 + gy^2) / 2)``; central differences, one-sided at the border (Cui et al. 2015)."""
    gy, gx = torch.gradient(images.fused, dim=(-2, -1))
    return mean(((gx * gx + gy * gy) / 2).sqrt())


def correlation(images: Images) -> Tensor:
    """CC: Pearson correlation of the fused image with each source, the mean of them. 0 with a flat image."""
    return torch.stack([_pearson(images.fused, s) for s in images.sources]).mean(0)


def sum_of_correlations_of_differences(images: Images) -> Tensor:
    """SCD: ``r(F - B, A) + r(F - A, B)``, two sources (Aslantas & Bendes 2015, eqs. 3-5).

    What the fused image has beyond one source should look like the other one.
    """
    a, b = images.sources
    return _pearson(images.fused - b, a) + _pearson(images.fused - a, b)


def root_mean_square_error(images: Images) -> Tensor:
    """RMSE: root of the squared difference to the sources, the mean over pixels and sources, in grey levels."""
    squares = [mean((images.fused - s) ** 2) for s in images.sources]
    return torch.stack(squares).mean(0).sqrt()


def peak_signal_to_noise(images: Images) -> Tensor:
    """PSNR: ``20 log10(255 / RMSE)`` in decibels, with RMSE as here; inf where fused and sources are the same."""
    return 20 * torch.log10(255 / root_mean_square_error(images))


def _centred(x: Tensor) -> Tensor:
    return x - mean(x)[:, None, None]


def _pearson(x: Tensor, y: Tensor) -> Tensor:
    # a flat image that is not a binary fraction leaves rounding noise of about 1e-14 grey levels, not structure
    x, y = (torch.where(total(z * z)[:, None, None] > 1e-16 * z[0].numel(), z, 0.0) for z in map(_centred, (x, y)))
    return ratio(total(x * y), (total(x * x) * total(y * y)).sqrt())
