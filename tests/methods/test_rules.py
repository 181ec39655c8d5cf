"""The fusion rule of one level, held against a pixel-by-pixel reading of its definition."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch

from nmfuse.methods.rules import fuse_level, fuse_pyramids


def fuse_level_ref(L: np.ndarray, W: np.ndarray, t: float) -> np.ndarray:
    """One pixel after the other, over a 3 x 3 (x 3) window whose border is mirrored."""
    padded = np.pad(L, [(0, 0), *[(1, 1)] * (L.ndim - 1)], mode="reflect")
    F = np.empty(L.shape[1:])
    for at in np.ndindex(F.shape):
        window = padded[(slice(None), *(slice(k, k + 3) for k in at))]
        energy = (window**2).reshape(len(L), -1).sum(1)
        match = ((window.sum(0) ** 2).sum() - energy.sum()) / ((len(L) - 1) * energy.sum())
        here = (slice(None), *at)
        F[at] = (W[here] * L[here]).sum() if match > t else L[here][energy.argmax()]
    return F


@pytest.mark.parametrize("t", [-1.0, 0.0, 0.6, 1.0])
@pytest.mark.parametrize("shape", [(2, 9, 7), (3, 9, 7), (5, 6, 6), (3, 4, 5, 6)])
def test_rule_is_its_definition(t: float, shape: tuple[int, ...]) -> None:
    rng = np.random.default_rng(0)
    L = 0.7 * rng.standard_normal(shape[1:]) + 0.5 * rng.standard_normal(shape)
    W = rng.random(shape)
    W /= W.sum(0)
    fused = fuse_level(torch.from_numpy(L), torch.from_numpy(W), t)
    np.testing.assert_allclose(fused.numpy(), fuse_level_ref(L, W, t), atol=1e-13)


def test_equal_energies_give_the_mean() -> None:
    A = torch.ones(4, 4)
    W = torch.rand(4, 4)
    torch.testing.assert_close(fuse_level(torch.stack([A, -A]), torch.stack([W, 1 - W]), 0.6), torch.zeros(4, 4))


def test_exchange_changes_no_bit() -> None:
    generator = torch.Generator().manual_seed(0)
    A, B, W = (torch.rand(16, 16, generator=generator) for _ in range(3))
    W = (W * 1024).round() / 1024  # so that 1 - W is exact
    forth = fuse_level(torch.stack([A, B]), torch.stack([W, 1 - W]), 0.6)
    assert torch.equal(forth, fuse_level(torch.stack([B, A]), torch.stack([1 - W, W]), 0.6))


def test_a_level_of_one_pixel() -> None:
    L, W = torch.tensor([[[0.2]], [[0.4]]]), torch.tensor([[[0.25]], [[0.75]]])
    assert fuse_level(L, W, 0.6).item() == pytest.approx(0.35)


@pytest.mark.parametrize(
    ("pyramid", "shape"), list(itertools.product(["laplacian", "contrast"], [(40, 33), (6, 20, 24)]))
)
def test_copies_are_reconstructed(pyramid: str, shape: tuple[int, ...]) -> None:
    x = torch.rand(shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    sources, W = x.expand(4, *shape), torch.full((4, *shape), 0.25, dtype=torch.float64)
    _, _, image = fuse_pyramids(sources, W, pyramid=pyramid, levels=4, t_top=0.6, t_other=0.6, epsilon=1 / 255)
    torch.testing.assert_close(image, x, rtol=0, atol=1e-12)
