"""Raw photographs of cameras (DNG, CR2, NEF, ARW, ...) by LibRaw (rawpy): developed plainly, all in one way."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from nmfuse.images import Image
from nmfuse.io.carried import kept_exif, log
from nmfuse.io.limits import refuse_too_large

if TYPE_CHECKING:
    from PIL.Image import Exif

SUFFIXES = (
    ".dng", ".cr2", ".cr3", ".nef", ".nrw", ".arw", ".raf", ".rw2", ".orf", ".pef", ".srw", ".iiq", ".3fr",
)  # fmt: skip
_ORDERS = {b"II": "<", b"MM": ">"}  # what a file built like TIFF begins with


def read(path: Path, white_balance: Sequence[float] | None = None) -> Image:
    """Return the photograph of a file, developed: demosaiced (AHD), in sRGB, turned upright.

    Nothing is done that depends on what the picture shows, so that the pictures of a bracket or of a stack stay alike:
    brightness is not adjusted, white is the sensor's greatest value, and highlights are clipped there.

    Parameters
    ----------
    path : path
        What LibRaw reads.
    white_balance : sequence of four float, optional
        What red, green, blue and the second green are multiplied with: ``carried["white_balance"]`` of the picture that
        this one is fused with. By default what the camera chose, or daylight where it says nothing.

    Returns
    -------
    Image
        ``pixels`` (H, W, 3), or (H, W) of a sensor without colours, uint16 with the curve of sRGB.
        ``carried["white_balance"]`` is what was used; EXIF and a profile of sRGB are carried too.

    Raises
    ------
    ValueError
        If `white_balance` is not four numbers above 0, or the file has too many pixels.
    """
    import rawpy
    from PIL import ImageCms

    with rawpy.RawPy() as file:
        file.open_file(str(path))
        refuse_too_large(path, file.sizes.raw_height * file.sizes.raw_width)
        balance = _checked(white_balance) if white_balance is not None else _balance_of(file)
        pixels: np.ndarray = file.postprocess(
            output_bps=16,
            user_wb=list(balance),
            no_auto_bright=True,
            adjust_maximum_thr=0.0,
            gamma=(2.4, 12.92),
            output_color=rawpy.ColorSpace.sRGB,
        )
    if pixels.ndim == 3 and pixels.shape[2] == 1:
        pixels = pixels[..., 0]
    carried: dict[str, Any] = {"white_balance": balance}
    if pixels.ndim == 3:
        carried["icc_profile"] = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    if exif := kept_exif(path, exif_of_raw(path)):
        carried["exif"] = exif
    return Image(np.ascontiguousarray(pixels), carried=carried)


def size_of(path: Path) -> tuple[int, int]:
    """Return width and height of a raw photograph, before it is turned upright."""
    import rawpy

    with rawpy.RawPy() as file:
        file.open_file(str(path))
        return file.sizes.width, file.sizes.height


def exif_of_raw(path: Path) -> Exif:
    """Return the EXIF of a raw photograph; none where the file is not built as TIFF is, or it is broken (logged).

    Examples
    --------
    >>> import tempfile
    >>> path = Path(tempfile.mkdtemp()) / "x.cr3"
    >>> _ = path.write_bytes(bytes(64))
    >>> len(exif_of_raw(path))
    0
    """
    from PIL.Image import Exif

    exif = Exif()
    with path.open("rb") as file:
        head = file.read(8)
        order = _ORDERS.get(head[:2])
        if order is None or len(head) < 8:
            log.warning("%s: its EXIF is stored in a way that is not read, and is left out", path)
            return exif
        exif.endian = order
        try:
            exif.load_from_fp(file, struct.unpack(f"{order}I", head[4:])[0])
            for code in exif:
                exif.get_ifd(code)  # while the file is open
        except Exception as error:  # broken in what is no part of the image
            log.warning("%s: its EXIF cannot be understood, and is left out (%s)", path, error)
            return Exif()
    return exif


def _balance_of(file: Any) -> tuple[float, ...]:
    """Return the multipliers that the camera chose, or those of daylight."""
    for found in (file.camera_whitebalance, file.daylight_whitebalance):
        red, green, blue, other = (float(x) for x in found)
        if min(red, green, blue) > 0 and np.isfinite(found).all():
            return red, green, blue, other or green
    return 1.0, 1.0, 1.0, 1.0


def _checked(balance: Sequence[float]) -> tuple[float, ...]:
    numbers = tuple(float(x) for x in balance)
    if len(numbers) != 4 or not (np.isfinite(numbers).all() and min(numbers) > 0):
        raise ValueError(
            f"white_balance: got {balance}; expected four numbers above 0, carried['white_balance'] of another picture"
        )
    return numbers
