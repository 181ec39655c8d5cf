"""Some rows of an image at a time, so that what is computed of them stays small."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch import Tensor

AT_ONCE = 1 << 22  # values worked on together


def pieces(x: Tensor) -> Iterator[slice]:
    """Yield slices of the first spatial axis of an image (C, *spatial)."""
    step = max(1, AT_ONCE // max(1, x[:, :1].numel()))
    for start in range(0, x.shape[1], step):
        yield slice(start, start + step)


def by_rows(x: Tensor, function: Callable[[Tensor], Tensor], dtype: torch.dtype) -> Tensor:
    """Return the function of an image (C, *spatial) as a new one of another type; with gradients, all at once."""
    if x.requires_grad and torch.is_grad_enabled():
        return function(x).to(dtype)
    result = torch.empty(x.shape, dtype=dtype, device=x.device)
    for rows in pieces(x):
        result[:, rows] = function(x[:, rows])
    return result
