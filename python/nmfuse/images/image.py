"""An image: its pixels, and all that must not be lost on their way through fusion."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from nmfuse.images.grid import Grid


@dataclass(frozen=True, eq=False)
class Image:
    """Pixels as they are stored, and what they carry.

    NumPy takes it as an array of its pixels; `nmfuse.fuse` takes it as a source and gives the result back as one, with
    all that the first source carries.

    Attributes
    ----------
    pixels : array
        (H, W) or (H, W, 3), or with a depth in front; any dtype that `nmfuse.fuse` takes. Without an alpha channel.
    valid : bool array, shape (H, W) or (D, H, W), optional
        False where the image shows nothing: transparent, masked, outside the field of view. None: valid everywhere.
    name : str
        What a message calls it, such as its file's name.
    spacing : tuple of float, optional
        Millimetres from one pixel to the next along each spatial axis.
    carried : dict
        What its file holds besides and a file of the result is to hold too, by the names that the formats use.
    grid : Grid, optional
        Where its pixels lie in mm, if its file says so. It says which axes are spatial, too.

    Examples
    --------
    >>> image = Image(np.zeros((4, 6), np.uint8), name="mri.png")
    >>> image.shape, image.dtype
    ((4, 6), dtype('uint8'))
    """

    pixels: Any
    valid: Any = None
    name: str = ""
    spacing: tuple[float, ...] | None = None
    carried: dict[str, Any] = field(default_factory=dict)
    grid: Grid | None = None

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the pixels."""
        return tuple(self.pixels.shape)

    @property
    def dtype(self) -> Any:
        """Type of the pixels."""
        return self.pixels.dtype

    @property
    def ndim(self) -> int:
        """Number of axes of the pixels."""
        return len(self.shape)

    @property
    def spatial(self) -> int:
        """Number of spatial axes: those of its grid; without one, all but an axis of three colours at the end."""
        if self.grid is not None:
            return len(self.grid.shape)
        return self.ndim - (self.ndim > 2 and self.shape[-1] == 3)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        """Return the pixels, for NumPy."""
        return np.array(self.pixels, dtype, copy=copy)

    def with_pixels(self, pixels: Any, valid: Any = None) -> Image:
        """Return an image of other pixels that carries what this one carries."""
        return replace(self, pixels=pixels, valid=valid)
