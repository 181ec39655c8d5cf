"""A hand-held focus stack: ``python tests/data/make_focus.py FOLDER [HEIGHT]`` writes five JPEG photographs."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
from PIL import ExifTags, Image, ImageCms

from nmfuse.data import street_scene


def exif(number: int) -> Image.Exif:
    """Return what a camera says of the picture of a number, each half a second after the one before."""
    tags = Image.Exif()
    tags[ExifTags.Base.Make], tags[ExifTags.Base.Model] = "Example", "Model 1"
    tags.get_ifd(ExifTags.IFD.Exif).update(
        {
            ExifTags.Base.DateTimeOriginal: f"2026:05:01 10:00:{number // 2:02}",
            ExifTags.Base.SubsecTimeOriginal: "500" if number % 2 else "000",
            ExifTags.Base.ExposureTime: 1 / 125,
            ExifTags.Base.FNumber: 4.0,
            ExifTags.Base.ISOSpeedRatings: 200,
        }
    )
    return tags


def focus_stack(folder: Path, height: int = 180, count: int = 5) -> list[Path]:
    """Write photographs that are sharp from 2.5 to 40 m; the hand shakes, and the lens enlarges as it is focused."""
    folder.mkdir(parents=True, exist_ok=True)
    rng, paths = np.random.default_rng(1), []
    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    for k, dioptres in enumerate(np.linspace(1 / 2.5, 1 / 40, count)):
        shake = tuple(rng.normal(0, 0.004 * height, 2)) if k else (0.0, 0.0)
        turn = float(rng.normal(0, 0.15)) if k else 0.0
        scene = street_scene(height, height * 4 // 3, zoom=1 + 0.006 * k, turn=turn, shift=shake)
        path = folder / f"IMG_{1001 + k}.jpg"
        photograph = Image.fromarray(scene.photograph(focus=1 / dioptres, seed=k))
        photograph.save(path, quality=95, exif=exif(k), icc_profile=srgb)
        paths.append(path)
    return paths


if __name__ == "__main__":
    print(*focus_stack(Path(sys.argv[1]), *map(int, sys.argv[2:])), sep="\n")
