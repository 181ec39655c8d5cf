"""The networks, and their weights."""

import nmfuse.threads  # noqa: F401  # a forked child has one thread of torch
from nmfuse.nets.deep_branch import DeepBranch
from nmfuse.nets.fusion_net import FusionNet, load_fusion
from nmfuse.nets.siamese import Siamese, load, multiply_adds

__all__ = ["DeepBranch", "FusionNet", "Siamese", "load", "load_fusion", "multiply_adds"]
