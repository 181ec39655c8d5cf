"""Non-negative matrix factorization by multiplicative updates or HALS."""

from __future__ import annotations

import math
import sys
from typing import Any

import numpy as np

from nmfuse.kernels._array import CPU, AnyArray, Array, take
from nmfuse.kernels._native import native_for
from nmfuse.kernels._sparse import SparseProblem, as_sparse
from nmfuse.kernels._traced import operators
from nmfuse.kernels.checks import check_count
from nmfuse.kernels.problem import NmfInfo, Problem

_SOLVERS = ("mu", "hals")
FLOOR = 1e-12  # as kFactorFloor in csrc/nmfuse/nmf.h: a factor that reached zero could not leave it


def nmf(
    V: Array,
    rank: int | None = None,
    *,
    solver: str = "mu",
    beta: float = 2.0,
    weights: Array | None = None,
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
    """Factorize ``V ~ W @ H`` with all entries non-negative, H first and then W in each iteration.

    Minimises ``d_beta(V | W H) + l1_W sum(W) + l2_W/2 sum(W^2) + l1_H sum(H) + l2_H/2 sum(H^2)``, where `weights`, if
    given, multiply each entry of the divergence. With ``beta=2`` (half the squared error) and without weights, V is
    read from memory once an iteration. The result is the same to the last bit for any number of threads.

    On a CUDA device everything is queued on the caller's stream. The values of V are checked once, before the first
    iteration, which waits for the stream; with ``tol=0`` nothing else waits until `info` is read. While a CUDA graph is
    recorded, values are not checked; pass ``init=(W, H)`` and ``tol=0``, and read `info` after a replay. A V with few
    columns is slow on CUDA, since the work is divided by columns; pass its transpose instead.

    Parameters
    ----------
    V : array, shape (..., m, n)
        The matrix, in float32 or float64, finite and non-negative (positive for ``beta <= 0``), as a NumPy, torch or
        CuPy array. Leading axes are independent problems. On the CPU it may also be uint8 or uint16, which are read
        without conversion: the factors are float32, and the same as those of V converted to float32. On the CPU it may
        also be a sparse matrix (SciPy CSR or CSC, torch sparse_csr or sparse_csc), for ``beta`` 2 or 1: only its stored
        entries are read, and for CSR each iteration updates W first. Dense floats whose largest value is below 2^-14 or
        above 2^40 are scaled by a power of two internally.
    rank : int
        The number r of components, from 1 to min(m, n). It may be omitted if `fixed_W` is given.
    solver : {"mu", "hals"}
        "mu" for multiplicative updates, which work for every divergence; "hals" for hierarchical alternating least
        squares (coordinate descent, component by component), for ``beta=2``, which needs fewer iterations.
    beta : float
        The divergence: 2 for Frobenius, 1 for Kullback-Leibler, 0 for Itakura-Saito, or any other number.
    weights : array, shape (..., m, n), optional
        How much each entry of V counts, in [0, 1], either bool (whether the entry is known) or in the floating dtype of
        V. Where it is 0, V may have any value, including NaN, as in ``weights=~numpy.isnan(V)``. Weights need
        ``solver="mu"`` and ``inner_iter=1``.
    init : {"random", "nndsvda"} or (W, H)
        The factors to start from, which are copied, or how to compute them. "random" draws ``|N(0, 1)| * sqrt(mean(V) /
        r)``, the same (up to rounding) for every library and device; "nndsvda" is the non-negative double SVD with
        zeros replaced by the mean, since an entry that is zero would stay zero.
    seed : int
        The seed of the random draw.
    max_iter : int
        The greatest number of iterations.
    tol : float
        The iterations stop if the objective has fallen by less than `tol` times its starting value since the last
        check; with 0 they never stop early.
    check_every : int
        The number of iterations between two checks of the objective.
    l1_W, l1_H, l2_W, l2_H : float
        The non-negative weights of the penalties.
    fixed_W : array, shape (..., m, r), optional
        A given W, which is held fixed; only H is computed.
    inner_iter : int
        The number of updates of each factor in each pass over V (accelerated updates). Two to ten are worthwhile. More
        than 1 needs ``beta=2`` and no weights.
    out : (W, H), optional
        The arrays to write the factors into.

    Returns
    -------
    W : array, shape (..., m, r)
        The parts, with columns of unit length, ``||w_k||_2 = 1``; or `fixed_W` unchanged, if it is given.
    H : array, shape (..., r, n)
        The amounts, in the order of decreasing ``||h_k||_2``, or in the order of `fixed_W`, if it is given.
    info : NmfInfo
        The history of the objective, the number of iterations, and whether they converged.

    Raises
    ------
    TypeError
        For a dtype or kind of array that is not supported.
    ValueError
        For negative, NaN or infinite entries, a rank above min(m, n), shapes that do not match, or an option that a
        solver or a device does not support.

    References
    ----------
    Lee & Seung, NIPS 13 (2001); Fevotte & Idier, Neural Computation 23 (2011), Eqs. 4.1-4.3 (the exponent that keeps
    the objective falling); Cichocki & Phan, IEICE Trans. Fundamentals E92-A (2009) ("hals"); Gillis & Glineur, Neural
    Computation 24 (2012) (`inner_iter`); Boutsidis & Gallopoulos, Pattern Recognition 41 (2008) ("nndsvda"); Ho, PhD
    thesis, UC Louvain (2008) (`weights`).

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
            "init": init != "random", "solver": solver != "mu", "tol": tol != 0, "l1_W": l1_W, "l1_H": l1_H,
            "l2_W": l2_W, "l2_H": l2_H, "fixed_W": fixed_W is not None, "weights": weights is not None,
            "inner_iter": inner_iter != 1, "out": out is not None,
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
    lines = as_sparse(V)
    values = take(V if lines is None else lines.data, "V")
    native, stream = native_for(values)
    if lines is None:
        values.require("V", native.dtypes["nmf"])
    else:
        values.require("V", native.dtypes["sparse_nmf"], ndim=1)
    if solver not in _SOLVERS:
        raise ValueError(f"solver: got {solver!r}; expected one of {_SOLVERS}")
    shape = values.shape if lines is None else lines.shape
    if 0 in shape:
        raise ValueError(f"V: shape {tuple(shape)} is empty; expected at least one row and one column")
    batch, (m, n) = shape[:-2], shape[-2:]
    fixed = None
    if fixed_W is not None:
        fixed = _factor(fixed_W, "fixed_W", values, (*batch, m, None))
        rank = fixed.shape[-1] if rank is None else rank
        if rank != fixed.shape[-1]:
            raise ValueError(f"rank: got {rank}, but fixed_W has {fixed.shape[-1]} columns; leave rank out")
    rank = check_rank(rank, m, n, fixed=fixed_W is not None)
    check_numbers(beta, seed, max_iter, tol, check_every, inner_iter)
    if beta != 2 and solver == "hals":
        raise ValueError(f"solver: 'hals' with beta={beta}; it needs beta=2, for others pass solver='mu'")
    shares = None
    if weights is not None:
        if solver == "hals" or inner_iter > 1:
            raise ValueError(
                f"weights: got solver={solver!r} with inner_iter={inner_iter}, which cannot use weights; pass "
                "solver='mu' and inner_iter=1"
            )
        shares = _take_weights(weights, values)
    penalties = {"l1_W": l1_W, "l1_H": l1_H, "l2_W": l2_W, "l2_H": l2_H}
    for name, value in penalties.items():
        if not (math.isfinite(value) and value >= 0):
            raise ValueError(f"{name}: got {value!r}; expected a non-negative number")
    if lines is not None:
        settings = {"beta": float(beta), "hals": solver == "hals", "inner_iter": inner_iter, **penalties}
        if weights is not None or out is not None:
            raise ValueError("weights, out: not supported where V is sparse; leave them out or pass V.toarray()")
        return _factorize_sparse(V, lines, rank, init, seed, fixed, max_iter, float(tol), check_every, settings)
    values = values.plain()
    capturing = stream is not None and native.is_capturing(stream)
    if capturing and (tol > 0 or not isinstance(init, tuple)):
        raise ValueError("init, tol: a CUDA graph records work on data not known yet; pass init=(W, H) and tol=0")

    exponent = 0 if capturing else far_exponent(_check_values(values, "V", shares, positive=beta <= 0))
    given = _start(values, rank, init, seed, fixed, shares, look=not capturing)
    if exponent:
        scale = 2.0**-exponent  # exact; V and H times it are of order 1
        began = init if isinstance(init, str) else (given[0].data, given[1].data * scale)
        factor_W, factor_H, info = nmf(
            values.data * scale, rank, solver=solver, beta=beta, weights=weights, init=began, seed=seed,
            max_iter=max_iter, tol=tol, check_every=check_every, l1_W=l1_W * scale**beta, l2_W=l2_W * scale**beta,
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
        hals=solver == "hals",
        weighted=shares is not None,
        **{k: float(v) for k, v in penalties.items()},
    )
    problem = Problem(native, stream, values, W, H, options, shares)
    info = problem.run(max_iter, float(tol), check_every, inner_iter)
    if fixed is None:
        native.nmf_normalize(W.data, H.data, problem.workspace, stream)
    return values.given_back(W, into_W), values.given_back(H, into_H), info


def _factorize_sparse(
    V: Array,
    lines: Any,
    rank: int,
    init: str | tuple[Array, Array],
    seed: int,
    fixed_W: AnyArray | None,
    max_iter: int,
    tol: float,
    check_every: int,
    settings: dict[str, Any],
) -> tuple[Array, Array, NmfInfo]:
    (m, n), values = lines.shape, take(lines.data, "V")
    if settings["beta"] not in (1, 2):
        raise ValueError(f"beta: got {settings['beta']} for a sparse V; expected 2 or 1, or pass V.toarray()")
    if values.shape[0]:
        _check_values(values, "V")
    if isinstance(init, tuple):
        W, H = _given(init, values, (m, rank), (rank, n))
        start = W.to_host(), H.to_host()
    elif init == "random":
        mean = lines.data.sum(dtype=np.float64) / m / n
        start = _random((), m, n, rank, seed, np.sqrt(mean / rank), values.dtype)
    else:
        raise ValueError(f"init: got {init!r} for a sparse V; expected 'random' or (W, H)")
    if fixed_W is not None:
        start = fixed_W.to_host(), start[1]
    floor = 0.0 if settings["hals"] else FLOOR
    W_start = start[0] if fixed_W is not None else np.maximum(start[0], floor)
    by_columns = lines if fixed_W is None else lines.tocsc()  # where W comes second, and may stay as it is
    problem = SparseProblem(
        by_columns, W_start, np.maximum(start[1], floor), update_W=fixed_W is None, **settings
    )  # fmt: skip
    info = problem.run(max_iter, tol, check_every, settings["inner_iter"])
    factors = problem.W.copy(), problem.H.copy()
    if fixed_W is None:
        problem.native.nmf_normalize(*factors, problem.workspace, None)
    torch = sys.modules.get("torch")
    if torch is not None and isinstance(V, torch.Tensor):
        return torch.from_numpy(factors[0]), torch.from_numpy(factors[1]), info
    return *factors, info


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


def far_exponent(largest: float) -> int:
    """Return the power of two of the largest entry, where it is so far from 1 that 32-bit sums would fail; else 0."""
    exponent = math.frexp(largest)[1]
    return 0 if largest == 0 or -14 < exponent < 40 else max(exponent, -120)


def _dtype_of_factors(V: AnyArray) -> str:
    return V.dtype if V.dtype.startswith("float") else "float32"


def _take_weights(weights: Array, V: AnyArray) -> AnyArray:
    """Check weights against V; bool becomes what the kernels read, bytes of 0 and 1."""
    shares = take(weights, "weights")
    shares.require("weights", ("bool", _dtype_of_factors(V)))
    shares.require_place("weights", V)
    if shares.shape != V.shape:
        raise ValueError(f"weights: shape {shares.shape}; expected that of V, {V.shape}")
    if shares.dtype == "bool":
        return shares.plain().bytes()
    low, high = shares.range()
    if not (low >= 0 and high <= 1):
        raise ValueError(f"weights: from {low:g} to {high:g}; expected numbers in [0, 1]")
    return shares.plain()


def _check_values(x: AnyArray, name: str, weights: AnyArray | None = None, *, positive: bool = False) -> float:
    """Refuse what no divergence can factorize; entries of weight 0 are not looked at."""
    if weights is not None:
        x = take(_on_device_or_host(x).data[_on_device_or_host(weights).data > 0], name)
        if not x.shape[0]:
            raise ValueError("weights: all are 0; expected some entries that are known")
    low, high = x.range()
    if not (math.isfinite(low) and math.isfinite(high)):
        how = "expected finite entries, replace them first"
        if name == "V" and weights is None:
            how += " or pass weights=numpy.isfinite(V)"
        raise ValueError(f"{name}: contains NaN or inf; {how}")
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
    weights: AnyArray | None,
    *,
    look: bool,
) -> tuple[AnyArray, AnyArray]:
    """Return the factors to start from, of V's library; check the values of those that are given if `look`."""
    batch, (m, n) = V.shape[:-2], V.shape[-2:]
    if look and fixed_W is not None:
        _check_values(fixed_W, "fixed_W")
    if isinstance(init, tuple):
        W, H = _given(init, V, (*batch, m, rank), (*batch, rank, n), look=look)
    elif init == "random":
        scale = np.sqrt(_means(V, weights) / rank)[..., None, None]
        W, H = (V.from_numpy(x) for x in _random(batch, m, n, rank, seed, scale, _dtype_of_factors(V)))
    elif init == "nndsvda":
        if weights is not None:
            raise ValueError("init: 'nndsvda' needs every entry of V; with weights pass 'random' or (W, H)")
        if V.device[0] != CPU:
            raise ValueError("init: 'nndsvda' runs on the CPU only; pass init=(W, H) made there, or 'random'")
        W, H = (
            V.from_numpy(factor.astype(_dtype_of_factors(V)))
            for factor in _nndsvd(V.to_host().astype(_dtype_of_factors(V), copy=False), rank, V.means())
        )
    else:
        raise ValueError(f"init: got {init!r}; expected 'random', 'nndsvda' or (W, H)")
    return (W if fixed_W is None else fixed_W), H


def _given(
    init: tuple[Array, Array], V: AnyArray, of_W: tuple[int, ...], of_H: tuple[int, ...], *, look: bool = True
) -> tuple[AnyArray, AnyArray]:
    """Return the factors that the caller gave to start from, checked against V."""
    if len(init) != 2:
        raise ValueError(f"init: a tuple of {len(init)}; expected (W, H)")
    W, H = _factor(init[0], "init[0]", V, of_W), _factor(init[1], "init[1]", V, of_H)
    if look:
        _check_values(W, "init[0]")
        _check_values(H, "init[1]")
    return W, H


def _random(
    batch: tuple[int, ...], m: int, n: int, rank: int, seed: int, scale: Any, dtype: str
) -> tuple[np.ndarray, np.ndarray]:
    """Draw the factors to start from."""
    rng = np.random.default_rng(seed)
    W = (np.abs(rng.standard_normal((*batch, m, rank))) * scale).astype(dtype)
    return W, (np.abs(rng.standard_normal((*batch, rank, n))) * scale).astype(dtype)


def _means(V: AnyArray, weights: AnyArray | None) -> np.ndarray:
    """Return the mean of each problem, weighted."""
    if weights is None:
        return V.means()
    known, shares = _on_device_or_host(V).copy(), _on_device_or_host(weights)
    known.put(take(shares.at_most(0), "weights"), 0)
    means: np.ndarray = take(known.data * shares.data, "V").means() / np.maximum(shares.means(), sys.float_info.min)
    return means


def _on_device_or_host(x: AnyArray) -> AnyArray:
    """Return an array of a device as it is, and any other as NumPy's: torch has few functions of uint16."""
    return take(x.to_host(), "V") if x.device[0] == CPU else x


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
