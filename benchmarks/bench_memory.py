"""How much memory is taken above the inputs at most, each way in a process of its own."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

import cases
from measure import OURS

IMAGES, SPARE = 6, 1 << 29  # what many sources may take: float32 images of their size, and bytes besides
WAYS = (OURS, "torch loop", "NumPy loop", "scikit-learn mu", "torchnmf")


def peak(way: str, *sizes: int, needed: bool = False) -> int | None:
    """Return bytes, of all pages or of those that cannot be given back, or None where the way is not installed."""
    command = [sys.executable, str(Path(__file__).with_name("memory.py")), way, *map(str, sizes)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode and "KeyError" in done.stderr and way != OURS:
        return None
    assert done.returncode == 0, done.stderr
    return int(done.stdout.split()[-1 if needed else -2])


@pytest.mark.cases(cases.MEMORY)
def test_nmf(case: tuple[int, int, int, int], keep_memory: Callable[..., None]) -> None:
    m, n, rank, beta = case
    kind = {1: "Kullback-Leibler", 2: "Frobenius"}[beta]
    keep_memory(f"nmf {kind} ({m}, {n}, {rank})", {way: peak(way, *case) for way in WAYS}, inputs=4 * m * n)


@pytest.mark.cases(cases.MEMORY_STACK)
def test_fuse_of_many_from_an_iterator(case: tuple[int, int, int], keep_memory: Callable[..., None]) -> None:
    """Images that come one at a time, and are not kept by who gives them: what all of it takes at most."""
    count, side, channels = case
    image = 4 * channels * side**2  # float32
    taken = peak("stream", *case, needed=True)
    assert taken is not None
    kind = "RGB" if channels == 3 else "grey"
    bound = IMAGES * image + SPARE
    what = (
        f"fuse {count} of {side}² uint8 {kind} from an iterator: {taken / image:.1f} float32 images of {channels} "
        f"channel(s) of {image / 2**20:.0f} MiB; bound {bound / 2**20:.0f} MiB, that is {bound / image:.1f}"
    )
    keep_memory(what, {OURS: taken}, inputs=count * channels * side**2)
    assert taken <= bound


@pytest.mark.cases(cases.MEMORY_FUSE)
def test_fuse(case: int, keep_memory: Callable[..., None]) -> None:
    keep_memory(f"fuse a pair of {case}² uint8", {OURS: peak("fuse", case)}, inputs=2 * case**2)
