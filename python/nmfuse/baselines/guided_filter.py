"""Guided filter fusion: a base and a detail layer, weighted by saliency that guided filters align with the images."""

from __future__ import annotations

import numpy as np
from scipy import ndimage

from nmfuse.baselines.rules import Image


def fuse(
    a: Image,
    b: Image,
    radius_base: int = 45,
    epsilon_base: float = 0.3,
    radius_detail: int = 7,
    epsilon_detail: float = 1e-6,
) -> Image:
    """Fuse two scales with weights from blurred Laplacian magnitudes.

    Base: 31 x 31 mean. Saliency: 5 x 5 Gaussian (radius 5, sigma 5) of the Laplacian's magnitude; the more salient
    image has weight 1. Each weight is smoothed by a guided filter, its own image the guide, with one radius and
    regularization for the base and one for the detail, and normalised.

    References
    ----------
    Li, Kang & Hu, IEEE TIP 22 (2013) 2864-2875.
    """
    images = (a, b)
    bases = [ndimage.uniform_filter(x, 31) for x in images]
    saliency = [ndimage.gaussian_filter(np.abs(ndimage.convolve(x, _LAPLACIAN)), 5, radius=5) for x in images]
    first = 0.5 + 0.5 * np.sign(saliency[0] - saliency[1])
    fused = np.zeros_like(a)
    for layers, radius, epsilon in (
        (bases, radius_base, epsilon_base),
        ([x - base for x, base in zip(images, bases, strict=True)], radius_detail, epsilon_detail),
    ):
        weights = [guided_filter(x, w, radius, epsilon) for x, w in zip(images, (first, 1 - first), strict=True)]
        total = weights[0] + weights[1]
        share = np.where(np.abs(total) > 1e-6, weights[0] / np.where(np.abs(total) > 1e-6, total, 1), 0.5)
        fused += share * layers[0] + (1 - share) * layers[1]
    return fused


def guided_filter(guide: Image, x: Image, radius: int, epsilon: float) -> Image:
    """Smooth x along the edges of the guide (He, Sun & Tang, TPAMI 35 (2013)); windows of 2 radius + 1."""

    def mean(z: Image) -> Image:
        return np.asarray(ndimage.uniform_filter(z, 2 * radius + 1))

    m_g, m_x = mean(guide), mean(x)
    slope = (mean(guide * x) - m_g * m_x) / (np.maximum(mean(guide * guide) - m_g * m_g, 0) + epsilon)
    return mean(slope) * guide + mean(m_x - slope * m_g)


_LAPLACIAN = np.array([[0, 1, 0], [1, -4, 1], [0, 1, 0]], np.float64)
