"""NRRD and MetaImage by SimpleITK: volumes in the order that NIfTI's are here, images as they are stored."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from nmfuse.images import Grid, Image
from nmfuse.io.limits import refuse_too_large
from nmfuse.io.orientation import LPS_TO_RAS, from_ras, to_ras

FLOATS = ("float32", "float64")
DTYPES = ("uint8", "int16", "uint16", "int32", *FLOATS)
_PACKED = 1100  # bytes that a packed one can hold, at most (deflate: 1032)
_OWN = ("ITK_", "NRRD_", "Modality")  # entries that the library makes itself
_DATA_FILE = ("elementdatafile", "data file", "datafile")


class Geometry(NamedTuple):
    """Where the pixels of a file lie, in ITK's own words (LPS, mm)."""

    size: tuple[int, ...]
    origin: tuple[float, ...]
    spacing: tuple[float, ...]
    direction: tuple[float, ...]

    def affine(self) -> np.ndarray:
        """Return the affine from the indices that the file stores to mm: RAS for volumes, ITK's own for images."""
        axes = len(self.size)
        affine = np.eye(axes + 1)
        affine[:axes, :axes] = np.reshape(self.direction, (axes, axes)) * self.spacing
        affine[:axes, axes] = self.origin
        return LPS_TO_RAS @ affine if axes == 3 else affine


def read(path: Path) -> Image:
    """Return the volume, or the image, of a file.

    Parameters
    ----------
    path : path
        .nrrd, .nhdr, .mha or .mhd, of two or three axes; grey, or two axes in RGB. The data file that a .nhdr or .mhd
        names must lie in its folder.

    Returns
    -------
    Image
        ``pixels`` (D, H, W), (H, W) or (H, W, 3) as stored: uint8, int16, uint16, int32, float32 or float64. `grid`,
        and what the header says besides in ``carried["itk"]``.

    Raises
    ------
    ValueError
        For other axes, channels or dtypes, data outside of the folder, or more pixels than the limit or the file holds.

    Examples
    --------
    >>> import SimpleITK, tempfile
    >>> path = Path(tempfile.mkdtemp()) / "x.nrrd"
    >>> stored = SimpleITK.GetImageFromArray(np.zeros((20, 64, 48), np.int16))
    >>> stored.SetSpacing((1.0, 1.0, 3.0))
    >>> SimpleITK.WriteImage(stored, path)
    >>> image = read(path)
    >>> image.shape, image.spacing, image.dtype.name
    ((20, 64, 48), (3.0, 1.0, 1.0), 'int16')
    """
    import SimpleITK

    _check_axes(path)
    _check_data_file(path)
    reader = SimpleITK.ImageFileReader()
    reader.SetFileName(str(path))
    reader.SetImageIO({".nrrd": "NrrdImageIO", ".nhdr": "NrrdImageIO"}.get(path.suffix.lower(), "MetaImageIO"))
    reader.ReadImageInformation()
    size, channels = tuple(int(n) for n in reader.GetSize()), reader.GetNumberOfComponents()
    dtype = SimpleITK.GetPixelIDValueAsString(reader.GetPixelID())
    if len(size) not in (2, 3) or channels not in (1, 3) or (channels == 3 and len(size) == 3):
        raise ValueError(
            f"{path}: has {len(size)} axes {size} and {channels} channel(s); expected a volume, or an image, "
            "grey or RGB"
        )
    refuse_too_large(path, int(np.prod(size, dtype=object)))
    held = sum(file.stat().st_size for file in {path, *_data_files(path)})
    packed = set(_said(path, "encoding", "compresseddata")) - {"raw", "False"}
    itemsize = SimpleITK.Image([1] * len(size), reader.GetPixelID(), channels).GetSizeOfPixelComponent()
    if int(np.prod(size, dtype=object)) * channels * itemsize > held * (_PACKED if packed else 1):
        raise ValueError(f"{path}: not a readable image (its header promises {size} pixels, more than the file holds)")
    stored = reader.Execute()
    voxels = SimpleITK.GetArrayFromImage(stored)
    if voxels.dtype.name not in DTYPES:
        raise ValueError(f"{path}: pixels are {dtype}; convert them to one of {', '.join(DTYPES)}")
    geometry = Geometry(size, stored.GetOrigin(), stored.GetSpacing(), stored.GetDirection())
    said = {key: stored.GetMetaData(key) for key in stored.GetMetaDataKeys() if not key.startswith(_OWN)}
    if len(size) == 3:
        pixels, affine = to_ras(voxels.transpose(), geometry.affine())
    else:
        pixels, affine = voxels, geometry.affine()[:, [1, 0, 2]]
    grid = Grid(pixels.shape[: len(size)], affine, geometry)
    return Image(np.ascontiguousarray(pixels), spacing=grid.spacing, carried={"itk": said}, grid=grid)


