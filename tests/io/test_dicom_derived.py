"""DICOM out: what is read again, what validators say, and that it tells where it comes from."""

from __future__ import annotations

import logging
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
import SimpleITK as sitk  # noqa: N813

import nmfuse
from nmfuse.images import Grid, Image
from nmfuse.io import check_file, check_output, read_image, write_image
from tests.data.make_dicom import SPACE, STUDY, save, series
from tests.io.test_dicom import ORIENTATIONS, VOLUME, places


def check_with_dciodvfy(path: Path) -> None:
    if shutil.which("dciodvfy") is None:
        pytest.skip("needs dciodvfy (Debian: apt install dicom3tools)")
    said = subprocess.run(["dciodvfy", "-new", path], capture_output=True, text=True, check=False)
    lines = (said.stdout + said.stderr).splitlines()
    assert [line for line in lines if line.startswith("Error")] == []
    unknown = ("needed to build DICOMDIR", "Laterality(0020,0060)")  # what the sources do not say
    assert [x for x in lines if x.startswith("Warning") and not any(what in x for what in unknown)] == []


@pytest.mark.parametrize("name", ORIENTATIONS)
def test_geometry_comes_back_in_the_order_of_the_files(tmp_path: Path, name: str) -> None:
    files = series(VOLUME.astype(np.int16), "MR", orientation=ORIENTATIONS[name])
    found = read_image(save(tmp_path / "x", files))
    write_image(tmp_path / "y.dcm", found)
    stored, again = pydicom.dcmread(tmp_path / "y.dcm"), read_image(tmp_path / "y.dcm")
    np.testing.assert_array_equal(again, found)
    np.testing.assert_allclose(again.grid.affine, found.grid.affine, atol=1e-9)
    assert again.grid.header == found.grid.header
    np.testing.assert_array_equal(stored.pixel_array.astype(int) - 32768, VOLUME)
    shared = stored.SharedFunctionalGroupsSequence[0]
    orientation = shared.PlaneOrientationSequence[0].ImageOrientationPatient
    np.testing.assert_allclose(orientation, files[0].ImageOrientationPatient, atol=1e-6)
    assert list(shared.PixelMeasuresSequence[0].PixelSpacing) == [1.5, 1.0]
    for dataset, group in zip(files, stored.PerFrameFunctionalGroupsSequence, strict=True):
        np.testing.assert_allclose(
            group.PlanePositionSequence[0].ImagePositionPatient, dataset.ImagePositionPatient, atol=1e-5
        )
    assert stored.FrameOfReferenceUID == SPACE


def test_itk_sees_the_volume_where_it_is(tmp_path: Path) -> None:
    values = np.arange(5 * 7 * 9, dtype=np.int16).reshape(5, 7, 9)
    found = read_image(save(tmp_path / "x", series(values, "MR", orientation=ORIENTATIONS["oblique"])))
    write_image(tmp_path / "y.dcm", found)
    volume = sitk.ReadImage(str(tmp_path / "y.dcm"))
    by_itk = sitk.GetArrayFromImage(volume)
    assert places(found) == {
        int(by_itk[k]): tuple(np.round(volume.TransformIndexToPhysicalPoint(k[::-1]), 2) + 0.0)
        for k in np.ndindex(by_itk.shape)
    }


RANDOM = np.random.default_rng(1)


@pytest.mark.parametrize(
    ("pixels", "kind"),
    [
        (RANDOM.integers(0, 256, (3, 4, 5), np.uint8), "Multi-frame Grayscale Byte"),
        (RANDOM.integers(0, 65536, (3, 4, 5), np.uint16), "Multi-frame Grayscale Word"),
        (RANDOM.integers(-32768, 32768, (3, 4, 5), np.int16), "Multi-frame Grayscale Word"),
        (RANDOM.integers(0, 256, (3, 5, 5, 3), np.uint8), "Multi-frame True Color"),
        (RANDOM.integers(0, 256, (7, 5), np.uint8), "Multi-frame Grayscale Byte"),
        (RANDOM.integers(0, 256, (7, 5, 3), np.uint8), "Multi-frame True Color"),
    ],
)
def test_integers_come_back_to_the_bit(tmp_path: Path, pixels: np.ndarray, kind: str) -> None:
    volume = pixels.ndim - (pixels.shape[-1] == 3) == 3
    grid = Grid(pixels.shape[:3], np.diag([3.0, 1.0, 1.0, 1.0])[[2, 1, 0, 3]]) if volume else None
    write_image(tmp_path / "x.dcm", Image(pixels, grid=grid))
    found = read_image(tmp_path / "x.dcm")
    assert found.dtype == pixels.dtype
    np.testing.assert_array_equal(found, pixels)
    assert pydicom.dcmread(tmp_path / "x.dcm").SOPClassUID.name.startswith(kind)
    if grid is not None:
        np.testing.assert_allclose(found.grid.affine, grid.affine)
    check_with_dciodvfy(tmp_path / "x.dcm")


