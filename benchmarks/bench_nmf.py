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


@pytest.mark.cases(cases.NMF_ACCELERATED)
def test_time_to_an_objective(case: tuple[int, int, int], device: str, compare: Callable[..., None]) -> None:
    """How long until the objective is where plain updates have it after 200 iterations."""
    m, n, rank = case
    rng = np.random.default_rng(0)
    bands = np.exp(-(((np.arange(m)[:, None] - m * rng.random(rank)) / (m * rng.uniform(0.02, 0.1, rank))) ** 2))
    noise = 0.01 * rng.random((m, n))
    V = torch.from_numpy((bands @ rng.random((rank, n)) + noise).astype(np.float32)).to(device)
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
