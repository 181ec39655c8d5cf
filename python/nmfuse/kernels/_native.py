"""Which native module runs an operation: `_cpu` for arrays on the CPU, `_cuda` for arrays on a CUDA device."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from functools import cache
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING, cast

from nmfuse.kernels import cuda
from nmfuse.kernels._array import CPU, CUDA, AnyArray, Array, take
from nmfuse.kernels.checks import is_whole

if TYPE_CHECKING:
    from nmfuse.kernels._operations import CpuOperations, Operations


@cache  # looking for what is imported already costs as much as a small filter
def _module(name: str) -> ModuleType:
    for interpreters in ("_interpreters", "_xxsubinterpreters"):  # of Python 3.13 on, and before
        with suppress(ModuleNotFoundError):
            found = import_module(interpreters)
            if found.get_current() != found.get_main():
                raise ImportError("nmfuse does not work in a subinterpreter; use a thread or a process of its own")
    return import_module(name)


_cpu_module: ContextVar[str] = ContextVar("_cpu_module", default="nmfuse._cpu")


def native_for(x: AnyArray | Array) -> tuple[Operations, int | None]:
    """Return the native module for the device that `x` is on, and the caller's current stream there."""
    if not isinstance(x, AnyArray):
        x = take(x, "x")
    kind, _ = x.device
    if kind == CPU:
        return cast("Operations", _module(_cpu_module.get())), None
    if kind == CUDA:
        return cuda.module_for(x)
    raise ValueError(f"the array is on DLPack device type {kind}; expected the CPU (1) or a CUDA device (2)")


@contextmanager
def cpu_arrays_run_on(module: str) -> Iterator[None]:
    """Run operations on CPU arrays by another native module with the same table (for the tests)."""
    token = _cpu_module.set(module)
    try:
        yield
    finally:
        _cpu_module.reset(token)


def num_threads() -> int:
    """Return how many threads the CPU kernels use.

    It is the least of the affinity mask, ``NMFUSE_NUM_THREADS`` and ``OMP_NUM_THREADS``, unless `set_num_threads` was
    called.
    """
    return cpu_operations().num_threads()


def set_num_threads(n: int | None) -> None:
    """Set how many threads the CPU kernels use; their results do not depend on it.

    Parameters
    ----------
    n : int or None
        The number of threads, at least 1; None returns to the default.

    Raises
    ------
    ValueError
        If `n` is less than 1.

    Examples
    --------
    >>> import nmfuse
    >>> nmfuse.set_num_threads(2)
    >>> nmfuse.num_threads()
    2
    >>> nmfuse.set_num_threads(None)
    """
    if n is not None and (not is_whole(n) or n < 1):
        raise ValueError(f"n: got {n!r}; expected an int of at least 1, or None for the default")
    cpu_operations().set_num_threads(n or 0)


def dtypes() -> dict[str, tuple[str, ...]]:
    """Return the dtypes that each operation takes on the CPU; on a CUDA device they may be fewer."""
    return cpu_operations().dtypes


def max_hann_size() -> int:
    """Return the longest window of `hannmean`."""
    return cpu_operations().max_hann_size


def cpu_operations() -> CpuOperations:
    """Return the native module of the CPU, with what it alone has."""
    return cast("CpuOperations", _module("nmfuse._cpu"))
