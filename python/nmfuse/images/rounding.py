"""Whole grey levels of 8-bit images, chosen to tell more of the sources."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torch.nn import functional

from nmfuse.images.rows import pieces
from nmfuse.kernels._native import cpu_operations

_NEAR = 0.1  # grey levels: what is nearer than this to a level or a source is taken for it
_TIE = 1e-5  # of logarithms of counts


def round_informed(
    y: Tensor,
    sources: Sequence[Tensor],
    low: float = 0.0,
    high: float = 255.0,
    release: Callable[[], None] = lambda: None,
) -> Tensor:
    """Return a fused luminance (*spatial) of 8-bit images in whole grey levels, chosen to tell more of the sources.

    `low` and `high` are the levels of 0 and 1. Of the two levels that a value lies between it gets the one that is more
    common among the pixels of the same levels in the sources, for how common it is at all: a step up the gradient of
    ``sum_s I(S_s; F) + H(F)`` from the nearest levels. Ties and what is within 0.1 of a level go to the nearest; what
    is within 0.1 of a source, which in colour may lie between two levels, is that. `release` is called after some rows
    of a source.
    """
    gain = gains(count_levels(y, sources, low, high, release))
    return round_by(gain, y, sources, low, high, release)


def count_levels(
    y: Tensor,
    sources: Sequence[Tensor],
    low: float = 0.0,
    high: float = 255.0,
    release: Callable[[], None] = lambda: None,
) -> Tensor:
    """Return how often each level of each source is the nearest level of the fused luminance: (S, 256 * 256)."""
    joint = torch.zeros(len(sources), 256 * 256, device=y.device)
    if _has_kernel(y):
        for count, source in zip(joint, sources, strict=True):
            cpu_operations().count_levels(_plane(y), _plane(source), low, high, count[None])
            release()
        return joint
    for rows in pieces(y[None]):
        nearest = _levels(y[rows], low, high).round().int()
        for count, source in zip(joint, sources, strict=True):
            cells = _levels(source[rows], low, high).round().int().mul_(256).add_(nearest)
            count += torch.bincount(cells.flatten(), minlength=len(count))
            release()
    return joint


def gains(joint: Tensor) -> Tensor:
    """Return how much more each next level tells of a level of a source, of counts (S, 256 * 256), in their place."""
    share = (len(joint) + 1) / len(joint)  # of -dH, and of each -dI: the levels' own frequency
    for count in joint:
        told = count.reshape(256, 256)
        told = torch.log1p(told) - share * torch.log1p(told.sum(0, keepdim=True))
        count.copy_(functional.pad(told.diff(dim=1), (0, 1)).flatten())
    return joint


def round_by(
    gain: Tensor,
    y: Tensor,
    sources: Sequence[Tensor],
    low: float = 0.0,
    high: float = 255.0,
    release: Callable[[], None] = lambda: None,
) -> Tensor:
    """Return a fused luminance in whole grey levels, chosen by the `gains` of the image that it is part of."""
    rounded = torch.empty_like(y, memory_format=torch.contiguous_format)
    if _has_kernel(y):
        planes, fused, out = [_plane(x) for x in sources], _plane(y), _plane(rounded)
        for rows in pieces(fused.expand(len(planes), *fused.shape)):
            cpu_operations().round_levels(fused[rows], [x[rows] for x in planes], gain, low, high, out[rows])
            release()
        return rounded
    for rows in pieces(y.expand(3, *y.shape)):
        value = _levels(y[rows], low, high)
        lower, nearest = value.floor(), value.round()
        up = torch.zeros_like(value)
        for each, source in zip(gain, sources, strict=True):
            cells = _levels(source[rows], low, high).round().mul_(256).add_(lower).int()
            up += each.index_select(0, cells.flatten()).reshape(up.shape)
            release()
        decided = (up.abs() > _TIE) & ((value - nearest).abs() > _NEAR)
        level = torch.where(decided, lower + (up > 0), nearest)
        for source in sources:
            there = _levels(source[rows], low, high)
            level = torch.where((value - there).abs() < _NEAR, there, level)
            release()
        rounded[rows] = (level - low) / (high - low)
    return rounded


def _has_kernel(y: Tensor) -> bool:
    return y.device.type == "cpu" and y.dtype == torch.float32 and not y.requires_grad


def _plane(x: Tensor) -> Tensor:
    """Return an image or a volume as rows, one after the other."""
    return x.detach().reshape(-1, x.shape[-1]).contiguous()


def _levels(image: Tensor, low: float, high: float) -> Tensor:
    return (image * (high - low) + low).clamp(0, 255)
