"""What fusing a pair costs, beside the network and the pyramid that the field's methods are built on."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from nmfuse.fusion.rules import fuse_level
from nmfuse.fusion.weights import cnn_weight_map
from torch import Tensor

import cases
import nmfuse
from nmfuse import nets, pyramids


@torch.inference_mode()
def liu(a: Tensor, b: Tensor) -> Tensor:
    """Fuse by the method of Liu et al. (FUSION 2017) in torch: `nmfuse.baselines.cnn_liu` on the images' device."""
    S = nets.load("full", a.device).score_map(a[None, None], b[None, None])[0]
    shape = (a.shape[0], a.shape[1])
    W = cnn_weight_map(S, "soft", shape)
    levels = pyramids.max_levels(shape)
    parts = (pyramids.laplacian_pyramid(x, levels) for x in (a, b))
    weights = pyramids.gaussian_pyramid(W, levels)
    return pyramids.collapse_laplacian([fuse_level(p, q, w, 0.6) for p, q, w in zip(*parts, weights, strict=True)])


@pytest.mark.cases(cases.PIPELINE)
def test_pipeline(case: int, device: str, compare: Callable[..., None]) -> None:
    a, b = cases.phantom_pair(case, device)
    calls: dict[str, Callable[[], object]] = {"nmfuse": lambda: nmfuse.fuse(a, b)}
    calls["method='paper'"] = lambda: nmfuse.fuse(a, b, method="paper")
    if case <= 1024:
        calls["cnn-liu in torch"] = lambda: liu(a, b)
    compare(f"fuse a pair of {case}²", calls)
