"""A thermal and a visible picture: ``python tests/data/make_thermal.py FOLDER [HEIGHT]``; 3000 is 12 megapixels."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import tifffile
from PIL import Image

from nmfuse.data import street_scene


def thermal_and_visible(folder: Path, height: int = 240) -> tuple[Path, Path]:
    """Write visible.jpg, and thermal.tif: centi-kelvin in 16 bits, at most half as large, by a camera beside it."""
    folder.mkdir(parents=True, exist_ok=True)
    visible, thermal = folder / "visible.jpg", folder / "thermal.tif"
    Image.fromarray(street_scene(height, height * 4 // 3).photograph()).save(visible, quality=95)
    small = min(height // 2, 480)
    other = street_scene(small, small * 4 // 3, zoom=1.03, turn=0.8, shift=(1.5, -2.0))
    noise = np.random.default_rng(2).normal(0, 4, other.temperature.shape)  # 0.04 K
    tifffile.imwrite(thermal, np.rint(100 * (other.temperature + 273.15) + noise).astype(np.uint16))
    return visible, thermal


if __name__ == "__main__":
    print(*thermal_and_visible(Path(sys.argv[1]), *map(int, sys.argv[2:])), sep="\n")
