"""The CNN weight maps: block scores of the Siamese network, voted and spread over the pixels they cover."""

from __future__ import annotations

import torch
from torch import Tensor

from nmfuse.kernels import aggregate_blocks
from nmfuse.nets.siamese import PATCH, STRIDE, Siamese


def scores(features: Tensor, net: Siamese) -> Tensor:
    """Return, for each block and source, how likely it is the sharpest of the sources.

    The head is linear, so the network gives each source a response r of its own, and that of two sources is
    ``sigmoid(r_a - r_b)``. Of S sources it is the softmax of their responses.

    Parameters
    ----------
    features : Tensor (S, C, h, w)
        `Siamese.features` of the sources.
    net : Siamese

    Returns
    -------
    Tensor (S, h - 7, w - 7)
        In [0, 1]; they sum to one over the sources.
    """
    response = torch.cat([net.response(x) for x in torch.split(features, 1)])
    if len(response) == 2:
        margin = response - response.flip(0)
    else:
        rest = [torch.cat([response[:s], response[s + 1 :]]).logsumexp(0) for s in range(len(response))]
        margin = response - torch.stack(rest)
    upper = torch.sigmoid(margin.abs())  # in [0.5, 1], where 1 - s is exact
    return torch.where(margin < 0, 1 - upper, upper)


def weight_map(block_scores: Tensor, rule: str, shape: tuple[int, int]) -> Tensor:
    """Return W_cnn (S, H, W): the mean vote of all 16 x 16 blocks, 2 pixels apart, that cover a pixel.

    The votes are the scores as they are ("soft"), or one for the greatest and nothing for the others, shared where
    several are as great ("hard").

    References
    ----------
    Soft: Liu et al., FUSION 2017. Hard: Das et al., IJACSA 14 (2023), after Wang et al., Sensors 20 (2020) 2169.
    """
    votes = block_scores
    if rule == "hard":
        first = (block_scores == block_scores.amax(0)).to(block_scores.dtype)
        votes = first / first.sum(0)
    result: Tensor = aggregate_blocks(votes.contiguous(), PATCH, STRIDE, shape)
    return result
