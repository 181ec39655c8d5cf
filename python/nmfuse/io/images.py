"""Reading and writing one image, in whatever format its suffix says. Nothing is cast, resized or lost in silence."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from nmfuse.images import Image
from nmfuse.io.formats import (
    Format,
    format_of,
    format_to_read,
    is_folder,
    is_image,
    refuse_what_does_not_fit,
    split_page,
)
from nmfuse.io.lazy import LazyMask, differs
from nmfuse.io.limits import VARIABLE
from nmfuse.io.output import new_file
from nmfuse.io.profiles import to_profile_of

_AT_ONCE = 1 << 20  # pixels
_FULL = 1 << 16  # bytes: a disk that has fewer is taken for full


def read_image(
    path: str | Path,
    *,
    bands: Sequence[int] | None = None,
    nodata: float | None = None,
    white_balance: Sequence[float] | None = None,
) -> Image:
    """Read a grey or RGB image, or a volume.

    Parameters
    ----------
    path : str or path
        The file. Its format is PNG, JPEG, BMP, WebP, TIFF, GIF, AVIF, HEIF, OpenEXR, a raw photograph (.dng, .cr2,
        .nef, .arw, ...), .npy, .npz, HDF5, Zarr, NIfTI, NRRD, MetaImage, DICOM (a file, or a folder of one series), or
        one that another package adds (see `Format`). The orientation in the EXIF or TIFF tags is applied. A palette
        becomes RGB, values of 1, 2 and 4 bits become 0 to 255, and three equal channels become grey. ``x.tif[3]`` is
        page 3 of a TIFF file, frame 3 of an animation or volume 3 of a NIfTI file, counted from 0; ``x.h5:/t1/raw`` and
        ``x.npz:raw`` name one of several arrays, and ``x.zarr:/0[2]`` is page 2 of one; ``scans[1.2.840.1]`` is the
        DICOM series with that UID in a folder of several. If a file has exactly the given name, that file is read.
    bands : sequence of int, optional
        For a TIFF with many channels, the one that is read as grey, or the three that are read as red, green and blue,
        counted from 1.
    nodata : float, optional
        The value that pixels have in all channels if they show nothing, in addition to those that the file itself
        marks.
    white_balance : sequence of four float, optional
        For a raw photograph, the ``carried["white_balance"]`` of the photograph that it is fused with, to be used
        instead of its own.

    Returns
    -------
    Image
        The image. ``pixels`` are of shape (H, W) or (H, W, 3), as they are stored: uint8; uint16 for PNG, raw
        photographs, TIFF and .npy; for the last two also int16, int32, float16, float32 and float64. CMYK is converted
        to sRGB, which is logged. ``valid`` is False where the file is completely transparent, by its alpha channel, its
        palette, the transparent colour of a PNG, or the mask or GDAL_NODATA of a TIFF, and where pixels have the value
        `nodata`; it is None if that is nowhere the case. Partly transparent pixels count as valid. ``name`` is the name
        of the file, and ``carried`` has its ICC profile, EXIF (without orientation and thumbnail), XMP, resolution, and
        the tags of GeoTIFF. NIfTI, NRRD, MetaImage, and DICOM with several slices give volumes of shape (D, H, W) with
        their `grid`; see `nmfuse.io.nifti` and `nmfuse.io.dicom`.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        For an unknown suffix, or an option that does not apply to the file; if the file is not a readable image, is
        truncated, contains something that would be lost, has several pages of which none is chosen, or has more than
        2**27 pixels (the environment variable NMFUSE_MAX_PIXELS sets another limit).
    ModuleNotFoundError
        If the format needs a package that is not installed.

    Examples
    --------
    >>> import tempfile
    >>> path = Path(tempfile.mkdtemp()) / "x.png"
    >>> write_image(path, np.zeros((16, 20), np.uint8))
    >>> image = read_image(path)
    >>> image.name, image.shape, image.valid
    ('x.png', (16, 20), None)
    """
    name = Path(path).name
    image = _opened(path, lazily=False, bands=bands, white_balance=white_balance)
    pixels, valid = image.pixels, image.valid
    if pixels.size == 0:
        raise ValueError(f"{path}: not a readable image (it says shape {pixels.shape}, which has no pixels)")
    if nodata is not None:
        there = differs(pixels, _held(Path(path), image.dtype, nodata), image.spatial)
        valid = there if valid is None else valid & there
    if valid is not None and valid.all():
        valid = None
    if image.grid is None and pixels.ndim == 3 and pixels.shape[2] == 3 and _is_grey(pixels, valid):
        pixels = np.ascontiguousarray(pixels[..., 0])  # three equal channels are grey
    return replace(image, pixels=pixels, valid=valid, name=name)


def open_image(path: str | Path, *, nodata: float | None = None) -> Image:
    """Open an image whose pixels stay in their file until they are asked for, for images larger than memory.

    Parameters
    ----------
    path : str or path
        The file, in Zarr or OME-Zarr, TIFF (preferably in tiles), HDF5, or .npy, with a page or a name as for
        `read_image`.
    nodata : float, optional
        The value of pixels that show nothing, besides that which the file names.

    Returns
    -------
    Image
        The image as `read_image` returns it, except for its pixels: ``image.pixels[rows, columns]`` reads only these,
        as an array, and ``numpy.asarray(image)`` reads all. The pixels are as they are stored: three equal channels
        stay three, and there is no limit to the number of pixels. ``image.valid`` is sliced in the same way, if a value
        stands for nothing.

    Raises
    ------
    FileNotFoundError, ValueError, ModuleNotFoundError
        For the same reasons as `read_image`; ValueError also for other formats, for files whose pixels would have to be
        converted (palettes, masks, alpha), and for chunks, tiles or strips of more than 2**27 pixels.

    Examples
    --------
    >>> import tempfile
    >>> path = Path(tempfile.mkdtemp()) / "x.npy"
    >>> np.save(path, np.arange(12).reshape(3, 4).astype(np.int16))
    >>> open_image(path).pixels[1:, :2]
    array([[4, 5],
           [8, 9]], dtype=int16)
    """
    image = replace(_opened(path, lazily=True), name=Path(path).name)
    if nodata is None:
        return image
    values = () if image.valid is None else image.valid.nodata
    return replace(image, valid=LazyMask(image.pixels, (*values, _held(Path(path), image.dtype, nodata))))


def _opened(path: str | Path, *, lazily: bool, **given: Any) -> Image:
    """Return the image of a file, its pixels in memory or not; what decoders say becomes one error of ours."""
    path, page = split_page(path)
    if not path.exists():
        raise FileNotFoundError(f"{path}: no such file")
    chosen = format_to_read(path)
    if isinstance(page, int) and not chosen.paged:
        raise ValueError(f"{path}: {chosen.name} has no pages; leave out [{page}]")
    if isinstance(page, str) and not (chosen.named or path.is_dir()):
        raise ValueError(f"{path}: is a file, which has no series; leave out [{page}]")
    if lazily and chosen.open is None:
        raise ValueError(f"{path}: {chosen.name} is not read in parts; store it as tiled TIFF, Zarr, HDF5 or .npy")
    read = chosen.open if lazily and chosen.open is not None else chosen.read
    options = {option: value for option, value in given.items() if value is not None}
    for option in options:
        if option not in chosen.options:
            raise ValueError(f"{option}: {path} is {chosen.name}, which has no such choice; leave it out for this file")
    with _readable(path, chosen):
        return read(path, **options) if page is None else read(path, page, **options)


@contextmanager
def _readable(path: Path, chosen: Format) -> Iterator[None]:
    """Make one error of ours of what decoders say of a file in the block."""
    try:
        yield
    except ModuleNotFoundError as error:
        if not chosen.extra:
            raise
        raise ModuleNotFoundError(
            f"{path}: {chosen.name} needs {error.name}, which is not installed; pip install 'nmfuse[{chosen.extra}]'",
            name=error.name,
        ) from error
    except Exception as error:  # decoders raise OSError, SyntaxError, struct.error, zlib.error, ...
        if isinstance(error, ValueError) and str(error).startswith((f"{path}:", f"{path}/", VARIABLE)):
            raise  # it says what is wrong
        raise ValueError(f"{path}: not a readable image ({type(error).__name__}: {error})") from error


def list_pages(path: str | Path) -> list[Path]:
    """Return the pages of a TIFF file, such as a z-stack of a microscope, each as `read_image` takes it.

    Parameters
    ----------
    path : str or path
        Any image file; of one that has a single page, of one page of a file, and of other formats it is the result.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        If the file is not readable, or has pages along several axes, such as channels and planes.

    Examples
    --------
    >>> import tempfile, tifffile
    >>> path = Path(tempfile.mkdtemp()) / "cells.ome.tif"
    >>> tifffile.imwrite(path, np.zeros((3, 32, 32), np.uint16), metadata={"axes": "ZYX"})
    >>> [page.name for page in list_pages(path)]
    ['cells.ome.tif[0]', 'cells.ome.tif[1]', 'cells.ome.tif[2]']
    >>> planes = [read_image(page) for page in list_pages(path)]
    """
    path = Path(path)
    file, page = split_page(path)
    if not file.exists():
        raise FileNotFoundError(f"{file}: no such file")
    chosen = format_to_read(file)
    if page is not None or chosen.pages is None:
        return [path]
    with _readable(path, chosen):
        count = chosen.pages(path)
    return [path] if count == 1 else [path.with_name(f"{path.name}[{number}]") for number in range(count)]


def read_like(path: str | Path, first: Image, **options: Any) -> Image:
    """Read an image to be fused with another, in the colour profile and (raw) with the white balance of that one.

    Parameters
    ----------
    path, options
        See `read_image`.
    first : Image
        The first source.

    Examples
    --------
    >>> import tempfile
    >>> path = Path(tempfile.mkdtemp()) / "x.png"
    >>> write_image(path, np.zeros((16, 20), np.uint8))
    >>> read_like(path, read_image(path)).shape
    (16, 20)
    """
    balance = first.carried.get("white_balance")
    file = split_page(path)[0]
    if balance is not None and file.exists() and "white_balance" in format_to_read(file).options:
        options["white_balance"] = balance
    return to_profile_of(read_image(path, **options), first)


def write_image(path: str | Path, image: Image | np.ndarray, *, overwrite: bool = False, valid: Any = None) -> None:
    """Write an image in the format of the file's suffix; the file is written completely or not at all.

    Parameters
    ----------
    path : str or path
        The file, in a folder that exists. The suffix is .png, .jpg, .jpeg, .bmp, .webp, .avif, .tif, .tiff, .npy or
        .zarr for images; .nii, .nii.gz, .nrrd, .mha, .npy or .zarr for volumes; .dcm for either; or one that another
        package adds (see `Format`).
    image : Image or array, shape (H, W) or (H, W, 3), or a volume (D, H, W)
        The image, in uint8; for PNG also uint16; for TIFF, .npy and Zarr also uint16, int16, int32, float16, float32
        and float64; for NIfTI all of these except float16; for DICOM uint8, uint16, int16, and float32, which is stored
        in 65534 steps. The metadata of an `Image` are written if the format has a place for them, except for an ICC
        profile that does not fit its colours.
    overwrite : bool
        Whether an existing file may be replaced.
    valid : bool array, shape (H, W), optional
        False where the image shows nothing. Such pixels are written as transparent in PNG, WebP, AVIF and TIFF, as NaN
        in NIfTI, NRRD, MetaImage and Zarr of floats, and as padding in DICOM of uint16, int16 and float32. An `Image`
        has its own ``valid``.

    Raises
    ------
    TypeError
        If `image` is neither an `Image` nor a NumPy array, or if `valid` is not an array of bool.
    FileExistsError
        If the file exists and `overwrite` is False.
    FileNotFoundError, PermissionError
        If the folder does not exist, or cannot be written to.
    OSError
        If the file cannot be written, for example because the disk is full.
    ValueError
        For an unknown suffix, for pixels that the format cannot store, or if `valid` or the grid has another size.
    ModuleNotFoundError
        If the format needs a package that is not installed.

    Examples
    --------
    >>> import tempfile
    >>> path = Path(tempfile.mkdtemp()) / "x.png"
    >>> write_image(path, np.zeros((2, 2), np.uint8), valid=np.array([[True, True], [True, False]]))
    >>> read_image(path).valid
    array([[ True,  True],
           [ True, False]])
    """
    if isinstance(image, Image) and valid is not None:
        if image.valid is not None:
            raise ValueError("valid: given, but the image has its own; give one of both")
        image = replace(image, valid=valid)
    elif not isinstance(image, Image):
        image = Image(image, valid)
    pixels, valid = image.pixels, image.valid
    if not isinstance(pixels, np.ndarray):
        raise TypeError(f"image: got {type(pixels).__name__}; expected an Image or a NumPy array (x.cpu().numpy())")
    colour = pixels.ndim >= 3 and pixels.shape[-1] == 3
    if image.grid is not None:
        colour = pixels.ndim > len(image.grid.shape)
        if image.grid.shape != pixels.shape[: pixels.ndim - colour]:
            raise ValueError(
                f"image: shape {pixels.shape}, but its grid has {image.grid.shape}; give it a grid of its own"
            )
    if pixels.size == 0:
        raise ValueError(f"image: shape {pixels.shape} is empty; expected pixels")
    if valid is not None:
        valid = _checked_valid(valid, pixels.shape[:-1] if colour else pixels.shape)
    refuse_what_does_not_fit(path, pixels.dtype, pixels.ndim, colour, valid is not None)
    write = format_of(path).write
    assert write is not None  # or it would not have fit
    native = np.ascontiguousarray(pixels, pixels.dtype.newbyteorder("="))
    with new_file(path, overwrite=overwrite) as temporary:
        try:
            write(temporary, replace(image, pixels=native, valid=valid))
        except Exception as error:
            raise _not_written(Path(path), temporary, error) from error


def _not_written(path: Path, temporary: Path, error: Exception) -> Exception:
    """Return the error of a writer as one of the file that was asked for; not all libraries say that a disk is full."""
    text = str(error).replace(str(temporary), str(path))
    if isinstance(error, (ValueError, TypeError, ModuleNotFoundError)):
        return type(error)(text)
    space = os.statvfs(path.parent)
    number = errno.ENOSPC if space.f_bavail * space.f_frsize < _FULL else getattr(error, "errno", None)
    why = os.strerror(number) if number else text.strip().splitlines()[-1] if text.strip() else type(error).__name__
    said = OSError(f"{path}: cannot be written: {why}")
    said.errno = number
    return said


def _is_grey(pixels: np.ndarray, valid: np.ndarray | None) -> bool:
    """Return whether the channels are equal wherever pixels are valid; some rows at a time, as most images are not."""
    step = max(1, _AT_ONCE // pixels.shape[1])
    for rows in (slice(start, start + step) for start in range(0, len(pixels), step)):
        same = pixels[rows] == pixels[rows, :, :1]
        if not (same if valid is None else same[valid[rows]]).all():
            return False
    return True


def _held(path: Path, dtype: np.dtype, nodata: float) -> Any:
    """Return the value that stands for nothing in a dtype."""
    info = None if dtype.kind == "f" else np.iinfo(dtype)
    if info is not None and not (float(nodata).is_integer() and info.min <= nodata <= info.max):
        raise ValueError(f"nodata: got {nodata:g}; {path} has {dtype}, which is never that")
    with np.errstate(over="ignore"):  # -1e39 is -inf in float32
        return dtype.type(nodata)


def _checked_valid(valid: Any, shape: tuple[int, ...]) -> np.ndarray | None:
    """Return where an image is valid; None where that is everywhere."""
    if not isinstance(valid, np.ndarray) or valid.dtype != bool:
        got = valid.dtype if isinstance(valid, np.ndarray) else type(valid).__name__
        raise TypeError(f"valid: got {got}; expected an array of bool, False where the image shows nothing")
    if valid.shape != shape:
        raise ValueError(f"valid: shape {valid.shape}; expected that of the image, {shape}")
    return None if valid.all() else valid


def list_images(folder: str | Path, *, below: bool = False) -> list[Path]:
    """Return the image files of a folder, sorted; hidden files are left out.

    Parameters
    ----------
    folder : str or path
        Where to look.
    below : bool
        Whether to look in all folders below it as well.

    Raises
    ------
    NotADirectoryError
        If there is no such folder.

    Examples
    --------
    >>> import tempfile
    >>> folder = Path(tempfile.mkdtemp())
    >>> for name in ("b.png", "a.tif", "notes.txt", ".hidden.png"):
    ...     _ = (folder / name).write_bytes(b"")
    >>> [path.name for path in list_images(folder)]
    ['a.tif', 'b.png']
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise NotADirectoryError(f"{folder}: is not a folder; expected one of images")
    found = folder.rglob("*") if below else folder.iterdir()
    return sorted(
        path
        for path in found
        if is_image(path) and not path.name.startswith(".") and (path.is_file() or is_folder(path))
    )