def _said(path: Path, *keys: str) -> list[str]:
    """Return what a header says under some keys, which are in lower case."""
    with path.open("rb") as file:
        lines = file.read(2**16).decode("utf-8", "replace").splitlines()
    said = [line.replace("=", ":", 1).split(":", 1) for line in lines if "=" in line or ":" in line]
    return [value.strip() for key, value in said if key.strip().lower() in keys]


def _check_axes(path: Path) -> None:
    """Refuse a MetaImage of a number of axes that the library would count for ever."""
    if path.suffix.lower() in (".mha", ".mhd"):
        for number in _said(path, "ndims"):
            if number not in ("2", "3", "4"):
                raise ValueError(f"{path}: not a readable image (it says that it has {number[:20]!r} axes)")


def _data_files(path: Path) -> list[Path]:
    """Return the files that a header names for its data, where it is a header alone."""
    names = _said(path, *_DATA_FILE) if path.suffix.lower() in (".nhdr", ".mhd") else []
    return [path.parent / name for name in names if name.upper() != "LOCAL"]


def _check_data_file(path: Path) -> None:
    """Refuse a header whose data is anywhere but in a file beside it."""
    for file in _data_files(path):
        if file.resolve().parent != path.resolve().parent:
            raise ValueError(f"{path}: names {file} for its data; expected a file in its own folder")
        if not file.is_file():
            raise ValueError(f"{path}: its data are in {file.name}, which is not one file beside it")


def write(path: Path, image: Image) -> None:
    """Write a volume or an image, packed, NaN where it is not valid, with the geometry of the file its grid is from.

    Of a grid from elsewhere the affine is written, which must have right angles; of an image without one its spacing.

    Raises
    ------
    ValueError
        If the affine of its grid has no right angles, which these formats cannot say.

    Examples
    --------
    >>> import SimpleITK, tempfile
    >>> path = Path(tempfile.mkdtemp()) / "x.mha"
    >>> write(path, Image(np.zeros((20, 64, 48), np.uint8), spacing=(3.0, 1.0, 1.0)))
    >>> SimpleITK.ReadImage(path).GetSpacing()
    (1.0, 1.0, 3.0)
    """
    import SimpleITK

    pixels, axes = image.pixels, image.spatial
    if image.valid is not None:
        pixels = np.where(image.valid, pixels, np.nan).astype(pixels.dtype)
    geometry = _geometry(path, image)
    if axes == 3 and image.grid is not None:
        pixels = from_ras(pixels, geometry.affine()).transpose()
    stored = SimpleITK.GetImageFromArray(np.ascontiguousarray(pixels), isVector=pixels.ndim > axes)
    stored.SetOrigin(geometry.origin)
    stored.SetSpacing(geometry.spacing)
    stored.SetDirection(geometry.direction)
    said: dict[str, Any] = image.carried.get("itk", {})
    for key, value in said.items():
        stored.SetMetaData(key, value)
    SimpleITK.WriteImage(stored, str(path), useCompression=True)


def _geometry(path: Path, image: Image) -> Geometry:
    axes, grid = image.spatial, image.grid
    size = image.shape[:axes][::-1]
    if grid is None:
        spacing = (image.spacing or (1.0,) * axes)[::-1]
        return Geometry(size, (0.0,) * axes, spacing, tuple(np.eye(axes).ravel()))
    if isinstance(grid.header, Geometry):
        return grid.header
    affine = grid.affine[:, [*range(axes)[::-1], axes]]
    if axes == 3:
        affine = LPS_TO_RAS @ affine
    spacing = tuple(float(step) for step in np.linalg.norm(affine[:axes, :axes], axis=0))
    direction = affine[:axes, :axes] / spacing
    if np.abs(direction.T @ direction - np.eye(axes)).max() > 1e-4:
        raise ValueError(f"{path}: the axes of {image.name or 'the image'} have no right angles; write it as .nii")
    return Geometry(size, tuple(affine[:axes, axes]), spacing, tuple(direction.ravel()))
