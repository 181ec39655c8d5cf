"""The shapes that are measured, for the CPU and CUDA alike, and the pair that is fused."""

from __future__ import annotations

import torch
from torch.nn import functional

from nmfuse.data import brain_phantom

# m, n, rank: skinny spectra, features of a 256 x 256 pair, of a 512 x 512 pair, long series, square
NMF = {
    "cpu": [(128, 65536, 8), (512, 16129, 16), (512, 65536, 16), (64, 1048576, 8), (2048, 2048, 32)],
    "cuda": [(128, 65536, 8), (512, 16384, 16), (512, 65536, 16), (64, 1048576, 8), (2048, 2048, 32)],
}
NMF_KL = {"cpu": [(128, 65536, 8), (512, 65536, 16)], "cuda": [(128, 65536, 8), (512, 65536, 16)]}
NMF_INTEGERS = {"cpu": [(128, 65536, 8), (64, 1048576, 8), (512, 65536, 16)], "cuda": []}
NMF_ACCELERATED = {"cpu": [(512, 16129, 16)], "cuda": [(512, 16384, 16)]}
# to the same objective by other solvers
NMF_SOLVERS = {"cpu": [(128, 65536, 8), (512, 16129, 16), (2048, 2048, 32)], "cuda": []}
# m, n, density, rank, beta
NMF_SPARSE = {"cpu": [(100_000, 2000, 0.05, 20, 2), (100_000, 2000, 0.05, 20, 1)], "cuda": []}
# m, n, rank, runs
NMF_RUNS = {"cpu": [(2000, 5000, 10, 3)], "cuda": []}
# problems, m, n, rank
NMF_BATCHED = {"cpu": [(512, 64, 256, 8)], "cuda": [(64, 512, 16384, 16), (4096, 64, 256, 8)]}
# side of the image, dtype, window
HANNMEAN = {
    "cpu": [
        (side, dtype, size) for side in (1024, 4096) for dtype in ("float32", "uint8", "uint16") for size in (3, 9, 15)
    ],
    "cuda": [(side, dtype, 5) for side in (1024, 4096, 8192) for dtype in ("float32", "uint8")],
}
HANNMEAN_MASKED = {"cpu": [(1024, 5), (4096, 5)], "cuda": [(4096, 5), (8192, 5)]}
# side of the image, for blocks of 16 at stride 2
BLOCKS = {"cpu": [1024, 4096], "cuda": [1024, 4096, 8192]}
# side of the two images
PIPELINE = {"cpu": [256, 1024], "cuda": [256, 1024]}
# height and width of two photographs
PIPELINE_RGB = {"cpu": [(2000, 3000), (4000, 6000)], "cuda": []}
# side of the two images, beside busy cores
PIPELINE_BUSY = {"cpu": [256], "cuda": []}
METRICS = {"cpu": [512], "cuda": [512]}
# what must be in memory besides V: m, n, rank, beta; and besides the two images: side
MEMORY = {"cpu": [(128, 65536, 8, 2), (512, 65536, 16, 2), (512, 65536, 16, 1)], "cuda": []}
MEMORY_FUSE = {"cpu": [512, 2048, 8192], "cuda": []}
# of a stack of many: images, side, channels
MEMORY_STACK = {"cpu": [(6, 4864, 1), (6, 4864, 3)], "cuda": []}
# along what cost grows: name, sizes
GROWTH = {
    "cpu": [
        ("columns n of nmf (128, n, 8)", [2**k for k in range(12, 21)]),
        ("rank r of nmf (128, 65536, r)", [2, 4, 8, 16, 32, 64]),
        ("side of hannmean, float32, size 5", [256, 512, 1024, 2048, 4096, 8192, 16384]),
        ("side of aggregate_blocks, block 16, stride 2", [256, 512, 1024, 2048, 4096, 8192, 16384]),
        ("side of fuse", [256, 512, 1024, 2048]),
    ],
    "cuda": [],
}


def phantom_pair(side: int, device: str) -> tuple[torch.Tensor, torch.Tensor]:
    """Return T2 and CT of a digital brain phantom (side, side) on a device, brought to that size from 256 pixels."""
    phantom = brain_phantom(256)
    pair = torch.stack([torch.from_numpy(x) for x in (phantom.t2, phantom.ct)])
    a, b = functional.interpolate(pair[None], size=(side, side), mode="bilinear")[0].to(device)
    return a, b


def chosen(cases: dict[str, list], device: str, *, quick: bool) -> list:
    """Return the cases of a device; the first half of them, two at most, if `quick`."""
    every = cases[device]
    return every[: min(2, (len(every) + 1) // 2)] if quick else every
