"""What every native module has, as the type checker sees it: the table of csrc/python/bind_ops.h.

The modules' stubs (``nmfuse/_cpu.pyi`` and its siblings) name these operations; a test holds both against the modules.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

Array = Any


class Options(Protocol):
    """Options of a factorization, as a module holds them."""


class Readback(Protocol):
    """Flags of a device on their way to the host."""

    def start(self, flags: Array, stream: int | None = None) -> None: ...
    def idle(self) -> bool: ...
    def any(self) -> bool: ...


class Operations(Protocol):
    """A native module."""

    dtypes: dict[str, tuple[str, ...]]  # by operation
    max_hann_size: int

    def describe(self, x: Array, stream: int | None = None) -> dict[str, Any]: ...
    def is_capturing(self, stream: int | None) -> bool: ...

    def hannmean(
        self, x: Array, reliability: Array | None, size: int, depth: int, out: Array, stream: int | None = None
    ) -> None: ...
    def hannmean_adjoint_workspace(self, dtype: str, batch: int, rows: int, cols: int) -> int: ...
    def hannmean_adjoint(
        self,
        grad: Array,
        reliability: Array | None,
        size: int,
        depth: int,
        out: Array,
        workspace: Array,
        stream: int | None = None,
    ) -> None: ...
    def reject_outliers(
        self, x: Array, size: int, depth: int, k: float, reliability: Array, stream: int | None = None
    ) -> None: ...

    def aggregate_blocks_workspace(self, dtype: str, batch: int, hs: int, ws: int, ds: int, depth: int) -> int: ...
    def aggregate_blocks(
        self,
        scores: Array,
        block: int,
        stride: int,
        fill_nearest: bool,
        fill_value: float,
        ds: int,
        depth: int,
        out: Array,
        workspace: Array | None,
        stream: int | None = None,
    ) -> None: ...
    def aggregate_blocks_adjoint_workspace(
        self, dtype: str, batch: int, hs: int, ws: int, rows: int, cols: int, ds: int, depth: int
    ) -> int: ...
    def aggregate_blocks_adjoint(
        self,
        grad: Array,
        block: int,
        stride: int,
        fill_nearest: bool,
        ds: int,
        depth: int,
        out: Array,
        workspace: Array,
        stream: int | None = None,
    ) -> None: ...

    def window_information(self, x: Array, y: Array, out: Array, stream: int | None = None) -> None: ...

    def NmfOptions(
        self,
        *,
        beta: float = 2.0,
        l1_W: float = 0.0,
        l1_H: float = 0.0,
        l2_W: float = 0.0,
        l2_H: float = 0.0,
        inner_iter: int = 1,
        update_W: bool = True,
        hals: bool = False,
        weighted: bool = False,
    ) -> Options: ...
    def nmf_workspace(self, dtype: str, batch: int, m: int, n: int, rank: int, options: Options) -> int: ...
    def nmf_update(
        self,
        V: Array,
        W: Array,
        H: Array,
        active: Array | None,
        options: Options,
        iterations: int,
        workspace: Array,
        weights: Array | None = None,
        stream: int | None = None,
    ) -> None: ...
    def nmf_objective(
        self,
        V: Array,
        W: Array,
        H: Array,
        options: Options,
        objective: Array,
        workspace: Array,
        weights: Array | None = None,
        stream: int | None = None,
    ) -> None: ...
    def nmf_settle(
        self,
        start: Array,
        before: Array,
        now: Array,
        tol: float,
        active: Array,
        still_active: Array,
        stream: int | None = None,
    ) -> None: ...
    def nmf_normalize(self, W: Array, H: Array, workspace: Array, stream: int | None = None) -> None: ...
    def FlagReadback(self) -> Readback: ...


class CpuOperations(Operations, Protocol):
    """`nmfuse._cpu`."""

    version: str
    compiler: str
    flags: str

    def fusion_survey(
        self,
        images: Array,
        *,
        weights: Array,
        parts: Array | None,
        channels: int,
        rows: tuple[int, int],
        sums: Array,
        features: Array | None,
        energy: Array | None,
        strengths: Array | None,
    ) -> None: ...
    def fusion_level(
        self,
        images: Sequence[Array],
        *,
        coarse: Array | None,
        contexts: Array,
        notes: Array | None,
        below: Array | None,
        features: Array | None,
        weights: Array,
        scene: Array,
        channels: int,
        hidden: int,
        read: int,
        written: int,
        fused: Array,
        handed: Array | None,
        gates: Array | None,
        rows: tuple[int, int],
        cols: tuple[int, int],
    ) -> None: ...
    def halve_images(self, images: Array, out: Array) -> None: ...
    def count_levels(self, y: Array, source: Array, low: float, high: float, counts: Array) -> None: ...
    def round_levels(
        self, y: Array, sources: Sequence[Array], gains: Array, low: float, high: float, out: Array
    ) -> None: ...
    def sparse_nmf_workspace(self, starts: Array, positions: Array, values: Array, width: int, rank: int) -> int: ...
    def sparse_nmf_update(
        self,
        starts: Array,
        positions: Array,
        values: Array,
        A: Array,
        B: Array,
        rank: int,
        options: Options,
        iterations: int,
        workspace: Array,
    ) -> None: ...
    def sparse_nmf_objective(
        self,
        starts: Array,
        positions: Array,
        values: Array,
        A: Array,
        B: Array,
        rank: int,
        options: Options,
        workspace: Array,
    ) -> float: ...
    def isa(self) -> str: ...
    def num_threads(self) -> int: ...
    def set_num_threads(self, n: int) -> None: ...


class CudaOperations(Operations, Protocol):
    """`nmfuse._cuda`."""

    version: str
    toolkit: str
    architectures: str

    def why_not(self) -> str: ...
    def devices(self) -> list[str]: ...
