"""The oracles: each kernel written from its formula in plain float64 NumPy, slow and obvious.

Every backend is held against these functions. They take images with any leading batch axes and check nothing.
"""

from __future__ import annotations

from functools import reduce
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

UNRELIABLE, RELIABLE, BACKGROUND = 0, 1, 2  # what a pixel is worth; as in csrc/nmfuse/hannmean.h

Float64 = NDArray[np.float64]


def hann_window(size: int) -> Float64:
    """Hann window of `size` taps without its zero ends, summing to 1; size 3 is [1 2 1] / 4."""
    k = np.arange(1, size + 1)
    h = 0.5 * (1 - np.cos(2 * np.pi * k / (size + 1)))
    window: Float64 = h / h.sum()
    return window


def _reflected(index: NDArray[np.intp], n: int) -> NDArray[np.intp]:
    """Index in [0, n) of a pixel beyond the border, the edge pixel repeated: c b a | a b c | c b a."""
    index = index % (2 * n)
    return np.minimum(index, 2 * n - 1 - index)


def _windows(x: ArrayLike, size: int, spatial: int) -> NDArray[np.generic]:
    """All windows of an image or volume, (..., *S) -> (..., *S, size, size[, size])."""
    x = np.asarray(x)
    offsets = np.arange(size) - size // 2
    index: list[Any] = [...]
    for axis, n in enumerate(x.shape[-spatial:]):
        places = [1] * (2 * spatial)
        places[axis], places[spatial + axis] = n, size
        index.append(_reflected(np.arange(n)[:, None] + offsets, n).reshape(places))
    windows: NDArray[np.generic] = x[tuple(index)]
    return windows


def hann_kernel(size: int, spatial: int) -> Float64:
    """Window of an image, h (x) h, or of a volume, h (x) h (x) h."""
    kernel: Float64 = reduce(np.multiply.outer, [hann_window(size)] * spatial)
    return kernel


def hannmean_ref(x: ArrayLike, size: int, reliability: ArrayLike | None = None, spatial: int = 2) -> Float64:
    """Mean sum K m x / sum K m; background and pixels without a reliable neighbour keep x."""
    x = np.asarray(x, np.float64)
    codes = np.full(x.shape, RELIABLE, np.uint8) if reliability is None else np.asarray(reliability)
    kernel, axes = hann_kernel(size, spatial), tuple(range(-spatial, 0))
    used = _windows(codes, size, spatial) == RELIABLE
    weight = np.where(used, kernel, 0.0).sum(axes)
    total = (np.where(used, _windows(x, size, spatial), 0.0) * kernel).sum(axes)
    kept = (weight == 0) | (codes == BACKGROUND)
    return np.where(kept, x, total / np.where(kept, 1.0, weight))


def hannmean_exact_ref(
    x: NDArray[np.integer], size: int, reliability: ArrayLike | None = None, spatial: int = 2
) -> NDArray[np.integer]:
    """Mean of integers by a window of size 3 or 5 in whole numbers, ties to even: not one rounding on the way."""
    line = {3: [1, 2, 1], 5: [1, 3, 4, 3, 1]}[size]  # hann_window(size) times 4 or 12
    codes = np.full(x.shape, RELIABLE, np.uint8) if reliability is None else np.asarray(reliability)
    kernel, axes = reduce(np.multiply.outer, [np.array(line)] * spatial), tuple(range(-spatial, 0))
    kernel = kernel * (_windows(codes, size, spatial) == RELIABLE)
    weight, total = kernel.sum(axes), (kernel * _windows(x, size, spatial).astype(np.int64)).sum(axes)
    kept = (weight == 0) | (codes == BACKGROUND)
    mean, rest = np.divmod(2 * total + weight, np.where(kept, 1, 2 * weight))
    mean -= (rest == 0) & (mean % 2 == 1)  # halfway, and rounded up to an odd one
    return np.where(kept, x, mean)


def hannmean_adjoint_ref(grad: ArrayLike, size: int, reliability: ArrayLike | None = None, spatial: int = 2) -> Float64:
    """Adjoint of `hannmean_ref` in x: each output's gradient goes back to the pixels that made it."""
    grad = np.asarray(grad, np.float64)
    codes = np.full(grad.shape, RELIABLE, np.uint8) if reliability is None else np.asarray(reliability)
    kernel = hann_kernel(size, spatial)
    result = np.zeros(grad.shape)
    used = _windows(codes, size, spatial) == RELIABLE
    offsets = np.arange(size) - size // 2
    for index in np.ndindex(grad.shape):
        batch, place = index[:-spatial], index[-spatial:]
        share = np.where(used[index], kernel, 0.0)
        if codes[index] == BACKGROUND or share.sum() == 0:
            result[index] += grad[index]
            continue
        sources = np.ix_(*(_reflected(i + offsets, n) for i, n in zip(place, grad.shape[-spatial:], strict=True)))
        np.add.at(result[batch], sources, share / share.sum() * grad[index])
    return result


