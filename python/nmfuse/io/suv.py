"""PET in standardized uptake values, from what its DICOM header says of dose, time and patient."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta
from math import expm1, log
from typing import Any

import numpy as np

from nmfuse.images import Image

_LONGEST = 10  # half-lives from the injection to the scan


def to_suv(image: Image) -> Image:
    """Return a PET image in standardized uptake values by body weight (SUVbw, g/ml).

    Parameters
    ----------
    image : Image
        A PET image that was read from DICOM, in Bq/ml, or in counts with the factor of Philips to SUV or Bq/ml. It has
        to be corrected for attenuation, and for decay to the start of the scan (START) or to the injection (ADMIN).

    Returns
    -------
    Image
        The image in float32, with "SUV" as ``carried["unit"]``. An image that already is in SUV is returned unchanged.

    Raises
    ------
    ValueError
        If it is not such an image, or if the header lacks tags that are needed; the message names each of them.

    References
    ----------
    QIBA, "SUV: vendor-neutral pseudo-code" (2012), the version that always works: SUVbw = activity * weight / dose, the
    dose decayed from the injection to the time that the activity is corrected to; counts of Philips times its private
    factor. Kinahan & Fletcher, Semin. Ultrasound
    CT MR 31 (2010) 496-505.

    Examples
    --------
    >>> to_suv(Image(np.zeros((4, 4)), name="pet.npy"))
    Traceback (most recent call last):
    ...
    ValueError: pet.npy: is not the image of one DICOM file or series, so nothing says its dose; ...
    """
    name = image.name or "image"
    sources = image.carried.get("sources", ())
    if len(sources) != 1 or not isinstance(image.pixels, np.ndarray):
        raise ValueError(
            f"{name}: is not the image of one DICOM file or series, so nothing says its dose; read PET from DICOM, or "
            "convert it to SUV by other means"
        )
    if image.carried.get("unit") == "SUV":
        return image
    pixels = (image.pixels * _factor(name, sources[0].header)).astype(np.float32)
    return replace(image, pixels=pixels, carried={**image.carried, "unit": "SUV"})


def as_asked(image: Image, windows: Any, place: int) -> Image:
    """Return an image in SUV where its window is "suv" and it has another unit; any other as it is.

    `windows` is one for all images, or a list of one for each, of which this is the one at a place.

    Examples
    --------
    >>> image = Image(np.zeros((4, 4)))
    >>> as_asked(image, "suv", 0) is image
    True
    """
    window = windows[place : place + 1] if isinstance(windows, list) else [windows]
    return to_suv(image) if window == ["suv"] and image.carried.get("unit") not in (None, "SUV") else image


def _factor(name: str, header: Any) -> float:
    """Return what makes SUV of the values: grams of body weight over Bq that were left, or what Philips says."""
    _check_corrected(name, header)
    to_bq_ml = 1.0
    if header.Units == "CNTS":
        factor, to_activity = (_of_philips(name, header, element) for element in (0x00, 0x09))
        if factor is not None:
            return factor
        if to_activity is None:
            raise ValueError(
                f"{name}: Units is CNTS, and Philips' factors (7053,xx00) to SUV and (7053,xx09) to Bq/ml are missing; "
                "choose another window than 'suv' to fuse it as it is"
            )
        to_bq_ml = to_activity
    item = (header.get("RadiopharmaceuticalInformationSequence") or [{}])[0]
    needed = {
        keyword: _number(name, keyword, of.get(keyword))
        for of, keyword in (
            (header, "PatientWeight"), (item, "RadionuclideTotalDose"), (item, "RadionuclideHalfLife"),
        )
    }  # fmt: skip
    _refuse_missing(name, needed)
    weight, dose, half_life = (value or 0.0 for value in needed.values())
    per_dose = to_bq_ml * weight * 1000 / dose
    if header.DecayCorrection == "ADMIN":
        return per_dose
    scan = _scan(name, header, half_life)
    injection = _injection(name, item, scan)
    passed = (scan - injection).total_seconds()
    if not 0 <= passed <= _LONGEST * half_life:
        raise ValueError(
            f"{name}: was injected at {injection} and scanned from {scan}; expected a scan after it, within {_LONGEST} "
            f"half-lives of {half_life:g} s (were its dates changed?)"
        )
    return float(per_dose * 2 ** (passed / half_life))


def _check_corrected(name: str, header: Any) -> None:
    """Refuse values that are no activity, or are not corrected as SUV needs it."""
    _refuse_missing(name, {keyword: header.get(keyword) for keyword in ("Units", "CorrectedImage", "DecayCorrection")})
    corrected = header.CorrectedImage
    corrected = {corrected} if isinstance(corrected, str) else set(corrected)
    for what, got, is_right, expected in (
        ("Units", header.Units, header.Units in ("BQML", "CNTS"), "BQML, or CNTS of Philips"),
        ("CorrectedImage", "\\".join(sorted(corrected)), {"ATTN", "DECY"} <= corrected, "ATTN and DECY among it"),
        ("DecayCorrection", header.DecayCorrection, header.DecayCorrection in ("START", "ADMIN"), "START or ADMIN"),
    ):
        if not is_right:
            raise ValueError(f"{name}: {what} is {got}; expected {expected}, or nothing is known of its SUV")


def _refuse_missing(name: str, needed: dict[str, Any]) -> None:
    if missing := [keyword for keyword, value in needed.items() if value in (None, "", 0)]:
        raise ValueError(
            f"{name}: SUV needs {', '.join(missing)}, which the DICOM header does not have; choose another window than "
            "'suv' to fuse it as it is"
        )


def _of_philips(name: str, header: Any, element: int) -> float | None:
    """Return a factor that Philips stores in a group of its own; None where it is missing, or 0."""
    try:
        value = header.private_block(0x7053, "Philips PET Private Group")[element].value
    except KeyError:
        return None
    text = value.decode("ascii", "replace").strip("\0 ") if isinstance(value, bytes) else value
    return _number(name, f"(7053,xx{element:02x})", text)


def _number(name: str, keyword: str, value: Any) -> float | None:
    """Return the number of a tag, which is above 0; None where it is missing, or 0, as some write instead."""
    try:
        number = float(value or 0)
    except (TypeError, ValueError):
        number = np.nan
    if number and not 0 < number < np.inf:
        raise ValueError(f"{name}: {keyword} is {value}; expected a number above 0")
    return number or None


def _scan(name: str, header: Any, half_life: float) -> datetime:
    """Return the time that decay is corrected to: that of the series, unless it was stored anew, later on."""
    series = _time(header, "SeriesDate", "SeriesTime")
    acquired = _time(header, "AcquisitionDate", "AcquisitionTime")
    if series is None or acquired is None:
        raise ValueError(f"{name}: SUV needs SeriesDate, SeriesTime, AcquisitionDate and AcquisitionTime")
    if series <= acquired:
        return series
    from pydicom.valuerep import DT

    try:
        stored: Any = header.private_block(0x0009, "GEMS_PETD_01")[0x0D].value  # of GE: when the scan began
        return DT(stored.decode() if isinstance(stored, bytes) else stored).replace(tzinfo=None)
    except (KeyError, ValueError, TypeError, AttributeError):
        pass
    middle, duration = header.get("FrameReferenceTime"), header.get("ActualFrameDuration")  # ms
    if middle in (None, "") or not duration:
        raise ValueError(
            f"{name}: SUV needs FrameReferenceTime and ActualFrameDuration, as its series is dated after the scan"
        )
    decay = log(2) / half_life
    width = decay * float(duration) / 1000
    mean = log(width / -expm1(-width)) / decay  # when the activity was that of the whole frame
    return acquired - timedelta(seconds=float(middle) / 1000 - mean)


def _injection(name: str, item: Any, scan: datetime) -> datetime:
    """Return when the dose was measured; of a time without a date, the last before the scan."""
    from pydicom.valuerep import DT, TM

    if stored := item.get("RadiopharmaceuticalStartDateTime"):
        return DT(str(stored)).replace(tzinfo=None)
    if not (stored := item.get("RadiopharmaceuticalStartTime")):
        raise ValueError(f"{name}: SUV needs RadiopharmaceuticalStartDateTime or RadiopharmaceuticalStartTime")
    start = datetime.combine(scan.date(), TM(str(stored)))
    return start if start <= scan else start - timedelta(days=1)


def _time(header: Any, date: str, time: str) -> datetime | None:
    from pydicom.valuerep import DA, TM

    if not header.get(date) or not header.get(time):
        return None
    return datetime.combine(DA(header[date].value), TM(header[time].value))
