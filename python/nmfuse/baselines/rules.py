"""Choosing between two coefficients, alike for both orders of the images."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage

from nmfuse import pyramids

Image = NDArray[np.float64]


def choose(a: Image, b: Image, activity_a: Image, activity_b: Image, consistency: int = 1) -> Image:
    """Take the coefficient of the greater activity, as most of the window around decides; ties give the mean.

    Parameters
    ----------
    a, b : (H, W)
        Coefficients, real or complex.
    activity_a, activity_b : (H, W)
        How much each of them matters.
    consistency : int
        Side of the window whose majority decides; 1 is each pixel for itself.

    References
    ----------
    Li, Manjunath & Mitra, Graph. Models Image Process. 57 (1995): consistency verification.
    """
    votes = np.sign(activity_a - activity_b)
    if consistency > 1:
        votes = np.sign(np.rint(ndimage.uniform_filter(votes, consistency, mode="reflect") * consistency**2))
    return np.asarray(np.where(votes > 0, a, np.where(votes < 0, b, (a + b) / 2)))


def fuse_laplacian(
    a: Image, b: Image, levels: int, detail: Callable[[Image, Image], Image], top: Callable[[Image, Image], Image]
) -> Image:
    """Fuse by Laplacian pyramids of `levels` (with the top): details by one rule, the top by another."""
    both = [
        [level.numpy() for level in pyramids.laplacian_pyramid(torch.from_numpy(np.array(x)), levels)] for x in (a, b)
    ]
    fused = [detail(p, q) for p, q in zip(both[0][:-1], both[1][:-1], strict=True)]
    fused.append(top(both[0][-1], both[1][-1]))
    return np.asarray(pyramids.collapse_laplacian([torch.from_numpy(level) for level in fused]).numpy())


def usable_levels(shape: tuple[int, ...], wanted: int) -> int:
    """Return as many of the wanted levels as the image has room for."""
    return min(wanted, pyramids.max_levels((shape[0], shape[1])))
