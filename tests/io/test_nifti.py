"""NIfTI: one orientation inside, and the file's own, to the bit, in what is written."""

from __future__ import annotations

import gzip
import sys
from itertools import permutations, product
from pathlib import Path

import nibabel
import numpy as np
import pytest

import nmfuse
from nmfuse.images import Grid, Image
from nmfuse.io import check_output, is_image, list_images, read_image, write_image

SHAPE = (5, 7, 9)  # of what is stored
VOXELS = np.arange(5 * 7 * 9).reshape(SHAPE) % 251
TURNED = np.array([[0.96, -0.28, 0.0], [0.28, 0.96, 0.0], [0.0, 0.0, 1.0]])
ORIENTATIONS = [
    (axes, flips) for axes in permutations(range(3)) for flips in product((1, -1), repeat=3) if sum(flips) != -1
]


def affine_of(
    axes: tuple[int, ...], flips: tuple[int, ...], spacing: tuple[float, ...] = (1.0, 2.0, 3.5)
) -> np.ndarray:
    """Return an affine, somewhat oblique, whose k-th stored axis runs along axis axes[k] of the body."""
    affine = np.eye(4)
    affine[:3, :3] = TURNED @ np.eye(3)[:, list(axes)] @ np.diag(np.multiply(flips, spacing))
    affine[:3, 3] = (-30.5, 12.25, 7.0)
    return affine


def save(path: Path, voxels: np.ndarray, affine: np.ndarray, order: str = "<", **fields: object) -> None:
    header = nibabel.Nifti1Header(endianness=order)
    header.set_data_dtype(voxels.dtype)
    for name, value in fields.items():
        header[name] = value
    image = nibabel.Nifti1Image(voxels, affine, header)
    image.set_qform(affine, code="scanner")
    image.set_sform(affine, code="mni")
    image.header.set_xyzt_units("mm", "sec")
    nibabel.save(image, path)


def bytes_of(path: Path) -> bytes:
    return gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()


@pytest.mark.parametrize(("axes", "flips"), ORIENTATIONS)
def test_every_orientation_is_read_as_one_and_written_as_its_own(
    tmp_path: Path, axes: tuple[int, ...], flips: tuple[int, ...]
) -> None:
    affine = affine_of(axes, flips)
    save(tmp_path / "x.nii", VOXELS.astype(np.int16), affine, descrip=b"mine", intent_name=b"t1")
    image = read_image(tmp_path / "x.nii")
    assert image.grid is not None
    assert (image.name, image.shape, image.valid) == ("x.nii", image.grid.shape, None)
    for index in ((0, 0, 0), (3, 1, 2), tuple(n - 1 for n in image.shape)):  # where a voxel is, is what it was
        place = image.grid.affine @ (*index, 1)
        stored = np.rint(np.linalg.solve(affine, place)[:3]).astype(int)
        np.testing.assert_allclose(affine @ (*stored, 1), place, atol=1e-4)
        assert image.pixels[index] == VOXELS[tuple(stored)]
    steps = image.grid.affine[:3, :3]
    assert [int(np.abs(steps[:, k]).argmax()) for k in range(3)] == [2, 1, 0]  # slices, rows, columns
    assert (steps[[2, 1, 0], [0, 1, 2]] > 0).all()  # to the head, the front, the right
    write_image(tmp_path / "y.nii", image)
    assert bytes_of(tmp_path / "y.nii") == bytes_of(tmp_path / "x.nii")


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
@pytest.mark.parametrize("dtype", ["uint8", "int16", "uint16", "int32", "float32", "float64"])
def test_dtypes_and_byte_orders_come_back(tmp_path: Path, dtype: str, suffix: str, order: str) -> None:
    path, back = tmp_path / f"x{suffix}", tmp_path / f"y{suffix}"
    save(path, (VOXELS * 1.0).astype(dtype), affine_of((0, 2, 1), (-1, 1, 1)), order)
    image = read_image(path)
    assert (image.dtype.name, image.dtype.isnative) == (dtype, True)
    write_image(back, image)
    assert bytes_of(back) == bytes_of(path)
    assert nibabel.load(back).header.endianness == order


def test_what_is_not_the_pixels_is_kept_where_they_change(tmp_path: Path) -> None:
    affine = affine_of((0, 1, 2), (-1, 1, 1))
    save(tmp_path / "x.nii.gz", VOXELS.astype(np.uint8), affine, descrip=b"mine", cal_max=200)
    image = read_image(tmp_path / "x.nii.gz")
    write_image(tmp_path / "y.nii.gz", image.with_pixels(image.pixels.astype(np.float32) / 2))
    write_image(tmp_path / "z.nii.gz", image.with_pixels(255 - image.pixels))
    x, y, z = (nibabel.load(tmp_path / f"{name}.nii.gz") for name in "xyz")
    np.testing.assert_array_equal(y.get_fdata(), VOXELS / 2)
    np.testing.assert_array_equal(z.get_fdata(), 255 - VOXELS)
    assert (y.get_data_dtype(), float(y.header["cal_max"]), float(z.header["cal_max"])) == (np.float32, 0, 200)
    for name in (*x.header.keys(),):
        if name not in ("datatype", "bitpix", "cal_max"):
            assert y.header[name].tobytes() == x.header[name].tobytes(), name


