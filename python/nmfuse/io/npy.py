"""Arrays of NumPy, .npy."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from nmfuse.images import Image
from nmfuse.io.tiff import DTYPES


def read(path: Path) -> Image:
    """Return the image of a file; see `nmfuse.io.read_image`. Objects are never loaded from it.

    Raises
    ------
    ValueError
        For an array of other axes than an image or a volume has, without pixels, or of a dtype that nothing here takes.
    """
    pixels = np.load(path, mmap_mode="r", allow_pickle=False)  # which reads the header alone
    if not isinstance(pixels, np.ndarray):
        raise ValueError(f"{path}: is an archive of arrays; expected one array, as numpy.save writes it")
    in_colour = pixels.ndim > 2 and pixels.shape[-1] == 3
    if pixels.ndim - in_colour not in (2, 3) or pixels.size == 0:
        raise ValueError(f"{path}: shape {pixels.shape}; expected (H, W), (H, W, 3) or a volume of them")
    if pixels.dtype.newbyteorder("=").name not in DTYPES:
        raise ValueError(f"{path}: pixels are {pixels.dtype}; convert them to one of {', '.join(DTYPES)}")
    return Image(np.array(pixels, pixels.dtype.newbyteorder("="), order="C"))


def write(path: Path, image: Image) -> None:
    """Write the pixels of an image."""
    with path.open("wb") as file:
        np.save(file, image.pixels, allow_pickle=False)
