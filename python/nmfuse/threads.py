"""How many threads torch takes for small steps on the CPU."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

import torch

# The threads of torch do not survive fork(): a child that asked for them would wait for ever.
os.register_at_fork(after_in_child=lambda: torch.set_num_threads(1))


@contextmanager
def torch_on_one_thread() -> Iterator[None]:
    """Let torch work on one thread where the caller is; other threads, and our own kernels, keep theirs.

    torch divides every step on more than 32768 numbers among the threads of OpenMP, which spin until the last of them
    is done: on a machine whose cores are busy with other work, a step of microseconds takes as long as a turn of the
    scheduler. What is set here is OpenMP's own setting of the calling thread, which `torch.set_num_threads` sets too,
    together with that of all threads to come. Nothing is set where OpenMP is not found.

    Examples
    --------
    >>> import torch
    >>> with torch_on_one_thread():
    ...     torch.get_num_threads()
    1
    """
    openmp = _openmp()
    before = 1 if openmp is None else openmp.omp_get_max_threads()
    if before == 1:
        yield
        return
    openmp.omp_set_num_threads(1)
    try:
        yield
    finally:
        openmp.omp_set_num_threads(before)


@cache
def _openmp() -> Any:
    """Return the OpenMP library that torch has loaded, or None."""
    loaded = ctypes.CDLL(None) if hasattr(ctypes, "pythonapi") else None
    return loaded if loaded is not None and hasattr(loaded, "omp_set_num_threads") else None
