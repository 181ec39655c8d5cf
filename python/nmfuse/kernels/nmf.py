"""Non-negative matrix factorization by multiplicative updates."""

from __future__ import annotations

import math
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from nmfuse.kernels._array import CPU, AnyArray, Array, take
from nmfuse.kernels._native import native_for
from nmfuse.kernels._traced import operators
from nmfuse.kernels.checks import check_count

if TYPE_CHECKING:
    from nmfuse.kernels._operations import Operations, Options

FLOOR = 1e-12  # as kFactorFloor in csrc/nmfuse/nmf.h: a factor that reached zero could not leave it
_UNINTERRUPTED_FLOPS = 5e9  # at most this much work in one native call, so that Ctrl-C is heard within a second


class NmfInfo:
    """How a factorization went; what a CUDA device knows of it is read when it is asked for.

    Attributes
    ----------
    objective : float64 array, shape (checks, ...)
        The objective at the start and at every check; the last row is that of the returned factors.
    iterations : int array, shape (checks,)
        After how many iterations each check was made.
    n_iter : int array, shape (...)
        Iterations done, for each problem of the batch.
    converged : bool array, shape (...)
        Whether `tol` was reached before `max_iter`.
    """

    def __init__(self, history: Array, active: Array | None, checked_at: list[int], batch: tuple[int, ...]) -> None:
        self._history, self._active = history, active  # (checks, problems), on the device of V; None: all of them
        self._checked_at, self._batch = checked_at, batch

    @cached_property
    def _flags(self) -> np.ndarray:
        """Which problems were active after each check, up to the one that stopped the last: (checks, problems)."""
        if self._active is None:
            return np.ones((len(self._checked_at), math.prod(self._batch)), bool)
        flags = take(self._active, "info").to_host()[: len(self._checked_at)].astype(bool)
        return flags[: 1 + int(flags.any(axis=1).sum())]

    @cached_property
    def iterations(self) -> np.ndarray:
        """After how many iterations each check was made."""
        return np.array(self._checked_at[: len(self._flags)])

    @cached_property
    def objective(self) -> np.ndarray:
        """The objective at the start and at every check."""
        return take(self._history, "info").to_host()[: len(self._flags)].reshape((-1, *self._batch))

    @cached_property
    def n_iter(self) -> np.ndarray:
        """Iterations done, for each problem."""
        steps: np.ndarray = np.diff(self.iterations) @ self._flags[:-1]
        return steps.reshape(self._batch)

    @cached_property
    def converged(self) -> np.ndarray:
        """Whether `tol` was reached before `max_iter`, for each problem."""
        return ~np.asarray(self._flags[-1], bool).reshape(self._batch)

    def on_device(self) -> Array:
        """Return the objective where it was computed, without waiting for it."""
        return self._history[: len(self._checked_at)].reshape((-1, *self._batch))

    def multiply(self, factor: float) -> None:
        """Give the objective another scale, as that of V is given back."""
        self._history[...] *= factor

    def __repr__(self) -> str:
        return f"NmfInfo(n_iter={self.n_iter}, converged={self.converged}, objective={self.objective[-1]})"


