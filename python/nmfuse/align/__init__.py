"""Sources onto one grid: what has to be done before images that do not lie on one another can be fused."""

from nmfuse.align.registration import register
from nmfuse.align.resampling import resample
from nmfuse.align.transform import Transform

__all__ = ["Transform", "register", "resample"]
