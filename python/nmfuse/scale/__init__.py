"""Images larger than memory."""

from nmfuse.scale.tiles import fuse_tiles

__all__ = ["fuse_tiles"]
