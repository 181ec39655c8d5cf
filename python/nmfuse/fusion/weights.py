"""The CNN weight map: block scores of the Siamese network, voted and spread over the pixels they cover."""

from __future__ import annotations

import torch
from torch import Tensor

from nmfuse.kernels import aggregate_blocks

BLOCK, STRIDE = 16, 2  # the network's patch and the step of its dense map, in pixels


def vote(S: Tensor, rule: str) -> Tensor:
    """Turn scores in [0, 1] into votes for image A: "soft" leaves them, "hard" gives 1 above 0.5, 0 below, 0.5 at it.

    References
    ----------
    Soft: Liu et al., FUSION 2017. Hard: Das et al., IJACSA 14 (2023), after Wang et al., Sensors 20 (2020) 2169.
    """
    return S if rule == "soft" else 0.5 + 0.5 * torch.sign(S - 0.5)


def cnn_weight_map(S: Tensor, rule: str, shape: tuple[int, int]) -> Tensor:
    """Return W_cnn (H, W): the mean vote of all 16 x 16 blocks, 2 pixels apart, that cover a pixel."""
    weight_map: Tensor = aggregate_blocks(vote(S, rule), BLOCK, STRIDE, shape)
    return weight_map