def test_floats_come_back_to_a_step(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    pixels = RANDOM.random((3, 4, 5), np.float32) * 12
    pixels[0, 0, 0], pixels[1, 1, 1] = 0, np.nan
    with caplog.at_level(logging.INFO, "nmfuse.io"):
        write_image(tmp_path / "x.dcm", Image(pixels, name="suv"))
    assert "suv: its floats are stored in steps of 0.000" in caplog.text
    found = read_image(tmp_path / "x.dcm")
    assert (found.dtype, found.pixels[0, 0, 0]) == (np.float32, 0)
    np.testing.assert_array_equal(found.valid, ~np.isnan(pixels))
    np.testing.assert_allclose(found.pixels[found.valid], pixels[found.valid], atol=12 / 65534 / 2 * 1.001)
    stored = pydicom.dcmread(tmp_path / "x.dcm")
    low, high = np.nanmin(pixels), np.nanmax(pixels)
    assert (stored.WindowCenter, stored.WindowWidth) == pytest.approx(((low + high) / 2, high - low))
    write_image(tmp_path / "y.dcm", np.full((4, 4), 2.5, np.float32))
    np.testing.assert_array_equal(read_image(tmp_path / "y.dcm"), np.full((4, 4), 2.5))
    with pytest.raises(ValueError, match="image: contains inf, which DICOM cannot hold; replace it"):
        write_image(tmp_path / "z.dcm", np.full((4, 4), np.inf, np.float32))
    assert not (tmp_path / "z.dcm").exists()


@pytest.mark.parametrize("dtype", ["uint16", "int16", "float32"])
def test_what_is_not_valid_is_padding(tmp_path: Path, dtype: str) -> None:
    pixels = (VOLUME - 0.0).astype(dtype)
    valid = RANDOM.random(VOLUME.shape) > 0.3
    pixels[0, 0, 0], valid[0, 0, 0] = 0, True  # the least value, which is no padding
    write_image(tmp_path / "x.dcm", pixels, valid=valid)
    found = read_image(tmp_path / "x.dcm")
    np.testing.assert_array_equal(found.valid, valid)
    np.testing.assert_allclose(found.pixels[valid], pixels[valid], atol=0.04 if dtype == "float32" else 0)
    check_with_dciodvfy(tmp_path / "x.dcm")


def test_what_is_refused(tmp_path: Path) -> None:
    every = np.arange(2**16, dtype=np.uint16).reshape(256, 256)
    valid = np.ones(every.shape, bool)
    write_image(tmp_path / "x.dcm", every, valid=valid)
    valid[0, 5] = False
    write_image(tmp_path / "y.dcm", np.minimum(every, 65534), valid=valid)
    every[0, 6], valid[0, 6] = 5, True
    with pytest.raises(ValueError, match="image: has every value of uint16, and none is left for pixels that are not"):
        write_image(tmp_path / "z.dcm", np.vstack([every, every]), valid=np.vstack([valid, valid]))
    sheared = np.array([[0, 0, 1.0, 0], [0, 1.0, 0.5, 0], [1.0, 0, 0, 0], [0, 0, 0, 1.0]])
    with pytest.raises(ValueError, match="its rows and columns are not at right angles, which DICOM cannot say"):
        write_image(tmp_path / "z.dcm", Image(VOLUME, grid=Grid(VOLUME.shape, sheared)))
    for dtype, options in (
        ("float64", {}), ("int32", {}), ("uint8", {"transparent": True}), ("uint16", {"colour": True}),
    ):  # fmt: skip
        with pytest.raises(ValueError, match=rf"z\.dcm: DICOM cannot hold {dtype}"):
            check_output(tmp_path / "z.dcm", overwrite=False, dtype=dtype, **options)
    assert not (tmp_path / "z.dcm").exists()


def test_nothing_is_written_into_the_folder_of_a_source(tmp_path: Path) -> None:
    folder = save(tmp_path / "x", series(VOLUME))
    for source in (folder, f"{folder}[1.2.3]"):
        with pytest.raises(ValueError, match=r"f\.dcm: lies in the source .*x.*; nothing is written there, choose"):
            check_file(folder / "f.dcm", overwrite=True, sources=[source])
    check_file(tmp_path / "f.dcm", overwrite=False, sources=[folder])


SLAB = RANDOM.integers(0, 4096, (3, 17, 18), np.uint16)


def fused_of(*folders: Path, **options: Any) -> Image:
    images = [read_image(folder) for folder in folders]
    return nmfuse.fuse(*images, window="auto", method="average", **options)


def test_it_says_what_it_is_made_of(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    said = {"StudyDescription": "Ganzkörper", "SpecificCharacterSet": "ISO_IR 100", "LossyImageCompression": "01"}
    ct = series(SLAB, "CT", **said, LossyImageCompressionRatio="12", LossyImageCompressionMethod="ISO_10918_1")
    mr, other = series(SLAB, "MR"), series(SLAB, "OT", StudyInstanceUID="1.2.3", PatientID="P2")
    folders = [save(tmp_path / name, files) for name, files in (("ct", ct), ("mr", mr), ("ot", other))]
    with caplog.at_level(logging.WARNING, "nmfuse.io"):
        write_image(tmp_path / "f.dcm", replace(fused_of(*folders), name="f"))
    assert "f: its sources are of several patients (P1, P2); it is written as of the first" in caplog.text
    found = pydicom.dcmread(tmp_path / "f.dcm")
    assert (found.PatientID, str(found.PatientName), found.StudyInstanceUID) == ("P1", "Phantom^Digital", STUDY)
    assert (found.StudyDescription, found.StudyDate, found.Modality) == ("Ganzkörper", "20260102", "OT")
    assert found.ImageType == ["DERIVED", "SECONDARY"]
    assert found.DerivationDescription.startswith("Fused by nmfuse ")
    assert "CT a CT; MR a MR; OT a OT" in found.DerivationDescription
    assert "Research use only, not for diagnosis" in found.ImageComments
    assert (found.BurnedInAnnotation, found.LossyImageCompression) == ("NO", "01")
    assert found.LossyImageCompressionMethod == "ISO_10918_1"
    uids = [[dataset.SOPInstanceUID for dataset in files] for files in (ct, mr, other)]
    sources = [each.ReferencedSOPInstanceUID for each in found.SourceImageSequence]
    assert sources == [uid for some in uids for uid in some]

    def instances(of: Any) -> dict[str, list[str]]:
        return {
            each.SeriesInstanceUID: [one.ReferencedSOPInstanceUID for one in each.ReferencedInstanceSequence]
            for each in of.ReferencedSeriesSequence
        }

    assert instances(found) == {ct[0].SeriesInstanceUID: uids[0], mr[0].SeriesInstanceUID: uids[1]}
    (study,) = found.StudiesContainingOtherReferencedInstancesSequence
    assert (study.StudyInstanceUID, instances(study)) == ("1.2.3", {other[0].SeriesInstanceUID: uids[2]})
    known = {found.StudyInstanceUID, found.FrameOfReferenceUID, *sources, *(x[0].SeriesInstanceUID for x in (ct, mr))}
    assert not {found.SOPInstanceUID, found.SeriesInstanceUID} & known
    check_with_dciodvfy(tmp_path / "f.dcm")


def test_what_is_not_wanted_is_no_source(tmp_path: Path) -> None:
    folders = [save(tmp_path / kind, series(SLAB, kind)) for kind in ("CT", "MR", "OT")]
    fused = fused_of(*folders, balance=[0, 1, 0.5])
    assert [source.header.Modality for source in fused.carried["sources"]] == ["MR", "OT"]


def test_a_slice_keeps_its_place(tmp_path: Path) -> None:
    files = series(SLAB[:1], "CT", orientation=ORIENTATIONS["oblique"])
    folder = save(tmp_path / "x", files)
    write_image(tmp_path / "f.dcm", fused_of(folder, folder))
    found = pydicom.dcmread(tmp_path / "f.dcm")
    plane = found.PerFrameFunctionalGroupsSequence[0].PlanePositionSequence[0]
    np.testing.assert_allclose(plane.ImagePositionPatient, files[0].ImagePositionPatient)
    shared = found.SharedFunctionalGroupsSequence[0]
    np.testing.assert_allclose(
        shared.PlaneOrientationSequence[0].ImageOrientationPatient, files[0].ImageOrientationPatient, atol=1e-6
    )
    assert shared.PixelMeasuresSequence[0].SliceThickness == 3
    assert (found.FrameOfReferenceUID, read_image(tmp_path / "f.dcm").spacing) == (SPACE, (1.5, 1.0))
    check_with_dciodvfy(tmp_path / "f.dcm")


def test_nifti_and_dicom_together(tmp_path: Path) -> None:
    ct = read_image(save(tmp_path / "ct", series(SLAB.astype(np.int16))))
    write_image(tmp_path / "x.nii", ct)
    nifti = read_image(tmp_path / "x.nii")
    for k, pair in enumerate(((ct, nifti), (nifti, ct))):
        write_image(tmp_path / f"{k}.dcm", nmfuse.fuse(*pair, window="auto", method="average"))
        found = pydicom.dcmread(tmp_path / f"{k}.dcm")
        assert (found.PatientID, len(found.SourceImageSequence)) == ("P1", 3)
        assert read_image(tmp_path / f"{k}.dcm").grid.difference(ct.grid) == ""
