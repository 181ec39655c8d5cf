"""What it takes to fuse two images larger than memory: python benchmarks/large.py SIDE FOLDER [METHOD]

Makes a.zarr and b.tif (BigTIFF in tiles), SIDE x SIDE uint8, in the folder if they are not there, runs `nmfuse fuse` on
them, and prints time, processor time, and the peak of all pages of that process.
"""

from __future__ import annotations

import os
import resource
import subprocess
import sys
import time
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import numpy as np
import tifffile
import zarr

import nmfuse

BLOCK = 1024


@cache
def heads() -> list[np.ndarray]:
    phantom = nmfuse.data.brain_phantom(256)
    return [np.rint(200 * x).astype(np.uint8) for x in (phantom.t2, phantom.ct)]


def block(which: int, row: int, column: int) -> np.ndarray:
    """Return the pixels of a block: heads, moved, with noise of their own."""
    rng = np.random.default_rng((which, row, column))
    head = np.roll(np.tile(heads()[which], (BLOCK // 256, BLOCK // 256)), (37 * row, 53 * column), (0, 1))
    return head + rng.integers(0, 32, head.shape, np.uint8)


def make(side: int, folder: Path) -> None:
    blocks = -(-side // BLOCK)
    if not (folder / "a.zarr").exists():
        a = zarr.create_array(folder / "a.zarr", shape=(side, side), chunks=(BLOCK, BLOCK), dtype=np.uint8)
        for row in range(blocks):
            for column in range(blocks):
                rows, columns = (slice(k * BLOCK, min(side, (k + 1) * BLOCK)) for k in (row, column))
                cut = block(0, row, column)[: rows.stop - rows.start, : columns.stop - columns.start]
                a[rows, columns] = cut
    if not (folder / "b.tif").exists():

        def tiles() -> Iterator[np.ndarray]:
            for row in range(blocks):
                for column in range(blocks):
                    yield block(1, row, column)

        of_file = {"shape": (side, side), "dtype": np.uint8, "tile": (BLOCK, BLOCK), "bigtiff": True}
        tifffile.imwrite(folder / "b.tif", tiles(), compression="zlib", photometric="minisblack", **of_file)


def main(side: int, folder: Path, method: str = "learned") -> None:
    folder.mkdir(exist_ok=True)
    make(side, folder)
    command = [sys.executable, "-c", "from nmfuse.cli import main; main()", "fuse"]
    command += [str(folder / "a.zarr"), str(folder / "b.tif"), "-o", str(folder / "out.zarr"), "--method", method]
    begun = time.perf_counter()
    environment = os.environ | {"NMFUSE_MAX_PIXELS": str(min(side * side - 1, 2**27))}
    subprocess.run([*command, "--overwrite"], check=True, env=environment)
    wall, used = time.perf_counter() - begun, resource.getrusage(resource.RUSAGE_CHILDREN)
    print(
        f"{side} x {side}, {method}: {wall:.0f} s, {used.ru_utime + used.ru_stime:.0f} s of processor time, "
        f"{used.ru_maxrss / 2**20:.2f} GiB at most"
    )


if __name__ == "__main__":
    main(int(sys.argv[1]), Path(sys.argv[2]), *sys.argv[3:])
