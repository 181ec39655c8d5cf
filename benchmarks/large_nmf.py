"""What it takes to factorize a matrix larger than memory: python benchmarks/large_nmf.py GIGABYTES FOLDER [ITERATIONS]

Makes V.zarr, float32 of 2,000 rows and rank 8, in the folder if it is not there, runs `nmfuse.scale.nmf` on it with the
threads of one process, and prints time, processor time, and the peak of all pages of that process.
"""

from __future__ import annotations

import resource
import subprocess
import sys
import time
from pathlib import Path

import dask.array as da
import numpy as np
import zarr

import nmfuse

ROWS, COLUMNS, RANK = 2000, 5000, 8  # columns of a chunk


def make(chunks: int, folder: Path) -> None:
    """Write sums of a few parts, and a little noise."""
    if (folder / "V.zarr").exists():
        return
    shape = {"shape": (ROWS, chunks * COLUMNS), "chunks": (ROWS, COLUMNS)}
    stored = zarr.create_array(folder / "V.zarr", dtype=np.float32, compressors=None, **shape)
    parts = np.random.default_rng(0).gamma(0.5, size=(ROWS, RANK)).astype(np.float32)
    for k in range(chunks):
        rng = np.random.default_rng((1, k))
        noise = rng.random((ROWS, COLUMNS), np.float32)
        stored[:, k * COLUMNS : (k + 1) * COLUMNS] = parts @ rng.gamma(0.5, size=(RANK, COLUMNS)) + 0.1 * noise


def run(folder: Path, iterations: int) -> None:
    """Factorize, and print what it took."""
    start = time.perf_counter()
    V = da.from_zarr(folder / "V.zarr")
    _, H, info = nmfuse.scale.nmf(V, RANK, max_iter=iterations, check_every=iterations, tol=0)
    took, used = time.perf_counter() - start, resource.getrusage(resource.RUSAGE_SELF)
    print(
        f"V {V.shape}, {V.nbytes / 1e9:.1f} GB; {info.iterations[-1]} iterations, objective {info.objective[0]:.4g} to "
        f"{info.objective[-1]:.4g}; {took:.0f} s, {used.ru_utime + used.ru_stime:.0f} s of processors, "
        f"{used.ru_maxrss / 2**20:.2f} GiB at most; H {H.shape}"
    )


if __name__ == "__main__":
    there = Path(sys.argv[2])
    if sys.argv[1] == "run":  # in a process of its own: making V takes memory, too
        run(there, int(sys.argv[3]))
    else:
        make(round(float(sys.argv[1]) * 1e9 / (4 * ROWS * COLUMNS)), there)
        subprocess.run([sys.executable, __file__, "run", there, *(sys.argv[3:4] or ["5"])], check=True)
