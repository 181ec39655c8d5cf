"""Wavelet fusion: Haar, four levels, the detail of the greater local maximum, averaged approximation."""

from __future__ import annotations

import numpy as np
from scipy import ndimage

from nmfuse.baselines.rules import Image, choose


def fuse(a: Image, b: Image, wavelet: str = "db1", levels: int = 4) -> Image:
    """Fuse by a decimated wavelet transform with periodic borders.

    Activity of a detail is the largest magnitude within 3 x 3; the majority of the 3 x 3 around decides; the
    approximations are averaged.

    References
    ----------
    Li, Manjunath & Mitra, Graph. Models Image Process. 57 (1995) 235-245.
    """
    import pywt

    count = max(1, min(levels, int(np.log2(min(a.shape)))))
    tree_a, tree_b = (pywt.wavedec2(x, wavelet, mode="periodization", level=count) for x in (a, b))
    fused = [(tree_a[0] + tree_b[0]) / 2]
    for bands in zip(tree_a[1:], tree_b[1:], strict=True):
        fused.append(tuple(choose(p, q, _activity(p), _activity(q), 3) for p, q in zip(*bands, strict=True)))
    return np.asarray(pywt.waverec2(fused, wavelet, mode="periodization"))[: a.shape[0], : a.shape[1]]


def _activity(band: Image) -> Image:
    return np.asarray(ndimage.maximum_filter(np.abs(band), 3))
