"""Online NMF: a matrix that comes in chunks, of which one is in memory at a time."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np

from nmfuse.kernels.checks import check_count
from nmfuse.kernels.nmf import nmf

_SWEEPS_H, _SWEEPS_W = 30, 5  # of coordinate descent, for each chunk


def nmf_stream(
    V: Any | Iterable[Any], rank: int, *, columns: int = 4096, forget: float = 1.0, seed: int = 0
) -> np.ndarray:
    """Compute W of ``V ~ W @ H`` from chunks of columns, each of which is read once and not kept.

    Minimises the squared error. For each chunk its H is computed, the statistics that W depends on are added to two
    small matrices, and W is improved by coordinate descent. Afterwards, ``nmf(chunk, fixed_W=W)`` gives the H of any
    chunk.

    Parameters
    ----------
    V : array of shape (m, n), or iterable of arrays of shape (m, any)
        The matrix or its chunks, non-negative and in float32 or float64. An array may be any object that is sliced like
        one, such as `numpy.memmap` or those of zarr and h5py. If samples are rows, pass ``(x.T for x in chunks)``. For
        several passes, pass an iterable that yields the chunks several times.
    rank : int
        The number r of components, at most m and at most the number of columns of the first chunk.
    columns : int
        The number of columns of an array that are read at once.
    forget : float
        A factor in (0, 1] by which the weight of all earlier chunks is multiplied with each new one. Choose it below 1
        for data that drift, and if a few chunks are read several times.
    seed : int
        The seed of the random start, which uses the first chunk.

    Returns
    -------
    W : array, shape (m, r)
        The parts, with columns of unit length.

    Raises
    ------
    ValueError
        If there is no chunk, for chunks with different numbers of rows, and for what `nmf` refuses.

    References
    ----------
    Mairal, Bach, Ponce & Sapiro, Journal of Machine Learning Research 11 (2010), Algorithms 1 and 2.

    Examples
    --------
    >>> import numpy as np, nmfuse
    >>> rng = np.random.default_rng(0)
    >>> truth = rng.random((30, 3))
    >>> W = nmfuse.nmf_stream((truth @ rng.random((3, 200)) for _ in range(20)), rank=3)
    >>> V = truth @ rng.random((3, 50))
    >>> H = nmfuse.nmf(V, fixed_W=W, solver="hals", max_iter=100)[1]
    >>> bool(np.linalg.norm(V - W @ H) < 0.02 * np.linalg.norm(V))
    True
    """
    check_count("columns", columns, 1)
    if not 0 < forget <= 1:
        raise ValueError(f"forget: got {forget!r}; expected a number above 0, up to 1")
    W = None
    products: Any = 0.0  # (m, r) and (r, r): B and A of Mairal et al.
    gram: Any = 0.0
    for chunk in _chunks(V, columns):
        if W is None:
            W = nmf(chunk, rank, seed=seed, solver="hals", inner_iter=3, max_iter=50)[0].astype(np.float64)
        if chunk.shape[0] != len(W):
            raise ValueError(f"V: a chunk of shape {chunk.shape}; expected {len(W)} rows, as the first")
        fixed = W.astype(chunk.dtype)
        start = fixed, np.zeros((rank, chunk.shape[1]), chunk.dtype)
        H = nmf(chunk, fixed_W=fixed, init=start, solver="hals", inner_iter=_SWEEPS_H, max_iter=1, tol=0)[1]
        products = forget * products + chunk @ H.T
        gram = forget * gram + H @ H.T
        for k in np.flatnonzero(np.diag(gram)).tolist() * _SWEEPS_W:
            W[:, k] = np.maximum(W[:, k] + (products[:, k] - W @ gram[:, k]) / gram[k, k], 0)
    if W is None:
        raise ValueError("V: there is no chunk; expected at least one")
    lengths = np.linalg.norm(W, axis=0)
    unit: np.ndarray = (W / np.where(lengths > 0, lengths, 1)).astype(chunk.dtype)
    return unit


def _chunks(V: Any, columns: int) -> Iterator[np.ndarray]:
    if not hasattr(V, "shape"):
        for chunk in V:
            yield np.asarray(chunk)
        return
    if len(V.shape) != 2:
        raise ValueError(f"V: shape {tuple(V.shape)}; expected two axes")
    for first in range(0, V.shape[1], columns):
        yield np.asarray(V[:, first : first + columns])
