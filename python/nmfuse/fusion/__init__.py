"""The fusion pipeline: two registered images in, one image out."""

from nmfuse.fusion.pipeline import Explanation, Fuser, fuse

__all__ = ["Explanation", "Fuser", "fuse"]
