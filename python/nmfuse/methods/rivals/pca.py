"""PCA fusion: one weight an image, from the first principal component of all."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from nmfuse.methods.base import Plane, Planes, Rival
from nmfuse.methods.rivals.rules import average


@dataclass(frozen=True)
class Pca(Rival):
    """Weights from the first eigenvector of the images' S x S covariance, of sum one.

    An entry of the sign other than that of the largest entry, as of an image anti-correlated with the others, counts as
    zero. Where no direction is the first, as among flat images, all images are averaged.

    References
    ----------
    Rockinger & Fechner, SPIE 3374 (1998) 378-388, there of two images; the covariance of S is the same thing.

    Examples
    --------
    >>> import numpy as np
    >>> ramp = np.linspace(0, 1, 5)[None]
    >>> Pca().fuse_planes(np.stack([ramp, ramp / 2, 1 - ramp / 4])).round(3)
    array([[0.   , 0.208, 0.417, 0.625, 0.833]])
    """

    def fuse_planes(self, x: Planes) -> Plane:
        """Return the weighted mean (H, W) of (S, H, W)."""
        values, vectors = np.linalg.eigh(np.cov(x.reshape(len(x), -1)))
        if values[-1] <= 0 or values[-1] - values[-2] <= 1e-12 * values[-1]:
            return average(x)
        v = vectors[:, -1]
        v = np.maximum(v if v[np.abs(v).argmax()] > 0 else -v, 0)
        return np.asarray(((v / v.sum())[:, None, None] * x).sum(axis=0))
