"""The kernels with gradients: torch's way to hannmean, aggregate_blocks and NMF."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function

from nmfuse.kernels import aggregate_blocks, aggregate_blocks_adjoint, hannmean, hannmean_adjoint, nmf

_TINY = 1e-12


class _Hannmean(Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, size: int, mask: Tensor | None, options: dict[str, Any]) -> Tensor:
        ctx.size, ctx.mask = size, mask
        ctx.options = {name: value for name, value in options.items() if name != "outliers"}
        result: Tensor = hannmean(x.detach(), size, mask, **options)
        return result

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None, None]:
        return hannmean_adjoint(grads[0].detach().contiguous(), ctx.size, ctx.mask, **ctx.options), None, None, None


class _AggregateBlocks(Function):
    @staticmethod
    def forward(ctx: Any, scores: Tensor, block: int, stride: int, shape: tuple[int, int]) -> Tensor:
        ctx.arguments = block, stride, (scores.shape[-2], scores.shape[-1])
        result: Tensor = aggregate_blocks(scores.detach(), block, stride, shape)
        return result

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None, None]:
        return aggregate_blocks_adjoint(grads[0].detach().contiguous(), *ctx.arguments), None, None, None


def hannmean_layer(
    x: Tensor,
    size: int = 3,
    mask: Tensor | None = None,
    *,
    background: Tensor | None = None,
    outliers: float | None = None,
    spatial: int = 2,
) -> Tensor:
    """Apply `nmfuse.hannmean` with a gradient in x; its backward pass is the adjoint kernel.

    Which pixels are outliers depends on x, so `outliers` is refused where a gradient is asked for.

    Examples
    --------
    >>> x = torch.ones(1, 8, 8, requires_grad=True)
    >>> hannmean_layer(x).sum().backward()
    >>> float(x.grad.sum())
    64.0
    """
    if outliers is not None and x.requires_grad and torch.is_grad_enabled():
        raise TypeError("outliers: x requires grad, and what is an outlier has none; pass outliers=None or x.detach()")
    options: dict[str, Any] = {"background": background}
    if spatial != 2:
        options["spatial"] = spatial
    if outliers is not None:
        options["outliers"] = outliers
    result: Tensor = _Hannmean.apply(x, size, mask, options)  # type: ignore[no-untyped-call]
    return result


def aggregate_blocks_layer(scores: Tensor, block: int, stride: int, shape: tuple[int, int]) -> Tensor:
    """Apply `nmfuse.aggregate_blocks` with a gradient in the scores; its backward pass is the adjoint kernel.

    Examples
    --------
    >>> scores = torch.zeros(1, 3, 3, requires_grad=True)
    >>> aggregate_blocks_layer(scores, 4, 2, (8, 8)).sum().backward()
    >>> float(scores.grad.sum())
    64.0
    """
    result: Tensor = _AggregateBlocks.apply(scores, block, stride, shape)  # type: ignore[no-untyped-call]
    return result


def nmf_layer(V: Tensor, rank: int, *, iterations: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Factorize ``V ~ W H`` with a gradient in V: the one-step gradient.

    The kernel iterates without recording; the gradient is that of one more multiplicative update of each factor, from
    factors taken as given (Geng et al., "Is Attention Better Than Matrix Decomposition?", ICLR 2021). So memory and
    time of the backward pass do not grow with the iterations, the gradient is that of the fixed point to first order,
    and the factors are the same with and without a gradient.

    Parameters
    ----------
    V : Tensor (..., m, n)
        Non-negative.
    rank : int
        At most min(m, n).
    iterations : int
        Of the kernel.
    seed : int
        Of its start.

    Returns
    -------
    W : Tensor (..., m, r)
    H : Tensor (..., r, n)

    Examples
    --------
    >>> V = torch.rand(2, 6, 9, requires_grad=True)
    >>> W, H = nmf_layer(V, 2, iterations=10)
    >>> (W @ H).sum().backward()
    >>> V.grad.shape
    torch.Size([2, 6, 9])
    """
    W, H, _ = nmf(V.detach(), rank, max_iter=iterations, check_every=max(iterations, 1), tol=0, seed=seed)
    if not (torch.is_grad_enabled() and V.requires_grad):
        return W, H
    further_H = H * (W.mT @ V) / ((W.mT @ W) @ H).clamp_min(_TINY)
    further_W = W * (V @ further_H.mT) / (W @ (further_H @ further_H.mT)).clamp_min(_TINY)
    return _with_gradient_of(W, further_W), _with_gradient_of(H, further_H)


def _with_gradient_of(value: Tensor, step: Tensor) -> Tensor:
    """Return `value`, to the bit, with the gradient of `step`."""
    return value + (step - step.detach())
