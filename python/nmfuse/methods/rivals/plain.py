"""The plain methods that everybody compares with."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import reduce

import numpy as np

from nmfuse.kernels.checks import check_count
from nmfuse.methods.base import Mask, Plane, Streamed
from nmfuse.methods.rivals.rules import fuse_largest, pyramid_margin


@dataclass(frozen=True)
class Average(Streamed):
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

    def fuse_stream(self, planes: Iterable[tuple[Plane, Mask | None]]) -> Plane:
        """Return the mean."""
        return fuse_largest(planes, "laplacian", 1)


@dataclass(frozen=True)
class Maximum(Streamed):
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

    def fuse_stream(self, planes: Iterable[tuple[Plane, Mask | None]]) -> Plane:
        """Return the maximum."""
        return reduce(np.maximum, (x if mask is None else np.where(mask, x, 0) for x, mask in planes))


@dataclass(frozen=True)
class Laplacian(Streamed):
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

    def fuse_stream(self, planes: Iterable[tuple[Plane, Mask | None]]) -> Plane:
        """Return the fused luminance."""
        return fuse_largest(planes, "laplacian", self.levels)


@dataclass(frozen=True)
class Contrast(Streamed):
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

    def fuse_stream(self, planes: Iterable[tuple[Plane, Mask | None]]) -> Plane:
        """Return the fused luminance."""
        return fuse_largest(planes, "contrast", self.levels)