def nmf(
    V: Array,
    rank: int | None = None,
    *,
    beta: float = 2.0,
    init: str | tuple[Array, Array] = "random",
    seed: int = 0,
    max_iter: int = 200,
    tol: float = 1e-4,
    check_every: int = 10,
    l1_W: float = 0.0,
    l1_H: float = 0.0,
    l2_W: float = 0.0,
    l2_H: float = 0.0,
    fixed_W: Array | None = None,
    inner_iter: int = 1,
    out: tuple[Array, Array] | None = None,
) -> tuple[Array, Array, NmfInfo]:
    """Factorize ``V ~ W @ H`` with all entries non-negative, by multiplicative updates, H first and then W.

    Minimises ``d_beta(V | W H) + l1_W sum(W) + l2_W/2 sum(W^2) + l1_H sum(H) + l2_H/2 sum(H^2)``. With ``beta=2`` (half
    the squared error) V is read from memory once an iteration. The result has the same bits for any thread count.

    On a CUDA device everything is queued on the caller's stream. Values are checked once, before the first iteration,
    which waits for the stream; with ``tol=0`` nothing else waits until `info` is read. While a CUDA graph is recorded,
    values are not checked; pass ``init=(W, H)`` and ``tol=0``, and read `info` after a replay. A V of few columns is
    slow there (work is shared out by columns): pass its transpose.

    Parameters
    ----------
    V : array, shape (..., m, n)
        float32 or float64, finite and non-negative (positive for ``beta <= 0``); NumPy, torch or CuPy. On the CPU also
        uint8 or uint16, read as they are: the factors are float32, the same as those of V as float32. Leading axes are
        independent problems. Floats whose largest is below 2^-14 or above 2^40 are scaled by a power of two inside.
    rank : int
        r, from 1 to min(m, n). May be left out with `fixed_W`.
    beta : float
        The divergence: 2 Frobenius, 1 Kullback-Leibler, 0 Itakura-Saito, or any other number.
    init : {"random", "nndsvda"} or (W, H)
        "random" draws ``|N(0, 1)| * sqrt(mean(V) / r)``, alike (to rounding) for every library and device; "nndsvda" is
        the non-negative double SVD with zeros filled by the mean (a zero could not leave zero); or the factors to start
        from, which are copied.
    seed : int
        Of the random draw.
    max_iter : int
        Iterations at most.
    tol : float
        Stop when the objective has fallen by less than `tol` of its starting value since the last check; 0 never.
    check_every : int
        Iterations between checks of the objective.
    l1_W, l1_H, l2_W, l2_H : float
        Weights of the penalties, non-negative.
    fixed_W : array, shape (..., m, r), optional
        Solve for H only, with this W.
    inner_iter : int
        Updates of each factor for each pass over V (accelerated multiplicative updates), of which two to ten pay;
        ``beta=2`` only.
    out : (W, H), optional
        Arrays to write the factors into.

    Returns
    -------
    W : array, shape (..., m, r)
        Unit columns, ``||w_k||_2 = 1`` (the given one where `fixed_W` is given).
    H : array, shape (..., r, n)
        Sorted by falling ``||h_k||_2`` (in the order of `fixed_W` where that is given).
    info : NmfInfo
        Objective history, iterations, convergence.

    Raises
    ------
    TypeError
        For a dtype or kind of array that is not supported.
    ValueError
        For negative, NaN or infinite entries, a rank above min(m, n), or shapes that do not match.

    References
    ----------
    Lee & Seung, NIPS 13 (2001); Fevotte & Idier, Neural Computation 23 (2011), Eqs. 4.1-4.3 (the exponent that keeps
    the objective falling); Gillis & Glineur, Neural Computation 24 (2012) (`inner_iter`); Boutsidis & Gallopoulos,
    Pattern Recognition 41 (2008) ("nndsvda").

    Examples
    --------
    >>> import numpy as np, nmfuse
    >>> V = np.outer([1.0, 2.0, 3.0], [1.0, 0.0, 2.0, 4.0])
    >>> W, H, info = nmfuse.nmf(V, rank=1)
    >>> np.allclose(W @ H, V)
    True
    """
    if (ops := operators(V)) is not None:
        others = {
            "init": init != "random", "tol": tol != 0, "l1_W": l1_W, "l1_H": l1_H, "l2_W": l2_W, "l2_H": l2_H,
            "fixed_W": fixed_W is not None, "inner_iter": inner_iter != 1, "out": out is not None,
        }  # fmt: skip
        if refused := ", ".join(name for name, is_given in others.items() if is_given):
            raise TypeError(
                f"{refused}: V requires grad or is traced by torch, which allows of a random start and a fixed number "
                "of iterations only; pass tol=0 and leave the others out, or pass V.detach()"
            )
        result: tuple[Array, Array, NmfInfo] = ops.nmf_with_info(
            V, rank, iterations=max_iter, check_every=check_every, seed=seed, beta=beta
        )
        return result
    values = take(V, "V")
    native, stream = native_for(values)
    values.require("V", native.dtypes["nmf"])
    values = values.plain()
    if 0 in values.shape:
        raise ValueError(f"V: shape {values.shape} is empty; expected at least one row and one column")
    batch, (m, n) = values.shape[:-2], values.shape[-2:]
    fixed = None
    if fixed_W is not None:
        fixed = _factor(fixed_W, "fixed_W", values, (*batch, m, None))
        rank = fixed.shape[-1] if rank is None else rank
        if rank != fixed.shape[-1]:
            raise ValueError(f"rank: got {rank}, but fixed_W has {fixed.shape[-1]} columns; leave rank out")
    rank = check_rank(rank, m, n, fixed=fixed_W is not None)
    check_numbers(beta, seed, max_iter, tol, check_every, inner_iter)
    penalties = {"l1_W": l1_W, "l1_H": l1_H, "l2_W": l2_W, "l2_H": l2_H}
    for name, value in penalties.items():
        if not (math.isfinite(value) and value >= 0):
            raise ValueError(f"{name}: got {value!r}; expected a non-negative number")
    capturing = stream is not None and native.is_capturing(stream)
    if capturing and (tol > 0 or not isinstance(init, tuple)):
        raise ValueError("init, tol: a CUDA graph records work on data not known yet; pass init=(W, H) and tol=0")

    exponent = 0 if capturing else _far_exponent(_check_values(values, "V", positive=beta <= 0))
    given = _start(values, rank, init, seed, fixed, look=not capturing)
    if exponent:
        scale = 2.0**-exponent  # exact; V and H times it are of order 1
        began = init if isinstance(init, str) else (given[0].data, given[1].data * scale)
        factor_W, factor_H, info = nmf(
            values.data * scale, rank, beta=beta, init=began, seed=seed, max_iter=max_iter, tol=tol,
            check_every=check_every, l1_W=l1_W * scale**beta, l2_W=l2_W * scale**beta,
            l1_H=l1_H * scale ** (beta - 1), l2_H=l2_H * scale ** (beta - 2),
            fixed_W=fixed_W, inner_iter=inner_iter, out=out,
        )  # fmt: skip
        factor_H *= 2.0**exponent
        info.multiply(scale**-beta)
        given_W, given_H = (None, None) if out is None else out
        W, H = take(factor_W, "W"), take(factor_H, "H")
        return values.given_back(W, given_W), values.given_back(H, given_H), info
    into_W, into_H = (None, None) if out is None else out
    W = values.result(into_W, (*batch, m, rank), _dtype_of_factors(values), apart_from="V")
    H = values.result(into_H, (*batch, rank, n), _dtype_of_factors(values), apart_from="V")
    for factor, start in zip((W, H), given, strict=True):
        factor.data[...] = start.data
        if start is not fixed:
            factor.raise_to(FLOOR)

    options = native.NmfOptions(
        beta=float(beta),
        inner_iter=inner_iter,
        update_W=fixed is None,
        **{k: float(v) for k, v in penalties.items()},
    )
    solver = _Solver(native, stream, values, W, H, options)
    info = solver.run(max_iter, float(tol), check_every, inner_iter)
    if fixed is None:
        native.nmf_normalize(W.data, H.data, solver.workspace, stream)
    return values.given_back(W, into_W), values.given_back(H, into_H), info


