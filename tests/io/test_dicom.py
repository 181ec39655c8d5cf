"""DICOM in: as other programs read it, in the place that it says, and a clear word where it is no volume."""

from __future__ import annotations

import logging
import shutil
import struct
import subprocess
import sys
import tracemalloc
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import imagecodecs
import nibabel
import numpy as np
import pydicom
import pydicom.data
import pytest
import SimpleITK as sitk  # noqa: N813
from pydicom.encaps import encapsulate
from pydicom.uid import RLELossless

from nmfuse.io import find_sets, is_image, list_images, read_image, write_image
from tests.data.make_dicom import AXIAL, enhanced, image, item, save, series

FILES = Path(pydicom.data.__file__).parent / "test_files"
DIRECTORIES = FILES / "dicomdirtests"
VOLUME = np.random.default_rng(0).integers(0, 4096, (5, 7, 9), np.uint16)
S = 0.6
ORIENTATIONS = {
    "axial": AXIAL,
    "coronal": (1.0, 0, 0, 0, 0, -1.0),
    "sagittal": (0, 1.0, 0, 0, 0, -1.0),
    "feet first": (-1.0, 0, 0, 0, 1.0, 0),
    "prone": (-1.0, 0, 0, 0, -1.0, 0),
    "oblique": (0.8, S, 0, -S * 0.96, 0.8 * 0.96, -0.28),
}
BY_SITK = {  # file -> greatest difference of two decoders
    "693_J2KI": 0, "CT_small": 0, "ExplVR_BigEnd": 0, "GDCMJ2K_TextGBR": 0, "J2K_pixelrep_mismatch": 0, "JPEG2000": 0,
    "JPEGLSNearLossless_08": 0, "JPEGLSNearLossless_16": 0, "JPGExtended": 1, "MR_small": 0, "MR_small_RLE": 0,
    "MR_small_bigendian": 0, "MR_small_implicit": 0, "MR_small_jp2klossless": 0, "MR_small_jpeg_ls_lossless": 0,
    "SC_rgb_dcmtk_+eb+cr": 2, "SC_rgb_dcmtk_+eb+cy+np": 2, "SC_rgb_jls_lossy_line": 0, "SC_rgb_jpeg_gdcm": 0,
    "SC_rgb_rle": 0, "SC_rgb_small_odd_big_endian": 0, "SC_ybr_full_422_uncompressed": 0, "examples_overlay": 0,
    "examples_palette": 0, "image_dfl": 0,
}  # fmt: skip


def refused(message: str, path: Path | str) -> None:
    with pytest.raises(ValueError, match=message):
        read_image(path)


@pytest.mark.parametrize("name", BY_SITK)
def test_every_transfer_syntax_is_read_as_gdcm_reads_it(name: str) -> None:
    path = FILES / f"{name}.dcm"
    expected = sitk.GetArrayFromImage(sitk.ReadImage(str(path)))
    found = read_image(path)
    assert found.dtype.isnative
    difference = np.abs(found.pixels.astype(int) - expected.reshape(found.shape)).max()
    assert difference <= BY_SITK[name]


