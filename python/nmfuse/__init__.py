"""nmfuse: fusion of registered images with a Siamese CNN and two-stage non-negative matrix factorization."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from nmfuse.kernels import (
    CudaError,
    CudaUnavailable,
    NmfInfo,
    NmfRuns,
    aggregate_blocks,
    aggregate_blocks_adjoint,
    cuda,
    detect_background,
    hannmean,
    hannmean_adjoint,
    nmf,
    nmf_runs,
    nmf_stream,
    num_threads,
    set_num_threads,
    window_information,
)
from nmfuse.version import __version__, config, show_config

if TYPE_CHECKING:
    from nmfuse.fuser import Explanation, Fuser, fuse
    from nmfuse.images import Image

__all__ = [
    "CudaError",
    "CudaUnavailable",
    "Explanation",
    "Fuser",
    "Image",
    "NmfInfo",
    "NmfRuns",
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
    "nmf_runs",
    "nmf_stream",
    "num_threads",
    "set_num_threads",
    "show_config",
    "window_information",
]

_LAZY = {  # these need torch or more, which loads on first use
    "Explanation": "nmfuse.fuser",
    "Fuser": "nmfuse.fuser",
    "Image": "nmfuse.images",
    "fuse": "nmfuse.fuser",
}
_SUBPACKAGES = (
    "align", "classify", "cli", "compare", "data", "images", "integrations", "io", "methods", "metrics", "nets", "ops",
    "pyramids", "scale", "sklearn", "training",
)  # fmt: skip
_MOVED = {  # what had another name before 0.2
    "baselines": "nmfuse.methods; call nmfuse.fuse(a, b, method=NAME)",
    "fusion": "nmfuse.fuse, nmfuse.Fuser, nmfuse.Explanation and nmfuse.images",
}


def __getattr__(name: str) -> Any:
    if name in _MOVED:
        raise AttributeError(f"nmfuse.{name}: is {_MOVED[name]} now")
    if name not in _LAZY and name not in _SUBPACKAGES:
        raise AttributeError(f"module 'nmfuse' has no attribute {name!r}")
    try:
        module = import_module(_LAZY.get(name, f"nmfuse.{name}"))
    except ModuleNotFoundError as error:
        if error.name != "torch":
            raise
        raise ModuleNotFoundError(f"nmfuse.{name} needs torch; pip install torch", name="torch") from error
    return getattr(module, name) if name in _LAZY else module
