"""Pixels that not every source shows: what stands in for them, and which sources decide where."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from nmfuse import pyramids


def patterns(valid: Sequence[Tensor | None]) -> list[tuple[list[int], Tensor]]:
    """Return which sources are valid together, and where: a list of (places, bool mask (*spatial)).

    Empty where all sources are valid everywhere. Only what occurs is listed; ``[]`` are the places of no source.
    """
    masks = [mask for mask in valid if mask is not None]
    if not masks:
        return []
    code = torch.zeros(masks[0].shape, dtype=torch.int64, device=masks[0].device)
    found: list[tuple[int, ...]] = [()]
    for place, mask in enumerate(valid):  # codes are renumbered at each source, so that any number of them will do
        shown = torch.ones_like(code) if mask is None else mask.to(torch.int64)
        used, code = torch.unique(2 * code + shown, return_inverse=True)
        found = [(*found[int(value) // 2], place) if int(value) % 2 else found[int(value) // 2] for value in used]
    return [(list(places), code == number) for number, places in enumerate(found)]


def filled(planes: Sequence[Tensor], valid: Sequence[Tensor | None]) -> list[Tensor]:
    """Return the planes with something plausible where they are invalid, so that no edge is seen at their border.

    There a source shows the mean of the valid others, shifted by what it differs from them by at the border: their
    details, its own brightness. Where no source is valid, the nearest values go on.
    """
    if all(mask is None for mask in valid):
        return list(planes)
    everywhere = torch.ones_like(planes[0], dtype=torch.bool)
    shown = [everywhere if mask is None else mask for mask in valid]
    anywhere = torch.stack(shown).any(0)
    result = []
    for place, plane in enumerate(planes):
        if valid[place] is None:
            result.append(plane)
            continue
        others = [k for k in range(len(planes)) if k != place]
        count = torch.stack([shown[k] for k in others]).sum(0)
        mean = torch.stack([torch.where(shown[k], planes[k], 0.0) for k in others]).sum(0) / count.clamp_min(1)
        there = mean + extend(plane - mean, shown[place] & (count > 0))
        nowhere = extend(torch.where(shown[place], plane, there), anywhere)
        result.append(torch.where(shown[place], plane, torch.where(count > 0, there, nowhere).clamp(0, 1)))
    return result


def extend(x: Tensor, known: Tensor) -> Tensor:
    """Return x (*spatial) where it is known, and a smooth continuation elsewhere; zeros where nothing is known.

    Coarser and coarser means of what is known fill what is left, from the top of the pyramid down.

    References
    ----------
    Gortler, Grzeszczuk, Szeliski & Cohen, "The Lumigraph", SIGGRAPH 1996, Sec. 3.5: pull-push.

    Examples
    --------
    >>> extend(torch.full((4, 4), 2.0), torch.eye(4, dtype=torch.bool)).unique()
    tensor([2.])
    """
    weight = known.to(x.dtype)
    if bool(known.all()) or max(x.shape) == 1:
        return torch.where(known, x, torch.zeros_like(x))
    dims = x.dim()
    low_weight = pyramids.reduce(weight, dims)
    low = pyramids.reduce(torch.where(known, x, torch.zeros_like(x)), dims) / low_weight.clamp_min(1e-6)
    coarse = extend(low, low_weight > 1e-3)
    return torch.where(known, x, pyramids.expand(coarse, tuple(x.shape)))
