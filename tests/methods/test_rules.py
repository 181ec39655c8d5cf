"""The fusion rule of one level, held against a pixel-by-pixel reading of its definition."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from nmfuse.fusion.rules import fuse_level


def fuse_level_ref(A: np.ndarray, B: np.ndarray, W: np.ndarray, t: float) -> np.ndarray:
    def mirrored(x: np.ndarray) -> np.ndarray:
        return np.pad(x, 1, mode="reflect")

    a, b, F = mirrored(A), mirrored(B), np.empty_like(A)
    for y in range(A.shape[0]):
        for x in range(A.shape[1]):
            p, q = a[y : y + 3, x : x + 3], b[y : y + 3, x : x + 3]
            e_a, e_b = (p * p).sum(), (q * q).sum()
            if 2 * (p * q).sum() > t * (e_a + e_b):
                F[y, x] = W[y, x] * A[y, x] + (1 - W[y, x]) * B[y, x]
            else:
                F[y, x] = A[y, x] if e_a > e_b else B[y, x]
    return F


@pytest.mark.parametrize("t", [-1.0, 0.0, 0.6, 1.0])
def test_rule_is_its_definition(t: float) -> None:
    rng = np.random.default_rng(0)
    A = rng.standard_normal((9, 7))
    B = 0.7 * A + 0.5 * rng.standard_normal((9, 7))
    W = rng.random((9, 7))
    fused = fuse_level(*(torch.from_numpy(x) for x in (A, B, W)), t)
    np.testing.assert_allclose(fused.numpy(), fuse_level_ref(A, B, W, t), atol=1e-14)


def test_equal_energies_give_the_mean() -> None:
    A = torch.ones(4, 4)
    torch.testing.assert_close(fuse_level(A, -A, torch.rand(4, 4), 0.6), torch.zeros(4, 4))


def test_exchange_changes_no_bit() -> None:
    generator = torch.Generator().manual_seed(0)
    A, B, W = (torch.rand(16, 16, generator=generator) for _ in range(3))
    W = (W * 1024).round() / 1024  # so that 1 - W is exact
    assert torch.equal(fuse_level(A, B, W, 0.6), fuse_level(B, A, 1 - W, 0.6))


def test_a_level_of_one_pixel() -> None:
    A, B = torch.tensor([[0.2]]), torch.tensor([[0.4]])
    assert fuse_level(A, B, torch.tensor([[0.25]]), 0.6).item() == pytest.approx(0.35)
