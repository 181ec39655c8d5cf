"""Sparse matrices of SciPy and torch as the kernels read them, and their factorization in flight."""

from __future__ import annotations

import math
import sys
from typing import TYPE_CHECKING, Any

import numpy as np

from nmfuse.kernels._array import Array, take
from nmfuse.kernels._native import native_for
from nmfuse.kernels.problem import Problem

if TYPE_CHECKING:
    from nmfuse.kernels._operations import CpuOperations

_RANK_BLOCK = 8  # as kSparseRankBlock in csrc/nmfuse/sparse_nmf.h
_SWAPPED = {"l1_W": "l1_H", "l1_H": "l1_W", "l2_W": "l2_H", "l2_H": "l2_W"}


def as_sparse(V: Array) -> Any:
    """Return a SciPy CSR or CSC matrix that shares the memory of V, or None where V is not sparse."""
    scipy_sparse, torch = sys.modules.get("scipy.sparse"), sys.modules.get("torch")
    if torch is not None and isinstance(V, torch.Tensor) and V.layout in (torch.sparse_csr, torch.sparse_csc):
        from scipy import sparse

        if V.is_cuda or V.ndim != 2:
            raise ValueError("V: a sparse tensor must be on the CPU and have two axes; pass V.to_dense() or V.cpu()")
        rows = V.layout == torch.sparse_csr
        starts, positions = (V.crow_indices(), V.col_indices()) if rows else (V.ccol_indices(), V.row_indices())
        kind = sparse.csr_array if rows else sparse.csc_array
        return kind((V.values().numpy(), positions.numpy(), starts.numpy()), shape=tuple(V.shape))
    if scipy_sparse is None or not scipy_sparse.issparse(V):
        return None
    if V.format not in ("csr", "csc"):
        raise TypeError(f"V: a sparse matrix in {V.format} format; expected CSR or CSC, pass V.tocsr()")
    return V


def _aligned(shape: tuple[int, ...], dtype: Any) -> np.ndarray:
    """Return an uninitialised array that begins with a cache line, so that no vector of a row lies across two."""
    size = math.prod(shape) * np.dtype(dtype).itemsize
    memory = np.empty(size + 64, np.uint8)
    start = -memory.ctypes.data % 64
    aligned: np.ndarray = memory[start : start + size].view(dtype).reshape(shape)
    return aligned


class SparseProblem(Problem):
    """A factorization of a sparse matrix in flight; the factor of its compressed axis comes first in an iteration.

    Parameters
    ----------
    V : SciPy CSR or CSC matrix, shape (m, n)
    W, H : arrays, shapes (m, r) and (r, n)
        Where to start from; they are copied.
    **settings
        Those of the kernels' `NmfOptions`.
    """

    def __init__(self, V: Any, W: np.ndarray, H: np.ndarray, **settings: Any) -> None:
        if not V.has_canonical_format:  # an entry that is stored twice counts once
            V = V.copy()
            V.sum_duplicates()
        self.by_columns = V.format == "csc"
        self.settings = settings if self.by_columns else {_SWAPPED.get(k, k): v for k, v in settings.items()}
        native, self.stream = native_for(V.data)
        self.native: CpuOperations = native  # type: ignore[assignment]
        self.options = self.native.NmfOptions(**self.settings)
        self.entries = V.indptr.astype(np.int64), V.indices.astype(np.int32, copy=False), V.data
        self.rank, self.batch, self.count = W.shape[1], (), 1
        first, second = (H.T, W) if self.by_columns else (W, H.T)
        self.A, self.B = self._padded(first), self._padded(second)
        self.given = take(V.data, "V")
        self.flops = 4.0 * len(V.data) * self.rank
        needed = self.native.sparse_nmf_workspace(*self.entries, len(self.B), self.rank)
        self.workspace = _aligned((max(needed, 64 * self.rank),), np.uint8)

    def _padded(self, factor: np.ndarray) -> np.ndarray:
        width = -(-factor.shape[1] // _RANK_BLOCK) * _RANK_BLOCK
        padded = _aligned((len(factor), width), self.entries[2].dtype)
        padded[:, : factor.shape[1]], padded[:, factor.shape[1] :] = factor, 0
        return padded

    @property
    def W(self) -> np.ndarray:
        """A view, shape (m, r)."""
        return (self.B if self.by_columns else self.A)[:, : self.rank]

    @property
    def H(self) -> np.ndarray:
        """A view, shape (r, n)."""
        return (self.A if self.by_columns else self.B)[:, : self.rank].T

    def iterate(self, active: Array | None, iterations: int) -> None:  # noqa: ARG002
        """Iterate in one native call; there is one problem, which is active."""
        self.native.sparse_nmf_update(
            *self.entries, self.A, self.B, self.rank, self.options, iterations, self.workspace
        )

    def objective(self, values: Array, options: Any = None) -> None:
        """Write the objective into `values`, or that of other options."""
        values[0] = self.native.sparse_nmf_objective(
            *self.entries, self.A, self.B, self.rank, options or self.options, self.workspace
        )
