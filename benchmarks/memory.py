"""How much memory one way takes above its inputs, in a process of its own: python memory.py WAY SIZE...

Printed are bytes: the peak of all pages, and the peak of what the process cannot do without (RssAnon, looked at every
50 ms): pages of mapped temporary files count in the first alone, and the system takes them back when it needs them.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Iterator
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


def of_stream(count: int, side: int, channels: int) -> Callable[[], object]:
    """Fuse images that are made when they are asked for, each another: heads, tiled and moved."""
    tile = nmfuse.data.brain_phantom(256)
    heads = [np.rint(255 * x).astype(np.uint8) for x in (tile.t1, tile.t2, tile.ct, tile.pet)]
    nmfuse.fuse(*heads)

    def images() -> Iterator[np.ndarray]:
        for k in range(count):
            grey = np.tile(np.roll(heads[k % len(heads)], 5 * k, axis=1), (side // 256, side // 256))
            if channels == 3:
                grey = np.stack([grey, grey // 2, 255 - grey], axis=-1)
            yield grey

    return lambda: nmfuse.fuse(images())


def status(line: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024 * int(next(x for x in lines if x.startswith(line)).split()[1])


if __name__ == "__main__":
    torch.set_num_threads(2)
    way, sizes = sys.argv[1], [int(size) for size in sys.argv[2:]]
    call = {"fuse": of_fuse, "stream": of_stream}.get(way, lambda *given: of_nmf(way, *given))(*sizes)
    Path("/proc/self/clear_refs").write_text("5")  # the peak counts from here
    before = status("VmRSS")
    needed = status("RssAnon")
    ended = threading.Event()
    peaks = [needed]

    def watch() -> None:
        while not ended.wait(0.05):
            peaks[0] = max(peaks[0], status("RssAnon"))

    watcher = threading.Thread(target=watch)
    watcher.start()
    call()
    ended.set()
    watcher.join()
    print(status("VmHWM") - before, peaks[0] - needed)
