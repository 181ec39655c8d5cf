"""The methods that image fusion is compared with, one file each, all called as ``fuse(a, b, method, **params)``."""

from nmfuse.baselines.registry import METHODS, Method, fuse

__all__ = ["METHODS", "Method", "fuse"]
