"""What fusing a pair costs, beside the network and the pyramid that the field's methods are built on."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

import cases
import nmfuse
from nmfuse import nets, pyramids
from nmfuse.methods.rules import fuse_level
from nmfuse.methods.scores import scores, weight_map


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


@pytest.mark.cases(cases.PIPELINE)
def test_pipeline(case: int, device: str, compare: Callable[..., None]) -> None:
    a, b = cases.phantom_pair(case, device)
    calls: dict[str, Callable[[], object]] = {"nmfuse": lambda: nmfuse.fuse(a, b)}
    calls["method='paper'"] = lambda: nmfuse.fuse(a, b, method="paper")
    if case <= 1024:
        calls["cnn-liu in torch"] = lambda: liu(a, b)
    compare(f"fuse a pair of {case}²", calls)
