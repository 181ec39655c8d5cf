"""A satellite's two pictures: ``python tests/data/make_geo.py FOLDER [SIZE]`` writes pan.tif and multispectral.tif."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import tifffile
from scipy.ndimage import gaussian_filter, zoom

COLOURS = {  # red, green, blue, near infrared
    "wheat": (0.40, 0.36, 0.18, 0.45),
    "meadow": (0.10, 0.18, 0.08, 0.60),
    "soil": (0.32, 0.24, 0.17, 0.30),
    "wood": (0.05, 0.09, 0.05, 0.42),
    "road": (0.30, 0.30, 0.30, 0.28),
    "roof": (0.50, 0.22, 0.16, 0.35),
}
KEYS = (1, 1, 0, 4, 1024, 0, 1, 1, 1025, 0, 1, 1, 3072, 0, 1, 32632, 3076, 0, 1, 9001)  # UTM 32N on WGS 84, in metres


def land(size: int) -> np.ndarray:
    """Return the reflectance of fields, a wood, roads and houses, (size, size, 4)."""
    rng = np.random.default_rng(4)
    y, x = np.mgrid[:size, :size] / size
    points = rng.random((24, 2))
    nearest = np.argmin([(y - a) ** 2 + (x - b) ** 2 for a, b in points], axis=0)
    names = rng.choice(["wheat", "meadow", "soil", "wood"], 24)
    picture = np.array([COLOURS[name] for name in names])[nearest]
    picture = picture * (1 + 0.08 * np.sin(2 * np.pi * (x * 40 + nearest))[..., None])  # furrows
    for road in (np.abs(y - 0.3 - 0.2 * x), np.abs(x - 0.6 + 0.1 * np.sin(5 * y))):
        picture[road < 0.008] = COLOURS["road"]
    for a, b in rng.random((40, 2)):
        picture[(np.abs(y - a) < 0.011) & (np.abs(x - 0.55 - 0.2 * b) < 0.007)] = COLOURS["roof"]
    grain = gaussian_filter(rng.normal(size=(size, size)), 1)
    return np.asarray(picture * (1 + 0.12 * grain[..., None]))


def pan_and_multispectral(folder: Path, size: int = 256) -> tuple[Path, Path]:
    """Write a grey picture with pixels of 0.5 m, and red, green, blue and near infrared with pixels of 2 m."""
    folder.mkdir(parents=True, exist_ok=True)
    picture = land(size)
    pan, multispectral = folder / "pan.tif", folder / "multispectral.tif"
    coarse = np.stack([zoom(gaussian_filter(picture[..., k], 1.6), 0.25, order=1, grid_mode=True, mode="nearest")
                       for k in range(4)], axis=-1)  # fmt: skip
    for path, values, metres in ((pan, picture.mean(-1), 0.5), (multispectral, coarse, 2.0)):
        tags = [
            (33550, "d", 3, (metres, metres, 0.0), True),
            (33922, "d", 6, (0.0, 0.0, 0.0, 500000.0, 5400000.0, 0.0), True),
            (34735, "H", len(KEYS), KEYS, True),
        ]
        stored = np.rint(10000 * np.clip(values, 0, 1)).astype(np.uint16)
        colour = {"photometric": "rgb", "extrasamples": ["unspecified"], "planarconfig": "contig"}
        grey = {"photometric": "minisblack"}
        options = colour if stored.ndim == 3 else grey
        tifffile.imwrite(path, stored, extratags=tags, metadata=None, **options)
    return pan, multispectral


if __name__ == "__main__":
    print(*pan_and_multispectral(Path(sys.argv[1]), *map(int, sys.argv[2:])), sep="\n")