class _Solver:
    """One factorization in flight: the factors, the native module, and its scratch memory."""

    def __init__(
        self, native: Operations, stream: int | None, V: AnyArray, W: AnyArray, H: AnyArray, options: Options
    ) -> None:
        self.native, self.stream, self.options = native, stream, options
        self.given, self.V, self.W, self.H = V, V.data, W.data, H.data
        self.batch = V.shape[:-2]
        self.count, (m, n), rank = V.planes, V.shape[-2:], W.shape[-1]
        self.flops = 4.0 * self.count * m * n * rank
        needed = native.nmf_workspace(W.dtype, self.count, m, n, rank, options)
        self.workspace = V.empty((needed,), "uint8").data

    def update(self, active: Array, iterations: int, inner_iter: int) -> None:
        at_once = iterations
        if self.stream is None:
            at_once = max(1, int(_UNINTERRUPTED_FLOPS / (self.flops * inner_iter)))
        for done in range(0, iterations, at_once):
            count = min(at_once, iterations - done)
            self.native.nmf_update(self.V, self.W, self.H, active, self.options, count, self.workspace, self.stream)

    def run(self, max_iter: int, tol: float, check_every: int, inner_iter: int) -> NmfInfo:
        """Iterate; on a device nothing waits: flags of problems that still fall come back while work goes on."""
        checked_at = checks_of(max_iter, check_every)
        history = self.given.empty((len(checked_at), self.count), "float64").data
        active = self.given.empty((len(checked_at), self.count), "uint8").data
        active[...] = 1
        readback = self.native.FlagReadback()
        self.objective(history[0])
        done = 0
        for done in range(1, len(checked_at)):
            self.update(active[done - 1], checked_at[done] - checked_at[done - 1], inner_iter)
            self.objective(history[done])
            if tol > 0:
                self.native.nmf_settle(
                    history[0], history[done - 1], history[done], tol, active[done - 1], active[done], self.stream
                )
                if readback.idle() and readback.any():
                    readback.start(active[done], self.stream)
                if readback.idle() and not readback.any():
                    break
        return NmfInfo(history, active, checked_at[: done + 1], self.batch)

    def objective(self, values: Array) -> None:
        self.native.nmf_objective(self.V, self.W, self.H, self.options, values, self.workspace, self.stream)


