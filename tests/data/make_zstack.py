"""A stack of a microscope: ``python tests/data/make_zstack.py FOLDER [SIZE]`` writes the OME-TIFF cells.ome.tif."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import tifffile
from scipy.ndimage import gaussian_filter

DEPTHS = 5


def depths(size: int) -> np.ndarray:
    """Return the plane that is sharp at each pixel, (size, size): strips from left to right."""
    return np.broadcast_to(np.arange(size) * DEPTHS // size, (size, size))


def z_stack(folder: Path, size: int = 192) -> Path:
    """Write five planes of uint16, 2 micrometres apart, of fibres and beads that lie deeper from left to right."""
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(3)
    bend = 40 * gaussian_filter(rng.random((size, size)), 8)
    y, x = np.mgrid[:size, :size] / 5.0
    fibres = np.maximum(np.sin(0.8 * x + y + bend), 0) ** 6 + np.maximum(np.sin(x - 0.5 * y - 1.3 * bend), 0) ** 6
    beads = gaussian_filter((rng.random((size, size)) > 0.995).astype(float), 1.2) * 9
    scene = 0.1 + 0.35 * fibres + 0.5 * np.minimum(beads, 1)
    planes = np.zeros((DEPTHS, size, size))
    for k in range(DEPTHS):
        for depth in range(DEPTHS):
            blurred = gaussian_filter(scene, 1.6 * abs(depth - k))
            planes[k] = np.where(depths(size) == depth, blurred, planes[k])
    stored = np.clip(np.rint(6000 * planes + rng.normal(0, 30, planes.shape)), 0, 65535).astype(np.uint16)
    path = folder / "cells.ome.tif"
    said = {"axes": "ZYX", "PhysicalSizeX": 0.25, "PhysicalSizeY": 0.25, "PhysicalSizeZ": 2.0}
    tifffile.imwrite(path, stored, photometric="minisblack", metadata=said)
    return path


if __name__ == "__main__":
    print(z_stack(Path(sys.argv[1]), *map(int, sys.argv[2:])))
