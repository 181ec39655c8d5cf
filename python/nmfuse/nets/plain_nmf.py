"""NMF as operations of torch alone: for programs that run where nmfuse is not, such as ONNX files."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from nmfuse.kernels.nmf import FLOOR


def plain_nmf(V: Tensor, rank: int, *, iterations: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Factorize ``V ~ W H`` as `nmfuse.ops.nmf` does, slower, and equal to rounding; the loop is written out.

    Parameters
    ----------
    V : float Tensor (..., m, n)
        Non-negative.
    rank, iterations, seed : int
        As for `nmfuse.ops.nmf`.

    Returns
    -------
    W : Tensor (..., m, r)
        Unit columns.
    H : Tensor (..., r, n)
        Sorted by falling length.

    Examples
    --------
    >>> from nmfuse import ops
    >>> V = torch.rand(6, 9)
    >>> W, H = plain_nmf(V, 2, iterations=10)
    >>> expected, _ = ops.nmf(V, 2, iterations=10)
    >>> bool(torch.allclose(W, expected, atol=1e-4))
    True
    """
    *batch, m, n = V.shape
    rng = np.random.default_rng(seed)
    scale = (V.mean((-2, -1), keepdim=True) / rank).sqrt()
    W, H = (
        (torch.from_numpy(np.abs(rng.standard_normal((*batch, *shape)))).to(V) * scale).clamp_min(FLOOR)
        for shape in ((m, rank), (rank, n))
    )
    for _ in range(iterations):
        H = (H * (W.mT @ V) / ((W.mT @ W) @ H).clamp_min(FLOOR)).clamp_min(FLOOR)
        W = (W * (V @ H.mT) / (W @ (H @ H.mT)).clamp_min(FLOOR)).clamp_min(FLOOR)
    length = W.square().sum(-2, keepdim=True).sqrt()
    W, H = W / length, H * length.mT
    order = H.square().sum(-1).argsort(-1, descending=True)
    return (
        W.gather(-1, order[..., None, :].expand_as(W)),
        H.gather(-2, order[..., :, None].expand_as(H)),
    )
