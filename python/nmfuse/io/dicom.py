"""DICOM read by pydicom: a file, a frame of one, or a folder of slices; `nmfuse.io.dicom_derived` writes.

A series is read as a volume (D, H, W), its slices ordered by where they lie and not by name or number, in the one
orientation that volumes of NIfTI have too: slices go from feet to head, rows from back to front, columns from left to
right (RAS+, the closest to it where the slices are oblique). A single slice is an image, its rows as they are stored.
"""

from __future__ import annotations

import zlib
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np

from nmfuse.images import Grid, Image
from nmfuse.io.carried import log, warnings_logged
from nmfuse.io.codestreams import j2k_sizes, jpeg_sizes
from nmfuse.io.dicom_codecs import decoder_for
from nmfuse.io.limits import max_pixels, refuse_too_large
from nmfuse.io.orientation import LPS_TO_RAS, to_ras

_EVEN = 0.2  # share of the distance between two slices, by which one may lie off its even place: some round to 0.1 mm
_ALIKE = 1e-3  # largest difference of two direction cosines that count as equal; of pixel spacings, as a share
_DEFLATED = "1.2.840.10008.1.2.1.99"
_META = 144  # bytes in front of what the length of the file meta information counts
_NM = "1.2.840.10008.5.1.4.1.1.20"
_TAKEN_AS = {"int8": "int16", "uint32": "int32", "int64": "int32"}  # dtypes that are none of an image
_UNITS = {"BQML": "Bq/ml", "GML": "SUV"}
_IN_TIME = (  # what tells images of one place apart
    "EchoTime", "InversionTime", "TemporalPositionIdentifier", "TriggerTime", "FrameReferenceTime", "DiffusionBValue",
    "AcquisitionNumber", "AcquisitionTime", "ImageType", "InstanceNumber",
)  # fmt: skip


@dataclass(frozen=True, eq=False)
class Source:
    """What a DICOM image says of itself, for files that are derived from it: ``Image.carried["sources"]``.

    Attributes
    ----------
    header : pydicom.Dataset
        Of one file of it, without pixels: the one that was acquired first.
    instances : tuple of (str, str)
        SOP class and SOP instance UID of each file.
    plane : array, shape (4, 4), optional
        Of a single slice: takes (column, row, slice) to mm, RAS+. A volume has a `Grid`.
    shape : tuple of int
        Rows and columns of a slice.
    """

    header: Any
    instances: tuple[tuple[str, str], ...]
    plane: np.ndarray | None
    shape: tuple[int, int]


@dataclass(frozen=True)
class Frame:
    """The header of a DICOM grid: the coordinates that its mm are of, and the order in which frames are stored.

    Attributes
    ----------
    reference, indicator : str
        Frame of Reference UID, and Position Reference Indicator.
    axes : tuple of str
        Where columns, rows and slices run to, such as ("L", "P", "S").
    """

    reference: str
    indicator: str
    axes: tuple[str, ...]


@dataclass(frozen=True, eq=False)
class _Slice:
    """One frame of a file, with what its header says of it."""

    path: Path
    header: Any
    index: int
    position: np.ndarray | None  # (3,), LPS mm, of the centre of its first pixel
    directions: np.ndarray | None  # (2, 3): of a row (along columns), of a column
    spacing: tuple[float, float] | None  # from row to row, from column to column
    slope: float
    intercept: float


def is_dicom(path: Path) -> bool:
    """Return whether a file begins as DICOM does, whatever its name.

    Examples
    --------
    >>> import tempfile
    >>> path = Path(tempfile.mkdtemp()) / "IM0001"
    >>> _ = path.write_bytes(bytes(128) + b"DICM")
    >>> is_dicom(path)
    True
    """
    if not path.is_file():
        return False
    with path.open("rb") as file:
        return file.read(132)[128:] == b"DICM"


