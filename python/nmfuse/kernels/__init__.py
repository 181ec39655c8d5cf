"""The kernels' front doors: arrays of NumPy, torch or CuPy in, arrays of the same library out."""

from nmfuse.kernels import cuda
from nmfuse.kernels._native import num_threads, set_num_threads
from nmfuse.kernels.background import detect_background
from nmfuse.kernels.blocks import aggregate_blocks, aggregate_blocks_adjoint
from nmfuse.kernels.errors import CudaError, CudaUnavailable
from nmfuse.kernels.hannmean import hannmean, hannmean_adjoint
from nmfuse.kernels.information import window_information
from nmfuse.kernels.nmf import nmf
from nmfuse.kernels.problem import NmfInfo
from nmfuse.kernels.runs import NmfRuns, nmf_runs
from nmfuse.kernels.stream import nmf_stream

__all__ = [
    "CudaError",
    "CudaUnavailable",
    "NmfInfo",
    "NmfRuns",
    "aggregate_blocks",
    "aggregate_blocks_adjoint",
    "cuda",
    "detect_background",
    "hannmean",
    "hannmean_adjoint",
    "nmf",
    "nmf_runs",
    "nmf_stream",
    "num_threads",
    "set_num_threads",
    "window_information",
]
