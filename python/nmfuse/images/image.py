"""An image: its pixels, and all that must not be lost on their way through fusion."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from nmfuse.images.grid import Grid


@dataclass(frozen=True, eq=False)
class Image:
    """Pixels as a file stores them, together with everything else that the file contains.

    NumPy treats it as an array of its pixels. `nmfuse.fuse` accepts it as a source, and returns the result as an
    `Image` with the metadata of the first source.

    Attributes
    ----------
    pixels : array
        The pixels, of shape (H, W) or (H, W, 3), or with a depth as first axis, in any dtype that `nmfuse.fuse` takes.
        There is no alpha channel.
    valid : bool array, shape (H, W) or (D, H, W), optional
        False where the image shows nothing: where it is transparent, masked, or outside the field of view. None if all
        pixels are valid.
    name : str
        The name that messages use for the image, such as the name of its file.
    spacing : tuple of float, optional
        The distance from one pixel to the next along each spatial axis, in mm.
    carried : dict
        What its file contains besides the pixels, and what a file of the result is to contain as well, by the names
        that the formats use.
    grid : Grid, optional
        The positions of its pixels in mm, if its file has them. It also says which axes are spatial.

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
        """The shape of the pixels."""
        return tuple(self.pixels.shape)

    @property
    def dtype(self) -> Any:
        """The dtype of the pixels."""
        return self.pixels.dtype

    @property
    def ndim(self) -> int:
        """The number of axes of the pixels."""
        return len(self.shape)

    @property
    def spatial(self) -> int:
        """The number of spatial axes: those of its grid; without a grid, all axes but a last one of three colours."""
        if self.grid is not None:
            return len(self.grid.shape)
        return self.ndim - (self.ndim > 2 and self.shape[-1] == 3)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        """Return the pixels, for NumPy."""
        return np.array(self.pixels, dtype, copy=copy)

    def with_pixels(self, pixels: Any, valid: Any = None) -> Image:
        """Return an image with other pixels, and with the metadata of this one."""
        return replace(self, pixels=pixels, valid=valid)
