"""How cost grows with size: times on one and on two threads, and the slope of log time over log size."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

import bench_hannmean
import bench_nmf
import cases
import measure
import nmfuse


def smoothed(side: int) -> Callable[[], object]:
    x = bench_hannmean.image(side, "float32", "cpu")
    y = torch.empty_like(x)
    return lambda: nmfuse.hannmean(x, 5, out=y)


def aggregated(side: int) -> Callable[[], object]:
    scores, out = torch.rand((side - 16) // 2 + 1, (side - 16) // 2 + 1), torch.empty(side, side)
    return lambda: nmfuse.aggregate_blocks(scores, 16, 2, (side, side), out=out)


def fused(side: int) -> Callable[[], object]:
    a, b = torch.rand(2, side, side)
    return lambda: nmfuse.fuse(a, b)


MAKERS: dict[str, Callable[[int], Callable[[], object]]] = {
    "columns n of nmf (128, n, 8)": lambda n: bench_nmf.ours(*bench_nmf.problem((), 128, n, 8, "cpu"), iterations=1),
    "rank r of nmf (128, 65536, r)": lambda r: bench_nmf.ours(
        *bench_nmf.problem((), 128, 65536, r, "cpu"), iterations=1
    ),
    "side of hannmean, float32, size 5": smoothed,
    "side of aggregate_blocks, block 16, stride 2": aggregated,
    "side of fuse": fused,
}


@pytest.mark.cases(cases.GROWTH)
def test_growth(case: tuple[str, list[int]], device: str, keep_growth: Callable[..., None], quick: bool) -> None:
    what, sizes = case
    threads = nmfuse.num_threads(), torch.get_num_threads()
    for count in (1, 2):
        nmfuse.set_num_threads(count)
        torch.set_num_threads(count)
        seconds = []
        for size in sizes[: len(sizes) // 2] if quick else sizes:
            timing = measure.interleave({measure.OURS: MAKERS[what](size)}, device, rounds=3)
            seconds.append(timing.median(measure.OURS))
        keep_growth(what, count, sizes[: len(seconds)], seconds)
    nmfuse.set_num_threads(threads[0])
    torch.set_num_threads(threads[1])
