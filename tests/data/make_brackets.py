"""Five exposures of one scene: ``python tests/data/make_brackets.py FOLDER [HEIGHT]`` writes JPEG photographs."""

from __future__ import annotations

import sys
from pathlib import Path

from PIL import ExifTags, Image

from nmfuse.data import street_scene


def exif(number: int, shutter: float) -> Image.Exif:
    """Return what a camera says of the picture of a number, each half a second after the one before."""
    tags = Image.Exif()
    tags[ExifTags.Base.Make], tags[ExifTags.Base.Model] = "Example", "Model 1"
    tags.get_ifd(ExifTags.IFD.Exif).update(
        {
            ExifTags.Base.DateTimeOriginal: f"2026:05:01 11:00:{number // 2:02}",
            ExifTags.Base.SubsecTimeOriginal: "500" if number % 2 else "000",
            ExifTags.Base.ExposureTime: shutter,
            ExifTags.Base.FNumber: 8.0,
            ExifTags.Base.ISOSpeedRatings: 100,
        }
    )
    return tags


def brackets(folder: Path, height: int = 160) -> list[Path]:
    """Write five photographs from 1/1000 to 1/4 s, each two stops brighter than the one before."""
    folder.mkdir(parents=True, exist_ok=True)
    scene, paths = street_scene(height, height * 4 // 3), []
    for k in range(5):
        path = folder / f"DSC_{2001 + k}.jpg"
        photograph = Image.fromarray(scene.photograph(exposure=0.25 * 4.0**k, seed=k))
        photograph.save(path, quality=95, exif=exif(k, 4.0**k / 1000))
        paths.append(path)
    return paths


if __name__ == "__main__":
    print(*brackets(Path(sys.argv[1]), *map(int, sys.argv[2:])), sep="\n")
