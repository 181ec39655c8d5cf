"""Errors that belong to nmfuse; everything else is a ValueError or TypeError."""


class CudaUnavailable(RuntimeError):  # noqa: N818
    """Raised when CUDA is needed but not available; the message says why."""


class CudaError(RuntimeError):
    """Raised when a CUDA call or a kernel launch fails; the message says which."""
