"""NIfTI volumes by nibabel: read in one orientation, written back in their own.

A volume is read as (D, H, W) with its axial slices first, whatever the orientation of its file: slices go from feet to
head, rows from back to front, columns from left to right (RAS+, the closest to it where a file is oblique). Its grid
and what else its header says are carried along, and a file of the result has them to the bit.

Where integers are stored with a scale (``scl_slope`` and ``scl_inter``), the values that they stand for are read, and
written back in the same dtype with the same scale, where all of them lie within its range.
"""

from __future__ import annotations

from math import prod
from pathlib import Path
from typing import Any

import numpy as np

from nmfuse.images import Grid, Image
from nmfuse.io.carried import log
from nmfuse.io.orientation import from_ras, to_ras

FLOATS = ("float32", "float64")
DTYPES = ("uint8", "int16", "uint16", "int32", *FLOATS)
_IN_MM = {"meter": 1000.0, "micron": 0.001}  # other units are mm, said or not
_DEFLATED = 1032  # bytes that gzip makes of one, at most
_GEOMETRY = (  # fields of the header that say where voxels lie
    "dim_info", "pixdim", "xyzt_units", "qform_code", "sform_code", "quatern_b", "quatern_c", "quatern_d",
    "qoffset_x", "qoffset_y", "qoffset_z", "srow_x", "srow_y", "srow_z",
)  # fmt: skip


def read(path: Path, page: int | None = None) -> Image:
    """Return the volume of a file, or one of several.

    Parameters
    ----------
    path : path
        .nii or .nii.gz, NIfTI-1 or NIfTI-2.
    page : int, optional
        Which volume, from 0; it must be said where there are several. Of more than four axes the fourth counts fastest.

    Returns
    -------
    Image
        ``pixels`` (D, H, W) as stored: uint8, int16, uint16, int32, float32 or float64. Integers with a scale of whole
        numbers become the first of the stored dtype, int16, uint16 and int32 that holds the values, others become
        float32 (int32: float64), and ``carried["scale"]`` has the stored dtype, slope and intercept. ``spacing`` in mm,
        ``grid``, and the header in ``carried["nifti"]``.

    Raises
    ------
    ValueError
        For several volumes of which none is chosen, one that is not there, a dtype that nothing here takes, an affine
        that gives voxels no place, or another format.

    Examples
    --------
    >>> import nibabel, tempfile
    >>> path = Path(tempfile.mkdtemp()) / "x.nii.gz"
    >>> stored = np.zeros((48, 64, 20), np.int16)  # columns from right to left, rows, slices
    >>> nibabel.save(nibabel.Nifti1Image(stored, np.diag([-1.0, 1.0, 3.0, 1.0])), path)
    >>> image = read(path)
    >>> image.shape, image.spacing, image.dtype.name
    ((20, 64, 48), (3.0, 1.0, 1.0), 'int16')
    """
    import nibabel

    stored = nibabel.load(path, mmap=False)
    if not isinstance(stored, nibabel.Nifti1Image):
        raise ValueError(f"{path}: is a {type(stored).__name__}; expected a NIfTI volume")
    shape, volumes = (*stored.shape, 1, 1)[:3], prod(stored.shape[3:])
    if page is None and volumes != 1:
        raise ValueError(
            f"{path}: holds {volumes} volumes (shape {stored.shape}); choose one by its number, {path}[0] to "
            f"{path}[{volumes - 1}]"
        )
    if page is not None and page >= volumes:
        raise ValueError(f"{path}: has no volume {page}; it has {volumes}, the first is {path}[0]")
    header, dtype = stored.header, stored.get_data_dtype()
    if dtype.newbyteorder("=").name not in DTYPES:
        name = header.get_value_label("datatype")
        raise ValueError(f"{path}: voxels are {name}; convert them to one of {', '.join(DTYPES)}")
    needed = prod(stored.shape) * dtype.itemsize
    if needed > path.stat().st_size * (_DEFLATED if path.suffix.lower() == ".gz" else 1):
        raise ValueError(f"{path}: not a readable image (its header promises {needed} bytes, more than the file holds)")
    unit = _IN_MM.get(header.get_xyzt_units()[0], 1.0)
    try:
        Grid(shape, stored.affine)
    except ValueError as error:
        raise ValueError(f"{path}: its header gives voxels no place ({error}); repair its sform or qform") from error
    data: Any = stored.dataobj
    at = [int(k) for k in np.unravel_index(page or 0, stored.shape[3:], order="F")]
    voxels = nibabel.arrayproxy.ArrayProxy(data.file_like, (data.shape, data.dtype, data.offset), mmap=False)[..., *at]
    if volumes > 1:
        header = header.copy()
        header.set_data_shape(shape)
    carried: dict[str, Any] = {"nifti": header}
    slope, inter = float(data.slope), float(data.inter)
    if (slope, inter) != (1.0, 0.0):
        carried |= {"scale": (voxels.dtype.name, slope, inter)} if voxels.dtype.kind != "f" else {}
        voxels = _scaled(voxels, slope, inter)
    pixels, affine = to_ras(voxels.reshape(shape), np.diag([unit, unit, unit, 1.0]) @ stored.affine)
    grid = Grid(pixels.shape, affine, header)
    return Image(pixels, spacing=grid.spacing, carried=carried, grid=grid)