def checks_of(max_iter: int, check_every: int) -> list[int]:
    """Return after how many iterations the objective is looked at."""
    return [0, *range(check_every, max_iter, check_every)] + ([max_iter] if max_iter > 0 else [])


def check_rank(rank: int | None, m: int, n: int, *, fixed: bool = False) -> int:
    """Return the rank; refuse one that is no whole number of at least 1, or (if W is not given) above min(m, n)."""
    check_count("rank", rank, 1)
    assert rank is not None
    if not fixed and rank > min(m, n):
        raise ValueError(f"rank: got {rank} for V of {m} x {n}; expected at most min(m, n) = {min(m, n)}")
    return int(rank)


def check_numbers(beta: float, seed: int, max_iter: int, tol: float, check_every: int, inner_iter: int) -> None:
    """Refuse numbers out of range."""
    if not math.isfinite(beta):
        raise ValueError(f"beta: got {beta!r}; expected a finite number, such as 2 or 1")
    if not (math.isfinite(tol) and tol >= 0):
        raise ValueError(f"tol: got {tol!r}; expected a non-negative number")
    check_count("seed", seed, 0)
    check_count("max_iter", max_iter, 0)
    check_count("check_every", check_every, 1)
    check_count("inner_iter", inner_iter, 1)
    if inner_iter > 1 and beta != 2:
        raise ValueError(f"inner_iter: got {inner_iter} with beta={beta}; accelerated updates need beta=2")


def _far_exponent(largest: float) -> int:
    """Return the power of two of the largest entry, where it is so far from 1 that 32-bit sums would fail; else 0."""
    exponent = math.frexp(largest)[1]
    return 0 if largest == 0 or -14 < exponent < 40 else max(exponent, -120)


def _dtype_of_factors(V: AnyArray) -> str:
    return V.dtype if V.dtype.startswith("float") else "float32"


def _check_values(x: AnyArray, name: str, *, positive: bool = False) -> float:
    """Refuse what no divergence can factorize."""
    low, high = x.range()
    if not (math.isfinite(low) and math.isfinite(high)):
        raise ValueError(f"{name}: contains NaN or inf; expected finite entries, replace them first")
    if low < 0:
        raise ValueError(f"{name}: contains negative entries (least {low:g}); shift or clip it first")
    if positive and low == 0:
        raise ValueError(f"{name}: contains zeros, where beta <= 0 is infinite; pass numpy.maximum({name}, small)")
    return high


def _factor(x: Array, name: str, V: AnyArray, shape: tuple[int | None, ...]) -> AnyArray:
    """Check the kind and shape of a factor that the caller gave against V."""
    factor = take(x, name)
    factor.require(name, (_dtype_of_factors(V),))
    factor.require_place(name, V)
    fits = len(factor.shape) == len(shape) and all(
        want is None or size == want for size, want in zip(factor.shape, shape, strict=True)
    )
    if not fits:
        wanted = ", ".join("r" if size is None else str(size) for size in shape)
        raise ValueError(f"{name}: shape {factor.shape}; expected ({wanted})")
    return factor


