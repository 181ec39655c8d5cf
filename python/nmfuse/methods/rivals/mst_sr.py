"""MST-SR: Laplacian pyramids, the low band fused by sparse representation."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from torch import Tensor

from nmfuse.kernels.checks import check_count
from nmfuse.methods.base import Plane, Planes, Rival
from nmfuse.methods.rivals.rules import check_not_negative, choose, fuse_pyramids, usable_levels
from nmfuse.methods.rivals.sparse import (
    PATCH,
    dictionaries,
    fuse_patches,
    orthogonal_matching_pursuit,
    take_largest,
)


@dataclass(frozen=True)
class MstSr(Rival):
    """LP-SR, the form of MST-SR that its authors advise for medical images.

    Details: the one of the largest magnitude of all images, the majority of 3 x 3 decides. Low band: 8 x 8 patches,
    `step` pixels apart, without their means, coded by orthogonal matching pursuit; the code of the largest 1-norm is
    taken with its mean; overlaps are averaged.

    Parameters
    ----------
    levels : int
        Details; fewer where the low band would be smaller than a patch.
    step : int
        Pixels between patches of the low band, at least 1.
    error : float
        Of a code, on the scale 0 to 255.

    References
    ----------
    Liu, Liu & Wang, "A general framework for image fusion based on multi-scale transform and sparse representation",
    Inf. Fusion 24 (2015) 147-164, whose choices are the same for more images than two.

    Examples
    --------
    >>> MstSr().fuse_planes(np.random.default_rng(0).random((3, 32, 24))).shape
    (32, 24)
    """

    levels: int = 4
    step: int = 2
    error: float = 0.1

    def __post_init__(self) -> None:
        check_count("levels", self.levels, 0)
        check_count("step", self.step, 1)
        check_not_negative("error", self.error)

    def fuse_planes(self, x: Planes) -> Plane:
        """Return the fused luminance (H, W) of (S, H, W)."""
        room = usable_levels(x.shape, self.levels + 1) - 1
        while room > 0 and min(x.shape[1:]) < PATCH << room:
            room -= 1
        return fuse_pyramids(x, "laplacian", room + 1, _detail, lambda top: fuse_patches(top, self.step, self._code))

    def _code(self, patches: list[Tensor], means: Tensor) -> Tensor:
        general = dictionaries()[0]
        codes, magnitudes = zip(*(orthogonal_matching_pursuit(p, general, self.error) for p in patches), strict=True)
        return take_largest(magnitudes, codes, means.unbind())


def _detail(x: Planes) -> Plane:
    return choose(x, np.abs(x), 3)
