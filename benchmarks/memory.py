"""How much memory one way takes above its inputs, in a process of its own: python memory.py WAY SIZE..."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

import bench_nmf
import nmfuse


def of_nmf(way: str, m: int, n: int, rank: int, beta: int) -> Callable[[], object]:
    loops = {1: bench_nmf.kullback_leibler_loop, 2: bench_nmf.frobenius_loop}
    ways = {
        "nmfuse": lambda V, W, H: bench_nmf.ours(V, W, H, beta=float(beta)),
        "torch loop": loops[beta],
        "NumPy loop": lambda V, W, H: bench_nmf.numpy_loop(V, W, H, beta),
        "scikit-learn mu": lambda V, W, H: bench_nmf.scikit_learn(V, W, H, beta)["scikit-learn mu"],
        "torchnmf": lambda V, W, H: bench_nmf.torchnmf(V, W, H, beta)["torchnmf"],
    }
    ways[way](*bench_nmf.problem((), 64, 256, rank, "cpu"))()  # loads what is loaded once
    problem = bench_nmf.problem((), m, n, rank, "cpu")
    return lambda: ways[way](*problem)()


def of_fuse(side: int) -> Callable[[], object]:
    tile = nmfuse.data.brain_phantom(256)
    nmfuse.fuse(tile.t2, tile.ct)
    a, b = (np.tile(np.rint(255 * x).astype(np.uint8), (side // 256, side // 256)) for x in (tile.t2, tile.ct))
    return lambda: nmfuse.fuse(a, b)


def status(line: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024 * int(next(x for x in lines if x.startswith(line)).split()[1])


if __name__ == "__main__":
    torch.set_num_threads(2)
    way, sizes = sys.argv[1], [int(size) for size in sys.argv[2:]]
    call = of_fuse(*sizes) if way == "fuse" else of_nmf(way, *sizes)
    Path("/proc/self/clear_refs").write_text("5")  # the peak counts from here
    before = status("VmRSS")
    call()
    print(status("VmHWM") - before)
