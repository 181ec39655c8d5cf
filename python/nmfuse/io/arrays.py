"""Arrays in files of NumPy and HDF5: .npy, .npz, .h5."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Any

import numpy as np

from nmfuse.images import Image
from nmfuse.io.limits import refuse_too_large
from nmfuse.io.tiff import DTYPES


def read_npy(path: Path) -> Image:
    """Return the image of a .npy file; see `nmfuse.io.read_image`. Objects are never loaded from it.

    Raises
    ------
    ValueError
        For an array of other axes than an image or a volume has, without pixels, of a dtype that nothing here takes, or
        of too many pixels.
    """
    pixels = np.load(path, mmap_mode="r", allow_pickle=False)  # which reads the header alone
    if not isinstance(pixels, np.ndarray):
        raise ValueError(f"{path}: is an archive of arrays; expected one array, as numpy.save writes it")
    return _image(path, pixels)


def read_npz(path: Path, name: str | None = None) -> Image:
    """Return an array of a .npz file by its name; the name may be left out where there is one alone."""
    with zipfile.ZipFile(path) as file:
        names = [member.removesuffix(".npy") for member in file.namelist() if member.endswith(".npy")]
        with file.open(f"{_chosen(path, name, names)}.npy") as member:
            version = np.lib.format.read_magic(member)
            of_version = {1: np.lib.format.read_array_header_1_0, 2: np.lib.format.read_array_header_2_0}
            shape, by_columns, dtype = of_version[version[0]](member)
            _check(path, shape, dtype)  # before any of it is unpacked
            size = int(np.prod(shape)) * dtype.itemsize
            data = member.read(size)
    if len(data) != size:
        raise ValueError(f"{path}: not a readable image (it is truncated)")
    return _image(path, np.frombuffer(data, dtype).reshape(shape, order="F" if by_columns else "C"))


def read_hdf5(path: Path, name: str | None = None) -> Image:
    """Return a dataset of an HDF5 file by its path in it; that may be left out where there is one alone.

    Neither links nor data that lie in other files are followed.

    Raises
    ------
    ValueError
        As `read_npy`; for several datasets of which none is chosen, or one that is not there.
    """
    import h5py

    with h5py.File(path, "r") as file:
        found: list[str] = []
        file.visititems(lambda key, item: found.append(key) if isinstance(item, h5py.Dataset) else None)
        data = file[_chosen(path, name, found)]
        if data.is_virtual or data.external:
            raise ValueError(f"{path}: keeps {data.name} in other files; store it in this one")
        return _image(path, data)


def _chosen(path: Path, name: str | None, names: list[str]) -> str:
    wanted = names if name is None else [each for each in names if each.strip("/") == name.strip("/")]
    if len(wanted) != 1:
        said = ", ".join(f"{path}:/{each}" for each in names[:10]) + (", ..." if len(names) > 10 else "")
        raise ValueError(
            f"{path}: holds {len(names)} arrays; choose one: {said or 'there is none'}"
            if name is None
            else f"{path}: has no array {name}; it has {said or 'none'}"
        )
    return wanted[0]


def _check(path: Path, shape: tuple[int, ...], dtype: np.dtype) -> None:
    in_colour = len(shape) > 2 and shape[-1] == 3
    if len(shape) - in_colour not in (2, 3) or 0 in shape:
        raise ValueError(f"{path}: shape {shape}; expected (H, W), (H, W, 3) or a volume of them")
    if dtype.newbyteorder("=").name not in DTYPES:
        raise ValueError(f"{path}: pixels are {dtype}; convert them to one of {', '.join(DTYPES)}")
    refuse_too_large(path, int(np.prod(shape[:-1] if in_colour else shape, dtype=object)))


def _image(path: Path, array: Any) -> Image:
    """Return the image of an array, which may be one that is still in its file."""
    _check(path, tuple(array.shape), array.dtype)
    return Image(np.array(array, array.dtype.newbyteorder("="), order="C"))


def write_npy(path: Path, image: Image) -> None:
    """Write the pixels of an image."""
    with path.open("wb") as file:
        np.save(file, image.pixels, allow_pickle=False)
