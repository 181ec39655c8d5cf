"""Gaussian, Laplacian and contrast pyramids on torch tensors of shape (..., H, W).

One kernel throughout: ``[1 4 6 4 1] / 16``, separable. Level 0 is the image; each further level halves it, rounding up.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import pairwise

import torch
from torch import Tensor
from torch.nn import functional

_TAPS = (1 / 16, 4 / 16, 6 / 16, 4 / 16, 1 / 16)
CONTRAST_EPSILON = 1 / 255  # one grey level of 8 bits: keeps the ratio finite on black


def max_levels(shape: tuple[int, int]) -> int:
    """Return ``floor(log2(min(H, W)))``, the levels down to a top of 2 or 3 pixels (Liu et al., FUSION 2017).

    Examples
    --------
    >>> max_levels((256, 300))
    8
    """
    return max(1, int(math.log2(min(shape))))


def reduce(x: Tensor) -> Tensor:
    """Blur and keep every second row and column: (..., H, W) -> (..., ceil(H/2), ceil(W/2)). Symmetric border.

    References
    ----------
    Burt & Adelson, IEEE Trans. Communications 31 (1983) 532-540.
    """
    for axis in (-2, -1):
        n = x.shape[axis]
        wide = x.index_select(axis, _mirror(torch.arange(-2, n + 2, device=x.device), n))
        x = _weigh([wide[..., k : k + n : 2, :] if axis == -2 else wide[..., k : k + n : 2] for k in range(5)], _TAPS)
    return x


def _mirror(index: Tensor, n: int) -> Tensor:
    """Fold an index into 0..n-1, the edge repeated: -1 is 0, n is n - 1."""
    index = torch.remainder(index, 2 * n)
    return torch.minimum(index, 2 * n - 1 - index)


def expand(x: Tensor, shape: tuple[int, int]) -> Tensor:
    """Double to `shape` by interpolation with the same kernel: (..., h, w) -> (..., *shape). Edge pixels repeated."""
    for axis, n in ((-2, shape[0]), (-1, shape[1])):
        last = x.shape[axis] - 1
        before = torch.cat([x.narrow(axis, 0, 1), x.narrow(axis, 0, last)], axis)
        after = torch.cat([x.narrow(axis, 1, last), x.narrow(axis, last, 1)], axis)
        even = _weigh([before, x, after], (1 / 8, 6 / 8, 1 / 8))
        odd = _weigh([x, after], (1 / 2, 1 / 2))
        x = torch.stack([even, odd], dim=axis).flatten(axis - 1, axis).narrow(axis, 0, n)
    return x


def _weigh(terms: list[Tensor], weights: tuple[float, ...]) -> Tensor:
    total = terms[0] * weights[0]
    for term, weight in zip(terms[1:], weights[1:], strict=True):
        total = total.add(term, alpha=weight)
    return total


def gaussian_pyramid(x: Tensor, levels: int) -> list[Tensor]:
    """Return `levels` ever smaller blurred copies of `x`, the image itself first.

    Examples
    --------
    >>> [tuple(g.shape) for g in gaussian_pyramid(torch.zeros(9, 6), 3)]
    [(9, 6), (5, 3), (3, 2)]
    """
    pyramid = [x]
    while len(pyramid) < levels:
        pyramid.append(reduce(pyramid[-1]))
    return pyramid


def laplacian_pyramid(x: Tensor, levels: int) -> list[Tensor]:
    """Return the details ``L_l = G_l - expand(G_{l+1})``, and the top ``G_{N-1}`` last.

    References
    ----------
    Burt & Adelson, IEEE Trans. Communications 31 (1983) 532-540.
    """
    gaussian = gaussian_pyramid(x, levels)
    details = [fine - expand(coarse, _size(fine)) for fine, coarse in pairwise(gaussian)]
    return [*details, gaussian[-1]]


def contrast_pyramid(x: Tensor, levels: int, epsilon: float = CONTRAST_EPSILON) -> list[Tensor]:
    """Return the local contrasts ``C_l = G_l / (expand(G_{l+1}) + e) - 1``, and the top ``G_{N-1}`` last.

    References
    ----------
    Toet, Pattern Recognition Letters 9 (1989) 245-253.
    """
    gaussian = gaussian_pyramid(x, levels)
    contrasts = [fine / (expand(coarse, _size(fine)) + epsilon) - 1 for fine, coarse in pairwise(gaussian)]
    return [*contrasts, gaussian[-1]]


def collapse_laplacian(pyramid: list[Tensor], limits: list[tuple[Tensor, Tensor]] | None = None) -> Tensor:
    """Return the image of a Laplacian pyramid, each level kept within its `limits` (low, high) where given."""
    return _collapse(pyramid, limits, lambda detail, base: detail + base)


def collapse_contrast(
    pyramid: list[Tensor],
    limits: list[tuple[Tensor, Tensor]] | None = None,
    epsilon: float = CONTRAST_EPSILON,
) -> Tensor:
    """Return the image of a contrast pyramid, each level kept within its `limits` (low, high) where given."""
    return _collapse(pyramid, limits, lambda contrast, base: (contrast + 1) * (base + epsilon))


def _collapse(
    pyramid: list[Tensor],
    limits: list[tuple[Tensor, Tensor]] | None,
    combine: Callable[[Tensor, Tensor], Tensor],
) -> Tensor:
    image = pyramid[-1] if limits is None else pyramid[-1].clamp(*limits[-1])
    for level in range(len(pyramid) - 2, -1, -1):
        image = combine(pyramid[level], expand(image, _size(pyramid[level])))
        if limits is not None:
            image = image.clamp(*limits[level])
    return image


def local_range(a: Tensor, b: Tensor, size: int = 3) -> tuple[Tensor, Tensor]:
    """Return the least and the greatest value of either image around each pixel, in a size x size window."""
    low, high = torch.minimum(a, b), torch.maximum(a, b)
    pad = size // 2
    planes = (low.reshape(-1, 1, *low.shape[-2:]), high.reshape(-1, 1, *high.shape[-2:]))
    least = -functional.max_pool2d(-planes[0], size, stride=1, padding=pad)
    greatest = functional.max_pool2d(planes[1], size, stride=1, padding=pad)
    return least.reshape(a.shape), greatest.reshape(a.shape)


def _size(x: Tensor) -> tuple[int, int]:
    return x.shape[-2], x.shape[-1]
