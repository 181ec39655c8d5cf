"""What the native modules have, as the type checker sees it. Written by `make stubs`; do not edit."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

Array = Any


class FlagReadbackLike(Protocol):
    """An object of `FlagReadback`."""

    def start(self, flags: Array, stream: Array = None) -> None: ...
    def idle(self) -> bool: ...
    def any(self) -> bool: ...


class NmfOptionsLike(Protocol):
    """An object of `NmfOptions`."""


class Operations(Protocol):
    """Every native module."""

    def FlagReadback(self) -> FlagReadbackLike: ...
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
    ) -> NmfOptionsLike: ...
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
        workspace: Array,
        stream: Array = None,
    ) -> None: ...
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
        stream: Array = None,
    ) -> None: ...
    def aggregate_blocks_adjoint_workspace(
        self, dtype: str, batch: int, hs: int, ws: int, rows: int, cols: int, ds: int, depth: int
    ) -> int: ...
    def aggregate_blocks_workspace(self, dtype: str, batch: int, hs: int, ws: int, ds: int, depth: int) -> int: ...
    def describe(self, x: Array, stream: Array = None) -> dict[str, Any]: ...

    dtypes: dict[str, tuple[str, ...]]

    def hannmean(
        self, x: Array, reliability: Array, size: int, depth: int, out: Array, stream: Array = None
    ) -> None: ...
    def hannmean_adjoint(
        self, grad: Array, reliability: Array, size: int, depth: int, out: Array, workspace: Array, stream: Array = None
    ) -> None: ...
    def hannmean_adjoint_workspace(self, dtype: str, batch: int, rows: int, cols: int) -> int: ...
    def is_capturing(self, stream: Array) -> bool: ...

    max_hann_size: int

    def nmf_normalize(self, W: Array, H: Array, workspace: Array, stream: Array = None) -> None: ...
    def nmf_objective(
        self,
        V: Array,
        W: Array,
        H: Array,
        options: NmfOptionsLike,
        objective: Array,
        workspace: Array,
        weights: Array = None,
        stream: Array = None,
    ) -> None: ...
    def nmf_settle(
        self,
        start: Array,
        before: Array,
        now: Array,
        tol: float,
        active: Array,
        still_active: Array,
        stream: Array = None,
    ) -> None: ...
    def nmf_update(
        self,
        V: Array,
        W: Array,
        H: Array,
        active: Array,
        options: NmfOptionsLike,
        iterations: int,
        workspace: Array,
        weights: Array = None,
        stream: Array = None,
    ) -> None: ...
    def nmf_workspace(self, dtype: str, batch: int, m: int, n: int, rank: int, options: NmfOptionsLike) -> int: ...
    def reject_outliers(
        self, x: Array, size: int, depth: int, k: float, reliability: Array, stream: Array = None
    ) -> None: ...
    def window_information(self, x: Array, y: Array, out: Array, stream: Array = None) -> None: ...


class CpuOperations(Operations, Protocol):
    """`nmfuse._cpu`."""

    compiler: str

    def count_levels(self, y: Array, source: Array, low: float, high: float, counts: Array) -> None: ...

    flags: str

    def fusion_level(
        self,
        images: Sequence[Array],
        *,
        coarse: Array,
        contexts: Array,
        notes: Array,
        below: Array,
        features: Array,
        weights: Array,
        scene: Array,
        channels: int,
        hidden: int,
        read: int,
        written: int,
        fused: Array,
        handed: Array,
        gates: Array,
        rows: tuple[int, int],
        cols: tuple[int, int],
    ) -> None: ...
    def fusion_survey(
        self,
        images: Array,
        *,
        weights: Array,
        parts: Array,
        channels: int,
        rows: tuple[int, int],
        sums: Array,
        features: Array,
        energy: Array,
        strengths: Array,
    ) -> None: ...
    def halve_images(self, images: Array, out: Array) -> None: ...
    def isa(self) -> str: ...
    def num_threads(self) -> int: ...
    def round_levels(
        self, y: Array, sources: Sequence[Array], gains: Array, low: float, high: float, out: Array
    ) -> None: ...
    def set_num_threads(self, n: int) -> None: ...
    def sparse_nmf_objective(
        self,
        starts: Array,
        positions: Array,
        values: Array,
        A: Array,
        B: Array,
        rank: int,
        options: NmfOptionsLike,
        workspace: Array,
    ) -> float: ...
    def sparse_nmf_update(
        self,
        starts: Array,
        positions: Array,
        values: Array,
        A: Array,
        B: Array,
        rank: int,
        options: NmfOptionsLike,
        iterations: int,
        workspace: Array,
    ) -> None: ...
    def sparse_nmf_workspace(self, starts: Array, positions: Array, values: Array, width: int, rank: int) -> int: ...

    version: str
