"""The CUDA module: whether it can be used here, and if not, why."""

from __future__ import annotations

import sys
from functools import cache
from importlib import import_module
from typing import Any

from nmfuse.kernels import _array
from nmfuse.kernels._array import Array
from nmfuse.kernels.errors import CudaUnavailable


def is_available() -> bool:
    """Whether the kernels can run on a CUDA device here: module, driver and device are all there.

    Examples
    --------
    >>> import nmfuse
    >>> nmfuse.cuda.is_available() or bool(nmfuse.cuda.why())
    True
    """
    return why() == ""


def why() -> str:
    """Return the reason why CUDA is not available, or an empty string where it is."""
    try:
        problem: str = _load().why_not()
    except ImportError as error:
        return f"this build has no CUDA module ({error}); build it where nvcc is found, with NMFUSE_CUDA=ON"
    return problem


def describe() -> dict[str, str]:
    """Return toolkit, architectures and driver of the CUDA module, and the devices it sees, or why it sees none."""
    reason = why()
    try:
        module = _load()
    except ImportError:
        return {"cuda": f"not available: {reason}"}
    state = f"not available: {reason}" if reason else ", ".join(module.devices())
    return {"cuda": state, "cuda toolkit": module.toolkit, "cuda architectures": module.architectures}


def module_for(x: Array) -> tuple[Any, int]:
    """Return the CUDA module and the caller's current stream on the device of `x`.

    Raises
    ------
    CudaUnavailable
        With the reason, where CUDA cannot be used.
    """
    if reason := why():
        raise CudaUnavailable(f"the array is on a CUDA device, but nmfuse cannot use CUDA: {reason}")
    return _load(), _current_stream(x)


def _current_stream(x: Array) -> int:
    if _array.is_torch(x):
        handle = sys.modules["torch"].cuda.current_stream(x.device).cuda_stream
    else:
        cupy = sys.modules["cupy"]
        with cupy.cuda.Device(x.device.id):
            handle = cupy.cuda.get_current_stream().ptr
    return int(handle) or 1  # 0 is not a stream to DLPack; 1 is the legacy default stream


@cache
def _load() -> Any:
    return import_module("nmfuse._cuda")