def save_scaled(path: Path, voxels: np.ndarray, slope: float, inter: float) -> None:
    save(path, voxels, np.eye(4))
    stored = bytearray(bytes_of(path))
    stored[112:120] = np.array([slope, inter], "<f4").tobytes()  # nibabel would choose a scale of its own
    path.write_bytes(gzip.compress(stored) if path.suffix == ".gz" else stored)


@pytest.mark.parametrize(
    ("dtype", "slope", "inter", "read_as"),
    [
        ("uint8", 0.5, -3, "float32"),
        ("int16", 1, -1024, "int16"),
        ("uint16", 1, -1024, "int16"),
        ("int16", 300, 0, "int32"),
        ("int16", 1e9, 0, "float32"),
        ("uint8", -1, 255, "uint8"),
        ("int32", 0.5, 0, "float64"),
        ("float32", 2, 1, "float32"),
        ("float64", 0.1, 0, "float64"),
    ],
)
@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
def test_a_scale_is_applied_and_comes_back(
    tmp_path: Path, dtype: str, slope: float, inter: float, read_as: str, suffix: str
) -> None:
    path, back = tmp_path / f"x{suffix}", tmp_path / f"y{suffix}"
    save_scaled(path, VOXELS.astype(dtype), slope, inter)
    image = read_image(path)
    assert image.dtype == read_as
    np.testing.assert_allclose(image, nibabel.load(path).get_fdata().T, rtol=1e-7)
    write_image(back, image)
    if np.dtype(dtype).kind == "f":  # whose scale is no more than a factor
        np.testing.assert_array_equal(read_image(back), image)
    else:
        assert bytes_of(back) == bytes_of(path)


def test_a_scale_is_kept_where_the_result_fits(tmp_path: Path) -> None:
    save_scaled(tmp_path / "x.nii", np.tile(VOXELS, (4, 3, 1)).astype(np.uint8), 0.5, -3)
    image = read_image(tmp_path / "x.nii")
    valid = np.ones(image.shape, bool)
    valid[0] = False
    fused = nmfuse.fuse(image, image, method="average", window=(-3, 100))
    for result, dtype, step in (
        (fused, "uint8", 0.5),
        (nmfuse.fuse(image, image, method="average", window=(-3, 100), output="float32"), "float32", 0),
        (image.with_pixels(image.pixels + np.float32(0.1)), "uint8", 0.5),
        (image.with_pixels(image.pixels * 2), "float32", 0),  # 125 or more is beyond 0.5 * 255 - 3
        (image.with_pixels(image.pixels, valid), "float32", 0),
        (image.with_pixels(image.pixels.astype(np.int16)), "uint8", 0),  # whole numbers are two steps
    ):
        write_image(tmp_path / "y.nii", result, overwrite=True)
        stored = nibabel.load(tmp_path / "y.nii")
        assert stored.get_data_dtype() == dtype
        expected = result.pixels if result.valid is None else np.where(result.valid, result.pixels, np.nan)
        np.testing.assert_allclose(stored.get_fdata().T, expected, atol=step / 2 + 1e-6)


