"""Weight files: safetensors with a format tag and string metadata. Nothing in them is ever executed."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

_REMEDY = "give a file that `nmfuse train` wrote"


def write_weights(path: Path, tensors: Mapping[str, Tensor], tag: str, metadata: Mapping[str, str]) -> None:
    """Write float32 tensors by name, with `tag` under the metadata key "format"."""
    contiguous = {name: value.detach().cpu().contiguous() for name, value in tensors.items()}
    path.write_bytes(save(contiguous, metadata={"format": tag, **metadata}))


def read_weights(path: Path, tag: str) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Read what `write_weights` wrote: the tensors by name, and the metadata.

    Raises
    ------
    ValueError
        If the file is not safetensors, is truncated, has another tag, or holds anything but finite float32.
    """
    try:
        with safe_open(path, framework="pt") as file:
            metadata = dict(file.metadata() or {})
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  # not a mapping
    except (SafetensorError, OSError) as error:
        raise ValueError(f"{path}: is not a whole safetensors file ({error}); {_REMEDY}") from error
    if metadata.get("format") != tag:
        raise ValueError(f"{path}: its format is {metadata.get('format')!r}, expected {tag!r}; {_REMEDY}")
    for name, value in tensors.items():
        if value.dtype != torch.float32 or not bool(value.isfinite().all()):
            raise ValueError(f"{path}: {name} is not finite float32; {_REMEDY}")
    return tensors, metadata
