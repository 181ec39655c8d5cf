"""The version and what this build and machine can do."""

from __future__ import annotations

import platform
import sys
from importlib import import_module, metadata
from importlib.util import find_spec

from nmfuse.kernels import cuda

__version__ = metadata.version("nmfuse")


def config() -> dict[str, str]:
    """Return what a bug report should start with: version, compiler, flags, instruction set, threads, torch, CUDA.

    Examples
    --------
    >>> import nmfuse
    >>> nmfuse.config()["nmfuse"] == nmfuse.__version__
    True
    """
    cpu = import_module("nmfuse._cpu")
    return {
        "nmfuse": __version__,
        "python": f"{platform.python_version()} ({sys.executable})",
        "platform": platform.platform(),
        "numpy": metadata.version("numpy"),
        "torch": metadata.version("torch") if find_spec("torch") else "not installed (needed by nmfuse.fuse)",
        "compiler": cpu.compiler,
        "flags": cpu.flags,
        "instruction set": f"{cpu.isa()} (NMFUSE_FORCE_ISA=baseline|avx2|avx512 forces another)",
        "threads": f"{cpu.num_threads()} (NMFUSE_NUM_THREADS, nmfuse.set_num_threads)",
    } | cuda.describe()


def show_config() -> None:
    """Print the entries of `config`, one on each line."""
    for name, value in config().items():
        print(f"{name:>18}: {value}")
