"""The networks, and their weights."""

from nmfuse.nets.deep_branch import DeepBranch
from nmfuse.nets.fusion_net import FusionNet, load_fusion
from nmfuse.nets.siamese import Siamese, load, multiply_adds

__all__ = ["DeepBranch", "FusionNet", "Siamese", "load", "load_fusion", "multiply_adds"]
