"""Every way to fuse, one file each, one call shape; and the one registry of all of them by name."""

from nmfuse.methods.registry import METHODS, Row, make

__all__ = ["METHODS", "Row", "make"]
