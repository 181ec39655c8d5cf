"""Errors that belong to nmfuse; everything else is a ValueError or TypeError."""


class CudaUnavailable(RuntimeError):  # noqa: N818
    """CUDA was asked for where there is none; the message says why."""


class CudaError(RuntimeError):
    """A CUDA call or launch failed; the message says which."""
