"""What a factorization does with a chunk of columns, wherever that chunk is: only what it adds to W leaves it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from nmfuse.kernels.nmf import FLOOR

_COLUMNS = 1024  # of a chunk that are worked on at once: what W @ H takes in memory
PRODUCT_FLOOR = FLOOR**2  # as kProductFloor in csrc/nmfuse/nmf.h


class Sums(NamedTuple):
    """What the update of W needs of some columns.

    Attributes
    ----------
    minus : array, shape (m, r)
        ``V @ H.T`` for ``beta=2``, ``(V / (W @ H)) @ H.T`` for ``beta=1``.
    plus : array, shape (r, r) or (r,)
        ``H @ H.T`` for ``beta=2``, the sums of H along its rows for ``beta=1``.
    """

    minus: np.ndarray
    plus: np.ndarray


def look_at_chunk(V: np.ndarray) -> tuple[float, float, float]:
    """Return sum, least and greatest value.

    Examples
    --------
    >>> look_at_chunk(np.array([[1.0, 2.0], [3.0, 4.0]]))
    (10.0, 1.0, 4.0)
    """
    total = sum(float(v.sum(dtype=np.float64)) for v, _ in _panels(V, V.dtype))
    return total, float(V.min()), float(V.max())


def start_chunk(rank: int, columns: int, dtype: str, seed: tuple[int, int], scale: float) -> np.ndarray:
    """Return random H to start from; `seed` is that of the factorization, and which chunk it is.

    Examples
    --------
    >>> start_chunk(2, 5, "float32", (0, 3), scale=1.0).shape
    (2, 5)
    """
    H = np.abs(np.random.default_rng(seed).standard_normal((rank, columns))) * scale
    return H.astype(dtype)


def update_chunk(V: np.ndarray, W: np.ndarray, H: np.ndarray, beta: int) -> tuple[np.ndarray, Sums]:
    """Return H after one multiplicative update, and what the update of W needs of it.

    Parameters
    ----------
    V : array, shape (m, n)
        Columns, of the dtype of the factors, uint8 or uint16.
    W, H : arrays, shapes (m, r) and (r, n)
    beta : {2, 1}

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> V, W, H = rng.random((6, 9)), rng.random((6, 2)), rng.random((2, 9))
    >>> updated, sums = update_chunk(V, W, H, beta=2)
    >>> np.allclose(sums.minus, V @ updated.T), np.allclose(sums.plus, updated @ updated.T)
    (True, True)
    """
    W, tiny = _plain(W), np.finfo(W.dtype).tiny
    result = np.empty(H.shape, H.dtype)
    minus = np.zeros_like(W)
    plus = np.zeros((W.shape[1],) * beta, W.dtype)  # (r, r) or (r,)
    of_W = W.T @ W if beta == 2 else W.sum(axis=0)[:, None]
    for v, span in _panels(V, W.dtype):
        h = _plain(H[:, span])
        if beta == 2:
            h = np.maximum(h * (W.T @ v) / np.maximum(of_W @ h, tiny), FLOOR)
            minus += v @ h.T
            plus += h @ h.T
        else:
            h = np.maximum(h * (W.T @ (v / np.maximum(W @ h, PRODUCT_FLOOR))) / np.maximum(of_W, tiny), FLOOR)
            minus += (v / np.maximum(W @ h, PRODUCT_FLOOR)) @ h.T
            plus += h.sum(axis=1)
        result[:, span] = h
    return result, Sums(minus, plus)


def add_sums(parts: Sequence[Sums]) -> Sums:
    """Add up, in the order that is given.

    Examples
    --------
    >>> add_sums([Sums(np.ones((2, 1)), np.ones(1))] * 3).plus
    array([3.])
    """
    first, *others = parts
    minus, plus = first.minus.copy(), first.plus.copy()
    for part in others:
        minus += part.minus
        plus += part.plus
    return Sums(minus, plus)


def update_W(W: np.ndarray, sums: Sums) -> np.ndarray:
    """Return W after one multiplicative update, by the sums over all columns.

    Examples
    --------
    >>> update_W(np.ones((1, 1)), Sums(np.full((1, 1), 6.0), np.full((1, 1), 3.0)))
    array([[2.]])
    """
    plus = W @ _plain(sums.plus) if sums.plus.ndim == 2 else sums.plus
    updated: np.ndarray = np.maximum(W * sums.minus / np.maximum(plus, np.finfo(W.dtype).tiny), FLOOR)
    return updated


def objective_of_chunk(V: np.ndarray, W: np.ndarray, H: np.ndarray, beta: int) -> float:
    """Return the divergence of V from W @ H: half the squared error, or Kullback-Leibler.

    Examples
    --------
    >>> objective_of_chunk(np.full((1, 1), 3.0), np.ones((1, 1)), np.ones((1, 1)), beta=2)
    2.0
    """
    W, objective = _plain(W), 0.0
    for v, span in _panels(V, W.dtype):
        wh = W @ _plain(H[:, span])
        if beta == 2:
            each = np.square(v - wh) / 2
        else:
            wh = np.maximum(wh, PRODUCT_FLOOR)
            each = v * np.log(np.where(v > 0, v, wh) / wh) - v + wh
        objective += float(each.sum(dtype=np.float64))
    return objective


def squares_of_chunk(H: np.ndarray) -> np.ndarray:
    """Return the squared norms of the rows: float64, shape (r,).

    Examples
    --------
    >>> squares_of_chunk(np.array([[3.0, 4.0]]))
    array([25.])
    """
    squares: np.ndarray = np.square(_plain(H), dtype=np.float64).sum(axis=1)
    return squares


def scale_chunk(H: np.ndarray, scale: np.ndarray, order: np.ndarray, unit: float = 1.0) -> np.ndarray:
    """Return H with its rows times `scale` (float64, shape (r,)), in the order that is given, and all times `unit`.

    Examples
    --------
    >>> scale_chunk(np.array([[1.0], [2.0]]), np.array([1.0, 10.0]), np.array([1, 0]))
    array([[20.],
           [ 1.]])
    """
    scaled: np.ndarray = np.maximum((H * scale[:, None])[order].astype(H.dtype), FLOOR) * unit
    return scaled


def _panels(V: np.ndarray, dtype: np.dtype) -> Iterator[tuple[np.ndarray, slice]]:
    for first in range(0, V.shape[1], _COLUMNS):
        span = slice(first, first + _COLUMNS)
        yield _plain(V[:, span], dtype), span


def _plain(x: np.ndarray, dtype: Any = None) -> np.ndarray:
    """Return an array as NumPy makes one: of other strides, or come by a network to an odd address, bits are others."""
    return np.require(x, dtype, ("C", "A"))
