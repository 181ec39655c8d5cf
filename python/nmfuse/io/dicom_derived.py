"""Writing DICOM: an image as a derived object, a multi-frame secondary capture that says what it was made of."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np

from nmfuse.images import Grid, Image
from nmfuse.io.carried import log, warnings_logged
from nmfuse.io.dicom import Frame, Source
from nmfuse.io.orientation import LPS_TO_RAS

DTYPES = ("uint8", "uint16", "int16", "float32")  # of grey images
WITH_PADDING = ("uint16", "int16", "float32")  # those that can say which pixels are not valid
_BYTE, _WORD, _COLOUR = (f"1.2.840.10008.5.1.4.1.1.7.{k}" for k in (2, 3, 4))  # multi-frame secondary captures
_MOST = 2**32 - 2  # bytes of pixels, uncompressed
_KEPT = (  # of the first source: who and which study it is
    "SpecificCharacterSet", "TimezoneOffsetFromUTC", "PatientName", "PatientID", "IssuerOfPatientID",
    "PatientBirthDate", "PatientSex", "PatientAge", "PatientSize", "PatientWeight", "PatientIdentityRemoved",
    "DeidentificationMethod", "DeidentificationMethodCodeSequence", "StudyInstanceUID", "StudyDate", "StudyTime",
    "StudyID", "StudyDescription", "AccessionNumber", "ReferringPhysicianName", "BodyPartExamined", "Laterality",
)  # fmt: skip
_EMPTY = (  # what must be there, known or not
    "PatientName", "PatientID", "PatientBirthDate", "PatientSex", "StudyDate", "StudyTime", "StudyID",
    "AccessionNumber", "ReferringPhysicianName", "PatientOrientation", "SeriesNumber",
)  # fmt: skip
_RESEARCH = "Research use only, not for diagnosis: an image made of several by nmfuse. Look at its sources as well."


def write(path: Path, image: Image) -> None:
    """Write an image or a volume as one file: a Multi-frame Grayscale Byte, Grayscale Word or True Color capture.

    It has UIDs of its own, patient and study of the first source in ``carried["sources"]``, references to all of them,
    and for each frame where it lies: in the order and the frame of reference of the DICOM grid that its grid is from,
    else axial slices in radiological order. float32 is stored in 65534 steps between its extremes, with a rescale
    slope, which is logged. Pixels that are not valid have the pixel padding value.

    Raises
    ------
    ValueError
        For infinite values, more than 4 GB, integers that leave no value for what is not valid, or rows and columns
        that are not at right angles.

    Examples
    --------
    >>> import pydicom, tempfile
    >>> path = Path(tempfile.mkdtemp()) / "x.dcm"
    >>> write(path, Image(np.zeros((20, 64, 48), np.uint8), spacing=(3.0, 1.0, 1.0)))
    >>> found = pydicom.dcmread(path)
    >>> int(found.NumberOfFrames), found.SOPClassUID.name
    (20, 'Multi-frame Grayscale Byte Secondary Capture Image Storage')
    """
    import pydicom

    sources: tuple[Source, ...] = image.carried.get("sources", ())
    frames, valid, affine = _frames(image, sources)
    dataset = pydicom.Dataset()
    with warnings_logged(path, "pydicom"):
        _identify(dataset, sources, image.name or "image")
        _describe(dataset, sources)
        _place(dataset, image, affine, len(frames))
        _fill(dataset, image.name or "image", frames, valid)
        dataset.file_meta = pydicom.dataset.FileMetaDataset()
        dataset.file_meta.TransferSyntaxUID = pydicom.uid.ExplicitVRLittleEndian
        dataset.save_as(path, enforce_file_format=True)


def _frames(
    image: Image, sources: Sequence[Source]
) -> tuple[np.ndarray, np.ndarray | None, np.ndarray | None]:  # (D, H, W) or (D, H, W, 3); (D, H, W); (4, 4)
    """Return the frames as they are stored, where they are valid, and what takes (column, row, frame) to mm, RAS+."""
    pixels, valid, grid = image.pixels, image.valid, image.grid
    if image.spatial == 2:
        plane = sources[0].plane if sources and sources[0].shape == pixels.shape[:2] else None
        return pixels[None], None if valid is None else valid[None], plane
    from nibabel.orientations import apply_orientation, axcodes2ornt, inv_ornt_aff, io_orientation, ornt_transform

    if grid is None:
        grid = Grid(pixels.shape[:3], np.diag([*(image.spacing or (1.0, 1.0, 1.0)), 1.0])[[2, 1, 0, 3]])
    affine = grid.affine[:, [2, 1, 0, 3]]
    axes = grid.header.axes if isinstance(grid.header, Frame) else ("L", "P", "S")
    turn = ornt_transform(io_orientation(affine), axcodes2ornt(axes))

    def stored(array: np.ndarray) -> np.ndarray:
        return np.swapaxes(apply_orientation(np.swapaxes(array, 0, 2), turn), 0, 2)

    return stored(pixels), None if valid is None else stored(valid), affine @ inv_ornt_aff(turn, grid.shape[::-1])


def _identify(dataset: Any, sources: Sequence[Source], name: str) -> None:
    """Say whose image it is: patient and study of the first source, a series and UIDs of its own."""
    from pydicom.uid import generate_uid

    header: Any = sources[0].header if sources else {}
    for keyword in _EMPTY:
        setattr(dataset, keyword, None)
    for keyword in _KEPT:
        if keyword in header:
            dataset[keyword] = header[keyword]
    if not dataset.get("StudyInstanceUID"):
        dataset.StudyInstanceUID = generate_uid(prefix=None)
    if "BodyPartExamined" not in dataset and "Laterality" not in dataset:
        dataset.Laterality = None
    for keyword, what in (("PatientID", "patients"), ("FrameOfReferenceUID", "frames of reference")):
        found = list(dict.fromkeys(str(source.header.get(keyword, "")) for source in sources))
        if len(found) > 1:
            log.warning(
                "%s: its sources are of several %s (%s); it is written as of the first", name, what, ", ".join(found)
            )
    dataset.SeriesInstanceUID, dataset.SOPInstanceUID = generate_uid(prefix=None), generate_uid(prefix=None)
    dataset.Modality, dataset.InstanceNumber = "OT", 1
    now = datetime.now().astimezone()
    dataset.SeriesDate = dataset.ContentDate = now.strftime("%Y%m%d")
    dataset.SeriesTime = dataset.ContentTime = now.strftime("%H%M%S")
    dataset.InstanceCreationDate, dataset.InstanceCreationTime = dataset.ContentDate, dataset.ContentTime


def _describe(dataset: Any, sources: Sequence[Source]) -> None:
    """Say how it came about, and of what."""
    from nmfuse.version import __version__

    said = [f"{x.header.get('Modality', '')} {x.header.get('SeriesDescription', '')}".strip() for x in sources]
    kinds = " + ".join(str(source.header.get("Modality", "")) for source in sources)
    dataset.ImageType = ["DERIVED", "SECONDARY"]
    dataset.Manufacturer, dataset.ManufacturerModelName, dataset.SoftwareVersions = "nmfuse", "nmfuse", __version__
    dataset.ConversionType, dataset.BurnedInAnnotation = "WSD", "NO"
    dataset.SeriesDescription = f"nmfuse: {kinds}"[:64] if sources else "nmfuse"
    dataset.DerivationDescription = (f"Fused by nmfuse {__version__} from " + ("; ".join(said) or "images"))[:1024]
    dataset.ImageComments = _RESEARCH
    lossy = [source.header for source in sources if source.header.get("LossyImageCompression") == "01"]
    dataset.LossyImageCompression = "01" if lossy else "00"
    for keyword in ("LossyImageCompressionRatio", "LossyImageCompressionMethod"):
        if lossy and keyword in lossy[0]:
            dataset[keyword] = lossy[0][keyword]
    _refer(dataset, sources)


def _refer(dataset: Any, sources: Sequence[Source]) -> None:
    """Refer to every file of every source: as images that it was derived from, and by study and series."""
    images: dict[tuple[str, str], Any] = {}
    studies: dict[str, dict[str, list[Any]]] = defaultdict(lambda: defaultdict(list))
    for source in sources:
        study, series = (str(source.header.get(name, "")) for name in ("StudyInstanceUID", "SeriesInstanceUID"))
        for key in source.instances:
            if all(key) and key not in images:
                images[key] = _item(ReferencedSOPClassUID=key[0], ReferencedSOPInstanceUID=key[1])
                if study and series:
                    studies[study][series].append(images[key])
    if images:
        dataset.SourceImageSequence = list(images.values())

    def all_series(study: str) -> list[Any]:
        of = studies[study]
        return [_item(SeriesInstanceUID=uid, ReferencedInstanceSequence=items) for uid, items in of.items()]

    if dataset.StudyInstanceUID in studies:
        dataset.ReferencedSeriesSequence = all_series(dataset.StudyInstanceUID)
    if others := [study for study in studies if study != dataset.StudyInstanceUID]:
        dataset.StudiesContainingOtherReferencedInstancesSequence = [
            _item(StudyInstanceUID=study, ReferencedSeriesSequence=all_series(study)) for study in others
        ]


def _item(**values: Any) -> Any:
    import pydicom

    item = pydicom.Dataset()
    for keyword, value in values.items():
        setattr(item, keyword, value)
    return item


def _place(dataset: Any, image: Image, affine: np.ndarray | None, frames: int) -> None:
    """Say where each frame lies, as far as that is known."""
    dataset.NumberOfFrames = frames
    shared, each = _item(), [_item() for _ in range(frames)]
    if affine is not None:
        affine = LPS_TO_RAS @ affine
        row, column, step = affine[:3, 0], affine[:3, 1], affine[:3, 2]
        spacing = [float(np.linalg.norm(column)), float(np.linalg.norm(row))]
        row, column = row / spacing[1], column / spacing[0]
        if abs(row @ column) > 1e-3:
            raise ValueError(
                f"{image.name or 'image'}: its rows and columns are not at right angles, which DICOM cannot say; "
                "resample it"
            )
        apart = _number(abs(float(step @ np.cross(row, column))))
        dataset.FrameOfReferenceUID, dataset.PositionReferenceIndicator = _reference(image)
        shared.PlaneOrientationSequence = [_item(ImageOrientationPatient=[_number(x) for x in (*row, *column)])]
        shared.PixelMeasuresSequence = [
            _item(PixelSpacing=[_number(x) for x in spacing], SliceThickness=apart, SpacingBetweenSlices=apart)
        ]
        for k, item in enumerate(each):
            place = affine[:3, 3] + k * step
            item.PlanePositionSequence = [_item(ImagePositionPatient=[_number(x) for x in place])]
    elif image.spacing is not None:
        shared.PixelMeasuresSequence = [_item(PixelSpacing=[_number(x) for x in image.spacing])]
    dataset.SharedFunctionalGroupsSequence = [shared]
    dataset.PerFrameFunctionalGroupsSequence = each
    if frames > 1:
        dataset.FrameIncrementPointer = 0x52009230  # PerFrameFunctionalGroupsSequence


def _reference(image: Image) -> tuple[str, str]:
    """Return the UID and the indicator of the coordinates that an image lies in: those of its grid, or of its slice."""
    from pydicom.uid import generate_uid

    uid = indicator = ""
    if image.grid is not None and isinstance(image.grid.header, Frame):
        uid, indicator = image.grid.header.reference, image.grid.header.indicator
    elif image.spatial == 2:
        header = image.carried["sources"][0].header
        uid, indicator = (str(header.get(x) or "") for x in ("FrameOfReferenceUID", "PositionReferenceIndicator"))
    return uid or generate_uid(prefix=None), indicator


def _fill(dataset: Any, name: str, frames: np.ndarray, valid: np.ndarray | None) -> None:
    """Put the pixels in, and say what their values mean."""
    colour = frames.ndim == 4
    dataset.Rows, dataset.Columns = frames.shape[1:3]
    dataset.SamplesPerPixel = 3 if colour else 1
    dataset.PhotometricInterpretation = "RGB" if colour else "MONOCHROME2"
    if colour:
        dataset.SOPClassUID, dataset.PlanarConfiguration = _COLOUR, 0
        stored = frames
    else:
        dataset.SOPClassUID = _BYTE if frames.dtype == np.uint8 else _WORD
        stored = _encoded(dataset, name, frames, valid)
    if stored.nbytes > _MOST:
        raise ValueError(f"{name}: has {stored.nbytes} bytes of pixels, and DICOM holds {_MOST}; write .nii.gz")
    bits = stored.dtype.itemsize * 8
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit, dataset.PixelRepresentation = bits, bits, bits - 1, 0
    little = stored.astype(stored.dtype.newbyteorder("<"), copy=False).tobytes()
    dataset.PixelData = little + bytes(len(little) % 2)
    dataset["PixelData"].VR = "OB" if bits == 8 else "OW"


def _encoded(dataset: Any, name: str, frames: np.ndarray, valid: np.ndarray | None) -> np.ndarray:
    """Return grey pixels as they are stored, uint8 or uint16, and say how they are to be read."""
    dtype, slope, intercept = frames.dtype, 1.0, 0.0
    if dtype.kind == "f":
        shown = ~np.isnan(frames) if valid is None else valid & ~np.isnan(frames)
        least, greatest = _extremes(frames, shown)
        if not np.isfinite([least, greatest]).all():
            raise ValueError(f"{name}: contains inf, which DICOM cannot hold; replace it")
        slope = float(f"{(greatest - least) / 65534:.8e}") or 1.0  # short enough that 0 stays 0
        intercept = float(_number(least - slope))
        steps = np.rint((np.where(shown, frames, least).astype(np.float64) - intercept) / slope)
        stored = np.where(shown, steps.clip(1, 65535), 0).astype(np.uint16)
        log.info("%s: its floats are stored in steps of %.3g, DICOM has integers", name, slope)
        padding = None if shown.all() else 0
    else:
        shown = np.ones(frames.shape, bool) if valid is None else valid
        least, greatest = _extremes(frames, shown)
        intercept = -32768.0 if dtype == np.int16 else 0.0
        stored = frames if dtype == np.uint8 else (frames.astype(np.int32) - int(intercept)).astype(np.uint16)
        padding = None
        if not shown.all():
            codes = _extremes(stored, shown)
            padding = int(codes[1]) + 1 if codes[1] < 65535 else int(codes[0]) - 1
            if padding < 0:
                raise ValueError(f"{name}: has every value of {dtype}, and none is left for pixels that are not valid")
            stored = np.where(shown, stored, padding).astype(np.uint16)
    if padding is not None:
        dataset.add_new("PixelPaddingValue", "US", padding)
    dataset.RescaleSlope, dataset.RescaleIntercept, dataset.RescaleType = _number(slope), _number(intercept), "US"
    dataset.PresentationLUTShape = "IDENTITY"
    dataset.WindowCenter, dataset.WindowWidth = _number((least + greatest) / 2), _number(greatest - least or 1.0)
    dataset.VOILUTFunction = "LINEAR_EXACT"
    return stored


def _extremes(values: np.ndarray, shown: np.ndarray) -> tuple[float, float]:
    """Return the least and the greatest value that is shown; 0 and 0 where none is."""
    seen = values[shown]
    return (float(seen.min()), float(seen.max())) if seen.size else (0.0, 0.0)


def _number(value: float) -> Any:
    """Return a number as DICOM writes it, in 16 characters."""
    from pydicom.valuerep import DSfloat

    return DSfloat(float(value), auto_format=True)
