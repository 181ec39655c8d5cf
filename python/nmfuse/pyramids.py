"""Gaussian, Laplacian and contrast pyramids on torch tensors, along their last two axes or, as volumes, three.

One kernel throughout: ``[1 4 6 4 1] / 16``, separable. Level 0 is the image; each further level halves it, rounding up.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from itertools import pairwise

import torch
from torch import Tensor
from torch.nn import functional

_TAPS = (1 / 16, 4 / 16, 6 / 16, 4 / 16, 1 / 16)
_AT_ONCE = 1 << 18  # pixels of the larger image or so, for which memory is moved as little as can be
CONTRAST_EPSILON = 1 / 255  # one grey level of 8 bits: keeps the ratio finite on black


def max_levels(shape: Sequence[int]) -> int:
    """Return ``floor(log2(min(H, W)))`` of the last two axes: down to a top of 2 or 3 pixels (Liu et al., FUSION 2017).

    Examples
    --------
    >>> max_levels((256, 300))
    8
    """
    return max(1, int(math.log2(min(shape[-2:]))))


def reduce(x: Tensor, spatial: int = 2) -> Tensor:
    """Blur and keep every second pixel along the last `spatial` axes: n pixels become ceil(n / 2). Symmetric border.

    References
    ----------
    Burt & Adelson, IEEE Trans. Communications 31 (1983) 532-540.

    Examples
    --------
    >>> reduce(torch.ones(9, 6)).shape, reduce(torch.ones(9, 6, 4), spatial=3).shape
    (torch.Size([5, 3]), torch.Size([5, 3, 2]))
    """
    parts = _parts(x, spatial, (x.shape[-spatial] + 1) // 2)
    if len(parts) == 1:
        return _reduce(x, spatial)
    result = x.new_empty((*x.shape[:-spatial], *((n + 1) // 2 for n in x.shape[-spatial:])))
    for start, stop in parts:
        first, last = max(0, 2 * start - 2), min(x.shape[-spatial], 2 * stop + 2)
        part = _reduce(x.narrow(-spatial, first, last - first), spatial)
        result.narrow(-spatial, start, stop - start).copy_(part.narrow(-spatial, start - first // 2, stop - start))
    return result


def _parts(x: Tensor, spatial: int, n: int) -> list[tuple[int, int]]:
    """Return where parts of a result of n rows (slices of a volume) begin and end, so that each stays in the cache.

    All in one where gradients are recorded or a graph is, and on other devices.
    """
    as_one = x.device.type != "cpu" or (x.requires_grad and torch.is_grad_enabled()) or torch.compiler.is_compiling()
    step = n if as_one else max(1, _AT_ONCE * x.shape[-spatial] // max(1, x.numel()))
    return [(start, min(start + step, n)) for start in range(0, n, max(1, step))]


def _reduce(x: Tensor, spatial: int) -> Tensor:
    for axis in range(-spatial, 0):
        n = x.shape[axis]
        wide = x.index_select(axis, _mirror(torch.arange(-2, n + 2, device=x.device), n))
        wide = wide.movedim(axis, -1)
        x = _weigh([wide[..., k : k + n : 2].movedim(-1, axis) for k in range(5)], _TAPS)
    return x


def _mirror(index: Tensor, n: int) -> Tensor:
    """Fold an index into 0..n-1, the edge repeated: -1 is 0, n is n - 1."""
    index = torch.remainder(index, 2 * n)
    return torch.minimum(index, 2 * n - 1 - index)


def expand(x: Tensor, shape: Sequence[int]) -> Tensor:
    """Double the last axes to `shape` (2 or 3 of them) by interpolation with the same kernel; edge pixels repeated."""
    spatial, n = len(shape), x.shape[-len(shape)]
    parts = _parts(x, spatial, n)
    if len(parts) == 1:
        return _expand(x, shape)
    result = x.new_empty((*x.shape[:-spatial], *shape))
    for start, stop in parts:
        first, last = max(0, start - 1), min(n, stop + 1)
        rows = min(2 * last, shape[0]) - 2 * first
        part = _expand(x.narrow(-spatial, first, last - first), (rows, *shape[1:]))
        rows = min(2 * stop, shape[0]) - 2 * start
        result.narrow(-spatial, 2 * start, rows).copy_(part.narrow(-spatial, 2 * (start - first), rows))
    return result


def _expand(x: Tensor, shape: Sequence[int]) -> Tensor:
    for axis, n in zip(range(-len(shape), 0), shape, strict=True):
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
        total.add_(term, alpha=weight)
    return total


def gaussian_pyramid(x: Tensor, levels: int, spatial: int = 2) -> list[Tensor]:
    """Return `levels` ever smaller blurred copies of `x`, the image itself first.

    Examples
    --------
    >>> [tuple(g.shape) for g in gaussian_pyramid(torch.zeros(9, 6), 3)]
    [(9, 6), (5, 3), (3, 2)]
    """
    pyramid = [x]
    while len(pyramid) < levels:
        pyramid.append(reduce(pyramid[-1], spatial))
    return pyramid


def laplacian_pyramid(x: Tensor, levels: int, spatial: int = 2) -> list[Tensor]:
    """Return the details ``L_l = G_l - expand(G_{l+1})``, and the top ``G_{N-1}`` last.

    References
    ----------
    Burt & Adelson, IEEE Trans. Communications 31 (1983) 532-540.
    """
    gaussian = gaussian_pyramid(x, levels, spatial)
    details = [fine - expand(coarse, fine.shape[-spatial:]) for fine, coarse in pairwise(gaussian)]
    return [*details, gaussian[-1]]


def contrast_pyramid(x: Tensor, levels: int, epsilon: float = CONTRAST_EPSILON, spatial: int = 2) -> list[Tensor]:
    """Return the local contrasts ``C_l = G_l / (expand(G_{l+1}) + e) - 1``, and the top ``G_{N-1}`` last.

    References
    ----------
    Toet, Pattern Recognition Letters 9 (1989) 245-253.
    """
    gaussian = gaussian_pyramid(x, levels, spatial)
    contrasts = [fine / (expand(coarse, fine.shape[-spatial:]) + epsilon) - 1 for fine, coarse in pairwise(gaussian)]
    return [*contrasts, gaussian[-1]]


def collapse_laplacian(
    pyramid: list[Tensor], limits: list[tuple[Tensor, Tensor]] | None = None, spatial: int = 2
) -> Tensor:
    """Return the image of a Laplacian pyramid, each level kept within its `limits` (low, high) where given."""
    return _collapse(pyramid, limits, spatial, lambda detail, base: detail + base)


def collapse_contrast(
    pyramid: list[Tensor],
    limits: list[tuple[Tensor, Tensor]] | None = None,
    epsilon: float = CONTRAST_EPSILON,
    spatial: int = 2,
) -> Tensor:
    """Return the image of a contrast pyramid, each level kept within its `limits` (low, high) where given."""
    return _collapse(pyramid, limits, spatial, lambda contrast, base: (contrast + 1) * (base + epsilon))


def _collapse(
    pyramid: list[Tensor],
    limits: list[tuple[Tensor, Tensor]] | None,
    spatial: int,
    combine: Callable[[Tensor, Tensor], Tensor],
) -> Tensor:
    image = pyramid[-1] if limits is None else pyramid[-1].clamp(*limits[-1])
    for level in range(len(pyramid) - 2, -1, -1):
        image = combine(pyramid[level], expand(image, pyramid[level].shape[-spatial:]))
        if limits is not None:
            image = image.clamp(*limits[level])
    return image


def local_range(sources: Tensor, size: int = 3) -> tuple[Tensor, Tensor]:
    """Return the least and the greatest value of any source around each pixel, (S, H, W) or (S, D, H, W)."""
    pool = functional.max_pool2d if sources.dim() == 3 else functional.max_pool3d
    least, greatest = (
        pool(x[None, None], size, stride=1, padding=size // 2)[0, 0] for x in (-sources.amin(0), sources.amax(0))
    )
    return -least, greatest
