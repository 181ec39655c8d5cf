"""The networks, and their weights."""

from nmfuse.nets.siamese import Siamese, load, multiply_adds

__all__ = ["Siamese", "load", "multiply_adds"]
