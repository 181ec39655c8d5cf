"""The CUDA module: whether it can be used here, and if not, why."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Protocol, cast

from nmfuse.kernels._array import AnyArray
from nmfuse.kernels.errors import CudaUnavailable

if TYPE_CHECKING:
    from nmfuse.kernels._operations import Operations

    class CudaOperations(Operations, Protocol):
        """`nmfuse._cuda`: the operations, and what a machine has."""

        version: str
        toolkit: str
        architectures: str

        def why_not(self) -> str:
            """Return why no CUDA device can be used, empty where one can."""

        def devices(self) -> list[str]:
            """Return the names of the devices."""


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
        module = _load()
    except ImportError as error:
        return f"this build has no CUDA module ({error}); build it where nvcc is found, with NMFUSE_CUDA=ON"
    return module.why_not()


def describe() -> dict[str, str]:
    """Return toolkit, architectures and driver of the CUDA module, and the devices it sees, or why it sees none."""
    reason = why()
    try:
        module = _load()
    except ImportError:
        return {"cuda": f"not available: {reason}"}
    state = f"not available: {reason}" if reason else ", ".join(module.devices())
    return {"cuda": state, "cuda toolkit": module.toolkit, "cuda architectures": module.architectures}


def module_for(x: AnyArray) -> tuple[Operations, int]:
    """Return the CUDA module and the caller's current stream on the device of `x`.

    Raises
    ------
    CudaUnavailable
        With the reason, where CUDA cannot be used.
    """
    if reason := why():
        raise CudaUnavailable(f"the array is on a CUDA device, but nmfuse cannot use CUDA: {reason}")
    return _load(), x.stream() or 1  # 0 is no stream to DLPack; 1 is the legacy default stream


def _load() -> CudaOperations:
    return cast("CudaOperations", import_module("nmfuse._cuda"))
