"""Image files: PNG, JPEG, BMP, WebP by Pillow, TIFF by tifffile. Nothing is cast, resized or overwritten in silence."""

from __future__ import annotations

import secrets
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from PIL.Image import Image

_TIFF = (".tif", ".tiff")
_LOSSY = (".jpg", ".jpeg", ".webp")
_SUFFIXES = (".png", ".bmp", *_TIFF, *_LOSSY)


def read_image(path: str | Path) -> np.ndarray:
    """Read a grey or RGB image.

    Parameters
    ----------
    path : str or path
        PNG, JPEG, BMP, WebP (8 bit, or 16-bit grey PNG) or TIFF (8 or 16 bit, float32). A palette becomes RGB, an
        opaque alpha channel is dropped, EXIF rotation is applied.

    Returns
    -------
    array, shape (H, W) or (H, W, 3)
        uint8, uint16 or float32, as stored.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        If the file is not a readable image, is truncated, too large, transparent, or of a kind that would lose
        something.

    Examples
    --------
    >>> import tempfile, pathlib, numpy as np
    >>> path = pathlib.Path(tempfile.mkdtemp()) / "x.png"
    >>> write_image(path, np.zeros((16, 20), np.uint8))
    >>> read_image(path).shape
    (16, 20)
    """
    path = Path(path)
    if path.is_dir():
        raise ValueError(f"{path}: is a folder; expected an image file")
    if not path.exists():
        raise FileNotFoundError(f"{path}: no such file")
    try:
        pixels = _read_tiff(path) if path.suffix.lower() in _TIFF else _read_by_pillow(path)
    except ValueError:
        raise
    except Exception as error:  # decoders raise OSError, SyntaxError, struct.error, zlib.error, ...
        raise _unreadable(path, error) from error
    if pixels.ndim == 3 and pixels.shape[2] == 3 and (pixels == pixels[..., :1]).all():
        return np.ascontiguousarray(pixels[..., 0])  # three equal channels are grey
    return pixels


def _unreadable(path: Path, error: Exception) -> ValueError:
    return ValueError(f"{path}: not a readable image ({type(error).__name__}: {error})")


def _read_tiff(path: Path) -> np.ndarray:
    import tifffile

    try:
        with tifffile.TiffFile(path) as file:
            pages = len(file.pages)
            pixels: np.ndarray = file.pages[0].asarray()
    except ValueError as error:  # what tifffile says of a broken file
        raise _unreadable(path, error) from error
    if pages != 1:
        raise ValueError(f"{path}: has {pages} pages; expected one image, extract it first")
    if pixels.ndim == 3 and pixels.shape[0] in (3, 4) and pixels.shape[2] not in (3, 4):
        pixels = np.moveaxis(pixels, 0, -1)  # stored plane by plane
    if pixels.ndim == 3 and pixels.shape[2] == 4:
        pixels = _without_alpha(path, pixels)
    if pixels.ndim not in (2, 3) or (pixels.ndim == 3 and pixels.shape[2] != 3):
        raise ValueError(f"{path}: shape {pixels.shape}; expected a grey or RGB image")
    if str(pixels.dtype) not in ("uint8", "uint16", "float32"):
        raise ValueError(f"{path}: pixels are {pixels.dtype}; convert them to uint8, uint16 or float32")
    return pixels


def _read_by_pillow(path: Path) -> np.ndarray:
    from PIL import Image, ImageOps

    with warnings.catch_warnings():
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        try:
            with Image.open(path) as file:
                _refuse_16_bit_colour(path, file)
                image = ImageOps.exif_transpose(file)
                image.load()
        except (Image.DecompressionBombWarning, Image.DecompressionBombError) as error:
            raise ValueError(
                f"{path}: has more than {Image.MAX_IMAGE_PIXELS} pixels, which may be an attack; "
                "raise PIL.Image.MAX_IMAGE_PIXELS and call nmfuse.fuse if you trust it"
            ) from error
    if image.mode in ("P", "1"):
        image = image.convert("RGBA" if "transparency" in image.info else "RGB")
    if image.mode in ("LA", "RGBA"):
        pixels = _without_alpha(path, np.asarray(image))
        return pixels[..., 0] if image.mode == "LA" else pixels
    if image.mode in ("L", "RGB"):
        return np.asarray(image)
    if image.mode.startswith("I;16"):
        return np.asarray(image).astype(np.uint16)
    raise ValueError(f"{path}: colour mode {image.mode} is not supported; convert it to grey or RGB")


