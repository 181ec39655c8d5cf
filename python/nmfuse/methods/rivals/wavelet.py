"""Wavelet fusion: Haar, four levels, the detail of the greatest local maximum, averaged approximation."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import ndimage

from nmfuse.kernels.checks import check_count
from nmfuse.methods.base import Plane, Planes, Rival
from nmfuse.methods.rivals.rules import average, choose


@dataclass(frozen=True)
class Wavelet(Rival):
    """A decimated wavelet transform with periodic borders.

    Activity of a detail is the largest magnitude within 3 x 3; of all images that one is taken which is most active at
    most of the 3 x 3 around; the approximations are averaged.

    Parameters
    ----------
    wavelet : str
        A discrete wavelet of PyWavelets; "db1" is Haar's.
    levels : int
        Of details, at least 1; fewer where the image has no room for them.

    References
    ----------
    Li, Manjunath & Mitra, Graph. Models Image Process. 57 (1995) 235-245, there of two images.
    """

    wavelet: str = "db1"
    levels: int = 4

    def __post_init__(self) -> None:
        import pywt

        if self.wavelet not in pywt.wavelist(kind="discrete"):
            raise ValueError(f"wavelet: got {self.wavelet!r}; expected one of pywt.wavelist(kind='discrete')")
        check_count("levels", self.levels, 1)

    def fuse_planes(self, x: Planes) -> Plane:
        """Return the fused luminance (H, W) of (S, H, W)."""
        import pywt

        height, width = x.shape[1:]
        count = max(1, min(self.levels, int(np.log2(min(height, width)))))
        trees = [pywt.wavedec2(source, self.wavelet, mode="periodization", level=count) for source in x]
        approximations, *scales = zip(*trees, strict=True)
        fused: list[Any] = [average(np.stack(approximations))]
        for scale in scales:  # of each source the horizontal, vertical and diagonal band
            fused.append(tuple(_choose(np.stack(bands)) for bands in zip(*scale, strict=True)))
        return np.asarray(pywt.waverec2(fused, self.wavelet, mode="periodization"))[:height, :width]


def _choose(bands: Planes) -> Plane:
    return choose(bands, np.stack([ndimage.maximum_filter(np.abs(band), 3) for band in bands]), 3)
