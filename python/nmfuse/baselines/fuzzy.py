"""Fuzzy fusion: Mamdani inference from two grey levels to one, by a look-up table."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from scipy import ndimage

from nmfuse.baselines.rules import Image

PEAKS = (0.0, 64.0, 128.0, 191.0, 255.0)  # very low, low, medium, high, very high


def fuse(a: Image, b: Image) -> Image:
    """Fuse grey levels by 25 rules, ``output set = the higher of the two input sets``.

    Five triangular sets a variable, minimum for "and" and for the implication, maximum to aggregate, centroid to
    defuzzify. The centroid of the outermost sets lies inside the range: black on black gives 21 of 255, not 0.

    References
    ----------
    Mamdani & Assilian, Int. J. Man-Machine Studies 7 (1975) 1-13.
    """
    return np.asarray(ndimage.map_coordinates(table(), [a * 255, b * 255], order=1, mode="nearest")) / 255


@lru_cache(maxsize=1)
def table() -> Image:
    """Return the output (256, 256) for all pairs of grey levels, 0 to 255."""
    levels = np.arange(256.0)
    sets = np.array([np.interp(levels, PEAKS, np.eye(len(PEAKS))[k]) for k in range(len(PEAKS))])  # (5, 256)
    strength = np.zeros((len(PEAKS), 256, 256))
    for i in range(len(PEAKS)):
        for j in range(len(PEAKS)):
            k = max(i, j)
            strength[k] = np.maximum(strength[k], np.minimum(sets[i][:, None], sets[j][None]))
    out = np.empty((256, 256))
    for row in range(256):
        shape = np.minimum(strength[:, row, :, None], sets[:, None]).max(axis=0)  # (256 of b, 256 of the output)
        out[row] = shape @ levels / shape.sum(axis=1)
    out.flags.writeable = False
    return out
