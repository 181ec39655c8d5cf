"""Write files of every format, none of which may be as large as that: ``python full_disk.py FOLDER``."""

from __future__ import annotations

import resource
import sys
from pathlib import Path

import numpy as np

from nmfuse.io import write_image

RNG = np.random.default_rng(0)
COLOUR, VOLUME = RNG.integers(0, 256, (100, 120, 3), np.uint8), RNG.integers(0, 2000, (10, 40, 40), np.int16)
IMAGES = {
    "x.png": COLOUR, "deep.png": COLOUR.astype(np.uint16) * 257, "x.jpg": COLOUR, "x.bmp": COLOUR, "x.webp": COLOUR,
    "x.avif": COLOUR, "x.tif": COLOUR, "x.npy": COLOUR, "x.exr": COLOUR[..., 0].astype(np.float32), "x.nii": VOLUME,
    "x.nii.gz": VOLUME, "x.nrrd": VOLUME, "x.mha": VOLUME, "x.dcm": VOLUME,
}  # fmt: skip


def main() -> None:
    """Print what each attempt says, and fail where a file, or half of one, is there afterwards."""
    folder = Path(sys.argv[1])
    resource.setrlimit(resource.RLIMIT_FSIZE, (4000, 4000))
    for name, image in IMAGES.items():
        try:
            write_image(folder / name, image)
        except OSError as error:
            print(name, error.errno, error)
        left = list(folder.iterdir())
        assert not left, left


if __name__ == "__main__":
    main()
