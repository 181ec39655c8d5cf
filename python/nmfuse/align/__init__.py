"""Sources onto one grid: what has to be done before images that do not lie on one another can be fused."""

from nmfuse.align.checking import Registration, check
from nmfuse.align.matching import match
from nmfuse.align.registration import register
from nmfuse.align.resampling import resample
from nmfuse.align.resizing import resize
from nmfuse.align.transform import Transform

__all__ = ["Registration", "Transform", "check", "match", "register", "resample", "resize"]
