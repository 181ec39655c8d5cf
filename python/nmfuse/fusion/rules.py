"""Pyramid fusion: how two coefficients and a weight become one."""

from __future__ import annotations

import torch
from torch import Tensor

from nmfuse import pyramids


def fuse_level(A: Tensor, B: Tensor, W: Tensor, threshold: float) -> Tensor:
    """Fuse the coefficients of one pyramid level.

    With 3 x 3 energies ``E_A = sum A^2``, ``E_B`` and the match ``M = 2 sum AB / (E_A + E_B)`` in [-1, 1]: where
    ``M > threshold`` the images agree and the level is ``W A + (1 - W) B``; elsewhere the coefficient of the larger
    energy is taken. Equal energies give the mean of both, so that exchanging the images changes nothing.

    Parameters
    ----------
    A, B : (H, W)
        Coefficients of the two images.
    W : (H, W)
        Weight of image A, 0 to 1.
    threshold : float
        t; 1 always chooses the larger, -1 (nearly) always weights.

    References
    ----------
    Burt & Kolczynski, ICCV 1993; Liu et al., FUSION 2017; Das et al., IJACSA 14 (2023), Sec. IV-E.
    """
    E_A, E_B = _window_sum(A * A), _window_sum(B * B)
    match = 2 * _window_sum(A * B) / (E_A + E_B).clamp_min(torch.finfo(A.dtype).tiny)
    weighted = (A + B) / 2 + (W - 0.5) * (A - B)  # W A + (1 - W) B, written alike for both orders
    larger = torch.where(E_A > E_B, A, torch.where(E_B > E_A, B, (A + B) / 2))
    return torch.where(match > threshold, weighted, larger)


def _window_sum(x: Tensor) -> Tensor:
    """Sum over 3 x 3 pixels, the border mirrored without repeating the edge pixel (a lone pixel repeats itself)."""
    for axis in (-2, -1):
        n = x.shape[axis]
        first, last = (x.narrow(axis, min(1, n - 1), 1), x.narrow(axis, max(n - 2, 0), 1))
        padded = torch.cat([first, x, last], axis)
        x = (padded.narrow(axis, 0, n) + padded.narrow(axis, 2, n)) + x
    return x


def fuse_pyramids(
    a: Tensor,
    b: Tensor,
    W: Tensor,
    *,
    pyramid: str,
    levels: int,
    t_top: float,
    t_other: float,
    epsilon: float,
) -> dict[str, list[Tensor] | Tensor]:
    """Fuse two images (H, W) in [0, 1] by the weight map W; return both pyramids, the weights, and the result.

    At every level of the way back the image is kept within what either source's Gaussian pyramid shows there, in a
    3 x 3 window: details of one image on the base of the other overshoot otherwise, most of all as contrast ratios on
    black. Equal sources are reconstructed exactly, and nothing leaves the sources' range.
    """
    gaussian = [pyramids.gaussian_pyramid(x, levels) for x in (a, b, W)]
    limits = [pyramids.local_range(*pair) for pair in zip(gaussian[0], gaussian[1], strict=True)]
    if pyramid == "contrast":
        coefficients = [pyramids.contrast_pyramid(x, levels, epsilon) for x in (a, b)]
    else:
        coefficients = [pyramids.laplacian_pyramid(x, levels) for x in (a, b)]
    fused = [
        fuse_level(A, B, w, t_top if level == levels - 1 else t_other)
        for level, (A, B, w) in enumerate(zip(*coefficients, gaussian[2], strict=True))
    ]
    if pyramid == "contrast":
        image = pyramids.collapse_contrast(fused, limits, epsilon)
    else:
        image = pyramids.collapse_laplacian(fused, limits)
    return {
        "pyramid_a": coefficients[0],
        "pyramid_b": coefficients[1],
        "pyramid_W": gaussian[2],
        "pyramid_fused": fused,
        "collapsed": image,
    }
