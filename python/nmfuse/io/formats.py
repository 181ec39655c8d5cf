"""The table of image formats: suffix -> reader, writer, and what a file of it can hold."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cache
from importlib.metadata import entry_points
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from nmfuse.images import Image
from nmfuse.io import arrays, dicom, dicom_derived, exr, itk, nifti, pillow, raw, tiff, zarr

_PAGE = re.compile(r"(?P<file>.+)\[(?P<page>[0-9]+(\.[0-9]+)*)\]", re.DOTALL)  # a page of a file, or a series
_NAMED = re.compile(r"(?P<file>.+\.(npz|h5|hdf5|zarr)):(?P<name>/?[^:]+)", re.DOTALL | re.IGNORECASE)  # an array of it
GROUP = "nmfuse.formats"  # of the entry points that add a `Format` to the table


@dataclass(frozen=True)
class Format:
    """A format of image files: the functions that read and write it, and what it can store.

    Another package can add a format by an entry point in the group ``nmfuse.formats`` whose value is a `Format`.

    Attributes
    ----------
    name : str
        The name of the format.
    suffixes : tuple of str
        The suffixes of its files, in lower case and with the dot.
    read : callable
        The reader, called as (path) and, if `paged`, also as (path, page); it returns an `Image`. It raises ValueError,
        with the path first, if something in the file would be lost; any other error is reported as "not readable".
    write : callable, optional
        The writer, called as (path, image) with a path at which no file exists; an image with `valid` is written with
        an alpha channel. None if the format can only be read.
    open : callable, optional
        Like `read`, but the pixels stay in the file until they are sliced (`nmfuse.io.lazy.LazyPixels`). None if that
        is not possible.
    folder : bool
        Whether its files are folders.
    grey, colour, transparent : tuple of str
        The dtypes of grey images, of colour images, and of images with pixels that are not valid.
    axes : tuple of int
        The numbers of spatial axes that an image may have.
    paged : bool
        Whether a file may have several pages or frames, which `read` selects by their number, from 0.
    pages : callable, optional
        Called as (path); it returns how many pages a file has. None if `nmfuse.io.list_pages` cannot tell.
    named : bool
        Whether a file may have several arrays, which `read` selects by their name.
    options : tuple of str
        The options of `nmfuse.io.read_image` that `read` takes, by name: "bands", "white_balance".
    needs, extra : str
        The import name of the package that is needed in addition, and the extra of nmfuse that installs it.

    Examples
    --------
    >>> from nmfuse.io.formats import format_of
    >>> format_of("x.PNG").name, format_of("x.png").grey
    ('PNG', ('uint8', 'uint16'))
    """

    name: str
    suffixes: tuple[str, ...]
    read: Callable[..., Image]
    write: Callable[[Path, Image], None] | None = None
    grey: tuple[str, ...] = ()
    colour: tuple[str, ...] = ()
    transparent: tuple[str, ...] = ()
    axes: tuple[int, ...] = (2,)
    paged: bool = False
    pages: Callable[[Path], int] | None = None
    named: bool = False
    open: Callable[..., Image] | None = None
    folder: bool = False
    options: tuple[str, ...] = ()
    needs: str = ""
    extra: str = ""

    def check_installed(self, path: str | Path) -> None:
        """Raise ModuleNotFoundError if the package that reads and writes the format is not installed."""
        if self.needs and not _is_installed(self.needs):
            raise ModuleNotFoundError(
                f"{path}: {self.name} needs {self.needs}, which is not installed; pip install 'nmfuse[{self.extra}]'",
                name=self.needs,
            )

    def holds(
        self,
        dtype: str | None = None,
        ndim: int | None = None,
        colour: bool | None = None,
        transparent: bool = False,
    ) -> bool:
        """Return whether the format can store such an image; properties that are None are not checked."""
        if self.write is None:
            return False
        kinds = [False, True] if colour is None else [colour]
        fits = [of_colour for of_colour in kinds if ndim is None or ndim - of_colour in self.axes]
        if transparent and (not self.transparent or (dtype is not None and dtype not in self.transparent)):
            return False
        dtypes = {name for of_colour in fits for name in (self.colour if of_colour else self.grey)}
        return bool(dtypes) if dtype is None else dtype in dtypes

    def what(self) -> str:
        """Return in words what the format can store."""
        if self.write is None:
            return "is only read"
        said = f"holds grey of {', '.join(self.grey)}" if self.grey else "holds no grey"
        said += f", colour of {', '.join(self.colour)}" if self.colour else ", no colour"
        return said + (
            f", transparency with {', '.join(self.transparent)}" if self.transparent else ", no transparency"
        )


def _is_installed(module: str) -> bool:
    try:
        return find_spec(module) is not None
    except ValueError:  # taken out of sys.modules
        return False


def _by_pillow(name: str, *suffixes: str, deep: bool = False, transparent: bool = False, **options: Any) -> Format:
    def write(path: Path, image: Image) -> None:
        pillow.write(path, image, name, **options)

    dtypes = ("uint8", "uint16") if deep else ("uint8",)
    return Format(name, suffixes, pillow.read, write, dtypes, dtypes, dtypes if transparent else (), paged=True)


def _by_itk(name: str, suffix: str) -> Format:
    colour = ("uint8",)
    return Format(
        name, (suffix,), itk.read, itk.write, itk.DTYPES, colour, itk.FLOATS, (2, 3), needs="SimpleITK", extra="medical"
    )


_OURS = (
    _by_pillow("PNG", ".png", deep=True, transparent=True),
    _by_pillow("JPEG", ".jpg", ".jpeg", quality=95),
    _by_pillow("BMP", ".bmp"),
    _by_pillow("WebP", ".webp", transparent=True, quality=95),
    Format(
        "TIFF",
        (".tif", ".tiff"),
        tiff.read,
        tiff.write,
        tiff.DTYPES,
        tiff.DTYPES,
        tiff.DTYPES,
        paged=True,
        pages=tiff.count_pages,
        open=tiff.open_tiff,
        options=("bands",),
    ),
    Format(
        "OME-TIFF",
        (".ome.tif", ".ome.tiff"),
        tiff.read,
        paged=True,
        pages=tiff.count_pages,
        open=tiff.open_tiff,
        options=("bands",),
    ),
    Format("GIF", (".gif",), pillow.read, paged=True),
    _by_pillow("AVIF", ".avif", transparent=True, quality=95),
    Format(
        "NumPy",
        (".npy",),
        arrays.read_npy,
        arrays.write_npy,
        tiff.DTYPES,
        tiff.DTYPES,
        (),
        (2, 3),
        open=arrays.open_npy,
    ),
    Format("NumPy's archive", (".npz",), arrays.read_npz, named=True),
    Format("HDF5", (".h5", ".hdf5"), arrays.read_hdf5, named=True, open=arrays.open_hdf5, needs="h5py", extra="big"),
    Format(
        "Zarr",
        (".zarr",),
        zarr.read,
        zarr.write,
        tiff.DTYPES,
        tiff.DTYPES,
        zarr.FLOATS,
        (2, 3),
        paged=True,
        named=True,
        open=zarr.open_zarr,
        folder=True,
        needs="zarr",
        extra="big",
    ),
    Format("Raw photograph", raw.SUFFIXES, raw.read, options=("white_balance",), needs="rawpy", extra="photo"),
    Format("HEIF", (".heic", ".heif"), pillow.read_heif, paged=True, needs="pillow_heif", extra="photo"),
    Format(
        "OpenEXR",
        (".exr",),
        exr.read,
        exr.write,
        exr.DTYPES,
        exr.DTYPES,
        exr.DTYPES,
        paged=True,
        needs="OpenEXR",
        extra="photo",
    ),
    Format(
        "NIfTI",
        (".nii", ".nii.gz"),
        nifti.read,
        nifti.write,
        nifti.DTYPES,
        (),
        nifti.FLOATS,
        (3,),
        paged=True,
        needs="nibabel",
        extra="medical",
    ),
    _by_itk("NRRD", ".nrrd"),
    _by_itk("MetaImage", ".mha"),
    Format("NRRD or MetaImage in two files", (".nhdr", ".mhd"), itk.read, needs="SimpleITK", extra="medical"),
    Format(
        "DICOM",
        (".dcm",),
        dicom.read,
        dicom_derived.write,
        dicom_derived.DTYPES,
        ("uint8",),
        dicom_derived.WITH_PADDING,
        (2, 3),
        paged=True,
        needs="pydicom",
        extra="medical",
    ),
)


@cache
def _table() -> dict[str, Format]:
    """Return every suffix with its format: ours first, then those of entry points."""
    table = {suffix: ours for ours in _OURS for suffix in ours.suffixes}
    for point in entry_points(group=GROUP):
        added = point.load()
        if not isinstance(added, Format):
            raise TypeError(
                f"{GROUP}: the entry point {point.name} ({point.value}) is a {type(added).__name__}; "
                "expected a nmfuse.io.Format"
            )
        for suffix in added.suffixes:
            if suffix in table:
                raise ValueError(
                    f"{GROUP}: the entry point {point.name} ({point.value}) has {suffix}, which {table[suffix].name} "
                    "has already; uninstall one of them"
                )
            table[suffix] = added
    return table


def formats() -> tuple[Format, ...]:
    """Return all formats, whether what they need is installed or not.

    Examples
    --------
    >>> formats()[0].name
    'PNG'
    """
    return tuple(dict.fromkeys(_table().values()))


def suffixes() -> tuple[str, ...]:
    """Return the suffixes of all image files that can be read, in lower case.

    Examples
    --------
    >>> ".png" in suffixes(), ".csv" in suffixes()
    (True, False)
    """
    return tuple(_table())


def is_image(path: str | Path) -> bool:
    """Return whether a path has the suffix of an image file that can be read, in any case.

    Examples
    --------
    >>> is_image("mri.TIF"), is_image("mri.csv")
    (True, False)
    """
    return _find(path) is not None


def is_folder(path: str | Path) -> bool:
    """Return whether a path is a folder that is one image, by its suffix.

    Examples
    --------
    >>> is_folder("nowhere.zarr")
    False
    """
    found = _find(path)
    return found is not None and found.folder and split_page(path)[0].is_dir()


def format_of(path: str | Path) -> Format:
    """Return the format of a path's suffix.

    Raises
    ------
    ValueError
        For an unknown suffix.
    ModuleNotFoundError
        If the format needs a package that is not there.

    Examples
    --------
    >>> format_of("mri.tiff").name
    'TIFF'
    """
    found = _find(path)
    if found is None:
        raise ValueError(f"{path}: unknown image suffix {Path(path).suffix!r}; expected one of {', '.join(suffixes())}")
    found.check_installed(path)
    return found


def format_to_read(path: str | Path) -> Format:
    """Return the format of what is at a path: of its suffix; of another folder, and of a file that begins so, DICOM.

    Examples
    --------
    >>> format_to_read("mri.tiff").name
    'TIFF'
    """
    found = _find(path)
    if Path(path).is_dir() == (found is not None and found.folder) and (found or not dicom.is_dicom(Path(path))):
        return format_of(path)
    found = _table()[".dcm"]
    found.check_installed(path)
    return found


def can_be_written(path: str | Path) -> bool:
    """Return whether a path has, or is, the suffix of a format that is written here, and what it needs is installed.

    Examples
    --------
    >>> can_be_written("x.png"), can_be_written(".tif"), can_be_written("x.gif")
    (True, True, False)
    """
    found = _find(f"x{Path(path).name}")
    return found is not None and found.write is not None and (not found.needs or _is_installed(found.needs))


def split_page(path: str | Path) -> tuple[Path, int | str | None]:
    """Return the file that a path names, and the page of it, or the array: but where a file is so named.

    "scans[1.2.840.1]" is a series of DICOM in a folder, by its UID; "x.zarr:/0[3]" is page 3 of an array.

    Examples
    --------
    >>> split_page("scans/x.tif[3]")
    (PosixPath('scans/x.tif'), 3)
    >>> split_page("scans/x.h5:/t1/raw")
    (PosixPath('scans/x.h5'), '/t1/raw')
    >>> split_page("scans/x.tif")
    (PosixPath('scans/x.tif'), None)
    >>> split_page("scans[1.2.840.1]")
    (PosixPath('scans'), '1.2.840.1')
    """
    path = Path(path)
    return (path, None) if path.exists() else _split(str(path))


def _split(path: str) -> tuple[Path, int | str | None]:
    if found := _NAMED.fullmatch(path):
        return Path(found["file"]), found["name"]
    if found := _PAGE.fullmatch(path):
        page = found["page"]
        return Path(found["file"]), int(page) if page.isdecimal() else page
    return Path(path), None


def split_suffix(path: str | Path) -> tuple[str, str]:
    """Return the name of an image file without the suffix of its format, and that suffix, as they are written.

    Examples
    --------
    >>> split_suffix("scans/ct.nii.gz"), split_suffix("x.TIF[3]"), split_suffix("notes")
    (('ct', '.nii.gz'), ('x', '.TIF'), ('notes', ''))
    """
    name = split_page(path)[0].name
    at = len(name) - len(_suffix(name))
    return name[:at], name[at:]


def _suffix(name: str) -> str:
    """Return the suffix of the table, the longest, with which a name ends; "" where there is none."""
    name = name.lower()
    return max((suffix for suffix in _table() if name.endswith(suffix) and name != suffix), key=len, default="")


def _find(path: str | Path) -> Format | None:
    return _table().get(_suffix(_split(str(path))[0].name))


def refuse_what_does_not_fit(
    path: str | Path,
    dtype: Any = None,
    ndim: int | None = None,
    colour: bool | None = None,
    transparent: bool = False,
) -> None:
    """Refuse a path whose format cannot hold such an image, or whose suffix is unknown; what is None is not asked.

    Raises
    ------
    ValueError
        If it cannot; it says what the format holds, and which suffixes hold such an image.

    Examples
    --------
    >>> refuse_what_does_not_fit("x.jpg", "uint16")
    Traceback (most recent call last):
    ...
    ValueError: x.jpg: JPEG cannot hold uint16 images (it holds grey of uint8, ...); write .png, .tif, .tiff...
    """
    chosen = format_of(path)
    name = None if dtype is None else np.dtype(dtype).name
    if chosen.holds(name, ndim, colour, transparent):
        return
    others = [suffix for suffix, other in _table().items() if other.holds(name, ndim, colour, transparent)]
    raise ValueError(
        f"{path}: {chosen.name} cannot hold {_described(name, ndim, colour, transparent)} (it {chosen.what()}); "
        + (f"write {', '.join(others)}" if others else "no format here does: convert the pixels")
        + (", or fill those that are not valid (fill=, --fill)" if transparent else "")
    )


def _described(dtype: str | None, ndim: int | None, colour: bool | None, transparent: bool) -> str:
    words: Iterable[str | None] = (
        dtype,
        None if colour is None else "colour" if colour else "grey",
        "images",
        None if ndim is None else f"of {ndim} axes",
        "with pixels that are not valid (transparent)" if transparent else None,
    )
    return " ".join(word for word in words if word)
