"""Muon: its rule by hand, and what makes it different."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from nmfuse.training.loops import OneCycle
from nmfuse.training.muon import Muon, orthogonalize


@pytest.mark.parametrize("shape", [(4, 30), (30, 4), (16, 16), (1, 9)])
def test_singular_values_come_near_one_and_their_vectors_stay(shape):
    rng = np.random.default_rng(3)
    u, _, vt = np.linalg.svd(rng.standard_normal(shape), full_matrices=False)
    matrix = torch.from_numpy(u * np.geomspace(1, 0.006, len(vt)) @ vt)
    made = u.T @ orthogonalize(1e-3 * matrix).numpy() @ vt.T
    assert np.abs(np.diag(made) - 1).max() < 0.35
    np.testing.assert_allclose(made - np.diag(np.diag(made)), 0, atol=1e-10)


def test_what_is_next_to_nothing_stays_small():
    assert (orthogonalize(torch.zeros(3, 5)) == 0).all()
    faint = torch.diag(torch.tensor([1.0, 1e-4]))
    assert orthogonalize(faint)[1, 1] < 0.1


def test_matches_the_written_rule():
    net, target = nn.Conv2d(2, 3, 3).double(), torch.linspace(-1, 1, 54, dtype=torch.float64).reshape(3, 2, 3, 3)
    optimizer = Muon(net.parameters(), lr=0.01)
    adam = torch.optim.Adam([bias := nn.Parameter(net.bias.detach().clone())], lr=0.01)
    w, m = net.weight.detach().clone(), torch.zeros(3, 18, dtype=torch.float64)
    for _ in range(4):
        optimizer.zero_grad()
        ((net.weight - target).square().sum() + net.bias.square().sum()).backward()
        optimizer.step()
        g = 2 * (w - target).reshape(3, 18)
        m = 0.95 * m + 0.05 * g
        w = w - (0.01 * 0.2 * 18**0.5 * orthogonalize(0.05 * g + 0.95 * m)).reshape(w.shape)
        bias.grad = 2 * bias.detach()
        adam.step()
    torch.testing.assert_close(net.weight.detach(), w, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(net.bias, bias, rtol=0, atol=0)


def test_a_closure_is_refused():
    with pytest.raises(ValueError, match="closure: is not supported"):
        Muon([nn.Parameter(torch.zeros(2, 2))], lr=0.1).step(lambda: 0.0)


def test_the_schedule_makes_it_and_allows_no_decay():
    net = nn.Linear(2, 2)
    assert isinstance(OneCycle(10, 0.1, muon=True).optimizer(net), Muon)
    assert isinstance(OneCycle(10, 0.1, 0.01).optimizer(net), torch.optim.AdamW)
    with pytest.raises(ValueError, match=r"weight_decay: got 0\.01; expected 0 with muon"):
        OneCycle(10, 0.1, 0.01, muon=True)
