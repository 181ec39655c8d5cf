"""Muon: an optimizer that learns every direction of a weight matrix at the same rate."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor

_MOMENTUM = 0.95
_SIZE = 0.2  # root mean square of an update at rate 1: about Adam's
_QUINTIC = (3.4445, -4.7750, 2.0315)  # brings all but the least singular values to 0.68 to 1.2 in five steps


class Muon(torch.optim.Adam):
    """Muon for matrices and convolutions, one row an output channel; Adam for what has one axis, such as biases.

    ``m <- 0.95 m + 0.05 g``, ``w <- w - lr 0.2 sqrt(max(rows, columns)) orthogonalize(0.05 g + 0.95 m)``.

    References
    ----------
    Jordan et al., "Muon: An optimizer for hidden layers in neural networks", 2024; Liu et al., "Muon is scalable for
    LLM training", arXiv:2502.16982 (the factor 0.2 sqrt).
    """

    def __init__(self, params: Iterable[Tensor], lr: float) -> None:
        super().__init__(params, lr)

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        """Take a step by the gradients; those of matrices are gone after it."""
        if closure is not None:
            raise ValueError("closure: is not supported; leave it out")
        for group in self.param_groups:
            for weight in group["params"]:
                if weight.ndim > 1 and weight.grad is not None:
                    state, gradient = self.state[weight], weight.grad
                    if not state:
                        state["momentum"] = torch.zeros_like(weight)
                    state["momentum"].lerp_(gradient, 1 - _MOMENTUM)
                    update = gradient.lerp(state["momentum"], _MOMENTUM).flatten(1)
                    rate = group["lr"] * _SIZE * max(update.shape) ** 0.5
                    weight.sub_(rate * orthogonalize(update).reshape(weight.shape))
                    weight.grad = None  # Adam leaves it alone
        super().step()


def orthogonalize(matrix: Tensor) -> Tensor:
    """Return a matrix (m, n) of the same singular vectors, its singular values near 1, by Newton and Schulz.

    Values below about a 500th of the norm stay smaller.
    """
    if len(matrix) > matrix.shape[1]:
        return orthogonalize(matrix.T).T
    x: Tensor = matrix / matrix.norm().clamp_min(1e-12)
    a, b, c = _QUINTIC
    for _ in range(5):
        square = x @ x.T
        x = a * x + (b * square + c * square @ square) @ x
    return x
