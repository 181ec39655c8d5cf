"""Arrays in files of NumPy and HDF5: .npy, .npz, .h5."""

from __future__ import annotations

import math
import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np

from nmfuse.images import Image
from nmfuse.io.chunks import BoundedDataset
from nmfuse.io.lazy import LazyPixels, MappedArray
from nmfuse.io.limits import refuse_too_large
from nmfuse.io.tiff import DTYPES


def open_npy(path: Path) -> Image:
    """Return the image of a .npy file, its pixels still there; see `nmfuse.io.open_image`."""
    mapped = np.load(path, mmap_mode="r", allow_pickle=False)  # which reads the header alone
    if not isinstance(mapped, np.memmap):
        raise ValueError(f"{path}: is an archive of arrays; expected one array, as numpy.save writes it")
    check_kind(path, mapped.shape, mapped.dtype)
    order = "C" if mapped.flags.c_contiguous else "F"
    return Image(LazyPixels(path, MappedArray(path, mapped.shape, mapped.dtype, mapped.offset, order)))


def read_npy(path: Path) -> Image:
    """Return the image of a .npy file; see `nmfuse.io.read_image`. Objects are never loaded from it.

    Raises
    ------
    ValueError
        For an array of other axes than an image or a volume has, without pixels, of a dtype that nothing here takes, or
        of too many pixels.
    """
    return _whole(path, open_npy(path))


def read_npz(path: Path, name: str | None = None) -> Image:
    """Return an array of a .npz file by its name; the name may be left out where there is one alone."""
    with zipfile.ZipFile(path) as file:
        names = [member.removesuffix(".npy") for member in file.namelist() if member.endswith(".npy")]
        with file.open(f"{chosen_name(path, name, names)}.npy") as member:
            version = np.lib.format.read_magic(member)
            of_version = {1: np.lib.format.read_array_header_1_0, 2: np.lib.format.read_array_header_2_0}
            shape, by_columns, dtype = of_version[version[0]](member)
            check_kind(path, shape, dtype)  # before any of it is unpacked
            _check_size(path, shape)
            size = int(np.prod(shape)) * dtype.itemsize
            data = member.read(size)
    if len(data) != size:
        raise ValueError(f"{path}: not a readable image (it is truncated)")
    pixels = np.frombuffer(data, dtype).reshape(shape, order="F" if by_columns else "C")
    return Image(np.array(pixels, dtype.newbyteorder("="), order="C"))


def open_hdf5(path: Path, name: str | None = None) -> Image:
    """Return a dataset of an HDF5 file by its path in it, its pixels still there; see `nmfuse.io.open_image`.

    Neither links nor data that lie in other files are followed.

    Raises
    ------
    ValueError
        As `read_npy`; for several datasets of which none is chosen, or one that is not there.
    """
    import h5py

    file = h5py.File(path, "r")
    try:
        found: list[str] = []
        file.visititems(lambda key, item: found.append(key) if isinstance(item, h5py.Dataset) else None)
        data = file[chosen_name(path, name, found)]
        if data.is_virtual or data.external:
            raise ValueError(f"{path}: keeps {data.name} in other files; store it in this one")
        check_kind(path, data.shape, data.dtype)
        refuse_too_large(path, math.prod(data.chunks or (1,)))
        return Image(LazyPixels(path, BoundedDataset(data)).closing(file))
    except Exception:
        file.close()
        raise


def read_hdf5(path: Path, name: str | None = None) -> Image:
    """Return a dataset of an HDF5 file by its path in it; that may be left out where there is one alone."""
    return _whole(path, open_hdf5(path, name))


def chosen_name(path: Path, name: str | None, names: list[str]) -> str:
    """Return the name of the array that is asked for, or of the only one; refuse where that is none."""
    wanted = names if name is None else [each for each in names if each.strip("/") == name.strip("/")]
    if len(wanted) != 1:
        said = ", ".join(f"{path}:/{each}" for each in names[:10]) + (", ..." if len(names) > 10 else "")
        raise ValueError(
            f"{path}: holds {len(names)} arrays; choose one: {said or 'there is none'}"
            if name is None
            else f"{path}: has no array {name}; it has {said or 'none'}"
        )
    return wanted[0]


def check_kind(path: Path, shape: tuple[int, ...], dtype: np.dtype) -> None:
    """Refuse an array that is no image, no volume, or of a dtype that nothing here takes."""
    if len(shape) - _in_colour(shape) not in (2, 3) or 0 in shape:
        raise ValueError(f"{path}: shape {shape}; expected (H, W), (H, W, 3) or a volume of them")
    if dtype.newbyteorder("=").name not in DTYPES:
        raise ValueError(f"{path}: pixels are {dtype}; convert them to one of {', '.join(DTYPES)}")


def _in_colour(shape: tuple[int, ...]) -> bool:
    return len(shape) > 2 and shape[-1] == 3


def _check_size(path: Path, shape: tuple[int, ...]) -> None:
    refuse_too_large(path, math.prod(shape[:-1] if _in_colour(shape) else shape))


def _whole(path: Path, image: Image) -> Image:
    """Return an image with its pixels in memory."""
    _check_size(path, image.shape)
    return replace(image, pixels=np.asarray(image.pixels))


def write_npy(path: Path, image: Image) -> None:
    """Write the pixels of an image."""
    with path.open("wb") as file:
        np.save(file, image.pixels, allow_pickle=False)
