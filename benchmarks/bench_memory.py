"""How much memory is taken above the inputs at most, each way in a process of its own."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

import cases
from measure import OURS

WAYS = (OURS, "torch loop", "NumPy loop", "scikit-learn mu", "torchnmf")


def peak(way: str, *sizes: int) -> int | None:
    """Return bytes, or None where the way is not installed."""
    command = [sys.executable, str(Path(__file__).with_name("memory.py")), way, *map(str, sizes)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode and "KeyError" in done.stderr and way != OURS:
        return None
    assert done.returncode == 0, done.stderr
    return int(done.stdout.split()[-1])


@pytest.mark.cases(cases.MEMORY)
def test_nmf(case: tuple[int, int, int, int], keep_memory: Callable[..., None]) -> None:
    m, n, rank, beta = case
    kind = {1: "Kullback-Leibler", 2: "Frobenius"}[beta]
    keep_memory(f"nmf {kind} ({m}, {n}, {rank})", {way: peak(way, *case) for way in WAYS}, inputs=4 * m * n)


@pytest.mark.cases(cases.MEMORY_FUSE)
def test_fuse(case: int, keep_memory: Callable[..., None]) -> None:
    keep_memory(f"fuse a pair of {case}² uint8", {OURS: peak("fuse", case)}, inputs=2 * case**2)
