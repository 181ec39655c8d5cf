"""What an iteration of NMF costs, beside loops on the libraries' matrix products; and many small problems at once."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch

import cases
import measure
import nmfuse
from nmfuse.kernels import _array
from nmfuse.kernels._native import native_for

ITERATIONS = 10
EPSILON = 1e-12


def problem(batch: tuple[int, ...], m: int, n: int, rank: int, device: str) -> tuple[torch.Tensor, ...]:
    torch.manual_seed(0)
    return tuple(torch.rand(*batch, *shape, device=device) for shape in ((m, n), (m, rank), (rank, n)))


def ours(
    V: torch.Tensor, W: torch.Tensor, H: torch.Tensor, iterations: int = ITERATIONS, **options: float
) -> Callable[[], object]:
    """Some iterations by the kernel alone, as `nmfuse.nmf` calls it between two checks."""
    native, stream = native_for(V)
    count = V.shape[:-2].numel() if V.ndim > 2 else 1
    settings = native.NmfOptions(**options)
    needed = native.nmf_workspace("float32", count, *V.shape[-2:], W.shape[-1], settings)
    workspace = _array.take(V, "V").empty((needed,), "uint8").data
    W, H = W.clone(), H.clone()
    return lambda: native.nmf_update(V, W, H, None, settings, iterations, workspace, stream)


def frobenius_loop(V: torch.Tensor, W: torch.Tensor, H: torch.Tensor) -> Callable[[], object]:
    W, H = W.clone(), H.clone()

    def call() -> None:
        for _ in range(ITERATIONS):
            H.mul_((W.mT @ V).div_(((W.mT @ W) @ H).clamp_min_(EPSILON)))
            W.mul_((V @ H.mT).div_((W @ (H @ H.mT)).clamp_min_(EPSILON)))

    return call


def kullback_leibler_loop(V: torch.Tensor, W: torch.Tensor, H: torch.Tensor) -> Callable[[], object]:
    W, H = W.clone(), H.clone()

    def call() -> None:
        for _ in range(ITERATIONS):
            H.mul_((W.mT @ (V / (W @ H).clamp_min_(EPSILON))).div_(W.sum(-2)[..., None]))
            W.mul_(((V / (W @ H).clamp_min_(EPSILON)) @ H.mT).div_(H.sum(-1)[..., None, :]))

    return call


def numpy_loop(V: torch.Tensor, W: torch.Tensor, H: torch.Tensor, beta: float) -> Callable[[], object]:
    v, w, h = V.numpy(), W.numpy().copy(), H.numpy().copy()

    def frobenius() -> None:
        for _ in range(ITERATIONS):
            np.multiply(h, (w.T @ v) / np.maximum((w.T @ w) @ h, EPSILON), out=h)
            np.multiply(w, (v @ h.T) / np.maximum(w @ (h @ h.T), EPSILON), out=w)

    def kullback_leibler() -> None:
        for _ in range(ITERATIONS):
            np.multiply(h, (w.T @ (v / np.maximum(w @ h, EPSILON))) / w.sum(0)[:, None], out=h)
            np.multiply(w, ((v / np.maximum(w @ h, EPSILON)) @ h.T) / h.sum(1), out=w)

    return frobenius if beta == 2 else kullback_leibler


def torchnmf(V: torch.Tensor, W: torch.Tensor, H: torch.Tensor, beta: float) -> measure.Calls:
    import warnings

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            from torchnmf.nmf import NMF
    except ImportError:
        return {}
    net = NMF(W=H.T.contiguous(), H=W.clone())
    return {"torchnmf": lambda: net.fit(V, beta=beta, tol=0, max_iter=ITERATIONS)}


def scikit_learn(
    V: torch.Tensor, W: torch.Tensor, H: torch.Tensor, beta: float, iterations: int = ITERATIONS
) -> measure.Calls:
    try:
        from sklearn.decomposition import non_negative_factorization
        from sklearn.exceptions import ConvergenceWarning
    except ImportError:
        return {}
    import warnings

    def call() -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            non_negative_factorization(
                V.numpy(), W.numpy().copy(), H.numpy().copy(), n_components=W.shape[-1], init="custom", solver="mu",
                beta_loss=beta, max_iter=iterations, tol=0,
            )  # fmt: skip

    return {"scikit-learn mu": call}


def floor(V: torch.Tensor, rank: int, device: str, products: int) -> float:
    """Seconds of ITERATIONS: the bytes of V once, or the multiply-adds at the speed of a large product, the longer."""
    copy = torch.empty_like(V)
    read = measure.interleave({measure.OURS: lambda: copy.copy_(V)}, device, rounds=3).median(measure.OURS) / 2
    multiply_adds = products * V.numel() * rank
    return ITERATIONS * max(read, measure.multiply_add_seconds(device, multiply_adds))


@pytest.mark.cases(cases.NMF)
def test_frobenius(case: tuple[int, int, int], device: str, compare: Callable[..., None]) -> None:
    m, n, rank = case
    V, W, H = problem((), m, n, rank, device)
    calls = {"nmfuse": ours(V, W, H), "torch loop": frobenius_loop(V, W, H)}
    if device == "cuda":
        calls["torch loop as a CUDA graph"] = measure.as_graph(frobenius_loop(V, W, H))
    else:
        calls |= {"NumPy loop": numpy_loop(V, W, H, 2)} | scikit_learn(V, W, H, 2) | torchnmf(V, W, H, 2)
    least = floor(V, rank, device, products=2)
    compare(f"nmf Frobenius ({m}, {n}, {rank}), an iteration", calls, floor=least, per=ITERATIONS)


@pytest.mark.cases(cases.NMF_KL)
def test_kullback_leibler(case: tuple[int, int, int], device: str, compare: Callable[..., None]) -> None:
    m, n, rank = case
    V, W, H = problem((), m, n, rank, device)
    calls = {"nmfuse": ours(V, W, H, beta=1.0), "torch loop": kullback_leibler_loop(V, W, H)}
    if device == "cuda":
        calls["torch loop as a CUDA graph"] = measure.as_graph(kullback_leibler_loop(V, W, H))
    else:
        calls |= {"NumPy loop": numpy_loop(V, W, H, 1)} | scikit_learn(V, W, H, 1) | torchnmf(V, W, H, 1)
    least = floor(V, rank, device, products=4)
    compare(f"nmf Kullback-Leibler ({m}, {n}, {rank}), an iteration", calls, floor=least, per=ITERATIONS)


@pytest.mark.cases(cases.NMF_INTEGERS)
@pytest.mark.parametrize("dtype", [torch.uint8, torch.uint16], ids=str)
def test_integers(case: tuple[int, int, int], dtype: torch.dtype, device: str, compare: Callable[..., None]) -> None:
    m, n, rank = case
    V, W, H = problem((), m, n, rank, device)
    V = torch.from_numpy(np.random.default_rng(0).integers(0, torch.iinfo(dtype).max, (m, n))).to(dtype)
    calls = {"nmfuse": ours(V, W, H), "nmfuse, V as float32": ours(V.float(), W, H)}
    compare(
        f"nmf Frobenius ({m}, {n}, {rank}), V {str(dtype).removeprefix('torch.')}, an iteration", calls, per=ITERATIONS
    )


@pytest.mark.cases(cases.NMF_BATCHED)
def test_batched(case: tuple[int, int, int, int], device: str, compare: Callable[..., None]) -> None:
    count, m, n, rank = case
    V, W, H = problem((count,), m, n, rank, device)
    calls = {"nmfuse": ours(V, W, H), "torch bmm loop": frobenius_loop(V, W, H)}
    if device == "cpu":
        one_by_one = [scikit_learn(V[b], W[b], H[b], 2).get("scikit-learn mu") for b in range(count)]
        if one_by_one[0] is not None:
            calls["scikit-learn mu, one by one"] = lambda: [call() for call in one_by_one if call is not None]
    compare(f"nmf Frobenius {count} x ({m}, {n}, {rank}), an iteration", calls, per=ITERATIONS)


def spectra(m: int, n: int, rank: int, device: str) -> torch.Tensor:
    """Mixtures of some bands, with noise: (m, n)."""
    rng = np.random.default_rng(0)
    bands = np.exp(-(((np.arange(m)[:, None] - m * rng.random(rank)) / (m * rng.uniform(0.02, 0.1, rank))) ** 2))
    noise = 0.01 * rng.random((m, n))
    return torch.from_numpy((bands @ rng.random((rank, n)) + noise).astype(np.float32)).to(device)


@pytest.mark.cases(cases.NMF_ACCELERATED)
def test_time_to_an_objective(case: tuple[int, int, int], device: str, compare: Callable[..., None]) -> None:
    """How long until the objective is where plain updates have it after 200 iterations."""
    m, n, rank = case
    V = spectra(m, n, rank, device)
    W, H = problem((), m, n, rank, device)[1:]

    def objectives(inner_iter: int) -> np.ndarray:
        return nmfuse.nmf(V, rank, init=(W, H), max_iter=200, tol=0, check_every=1, inner_iter=inner_iter)[2].objective

    reached = np.flatnonzero(objectives(5) <= objectives(1)[-1])
    assert reached.size, "accelerated updates fell behind plain ones"
    passes = int(reached[0])
    calls = {"nmfuse": ours(V, W, H, passes, inner_iter=5), "plain updates": ours(V, W, H, 200)}
    if device == "cpu":
        calls |= scikit_learn(V, W, H, 2, 200)
    compare(f"nmf ({m}, {n}, {rank}) to the objective after 200 iterations: {passes} with inner_iter=5", calls)


@pytest.mark.cases(cases.NMF_SOLVERS)
def test_solvers(case: tuple[int, int, int], device: str, compare: Callable[..., None]) -> None:
    """Whole calls, each until the objective is where plain multiplicative updates have it after 200 iterations."""
    m, n, rank = case
    V = spectra(m, n, rank, device).numpy()
    W, H = (x.numpy() for x in problem((), m, n, rank, device)[1:])
    target = nmfuse.nmf(V, rank, init=(W, H), max_iter=200, tol=0, check_every=200)[2].objective[-1]

    def by(**options: object) -> Callable[[], object]:
        reached = nmfuse.nmf(V, rank, init=(W, H), max_iter=200, tol=0, check_every=1, **options)[2].objective <= target
        count = int(np.argmax(reached)) or 200
        settings = {"init": (W, H), "max_iter": count, "tol": 0, "check_every": count, **options}
        return lambda: nmfuse.nmf(V, rank, **settings)

    def coordinate_descent(iterations: int) -> tuple[np.ndarray, np.ndarray]:
        from sklearn.decomposition import non_negative_factorization

        start = {"W": H.T.copy(), "H": W.T.copy(), "init": "custom", "n_components": rank}  # H first, as ours
        found = non_negative_factorization(V.T, **start, solver="cd", max_iter=iterations, tol=0)
        return found[1].T, found[0].T

    def error(factors: tuple[np.ndarray, np.ndarray]) -> float:
        return 0.5 * float(np.sum((V - factors[0] @ factors[1]).astype(np.float64) ** 2))

    count = next((k for k in range(2, 200, 2) if error(coordinate_descent(k)) <= target), 200)
    calls = {
        "nmfuse": by(solver="hals", inner_iter=3),
        "hals, one sweep": by(solver="hals"),
        "mu": by(),
        "mu, 5 updates": by(inner_iter=5),
        "scikit-learn cd": lambda: coordinate_descent(count),
    }
    compare(f"nmf ({m}, {n}, {rank}) to one objective, a call", calls)


@pytest.mark.cases(cases.NMF_SPARSE)
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_sparse(case: tuple[int, int, float, int, int], compare: Callable[..., None]) -> None:
    from scipy import sparse
    from sklearn import decomposition

    from nmfuse.sklearn import NMF

    m, n, density, rank, beta = case
    rng = np.random.default_rng(0)
    each = int(n * density)
    positions = np.sort(rng.integers(0, n, (m, each), dtype=np.int32), axis=1).ravel()
    values = rng.gamma(1, size=m * each).astype(np.float32)
    X = sparse.csr_array((values, positions, np.arange(0, m * each + 1, each, dtype=np.int32)), shape=(m, n))
    X.sum_duplicates()
    settings = {"init": "random", "random_state": 0, "tol": 0, "solver": "cd" if beta == 2 else "mu", "beta_loss": beta}
    settings["max_iter"] = count = 20 if beta == 2 else 5  # scikit-learn's updates by beta 1 take long
    calls = {
        "nmfuse": lambda: NMF(rank, **settings).fit(X),
        "scikit-learn": lambda: decomposition.NMF(rank, **settings).fit(X),
    }
    compare(f"NMF of sparse ({m}, {n}) at {density}, rank {rank}, beta {beta}, {count} iterations of fit", calls)


@pytest.mark.cases(cases.NMF_RUNS)
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_runs(case: tuple[int, int, int, int], compare: Callable[..., None]) -> None:
    from sklearn import decomposition

    m, n, rank, runs = case
    rng = np.random.default_rng(0)
    V = (rng.gamma(0.5, size=(m, rank)) @ rng.gamma(0.5, size=(rank, n)) + 0.5 * rng.random((m, n))).astype(np.float32)

    def theirs() -> None:
        for seed in range(runs):
            decomposition.NMF(rank, init="random", random_state=seed).fit(V)

    calls = {"nmfuse": lambda: nmfuse.nmf_runs(V, rank, seeds=range(runs)), "scikit-learn, one by one": theirs}
    compare(f"{runs} runs of nmf ({m}, {n}, {rank}) to the default tolerances", calls)
