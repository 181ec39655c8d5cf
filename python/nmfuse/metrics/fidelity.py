"""Visual information fidelity: VIF, VIF_min (Sheikh & Bovik) and VIFF (Han)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from nmfuse.metrics._filters import LocalStatistics, correlate, gaussian_statistics, gaussian_taps, ratio, total
from nmfuse.metrics._input import Images

_WINDOWS = (17, 9, 5, 3)
_TINY = 1e-10
_VIF_NOISE = 2.0
_VIFF_NOISE = 0.005 * 255**2
_VIFF_WEIGHTS = (1 / 2.15, 0.0, 0.15 / 2.15, 1 / 2.15)


@dataclass(frozen=True)
class _Channel:
    """The model ``F = g S + noise`` of one source at one scale; every map is (N, h, w)."""

    gain: Tensor
    noise: Tensor
    variance: Tensor


def visual_information_fidelity(images: Images) -> Tensor:
    """VIF: sum over the sources of the pixel-domain fidelity of the fused image (Sheikh & Bovik 2006).

    Four scales, Gaussian windows of 17, 9, 5, 3 pixels (sigma a fifth of it), noise variance 2. Each term is 1 where
    the fused image is the source, and more where it is a source with more contrast.
    """
    return torch.stack(_per_source(images)).sum(0)


def least_fidelity(images: Images) -> Tensor:
    """VIF_min: the fidelity (as VIF) to the worse-served source, ``min_k VIF(S_k, F)``."""
    return torch.stack(_per_source(images)).amin(0)


def fusion_fidelity(images: Images) -> Tensor:
    """VIFF: visual information fidelity for fusion (Han, Cai, Cao & Xu 2013).

    Scales and windows as in VIF, noise variance .005 * 255^2; at each pixel the source with the smaller gain is
    compared; per scale the ratio of sums, scales weighted (1, 0, .15, 1) / 2.15. At equal gains the last source counts.
    """
    scores = torch.zeros_like(images.fused[:, 0, 0])
    for channels, weight in zip(_channels(images), _VIFF_WEIGHTS, strict=True):
        if weight == 0:
            continue
        chosen = channels[-1]
        kept, given = _information(chosen, _VIFF_NOISE)
        gain = chosen.gain
        for channel in channels[-2::-1]:
            smaller = channel.gain < gain
            other_kept, other_given = _information(channel, _VIFF_NOISE)
            kept, given = torch.where(smaller, other_kept, kept), torch.where(smaller, other_given, given)
            gain = torch.where(smaller, channel.gain, gain)
        scores += weight * (total(kept) + 1e-7) / (total(given) + 1e-7)
    return scores


def _per_source(images: Images) -> list[Tensor]:
    def compute() -> list[Tensor]:
        scores = []
        for k in range(len(images.sources)):
            parts = [_information(channels[k], _VIF_NOISE) for channels in _channels(images)]
            kept, given = (torch.stack([total(part[side]) for part in parts]).sum(0) for side in (0, 1))
            scores.append(ratio(kept, given, otherwise=1))
        return scores

    return images.once("vif", compute)


def _information(channel: _Channel, noise: float) -> tuple[Tensor, Tensor]:
    """Return the information that the fused image, and the source itself, give about the scene, per pixel."""
    kept = torch.log10(1 + channel.gain**2 * channel.variance / (channel.noise + noise))
    return kept, torch.log10(1 + channel.variance / noise)


def _channels(images: Images) -> list[list[_Channel]]:
    """Return the channel of every source, at every scale."""

    def compute() -> list[list[_Channel]]:
        fused, sources = images.fused, images.sources
        scales = []
        for size in _WINDOWS:
            if size != _WINDOWS[0]:
                taps = gaussian_taps(size, size / 5)
                fused, *rest = (correlate(x, taps, step=2) for x in (fused, *sources))
                sources = tuple(rest)
            statistics = gaussian_statistics(fused, sources, size, size / 5)
            scales.append([_channel(statistics, k) for k in range(len(sources))])
        return scales

    return images.once("channels", compute)


def _channel(s: LocalStatistics, k: int) -> _Channel:
    variance, var_f = s.variances[k].clamp_min(0), s.var_f.clamp_min(0)
    gain = s.covariances[k] / (variance + _TINY)
    noise = var_f - gain * s.covariances[k]
    flat = variance < _TINY
    gain, noise, variance = gain.masked_fill(flat, 0), torch.where(flat, var_f, noise), variance.masked_fill(flat, 0)
    silent = var_f < _TINY
    gain, noise = gain.masked_fill(silent, 0), noise.masked_fill(silent, 0)
    negative = gain < 0
    gain, noise = gain.masked_fill(negative, 0), torch.where(negative, var_f, noise)
    return _Channel(gain, noise.clamp_min(_TINY), variance)
