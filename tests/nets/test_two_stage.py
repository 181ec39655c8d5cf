"""Two-stage NMF: what is known of it, whatever factorizes."""

from __future__ import annotations

import pytest
import torch

from nmfuse.kernels import nmf
from nmfuse.nets.two_stage import others, two_stage

CHANNELS, PLACES = 6, 40


def features(count, *batch, seed=0):
    shape = (count, *batch, CHANNELS, PLACES)
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def factorize(V, rank):
    return nmf(V, rank, max_iter=30, tol=0)[:2]


def length(A):
    return A.norm(dim=-2, keepdim=True)


def stages(V, rank=5, rank2=2, **options):
    return two_stage(V, rank, rank2, factorize, length=length, silent=1e-8, **options)


def test_the_others_of_two_are_the_other():
    x = features(2)
    assert torch.equal(others(x), x.flip(0))


@pytest.mark.parametrize("count", [3, 4, 9])
def test_the_others_are_the_mean_of_the_rest(count):
    x = features(count)
    for s, rest in enumerate(others(x)):
        expected = torch.cat([x[:s], x[s + 1 :]]).mean(0)
        torch.testing.assert_close(rest, expected, rtol=0, atol=1e-14)
    x[0] = 1e12  # no difference to the sum of all: what is small beside it would be lost
    torch.testing.assert_close(others(x)[0], x[1:].mean(0), rtol=0, atol=1e-14)


@pytest.mark.parametrize("count", [2, 3, 5])
def test_the_others_of_copies_are_the_copy(count):
    x = features(1).expand(count, CHANNELS, PLACES)
    torch.testing.assert_close(others(x), x, rtol=0, atol=1e-15)


@pytest.mark.parametrize("batch", [(), (2,)])
@pytest.mark.parametrize("count", [2, 3, 5])
def test_both_stages_are_what_they_are_said_to_be(count, batch):
    V = features(count, *batch)
    both = stages(V)
    assert both.A.shape == (count, *batch, CHANNELS, 5)
    assert both.B.shape == (*batch, 5, PLACES)
    assert both.norms.shape == both.share.shape == (count, *batch, 1, 5)
    assert both.A2.shape == (*batch, CHANNELS, 2)
    assert (both.kept.all(), both.kept.shape) == (True, (5,))

    joint_A, B = factorize(torch.cat(list(V), dim=-2), 5)  # stage 1: one factorization of all, one above the other
    torch.testing.assert_close(torch.cat(list(both.A), dim=-2), joint_A, rtol=0, atol=0)
    torch.testing.assert_close(both.B, B, rtol=0, atol=0)
    error = (torch.cat(list(both.A @ both.B), dim=-2) - torch.cat(list(V), dim=-2)).norm() / V.norm()
    assert error < 0.5

    torch.testing.assert_close(both.norms, both.A.norm(dim=-2, keepdim=True))
    torch.testing.assert_close(both.share, both.norms / both.norms.sum(0))
    torch.testing.assert_close(both.A_F, (both.share * both.A).sum(0))
    torch.testing.assert_close(both.P_F, both.A_F @ both.B)
    torch.testing.assert_close(both.A2, factorize(both.P_F, 2)[0], rtol=0, atol=0)


@pytest.mark.parametrize("count", [2, 3, 5, 24])
def test_shares_sum_to_one(count):
    V = features(count)
    V[0] = 0  # black: it has no share
    both = stages(V)
    total = both.share.sum(0)
    torch.testing.assert_close(total, torch.ones_like(total), rtol=0, atol=1e-15)
    assert (both.share[1:] >= -1e-15).all()
    assert both.share[0].abs().max() < 1e-9


def test_black_sources_give_finite_parts():
    both = stages(torch.zeros(3, CHANNELS, PLACES, dtype=torch.float64))
    for x in (both.share, both.A_F, both.P_F, both.A2, both.discriminativeness):
        assert x.isfinite().all()
    torch.testing.assert_close(both.share.sum(0), torch.ones(1, 5, dtype=torch.float64))
    assert both.P_F.abs().max() < 1e-6