def reject_outliers_ref(
    x: ArrayLike, size: int, k: float, reliability: ArrayLike, spatial: int = 2
) -> NDArray[np.uint8]:
    """Reliability where |x - median| > k * 1.4826 * MAD of the window made reliable pixels unreliable."""
    x = np.asarray(x, np.float64)
    windows = _windows(x, size, spatial).astype(np.float64)
    result = np.array(reliability, np.uint8)
    for index in np.ndindex(x.shape):
        values = windows[index][np.isfinite(windows[index])]
        outlier = not bool(np.isfinite(x[index]))
        if not outlier:
            median = np.median(values)
            outlier = bool(abs(x[index] - median) > k * 1.4826 * np.median(abs(values - median)))
        if outlier and result[index] == RELIABLE:
            result[index] = UNRELIABLE
    return result


def _pixels_of(index: tuple[int, ...], block: int, stride: int) -> tuple[Any, ...]:
    """Return the square or cube that a block covers, in every image or volume of a batch."""
    return (..., *(slice(i * stride, i * stride + block) for i in index))


def _cover_count(grid: tuple[int, ...], block: int, stride: int, shape: tuple[int, ...]) -> Float64:
    """How many blocks cover each pixel."""
    count = np.zeros(shape)
    for index in np.ndindex(*grid):
        count[_pixels_of(index, block, stride)] += 1
    return count


def _nearest_covered(count: Float64) -> list[NDArray[np.intp]]:
    """Along each axis, the index of the nearest covered pixel; of two as near, the lower."""
    nearest = []
    for axis, n in enumerate(count.shape):
        covered = np.flatnonzero(count.any(tuple(other for other in range(count.ndim) if other != axis)))
        nearest.append(covered[abs(np.arange(n)[:, None] - covered).argmin(1)])
    return nearest


def aggregate_blocks_ref(
    scores: ArrayLike, block: int, stride: int, shape: tuple[int, ...], fill: str | float = "nearest"
) -> Float64:
    """Mean of the scores of all blocks that cover a pixel, one block after the other; `shape` has two axes or three."""
    scores = np.asarray(scores, np.float64)
    spatial = len(shape)
    grid = scores.shape[-spatial:]
    count = _cover_count(grid, block, stride, shape)
    total = np.zeros(scores.shape[:-spatial] + shape)
    for index in np.ndindex(*grid):
        total[_pixels_of(index, block, stride)] += scores[(..., *index, *[None] * spatial)]
    mean: Float64 = total / np.maximum(count, 1)
    if fill == "nearest":
        nearest: tuple[Any, ...] = (..., *np.ix_(*_nearest_covered(count)))
        filled: Float64 = mean[nearest]
        return filled
    return np.where(count > 0, mean, float(fill))


def aggregate_blocks_adjoint_ref(
    grad: ArrayLike, block: int, stride: int, shape: tuple[int, ...], fill: str | float = "nearest"
) -> Float64:
    """Adjoint of `aggregate_blocks_ref` in the scores; `shape` is that of the block grid."""
    grad = np.asarray(grad, np.float64)
    spatial = len(shape)
    count = _cover_count(shape, block, stride, grad.shape[-spatial:])
    if fill == "nearest":
        nearest = _nearest_covered(count)
        gathered = np.zeros(grad.shape)
        for index in np.ndindex(*count.shape):
            source = tuple(near[i] for near, i in zip(nearest, index, strict=True))
            gathered[(..., *source)] += grad[(..., *index)]
    else:
        gathered = np.where(count > 0, grad, 0.0)
    share = gathered / np.maximum(count, 1)
    result = np.zeros(grad.shape[:-spatial] + shape)
    for index in np.ndindex(*shape):
        pixels = share[_pixels_of(index, block, stride)]
        result[(..., *index)] = pixels.sum(tuple(range(-spatial, 0)))
    return result


FACTOR_FLOOR = 1e-12  # W and H never fall below it; as kFactorFloor in csrc/nmfuse/nmf.h
PRODUCT_FLOOR = FACTOR_FLOOR**2  # what W H counts as where it is divided by or raised to a power
_TINY = np.finfo(np.float64).tiny


