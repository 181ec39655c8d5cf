"""TIFF by tifffile."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from nmfuse.images import Image

DTYPES = ("uint8", "uint16", "int16", "int32", "float16", "float32", "float64")
_WHITE_IS_0, _BLACK_IS_0, _RGB, _PALETTE, _YCBCR = 0, 1, 2, 3, 6  # photometric interpretations
_JPEG = 7  # compression
_UNKNOWN = 0  # an extra sample of which the file does not say that it is alpha


def read(path: Path) -> Image:
    """Return the image of a file; see `nmfuse.io.read_image`.

    Raises
    ------
    ValueError
        For several pages, other colours than grey, RGB and palettes, channels that are none of these, or a dtype that
        nothing here takes.
    """
    import tifffile

    try:
        with tifffile.TiffFile(path) as file:
            pages = len(file.pages)
            page = file.pages.first
            pixels: np.ndarray = page.asarray()
            axes, photometric, extra, colormap = page.axes, int(page.photometric), page.extrasamples, page.colormap
            if photometric == _YCBCR and int(page.compression) == _JPEG:
                photometric = _RGB  # by its decoder
    except ValueError as error:  # what tifffile says of a broken file
        raise ValueError(f"{path}: not a readable image ({type(error).__name__}: {error})") from error
    if pages != 1:
        raise ValueError(f"{path}: has {pages} pages; expected one image, extract it first")
    if axes == "SYX":
        pixels = np.moveaxis(pixels, 0, -1)  # stored plane by plane
    elif axes not in ("YX", "YXS"):
        raise ValueError(f"{path}: shape {pixels.shape}; expected a grey or RGB image")
    if pixels.dtype == bool:
        pixels = np.where(pixels, 255, 0).astype(np.uint8)
    if pixels.dtype.name not in DTYPES:
        raise ValueError(f"{path}: pixels are {pixels.dtype}; convert them to one of {', '.join(DTYPES)}")
    pixels, valid = _without_alpha(path, pixels, tuple(int(sample) for sample in extra))
    if photometric == _PALETTE and pixels.ndim == 2 and colormap is not None:
        return Image(_coloured(colormap, pixels), valid)
    if photometric not in (_WHITE_IS_0, _BLACK_IS_0, _RGB) or (pixels.ndim == 3 and pixels.shape[2] != 3):
        raise ValueError(
            f"{path}: shape {pixels.shape} of photometric interpretation {photometric}; expected a grey or RGB image"
        )
    return Image(_upright(path, pixels) if photometric == _WHITE_IS_0 else pixels, valid)


def _without_alpha(path: Path, pixels: np.ndarray, extra: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray | None]:
    """Return the pixels without their alpha channel, and where they are valid."""
    if pixels.ndim == 2 or not extra:
        return pixels, None
    alpha = pixels[..., -1]
    opaque = 1.0 if pixels.dtype.kind == "f" else np.iinfo(pixels.dtype).max
    if len(extra) > 1 or (extra[0] == _UNKNOWN and not (alpha == opaque).all()):
        raise ValueError(
            f"{path}: has {len(extra)} channel(s) beside its colours, and says of none that it is alpha; remove them"
            if extra[0] == _UNKNOWN
            else f"{path}: has {len(extra)} channels beside its colours; expected alpha alone, remove the others"
        )
    shown = pixels[..., 0] if pixels.shape[-1] == 2 else pixels[..., :-1]
    return np.ascontiguousarray(shown), alpha > 0


def _coloured(colormap: np.ndarray, indices: np.ndarray) -> np.ndarray:
    """Return the colours of a palette's indices: in 8 bits where its 16 repeat or fill up 8, else in 16."""
    colours = np.moveaxis(colormap[:, indices], 0, -1)
    if not (colormap % 257).any():
        return (colours // 257).astype(np.uint8)
    return (colours // 256).astype(np.uint8) if not (colormap % 256).any() else colours


def _upright(path: Path, pixels: np.ndarray) -> np.ndarray:
    """Return the pixels of a file whose white is 0 as others have them."""
    if pixels.dtype.kind != "u":
        raise ValueError(f"{path}: says that white is 0, in {pixels.dtype}; store it with black as 0")
    return np.asarray(np.iinfo(pixels.dtype).max - pixels, pixels.dtype)


def write(path: Path, image: Image) -> None:
    """Write an image, with an alpha channel where some of it is not valid."""
    import tifffile

    pixels = image.pixels
    options: dict[str, Any] = {"photometric": "rgb" if pixels.ndim == 3 else "minisblack"}
    if image.valid is not None:
        opaque = 1.0 if pixels.dtype.kind == "f" else np.iinfo(pixels.dtype).max
        pixels = np.dstack([pixels, np.where(image.valid, opaque, 0).astype(pixels.dtype)])
        options |= {"planarconfig": "contig", "extrasamples": ["unassalpha"]}
    tifffile.imwrite(path, pixels, **options)
