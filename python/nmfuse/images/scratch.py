"""Memory for many large sources: in memory as long as they are small, else in files that nobody sees."""

from __future__ import annotations

import ctypes
import math
import mmap
import tempfile

import torch
from torch import Tensor

IN_MEMORY = 128 << 20  # bytes that sources may take before further ones go to disk; a network makes four times as much
_ALWAYS = 2  # sources that stay in memory, whatever their size: a pair needs no disk


class Scratch:
    """Tensors that belong to single sources.

    The first two sources stay in memory; so do all as long as they take less than 128 MiB.
    What comes then lies in mapped temporary files (in the folder that TMPDIR names) without a name, which are gone with
    the process. `release` takes their pages out of memory; they come back from disk when they are read.

    Examples
    --------
    >>> Scratch().empty((2, 3)).shape
    torch.Size([2, 3])
    """

    def __init__(self, parent: Scratch | None = None) -> None:
        self._kept = 0
        self._maps: list[mmap.mmap] = []
        self._parent = parent

    @property
    def on_disk(self) -> bool:
        """Whether anything lies on disk."""
        return bool(self._maps) or (self._parent is not None and self._parent.on_disk)

    def beside(self) -> Scratch:
        """Return one for a while, on disk where this is; its files are gone when it is."""
        return Scratch(self)

    def keep(self, plane: Tensor, place: int) -> Tensor:
        """Return what belongs to the source at this place, in memory or on disk."""
        self._kept += plane.numel() * plane.element_size()
        if place < _ALWAYS or self._kept <= IN_MEMORY or not _storable(plane):
            return plane
        stored = self._map(tuple(plane.shape))
        stored.copy_(plane)
        self.release()
        _give_back_freed()
        return stored

    def empty(self, shape: tuple[int, ...], like: Tensor | None = None) -> Tensor:
        """Return float32 memory that holds one thing of every source: on disk where the sources are."""
        if not self.on_disk or math.prod(shape) * 4 <= IN_MEMORY // 4:
            return torch.empty(shape) if like is None else like.new_empty(shape)
        return self._map(shape)

    def release(self) -> None:
        """Take pages of the files out of memory; nothing is lost."""
        for mapped in self._maps:
            mapped.madvise(mmap.MADV_DONTNEED)
        if self._parent is not None:
            self._parent.release()

    def _map(self, shape: tuple[int, ...]) -> Tensor:
        length = 4 * math.prod(shape)
        with tempfile.TemporaryFile(prefix="nmfuse-") as file:
            file.truncate(length)
            mapped = mmap.mmap(file.fileno(), length)
        self._maps.append(mapped)
        return torch.frombuffer(mapped, dtype=torch.float32).reshape(shape)


def _give_back_freed() -> None:
    """Ask glibc for the memory that was freed: of images below 32 MiB it keeps about one a source otherwise."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)


def _storable(plane: Tensor) -> bool:
    return plane.device.type == "cpu" and not plane.requires_grad and plane.dtype == torch.float32
