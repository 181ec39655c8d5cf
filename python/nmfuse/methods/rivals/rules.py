"""What the rivals share: the choice among coefficients, averages of sources, pyramids."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage

from nmfuse import pyramids
from nmfuse.images.part import ALIGNED
from nmfuse.methods.base import Plane, Planes, check_number

_PYRAMIDS: dict[str, tuple[Callable[..., list[torch.Tensor]], Callable[..., torch.Tensor]]] = {
    "laplacian": (pyramids.laplacian_pyramid, pyramids.collapse_laplacian),
    "contrast": (pyramids.contrast_pyramid, pyramids.collapse_contrast),
}


def average(x: NDArray[Any]) -> NDArray[Any]:
    """Return the mean over the sources, (S, ...) -> (...)."""
    return np.asarray(x.sum(axis=0) / len(x))


def choose(x: NDArray[Any], activity: Planes, consistency: int = 1) -> NDArray[Any]:
    """Take the coefficient of the greatest activity, as most of the window around decides; ties give their mean.

    Each pixel of a window votes for the source of the greatest activity there, where several are equal for each of
    them. So a source that is given twice takes no votes from itself.

    Parameters
    ----------
    x : (S, H, W)
        Coefficients, real or complex; more axes may follow, where `consistency` is 1.
    activity : as x
        How much each of them matters.
    consistency : int
        Side of the window whose majority decides; 1 is each pixel for itself.

    Returns
    -------
    (H, W)

    References
    ----------
    Li, Manjunath & Mitra, Graph. Models Image Process. 57 (1995): consistency verification, there of two images.

    Examples
    --------
    >>> choose(np.array([[[1.0, 2.0]], [[5.0, -2.0]], [[3.0, 1.0]]]), np.array([[[1, 2]], [[5, 2]], [[3, 1]]]))
    array([[5., 0.]])
    """
    best = activity == activity.max(axis=0)
    if consistency > 1:
        shares = [ndimage.uniform_filter(source.astype(np.float64), consistency, mode="reflect") for source in best]
        votes = np.rint(np.stack(shares) * consistency**2)
        best = votes == votes.max(axis=0)
    return np.asarray(np.where(best, x, 0).sum(axis=0) / best.sum(axis=0))


def larger(x: NDArray[Any]) -> NDArray[Any]:
    """Return the coefficient of the largest magnitude, (S, ...) -> (...)."""
    return choose(x, np.abs(x))


def fuse_pyramids(
    x: Planes, kind: str, levels: int, detail: Callable[[Planes], Plane], top: Callable[[Planes], Plane]
) -> Plane:
    """Fuse by "laplacian" or "contrast" pyramids of `levels` (with the top): details by one rule, the top by another.

    Pyramids are taken of each source by itself, so that its coefficients do not depend on how many sources there are.
    """
    split, join = _PYRAMIDS[kind]
    of_sources = [split(torch.from_numpy(np.array(source)), levels) for source in x]
    *details, tops = [np.stack([level.numpy() for level in same]) for same in zip(*of_sources, strict=True)]
    fused = [*map(detail, details), top(tops)]
    return np.asarray(join([torch.from_numpy(level) for level in fused]).numpy())


def usable_levels(shape: tuple[int, ...], wanted: int) -> int:
    """Return as many of the wanted levels as the image has room for."""
    return min(wanted, pyramids.max_levels((shape[-2], shape[-1])))


def pyramid_margin(levels: int) -> int | None:
    """Return how far `fuse_pyramids` looks, in pixels; None where parts of an image do not halve as all of it does.

    Of the top a pixel looks at three on each side, of the levels below at less; and each of the top's at four halvings.

    Examples
    --------
    >>> pyramid_margin(5), pyramid_margin(9)
    (96, None)
    """
    top = 2 ** (levels - 1)
    return -(-5 * top // ALIGNED) * ALIGNED if top <= ALIGNED else None


def check_not_negative(name: str, value: Any) -> None:
    """Refuse an option that is no finite number of at least zero."""
    check_number(name, value)
    if value < 0:
        raise ValueError(f"{name}: got {value!r}; expected at least 0")