@pytest.mark.parametrize("compressor", ["JPEG", "JPEG2000"])
@pytest.mark.parametrize(
    ("dtype", "shape"), [("uint8", (40, 50)), ("uint16", (40, 50)), ("int16", (40, 50)), ("uint8", (40, 50, 3))]
)
def test_what_gdcm_compresses_without_loss(tmp_path: Path, compressor: str, dtype: str, shape: tuple[int, ...]) -> None:
    info = np.iinfo(dtype)
    pixels = np.random.default_rng(0).integers(info.min // 2, info.max, shape, dtype)
    writer = sitk.ImageFileWriter()
    writer.SetFileName(str(tmp_path / "x.dcm"))
    writer.SetCompressor(compressor)
    writer.UseCompressionOn()
    writer.Execute(sitk.GetImageFromArray(pixels, isVector=len(shape) == 3))
    assert pydicom.dcmread(tmp_path / "x.dcm").file_meta.TransferSyntaxUID.is_compressed
    found = read_image(tmp_path / "x.dcm")
    assert found.dtype == dtype
    np.testing.assert_array_equal(found, pixels)


@pytest.mark.parametrize("kind", ["htj2k", "jpegls", "jpeg8"])
@pytest.mark.parametrize("dtype", ["uint8", "uint16"])
def test_what_imagecodecs_compresses_without_loss(tmp_path: Path, kind: str, dtype: str) -> None:
    pixels = np.random.default_rng(0).integers(0, np.iinfo(dtype).max, (12, 17), dtype)
    syntax, options = {
        "htj2k": (pydicom.uid.HTJ2KLossless, {"reversible": True}),
        "jpegls": (pydicom.uid.JPEGLSLossless, {}),
        "jpeg8": (pydicom.uid.JPEGLossless, {"lossless": True}),
    }[kind]
    dataset = image(pixels, "OT")
    dataset.PixelData = encapsulate([getattr(imagecodecs, f"{kind}_encode")(pixels, **options)])
    dataset.file_meta.TransferSyntaxUID = syntax
    dataset.save_as(tmp_path / "x.dcm", enforce_file_format=True)
    np.testing.assert_array_equal(read_image(tmp_path / "x.dcm"), pixels)


def test_16_bits_of_rle_are_those_of_8() -> None:
    eight, sixteen = (read_image(FILES / f"SC_rgb_rle{name}.dcm").pixels for name in ("", "_16bit"))
    assert sixteen.dtype == np.uint16
    np.testing.assert_array_equal(sixteen, eight * np.uint16(257))


def places(found: Any) -> dict[int, tuple[float, ...]]:
    """Return where each value of a volume lies, in LPS mm to 0.01."""
    indices = np.array(list(np.ndindex(found.shape)))
    mm = (found.grid.affine @ np.c_[indices, np.ones(len(indices))].T)[:3].T * (-1, -1, 1)
    return {int(value): tuple(np.round(place, 2) + 0.0) for value, place in zip(found.pixels.ravel(), mm, strict=True)}


def places_by_itk(folder: Path) -> dict[int, tuple[float, ...]]:
    reader = sitk.ImageSeriesReader()
    reader.SetFileNames(reader.GetGDCMSeriesFileNames(str(folder)))
    volume = reader.Execute()
    values = sitk.GetArrayFromImage(volume)
    return {
        int(values[k]): tuple(np.round(volume.TransformIndexToPhysicalPoint(k[::-1]), 2) + 0.0)
        for k in np.ndindex(values.shape)
    }


@pytest.mark.parametrize("name", ORIENTATIONS)
def test_a_series_lies_where_itk_and_dcm2niix_say(tmp_path: Path, name: str) -> None:
    values = np.arange(5 * 7 * 9, dtype=np.int16).reshape(5, 7, 9)
    folder = save(tmp_path / "x", series(values, "MR", orientation=ORIENTATIONS[name]))
    found = read_image(folder)
    assert found.spatial == 3
    steps = found.grid.affine[:3, :3]
    assert [int(np.abs(steps[:, k]).argmax()) for k in range(3)] == [2, 1, 0]  # slices, rows, columns
    assert (steps[[2, 1, 0], [0, 1, 2]] > 0).all()  # to the head, the front, the right
    assert sorted(found.spacing) == pytest.approx([1.0, 1.5, 3.0])
    assert places(found) == places_by_itk(folder)
    if shutil.which("dcm2niix") is None:
        pytest.skip("needs dcm2niix (Debian: apt install dcm2niix)")
    subprocess.run(["dcm2niix", "-o", tmp_path, "-f", "by", folder], check=True, capture_output=True)
    other = read_image(tmp_path / "by.nii")
    assert found.grid.difference(other.grid) == ""
    np.testing.assert_array_equal(found, other)


def test_a_real_series_as_itk_reads_it() -> None:
    folder = DIRECTORIES / "98892001" / "CT5N"
    found = read_image(folder)
    reader = sitk.ImageSeriesReader()
    reader.SetFileNames(reader.GetGDCMSeriesFileNames(str(folder)))
    expected = reader.Execute()
    assert (found.shape, found.carried["unit"]) == ((5, 16, 16), "HU")
    np.testing.assert_array_equal(found.pixels[:, ::-1, ::-1], sitk.GetArrayFromImage(expected))
    assert found.spacing == pytest.approx(expected.GetSpacing()[::-1])


def test_a_tilted_gantry_is_a_sheared_volume(tmp_path: Path) -> None:
    folder = save(tmp_path / "x", series(VOLUME, step=(0.0, 1.0, 3.0)))
    grid = read_image(folder).grid
    np.testing.assert_allclose(grid.affine[:3, 0], (0, -1, 3), atol=1e-9)
    np.testing.assert_allclose(grid.affine[:3, 1:3], [[0, 1], [1.5, 0], [0, 0]], atol=1e-9)


def test_enhanced_files_are_volumes_with_a_scale_a_frame(tmp_path: Path) -> None:
    files = series(VOLUME, "MR")
    for k, dataset in enumerate(files):
        dataset.RescaleSlope = str(1 + k)
    plain = read_image(save(tmp_path / "x", files))
    mixed = [files[k] for k in (3, 0, 4, 1, 2)]
    enhanced(mixed).save_as(tmp_path / "e.dcm", enforce_file_format=True)
    found = read_image(tmp_path / "e.dcm")
    np.testing.assert_array_equal(found, plain)
    np.testing.assert_array_equal(plain.pixels[:, ::-1, ::-1], VOLUME * np.arange(1, 6, dtype=np.uint16)[:, None, None])
    assert found.grid.difference(plain.grid) == ""
    frame = read_image(f"{tmp_path / 'e.dcm'}[2]")  # of the files the last
    assert (frame.name, frame.spatial) == ("e.dcm[2]", 2)
    np.testing.assert_array_equal(frame, VOLUME[4] * np.uint16(5))
    refused(r"e\.dcm: has no frame 5; it has 5, the first is .*e\.dcm\[0\]", f"{tmp_path / 'e.dcm'}[5]")
    refused(r"e\.dcm: is a file, which has no series; leave out \[1\.2\]", f"{tmp_path / 'e.dcm'}[1.2]")


def test_spect_says_where_its_first_frame_lies(tmp_path: Path) -> None:
    detector = item(ImagePositionPatient=[-20, -30, 5], ImageOrientationPatient=list(AXIAL))
    tags = {"PixelSpacing": [1.5, 1], "SpacingBetweenSlices": "3", "DetectorInformationSequence": [detector]}
    image(VOLUME, "OT", SOPClassUID="1.2.840.10008.5.1.4.1.1.20", Modality="NM", **tags).save_as(
        tmp_path / "x.dcm", enforce_file_format=True
    )
    plain = read_image(save(tmp_path / "x", series(VOLUME, "OT")))
    found = read_image(tmp_path / "x.dcm")
    assert found.grid.difference(plain.grid) == ""
    np.testing.assert_array_equal(found, plain)


def test_frames_without_a_place_are_chosen_by_number() -> None:
    path = FILES / "examples_ybr_color.dcm"
    refused(r"has 30 frames and says not where they lie, .*; choose one by its number, .*dcm\[0\] to .*dcm\[29\]", path)
    assert read_image(f"{path}[7]").shape == (240, 320, 3)


STORED = np.array([[0, 1, 2, 3], [4000, 4093, 4094, 4095]], np.uint16)


TWELVE = {"BitsStored": 12, "HighBit": 11}
WHITE_IS_0 = {"PhotometricInterpretation": "MONOCHROME1"}
TABLE = item(LUTDescriptor=[4096, 0, 16], LUTData=np.arange(5000, 904, -1, np.uint16).tobytes(), ModalityLUTType="US")


@pytest.mark.parametrize(
    ("stored", "tags", "dtype", "expected"),
    [
        (STORED, {}, "uint16", STORED),
        (STORED.astype(np.uint8), {}, "uint8", STORED.astype(np.uint8)),
        (STORED.astype(np.int8), {}, "int16", STORED.astype(np.int8)),
        (STORED, {"RescaleSlope": "1", "RescaleIntercept": "-1024"}, "int16", STORED.astype(int) - 1024),
        (STORED, {"RescaleSlope": "10"}, "uint16", STORED * 10),
        (STORED, {"RescaleSlope": "100", "RescaleIntercept": "-1"}, "int32", STORED.astype(int) * 100 - 1),
        (STORED, {"RescaleSlope": "0.5", "RescaleIntercept": "1"}, "float32", STORED * 0.5 + 1),
        (STORED, TWELVE, "uint16", STORED),
        (STORED | 0x8000, TWELVE, "uint16", STORED),  # an overlay above them
        (STORED, TWELVE | {"PixelRepresentation": 1}, "int16", (STORED.astype(int) + 2048) % 4096 - 2048),
        (STORED, TWELVE | WHITE_IS_0, "uint16", 4095 - STORED),
        (STORED.astype(np.int16), WHITE_IS_0, "int16", -1 - STORED.astype(int)),
        (STORED, TWELVE | WHITE_IS_0 | {"RescaleSlope": "2"}, "int16", 2 * (4095 - STORED)),
        (STORED, WHITE_IS_0 | {"RescaleType": "HU"}, "uint16", STORED),
        (STORED, {"ModalityLUTSequence": [TABLE]}, "uint16", 5000 - STORED),
    ],
)
def test_values(tmp_path: Path, stored: np.ndarray, tags: dict[str, Any], dtype: str, expected: np.ndarray) -> None:
    image(stored, "OT", **tags).save_as(tmp_path / "x.dcm", enforce_file_format=True)
    found = read_image(tmp_path / "x.dcm")
    assert found.dtype.name == dtype
    np.testing.assert_array_equal(found, expected)


def test_floats(tmp_path: Path) -> None:
    pixels = np.linspace(-1, 1, 12, dtype=np.float32).reshape(3, 4)
    dataset = image(pixels, "OT", BitsStored=None, HighBit=None, PixelRepresentation=None, PixelData=None)
    dataset.FloatPixelData = pixels.tobytes()
    dataset.save_as(tmp_path / "x.dcm", enforce_file_format=True)
    np.testing.assert_array_equal(read_image(tmp_path / "x.dcm"), pixels)


@pytest.mark.parametrize("tags", [{"PixelPaddingValue": 63536}, {"PixelPaddingValue": -2000}])
def test_padding_is_not_valid(tmp_path: Path, tags: dict[str, Any]) -> None:
    volume = np.zeros((3, 4, 5), np.int16)
    volume[1, 2, 3] = volume[2, 0, 0] = -2000
    files = series(volume, RescaleSlope="1", RescaleIntercept="-1000")
    for dataset in files:  # some writers say it without its sign
        dataset.add_new("PixelPaddingValue", "SS" if tags["PixelPaddingValue"] < 0 else "US", tags["PixelPaddingValue"])
    found = read_image(save(tmp_path / "x", files))
    np.testing.assert_array_equal(found.valid[:, ::-1, ::-1], volume == 0)
    files[0].add_new("PixelPaddingRangeLimit", "SS" if tags["PixelPaddingValue"] < 0 else "US", 0)
    assert not read_image(save(tmp_path / "y", files[:1])).valid.any()


def test_window_and_the_rest_of_the_header_are_kept(tmp_path: Path) -> None:
    files = series(VOLUME, WindowCenter="40", WindowWidth="400")
    found = read_image(save(tmp_path / "x", files))
    (source,) = found.carried["sources"]
    assert (source.header.WindowCenter, source.header.WindowWidth, source.header.PatientID) == (40, 400, "P1")
    assert {uid for _, uid in source.instances} == {dataset.SOPInstanceUID for dataset in files}
    assert "PixelData" not in source.header


def changed(k: int, **tags: Any) -> Callable[[list[Any]], list[Any]]:
    def change(files: list[Any]) -> list[Any]:
        for keyword, value in tags.items():
            if value is None:
                delattr(files[k], keyword)
            else:
                setattr(files[k], keyword, value)
        return files

    return change


def twice(**tags: Any) -> Callable[[list[Any]], list[Any]]:
    def change(files: list[Any]) -> list[Any]:
        more = series(VOLUME, **tags)
        for each in more:
            each.SeriesInstanceUID = files[0].SeriesInstanceUID
        return files + more

    return change


FIRST, SECOND, THIRD = r"1\.9\.1\.dcm", r"1\.9\.2\.dcm", r"1\.9\.3\.dcm"


APART = r"are \d mm apart, most others 3 mm"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda files: files[:2] + files[3:],
            rf"not evenly spaced: {SECOND} and {THIRD} {APART}; 1 slice is missing between them",
        ),
        (changed(1, ImagePositionPatient=[-20, -30, 9]), rf"not evenly spaced: {FIRST} and {SECOND} {APART}$"),
        (changed(1, ImagePositionPatient=[-18, -30, 8]), "not evenly spaced"),
        (
            changed(1, ImagePositionPatient=[-20, -30, 5]),
            rf"x: {FIRST} and {SECOND} lie in one place \(5 mm along the normal of the slices\); take one",
        ),
        (changed(1, ImagePositionPatient=None), rf"{SECOND}: has no ImagePositionPatient, so nothing says where"),
        (changed(1, PixelSpacing=None), rf"{SECOND}: has no PixelSpacing, which a volume needs"),
        (changed(1, PixelSpacing=[0, 1]), rf"{SECOND}: its pixel spacing is \[0\.0, 1\.0\]; expected two numbers"),
        (
            changed(1, PixelSpacing=[1.5, 2]),
            rf"are not of one volume: {SECOND} has pixel spacing in mm \[1\.5, 2\.0\], {FIRST} has \[1\.5, 1\.0\]",
        ),
        (changed(1, ImageOrientationPatient=[0, 1, 0, 1, 0, 0]), rf"{SECOND} has orientation .*, {FIRST} has "),
        (changed(1, ImageOrientationPatient=[0, 1, 0, 0, 1, 0]), rf"{SECOND}: its orientation is .* at right angles"),
        (changed(1, Rows=6), rf"{SECOND} has size 6 x 9, {FIRST} has 7 x 9; put those of one volume into a folder"),
        (changed(1, FrameOfReferenceUID="1.2.3"), rf"{SECOND} has frame of reference 1\.2\.3, {FIRST} has"),
        (
            twice(EchoTime="30"),
            r"x: holds 2 images of each of 5 places, such as several times or echoes \(.* EchoTime None and 30\); put",
        ),
        (changed(1, HighBit=14), rf"{SECOND}: its highest bit is 14 of 16 stored bits; expected 15"),
    ],
)
def test_what_is_no_volume(tmp_path: Path, change: Callable[[list[Any]], list[Any]], message: str) -> None:
    files = change(series(VOLUME))
    for k, dataset in enumerate(files):
        dataset.SOPInstanceUID = f"1.9.{k + 1}"
    refused(message, save(tmp_path / "x", files))


