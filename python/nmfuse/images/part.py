"""A part of images that are larger than memory."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from torch import Tensor

Place = tuple[slice, slice]  # rows and columns


@dataclass(frozen=True)
class Part:
    """A part of images, and what lies around it.

    Attributes
    ----------
    planes : list of Tensor (h, w)
        Luminances of the sources, float32 in [0, 1], in their canonical order: of the part and of a margin around it,
        as far as the images go.
    inner : rows and columns
        Where in them the part is.
    there : rows and columns
        Where in the whole images it is.
    """

    planes: list[Tensor]
    inner: Place
    there: Place


Look = Callable[[int], Iterable[Part]]  # margin in pixels -> all parts of the images, one after the other
ALIGNED = 32  # parts begin, with their margins, at multiples of so many pixels
