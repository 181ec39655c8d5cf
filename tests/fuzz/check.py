"""What every reader must do with any bytes: give an image, or a ValueError that names the file."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from nmfuse.io import read_image
from nmfuse.io.tiff import DTYPES


def check_read(path: Path) -> bool:
    """Read a file that may hold anything; where it has several pages, its first. Return whether it was read."""
    for asked in (str(path), f"{path}[0]"):
        try:
            image = read_image(asked)
        except ValueError as error:
            assert str(error).startswith(str(path)), error  # noqa: PT017
            if "choose one" in str(error) and asked == str(path):
                continue
            return False
        pixels, axes = image.pixels, image.spatial
        assert type(pixels) is np.ndarray
        assert pixels.dtype.name in DTYPES
        assert pixels.dtype.isnative
        assert pixels.flags.c_contiguous
        assert axes in (2, 3)
        assert pixels.shape[axes:] in ((), (3,))
        assert pixels.size
        if image.valid is not None:
            assert (image.valid.dtype, image.valid.shape) == (bool, pixels.shape[:axes])
        return True
    raise AssertionError(f"{path}[0]: asks to choose again")