def test_copies_of_one_image(tmp_path: Path) -> None:
    folder = save(tmp_path / "x", series(VOLUME))
    some = next(folder.iterdir())
    shutil.copy(some, folder / "copy")
    refused("x: .* and .* lie in one place .*, and are copies of one image; take one of them out", folder)


def test_rounded_positions_are_even(tmp_path: Path) -> None:
    files = series(np.zeros((12, 4, 4), np.uint8), spacing=(0.625, 1, 1))
    for dataset in files:
        dataset.ImagePositionPatient = [round(float(x), 1) for x in dataset.ImagePositionPatient]
    assert read_image(save(tmp_path / "x", files)).spacing[0] == pytest.approx(0.625, abs=0.01)


def test_several_series_are_listed_and_chosen(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    save(tmp_path / "x", series(VOLUME))
    save(tmp_path / "x" / "below", series(VOLUME[:2] + 1, "MR"))
    shutil.copy(DIRECTORIES / "DICOMDIR", tmp_path / "x" / "DICOMDIR")
    shutil.copy(FILES / "test-SR.dcm", tmp_path / "x" / "report.dcm")
    (tmp_path / "x" / "notes.txt").write_text("notes")
    ct, mr = "1.2.826.0.1.3680043.10.1.1", "1.2.826.0.1.3680043.10.1.2"
    listed = rf"choose one by its SeriesInstanceUID: .*x\[{ct}\] \(CT 'a CT', 5 images\); .*x\[{mr}\] \(MR 'a MR', 2 im"
    refused(rf"x: holds several series; {listed}", tmp_path / "x")
    refused(rf"x: holds no series 1\.2; {listed}", f"{tmp_path / 'x'}[1.2]")
    refused(rf"x: holds no series 1; {listed}", f"{tmp_path / 'x'}[1]")
    with caplog.at_level(logging.INFO, "nmfuse.io"):
        found = read_image(f"{tmp_path / 'x'}[{mr}]")
    assert (found.shape, found.name) == ((2, 7, 9), f"x[{mr}]")
    assert read_image(f"{tmp_path / 'x'}[{ct}]").shape == (5, 7, 9)
    for said in (
        "DICOMDIR: holds no image (Media Storage Directory Storage), and is left out",
        "report.dcm: holds no image (Comprehensive SR Storage), and is left out",
        "notes.txt: is no DICOM file, and is left out",
    ):
        assert said in caplog.text


def test_one_slice_is_an_image(tmp_path: Path) -> None:
    found = read_image(save(tmp_path / "x", series(VOLUME[:1])))
    assert (found.shape, found.spacing, found.grid) == ((7, 9), (1.5, 1.0), None)
    np.testing.assert_array_equal(found, VOLUME[0])


def test_names(tmp_path: Path) -> None:
    folder = save(tmp_path / "x", series(VOLUME[:1]))
    (file,) = folder.iterdir()
    for name in ("IM0001", "1.2.840.113", "scan.DCM"):
        shutil.copy(file, tmp_path / name)
        np.testing.assert_array_equal(read_image(tmp_path / name), VOLUME[0])
    assert is_image("x.dcm")
    assert [path.name for path in list_images(tmp_path)] == ["scan.DCM"]
    (tmp_path / "pairs").mkdir()
    for letter in "AB":
        shutil.copy(file, tmp_path / "pairs" / f"01_{letter}.dcm")
    assert [each.shape for each in find_sets(tmp_path / "pairs")[0].images()] == [(7, 9), (7, 9)]
    (tmp_path / "t.csv").write_text("a,b\nx,x\n")
    assert [each.shape for each in find_sets(tmp_path / "t.csv")[0].images()] == [(7, 9), (7, 9)]
    (tmp_path / "empty").mkdir()
    refused(
        "empty: is a folder without DICOM images; expected an image file, or a folder of a series", tmp_path / "empty"
    )
    refused(r"test-SR\.dcm: holds no image \(Comprehensive SR Storage\)", FILES / "test-SR.dcm")
    refused(r"no_meta\.dcm: not a readable image \(it does not begin as DICOM does\)", FILES / "no_meta.dcm")
    write_image(tmp_path / "a.png", np.zeros((4, 4), np.uint8))
    refused(r"a\.png: is a file, which has no series; leave out \[1\.2\]", f"{tmp_path / 'a.png'}[1.2]")


@pytest.mark.parametrize("module", ["pydicom", "nibabel"])
def test_without_a_package_the_message_says_what_to_install(
    tmp_path: Path, module: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = save(tmp_path / "x", series(VOLUME))
    for name in [name for name in sys.modules if name.split(".")[0] == module]:
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(ModuleNotFoundError, match=rf"x: DICOM needs {module}.*, which is not.*'nmfuse\[medical\]'"):
        read_image(folder)


@pytest.mark.parametrize(
    "name",
    ["SC_rgb_small_odd", "SC_rgb_rle", "SC_rgb_jls_lossy_line", "SC_rgb_gdcm_KY", "SC_rgb_jpeg_dcmtk", "image_dfl"],
)
def test_files_that_are_cut_off(tmp_path: Path, name: str) -> None:
    whole, path = (FILES / f"{name}.dcm").read_bytes(), tmp_path / "x.dcm"
    expected, refusals, whole_ones = read_image(FILES / f"{name}.dcm").pixels, 0, 0
    for length in range(0, len(whole), 10):
        path.write_bytes(whole[:length])
        try:
            found = read_image(path)
        except ValueError as error:
            refusals += str(error).startswith(f"{path}: ")
        else:
            np.testing.assert_array_equal(found, expected)  # padding alone was cut off
            whole_ones += 1
    assert refusals + whole_ones == len(range(0, len(whole), 10))
    assert refusals > 0.9 * len(whole) / 10


def packed(**tags: Any) -> Any:
    dataset = image(np.zeros((8, 8), np.uint8), "OT")
    dataset.compress(RLELossless)
    return changed(0, **tags)([dataset])[0]


def jpeg_of(rows: int, columns: int) -> bytes:
    whole = (FILES / "SC_rgb_jpeg_dcmtk.dcm").read_bytes()
    at = whole.index(b"\xff\xc0") + 5
    assert struct.unpack_from(">HH", whole, at) == (100, 100)
    return whole[:at] + struct.pack(">HH", rows, columns) + whole[at + 4 :]


def deflated(size: int) -> bytes:
    whole = (FILES / "image_dfl.dcm").read_bytes()
    start = 144 + struct.unpack_from("<I", whole, 140)[0]
    pack = zlib.compressobj(9, wbits=-15)
    return whole[:start] + b"".join(pack.compress(bytes(2**20)) for _ in range(size >> 20)) + pack.flush()


def test_sizes_that_lie(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NMFUSE_MAX_PIXELS", str(2**22))
    path, small = tmp_path / "x.dcm", np.zeros((8, 8), np.uint8)
    too_many = "pixels, more than 4194304, which may be an attack"
    for make, message in (
        (lambda: image(small, "OT", Rows=60000, Columns=60000), "its header promises 3600000000 bytes, more than the"),
        (lambda: image(small, "OT", NumberOfFrames="100000000"), "its header promises 6400000000 bytes, more than the"),
        (lambda: image(small, "OT", NumberOfFrames="-3"), "says -3 frames of 8 x 8 pixels of 1 x 8 bits"),
        (lambda: image(small, "OT", Rows=0), "says 1 frames of 0 x 8 pixels"),
        (lambda: packed(Rows=60000, Columns=60000), f"has 3600000000 {too_many}"),
        (lambda: packed(NumberOfFrames="100000000"), f"has 6400000000 {too_many}"),
        (lambda: packed(Rows=2000, Columns=2000), "not a readable image"),
        (lambda: jpeg_of(60000, 60000), r"its header says 100 x 100 pixels, its data 60000 x 60000\)"),
        (lambda: deflated(2**26), f"has .* {too_many}"),
    ):
        made = make()
        path.write_bytes(made) if isinstance(made, bytes) else made.save_as(path, enforce_file_format=True)
        tracemalloc.start()
        refused(message, path)
        assert tracemalloc.get_traced_memory()[1] < 2**24
        tracemalloc.stop()


def test_what_pydicom_warns_of_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "nmfuse.io"):
        read_image(FILES / "MR_small_padded.dcm")
    assert "MR_small_padded.dcm: The pixel data is 8320 bytes long" in caplog.text


def test_a_volume_goes_to_nifti(tmp_path: Path) -> None:
    found = read_image(save(tmp_path / "x", series(VOLUME)))
    write_image(tmp_path / "y.nii.gz", found)
    again = read_image(tmp_path / "y.nii.gz")
    np.testing.assert_array_equal(again, found)
    assert again.grid.difference(found.grid) == ""
    np.testing.assert_allclose(
        nibabel.load(tmp_path / "y.nii.gz").affine, found.grid.affine[:, [2, 1, 0, 3]], atol=1e-4
    )


def test_a_broken_file_among_others_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = save(tmp_path / "x", series(VOLUME))
    (folder / "broken.dcm").write_bytes((FILES / "MR_small.dcm").read_bytes()[:200])
    refused(rf"^{folder}/broken\.dcm: not a readable image \(", folder)
    (folder / "broken.dcm").write_bytes(bytes(100))
    refused(rf"^{folder}/broken\.dcm: not a readable image \(", folder)
    monkeypatch.setenv("NMFUSE_MAX_PIXELS", str(2**20))
    (folder / "broken.dcm").write_bytes(deflated(2**24))
    refused(rf"^{folder}/broken\.dcm: has \d+ pixels, more than 1048576, which may be an attack", folder)


def test_a_dicomdir_leads_nowhere(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """What it names is never opened: only files that are in the folder are read."""
    outside = save(tmp_path / "outside", series(VOLUME + 1, "MR"))
    folder = save(tmp_path / "x", series(VOLUME))
    data = (DIRECTORIES / "DICOMDIR").read_bytes()
    named = b"98892001\\CT5N\\2062"
    assert named in data
    to = f"..\\outside\\{next(outside.iterdir()).name}"[: len(named)].ljust(len(named)).encode()
    (folder / "DICOMDIR").write_bytes(data.replace(named, to))
    with caplog.at_level(logging.INFO, "nmfuse.io"):
        np.testing.assert_array_equal(read_image(folder).pixels[:, ::-1, ::-1], VOLUME)
    assert "DICOMDIR: holds no image (Media Storage Directory Storage), and is left out" in caplog.text
    refused(r"DICOMDIR: holds no image \(Media Storage Directory Storage\)", folder / "DICOMDIR")
