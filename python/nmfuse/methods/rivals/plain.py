"""The plain methods that everybody compares with."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from nmfuse.kernels.checks import check_count
from nmfuse.methods.base import Plane, Planes, Rival
from nmfuse.methods.rivals.rules import average, fuse_pyramids, larger, pyramid_margin, usable_levels


@dataclass(frozen=True)
class Average(Rival):
    """The mean of all images.

    Examples
    --------
    >>> import numpy as np
    >>> Average().fuse_planes(np.array([[[0.0]], [[0.5]], [[1.0]]]))
    array([[0.5]])
    """

    @property
    def margin(self) -> int:
        """Each pixel is fused by itself."""
        return 0

    def fuse_planes(self, x: Planes) -> Plane:
        """Return the mean (H, W) of (S, H, W)."""
        return average(x)


@dataclass(frozen=True)
class Maximum(Rival):
    """The greatest of all images, pixel by pixel.

    Examples
    --------
    >>> import numpy as np
    >>> Maximum().fuse_planes(np.array([[[0.0]], [[0.5]], [[1.0]]]))
    array([[1.]])
    """

    @property
    def margin(self) -> int:
        """Each pixel is fused by itself."""
        return 0

    def fuse_planes(self, x: Planes) -> Plane:
        """Return the maximum (H, W) of (S, H, W)."""
        return np.asarray(x.max(axis=0))


@dataclass(frozen=True)
class Laplacian(Rival):
    """Laplacian pyramids: the detail of the largest magnitude of all images, the mean of their tops.

    Parameters
    ----------
    levels : int
        Levels with the top, at least 1; fewer where the image has no room for them.

    References
    ----------
    Burt & Adelson, IEEE Trans. Commun. 31 (1983) 532-540; Burt & Kolczynski, ICCV 1993.

    Examples
    --------
    >>> import numpy as np
    >>> Laplacian(levels=3).fuse_planes(np.random.default_rng(0).random((4, 32, 24))).shape
    (32, 24)
    """

    levels: int = 5

    def __post_init__(self) -> None:
        check_count("levels", self.levels, 1)

    @property
    def margin(self) -> int | None:
        """See `nmfuse.methods.rivals.rules.pyramid_margin`."""
        return pyramid_margin(self.levels)

    def fuse_planes(self, x: Planes) -> Plane:
        """Return the fused luminance (H, W) of (S, H, W)."""
        return fuse_pyramids(x, "laplacian", usable_levels(x.shape, self.levels), larger, average)


@dataclass(frozen=True)
class Contrast(Rival):
    """Contrast pyramids: the contrast of the largest magnitude of all images, the mean of their tops.

    Parameters
    ----------
    levels : int
        Levels with the top, at least 1; fewer where the image has no room for them.

    References
    ----------
    Toet, Pattern Recognit. Lett. 9 (1989) 245-253.

    Examples
    --------
    >>> import numpy as np
    >>> Contrast().fuse_planes(np.random.default_rng(0).random((3, 32, 24))).shape
    (32, 24)
    """

    levels: int = 5

    def __post_init__(self) -> None:
        check_count("levels", self.levels, 1)

    @property
    def margin(self) -> int | None:
        """See `nmfuse.methods.rivals.rules.pyramid_margin`."""
        return pyramid_margin(self.levels)

    def fuse_planes(self, x: Planes) -> Plane:
        """Return the fused luminance (H, W) of (S, H, W)."""
        return fuse_pyramids(x, "contrast", usable_levels(x.shape, self.levels), larger, average)
