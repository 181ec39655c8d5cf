"""What the rivals share: the choice among coefficients, averages of sources, pyramids."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage

from nmfuse import pyramids
from nmfuse.images.part import ALIGNED
from nmfuse.methods.base import Mask, Plane, Planes, check_number

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


def fuse_largest(planes: Iterable[tuple[Plane, Mask | None]], kind: str, levels: int) -> Plane:
    """Fuse by "laplacian" or "contrast" pyramids: the detail of the largest magnitude, ties their mean, the mean top.

    It is `fuse_pyramids` with `larger` and `average`, for images that come one after the other, each with where it is
    valid (None: everywhere). A coefficient is as valid as the pixel at its place.
    """
    split, join = _PYRAMIDS[kind]
    total: list[torch.Tensor] = []  # of each level: the sum of the details of the largest magnitude (of all tops),
    most: list[torch.Tensor] = []  # that magnitude, 0 of tops, -1 where no source is valid so far,
    ties: list[torch.Tensor] = []  # and how many there are
    for plane, mask in planes:
        levels = usable_levels(plane.shape, levels)
        pyramid = split(torch.from_numpy(np.array(plane)), levels)
        for level, x in enumerate(pyramid):
            size = x.abs() if level < levels - 1 else torch.zeros_like(x)
            if mask is not None:
                size[~torch.from_numpy(mask[:: 2**level, :: 2**level])] = -1
            if len(total) == level:
                total, most, ties = [*total, x], [*most, size], [*ties, torch.ones_like(x, dtype=torch.int16)]
                continue
            more, as_much = size > most[level], size == most[level]
            total[level] = torch.where(more, x, total[level].addcmul_(x, as_much.to(x.dtype)))
            ties[level] = (ties[level] + as_much).masked_fill_(more, 1)
            torch.maximum(most[level], size, out=most[level])
    return np.asarray(join([x / n for x, n in zip(total, ties, strict=True)]).numpy())


def usable_levels(shape: tuple[int, ...], wanted: int) -> int:
    """Return as many of the wanted levels as the image has room for."""
    return min(wanted, pyramids.max_levels((shape[-2], shape[-1])))


def pyramid_margin(levels: int) -> int | None:
    """Return how far `fuse_pyramids` looks, in pixels; None where parts of an image do not halve as all of it does.

    A pixel depends on two pixels of the top on each side, and each of these, by the halvings, on two of its own width
    around it; the fifth is for parts that end in between.

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
