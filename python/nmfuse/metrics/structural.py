"""Structural similarity: SSIM, MS_SSIM, Q_S, Q_W, Q_E (Piella & Heijmans) and Q_Y (Yang)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from nmfuse.metrics._filters import (
    LocalStatistics,
    correlate,
    correlate_symmetric,
    gaussian_statistics,
    gaussian_taps,
    gradients,
    halve,
    local_statistics,
    mean,
    ratio,
    total,
)
from nmfuse.metrics._input import Images

_C1, _C2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
_SCALE_WEIGHTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)
_BOX = (1.0,) * 8
_YANG_C = 2e-16


def structural_similarity(images: Images) -> Tensor:
    """SSIM: mean over the sources of the structural similarity with the fused image (Wang et al. 2004).

    Gaussian window 11 x 11, sigma 1.5, K = (.01, .03), L = 255, population moments, valid area.
    """
    s = _ssim_statistics(images)
    return torch.stack([mean(_luminance(s, k) * _contrast(s, k)) for k in range(len(s.means))]).mean(0)


def multi_scale_similarity(images: Images) -> Tensor:
    """MS_SSIM: mean over the sources of the five-scale structural similarity (Wang, Simoncelli & Bovik 2003).

    SSIM's window at every scale; between scales the mean of 2 x 2 pixels. A negative mean contrast-structure term
    counts as 0: it has no real power.
    """
    statistics = _ssim_statistics(images)
    fused, sources = images.fused, images.sources
    products = [torch.ones_like(fused[:, 0, 0]) for _ in sources]
    for scale, weight in enumerate(_SCALE_WEIGHTS):
        if scale:
            fused, sources = halve(fused), tuple(map(halve, sources))
            statistics = gaussian_statistics(fused, sources, 11, 1.5)
        for k in range(len(sources)):
            term = _contrast(statistics, k)
            if scale == len(_SCALE_WEIGHTS) - 1:
                term = term * _luminance(statistics, k)
            products[k] = products[k] * mean(term).clamp_min(0) ** weight
    return torch.stack(products).mean(0)


def saliency_quality(images: Images) -> Tensor:
    """Q_S: ``mean sum_k lambda_k Q(S_k, F)``, each source weighted by its local variance (Piella & Heijmans 2003).

    Q is the universal image quality index in 8 x 8 windows (Wang & Bovik 2002), valid area; weights are equal where no
    source varies.
    """
    return mean(_piella_maps(images.once("8x8", lambda: _box_statistics(images.all)))[0])


def weighted_quality(images: Images) -> Tensor:
    """Q_W: as Q_S, windows weighted by the largest of the sources' variances (Piella & Heijmans 2003, eq. 5)."""
    return _q_w(images.once("8x8", lambda: _box_statistics(images.all)))


def edge_quality(images: Images) -> Tensor:
    """Q_E: Q_W of the images times Q_W of their edges (Piella & Heijmans 2003, eq. 6, alpha = 1).

    Edges are zero-padded Prewitt magnitudes.
    """
    edges = []
    for x in images.all:
        along, down = gradients(x, 1, "constant")
        edges.append((along * along + down * down).sqrt())
    return weighted_quality(images) * _q_w(_box_statistics(edges))


def yang_quality(images: Images) -> Tensor:
    """Q_Y: similarity to the better or to both of two sources (Yang, Zhang, Wang & Liu 2008).

    SSIM in a 7 x 7 Gaussian window, sigma 1.5, C = 2e-16, valid area. Where ``SSIM(A, B) >= .75`` the sources show the
    same and the two similarities are averaged with the local variances as weights; elsewhere the larger counts.
    Windows that are black in both sources have no weights (0 / 0) and are left out. C is so small that windows of one
    grey level other than black are compared by rounding errors: the order of summation here is SciPy's, so that such
    windows give the values that SciPy would.
    """
    a, b = images.sources
    taps = gaussian_taps(7, 1.5)

    def blur(x: Tensor) -> Tensor:
        return correlate_symmetric(x, taps)

    s = local_statistics(images.fused, images.sources, blur)
    cov_ab = blur(a * b) - s.means[0] * s.means[1]
    similar = _yang_ssim(s.means[0], s.means[1], s.variances[0], s.variances[1], cov_ab)
    q_a, q_b = (_yang_ssim(s.means[k], s.mean_f, s.variances[k], s.var_f, s.covariances[k]) for k in (0, 1))
    both = s.variances[0] + s.variances[1]
    weight = ratio(s.variances[0], both)
    quality = torch.where(similar >= 0.75, weight * q_a + (1 - weight) * q_b, torch.maximum(q_a, q_b))
    counted = (both != 0).double()
    return ratio(total(quality * counted), total(counted))


def _ssim_statistics(images: Images) -> LocalStatistics:
    return images.once("ssim", lambda: gaussian_statistics(images.fused, images.sources, 11, 1.5))


def _luminance(s: LocalStatistics, k: int) -> Tensor:
    m = s.means[k]
    return (2 * m * s.mean_f + _C1) / (m * m + s.mean_f * s.mean_f + _C1)


def _contrast(s: LocalStatistics, k: int) -> Tensor:
    return (2 * s.covariances[k] + _C2) / (s.variances[k] + s.var_f + _C2)


def _box_statistics(all_images: Sequence[Tensor]) -> LocalStatistics:
    return local_statistics(all_images[0], all_images[1:], lambda x: correlate(x, _BOX).mul_(1 / 64))


def _quality_index(s: LocalStatistics, k: int) -> Tensor:
    m, v = s.means[k], s.variances[k]
    luminance = ratio(2 * m * s.mean_f, m * m + s.mean_f * s.mean_f, otherwise=1)
    return luminance * ratio(2 * s.covariances[k], v + s.var_f, otherwise=1)


def _piella_maps(s: LocalStatistics) -> tuple[Tensor, Tensor]:
    """Return ``sum_k lambda_k Q_k`` and the largest variance, each (N, H - 7, W - 7)."""
    saliency = torch.stack(s.variances)
    shares = ratio(saliency, saliency.sum(0).expand_as(saliency), otherwise=1 / len(saliency))
    qualities = torch.stack([_quality_index(s, k) for k in range(len(saliency))])
    return (shares * qualities).sum(0), saliency.amax(0)


def _q_w(s: LocalStatistics) -> Tensor:
    quality, weight = _piella_maps(s)
    return ratio(total(quality * weight), total(weight))


def _yang_ssim(m1: Tensor, m2: Tensor, v1: Tensor, v2: Tensor, cov: Tensor) -> Tensor:
    numerator = (2 * m1 * m2 + _YANG_C) * (2 * cov + _YANG_C)
    return numerator / ((m1 * m1 + m2 * m2 + _YANG_C) * (v1 + v2 + _YANG_C))