def known(A, B):
    """Return a factorization whose first result is known: A (S, C, r), B (r, P)."""

    def given(V, rank):
        return (torch.cat(list(A)), B) if V.shape[-2] == A.shape[0] * A.shape[1] else factorize(V, rank)

    return given


@pytest.mark.parametrize("count", [2, 3, 5])
def test_a_basis_that_all_have_alike_is_nobodys_own(count):
    A = features(1)[:, :, :4].expand(count, CHANNELS, 4)
    both = two_stage(A @ features(1)[0, :4], 4, 2, known(A, features(1)[0, :4]), length=length, silent=1e-8)
    torch.testing.assert_close(both.share, torch.full_like(both.share, 1 / count))
    assert both.discriminativeness.abs().max() < 1e-12
    torch.testing.assert_close(both.A_F, A[0])


@pytest.mark.parametrize("count", [2, 3, 5])
def test_what_one_source_alone_has_is_its_own_and_tells_most(count):
    """One basis of all, and one of each: the shares, and how much each component tells, say so."""
    A = torch.zeros(count, CHANNELS, count + 1, dtype=torch.float64)
    A[:, 0, 0] = 3
    for s in range(count):
        A[s, 1 + s, 1 + s] = 2
    B = features(1)[0, :1].expand(count + 1, PLACES)
    both = two_stage(A @ B, count + 1, 2, known(A, B), length=length, silent=1e-8, keep=count)
    torch.testing.assert_close(both.share[:, 0, 0], torch.full((count,), 1 / count, dtype=torch.float64))
    torch.testing.assert_close(both.share[:, 0, 1:], torch.eye(count, dtype=torch.float64))
    told = both.discriminativeness
    assert told[0] < 1e-12
    torch.testing.assert_close(told[1:], 2 * B[0].norm().expand(count))
    assert both.kept.all()  # the common one by its energy, the others by what they tell
    expected = A.sum(0)
    expected[0, 0] = 3
    torch.testing.assert_close(both.A_F, expected)


def test_without_the_second_stage_the_fused_bases_are_the_parts():
    V = features(3)
    none = stages(V, rank2=0)
    assert torch.equal(none.A2, none.A_F)
    torch.testing.assert_close(none.A_F, stages(V).A_F)
    kept = stages(V, rank2=0, keep=1)
    assert torch.equal(kept.A2, kept.A_F[:, kept.kept])


@pytest.mark.parametrize("keep", [0, 1, 3, 5, 99])
def test_components_of_median_energy_and_the_most_telling_are_kept(keep):
    both = stages(features(3), keep=keep)
    energy = torch.cat(list(both.A), dim=-2).norm(dim=-2) * both.B.norm(dim=-1)
    telling = both.discriminativeness
    torch.testing.assert_close(telling, (3 * both.share[:, 0] - 1).abs().amax(0) / 2 * energy)
    expected = (energy >= energy.median()) | (telling >= telling.sort(descending=True).values[min(keep, 5) - 1])
    if keep == 0:
        expected = energy >= energy.median()
    assert torch.equal(both.kept, expected)
    torch.testing.assert_close(both.P_F, both.A_F[:, both.kept] @ both.B[both.kept])


@pytest.mark.parametrize("count", [2, 4])
def test_ranks_are_lowered_to_what_there_is(count):
    V = features(count)[:, :3, :5]
    both = stages(V, rank=64, rank2=64)
    assert both.B.shape == (min(3 * count, 5), 5)
    assert both.A2.shape == (3, 3)


def test_gradients_reach_the_features():
    V = features(3).requires_grad_()

    def one_step(V, rank):
        W, H = factorize(V.detach(), rank)
        return W * (V @ H.mT) / (W @ (H @ H.mT)), H

    both = two_stage(V, 4, 2, one_step, length=length, silent=0.0)
    both.A2.square().sum().backward()
    assert V.grad.isfinite().all()
    assert (V.grad.abs().amax((1, 2)) > 0).all()