def _refuse_16_bit_colour(path: Path, file: Image) -> None:
    """Pillow reads 16-bit colour as 8 bit without a word."""
    tiles = getattr(file, "tile", [])
    raw_mode = str(tiles[0][3]) if tiles else ""
    if file.mode != "I;16" and ";16" in raw_mode:
        raise ValueError(f"{path}: 16-bit colour would lose its lower 8 bits; store it as TIFF")


def _without_alpha(path: Path, pixels: np.ndarray) -> np.ndarray:
    alpha = pixels[..., -1]
    opaque = np.iinfo(pixels.dtype).max if pixels.dtype.kind == "u" else 1.0
    if not (alpha == opaque).all():
        raise ValueError(f"{path}: is partly transparent; flatten it onto a background first")
    return np.ascontiguousarray(pixels[..., :-1])


def luminance(pixels: np.ndarray) -> np.ndarray:
    """Return the luminance (BT.601) of an image, (H, W) as it is or (H, W, 3) as float64, on its own scale.

    Examples
    --------
    >>> luminance(np.array([[[255, 0, 0]]], np.uint8))
    array([[76.245]])
    """
    return pixels if pixels.ndim == 2 else np.asarray(pixels @ np.array([0.299, 0.587, 0.114]))


def grey(pixels: np.ndarray) -> np.ndarray:
    """Return the luminance (BT.601) of an image in its own dtype, rounded where that is of integers.

    Examples
    --------
    >>> grey(np.array([[[255, 0, 0]]], np.uint8))
    array([[76]], dtype=uint8)
    """
    values = luminance(pixels)
    return np.asarray(np.rint(values) if pixels.dtype.kind == "u" else values, pixels.dtype)


def write_image(path: str | Path, pixels: np.ndarray, *, overwrite: bool = False) -> None:
    """Write an image, in the format of the file's suffix; the file is there whole or not at all.

    Parameters
    ----------
    path : str or path
        .png, .bmp, .tif, .tiff, .jpg, .jpeg or .webp, in a folder that exists.
    pixels : array, shape (H, W) or (H, W, 3)
        uint8; uint16 for TIFF and grey PNG; float32 for TIFF.
    overwrite : bool
        Whether an existing file may be replaced.

    Raises
    ------
    FileExistsError
        If the file exists and `overwrite` is False.
    FileNotFoundError
        If its folder does not.
    ValueError
        For an unknown suffix, or a dtype that the format cannot hold.
    """
    path = Path(path)
    suffix = path.suffix.lower()
    if suffix not in _SUFFIXES:
        raise ValueError(f"{path}: unknown image suffix {path.suffix!r}; expected one of {', '.join(_SUFFIXES)}")
    dtype = str(pixels.dtype)
    fits = (
        (suffix in _TIFF and dtype in ("uint8", "uint16", "float32"))
        or dtype == "uint8"
        or (dtype == "uint16" and suffix == ".png" and pixels.ndim == 2)
    )
    if not fits:
        raise ValueError(f"{path}: {suffix} cannot hold {dtype} of shape {pixels.shape}; write a .tif")
    with new_file(path, overwrite=overwrite) as temporary:
        if suffix in _TIFF:
            import tifffile

            tifffile.imwrite(temporary, pixels, photometric="rgb" if pixels.ndim == 3 else "minisblack")
        else:
            from PIL import Image

            options: dict[str, Any] = {"quality": 95} if suffix in _LOSSY else {}
            Image.fromarray(pixels).save(temporary, **options)


@contextmanager
def new_file(path: str | Path, *, overwrite: bool = False) -> Iterator[Path]:
    """Give a temporary path beside `path` to write to, and rename it to `path` when the block ends without an error.

    Raises
    ------
    FileExistsError, FileNotFoundError
        Before the block runs; see `write_image`.
    """
    path = Path(path)
    check_output(path, overwrite=overwrite)
    temporary = path.with_name(f".{path.stem}-{secrets.token_hex(6)}{path.suffix}")
    try:
        yield temporary
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def check_output(path: Path, *, overwrite: bool) -> None:
    """Refuse a path that cannot or must not be written, before any work is done."""
    if not path.parent.is_dir():
        raise FileNotFoundError(f"{path}: the folder {path.parent} does not exist; create it first")
    if path.is_dir():
        raise FileExistsError(f"{path}: is a folder; expected a file name")
    if path.exists() and not overwrite:
        raise FileExistsError(f"{path}: exists already; pass --overwrite (overwrite=True) to replace it")
