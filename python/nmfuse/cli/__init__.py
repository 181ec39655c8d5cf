"""The command line: ``nmfuse fuse``, ``nmfuse train focus``, ``nmfuse demo``, ``nmfuse info``."""

from nmfuse.cli.app import main

__all__ = ["main"]
