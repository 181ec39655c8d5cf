"""Images larger than memory, and matrices larger than one machine."""

from nmfuse.scale.distributed import nmf_distributed
from nmfuse.scale.factorization import nmf
from nmfuse.scale.tiles import fuse_tiles

__all__ = ["fuse_tiles", "nmf", "nmf_distributed"]
