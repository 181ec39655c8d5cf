"""Pixels that not every source shows: what stands in for them, and which sources decide where."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import reduce

import torch
from torch import Tensor

from nmfuse import pyramids
from nmfuse.images.rows import pieces

_BITS = 32  # sources whose masks are packed into one number


def patterns(valid: Sequence[Tensor | None]) -> tuple[list[list[int]], Tensor | None]:
    """Return which sources are valid together somewhere, and which of these sets is the one of each pixel.

    The sets are lists of places, ``[]`` where no source is valid; only those that occur are listed. The second is the
    number of each pixel's set (*spatial), int32; None, with no sets, where all sources are valid everywhere.
    """
    masks = [mask for mask in valid if mask is not None]
    if not masks:
        return [], None
    some_not = reduce(torch.logical_and, masks).logical_not().flatten()  # mostly few: the others are all of one set
    code = torch.zeros(int(some_not.sum()), dtype=torch.int64, device=masks[0].device)
    found: list[list[int]] = [[]] if len(code) else []
    for start in range(0, len(valid), _BITS):  # codes are numbered anew in between, so that any number of them will do
        some = valid[start : start + _BITS]
        for mask in some:
            code.mul_(2).add_(1 if mask is None else mask.flatten()[some_not])
        used, code = torch.unique(code, return_inverse=True)
        found = [
            found[value >> len(some)] + [start + k for k in range(len(some)) if value >> (len(some) - 1 - k) & 1]
            for value in used.tolist()
        ]
    which = torch.full(masks[0].shape, len(found), dtype=torch.int32, device=masks[0].device)
    which.flatten()[some_not] = code.to(torch.int32)
    if len(code) < which.numel():
        found.append(list(range(len(valid))))
    return found, which


GoOn = Callable[[str, Tensor, Tensor], Tensor]  # a name, a plane, and where it is known -> its continuation


def filled(
    planes: Sequence[Tensor],
    valid: Sequence[Tensor | None],
    keep: Callable[[Tensor, int], Tensor] = lambda plane, _: plane,
    release: Callable[[], None] = lambda: None,
    go_on: GoOn = lambda _, x, known: extend(x, known),
    *,
    always: bool = False,
) -> list[Tensor]:
    """Return the planes with something plausible where they are invalid, so that no edge is seen at their border.

    There a source shows the mean of the valid others, shifted by what it differs from them by at the border: their
    details, its own brightness. Where no source is valid, the nearest values go on. `keep` is given each new plane and
    its place, and returns what is kept of it; `release` is called after each plane. `go_on` continues a plane, as
    `extend` does; of which source, and of which step, its name says. With `always` it is asked also for what goes on
    where no source is valid if there is no such pixel.
    """
    if all(mask is None for mask in valid):
        return list(planes)
    total = torch.zeros_like(planes[0], dtype=torch.float64)  # in which a sum less one of its terms is exact
    count = torch.zeros_like(planes[0], dtype=torch.int16)
    parts = list(pieces(planes[0][None]))
    for plane, mask in zip(planes, valid, strict=True):
        for rows in parts:
            total[rows] += plane[rows] if mask is None else torch.where(mask[rows], plane[rows], 0.0)
            count[rows] += 1 if mask is None else mask[rows]
        release()
    anywhere, result = count > 0, []
    for place, (plane, mask) in enumerate(zip(planes, valid, strict=True)):
        if mask is None:
            result.append(plane)
            continue
        mean, known = torch.empty_like(plane), torch.empty_like(mask)  # of the others, and where there are some
        for rows in parts:
            others = count[rows] - mask[rows].to(count.dtype)
            mean[rows] = (total[rows] - torch.where(mask[rows], plane[rows], 0.0)) / others.clamp_min(1)
            known[rows] = others > 0
        there = go_on(f"{place} beside others", plane - mean, mask & known).add_(mean)
        if always or not bool(anywhere.all()):
            nowhere = go_on(f"{place} alone", torch.where(mask, plane, there), anywhere)
            there = torch.where(known, there, nowhere)
        result.append(keep(torch.where(mask, plane, there.clamp_(0, 1)), place))
    return result


def extend(x: Tensor, known: Tensor, above: Tensor | None = None, levels: int = 0) -> Tensor:
    """Return x (*spatial) where it is known, and a smooth continuation elsewhere; zeros where nothing is known.

    Coarser and coarser means of what is known fill what is left, from the top of the pyramid down. Of a part of a
    larger image, `above` is the continuation of that image so many levels up, where the part is.

    References
    ----------
    Gortler, Grzeszczuk, Szeliski & Cohen, "The Lumigraph", SIGGRAPH 1996, Sec. 3.5: pull-push.

    Examples
    --------
    >>> extend(torch.full((4, 4), 2.0), torch.eye(4, dtype=torch.bool)).unique()
    tensor([2.])
    """
    if above is not None and levels == 0:
        return above
    if bool(known.all()) or (above is None and max(x.shape) == 1):
        return torch.where(known, x, torch.zeros_like(x))
    coarse = extend(*coarser(x, known), above, levels - 1)
    return torch.where(known, x, pyramids.expand(coarse, tuple(x.shape)))


def coarser(x: Tensor, known: Tensor) -> tuple[Tensor, Tensor]:
    """Return the means of what is known at half the resolution, and where there are some."""
    dims = x.dim()
    weight = pyramids.reduce(known.to(x.dtype), dims)
    low = pyramids.reduce(torch.where(known, x, torch.zeros_like(x)), dims) / weight.clamp_min(1e-6)
    return low, weight > 1e-3