def read(path: Path, page: int | str | None = None) -> Image:
    """Return the image or the volume of a file or of a folder.

    Parameters
    ----------
    path : path
        A file of one image or of many frames (enhanced CT, MR, PET and the like, or SPECT), or a folder, which is
        searched with the folders in it. Files in it that are no images (DICOMDIR, reports) are left out, which is
        logged.
    page : int or str, optional
        Of a file: a frame, from 0. Of a folder of several series: the SeriesInstanceUID of one.

    Returns
    -------
    Image
        ``pixels`` (H, W) of one slice or (D, H, W) of several, of RGB with an axis of 3 behind. Rescale slope and
        intercept (or the modality LUT) are applied: integers where all of them are whole, in the dtype that is stored
        or else the first of int16, uint16 and int32 that holds them; else float32. Black is less than white:
        MONOCHROME1 without a unit is inverted. Palettes and YBR become RGB. ``valid`` is False at the pixel padding
        value. A volume has its `grid`, and a `Frame` as its header. ``carried["sources"]`` has a `Source` (whose header
        has the window, too), ``carried["unit"]`` is "HU", "Bq/ml" or "SUV", where the file says so.

    Raises
    ------
    ValueError
        For slices that make no volume (gaps, two in one place, unlike orientation, spacing or size), several series or
        frames of which none is chosen, several times or echoes, a file that is no image, and sizes that are not those
        of the data.

    Examples
    --------
    >>> import tempfile
    >>> from nmfuse.io import dicom_derived
    >>> path = Path(tempfile.mkdtemp()) / "x.dcm"
    >>> dicom_derived.write(path, Image(np.arange(-5, 7, dtype=np.int16).reshape(3, 4)))
    >>> image = read(path)
    >>> image.shape, image.dtype.name, int(image.pixels.min())
    ((3, 4), 'int16', -5)
    """
    with warnings_logged(path, "pydicom"):
        slices = _of_folder(path, page) if path.is_dir() else _of_file(path, page)
        _check_alike(path, slices)
        affine = None
        if len(slices) > 1:
            slices, affine = _in_space(path, slices)
        return _image(slices, affine)


def _of_file(path: Path, page: Any) -> list[_Slice]:
    """Return the slices of a file, or the chosen one."""
    if not is_dicom(path):
        raise ValueError(f"{path}: not a readable image (it does not begin as DICOM does)")
    header = _header(path)
    if "Rows" not in header or "Columns" not in header:
        raise ValueError(f"{path}: holds no image ({_kind(header) or 'it does not say what it is'})")
    slices = _slices(path, header)
    if page is not None:
        if page >= len(slices):
            raise ValueError(f"{path}: has no frame {page}; it has {len(slices)}, the first is {path}[0]")
        return [slices[page]]
    if len(slices) > 1 and any(each.position is None or each.directions is None for each in slices):
        raise ValueError(
            f"{path}: has {len(slices)} frames and says not where they lie, so they are no volume; choose one by its "
            f"number, {path}[0] to {path}[{len(slices) - 1}]"
        )
    return slices


def _of_folder(folder: Path, uid: int | str | None) -> list[_Slice]:
    """Return the slices of the series of a folder, or of the chosen one."""
    series: dict[str, list[tuple[Path, Any]]] = defaultdict(list)
    for path in sorted(folder.rglob("*")):
        if any(part.startswith(".") for part in path.relative_to(folder).parts) or not path.is_file():
            continue
        if not is_dicom(path) and path.suffix.lower() != ".dcm":
            log.info("%s: is no DICOM file, and is left out", path)
            continue
        try:
            header = _header(path)
        except Exception as error:
            if str(error).startswith(f"{path}:"):
                raise  # it says what is wrong
            raise ValueError(f"{path}: not a readable image ({type(error).__name__}: {error})") from error
        if "Rows" in header and "Columns" in header:
            series[str(header.get("SeriesInstanceUID", ""))].append((path, header))
        elif not (kind := _kind(header)) or "Image Storage" in kind:  # one that is missed would not be a gap at the end
            raise ValueError(f"{path}: not a readable image (it is truncated, or has no pixels)")
        else:
            log.info("%s: holds no image (%s), and is left out", path, kind)
    if not series:
        raise ValueError(f"{folder}: is a folder without DICOM images; expected an image file, or a folder of a series")
    if len(series) > 1 if uid is None else str(uid) not in series:
        said = "holds several series" if uid is None else f"holds no series {uid}"
        lines = "; ".join(
            f"{folder}[{name}] ({files[0][1].get('Modality', '')} {files[0][1].get('SeriesDescription', '')!r}, "
            f"{sum(_count(path, header) for path, header in files)} images)"
            for name, files in sorted(series.items())
        )
        raise ValueError(f"{folder}: {said}; choose one by its SeriesInstanceUID: {lines}")
    chosen = series[str(uid)] if uid is not None else next(iter(series.values()))
    return [each for path, header in chosen for each in _slices(path, header)]


