"""The command line: ``nmfuse fuse``, ``nmfuse evaluate``, ``nmfuse train``, ``nmfuse demo``, ``nmfuse info``."""

from nmfuse.cli.app import main

__all__ = ["main"]
