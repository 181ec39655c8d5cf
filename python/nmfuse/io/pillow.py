"""PNG, JPEG, BMP and WebP by Pillow."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from nmfuse.images import Image

if TYPE_CHECKING:
    from PIL.Image import Image as Picture

_WITH_ALPHA = {"1": "LA", "L": "LA", "RGB": "RGBA", "P": "RGBA", "PA": "RGBA"}  # what shows a transparent colour


def read(path: Path) -> Image:
    """Return the image of a file; see `nmfuse.io.read_image`.

    Raises
    ------
    ValueError
        For 16-bit colour, an animation, CMYK and the like, or more pixels than Pillow trusts.
    """
    from PIL import Image as Pillow
    from PIL import ImageOps

    with warnings.catch_warnings():
        warnings.simplefilter("error", Pillow.DecompressionBombWarning)
        try:
            with Pillow.open(path) as file:
                _refuse_16_bit_colour(path, file)
                _refuse_animation(path, file)
                picture = ImageOps.exif_transpose(file)
                picture.load()
        except (Pillow.DecompressionBombWarning, Pillow.DecompressionBombError) as error:
            raise ValueError(
                f"{path}: has more than {Pillow.MAX_IMAGE_PIXELS} pixels, which may be an attack; "
                "raise PIL.Image.MAX_IMAGE_PIXELS and call nmfuse.fuse if you trust it"
            ) from error
    return _image(path, picture)


def _image(path: Path, picture: Picture) -> Image:
    key = picture.info.get("transparency")  # a colour, or a palette's alpha values
    if picture.mode.startswith("I;16"):
        pixels = np.asarray(picture).astype(np.uint16)
        return Image(pixels, None if key is None else pixels != key)
    if key is not None or picture.mode == "PA":
        picture = picture.convert(_WITH_ALPHA.get(picture.mode, picture.mode))
    elif picture.mode in ("P", "1"):
        picture = picture.convert("RGB")
    pixels = np.asarray(picture)
    if picture.mode in ("L", "RGB"):
        return Image(pixels)
    if picture.mode in ("LA", "RGBA"):
        shown = pixels[..., 0] if picture.mode == "LA" else pixels[..., :3]
        return Image(np.ascontiguousarray(shown), pixels[..., -1] > 0)
    raise ValueError(f"{path}: colour mode {picture.mode} is not supported; convert it to grey or RGB")


def _refuse_16_bit_colour(path: Path, file: Picture) -> None:
    """Pillow reads 16-bit colour as 8 bit without a word."""
    tiles = getattr(file, "tile", [])
    raw_mode = str(tiles[0][3]) if tiles else ""
    if file.mode != "I;16" and ";16" in raw_mode:
        raise ValueError(f"{path}: 16-bit colour would lose its lower 8 bits; store it as TIFF")


def _refuse_animation(path: Path, file: Picture) -> None:
    """Pillow reads the first frame without a word; a JPEG's further pictures are previews, and left out."""
    frames = getattr(file, "n_frames", 1)
    if frames != 1 and file.format != "MPO":
        raise ValueError(f"{path}: has {frames} frames; expected one image, extract it first")


def write(path: Path, image: Image, **options: Any) -> None:
    """Write an image that the format holds, with an alpha channel where some of it is not valid."""
    from PIL import Image as Pillow

    pixels = image.pixels
    if image.valid is not None:
        alpha = np.where(image.valid, np.iinfo(pixels.dtype).max, 0).astype(pixels.dtype)
        pixels = np.dstack([pixels, alpha])
    Pillow.fromarray(pixels).save(path, **options)