def _header(path: Path) -> Any:
    """Return all that a file says but its pixels."""
    import pydicom

    meta = pydicom.filereader.read_file_meta_info(path)
    if meta.get("TransferSyntaxUID") == _DEFLATED:
        _refuse_too_much(path, _META + int(meta.FileMetaInformationGroupLength))
    return pydicom.dcmread(path, stop_before_pixels=True)


def _refuse_too_much(path: Path, start: int) -> None:
    """Refuse a deflated file that becomes larger than any image within the limit, without keeping any of it."""
    most, size, unpack = 8 * max_pixels(), 0, zlib.decompressobj(-zlib.MAX_WBITS)
    with path.open("rb") as file:
        file.seek(start)
        for piece in iter(lambda: unpack.unconsumed_tail or file.read(2**16), b""):
            size += len(unpack.decompress(piece, 2**20))
            if size > most:
                refuse_too_large(path, size)


def _kind(header: Any) -> str:
    """Say what a file without an image is; nothing where it does not say so."""
    uid = header.get("SOPClassUID") or header.file_meta.get("MediaStorageSOPClassUID", "")
    return str(uid.name) if uid else ""


def _count(path: Path, header: Any) -> int:
    """Return how many frames a file says it has, once its size is known to be no lie."""
    rows, columns, samples = (int(header.get(name) or 0) for name in ("Rows", "Columns", "SamplesPerPixel"))
    try:
        frames = int(header.get("NumberOfFrames") or 1)
    except ValueError:
        frames = 0
    bits = int(header.get("BitsAllocated") or 0)
    if min(rows, columns, samples, frames, bits) < 1:
        raise ValueError(
            f"{path}: not a readable image (it says {frames} frames of {rows} x {columns} pixels of {samples} x {bits} "
            "bits)"
        )
    syntax = header.file_meta.TransferSyntaxUID
    if syntax.is_encapsulated or syntax == _DEFLATED:
        refuse_too_large(path, rows * columns * frames)
    needed = -(-rows * columns * samples * frames * bits // 8)
    if header.get("PhotometricInterpretation") == "YBR_FULL_422":
        needed = needed * 2 // 3
    if not (syntax.is_encapsulated or syntax == _DEFLATED) and needed > path.stat().st_size:
        raise ValueError(f"{path}: not a readable image (its header promises {needed} bytes, more than the file holds)")
    return frames


def _slices(path: Path, header: Any) -> list[_Slice]:
    """Return the frames of a file, each with its place, its spacing and its scale."""
    frames = _count(path, header)
    shared = (header.get("SharedFunctionalGroupsSequence") or [{}])[0]
    each = header.get("PerFrameFunctionalGroupsSequence") or [{}] * frames
    if len(each) != frames:
        raise ValueError(f"{path}: not a readable image (it has {frames} frames, and says where {len(each)} lie)")
    placed = frames == 1 or "PerFrameFunctionalGroupsSequence" in header
    spect, along = header, None  # a plain header places one frame alone
    if not placed and header.get("SOPClassUID") == _NM and header.get("DetectorInformationSequence"):
        spect, along = header.DetectorInformationSequence[0], header.get("SpacingBetweenSlices")
        placed = along is not None

    def found(group: Any, sequence: str, keyword: str) -> Any:
        for one in (group, shared):
            items = one.get(sequence)
            if items and (value := items[0].get(keyword)) is not None:
                return value
        value = header.get(keyword)
        return spect.get(keyword) if value is None else value

    result = []
    for index, group in enumerate(each):
        position = _floats(path, found(group, "PlanePositionSequence", "ImagePositionPatient"), 3) if placed else None
        cosines = _floats(path, found(group, "PlaneOrientationSequence", "ImageOrientationPatient"), 6)
        spacing = _floats(path, found(group, "PixelMeasuresSequence", "PixelSpacing"), 2)
        directions = None if cosines is None else _directions(path, cosines)
        if along is not None and position is not None and directions is not None:
            position = position + index * float(along) * np.cross(*directions)
        slope = _floats(path, found(group, "PixelValueTransformationSequence", "RescaleSlope"), 1)
        intercept = _floats(path, found(group, "PixelValueTransformationSequence", "RescaleIntercept"), 1)
        if spacing is not None and not (spacing > 0).all():
            raise ValueError(f"{path}: its pixel spacing is {spacing.tolist()}; expected two numbers above 0")
        result.append(
            _Slice(
                path,
                header,
                index,
                position,
                directions,
                None if spacing is None else (float(spacing[0]), float(spacing[1])),
                1.0 if slope is None else float(slope[0]),
                0.0 if intercept is None else float(intercept[0]),
            )
        )
    return result


def _floats(path: Path, value: Any, count: int) -> np.ndarray | None:
    """Return the numbers of a tag; None where it is missing or empty."""
    if value is None or value == "" or (count > 1 and len(value) == 0):
        return None
    numbers = np.atleast_1d(np.array(value, np.float64))
    if numbers.shape != (count,) or not np.isfinite(numbers).all():
        raise ValueError(f"{path}: not a readable image (got {value} where {count} numbers are expected)")
    return numbers


def _directions(path: Path, cosines: np.ndarray) -> np.ndarray:
    """Return the directions of rows and columns, (2, 3), of length 1."""
    along = cosines.reshape(2, 3)
    lengths = np.linalg.norm(along, axis=1)
    if (np.abs(lengths - 1) > 0.01).any() or abs(along[0] @ along[1]) > 0.01:
        raise ValueError(
            f"{path}: its orientation is {cosines.tolist()}; expected two directions at right angles, of length 1"
        )
    return np.asarray(along / lengths[:, None])


def _check_alike(path: Path, slices: Sequence[_Slice]) -> None:
    """Refuse slices that are not of one size, one kind, one orientation and one spacing."""
    first = slices[0]
    if len(slices) > 1:
        for each in slices:
            for what, tag in ((each.position, "ImagePositionPatient"), (each.directions, "ImageOrientationPatient")):
                if what is None:
                    raise ValueError(f"{each.path}: has no {tag}, so nothing says where it lies; take it out of {path}")
            if each.spacing is None:
                raise ValueError(f"{each.path}: has no PixelSpacing, which a volume needs; take it out of {path}")
    for each in slices[1:]:
        for name, got, expected in (
            ("size", _size(each), _size(first)),
            ("kind of pixels", *(_pixels_of(one.header) for one in (each, first))),
            ("orientation", *(_rounded(one.directions) for one in (each, first))),
            ("pixel spacing in mm", *(_rounded(one.spacing) for one in (each, first))),
            ("frame of reference", *(one.header.get("FrameOfReferenceUID") for one in (each, first))),
        ):
            if got == expected:
                continue
            if name in ("orientation", "pixel spacing in mm") and np.allclose(got, expected, atol=_ALIKE, rtol=_ALIKE):
                continue
            raise ValueError(
                f"{path}: its images are not of one volume: {_named(each)} has {name} {got}, {_named(first)} has "
                f"{expected}; put those of one volume into a folder of their own"
            )


def _size(each: _Slice) -> str:
    return f"{each.header.Rows} x {each.header.Columns}"


def _pixels_of(header: Any) -> str:
    return f"{header.get('PhotometricInterpretation')} of {header.SamplesPerPixel} x {header.BitsAllocated} bits"


def _rounded(numbers: Any) -> list[Any]:
    rounded: list[Any] = np.round(np.asarray(numbers), 4).tolist()
    return rounded


def _named(each: _Slice) -> str:
    return each.path.name if "NumberOfFrames" not in each.header else f"{each.path.name}[{each.index}]"


def _in_space(path: Path, slices: Sequence[_Slice]) -> tuple[list[_Slice], np.ndarray]:
    """Return slices in their order along the normal, and what takes (column, row, slice) to mm, RAS+."""
    first = slices[0]
    assert first.directions is not None
    normal = np.cross(*first.directions)
    positions = np.array([each.position for each in slices])
    order = np.argsort(positions @ normal, kind="stable")
    slices, positions = [slices[k] for k in order], positions[order]
    places = positions @ normal
    gaps = np.diff(places)
    _refuse_copies(path, slices, places, gaps)
    step = (positions[-1] - positions[0]) / (len(slices) - 1)
    even = positions[0] + np.arange(len(slices))[:, None] * step
    if (np.linalg.norm(positions - even, axis=1) > _EVEN * np.linalg.norm(step)).any():
        usual = float(np.median(gaps))
        k = int(np.abs(gaps - usual).argmax())
        missing = round(gaps[k] / usual) - 1
        raise ValueError(
            f"{path}: its slices are not evenly spaced: {_named(slices[k])} and {_named(slices[k + 1])} are "
            f"{gaps[k]:.4g} mm apart, most others {usual:.4g} mm"
            + (
                f"; {missing} {'slice is' if missing == 1 else 'slices are'} missing between them"
                if missing > 0
                else ""
            )
        )
    return slices, _affine(first, step, positions[0])


def _refuse_copies(path: Path, slices: Sequence[_Slice], places: np.ndarray, gaps: np.ndarray) -> None:
    """Refuse slices that lie in one place: copies, or several times or echoes."""
    if (gaps > _ALIKE).all():
        return
    k = int((gaps <= _ALIKE).argmax())
    one, other = slices[k], slices[k + 1]
    where = f"{_named(one)} and {_named(other)} lie in one place ({places[k]:.4g} mm along the normal of the slices)"
    counts = Counter(int(n) for n in np.searchsorted(places, places - _ALIKE))
    many = set(counts.values())
    same = one.path != other.path and one.header.get("SOPInstanceUID") == other.header.get("SOPInstanceUID")
    if len(many) == 1 and not same:
        differ = [
            f"{name} {one.header.get(name)} and {other.header.get(name)}"
            for name in _IN_TIME
            if one.header.get(name) != other.header.get(name)
        ]
        raise ValueError(
            f"{path}: holds {many.pop()} images of each of {len(counts)} places, such as several times or echoes "
            f"({where}, {differ[0] if differ else 'with the same tags'}); put those of one volume into a folder of "
            "their own"
        )
    raise ValueError(f"{path}: {where}{', and are copies of one image' if same else ''}; take one of them out")


def _image(slices: Sequence[_Slice], affine: np.ndarray | None) -> Image:
    """Return the pixels of slices in their order, in their place."""
    first = slices[0].header
    unit = _unit(first)
    pixels, valid = _decoded(slices, unit)
    headers = {each.path: each.header for each in slices}.values()
    source = Source(
        min(headers, key=_acquired),
        tuple((str(x.get("SOPClassUID", "")), str(x.get("SOPInstanceUID", ""))) for x in headers),
        _plane(slices[0]) if affine is None else None,
        (int(first.Rows), int(first.Columns)),
    )
    carried = {"sources": (source,)} | ({} if unit is None else {"unit": unit})
    if affine is None:
        return Image(pixels[0], None if valid is None else valid[0], spacing=slices[0].spacing, carried=carried)
    from nibabel.orientations import aff2axcodes

    turned, to_mm = to_ras(np.swapaxes(pixels, 0, 2), affine)
    shown = None if valid is None else to_ras(np.swapaxes(valid, 0, 2), affine)[0]
    uid, indicator = (str(first.get(x) or "") for x in ("FrameOfReferenceUID", "PositionReferenceIndicator"))
    grid = Grid(turned.shape[:3], to_mm, Frame(uid, indicator, aff2axcodes(affine)))
    return Image(turned, shown, spacing=grid.spacing, carried=carried, grid=grid)


def _plane(each: _Slice) -> np.ndarray | None:
    """Return what takes (column, row, slice) of one slice to mm, RAS+; None where it does not say where it lies."""
    if each.position is None or each.directions is None or each.spacing is None:
        return None
    thick = float(each.header.get("SliceThickness") or 1)
    return _affine(each, thick * np.cross(*each.directions), each.position)


def _affine(each: _Slice, step: np.ndarray, position: np.ndarray) -> np.ndarray:
    """Return what takes (column, row, slice) to mm, RAS+, of slices like one, from a position on."""
    assert each.directions is not None
    assert each.spacing is not None
    affine = np.eye(4)
    affine[:3, 0], affine[:3, 1] = each.directions[0] * each.spacing[1], each.directions[1] * each.spacing[0]
    affine[:3, 2], affine[:3, 3] = step, position
    return LPS_TO_RAS @ affine


def _acquired(header: Any) -> tuple[str, str]:
    """Return what orders headers by when they were acquired; one that does not say it comes last."""
    return str(header.get("AcquisitionDate") or "9"), str(header.get("AcquisitionTime") or "9")


def _unit(header: Any) -> str | None:
    """Return the unit of the values, once they are rescaled; None where the file says none."""
    if header.get("Modality") == "PT" and header.get("Units"):
        return _UNITS.get(header.Units, str(header.Units))
    kind = header.get("RescaleType")
    return "HU" if kind == "HU" or (header.get("Modality") == "CT" and kind in (None, "")) else None


def _decoded(slices: Sequence[_Slice], unit: str | None) -> tuple[np.ndarray, np.ndarray | None]:
    """Return the values of slices, (D, H, W) or (D, H, W, 3), and where they are valid."""
    scaled = any((each.slope, each.intercept) != (1, 0) for each in slices)
    whole = all(each.slope.is_integer() and each.intercept.is_integer() for each in slices)
    pixels: np.ndarray | None = None
    valid: np.ndarray | None = None
    for k, (each, stored) in enumerate(_stored(slices)):
        values = stored
        if stored.ndim == 2:
            if (padded := _padded(each.header, stored)) is not None:
                valid = np.ones((len(slices), *stored.shape), bool) if valid is None else valid
                valid[k] = ~padded
            values = _rescaled(each, stored, unit, scaled=scaled, whole=whole)
        if pixels is None:
            dtype = np.dtype(_TAKEN_AS.get(values.dtype.name, values.dtype))
            pixels = np.empty((len(slices), *values.shape), dtype)
        if values.shape != pixels.shape[1:]:
            raise ValueError(f"{each.path}: not a readable image (shape {values.shape}; expected {pixels.shape[1:]})")
        if pixels.dtype.kind in "iu" and values.dtype != pixels.dtype:
            limits = np.iinfo(pixels.dtype)
            if values.min() < limits.min or values.max() > limits.max:
                raise ValueError(
                    f"{each.path}: its values go from {values.min()} to {values.max()}; expected {limits.min} to "
                    f"{limits.max}"
                )
        pixels[k] = values
    assert pixels is not None
    if pixels.dtype == np.int32:
        least, greatest = int(pixels.min()), int(pixels.max())
        for smaller in (np.int16, np.uint16):
            if np.iinfo(smaller).min <= least and greatest <= np.iinfo(smaller).max:
                return pixels.astype(smaller), valid
    return pixels, valid


def _rescaled(each: _Slice, stored: np.ndarray, unit: str | None, *, scaled: bool, whole: bool) -> np.ndarray:
    """Return the values that grey pixels stand for, black the least."""
    from pydicom.pixels.processing import apply_modality_lut

    header = each.header
    values = _inverted(header, stored) if header.PhotometricInterpretation == "MONOCHROME1" and not unit else stored
    if "ModalityLUTSequence" in header:
        return apply_modality_lut(values, header)
    if not scaled:
        return values
    if stored.dtype.kind == "f":
        return np.asarray(values * each.slope + each.intercept, stored.dtype)
    if whole:
        return values.astype(np.int64) * int(each.slope) + int(each.intercept)
    return (values * each.slope + each.intercept).astype(np.float32)


def _stored(slices: Sequence[_Slice]) -> Iterator[tuple[_Slice, np.ndarray]]:
    """Yield slices with their pixels as they are stored, but for colours, which become RGB."""
    import pydicom
    from pydicom.pixels.utils import iter_pixels

    for path, group in groupby(slices, key=lambda each: each.path):
        wanted = list(group)
        dataset = pydicom.dcmread(path)
        _check_bits(path, dataset)
        _check_streams(path, dataset)
        try:
            by = decoder_for(dataset.file_meta.TransferSyntaxUID)
            frames = iter_pixels(dataset, indices=[each.index for each in wanted], decoding_plugin=by)
            for each, pixels in zip(wanted, frames, strict=True):
                colours = _coloured(dataset, pixels)
                yield each, colours.astype(colours.dtype.newbyteorder("="), copy=False)
        except Exception as error:
            raise ValueError(f"{path}: not a readable image ({type(error).__name__}: {error})") from error


def _check_bits(path: Path, dataset: Any) -> None:
    """Refuse pixels that are stored in a way that nothing here reads."""
    if not any(name in dataset for name in ("PixelData", "FloatPixelData", "DoubleFloatPixelData")):
        raise ValueError(f"{path}: not a readable image (it is truncated, or has no pixels)")
    bits = dataset.get("BitsStored")
    if bits is not None and dataset.get("HighBit", bits - 1) != bits - 1:
        raise ValueError(f"{path}: its highest bit is {dataset.HighBit} of {bits} stored bits; expected {bits - 1}")


def _check_streams(path: Path, dataset: Any) -> None:
    """Refuse compressed frames of another size than the header says, before decoders make room for them."""
    from pydicom.encaps import generate_frames

    syntax = dataset.file_meta.TransferSyntaxUID
    if not syntax.is_encapsulated or syntax.name.startswith("RLE"):
        return
    expected = (int(dataset.Rows), int(dataset.Columns))
    for frame in generate_frames(dataset.PixelData, number_of_frames=int(dataset.get("NumberOfFrames") or 1)):
        sizes = j2k_sizes(frame) if "2000" in syntax.name else jpeg_sizes(frame)
        if sizes != {expected}:
            found = " and ".join("{} x {}".format(*size) for size in sorted(sizes)) or "none that can be found"
            raise ValueError(
                f"{path}: not a readable image (its header says {expected[0]} x {expected[1]} pixels, its data {found})"
            )


def _coloured(dataset: Any, pixels: np.ndarray) -> np.ndarray:
    """Return the colours of a palette's indices, and one bit as 0 and 255."""
    from pydicom.pixels.processing import apply_color_lut

    if dataset.PhotometricInterpretation == "PALETTE COLOR":
        descriptor = dataset.RedPaletteColorLookupTableDescriptor
        first, entries = int(descriptor[1]), int(descriptor[0]) or 2**16
        kind = np.uint8 if entries + first <= 2**8 else np.uint16
        table = apply_color_lut(np.arange(first, first + entries).astype(kind), dataset)
        colours = apply_color_lut(pixels, dataset)
        if colours.dtype == np.uint16 and not (table % 257).any():  # 8 bits, twice
            return (colours // 257).astype(np.uint8)
        return (colours // 256).astype(np.uint8) if colours.dtype == np.uint16 and not (table % 256).any() else colours
    return pixels * np.uint8(255) if dataset.BitsAllocated == 1 else pixels


def _padded(header: Any, stored: np.ndarray) -> np.ndarray | None:
    """Return where pixels were added to fill the image up; None where it says of none."""
    value = header.get("PixelPaddingValue")
    if value is None or stored.dtype.kind not in "iu":
        return None
    limit = header.get("PixelPaddingRangeLimit", value)
    ends = np.array([int(value), int(limit)]).astype(stored.dtype)  # some say signed values without their sign
    return np.asarray((stored >= ends.min()) & (stored <= ends.max()))


def _inverted(header: Any, stored: np.ndarray) -> np.ndarray:
    """Return pixels of which the greatest are black as such of which the least are."""
    if stored.dtype.kind == "f":
        return -stored
    bits, signed = int(header.BitsStored), stored.dtype.kind == "i"
    return np.asarray((-1 if signed else 2**bits - 1) - stored.astype(np.int64)).astype(stored.dtype)
