"""PCA fusion: one weight an image, from the first principal component of both."""

from __future__ import annotations

import numpy as np

from nmfuse.baselines.rules import Image


def fuse(a: Image, b: Image) -> Image:
    """Weight the images by the first eigenvector of their 2 x 2 covariance.

    Where the images are anti-correlated one entry is negative: it counts as zero then. Two flat images are averaged.

    References
    ----------
    Rockinger & Fechner, SPIE 3374 (1998) 378-388.
    """
    values, vectors = np.linalg.eigh(np.cov(a.ravel(), b.ravel()))
    v = vectors[:, -1]
    if values[-1] <= 0 or values[-1] - values[0] <= 1e-12 * values[-1]:
        return (a + b) / 2
    v = np.maximum(v if v[np.abs(v).argmax()] > 0 else -v, 0)
    w = v / v.sum()
    return np.asarray(w[0] * a + w[1] * b)
