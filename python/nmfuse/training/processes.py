"""Several processes that train one net together, by torch.distributed. A process alone is a group of one."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, distributed


@contextmanager
def process_group(device: str) -> Iterator[None]:
    """Join the processes that `torchrun` started, if it started this one; "cuda" is then a device for each of them.

    Examples
    --------
    >>> with process_group("cpu"):
    ...     process_count()
    1
    """
    if not (distributed.is_available() and distributed.is_torchelastic_launched()):
        yield
        return
    if device == "cuda":
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
    distributed.init_process_group("nccl" if device == "cuda" else "gloo")
    try:
        yield
    finally:
        distributed.destroy_process_group()


def process_count() -> int:
    """Return how many processes train together."""
    return distributed.get_world_size() if _together() else 1


def process_number() -> int:
    """Return which of them this is, from 0; that one writes the files."""
    return distributed.get_rank() if _together() else 0


def average(tensors: Sequence[Tensor]) -> None:
    """Put the mean over all processes into tensors of one dtype and device, in place."""
    if not _together():
        return
    flat = torch.cat([tensor.reshape(-1) for tensor in tensors])
    distributed.all_reduce(flat)
    flat /= process_count()
    means = torch.split(flat, [tensor.numel() for tensor in tensors])
    for tensor, mean in zip(tensors, means, strict=True):
        tensor.copy_(mean.view_as(tensor))


def require_alike(what: str, value: Any) -> None:
    """Refuse a value that differs between the processes; returns once all are here.

    Raises
    ------
    ValueError
        In all processes, if one has another value.
    """
    if not _together():
        return
    values: list[Any] = [None] * process_count()
    distributed.all_gather_object(values, value)
    for number, other in enumerate(values):
        if other != values[0]:
            raise ValueError(
                f"{what}: {other} in process {number}, but {values[0]} in process 0; expected the same options and "
                "files in all processes"
            )


def _together() -> bool:
    return distributed.is_available() and distributed.is_initialized()
