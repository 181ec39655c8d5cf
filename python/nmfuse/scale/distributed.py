"""Non-negative matrix factorization by the processes of torch.distributed, each of which holds some columns."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from nmfuse.kernels import chunk
from nmfuse.kernels._array import Array, take
from nmfuse.kernels._native import native_for
from nmfuse.kernels.nmf import FLOOR, check_numbers, check_rank, far_exponent
from nmfuse.kernels.problem import NmfInfo, Problem

if TYPE_CHECKING:
    from torch import Tensor
    from torch.distributed import ProcessGroup

_DTYPES = ("float32", "float64", "uint8", "uint16")
_ENTRIES = 2**20  # of V that are worked on at once: they and their W @ H stay in the cache
_ENTRIES_ON_DEVICE = 2**24  # enough to keep one busy
_DRAWN = 1024  # columns of H that are drawn by one generator, whatever process holds them


def nmf_distributed(
    V: Tensor,
    rank: int,
    *,
    beta: float = 2,
    init: str | tuple[Tensor, Tensor] = "random",
    seed: int = 0,
    max_iter: int = 200,
    tol: float = 1e-4,
    check_every: int = 10,
    group: ProcessGroup | None = None,
) -> tuple[Tensor, Tensor, NmfInfo]:
    """Factorize ``V ~ W @ H`` with the processes of `torch.distributed`, each of which holds some columns of V and H.

    Every process of the group calls this function with the same options. It uses the multiplicative updates of
    `nmfuse.nmf`, H first and then W in each iteration, and gives the same factors from the same start, up to rounding,
    however the columns are distributed. W is the same in all processes. Each iteration adds one sum of shape (m, r) and
    one of shape (r, r), or (r,) for ``beta=1``, over all processes (one all-reduce). V and H stay where they are.

    Parameters
    ----------
    V : tensor, shape (m, n)
        The columns of this process, in float32, float64, uint8 or uint16, finite and non-negative, on the CPU (gloo) or
        on a CUDA device (NCCL). All processes have the same m and dtype, but n may differ. The columns are in the order
        of the processes.
    rank : int
        The number r of components, from 1 to the smaller of m and the number of all columns together.
    beta : {2, 1}
        The divergence: 2 for half the squared error (Frobenius), 1 for Kullback-Leibler.
    init : "random" or (W, H)
        "random" draws ``|N(0, 1)| * sqrt(mean(V) / r)``, the same for any number of processes. (W, H) are the factors
        to start from, of shapes (m, r) and (r, n), on the device of V and in the dtype of the results: W the same in
        all processes, H for the columns of this process.
    seed : int
        The seed of the random draw.
    max_iter : int
        The greatest number of iterations.
    tol : float
        The iterations stop if the objective has fallen by less than `tol` times its starting value since the last
        check; with 0 they never stop early.
    check_every : int
        The number of iterations between two checks of the objective, each of which reads V once more.
    group : ProcessGroup, optional
        The processes that take part; by default all of them.

    Returns
    -------
    W : tensor, shape (m, r)
        Unit columns, ``||w_k||_2 = 1``, in float64 if V is, otherwise in float32.
    H : tensor, shape (r, n)
        The columns of this process, with rows sorted by falling ``||h_k||_2`` over all columns.
    info : NmfInfo
        The history of the objective of the whole V, the iterations, and whether they converged.

    Raises
    ------
    RuntimeError
        If there is no process group.
    TypeError
        If V is not a tensor of a supported dtype.
    ValueError
        If V has negative, NaN or infinite entries, or another m or dtype than in other processes (all processes raise
        this alike), or if factors or numbers do not fit.

    References
    ----------
    Lee & Seung, NIPS 13 (2001); Kannan, Ballard & Park, "MPI-FAUN: an MPI-based framework for alternating-updating
    nonnegative matrix factorization", IEEE TKDE 30 (2018) (what is summed where).

    Examples
    --------
    One process, which is a group too; `torchrun` starts several that run the same lines:

    >>> import tempfile, torch, nmfuse
    >>> here = f"file://{tempfile.mkdtemp()}/meet"
    >>> torch.distributed.init_process_group("gloo", init_method=here, rank=0, world_size=1)
    >>> generator = torch.Generator().manual_seed(0)
    >>> V = torch.rand(30, 3, generator=generator) @ torch.rand(3, 400, generator=generator)
    >>> W, H, info = nmfuse.scale.nmf_distributed(V, rank=3)
    >>> W.shape, H.shape, bool((V - W @ H).norm() < 0.05 * V.norm())
    (torch.Size([30, 3]), torch.Size([3, 400]), True)
    >>> torch.distributed.destroy_process_group()
    """
    from torch import distributed

    if not (distributed.is_available() and distributed.is_initialized()):
        raise RuntimeError(
            "torch.distributed: no process group; start the script with torchrun, and call "
            "torch.distributed.init_process_group('gloo') first ('nccl' for CUDA devices)"
        )
    check_numbers(beta, seed, max_iter, tol, check_every, 1)
    if beta not in (1, 2):
        raise ValueError(f"beta: got {beta!r}; expected 2 or 1")
    _require(V)
    shares: list[_Share] = [None] * distributed.get_world_size(group)  # type: ignore[list-item]
    distributed.all_gather_object(shares, _look(V), group)
    mean, high = _check(shares)
    columns = [share.columns for share in shares]
    check_rank(rank, V.shape[0], sum(columns))
    exponent = far_exponent(high)
    before = sum(columns[: distributed.get_rank(group)])
    W, H = _start(V, before, rank, init, seed, math.sqrt(mean / rank))
    if exponent:  # exact; V and H times it are of order 1, as in nmfuse.nmf
        V, H = V.to(W.dtype) * 2.0**-exponent, H * 2.0**-exponent
    problem = _SharedProblem(V, W.clamp_min(FLOOR), H.clamp_min(FLOOR), int(beta), sum(columns), group)
    info = problem.run(max_iter, float(tol), check_every, 1)
    info.multiply(2.0 ** (exponent * beta))
    return *problem.normalized(2.0**exponent), info


class _Share(NamedTuple):
    """What all processes need to know of the columns of one."""

    rows: int
    columns: int
    dtype: str
    total: float
    low: float
    high: float


class _SharedProblem(Problem):
    """A factorization in flight, of which this process has some columns. What is told of it is kept on the CPU."""

    def __init__(self, V: Tensor, W: Tensor, H: Tensor, beta: int, columns: int, group: ProcessGroup | None) -> None:
        self.given, self.batch, self.count = take(np.empty(0), "V"), (), 1
        self.native, self.stream = native_for(self.given)
        self.flops = 4.0 * V.shape[0] * columns * W.shape[1]  # alike in all processes, which must stop alike
        self.V, self.W, self.H, self.beta, self.group = V, W, H, beta, group

    def iterate(self, active: Array | None, iterations: int) -> None:  # noqa: ARG002
        """Iterate; there is one problem, which is active."""
        for _ in range(iterations):
            W, (m, r) = self.W, self.W.shape
            sums = W.new_zeros(m * r + r**self.beta)
            minus, plus = sums[: m * r].view(m, r), sums[m * r :].view((r,) * self.beta)
            self._update_H(minus, plus)
            self._add_up(sums)
            self.W = _updated(W, minus, W @ plus if self.beta == 2 else plus)

    def _update_H(self, minus: Tensor, plus: Tensor) -> None:
        """Update H, and add up what the update of W needs of it, as `nmfuse.kernels.chunk.Sums` describes."""
        W = self.W
        of_W = W.T @ W if self.beta == 2 else W.sum(0)[:, None]
        for v, h in self._panels():
            if self.beta == 2:
                h.copy_(_updated(h, W.T @ v, of_W @ h))
                minus += v @ h.T
                plus += h @ h.T
            else:
                h.copy_(_updated(h, W.T @ (v / _product(W, h)), of_W))
                minus += (v / _product(W, h)) @ h.T
                plus += h.sum(1)

    def objective(self, values: Array, options: Any = None) -> None:  # noqa: ARG002
        """Write the objective into `values`, the same number in all processes."""
        import torch

        objective = self.W.new_zeros((), dtype=torch.float64)
        for v, h in self._panels():
            if self.beta == 2:
                each = (v - self.W @ h).square_().div_(2)
            else:
                wh = _product(self.W, h)
                each = torch.special.xlogy(v, v / wh) - v + wh
            objective += each.sum(dtype=torch.float64)
        self._add_up(objective)
        values[0] = float(objective)

    def normalized(self, unit: float) -> tuple[Tensor, Tensor]:
        """Return the factors as `nmfuse.nmf` gives them, H times `unit`."""
        lengths = self.W.double().norm(dim=0)  # not zero: no entry is
        squares = self.H.double().square().sum(1)
        self._add_up(squares)
        order = (lengths * squares.sqrt()).argsort(descending=True, stable=True)
        W = (self.W / lengths)[:, order].to(self.W.dtype).clamp_min(FLOOR)
        H = (self.H * lengths[:, None])[order].to(self.W.dtype).clamp_min(FLOOR) * unit
        return W, H

    def _add_up(self, sums: Tensor) -> None:
        """Add up over all processes, in place."""
        from torch import distributed

        distributed.all_reduce(sums, group=self.group)

    def _panels(self) -> Iterator[tuple[Tensor, Tensor]]:
        entries = _ENTRIES if self.V.device.type == "cpu" else _ENTRIES_ON_DEVICE
        width = max(1, entries // self.V.shape[0])
        for first in range(0, self.V.shape[1], width):
            span = slice(first, first + width)
            yield self.V[:, span].to(self.W.dtype), self.H[:, span]


def _updated(factor: Tensor, numerator: Tensor, denominator: Tensor) -> Tensor:
    tiny = float(np.finfo(str(factor.dtype).removeprefix("torch.")).tiny)
    return (factor * numerator / denominator.clamp_min(tiny)).clamp_min_(FLOOR)


def _product(W: Tensor, H: Tensor) -> Tensor:
    return (W @ H).clamp_min_(chunk.PRODUCT_FLOOR)


def _require(V: Tensor) -> None:
    import torch

    if not isinstance(V, torch.Tensor):
        raise TypeError(f"V: got {type(V).__name__}; expected a tensor, such as torch.from_numpy(V)")
    values = take(V, "V")
    values.require("V", _DTYPES)
    if V.ndim != 2 or not V.numel():
        raise ValueError(f"V: shape {tuple(V.shape)}; expected (m, n), at least one column for each process")


def _look(V: Tensor) -> _Share:
    """Return what the other processes need to know; NaN or inf shows in the least or the largest value."""
    import torch

    floating = V if V.is_floating_point() else V.to(torch.float32)
    low, high = floating.aminmax()
    total = float(floating.sum(dtype=torch.float64))
    return _Share(V.shape[0], V.shape[1], take(V, "V").dtype, total, float(low), float(high))


def _check(shares: list[_Share]) -> tuple[float, float]:
    """Return mean and greatest value over all processes; refuse, in all of them, what cannot be factorized."""
    first = shares[0]
    for number, share in enumerate(shares):
        if (share.rows, share.dtype) != (first.rows, first.dtype):
            raise ValueError(
                f"V: {share.rows} rows of {share.dtype} in process {number}, but {first.rows} of {first.dtype} in "
                "process 0; expected all alike"
            )
        if not (math.isfinite(share.low) and math.isfinite(share.high)):
            raise ValueError(f"V: contains NaN or inf in process {number}; expected finite entries, replace them first")
        if share.low < 0:
            raise ValueError(
                f"V: contains negative entries (least {share.low:g}) in process {number}; shift or clip it first"
            )
    columns = sum(share.columns for share in shares)
    return math.fsum(share.total for share in shares) / (first.rows * columns), max(share.high for share in shares)


def _start(
    V: Tensor, before: int, rank: int, init: str | tuple[Tensor, Tensor], seed: int, scale: float
) -> tuple[Tensor, Tensor]:
    """Return the factors to start from: of columns that others stand `before`."""
    import torch

    m, n = V.shape
    dtype = V.dtype if V.is_floating_point() else torch.float32
    if isinstance(init, str):
        if init != "random":
            raise ValueError(f"init: got {init!r}; expected 'random' or (W, H)")
        name = str(dtype).removeprefix("torch.")
        W = np.abs(np.random.default_rng(seed).standard_normal((m, rank))) * scale
        first, last = before // _DRAWN, (before + n - 1) // _DRAWN
        drawn = [chunk.start_chunk(rank, _DRAWN, name, (seed, k), scale) for k in range(first, last + 1)]
        H = np.concatenate(drawn, axis=1)[:, before - first * _DRAWN :][:, :n]
        return torch.from_numpy(W).to(V.device, dtype), torch.from_numpy(H.copy()).to(V.device)
    if len(init) != 2:
        raise ValueError(f"init: a tuple of {len(init)}; expected (W, H)")
    for name, factor, shape in zip(("W", "H"), init, ((m, rank), (rank, n)), strict=True):
        if tuple(factor.shape) != shape or factor.dtype != dtype or factor.device != V.device:
            raise ValueError(
                f"init: {name} of shape {tuple(factor.shape)}, {factor.dtype}, on {factor.device}; expected {shape}, "
                f"{dtype}, on {V.device}"
            )
        if not bool((factor.isfinite() & (factor >= 0)).all()):
            raise ValueError(
                f"init: {name} contains NaN, inf or negative entries; expected factors that are finite and not negative"
            )
    return init
