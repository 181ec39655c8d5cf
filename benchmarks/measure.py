"""Timing of several ways to the same end, interleaved in one process, so that the machine's moods fall on all alike."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch

Calls = dict[str, Callable[[], object]]
OURS = "nmfuse"


@dataclass(frozen=True)
class Timing:
    """Seconds per call of each way, one row for each round."""

    seconds: dict[str, np.ndarray]

    def median(self, name: str) -> float:
        return float(np.median(self.seconds[name]))

    def times_slower(self, name: str) -> float:
        """How many times longer than ours another way takes: the median of the rounds' ratios."""
        return float(np.median(self.seconds[name] / self.seconds[OURS]))


def interleave(calls: Calls, device: str, *, rounds: int, least: float = 0.02) -> Timing:
    """Time each call `rounds` times in turn; each time repeats it until `least` seconds have gone by."""
    run = _on_cuda if device == "cuda" else _on_cpu
    repeats = {}
    for name, call in calls.items():
        run(call, 1)  # loads modules, touches memory
        repeats[name] = max(1, min(1000, int(least / max(run(call, 1), 1e-7))))
    seconds: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(rounds):
        for name, call in calls.items():
            seconds[name].append(run(call, repeats[name]) / repeats[name])
    return Timing({name: np.array(values) for name, values in seconds.items()})


def _on_cpu(call: Callable[[], object], repeats: int) -> float:
    start = time.perf_counter()
    for _ in range(repeats):
        call()
    return time.perf_counter() - start


def _on_cuda(call: Callable[[], object], repeats: int) -> float:
    start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    start.record()
    for _ in range(repeats):
        call()
    end.record()
    end.synchronize()
    return start.elapsed_time(end) / 1000


def as_graph(call: Callable[[], object]) -> Callable[[], object]:
    """Return the replay of a CUDA graph of `call`."""
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        call()
    stream.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        call()
    return graph.replay


def multiply_add_seconds(device: str, multiply_adds: float) -> float:
    """How long that many float32 multiply-adds take at the speed of a large matrix product, measured now."""
    n = 8192 if device == "cuda" else 2048
    a = torch.rand(n, n, device=device)
    out = torch.empty_like(a)
    product = interleave({OURS: lambda: torch.mm(a, a, out=out)}, device, rounds=3, least=0.1)
    return product.median(OURS) / n**3 * multiply_adds
