"""Exposure fusion by OpenCV's MergeMertens."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from nmfuse.methods.base import Plane, Planes, Rival, check_number


@dataclass(frozen=True)
class Mertens(Rival):
    """Any number of exposures, weighted by contrast, saturation and well-exposedness as by `cv2.createMergeMertens`.

    OpenCV takes 8 bits. Its default leaves well-exposedness out, and a grey image has no saturation.

    Parameters
    ----------
    contrast, saturation, exposure : float
        Exponents of the three measures.

    References
    ----------
    Mertens, Kautz & Van Reeth, Pacific Graphics 2007.
    """

    contrast: float = 1.0
    saturation: float = 1.0
    exposure: float = 0.0

    def __post_init__(self) -> None:
        for name in ("contrast", "saturation", "exposure"):
            check_number(name, getattr(self, name))

    def fuse_planes(self, x: Planes) -> Plane:
        """Return the fused luminance (H, W) of (S, H, W)."""
        import cv2

        colour = [np.repeat(np.rint(source[..., None] * 255).astype(np.uint8), 3, axis=2) for source in x]
        fused = cv2.createMergeMertens(self.contrast, self.saturation, self.exposure).process(colour)
        return np.asarray(fused.mean(axis=2), np.float64)
