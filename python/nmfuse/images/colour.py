"""Colour: luminance is fused, chroma is kept, and both are put together again."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from nmfuse.images.luma import BT601
from nmfuse.images.rows import pieces

# Liu's and the field's analogue YUV; the inverse is the exact matrix inverse, so grey stays grey.
_YUV = torch.tensor([BT601, [-0.147, -0.289, 0.436], [0.615, -0.515, -0.100]], dtype=torch.float64)
_RGB = torch.linalg.inv(_YUV)


def luminance(image: Tensor) -> Tensor:
    """Return the luminance (*spatial) of a grey or RGB image (C, *spatial), BT.601."""
    return image[0] if image.shape[0] == 1 else _combine(_YUV[0], image)


def chroma(image: Tensor) -> Tensor | None:
    """Return the chroma (2, *spatial) of an RGB image (3, *spatial); None of a grey one."""
    return _combine(_YUV[1:], image) if image.shape[0] == 3 else None


def mix_chroma(parts: Sequence[Tensor], release: Callable[[], None] = lambda: None) -> Tensor | None:
    """Return the chroma (2, *spatial) of the fused image from that of the sources in colour, None where there are none.

    One source in colour gives its chroma as it is. Several are averaged, each weighted by its own distance from grey,
    per channel: ``U = sum U_s |U_s| / sum |U_s|`` (Prabhakar et al., ICCV 2017); the more vivid one wins. `release` is
    called after some rows of a source.
    """
    if len(parts) < 2:
        return parts[0] if parts else None
    if any(part.requires_grad for part in parts):
        return _mix(parts, release)
    result = torch.empty_like(parts[0])
    for rows in pieces(result):
        result[:, rows] = _mix([part[:, rows] for part in parts], release)
    return result


def _mix(parts: Sequence[Tensor], release: Callable[[], None]) -> Tensor:
    total = mixed = torch.zeros_like(parts[0])
    for part in parts:
        weight = part.abs()
        total, mixed = total + weight, mixed + part * weight
        release()
    return torch.where(total > 0, mixed / total.clamp_min(1e-12), torch.zeros_like(mixed))


def with_chroma(y: Tensor, uv: Tensor | None) -> Tensor:
    """Return the image (C, *spatial) of a luminance (*spatial) and a chroma (2, *spatial), clipped to [0, 1]."""
    if uv is None:
        return y[None].clamp(0, 1)
    return _combine(_RGB, torch.cat([y[None], uv])).clamp(0, 1)


def _combine(matrix: Tensor, channels: Tensor) -> Tensor:
    """Apply a colour matrix (or one row of it) to an image (C, *spatial)."""
    result: Tensor = torch.tensordot(matrix.to(channels), channels, dims=1)
    return result
