"""PET in SUV: by values that are computed by hand."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import nmfuse
from nmfuse.images import Image
from nmfuse.io import read_image, to_suv
from tests.data.make_dicom import PET, dose, image, save, series

ACTIVITY = np.full((2, 16, 17), 25000, np.int16)  # half of it is 12500 Bq/ml


def pet(tmp_path: Any, given: dict[str, Any], **tags: Any) -> Image:
    slope = {"RescaleSlope": "0.5", "RescaleIntercept": "0"}
    files = series(ACTIVITY, "PT", **PET | slope | {"RadiopharmaceuticalInformationSequence": [dose(**given)]} | tags)
    files[0].AcquisitionTime = "101500"  # of two slices, the other is earlier
    return read_image(save(tmp_path / "pet", files))


@pytest.mark.parametrize(
    ("given", "tags", "suv"),
    [
        # 70 kg, 350 MBq; 6590 s from 8:10:10 to 10:00:00 are one half-life: 12500 * 70000 / 175e6
        ({}, {}, 5.0),
        ({}, {"DecayCorrection": "ADMIN"}, 2.5),
        ({"RadiopharmaceuticalStartDateTime": "20260102062020"}, {}, 10.0),  # two half-lives, whatever the time says
        ({"RadiopharmaceuticalStartDateTime": "20260102081010.000000+0100"}, {}, 5.0),
        ({"RadiopharmaceuticalStartTime": "230000"}, {"SeriesTime": "004950"}, 5.0),  # of the day before
        # stored anew in the afternoon: the scan began five minutes before the first frame
        (
            {"RadiopharmaceuticalStartTime": "080510"},
            {"SeriesTime": "150000", "FrameReferenceTime": "300000", "ActualFrameDuration": "1"},
            5.0,
        ),
        # of a frame as long as a half-life, the mean activity is that of T / ln 2 * ln(2 ln 2), 3105.4 s
        (
            {"RadiopharmaceuticalStartTime": "081010"},
            {"SeriesTime": "150000", "FrameReferenceTime": "3105378", "ActualFrameDuration": "6590000"},
            5.0,
        ),
    ],
)
def test_by_hand(tmp_path: Any, given: dict[str, Any], tags: dict[str, Any], suv: float) -> None:
    stored = pet(tmp_path, given, **tags)
    assert stored.carried["unit"] == "Bq/ml"
    np.testing.assert_array_equal(stored, np.full((2, 16, 17), 12500, np.float32))
    found = to_suv(stored)
    assert (found.dtype, found.carried["unit"], found.grid) == (np.float32, "SUV", stored.grid)
    np.testing.assert_allclose(found.pixels, suv, rtol=1e-5)
    assert to_suv(found) is found


def test_the_start_of_the_scan_that_ge_stores(tmp_path: Any) -> None:
    files = series(
        ACTIVITY, "PT", **PET | {"SeriesTime": "150000"}, RadiopharmaceuticalInformationSequence=[dose()]
    )  # fmt: skip
    for dataset in files:
        dataset.private_block(0x0009, "GEMS_PETD_01", create=True).add_new(0x0D, "DT", "20260102100000.00")
    np.testing.assert_allclose(to_suv(read_image(save(tmp_path / "x", files))).pixels, 10.0)


@pytest.mark.parametrize(
    ("factors", "suv"),
    [
        ({0x00: "0.0004"}, 5.0),  # 12500 counts * 0.0004
        ({0x00: "0.0004", 0x09: "2"}, 5.0),  # the factor to SUV goes first
        ({0x09: "2"}, 10.0),  # 25000 Bq/ml, where half of the dose is left
        ({0x00: "0", 0x09: "2"}, 10.0),
    ],
)
@pytest.mark.parametrize("vr", ["DS", "UN"])
def test_counts_of_philips(tmp_path: Any, factors: dict[int, str], suv: float, vr: str) -> None:
    tags = PET | {"Units": "CNTS", "RescaleSlope": "0.5", "RescaleIntercept": "0"}
    files = series(ACTIVITY, "PT", **tags, RadiopharmaceuticalInformationSequence=[dose()])
    for dataset in files:
        block = dataset.private_block(0x7053, "Philips PET Private Group", create=True)
        for element, value in factors.items():
            block.add_new(element, vr, value if vr == "DS" else f"{value} ".encode())
    stored = read_image(save(tmp_path / "x", files))
    assert stored.carried["unit"] == "CNTS"
    np.testing.assert_allclose(to_suv(stored).pixels, suv, rtol=1e-6)
    files[0].private_block(0x7053, "Philips PET Private Group").add_new(0x00, "UN", b"-1")
    with pytest.raises(ValueError, match=r"y: \(7053,xx00\) is -1; expected a number above 0"):
        to_suv(read_image(save(tmp_path / "y", files[:1])))


def test_the_mean_of_a_frame_is_later_for_short_lives(tmp_path: Any) -> None:
    """A frame of ten half-lives: its mean activity is 0.1443 of the first, that of 2.793 half-lives."""
    start = {"RadiopharmaceuticalStartTime": "100000", "RadionuclideHalfLife": "100"}
    frame = {"SeriesTime": "150000", "FrameReferenceTime": "279300", "ActualFrameDuration": "1000000"}
    np.testing.assert_allclose(to_suv(pet(tmp_path, start, **frame)).pixels, 2.5, rtol=2e-3)


@pytest.mark.parametrize(
    ("given", "tags", "message"),
    [
        ({}, {"PatientWeight": None}, "SUV needs PatientWeight, which the DICOM header does not have"),
        ({}, {"PatientWeight": "0"}, "SUV needs PatientWeight"),
        ({}, {"PatientWeight": "-70"}, "PatientWeight is -70; expected a number above 0"),
        (
            {"RadionuclideTotalDose": "", "RadionuclideHalfLife": ""},
            {"CorrectedImage": None},
            "needs CorrectedImage, which",
        ),
        (
            {"RadionuclideTotalDose": "", "RadionuclideHalfLife": ""},
            {},
            "needs RadionuclideTotalDose, Radio",
        ),
        (
            {},
            {"RadiopharmaceuticalInformationSequence": []},
            "needs RadionuclideTotalDose, RadionuclideHalfLife, which",
        ),
        ({}, {"Units": "PROPCNTS"}, "Units is PROPCNTS; expected BQML, or CNTS of Philips"),
        ({}, {"Units": "CNTS"}, r"Units is CNTS, and Philips' factors \(7053,xx00\) to SUV and .* are missing"),
        ({}, {"CorrectedImage": "DECY"}, "CorrectedImage is DECY; expected ATTN and DECY among it"),
        ({}, {"DecayCorrection": "NONE"}, "DecayCorrection is NONE; expected START or ADMIN"),
        ({}, {"SeriesTime": None}, "needs SeriesDate, SeriesTime, AcquisitionDate and AcquisitionTime"),
        (
            {},
            {"SeriesTime": "150000"},
            "needs FrameReferenceTime and ActualFrameDuration, as its series is dated after",
        ),
        ({"RadiopharmaceuticalStartTime": ""}, {}, "needs RadiopharmaceuticalStartDateTime or Radiopharmaceutical"),
        (
            {"RadiopharmaceuticalStartDateTime": "20200102081010"},
            {},
            r"was injected at 2020-.*\(were its dates changed",
        ),
        ({"RadiopharmaceuticalStartDateTime": "20260102110000"}, {}, "expected a scan after it"),
    ],
)
def test_what_is_not_enough(tmp_path: Any, given: dict[str, Any], tags: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=rf"pet: .*{message}"):
        to_suv(pet(tmp_path, given, **tags))


def test_images_that_are_no_pet(tmp_path: Any) -> None:
    image(ACTIVITY[0], "CT").save_as(tmp_path / "x.dcm", enforce_file_format=True)
    with pytest.raises(ValueError, match=r"x\.dcm: SUV needs Units, CorrectedImage, DecayCorrection, which"):
        to_suv(read_image(tmp_path / "x.dcm"))


def test_windows_are_of_the_unit_of_their_image(tmp_path: Any) -> None:
    stored = pet(tmp_path, {})
    ct = read_image(save(tmp_path / "ct", series(ACTIVITY)))
    for pair, window, message in (
        ([stored, stored], "suv", r"'suv' is in SUV, and pet in Bq/ml; convert it by nmfuse\.io\.to_suv, or choose"),
        ([ct, ct], "suv", "'suv' is in SUV, and ct in HU"),
        ([stored, stored], ["auto", "ct-soft"], "'ct-soft' is in HU, and pet in Bq/ml; choose another window"),
    ):
        with pytest.raises(ValueError, match=message):
            nmfuse.fuse(*pair, window=window, method="average")
    fused = nmfuse.fuse(to_suv(stored), ct, window=["suv", "ct-soft"], method="average")
    np.testing.assert_allclose(fused.pixels, 7.5)  # 5 of 0 to 10, and white
    assert "unit" not in fused.carried
    assert [source.header.Modality for source in fused.carried["sources"]] == ["PT", "CT"]
