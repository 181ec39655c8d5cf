"""Pyramid fusion by the paper's rule: how S coefficients and S weights become one."""

from __future__ import annotations

import torch
from torch import Tensor

from nmfuse import pyramids


def fuse_level(L: Tensor, W: Tensor, threshold: float) -> Tensor:
    """Fuse the coefficients of one pyramid level.

    With energies ``E_s = sum L_s^2`` over 3 x 3 (x 3 in a volume) and the match of S coefficients
    ``M = ((sum_s L_s)^2 - sum_s L_s^2) / ((S - 1) sum_s L_s^2)``, summed over the same window, at most 1: where
    ``M > threshold`` the images agree and the level is ``sum_s W_s L_s``; elsewhere the coefficient of the largest
    energy is taken. Equal energies give their mean. Of two sources ``M = 2 sum AB / (E_A + E_B)``.

    Parameters
    ----------
    L : (S, *spatial)
        Coefficients of the images.
    W : (S, *spatial)
        Their weights, which sum to one over the sources.
    threshold : float
        t; 1 always chooses the largest, -1 (nearly) always weights.

    References
    ----------
    Burt & Kolczynski, ICCV 1993; Liu et al., FUSION 2017; Das et al., IJACSA 14 (2023), Sec. IV-E.
    """
    sources = len(L)
    total, cross = L[0], torch.zeros_like(L[0])
    for x in L[1:]:
        cross = cross + total * x  # of all pairs, in the end
        total = total + x
    E = torch.stack([_window_sum(x * x) for x in L])
    energy = (sources - 1) * E.sum(0)
    match = 2 * _window_sum(cross) / energy.clamp_min(torch.finfo(L.dtype).tiny)
    weighted = total / sources  # sum_s W_s L_s, written so that equal weights give the mean, exactly
    for x, w in zip(L[:-1], W[:-1], strict=True):
        weighted = weighted + (w - 1 / sources) * (x - L[-1])
    largest = (E.amax(0) == E).to(L.dtype)
    return torch.where(match > threshold, weighted, (largest * L).sum(0) / largest.sum(0))


def _window_sum(x: Tensor) -> Tensor:
    """Sum over 3 pixels along each axis, the border mirrored without repeating the edge (a lone pixel repeats)."""
    for axis in range(-x.dim(), 0):
        n = x.shape[axis]
        first, last = (x.narrow(axis, min(1, n - 1), 1), x.narrow(axis, max(n - 2, 0), 1))
        padded = torch.cat([first, x, last], axis)
        x = (padded.narrow(axis, 0, n) + padded.narrow(axis, 2, n)) + x
    return x


def fuse_pyramids(
    sources: Tensor, W: Tensor, *, pyramid: str, levels: int, t_top: float, t_other: float, epsilon: float
) -> tuple[dict[str, list[Tensor]], list[Tensor], Tensor]:
    """Fuse images (S, *spatial) in [0, 1] by their weight maps W; return both's pyramids, the fused one, the image.

    At every level of the way back the image is kept within what any source's Gaussian pyramid shows there, in a 3 x 3
    (x 3) window: details of one image on the base of another overshoot otherwise, most of all as contrast ratios on
    black. Equal sources are reconstructed exactly, and nothing leaves the sources' range.
    """
    spatial = sources.dim() - 1
    gaussian, weights = (pyramids.gaussian_pyramid(x, levels, spatial) for x in (sources, W))
    limits = [pyramids.local_range(level) for level in gaussian]
    if pyramid == "contrast":
        coefficients = pyramids.contrast_pyramid(sources, levels, epsilon, spatial)
    else:
        coefficients = pyramids.laplacian_pyramid(sources, levels, spatial)
    fused = [
        fuse_level(L, w, t_top if level == levels - 1 else t_other)
        for level, (L, w) in enumerate(zip(coefficients, weights, strict=True))
    ]
    if pyramid == "contrast":
        image = pyramids.collapse_contrast(fused, limits, epsilon, spatial)
    else:
        image = pyramids.collapse_laplacian(fused, limits, spatial)
    return {"pyramids": coefficients, "pyramid_W": weights}, fused, image
