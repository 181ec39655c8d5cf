"""What fusing a pair costs, beside the network and the pyramid that the field's methods are built on."""

from __future__ import annotations

import math
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import numpy as np
import pytest
import torch
from torch import Tensor

import cases
import nmfuse
from measure import multiply_add_seconds
from nmfuse import nets, pyramids
from nmfuse.methods.rules import fuse_level
from nmfuse.methods.scores import scores, weight_map
from nmfuse.nets import fusion_kernel


@torch.inference_mode()
def liu(a: Tensor, b: Tensor) -> Tensor:
    """Fuse by the method of Liu et al. (FUSION 2017) in torch: `method="cnn-liu"` on the images' device."""
    sources, shape = torch.stack([a, b]), (a.shape[0], a.shape[1])
    net = nets.load("full", a.device)
    W = weight_map(scores(net.features(sources[:, None]), net), "soft", shape)
    levels = pyramids.max_levels(shape)
    weights = pyramids.gaussian_pyramid(W, levels)
    fused = [fuse_level(L, w, 0.6) for L, w in zip(pyramids.laplacian_pyramid(sources, levels), weights, strict=True)]
    return pyramids.collapse_laplacian(fused)


def multiply_adds(height: int, width: int, sources: int = 2) -> float:
    """What the convolutions of the default network need for so many images, those of level 1 once for the survey."""
    net = nets.load_fusion()
    total = 0.0
    for level, (branch, head) in enumerate(zip(net.branches, net.heads, strict=True)):
        weights = [x.numel() for x in (*branch.parameters(), *head.parameters()) if x.ndim == 4]
        total += sources * sum(weights) * math.ceil(height / 2**level) * math.ceil(width / 2**level)
    return total


@contextmanager
def by_torch() -> Iterator[None]:
    """Let torch run the network, whose module is the definition of our kernel."""
    ours = fusion_kernel.can_run
    fusion_kernel.can_run = lambda _: False
    try:
        yield
    finally:
        fusion_kernel.can_run = ours


def fused_by_torch(a: Tensor, b: Tensor) -> Tensor:
    with by_torch():
        return nmfuse.fuse(a, b)


@contextmanager
def busy_cores() -> Iterator[None]:
    """Keep every core busy with another process."""
    command = [sys.executable, "-c", "while True: pass"]
    others = [subprocess.Popen(command) for _ in range(os.cpu_count() or 1)]
    try:
        yield
    finally:
        for other in others:
            other.kill()
            other.wait()


@pytest.mark.cases(cases.PIPELINE)
def test_pipeline(case: int, device: str, compare: Callable[..., None]) -> None:
    a, b = cases.phantom_pair(case, device)
    calls: dict[str, Callable[[], object]] = {"nmfuse": lambda: nmfuse.fuse(a, b)}
    calls["the network in torch"] = lambda: fused_by_torch(a, b)
    if case <= 512:
        calls["method='paper'"] = lambda: nmfuse.fuse(a, b, method="paper")
        calls["cnn-liu in torch"] = lambda: liu(a, b)
    floor = multiply_add_seconds(device, multiply_adds(case, case))
    compare(f"fuse a pair of {case}²", calls, floor=floor)


@pytest.mark.cases(cases.PIPELINE_RGB)
def test_photographs(case: tuple[int, int], compare: Callable[..., None]) -> None:
    height, width = case
    tile = nmfuse.data.brain_phantom(256)
    grey = [
        np.tile(np.rint(255 * x).astype(np.uint8), (-(-height // 256), -(-width // 256))) for x in (tile.t2, tile.ct)
    ]
    a, b = (np.stack([x, x // 2, 255 - x], axis=-1)[:height, :width] for x in grey)
    floor = multiply_add_seconds("cpu", multiply_adds(height, width))
    compare(f"fuse two RGB images of {width} x {height}", {"nmfuse": lambda: nmfuse.fuse(a, b)}, floor=floor)


@pytest.mark.cases(cases.PIPELINE_BUSY)
def test_beside_other_work(case: int, device: str, compare: Callable[..., None]) -> None:
    a, b = cases.phantom_pair(case, device)
    with busy_cores():
        ways = {"nmfuse": lambda: nmfuse.fuse(a, b), "the network in torch": lambda: fused_by_torch(a, b)}
        compare(f"fuse a pair of {case}², as many busy processes as cores beside it", ways)
