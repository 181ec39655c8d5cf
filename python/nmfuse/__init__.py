"""nmfuse: fusion of registered images with a Siamese CNN and two-stage non-negative matrix factorization."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from nmfuse.kernels import (
    CudaError,
    CudaUnavailable,
    NmfInfo,
    aggregate_blocks,
    aggregate_blocks_adjoint,
    detect_background,
    hannmean,
    hannmean_adjoint,
    nmf,
    num_threads,
    set_num_threads,
)
from nmfuse.version import __version__, config, show_config

if TYPE_CHECKING:
    from nmfuse.fusion import Fuser, fuse

__all__ = [
    "CudaError",
    "CudaUnavailable",
    "Fuser",
    "NmfInfo",
    "__version__",
    "aggregate_blocks",
    "aggregate_blocks_adjoint",
    "config",
    "detect_background",
    "fuse",
    "hannmean",
    "hannmean_adjoint",
    "nmf",
    "num_threads",
    "set_num_threads",
    "show_config",
]

_LAZY = {"fuse": "nmfuse.fusion", "Fuser": "nmfuse.fusion"}  # these need torch, which loads on first use
_SUBPACKAGES = ("data", "fusion", "io", "metrics", "nets", "pyramids", "training")


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        return getattr(import_module(_LAZY[name]), name)
    if name in _SUBPACKAGES:
        return import_module(f"nmfuse.{name}")
    raise AttributeError(f"module 'nmfuse' has no attribute {name!r}")
