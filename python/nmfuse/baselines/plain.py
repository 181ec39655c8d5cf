"""The plain methods that everybody compares with."""

from __future__ import annotations

import numpy as np
import torch

from nmfuse import pyramids
from nmfuse.baselines.rules import Image, choose, fuse_laplacian, usable_levels


def average(a: Image, b: Image) -> Image:
    """Return the mean of both."""
    return (a + b) / 2


def maximum(a: Image, b: Image) -> Image:
    """Return the greater of both."""
    return np.maximum(a, b)


def laplacian(a: Image, b: Image, levels: int = 5) -> Image:
    """Fuse by Laplacian pyramids: the detail of larger magnitude, the mean of the tops (Burt & Adelson 1983)."""
    return fuse_laplacian(a, b, usable_levels(a.shape, levels), _larger, average)


def contrast(a: Image, b: Image, levels: int = 5) -> Image:
    """Fuse by contrast pyramids: the contrast of larger magnitude, the mean of the tops (Toet 1989)."""
    count = usable_levels(a.shape, levels)
    p, q = (
        [level.numpy() for level in pyramids.contrast_pyramid(torch.from_numpy(np.array(x)), count)] for x in (a, b)
    )
    fused = [_larger(x, y) for x, y in zip(p[:-1], q[:-1], strict=True)] + [average(p[-1], q[-1])]
    return np.asarray(pyramids.collapse_contrast([torch.from_numpy(level) for level in fused]).numpy())


def _larger(a: Image, b: Image) -> Image:
    return choose(a, b, np.abs(a), np.abs(b))
