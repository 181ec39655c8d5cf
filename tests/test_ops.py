"""Gradients of the operations over the kernels, against finite differences and the definition."""

from __future__ import annotations

import pytest
import torch
from torch.autograd import gradcheck

from nmfuse.kernels import aggregate_blocks, hannmean, nmf
from nmfuse.ops import aggregate_blocks_layer, hannmean_layer, nmf_layer


def rand(*shape, seed=0):
    return torch.rand(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("size", [3, 7])
@pytest.mark.parametrize("masked", [False, True])
def test_hannmean(size, masked):
    x = rand(2, 6, 9).requires_grad_()
    mask = rand(2, 6, 9, seed=1) > 0.3 if masked else None
    torch.testing.assert_close(hannmean_layer(x, size, mask), hannmean(x.detach(), size, mask))
    assert gradcheck(lambda x: hannmean_layer(x, size, mask), x)


@pytest.mark.parametrize(("block", "stride", "shape"), [(4, 2, (9, 11)), (3, 3, (10, 8)), (2, 3, (9, 12))])
def test_aggregate_blocks(block, stride, shape):
    scores = rand(2, 3, 3).requires_grad_()
    expected = aggregate_blocks(scores.detach(), block, stride, shape)
    torch.testing.assert_close(aggregate_blocks_layer(scores, block, stride, shape), expected)
    assert gradcheck(lambda s: aggregate_blocks_layer(s, block, stride, shape), scores)


def test_hannmean_takes_what_the_kernel_takes():
    x, background = rand(2, 9, 8), rand(2, 9, 8, seed=1) > 0.7
    expected = hannmean(x, 3, background=background, outliers=3.0)
    torch.testing.assert_close(hannmean_layer(x, 3, background=background, outliers=3.0), expected)
    graded = hannmean_layer(x.requires_grad_(), 3, background=background)
    torch.testing.assert_close(graded, hannmean(x.detach(), 3, background=background))
    with pytest.raises(TypeError, match="outliers: x requires grad, and what is an outlier has none"):
        hannmean_layer(x, 3, outliers=3.0)
    with torch.no_grad():
        torch.testing.assert_close(hannmean_layer(x, 3, background=background, outliers=3.0), expected)


def test_gradients_that_are_not_contiguous():
    x = rand(5, 7).requires_grad_()
    hannmean_layer(x).T.square().sum().backward()
    y = x.detach().clone().requires_grad_()
    hannmean_layer(y).square().sum().backward()
    torch.testing.assert_close(x.grad, y.grad)


def test_nmf_layer_without_gradient_is_the_kernel():
    V = rand(2, 6, 9)
    W, H = nmf_layer(V, 3, iterations=15)
    expected_W, expected_H, _ = nmf(V, 3, max_iter=15, tol=0)
    assert torch.equal(W, expected_W)
    assert torch.equal(H, expected_H)


def test_nmf_layer_has_the_one_step_gradient():
    V = rand(2, 6, 9).requires_grad_()
    W0, H0, _ = nmf(V.detach(), 3, max_iter=15, tol=0)

    def one_step(V):  # from factors that are taken as given
        H = H0 * (W0.mT @ V) / (W0.mT @ W0 @ H0)
        return W0 * (V @ H.mT) / (W0 @ H @ H.mT), H

    assert gradcheck(one_step, V)
    for got, kernels in zip(nmf_layer(V, 3, iterations=15), (W0, H0), strict=True):
        assert torch.equal(got.detach(), kernels)  # as without a gradient
    for got, wanted in zip(nmf_layer(V, 3, iterations=15), one_step(V), strict=True):
        probe = rand(*got.shape, seed=5)
        gradients = [torch.autograd.grad((x * probe).sum(), V, retain_graph=True)[0] for x in (got, wanted)]
        torch.testing.assert_close(*gradients)
        assert gradients[0].abs().max() > 0


def test_the_one_step_gradient_points_along_the_true_one():
    V = (rand(8, 2) @ rand(2, 30, seed=1) + 0.05).requires_grad_()
    probe = rand(8, 30, seed=2)

    def value(V):
        W, H, _ = nmf(V, 2, max_iter=3000, check_every=3000, tol=0)
        return float((W @ H * probe).sum())

    W, H = nmf_layer(V, 2, iterations=3000)
    gradient = torch.autograd.grad((W @ H * probe).sum(), V)[0]
    direction = rand(8, 30, seed=3) - 0.5
    step = 1e-5
    with torch.no_grad():
        true = (value(V + step * direction) - value(V - step * direction)) / (2 * step)
    assert float((gradient * direction).sum()) == pytest.approx(true, rel=0.3)


def test_zeros_give_finite_gradients():
    V = torch.zeros(4, 6, dtype=torch.float64, requires_grad=True)
    W, H = nmf_layer(V, 2, iterations=5)
    (W.sum() + H.sum()).backward()
    assert V.grad.isfinite().all()
