"""Non-negative matrix factorization of a dask array, chunk by chunk."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any

import numpy as np

from nmfuse.kernels import chunk
from nmfuse.kernels._array import Array, take
from nmfuse.kernels._native import native_for
from nmfuse.kernels.nmf import FLOOR, check_numbers, check_rank, far_exponent
from nmfuse.kernels.problem import NmfInfo, Problem

if TYPE_CHECKING:
    from dask.array import Array as DaskArray

_DTYPES = ("float32", "float64", "uint8", "uint16")
_AT_ONCE = 8  # sums that one task adds up


def nmf(
    V: DaskArray,
    rank: int,
    *,
    beta: float = 2,
    init: str | tuple[Array, Any] = "random",
    seed: int = 0,
    max_iter: int = 200,
    tol: float = 1e-4,
    check_every: int = 10,
) -> tuple[np.ndarray, DaskArray, NmfInfo]:
    """Factorize a dask array ``V ~ W @ H`` that is larger than the memory of this process, or of any one machine.

    Multiplicative updates as of `nmfuse.nmf`, H first and then W in each iteration: from the same start they give the
    same factors, to rounding. V stays in its chunks, which are columns, and H in chunks beside them. An iteration
    brings W to each chunk, and back one sum of shape (m, r) and one of shape (r, r), or (r,) for ``beta=1``. Sums are
    added in a fixed order, so the same chunks give the same bits, however many threads or workers there are.

    It runs on the scheduler that dask would choose: the threads of this process, or the workers of a
    `distributed.Client`. Where one of these dies, dask computes what it held again, and the result is the same.

    Parameters
    ----------
    V : dask array, shape (m, n)
        float32, float64, uint8 or uint16, finite and non-negative. Each chunk has all rows of some columns:
        ``V.rechunk({0: -1})``. What is read from files is read again in every iteration; ``V.persist()``, where it fits
        into the memory of all workers together, is read once.
    rank : int
        r, from 1 to min(m, n).
    beta : {2, 1}
        The divergence: 2 is half the squared error (Frobenius), 1 Kullback-Leibler.
    init : "random" or (W, H)
        "random" draws ``|N(0, 1)| * sqrt(mean(V) / r)``, H chunk by chunk; or the factors to start from, shapes (m, r)
        and (r, n), of the dtype of the results. H may be a dask array.
    seed : int
        Of the random draw.
    max_iter : int
        Iterations at most.
    tol : float
        Stop when the objective has fallen by less than `tol` of its starting value since the last check; 0 never.
    check_every : int
        Iterations between checks of the objective, each of which looks at V once more.

    Returns
    -------
    W : array, shape (m, r)
        Unit columns, ``||w_k||_2 = 1``; float64 if V is, otherwise float32.
    H : dask array, shape (r, n)
        Computed, in the chunks of V; sorted by falling ``||h_k||_2``.
    info : NmfInfo
        Objective history, iterations, convergence.

    Raises
    ------
    ModuleNotFoundError
        Without dask.
    TypeError
        For V that is no dask array of such a dtype.
    ValueError
        For chunks that have not all rows, negative, NaN or infinite entries, and numbers out of range.

    Notes
    -----
    BLAS has one thread a task meanwhile: here, and on workers unless their environment says otherwise. Bits also depend
    on BLAS itself, which has other kernels for other processors.

    References
    ----------
    Lee & Seung, NIPS 13 (2001); Liu, Yang, Fan, He & Wang, "Distributed nonnegative matrix factorization for web-scale
    dyadic data analysis on MapReduce", WWW (2010) (what is summed where).

    Examples
    --------
    >>> import dask.array as da, numpy as np, nmfuse
    >>> rng = np.random.default_rng(0)
    >>> V = da.from_array(rng.random((30, 3)) @ rng.random((3, 400)), chunks=(30, 100))
    >>> W, H, info = nmfuse.scale.nmf(V, rank=3)
    >>> H.chunks
    ((3,), (100, 100, 100, 100))
    >>> bool(np.linalg.norm(V - W @ H) < 0.05 * np.linalg.norm(V))
    True
    """
    try:
        import dask.array as da
        from threadpoolctl import threadpool_limits
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            f"nmfuse.scale.nmf needs {error.name}; pip install 'nmfuse[dask]'", name=error.name
        ) from error
    _check(V, da.Array)
    check_rank(rank, *V.shape)
    check_numbers(beta, seed, max_iter, tol, check_every, 1)
    if beta not in (1, 2):
        raise ValueError(f"beta: got {beta!r}; expected 2 or 1")
    with threadpool_limits(1, "blas"):
        mean, high = _look(V)
        exponent = far_exponent(high)
        W, H = _start(V, rank, init, seed, math.sqrt(mean / rank))
        if exponent:  # exact; V and H times it are of order 1, as in nmfuse.nmf
            V, H = V * 2.0**-exponent, H * 2.0**-exponent
        problem = _ChunkedProblem(V, np.maximum(W, FLOOR), da.maximum(H, FLOOR), int(beta))
        info = problem.run(max_iter, float(tol), check_every, 1)
        if exponent:
            info.multiply(2.0 ** (exponent * beta))
        return *problem.normalized(2.0**exponent), info


class _ChunkedProblem(Problem):
    """A factorization in flight, whose V and H are chunks."""

    def __init__(self, V: DaskArray, W: np.ndarray, H: DaskArray, beta: int) -> None:
        self.native, self.stream = native_for(W)
        self.given, self.batch, self.count = take(W, "W"), (), 1
        self.flops = 4.0 * V.shape[0] * V.shape[1] * W.shape[1]
        self.W, self.beta, self.columns = W, beta, V.chunks[1]
        self.V, self.H = V.to_delayed().ravel(), H.to_delayed().ravel()
        self.places: dict[int, tuple[str, ...]] = {}  # the workers that hold a chunk, once H is on a cluster

    def iterate(self, active: Array | None, iterations: int) -> None:  # noqa: ARG002
        """Iterate; there is one problem, which is active."""
        import dask

        update, add = dask.delayed(chunk.update_chunk, nout=2), dask.delayed(chunk.add_sums)
        for _ in range(iterations):
            updated = self._for_each_chunk(update)
            sums = [of_chunk for _, of_chunk in updated]
            while len(sums) > 1:
                sums = [add(sums[first : first + _AT_ONCE]) for first in range(0, len(sums), _AT_ONCE)]
            *self.H, whole = dask.persist(*[h for h, _ in updated], *sums)
            self.W = chunk.update_W(self.W, whole.compute())
            if not self.places:
                self.places = _places(self.H)

    def objective(self, values: Array, options: Any = None) -> None:  # noqa: ARG002
        """Write the objective into `values`."""
        import dask

        values[0] = math.fsum(dask.compute(*self._for_each_chunk(dask.delayed(chunk.objective_of_chunk))))

    def _for_each_chunk(self, function: Callable[..., Any]) -> list[Any]:
        """Return a call of (V, W, H, beta) for each chunk, where the chunk is: dask might copy it to one that waits."""
        import dask

        W, calls = dask.delayed(self.W), []
        for number, (v, h) in enumerate(zip(self.V, self.H, strict=True)):
            there = self.places.get(number)
            with dask.annotate(workers=there, allow_other_workers=True) if there else nullcontext():
                calls.append(function(v, W, h, self.beta))
        return calls

    def normalized(self, unit: float) -> tuple[np.ndarray, DaskArray]:
        """Return the factors as `nmfuse.nmf` gives them, H times `unit`."""
        import dask
        import dask.array as da

        squares, scaled = dask.delayed(chunk.squares_of_chunk), dask.delayed(chunk.scale_chunk)
        lengths = np.linalg.norm(self.W.astype(np.float64), axis=0)  # not zero: no entry is
        norms = lengths * np.sqrt(sum(dask.compute(*[squares(h) for h in self.H])))
        order = np.argsort(-norms, kind="stable")
        W = np.maximum((self.W / lengths)[:, order].astype(self.W.dtype), FLOOR)
        chunks = dask.persist(*[scaled(h, lengths, order, unit) for h in self.H])
        blocks = [
            da.from_delayed(h, (len(order), columns), W.dtype) for h, columns in zip(chunks, self.columns, strict=True)
        ]
        return W, da.concatenate(blocks, axis=1)


def _places(chunks: Any) -> dict[int, tuple[str, ...]]:
    """Return which workers hold each chunk; nothing where they are in this process."""
    distributed = sys.modules.get("distributed")
    futures = distributed.futures_of(list(chunks)) if distributed else []
    if not futures:
        return {}
    holders = futures[0].client.who_has(futures)
    return {number: tuple(holders[each.key]) for number, each in enumerate(chunks) if holders.get(each.key)}


def _check(V: Any, kind: Any) -> None:
    if not isinstance(V, kind):
        raise TypeError(
            f"V: got {type(V).__name__}; expected a dask array, such as dask.array.from_zarr(path); for arrays in "
            "memory call nmfuse.nmf"
        )
    if V.dtype.name not in _DTYPES or not isinstance(V._meta, np.ndarray):
        raise TypeError(
            f"V: got {V.dtype} in chunks of {type(V._meta).__name__}; expected NumPy's {', '.join(_DTYPES)}"
        )
    if V.ndim != 2 or not all(n > 0 for sizes in V.chunks for n in sizes):  # NaN where a size is not known
        raise ValueError(f"V: chunks {V.chunks}; expected two axes, and chunks of known sizes that are not empty")
    if len(V.chunks[0]) > 1:
        raise ValueError(
            f"V: chunks of {V.chunks[0]} rows; expected all rows in each chunk, of few columns: V.rechunk({{0: -1}})"
        )


def _look(V: DaskArray) -> tuple[float, float]:
    """Return mean and greatest value; refuse values that no divergence can factorize."""
    import dask

    look = dask.delayed(chunk.look_at_chunk)
    sums, lows, highs = zip(*dask.compute(*[look(v) for v in V.to_delayed().ravel()]), strict=True)
    if not all(map(math.isfinite, (*lows, *highs))):
        raise ValueError("V: contains NaN or inf; expected finite entries, replace them first")
    if min(lows) < 0:
        raise ValueError(f"V: contains negative entries (least {min(lows):g}); shift or clip it first")
    return math.fsum(sums) / V.size, max(highs)


def _start(
    V: DaskArray, rank: int, init: str | tuple[Array, Any], seed: int, scale: float
) -> tuple[np.ndarray, DaskArray]:
    import dask
    import dask.array as da

    (m, n), columns = V.shape, V.chunks[1]
    dtype = V.dtype if V.dtype.kind == "f" else np.dtype(np.float32)
    if isinstance(init, str):
        if init != "random":
            raise ValueError(f"init: got {init!r}; expected 'random' or (W, H)")
        W = (np.abs(np.random.default_rng(seed).standard_normal((m, rank))) * scale).astype(dtype)
        draw = dask.delayed(chunk.start_chunk)
        drawn = [draw(rank, width, dtype.name, (seed, k), scale) for k, width in enumerate(columns)]
        blocks = [da.from_delayed(h, (rank, width), dtype) for h, width in zip(drawn, columns, strict=True)]
        return W, da.concatenate(blocks, axis=1)
    if len(init) != 2:
        raise ValueError(f"init: a tuple of {len(init)}; expected (W, H)")
    for name, factor, shape in zip(("W", "H"), init, ((m, rank), (rank, n)), strict=True):
        if factor.shape != shape or factor.dtype != dtype:
            raise ValueError(f"init: {name} of shape {factor.shape}, {factor.dtype}; expected {shape}, {dtype}")
    W, H = np.asarray(init[0]), da.asarray(init[1]).rechunk((rank, columns))
    if not (np.isfinite(W).all() and (W >= 0).all() and bool((da.isfinite(H) & (H >= 0)).all())):
        raise ValueError(
            "init: contains NaN, inf or negative entries; expected factors that are finite and not negative"
        )
    return W, H
