"""Exposure fusion by OpenCV's MergeMertens."""

from __future__ import annotations

import numpy as np

from nmfuse.baselines.rules import Image


def fuse(a: Image, b: Image, contrast: float = 1.0, saturation: float = 1.0, exposure: float = 0.0) -> Image:
    """Fuse two exposures, weighted by contrast, saturation and well-exposedness as `cv2.createMergeMertens`.

    Its default leaves well-exposedness out, and a grey image has no saturation.

    References
    ----------
    Mertens, Kautz & Van Reeth, Pacific Graphics 2007.
    """
    import cv2

    colour = [np.repeat(np.rint(x[..., None] * 255).astype(np.uint8), 3, axis=2) for x in (a, b)]
    fused = cv2.createMergeMertens(contrast, saturation, exposure).process(colour)
    return np.asarray(fused.mean(axis=2), np.float64)
