"""Fuzzy fusion: Mamdani inference from the grey levels of all images to one."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from nmfuse.methods.base import Plane, Planes, Rival

PEAKS = (0.0, 64.0, 128.0, 191.0, 255.0)  # very low, low, medium, high, very high
_LEVELS = np.arange(256.0)
_BLOCK = 256  # pixels at a time: their output sets fit the cache


@dataclass(frozen=True)
class Fuzzy(Rival):
    """Grey levels fused by rules, one for each combination of input sets: ``output set = the highest of them``.

    Five triangular sets a variable, minimum for "and" and for the implication, maximum to aggregate, centroid to
    defuzzify: 25 rules for two images, 5^S for S, all inferred at once. The centroid of the outermost sets lies inside
    the range: black on black gives 21 of 255, not 0.

    References
    ----------
    Mamdani & Assilian, Int. J. Man-Machine Studies 7 (1975) 1-13.

    Examples
    --------
    >>> (255 * Fuzzy().fuse_planes(np.array([[[0.0]], [[0.5]], [[1.0]]]))).round()
    array([[234.]])
    """

    def fuse_planes(self, x: Planes) -> Plane:
        """Return the inferred luminance (H, W) of (S, H, W)."""
        levels = x * 255
        # Two images keep their look-up table over whole grey levels, interpolated between them, by which the results of
        # this method are known; a table for S would have 256^S entries, so more images are inferred at the levels that
        # they have. Whole levels give the same either way, others differ by up to half a level.
        if len(x) == 2:
            fused = ndimage.map_coordinates(table(), levels, order=1, mode="nearest")
        else:
            fused = infer(levels.reshape(len(x), -1)).reshape(x.shape[1:])
        return np.asarray(fused / 255)


def infer(levels: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the output levels (N,) of input levels (S, N), 0 to 255.

    A rule fires as its weakest input does. The strongest of the rules whose highest set is k therefore fires by
    ``min(max_s mu_k(x_s), min_s max_{i <= k} mu_i(x_s))``: some input is in k, and each in k or below.
    """
    degrees = _degrees(levels)  # (5, S, N)
    strength = np.minimum(degrees.max(axis=1), np.maximum.accumulate(degrees, axis=0).min(axis=1))  # (5, N)
    sets = _degrees(_LEVELS)[:, None]  # (5, 1, 256)
    out = np.empty(levels.shape[1])
    for start in range(0, len(out), _BLOCK):
        block = slice(start, start + _BLOCK)
        shape = np.minimum(strength[:, block, None], sets).max(axis=0)  # (N, 256 of the output)
        out[block] = shape @ _LEVELS / shape.sum(axis=1)
    return out


@lru_cache(maxsize=1)
def table() -> Plane:
    """Return the output (256, 256) for all pairs of whole grey levels, 0 to 255."""
    pairs = np.stack(np.meshgrid(_LEVELS, _LEVELS, indexing="ij"))
    out = infer(pairs.reshape(2, -1)).reshape(256, 256)
    out.flags.writeable = False
    return out


def _degrees(levels: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return how far levels belong to each of the five sets, (...) -> (5, ...)."""
    return np.array([np.interp(levels, PEAKS, peak) for peak in np.eye(len(PEAKS))])
