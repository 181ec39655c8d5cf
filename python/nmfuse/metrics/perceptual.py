"""Perceptual quality of local contrast: Q_CB (Chen & Blum)."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from nmfuse.metrics._filters import correlate, mean, pad, ratio
from nmfuse.metrics._input import Images

_F0, _F1, _A = 15.387, 1.3456, 0.7622
_Z = 1e-4


# (31,): Gaussians of unit integral, not of unit sum, as published: the wider one loses .02 % beyond the window
_NARROW, _WIDE = (
    tuple(math.exp(-(k * k) / (2 * sigma**2)) / (math.sqrt(2 * math.pi) * sigma) for k in range(-15, 16))
    for sigma in (2, 4)
)


def contrast_quality(images: Images) -> Tensor:
    """Q_CB: how well the fused image keeps the sources' perceived local contrast (Chen & Blum 2009).

    The images are stretched to 0..255 and filtered by the difference-of-Gaussians contrast sensitivity (f0 = 15.387,
    f1 = 1.3456, a = .7622; 30 pixels to a degree, eqs. 1-4). Local contrast ``C = |G_2 * I / G_4 * I - 1|`` in 31 x 31
    windows (zero-padded) is masked, ``C' = C^3 / (C^2 + 1e-4)``; per source the smaller over the larger of its C' and
    the fused image's, weighted by the sources' ``C'^2``. Far from all content the filtered image is rounding noise, and
    so is its contrast: on images with much black, digits from the fourth on depend on the FFT library.
    """
    f, *sources = (_masked_contrast(x) for x in images.stretched().all)
    energy = torch.stack([c * c for c in sources])
    shares = ratio(energy, energy.sum(0).expand_as(energy), otherwise=1 / len(sources))
    kept = [ratio(torch.minimum(c, f), torch.maximum(c, f), otherwise=1) for c in sources]
    return mean((shares * torch.stack(kept)).sum(0))


def _sensitivity(height: int, width: int, device: torch.device) -> Tensor:
    v = torch.fft.fftfreq(height, dtype=torch.float64, device=device)[:, None] * 2 * height / 30
    u = torch.fft.rfftfreq(width, dtype=torch.float64, device=device)[None, :] * 2 * width / 30
    r2 = u * u + v * v
    return torch.exp(-r2 / _F0**2) - _A * torch.exp(-r2 / _F1**2)


def _masked_contrast(x: Tensor) -> Tensor:
    height, width = x.shape[-2:]
    seen = torch.fft.irfft2(torch.fft.rfft2(x) * _sensitivity(height, width, x.device), s=(height, width))
    padded = pad(seen, 15, "constant")
    contrast = (ratio(correlate(padded, _NARROW), correlate(padded, _WIDE)) - 1).abs()
    return contrast**3 / (contrast**2 + _Z)
