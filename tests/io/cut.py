"""What every reader must do with a file that is cut off."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np

from nmfuse.io import read_image


def check_cut_off(path: Path, sizes: Iterable[int] | None = None) -> None:
    """Cut a file off at many sizes, by default every tenth byte: an error that names it, or all of its pixels."""
    whole, data = read_image(path).pixels, path.read_bytes()
    for size in range(0, len(data), 10) if sizes is None else sizes:
        path.write_bytes(data[:size])
        try:
            back = read_image(path)
        except ValueError as error:
            assert str(error).startswith(f"{path}: "), size  # noqa: PT017
        else:
            np.testing.assert_array_equal(back, whole, err_msg=f"{size} of {len(data)}")
