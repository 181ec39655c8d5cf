"""A branch for classification: the slight network's convolutions, normalized, and a residual block."""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn
from torch.nn import functional

from nmfuse.nets.siamese import load


class DeepBranch(nn.Module):
    """Three convolutions that start at the focus weights, and a residual block: maps at an eighth of the size.

    conv 3x3, max-pool 2, conv 3x3, max-pool 2, separable conv 3x3, residual block of stride 2; a batch normalization
    follows each convolution, where there is one after its max-pool, and a ReLU each stage.

    Parameters
    ----------
    width : int
        The number of channels of the maps.

    References
    ----------
    He, Zhang, Ren, Sun, CVPR 2016 (residual block); Ioffe & Szegedy, ICML 2015 (batch normalization).

    Examples
    --------
    >>> DeepBranch()(torch.rand(2, 1, 96, 96)).shape
    torch.Size([2, 96, 12, 12])
    """

    def __init__(self, width: int = 96) -> None:
        super().__init__()
        self.width = width
        focus = copy.deepcopy(load("lite"))
        self.conv1, self.conv2, self.conv3 = focus.conv1, focus.conv2, focus.conv3
        self.norm1, self.norm2, self.norm3 = nn.BatchNorm2d(16), nn.BatchNorm2d(32), nn.BatchNorm2d(64)
        self.conv4, self.norm4 = nn.Conv2d(64, width, 3, 2, 1, bias=False), nn.BatchNorm2d(width)
        self.conv5, self.norm5 = nn.Conv2d(width, width, 3, 1, 1, bias=False), nn.BatchNorm2d(width)
        self.skip, self.norm_skip = nn.Conv2d(64, width, 1, 2, bias=False), nn.BatchNorm2d(width)
        self.requires_grad_(True)
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def forward(self, x: Tensor) -> Tensor:
        """Return the non-negative maps (N, width, H/8, W/8) of images (N, 1, H, W)."""
        x = functional.relu(self.norm1(functional.max_pool2d(self.conv1(x), 2)))
        x = functional.relu(self.norm2(functional.max_pool2d(self.conv2(x), 2)))
        x = functional.relu(self.norm3(self.conv3(x)))
        inner = self.norm5(self.conv5(functional.relu(self.norm4(self.conv4(x)))))
        return functional.relu(inner + self.norm_skip(self.skip(x)))
