"""Sources onto one grid: what has to be done before images of unlike grids can be fused."""

from nmfuse.align.resampling import resample

__all__ = ["resample"]
