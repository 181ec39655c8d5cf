"""Dual-tree complex wavelet fusion, by the dtcwt package."""

from __future__ import annotations

from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import numpy as np

from nmfuse.kernels.checks import check_count
from nmfuse.methods.base import Plane, Planes, Rival
from nmfuse.methods.rivals.rules import average, larger


@dataclass(frozen=True)
class Dtcwt(Rival):
    """Dual-tree complex wavelets: the coefficient of the largest magnitude of all images, averaged low bands.

    Parameters
    ----------
    levels : int
        Of details, at least 1.

    References
    ----------
    Lewis, O'Callaghan, Nikolov, Bull & Canagarajah, Inf. Fusion 8 (2007) 119-130; Kingsbury, ACHA 10 (2001).
    """

    levels: int = 4

    def __post_init__(self) -> None:
        check_count("levels", self.levels, 1)

    def fuse_planes(self, x: Planes) -> Plane:
        """Return the fused luminance (H, W) of (S, H, W)."""
        dtcwt = _package()
        transform = dtcwt.Transform2d()
        height, width = x.shape[1:]
        even = [(0, height % 2), (0, width % 2)]  # the package repeats rows of odd sizes; here the edge is
        parts = [transform.forward(np.pad(source, even, mode="edge"), nlevels=self.levels) for source in x]
        low = average(np.stack([part.lowpass for part in parts]))
        scales = zip(*(part.highpasses for part in parts), strict=True)
        details = tuple(larger(np.stack(scale)) for scale in scales)  # each (h, w, 6 directions)
        fused = transform.inverse(dtcwt.Pyramid(low, details))
        return np.asarray(fused, np.float64)[:height, :width]


def _package() -> Any:
    """Return dtcwt; its release that runs on NumPy 2 still asks for two functions that went with NumPy 1."""
    import dtcwt
    import dtcwt.utils

    if not hasattr(dtcwt.utils.np, "asfarray"):
        dtcwt.utils.np = SimpleNamespace(**vars(np), asfarray=np.asarray, issubsctype=_is_a)
    return dtcwt


def _is_a(x: Any, kind: Any) -> bool:
    return np.issubdtype(np.asarray(x).dtype, kind)
