"""A factorization in flight, and what is told of it."""

from __future__ import annotations

import math
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from nmfuse.kernels._array import AnyArray, Array, take

if TYPE_CHECKING:
    from nmfuse.kernels._operations import NmfOptionsLike, Operations

_UNINTERRUPTED_FLOPS = 5e9  # at most this much work in one native call, so that Ctrl-C is heard within a second


class NmfInfo:
    """The course of a factorization; on a CUDA device its values are read when they are first asked for.

    Attributes
    ----------
    objective : float64 array, shape (checks, ...)
        The objective at the start and at every check; the last row is that of the returned factors.
    iterations : int array, shape (checks,)
        The number of iterations after which each check was made.
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


def checks_of(max_iter: int, check_every: int) -> list[int]:
    """Return after how many iterations the objective is looked at."""
    return [0, *range(check_every, max_iter, check_every)] + ([max_iter] if max_iter > 0 else [])


class Problem:
    """One factorization in flight: the factors, which change in place, the native module, and its scratch memory."""

    def __init__(
        self,
        native: Operations,
        stream: int | None,
        V: AnyArray,
        W: AnyArray,
        H: AnyArray,
        options: NmfOptionsLike,
        weights: AnyArray | None = None,
    ) -> None:
        self.native, self.stream, self.options = native, stream, options
        self.weights = None if weights is None else weights.data
        self.given, self.V, self.W, self.H = V, V.data, W.data, H.data
        self.batch = V.shape[:-2]
        self.count, (m, n), rank = V.planes, V.shape[-2:], W.shape[-1]
        self.flops = 4.0 * self.count * m * n * rank
        needed = native.nmf_workspace(W.dtype, self.count, m, n, rank, options)
        self.workspace = V.empty((needed,), "uint8").data

    def update(self, active: Array | None, iterations: int, inner_iter: int = 1) -> None:
        """Iterate on the problems that are active; None are all."""
        at_once = iterations
        if self.stream is None:
            at_once = max(1, int(_UNINTERRUPTED_FLOPS / (self.flops * inner_iter)))
        for done in range(0, iterations, at_once):
            count = min(at_once, iterations - done)
            self.iterate(active, count)

    def iterate(self, active: Array | None, iterations: int) -> None:
        """Iterate in one native call."""
        self.native.nmf_update(
            self.V, self.W, self.H, active, self.options, iterations, self.workspace, self.weights, self.stream
        )

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

    def objective(self, values: Array, options: NmfOptionsLike | None = None) -> None:
        """Write the objective of each problem into `values`, or that of other options."""
        self.native.nmf_objective(
            self.V, self.W, self.H, options or self.options, values, self.workspace, self.weights, self.stream
        )
