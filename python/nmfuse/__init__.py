"""nmfuse: fusion of registered images with a Siamese CNN and two-stage non-negative matrix factorization."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from nmfuse.kernels import (
    CudaError,
    CudaUnavailable,
    NmfInfo,
    aggregate_blocks,
    aggregate_blocks_adjoint,
    cuda,
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
    "cuda",
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
_SUBPACKAGES = ("baselines", "compare", "data", "fusion", "io", "metrics", "nets", "pyramids", "training")


def __getattr__(name: str) -> Any:
    if name not in _LAZY and name not in _SUBPACKAGES:
        raise AttributeError(f"module 'nmfuse' has no attribute {name!r}")
    try:
        module = import_module(_LAZY.get(name, f"nmfuse.{name}"))
    except ModuleNotFoundError as error:
        if error.name != "torch":
            raise
        raise ModuleNotFoundError(f"nmfuse.{name} needs torch; pip install torch", name="torch") from error
    return getattr(module, name) if name in _LAZY else module
