"""Guided filter fusion: a base and a detail layer, weighted by saliency that guided filters align with the images."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from nmfuse.kernels.checks import check_count
from nmfuse.methods.base import Plane, Planes, Rival, check_number


@dataclass(frozen=True)
class GuidedFilter(Rival):
    """Two scales with weights from blurred Laplacian magnitudes.

    Base: 31 x 31 mean. Saliency: Gaussian (radius 5, sigma 5) of the Laplacian's magnitude; the most salient of all
    images has weight 1, several that are equal share it. Each weight is smoothed by a guided filter, its own image the
    guide, with one radius and regularization for the base and one for the detail, and all weights are normalised, as
    the paper has it for any number of images.

    Parameters
    ----------
    radius_base, radius_detail : int
        Of the filters' windows, 2 radius + 1 pixels wide.
    epsilon_base, epsilon_detail : float
        Regularization, above 0: the variance below which a window counts as flat.

    References
    ----------
    Li, Kang & Hu, IEEE TIP 22 (2013) 2864-2875.

    Examples
    --------
    >>> GuidedFilter(radius_base=5).fuse_planes(np.random.default_rng(0).random((3, 32, 24))).shape
    (32, 24)
    """

    radius_base: int = 45
    epsilon_base: float = 0.3
    radius_detail: int = 7
    epsilon_detail: float = 1e-6

    def __post_init__(self) -> None:
        for layer in ("base", "detail"):
            check_count(f"radius_{layer}", getattr(self, f"radius_{layer}"), 0)
            epsilon = getattr(self, f"epsilon_{layer}")
            check_number(f"epsilon_{layer}", epsilon)
            if epsilon <= 0:
                raise ValueError(f"epsilon_{layer}: got {epsilon!r}; expected a number above 0")

    def fuse_planes(self, x: Planes) -> Plane:
        """Return the fused luminance (H, W) of (S, H, W)."""
        bases = np.stack([ndimage.uniform_filter(source, 31) for source in x])
        saliency = np.stack(
            [ndimage.gaussian_filter(np.abs(ndimage.convolve(source, _LAPLACIAN)), 5, radius=5) for source in x]
        )
        best = saliency == saliency.max(axis=0)
        return self._fuse_layer(x, best, bases, self.radius_base, self.epsilon_base) + self._fuse_layer(
            x, best, x - bases, self.radius_detail, self.epsilon_detail
        )

    @staticmethod
    def _fuse_layer(x: Planes, best: NDArray[np.bool_], layers: Planes, radius: int, epsilon: float) -> Plane:
        weights = np.stack(
            [guided_filter(source, w, radius, epsilon) for source, w in zip(x, best / best.sum(axis=0), strict=True)]
        )
        total = weights.sum(axis=0)
        some = np.abs(total) > 1e-6  # filtered weights may cancel: alike then
        shares = np.where(some, weights / np.where(some, total, 1), 1 / len(x))
        shares[-1] = 1 - shares[:-1].sum(axis=0)  # their sum is one, whatever was rounded
        return np.asarray((shares * layers).sum(axis=0))


def guided_filter(guide: Plane, x: Plane, radius: int, epsilon: float) -> Plane:
    """Smooth x along the edges of the guide (He, Sun & Tang, TPAMI 35 (2013)); windows of 2 radius + 1."""

    def mean(z: Plane) -> Plane:
        return np.asarray(ndimage.uniform_filter(z, 2 * radius + 1))

    m_g, m_x = mean(guide), mean(x)
    slope = (mean(guide * x) - m_g * m_x) / (np.maximum(mean(guide * guide) - m_g * m_g, 0) + epsilon)
    return mean(slope) * guide + mean(m_x - slope * m_g)


_LAPLACIAN = np.array([[0, 1, 0], [1, -4, 1], [0, 1, 0]], np.float64)
