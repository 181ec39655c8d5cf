"""Each CUDA kernel once on small arrays, for compute-sanitizer: its tools see every access and know no libraries.

compute-sanitizer --tool memcheck --error-exitcode 1 python benchmarks/sanitize.py
"""

from __future__ import annotations

import cupy
import numpy as np

import nmfuse
from nmfuse.kernels import reference


def main() -> None:
    cupy.cuda.set_allocator(None)  # no pool: each array ends where its memory ends
    rng = np.random.default_rng(0)
    for dtype in ("float32", "float64", "uint8", "uint16"):
        x = (rng.random((2, 37, 70)) * (1 if dtype.startswith("f") else 200)).astype(dtype)
        mask = rng.random(x.shape) > 0.3
        for size in (3, 13):
            there = nmfuse.hannmean(cupy.asarray(x), size, cupy.asarray(mask), outliers=3.0)
            assert bool(cupy.isfinite(there).all())
            nmfuse.hannmean(cupy.asarray(x), size)
            volume = cupy.asarray(rng.permutation(x.ravel()[:4800]).reshape(10, 16, 30))
            assert bool(cupy.isfinite(nmfuse.hannmean(volume, size, outliers=3.0, spatial=3)).all())
        if dtype.startswith("f"):
            nmfuse.hannmean_adjoint(cupy.asarray(x), 5, cupy.asarray(mask))
            nmfuse.hannmean_adjoint(cupy.asarray(x), 5, cupy.asarray(mask), spatial=3)
            flat = np.where(mask, x, 0)
            there = nmfuse.kernels.window_information(cupy.asarray(x), cupy.asarray(flat))
            np.testing.assert_allclose(there.get(), reference.window_information_ref(x, flat), atol=1e-4)
    for block, stride, grid, shape in ((16, 2, (13, 30), (40, 75)), (7, 4, (5, 6), (30, 33)), (3, 5, (4, 4), (20, 20))):
        scores = rng.random(grid).astype(np.float32)
        there = nmfuse.aggregate_blocks(cupy.asarray(scores), block, stride, shape)
        np.testing.assert_allclose(there.get(), reference.aggregate_blocks_ref(scores, block, stride, shape), atol=1e-5)
        nmfuse.aggregate_blocks_adjoint(there, block, stride, grid)
        cube = rng.random((3, *grid)).astype(np.float32)
        deep = (2 * stride + block, *shape)
        there = nmfuse.aggregate_blocks(cupy.asarray(cube), block, stride, deep, spatial=3)
        expected = reference.aggregate_blocks_ref(cube, block, stride, deep)
        np.testing.assert_allclose(there.get(), expected, atol=1e-5)
        nmfuse.aggregate_blocks_adjoint(there, block, stride, cube.shape, spatial=3)
    for batch, m, n, rank in (((), 70, 700, 8), ((3,), 20, 100, 5), ((), 40, 300, 19), ((), 45, 90, 37)):
        V = cupy.asarray(rng.random((*batch, m, n)).astype(np.float32))
        for beta in (2.0, 1.0, 0.5):
            W, H, info = nmfuse.nmf(V, rank, beta=beta, max_iter=2, tol=1e-9, check_every=1)
            assert bool(cupy.isfinite(W).all())
            assert bool(cupy.isfinite(H).all())
            assert (np.diff(info.objective, axis=0) <= 0).all()
    cupy.cuda.Device().synchronize()
    print("all kernels ran")


if __name__ == "__main__":
    main()
