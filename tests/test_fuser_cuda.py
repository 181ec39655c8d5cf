"""Fusion and its training on a CUDA device: as on the CPU."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

import nmfuse
from nmfuse.images.rounding import round_informed
from nmfuse.nets import load_fusion
from nmfuse.training.fusion import train_fusion

pytestmark = [pytest.mark.cuda, pytest.mark.usefixtures("cuda")]


@pytest.mark.parametrize("method", ["learned", "paper"])
@pytest.mark.parametrize("count", [2, 3, 4])
def test_images_are_fused_where_they_are(method: str, count: int) -> None:
    phantom = nmfuse.data.brain_phantom(160)
    here = [torch.from_numpy(x) for x in (phantom.t2, phantom.ct, phantom.pet, phantom.t1)[:count]]
    there = [x.cuda() for x in here]
    fused = nmfuse.fuse(*there, method=method)
    assert fused.device == there[0].device
    assert fused.dtype == there[0].dtype
    difference = (fused.cpu() - nmfuse.fuse(*here, method=method)).abs()
    assert float(difference.mean()) < 2e-4  # the factorizations round otherwise
    assert torch.equal(nmfuse.fuse(*reversed(there), method=method), fused)


def test_grey_levels_are_chosen_there_as_here() -> None:
    phantom = nmfuse.data.brain_phantom(160)
    a, b = (torch.from_numpy(x).mul(40).round().mul(6 / 255) for x in (phantom.t2, phantom.ct))
    y = 0.7 * torch.maximum(a, b) + 0.2 * a
    here, there = round_informed(y, [a, b]), round_informed(y.cuda(), [a.cuda(), b.cuda()])
    torch.testing.assert_close(there.cpu(), here)
    pair = [(255 * x).round().byte().cuda() for x in (a, b)]
    assert torch.equal(nmfuse.fuse(*pair), nmfuse.fuse(*reversed(pair)))


def test_colour_and_intermediates_stay_there() -> None:
    phantom = nmfuse.data.brain_phantom(96)
    t2 = torch.from_numpy(phantom.t2).cuda()
    colour = torch.stack([t2, t2.flip(0), t2.flip(1)])
    explanation = nmfuse.Fuser().explain(t2[None].expand(3, -1, -1).contiguous(), colour)
    assert explanation.fused.is_cuda
    assert explanation.fused.shape == colour.shape
    assert all(level.is_cuda for level in explanation["gates"])


def test_the_network_is_trained_there(tmp_path: Path) -> None:
    results = [
        train_fusion(tmp_path / f"{device}.safetensors", phantoms=2, steps=3, batch=2, crop=64, device=device)
        for device in ("cpu", "cuda")
    ]
    assert abs(results[0].score - results[1].score) < 0.05
    assert not next(load_fusion(tmp_path / "cuda.safetensors").parameters()).is_cuda