def nmf_exponent_ref(beta: float, l2: float) -> float:
    """Exponent of a multiplicative update that never lets the objective rise.

    1 / (2 - beta) for beta < 1, 1 up to 2, 1 / (beta - 1) above (Fevotte & Idier 2011). A squared penalty
    grows faster than a divergence of beta < 2: bounding every term by a square gives 1 / (3 - beta) there.
    """
    if l2 > 0 and beta < 2:
        return 1 / (3 - beta)
    if beta < 1:
        return 1 / (2 - beta)
    return 1.0 if beta <= 2 else 1 / (beta - 1)


def _nmf_gradient_parts(
    V: Float64, W: Float64, H: Float64, beta: float, weights: Float64 | None = None
) -> tuple[Float64, Float64]:
    """Minus and plus part of the gradient in H; swap and transpose everything for W."""
    S, V = _weighted(V, weights)
    WH = W @ H
    Wt = _transposed(W)
    if beta == 2:
        return Wt @ (S * V), Wt @ (S * WH)
    WH = np.maximum(WH, PRODUCT_FLOOR)
    return Wt @ (S * WH ** (beta - 2) * V), Wt @ (S * WH ** (beta - 1))


def _transposed(x: Float64) -> Float64:
    return np.swapaxes(x, -1, -2)


def _weighted(V: Float64, weights: Float64 | None) -> tuple[Float64, Float64]:
    """Return the weights, 1 where none are given, and V with zeros where they are zero."""
    S = np.ones_like(V) if weights is None else np.asarray(weights, np.float64)
    return S, np.where(S > 0, V, 0)


def nmf_update_ref(
    V: ArrayLike,
    W: ArrayLike,
    H: ArrayLike,
    *,
    beta: float = 2.0,
    weights: ArrayLike | None = None,
    l1_W: float = 0.0,
    l1_H: float = 0.0,
    l2_W: float = 0.0,
    l2_H: float = 0.0,
    inner_iter: int = 1,
    update_W: bool = True,
    iterations: int = 1,
) -> tuple[Float64, Float64]:
    """Multiplicative updates, `inner_iter` of H first and then as many of W with the new H."""

    def updated(x: Float64, minus: Float64, plus: Float64, l1: float, l2: float) -> Float64:
        ratio = minus / np.maximum(plus + l1 + l2 * x, _TINY)
        return np.maximum(x * ratio ** nmf_exponent_ref(beta, l2), FACTOR_FLOOR)

    V, W, H = (np.asarray(x, np.float64) for x in (V, W, H))
    S = np.ones_like(V) if weights is None else np.asarray(weights, np.float64)
    for _ in range(iterations):
        for _ in range(inner_iter):
            H = updated(H, *_nmf_gradient_parts(V, W, H, beta, S), l1_H, l2_H)
        for _ in range(inner_iter if update_W else 0):
            minus, plus = _nmf_gradient_parts(_transposed(V), _transposed(H), _transposed(W), beta, _transposed(S))
            W = updated(W, _transposed(minus), _transposed(plus), l1_W, l2_W)
    return W, H


def nmf_hals_ref(
    V: ArrayLike,
    W: ArrayLike,
    H: ArrayLike,
    *,
    l1_W: float = 0.0,
    l1_H: float = 0.0,
    l2_W: float = 0.0,
    l2_H: float = 0.0,
    inner_iter: int = 1,
    update_W: bool = True,
    iterations: int = 1,
) -> tuple[Float64, Float64]:
    """Sweeps of HALS (Cichocki & Phan 2009), `inner_iter` over H first and then as many over W with the new H."""

    def swept(V: Float64, W: Float64, H: Float64, l1: float, l2: float) -> Float64:
        H = H.copy()
        for k in range(H.shape[-2]):
            w = W[..., :, k]
            others = V - W @ H + w[..., :, None] * H[..., None, k, :]
            curvature = (w * w).sum(-1)[..., None] + l2
            best = np.maximum(((w[..., :, None] * others).sum(-2) - l1) / np.maximum(curvature, _TINY), 0)
            H[..., k, :] = np.where(curvature > _TINY, best, H[..., k, :])
        return H

    V, W, H = (np.asarray(x, np.float64) for x in (V, W, H))
    for _ in range(iterations):
        for _ in range(inner_iter):
            H = swept(V, W, H, l1_H, l2_H)
        for _ in range(inner_iter if update_W else 0):
            W = _transposed(swept(_transposed(V), _transposed(H), _transposed(W), l1_W, l2_W))
    return W, H


