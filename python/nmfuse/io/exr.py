"""OpenEXR: linear light in floats, without an upper end."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from nmfuse.images import Image
from nmfuse.io.limits import refuse_too_large

DTYPES = ("float16", "float32")


def read(path: Path, page: int | None = None) -> Image:
    """Return the image of a file, or of one of its parts; see `nmfuse.io.read_image`.

    Parameters
    ----------
    path : path
        With the channel Y, or R, G and B, and with A if wanted, of halves or floats.
    page : int, optional
        Which part, from 0; it must be said where there are several.

    Returns
    -------
    Image
        ``pixels`` as stored, but divided by A, by which OpenEXR multiplies colours; not valid where A is 0.

    Raises
    ------
    ValueError
        For several parts of which none is chosen, other channels, or pixels of a part of the picture alone.
    """
    import OpenEXR

    heads = OpenEXR.File(str(path), header_only=True).parts
    count = len(heads)
    if page is None and count > 1:
        raise ValueError(f"{path}: has {count} parts; choose one by its number, {path}[0] to {path}[{count - 1}]")
    if page is not None and page >= count:
        raise ValueError(f"{path}: has no part {page}; it has {count}, the first is {path}[0]")
    header = heads[page or 0].header
    (low, high), shown = header["dataWindow"], header["displayWindow"]
    size = [int(n) for n in high - low + 1]
    refuse_too_large(path, size[0] * size[1])
    if (low != shown[0]).any() or (high != shown[1]).any():
        raise ValueError(f"{path}: has pixels for another window than it shows; crop or pad it")
    channels = OpenEXR.File(str(path), separate_channels=True).parts[page or 0].channels
    names = {"Y"} if "Y" in channels else {"R", "G", "B"}
    if not names <= set(channels) <= names | {"A"}:
        raise ValueError(f"{path}: has the channels {', '.join(sorted(channels))}; expected Y, or R, G, B, and maybe A")
    planes = {name: np.asarray(channel.pixels) for name, channel in channels.items()}
    if {plane.dtype.name for plane in planes.values()} - set(DTYPES):
        raise ValueError(f"{path}: holds whole numbers; expected halves or floats")
    colours = [planes[name] for name in ("Y", "R", "G", "B") if name in names]
    pixels = colours[0] if len(colours) == 1 else np.stack(colours, axis=-1)
    if "A" not in planes:
        return Image(np.ascontiguousarray(pixels))
    alpha = planes["A"] if pixels.ndim == 2 else planes["A"][..., None]
    whole = np.divide(pixels, alpha, out=np.zeros_like(pixels), where=alpha > 0)
    return Image(np.ascontiguousarray(whole), planes["A"] > 0)


def write(path: Path, image: Image) -> None:
    """Write an image, with the channel A where some of it is not valid."""
    import OpenEXR

    pixels = image.pixels
    channels: dict[str, Any] = {}
    if image.valid is not None:
        pixels = np.where(image.valid if pixels.ndim == 2 else image.valid[..., None], pixels, 0).astype(pixels.dtype)
        channels["A"] = np.ascontiguousarray(image.valid, pixels.dtype)
    for k, name in enumerate("RGB" if pixels.ndim == 3 else "Y"):
        channels[name] = np.ascontiguousarray(pixels[..., k] if pixels.ndim == 3 else pixels)
    OpenEXR.File({"compression": OpenEXR.ZIP_COMPRESSION, "type": OpenEXR.scanlineimage}, channels).write(str(path))
