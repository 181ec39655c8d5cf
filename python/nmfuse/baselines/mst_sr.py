"""MST-SR: Laplacian pyramids, the low band fused by sparse representation."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from nmfuse.baselines.rules import Image, choose, fuse_laplacian, usable_levels
from nmfuse.baselines.sparse import PATCH, dictionaries, fuse_patches, orthogonal_matching_pursuit


def fuse(a: Image, b: Image, levels: int = 4, step: int = 2, error: float = 0.1) -> Image:
    """Fuse by LP-SR, the form that its authors advise for medical images.

    Details: the one of larger magnitude, the majority of 3 x 3 decides. Low band: 8 x 8 patches, `step` pixels apart,
    without their means, coded by orthogonal matching pursuit; the code of larger 1-norm is taken with its mean;
    overlaps are averaged.

    Parameters
    ----------
    a, b : (H, W)
    levels : int
        Details; fewer where the low band would be smaller than a patch.
    step : int
        Pixels between patches of the low band.
    error : float
        Of a code, on the scale 0 to 255.

    References
    ----------
    Liu, Liu & Wang, "A general framework for image fusion based on multi-scale transform and sparse representation",
    Inf. Fusion 24 (2015) 147-164.
    """
    room = usable_levels(a.shape, levels + 1) - 1
    while room > 0 and min(a.shape) < PATCH << room:
        room -= 1
    general = dictionaries()[0]

    def rule(x: Tensor, y: Tensor, mean_x: Tensor, mean_y: Tensor) -> Tensor:
        (p, l1_p), (q, l1_q) = (orthogonal_matching_pursuit(z, general, error) for z in (x, y))
        larger = torch.sign(l1_p - l1_q)[:, None]
        return torch.where(larger > 0, p + mean_x, torch.where(larger < 0, q + mean_y, (p + q + mean_x + mean_y) / 2))

    return fuse_laplacian(
        a, b, room + 1, lambda p, q: choose(p, q, np.abs(p), np.abs(q), 3), lambda p, q: fuse_patches(p, q, step, rule)
    )