def nmf_objective_ref(
    V: ArrayLike,
    W: ArrayLike,
    H: ArrayLike,
    *,
    beta: float = 2.0,
    weights: ArrayLike | None = None,
    l1_W: float = 0.0,
    l1_H: float = 0.0,
    l2_W: float = 0.0,
    l2_H: float = 0.0,
) -> Float64:
    """Weighted d_beta(V | W H) + l1 sum(x) + l2 / 2 sum(x^2) of both factors, one number for each problem."""
    V, W, H = (np.asarray(x, np.float64) for x in (V, W, H))
    S, V = _weighted(V, None if weights is None else np.asarray(weights, np.float64))
    WH = W @ H
    if beta == 2:
        divergence = (V - WH) ** 2 / 2
    else:
        WH = np.maximum(WH, PRODUCT_FLOOR)
        if beta == 1:
            divergence = V * np.log(np.where(V > 0, V, WH) / WH) - V + WH
        elif beta == 0:
            V = np.where(S > 0, V, WH)
            divergence = V / WH - np.log(V / WH) - 1
        else:
            divergence = (V**beta + (beta - 1) * WH**beta - beta * V * WH ** (beta - 1)) / (beta * (beta - 1))
    objective: Float64 = (S * divergence).sum((-2, -1))
    for factor, l1, l2 in ((W, l1_W, l2_W), (H, l1_H, l2_H)):
        objective = objective + l1 * factor.sum((-2, -1)) + l2 / 2 * (factor**2).sum((-2, -1))
    return objective


def nmf_normalize_ref(W: ArrayLike, H: ArrayLike) -> tuple[Float64, Float64]:
    """Scale the columns of W to length 1 and sort by falling norm of the rows of H; ties keep their order."""
    W, H = (np.asarray(x, np.float64) for x in (W, H))
    scale = np.linalg.norm(W, axis=-2, keepdims=True)
    scale[scale == 0] = 1
    W, H = W / scale, H * np.swapaxes(scale, -1, -2)
    order = np.argsort(-np.linalg.norm(H, axis=-1), axis=-1, kind="stable")
    W, H = np.take_along_axis(W, order[..., None, :], -1), np.take_along_axis(H, order[..., :, None], -2)
    return np.maximum(W, FACTOR_FLOOR), np.maximum(H, FACTOR_FLOOR)


def window_information_ref(x: ArrayLike, y: ArrayLike) -> Float64:
    """Share of information of 3 x 3 windows, ``2 I / (H_x + H_y)``, from all 81 cells of the joint distribution."""
    x, y = (np.asarray(z, np.float64) for z in (x, y))
    windows = [np.lib.stride_tricks.sliding_window_view(z, (3, 3), (-2, -1)) for z in (x, y)]
    pairs = [np.swapaxes(w, -2, -1).reshape(-1, 9) for w in windows]  # column by column
    information = [_coupled_information(a, b) for a, b in zip(*pairs, strict=True)]
    return np.reshape(information, windows[0].shape[:-2])


_LEAST_ENTROPY = 1e-4  # nats


def _coupled_information(a: Float64, b: Float64) -> float:
    if (a == b).all():
        return 1.0
    if np.ptp(a) == 0 or np.ptp(b) == 0:
        return 0.0
    p, r = ((z - z.min()) / (z - z.min()).sum() for z in (a, b))
    index = np.arange(9)
    correlation = np.corrcoef(p, r)[0, 1]
    below_p, below_r = np.cumsum(p)[:, None], np.cumsum(r)
    bound = np.maximum(below_p + below_r - 1, 0) if correlation < 0 else np.minimum(below_p, below_r)
    bound = np.diff(np.diff(bound, axis=0, prepend=0), axis=1, prepend=0)
    means = index @ p, index @ r
    deviations = np.sqrt((index - means[0]) ** 2 @ p * ((index - means[1]) ** 2 @ r))
    covariance = (index - means[0]) @ bound @ (index - means[1])
    phi = correlation * deviations / covariance if covariance else 0.0
    entropies = [_entropy(z) for z in (p, r, phi * bound + (1 - phi) * np.outer(p, r))]
    both = entropies[0] + entropies[1]
    return 0.0 if both < _LEAST_ENTROPY else 2 * (both - entropies[2]) / both


def _entropy(p: Float64) -> float:
    """Shannon's, in nats; of a negative "probability" the real part of the logarithm."""
    seen = p[p != 0]
    return -float(seen @ np.log(np.abs(seen)))