def test_whole_numbers_that_the_scale_cannot_give_are_stored_as_they_are(tmp_path: Path) -> None:
    save_scaled(tmp_path / "x.nii", VOXELS.astype(np.int16), 2, -1024)
    image = read_image(tmp_path / "x.nii")
    odd = image.with_pixels(image.pixels + np.int16(1))
    write_image(tmp_path / "y.nii", odd)
    np.testing.assert_array_equal(nibabel.load(tmp_path / "y.nii").get_fdata().T, odd)


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
def test_one_of_several_volumes(tmp_path: Path, suffix: str) -> None:
    path, affine = tmp_path / f"x{suffix}", affine_of((0, 2, 1), (-1, 1, 1))
    voxels = np.random.default_rng(0).integers(-99, 99, (*SHAPE, 2, 3)).astype(np.int16)
    save(path, voxels, affine, descrip=b"mine")
    with pytest.raises(ValueError, match=r"x\.nii.*: holds 6 volumes \(shape .*\); choose one .*\[0\] to .*\[5\]$"):
        read_image(path)
    with pytest.raises(ValueError, match=r"x\.nii.*: has no volume 6; it has 6, the first is .*\[0\]"):
        read_image(f"{path}[6]")
    for page in (0, 3):
        save(tmp_path / "one.nii", voxels[..., page % 2, page // 2], affine, descrip=b"mine")
        found, expected = read_image(f"{path}[{page}]"), read_image(tmp_path / "one.nii")
        assert found.name == f"x{suffix}[{page}]"
        np.testing.assert_array_equal(found, expected)
        write_image(tmp_path / "y.nii", found, overwrite=True)
        assert bytes_of(tmp_path / "y.nii") == bytes_of(tmp_path / "one.nii")
    np.testing.assert_array_equal(read_image(f"{tmp_path / 'one.nii'}[0]"), expected)
    save_scaled(tmp_path / "scaled.nii", voxels[..., 0], 0.5, 1)
    np.testing.assert_array_equal(read_image(f"{tmp_path / 'scaled.nii'}[1]"), (voxels[..., 1, 0] * 0.5 + 1).T)
    path.write_bytes(path.read_bytes()[:-200])
    with pytest.raises(ValueError, match=r"x\.nii.*: not a readable image"):
        read_image(f"{path}[5]")


def test_units_are_millimetres_inside_and_their_own_outside(tmp_path: Path) -> None:
    image = nibabel.Nifti1Image(VOXELS.astype(np.uint8), affine_of((0, 1, 2), (1, 1, 1), (5.0, 5.0, 8.0)))
    image.header.set_xyzt_units("micron")
    nibabel.save(image, tmp_path / "x.nii")
    read = read_image(tmp_path / "x.nii")
    assert read.spacing == pytest.approx((0.008, 0.005, 0.005))
    write_image(tmp_path / "y.nii", read)
    assert bytes_of(tmp_path / "y.nii") == bytes_of(tmp_path / "x.nii")


def test_nifti_2_and_axes_of_one(tmp_path: Path) -> None:
    affine = affine_of((1, 0, 2), (1, -1, 1))
    for name, kind, shape in (
        ("2.nii", nibabel.Nifti2Image, SHAPE),
        ("one.nii", nibabel.Nifti1Image, (*SHAPE, 1)),
        ("flat.nii", nibabel.Nifti1Image, (35, 9)),
    ):
        nibabel.save(kind(VOXELS.astype(np.int16).reshape(shape), affine), tmp_path / name)
        image = read_image(tmp_path / name)
        assert image.ndim == 3
        write_image(tmp_path / f"back_{name}", image)
        assert bytes_of(tmp_path / f"back_{name}") == bytes_of(tmp_path / name)


def test_three_columns_are_no_colours(tmp_path: Path) -> None:
    nibabel.save(nibabel.Nifti1Image(np.ones((3, 7, 9), np.uint8), np.eye(4)), tmp_path / "x.nii")
    image = read_image(tmp_path / "x.nii")
    assert image.shape == (9, 7, 3)
    write_image(tmp_path / "y.nii", image)
    assert nibabel.load(tmp_path / "y.nii").shape == (3, 7, 9)


def test_what_is_not_valid_is_nan(tmp_path: Path) -> None:
    pixels, valid = np.ones((4, 5, 6), np.float32), np.ones((4, 5, 6), bool)
    valid[2] = False
    write_image(tmp_path / "x.nii", Image(pixels, valid))
    np.testing.assert_array_equal(np.isnan(read_image(tmp_path / "x.nii").pixels), ~valid)
    with pytest.raises(
        ValueError, match=r"NIfTI cannot hold int16 grey images of 3 axes with pixels that are not valid .*fill"
    ):
        write_image(tmp_path / "y.nii", Image(pixels.astype(np.int16), valid))


def test_volumes_of_other_origin(tmp_path: Path) -> None:
    volume = np.arange(2 * 3 * 4, dtype=np.uint8).reshape(2, 3, 4)
    write_image(tmp_path / "plain.nii", volume)
    write_image(tmp_path / "spaced.nii", Image(volume, spacing=(3.0, 1.0, 0.5)))
    grid = Grid((2, 3, 4), affine_of((0, 1, 2), (1, 1, 1))[:, [2, 1, 0, 3]])
    write_image(tmp_path / "placed.nii", Image(volume, grid=grid))
    for name, affine in (
        ("plain", np.eye(4)),
        ("spaced", np.diag([0.5, 1, 3, 1])),
        ("placed", grid.affine[:, [2, 1, 0, 3]]),
    ):
        stored = nibabel.load(tmp_path / f"{name}.nii")
        np.testing.assert_allclose(stored.affine, affine, rtol=1e-6)
        assert stored.header.get_xyzt_units()[0] == "mm"
        np.testing.assert_array_equal(read_image(tmp_path / f"{name}.nii"), volume)
    with pytest.raises(ValueError, match=r"shape \(1, 3, 4\), but its grid has \(2, 3, 4\); give it a grid of its own"):
        write_image(tmp_path / "x.nii", Image(volume[:1], grid=grid))


def test_files_that_are_refused(tmp_path: Path) -> None:
    def refused(message: str, voxels: np.ndarray | None = None) -> None:
        if voxels is not None:
            nibabel.save(nibabel.Nifti1Image(voxels, np.eye(4), dtype=voxels.dtype), tmp_path / "x.nii")
        with pytest.raises(ValueError, match=message):
            read_image(tmp_path / "x.nii")

    refused(r"voxels are int64; convert them to one of uint8", np.zeros((4, 5, 6), "i8"))
    refused(r"voxels are complex64", np.zeros((4, 5, 6), "c8"))
    refused(r"voxels are RGB;", np.zeros((4, 5, 6), [("R", "u1"), ("G", "u1"), ("B", "u1")]))
    image = nibabel.Nifti1Image(np.zeros((4, 5, 6), np.uint8), np.eye(4))
    image.header["srow_x"] = 0
    (tmp_path / "x.nii").write_bytes(image.header.binaryblock + bytes(4 + 120))
    refused(r"x\.nii: its header gives voxels no place \(affine: got .*\); repair its sform or qform")
    image = nibabel.Nifti1Image(np.zeros((4, 5, 6), np.uint8), np.eye(4))
    nibabel.save(image, tmp_path / "whole.nii")
    whole = (tmp_path / "whole.nii").read_bytes()
    for length in range(0, len(whole), 47):
        (tmp_path / "x.nii").write_bytes(whole[:length])
        refused(r"x\.nii: not a readable image \(")
    (tmp_path / "x.nii.gz").write_bytes(gzip.compress(whole)[:-20])
    with pytest.raises(ValueError, match=r"x\.nii\.gz: not a readable image \("):
        read_image(tmp_path / "x.nii.gz")


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
def test_headers_that_promise_too_much(tmp_path: Path, suffix: str) -> None:
    image = nibabel.Nifti1Image(np.zeros((4, 5, 6), np.uint8), np.eye(4))
    image.header["dim"][1:4] = 20000  # 7 TiB
    stored = image.header.binaryblock + bytes(124)
    (tmp_path / f"x{suffix}").write_bytes(gzip.compress(stored) if suffix.endswith("gz") else stored)
    with pytest.raises(
        ValueError, match=r"not a readable image \(its header promises 8000000000000 bytes, more than the"
    ):
        read_image(tmp_path / f"x{suffix}")


@pytest.mark.parametrize("name", ["TCGA-FG-6692/flair", "mni2mm/spm_SPECT", "mni2mm/spm_T1", "mni2mm/scct_CT"])
def test_real_volumes_come_back(shared_dir: Path, tmp_path: Path, name: str) -> None:
    path = shared_dir / "data" / "volumes" / f"{name}.nii.gz"
    write_image(tmp_path / "back.nii.gz", read_image(path))
    was, now = nibabel.load(path), nibabel.load(tmp_path / "back.nii.gz")
    assert (now.dataobj.slope, now.dataobj.inter) == (was.dataobj.slope, was.dataobj.inter)  # as most of SPM's have
    for field in was.header:
        assert now.header[field].tobytes() == was.header[field].tobytes(), field
    np.testing.assert_array_equal(now.dataobj.get_unscaled(), was.dataobj.get_unscaled())


def test_without_nibabel_the_message_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "x.nii.gz"
    write_image(path, np.zeros((4, 5, 6), np.uint8))
    monkeypatch.setitem(sys.modules, "nibabel", None)
    says = r"\.nii\.gz: NIfTI needs nibabel, which is not installed; pip install 'nmfuse\[medical\]'"
    with pytest.raises(ModuleNotFoundError, match=says):
        read_image(path)
    with pytest.raises(ModuleNotFoundError, match=says):
        write_image(tmp_path / "y.nii.gz", np.zeros((4, 5, 6), np.uint8))
    with pytest.raises(ModuleNotFoundError, match=says):
        check_output(tmp_path / "y.nii.gz", overwrite=False)


def test_names(tmp_path: Path) -> None:
    for name in ("a.nii", "b.NII.GZ", "c.gz"):
        (tmp_path / name).touch()
    assert [path.name for path in list_images(tmp_path)] == ["a.nii", "b.NII.GZ"]
    assert is_image("x.nii.gz")
    with pytest.raises(ValueError, match=r"PNG cannot hold int16 images of 3 axes .*; write .*\.nii, \.nii\.gz"):
        check_output(tmp_path / "x.png", overwrite=False, dtype="int16", ndim=3)
