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

    It uses the multiplicative updates of `nmfuse.nmf`, H first and then W in each iteration, and gives the same factors
    from the same start, up to rounding. V stays in its chunks of columns, and H in chunks beside them. Each iteration
    sends W to each chunk, and one sum of shape (m, r) and one of shape (r, r), or (r,) for ``beta=1``, back. Sums are
    added in a fixed order, so the same chunks give the same bits for any number of threads or workers.

    It runs on the scheduler that dask chooses: the threads of this process, or the workers of a `distributed.Client`.
    If a worker dies, dask computes its data again, and the result is the same.

    Parameters
    ----------
    V : dask array, shape (m, n)
        The matrix, in float32, float64, uint8 or uint16, finite and non-negative. Each chunk has to contain all rows of
        some columns, as after ``V.rechunk({0: -1})``. Data from files are read again in every iteration; after
        ``V.persist()``, if they fit into the memory of all workers together, they are read once.
    rank : int
        The number r of components, from 1 to min(m, n).
    beta : {2, 1}
        The divergence: 2 for half the squared error (Frobenius), 1 for Kullback-Leibler.
    init : "random" or (W, H)
        The factors to start from, of shapes (m, r) and (r, n) and in the dtype of the results, where H may be a dask
        array; or "random", which draws ``|N(0, 1)| * sqrt(mean(V) / r)``, for H chunk by chunk.
    seed : int
        The seed of the random draw.
    max_iter : int
        The greatest number of iterations.
    tol : float
        The iterations stop if the objective has fallen by less than `tol` times its starting value since the last
        check; with 0 they never stop early.
    check_every : int
        The number of iterations between two checks of the objective, each of which reads V once more.

    Returns
    -------
    W : array, shape (m, r)
        The parts, with columns of unit length, ``||w_k||_2 = 1``; float64 if V is float64, otherwise float32.
    H : dask array, shape (r, n)
        The amounts, already computed, in the chunks of V and in the order of decreasing ``||h_k||_2``.
    info : NmfInfo
        The history of the objective, the number of iterations, and whether they converged.

    Raises
    ------
    ModuleNotFoundError
        If dask is not installed.
    TypeError
        If V is not a dask array of one of these dtypes.
    ValueError
        For chunks that do not contain all rows, for negative, NaN or infinite entries, and for numbers out of range.

    Notes
    -----
    During the computation BLAS has one thread for each task, in this process, and on workers unless their environment
    sets another number. The bits also depend on BLAS itself, which has different kernels for different processors.

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
