"""DICOM series for the tests, made on the spot: ``python tests/data/make_dicom.py FOLDER`` writes a PET and a CT."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
from pydicom.uid import UID, ExplicitVRLittleEndian, generate_uid

from nmfuse.data import brain_phantom

CLASSES = {  # modality -> storage of one slice a file
    "CT": "1.2.840.10008.5.1.4.1.1.2",
    "MR": "1.2.840.10008.5.1.4.1.1.4",
    "PT": "1.2.840.10008.5.1.4.1.1.128",
    "OT": "1.2.840.10008.5.1.4.1.1.7",
}
AXIAL = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0)
STUDY, SPACE = "1.2.826.0.1.3680043.10.1", "1.2.826.0.1.3680043.10.2"
PET = {  # half of the dose is left when the scan begins: SUV = 2 * 70000 g / 350 MBq * activity
    "Units": "BQML",
    "DecayCorrection": "START",
    "CorrectedImage": ["DECY", "ATTN", "SCAT"],
    "PatientWeight": "70",
    "SeriesDate": "20260102",
    "SeriesTime": "100000",
    "AcquisitionDate": "20260102",
    "AcquisitionTime": "100000",
}


def item(**tags: Any) -> pydicom.Dataset:
    """Return a dataset of tags."""
    dataset = pydicom.Dataset()
    for keyword, value in tags.items():
        setattr(dataset, keyword, value)
    return dataset


def dose(**tags: Any) -> pydicom.Dataset:
    """Return what a PET header says of its dose: 350 MBq, one half-life before the scan."""
    said: dict[str, Any] = {"RadiopharmaceuticalStartTime": "081010", "RadionuclideTotalDose": "350000000"}
    return item(**said | {"RadionuclideHalfLife": "6590"} | tags)


def image(pixels: np.ndarray, modality: str = "CT", **tags: Any) -> pydicom.Dataset:
    """Return a file of one slice (H, W), or of frames (D, H, W), or in colour (H, W, 3), stored as they are."""
    colour = pixels.ndim == 3 and pixels.shape[-1] == 3
    rows, columns = pixels.shape[:2] if colour else pixels.shape[-2:]
    dataset = item(
        SOPClassUID=UID(CLASSES[modality]), SOPInstanceUID=generate_uid(), StudyInstanceUID=STUDY,
        SeriesInstanceUID=f"{STUDY}.{list(CLASSES).index(modality) + 1}", FrameOfReferenceUID=SPACE,
        Modality=modality, PatientName="Phantom^Digital", PatientID="P1", StudyDate="20260102", StudyTime="095900",
        SeriesDescription=f"a {modality}", Rows=rows, Columns=columns,
        SamplesPerPixel=3 if colour else 1, PhotometricInterpretation="RGB" if colour else "MONOCHROME2",
        BitsAllocated=8 * pixels.itemsize, BitsStored=8 * pixels.itemsize, HighBit=8 * pixels.itemsize - 1,
        PixelRepresentation=int(pixels.dtype.kind == "i"), PixelData=pixels.tobytes() + bytes(pixels.nbytes % 2),
    )  # fmt: skip
    if colour:
        dataset.PlanarConfiguration = 0
    elif pixels.ndim == 3:
        dataset.NumberOfFrames = len(pixels)
    dataset["PixelData"].VR = "OB" if pixels.itemsize == 1 else "OW"
    dataset.file_meta = pydicom.dataset.FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    for keyword, value in tags.items():
        if value is None:
            dataset.pop(keyword, None)
        else:
            setattr(dataset, keyword, value)
    return dataset


def series(
    volume: np.ndarray,
    modality: str = "CT",
    *,
    spacing: tuple[float, float, float] = (3.0, 1.5, 1.0),
    first: tuple[float, float, float] = (-20.0, -30.0, 5.0),
    orientation: tuple[float, ...] = AXIAL,
    step: tuple[float, ...] | None = None,
    **tags: Any,
) -> list[pydicom.Dataset]:
    """Return a file a slice of a volume (D, H, W), from `first` (LPS mm) on along the normal, or by `step`."""
    normal = np.cross(orientation[:3], orientation[3:])
    along = spacing[0] * normal if step is None else np.array(step)
    files = []
    for k, pixels in enumerate(volume):
        position = [f"{x:.6f}" for x in np.array(first) + k * along]
        placed = {"ImagePositionPatient": position, "ImageOrientationPatient": [f"{x:.6f}" for x in orientation]}
        placed |= {"PixelSpacing": list(spacing[1:]), "SliceThickness": spacing[0], "InstanceNumber": len(volume) - k}
        files.append(image(np.ascontiguousarray(pixels), modality, **placed | tags))
    return files


def enhanced(files: list[pydicom.Dataset]) -> pydicom.Dataset:
    """Return one enhanced MR of the slices of a series, in the order in which they are given."""
    whole = image(np.stack([dataset.pixel_array for dataset in files]), "MR", SOPClassUID="1.2.840.10008.5.1.4.1.1.4.1")
    first = files[0]
    whole.SharedFunctionalGroupsSequence = [
        item(
            PixelMeasuresSequence=[item(PixelSpacing=first.PixelSpacing, SliceThickness=first.SliceThickness)],
            PlaneOrientationSequence=[item(ImageOrientationPatient=first.ImageOrientationPatient)],
        )
    ]
    whole.PerFrameFunctionalGroupsSequence = [
        item(
            PlanePositionSequence=[item(ImagePositionPatient=dataset.ImagePositionPatient)],
            PixelValueTransformationSequence=[
                item(RescaleSlope=dataset.get("RescaleSlope", "1"), RescaleIntercept="0", RescaleType="US")
            ],
        )
        for dataset in files
    ]
    return whole


def save(folder: Path, files: list[pydicom.Dataset]) -> Path:
    """Write files under names that say nothing of their order, and return the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    for dataset in files:
        dataset.save_as(folder / f"{dataset.SOPInstanceUID}.dcm", enforce_file_format=True)
    return folder


def pet_and_ct(folder: Path, side: int = 32) -> tuple[Path, Path]:
    """Write a PET (Bq/ml, a scale a slice) and a CT (HU) of one phantom, the PET coarser, and return their folders."""
    phantom = brain_phantom(2 * side)
    fall = np.linspace(0.6, 1.0, 10)[:, None, None]
    hounsfield = np.rint(1000 * phantom.ct[None] * fall).astype(np.uint16)
    ct = series(hounsfield, spacing=(3.0, 2.0, 2.0), first=(-side * 2.0, -side * 2.0, 0.0), RescaleIntercept="-1024")
    uptake = phantom.pet[None, ::2, ::2] * fall[::2]
    stored = np.rint(30000 * uptake).astype(np.int16)
    pet = series(
        stored, "PT", spacing=(6.0, 4.0, 4.0), first=(-side * 2.0 + 1, -side * 2.0 + 1, 0.0), **PET,
        RadiopharmaceuticalInformationSequence=[dose()], RescaleIntercept="0",
    )  # fmt: skip
    for k, dataset in enumerate(pet):
        dataset.RescaleSlope = f"{0.5 + k / 10}"
    return save(folder / "pet", pet), save(folder / "ct", ct)


if __name__ == "__main__":
    print(*pet_and_ct(Path(sys.argv[1])))