def _start(
    V: AnyArray,
    rank: int,
    init: str | tuple[Array, Array],
    seed: int,
    fixed_W: AnyArray | None,
    *,
    look: bool,
) -> tuple[AnyArray, AnyArray]:
    """Return the factors to start from, of V's library; check the values of those that are given if `look`."""
    batch, (m, n) = V.shape[:-2], V.shape[-2:]
    if look and fixed_W is not None:
        _check_values(fixed_W, "fixed_W")
    if isinstance(init, tuple):
        if len(init) != 2:
            raise ValueError(f"init: a tuple of {len(init)}; expected (W, H)")
        W, H = (
            _factor(init[0], "init[0]", V, (*batch, m, rank)),
            _factor(init[1], "init[1]", V, (*batch, rank, n)),
        )
        if look:
            _check_values(W, "init[0]")
            _check_values(H, "init[1]")
    elif init == "random":
        rng = np.random.default_rng(seed)
        scale = np.sqrt(V.means() / rank)[..., None, None]
        W, H = (
            V.from_numpy((np.abs(rng.standard_normal((*batch, *shape))) * scale).astype(_dtype_of_factors(V)))
            for shape in ((m, rank), (rank, n))
        )
    elif init == "nndsvda":
        if V.device[0] != CPU:
            raise ValueError("init: 'nndsvda' runs on the CPU only; pass init=(W, H) made there, or 'random'")
        W, H = (
            V.from_numpy(factor.astype(_dtype_of_factors(V)))
            for factor in _nndsvd(V.to_host().astype(_dtype_of_factors(V), copy=False), rank, V.means())
        )
    else:
        raise ValueError(f"init: got {init!r}; expected 'random', 'nndsvda' or (W, H)")
    return (W if fixed_W is None else fixed_W), H


def _nndsvd(V: np.ndarray, rank: int, mean: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Non-negative double SVD, zeros filled by the mean of V ("nndsvda")."""
    problems = V.reshape((-1, *V.shape[-2:]))
    factors = [_nndsvd_one(problem, rank, float(fill)) for problem, fill in zip(problems, mean.ravel(), strict=True)]
    batch = V.shape[:-2]
    W = np.stack([W for W, _ in factors]).reshape((*batch, -1, rank))
    H = np.stack([H for _, H in factors]).reshape((*batch, rank, -1))
    return W, H


def _nndsvd_one(V: np.ndarray, rank: int, fill: float) -> tuple[np.ndarray, np.ndarray]:
    from scipy.linalg import eigh

    # Singular vectors from the Gram matrix of the shorter side: V itself is only multiplied, never decomposed.
    if V.shape[0] > V.shape[1]:
        H, W = _nndsvd_one(V.T, rank, fill)
        return W.T, H.T
    m = V.shape[0]
    squares, U = eigh((V @ V.T).astype(np.float64), subset_by_index=(m - rank, m - 1))
    U, sigma = U[:, ::-1], np.sqrt(np.maximum(squares[::-1], 0.0))
    Vh = (U.T.astype(V.dtype) @ V).astype(np.float64)  # rows sigma_k v_k'
    W, H = np.empty((m, rank)), np.empty((rank, V.shape[1]))
    for k in range(rank):
        u, v = U[:, k], Vh[k] / max(sigma[k], np.finfo(np.float64).tiny)
        best = max(((np.maximum(s * u, 0), np.maximum(s * v, 0)) for s in (1, -1)), key=_product_of_norms)
        norms = np.linalg.norm(best[0]), np.linalg.norm(best[1])
        weight = math.sqrt(sigma[k] * norms[0] * norms[1])
        W[:, k] = weight * best[0] / max(norms[0], FLOOR)
        H[k] = weight * best[1] / max(norms[1], FLOOR)
    W[W < FLOOR], H[H < FLOOR] = fill, fill
    return W, H


def _product_of_norms(pair: tuple[np.ndarray, np.ndarray]) -> float:
    return float(np.linalg.norm(pair[0]) * np.linalg.norm(pair[1]))