def write(path: Path, image: Image) -> None:
    """Write a volume, NaN where it is not valid, with the orientation and geometry of the file that its grid is from.

    A grid of no NIfTI file is written as the affine that it is; of an image without a grid the affine says its spacing,
    or 1 mm. Values are stored by ``carried["scale"]``, where there is one: floats to the nearest of its steps, which is
    logged, where all are finite and within its range; integers where that is exact. Other pixels are stored as they
    are.

    Examples
    --------
    >>> import nibabel, tempfile
    >>> path = Path(tempfile.mkdtemp()) / "x.nii"
    >>> write(path, Image(np.zeros((20, 64, 48), np.uint8), spacing=(3.0, 1.0, 1.0)))
    >>> nibabel.load(path).header.get_zooms()
    (np.float32(1.0), np.float32(1.0), np.float32(3.0))
    """
    import nibabel

    pixels, grid = image.pixels, image.grid
    scale = None if image.valid is not None else image.carried.get("scale")
    stored = None if scale is None else _stored(image.name or "image", pixels, *scale)
    if stored is not None:
        pixels = stored
    elif image.valid is not None:
        pixels = np.where(image.valid, pixels, np.nan).astype(pixels.dtype)
    voxels = pixels.transpose()
    known = image.carried.get("nifti")
    header = nibabel.Nifti1Header() if known is None else known.copy()
    if header.get_data_dtype().newbyteorder("=") != pixels.dtype:
        header["cal_min"] = header["cal_max"] = 0  # a window of other values
    header.set_data_dtype(pixels.dtype)
    if grid is not None and isinstance(grid.header, nibabel.Nifti1Header):
        for name in _GEOMETRY:
            header[name] = grid.header[name]
        affine = grid.header.get_best_affine()
        voxels = from_ras(pixels, affine).reshape(grid.header.get_data_shape(), order="F")
    else:
        spacing = image.spacing or (1.0, 1.0, 1.0)
        affine = np.diag([*spacing[::-1], 1.0]) if grid is None else grid.affine[:, [2, 1, 0, 3]]
        header.set_xyzt_units("mm", header.get_xyzt_units()[1])
    kind: Any = nibabel.Nifti2Image if isinstance(header, nibabel.Nifti2Header) else nibabel.Nifti1Image
    written = kind(voxels, affine, header)
    if scale is not None and stored is not None:
        written.header.set_slope_inter(*scale[1:])
    nibabel.save(written, path)


def _scaled(voxels: np.ndarray, slope: float, inter: float) -> np.ndarray:
    """Return the values that stored numbers stand for: integers where slope and intercept are whole and they fit."""
    if voxels.dtype.kind == "f":
        return np.asarray(voxels * slope + inter, voxels.dtype)
    if slope.is_integer() and inter.is_integer():
        ends = [int(slope) * int(end) + int(inter) for end in (voxels.min(), voxels.max())]
        for name in (voxels.dtype.name, "int16", "uint16", "int32"):
            if np.iinfo(name).min <= min(ends) and max(ends) <= np.iinfo(name).max:
                return (voxels.astype(np.int64) * int(slope) + int(inter)).astype(name)
    return np.asarray(voxels * slope + inter, np.float32 if voxels.dtype.itemsize < 4 else np.float64)


def _stored(name: str, pixels: np.ndarray, dtype: str, slope: float, inter: float) -> np.ndarray | None:
    """Return what stands for pixels in integers with a scale; None where that cannot be."""
    steps = np.rint((pixels.astype(np.float64) - inter) / slope)
    info = np.iinfo(dtype)
    if not (np.isfinite(steps).all() and info.min <= steps.min() and steps.max() <= info.max):
        return None
    if pixels.dtype.kind != "f":
        return steps.astype(dtype) if (steps * slope + inter == pixels).all() else None
    log.info("%s: is stored in %s in steps of %g, as the first source is", name, dtype, abs(slope))
    return steps.astype(dtype)
