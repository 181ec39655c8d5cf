"""Where a fused image comes from: which source each pixel shows, and where sources contradict each other."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional

from nmfuse import pyramids

_SIDE = 7  # pixels that are looked at together
_EPS = 1e-6
_LEVELS = 4  # of the Laplacian pyramid: details of up to some 16 pixels


def provenance(y: Tensor, sources: Sequence[Tensor]) -> Tensor:
    """Return how much of a fused luminance (*spatial) comes from each source (*spatial): (S, *spatial), sum 1.

    The share of a source is that of its covariance with the fused image within 7 x 7 pixels, as far as it is positive:
    of a focus stack it is greatest in the picture that is sharp there, which makes a depth map. Where nothing varies
    the shares are equal. Of a volume each slice is looked at by itself.

    Examples
    --------
    >>> x = torch.rand(16, 16)
    >>> provenance(x, [x, torch.zeros(16, 16)])[:, 8, 8].round(decimals=2)
    tensor([1., 0.])
    """
    f = y.reshape(-1, 1, *y.shape[-2:])

    def mean(x: Tensor) -> Tensor:
        return functional.avg_pool2d(functional.pad(x, [_SIDE // 2] * 4, mode="reflect"), _SIDE, 1)  # (N, 1, H, W)

    centre = mean(f)
    shares = []
    for x in sources:
        s = x.reshape(f.shape)
        shares.append((mean((s - mean(s)) * (f - centre))).clamp_min(0) + _EPS)
    total = torch.stack(shares)
    return (total / total.sum(0)).reshape(len(shares), *y.shape)


def conflict(sources: Sequence[Tensor]) -> Tensor:
    """Return where sources (*spatial) contradict each other: the contrast that two show with unlike signs, (*spatial).

    At the finest four levels of their Laplacian pyramids: the fainter of the greatest positive and the greatest
    negative coefficient, the greatest over the levels. 0 where all agree; 0.2 where one source is brighter than what
    lies around by a fifth of the range or more, and another as much darker.

    Examples
    --------
    >>> x = torch.zeros(32, 32)
    >>> x[12:20, 12:20] = 0.5
    >>> conflict([x, 1 - x]).amax() > 0.2, conflict([x, x]).amax()
    (tensor(True), tensor(0.))
    """
    shape = sources[0].shape
    highest: list[Tensor] = []
    lowest: list[Tensor] = []
    for x in sources:
        levels = pyramids.laplacian_pyramid(x.reshape(-1, 1, *shape[-2:]), _LEVELS)[:-1]
        highest = levels if not highest else [torch.maximum(p, q) for p, q in zip(highest, levels, strict=True)]
        lowest = levels if not lowest else [torch.minimum(p, q) for p, q in zip(lowest, levels, strict=True)]
    result = torch.zeros_like(highest[0])
    for high, low in zip(highest, lowest, strict=True):
        both = torch.minimum(high, -low).clamp_min(0)
        result = torch.maximum(result, functional.interpolate(both, shape[-2:], mode="bilinear", align_corners=False))
    return result.reshape(shape)
