"""NRRD and MetaImage against what SimpleITK and nibabel say of the same files."""

from __future__ import annotations

from contextlib import suppress
from itertools import permutations
from pathlib import Path

import nibabel
import numpy as np
import pytest
import SimpleITK

from nmfuse.images import Grid, Image
from nmfuse.io import check_output, read_image, write_image

VOXELS = np.arange(5 * 7 * 9).reshape(9, 7, 5) % 251
SUFFIXES = (".nrrd", ".mha")


def stored(direction: np.ndarray | None = None, dtype: str = "int16") -> SimpleITK.Image:
    image = SimpleITK.GetImageFromArray(VOXELS.astype(dtype))
    image.SetSpacing((0.1, 1 / 3, 2.7))
    image.SetOrigin((1 / 3, -2 / 7, 1e-9))
    if direction is not None:
        image.SetDirection(direction.ravel())
    return image


def same(a: SimpleITK.Image, b: SimpleITK.Image) -> None:
    np.testing.assert_array_equal(SimpleITK.GetArrayFromImage(a), SimpleITK.GetArrayFromImage(b))
    assert a.GetPixelID() == b.GetPixelID()
    for one, two in zip(_geometry(a), _geometry(b), strict=True):
        np.testing.assert_allclose(one, two, rtol=1e-15, atol=1e-24)


def _geometry(image: SimpleITK.Image) -> tuple[tuple[float, ...], ...]:
    return image.GetSpacing(), image.GetOrigin(), image.GetDirection()


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("flips", [(1, 1, 1), (-1, -1, 1), (1, -1, -1)])
@pytest.mark.parametrize("axes", list(permutations(range(3))))
def test_orientations_come_back_and_pixels_lie_where_itk_says(
    tmp_path: Path, suffix: str, axes: tuple[int, ...], flips: tuple[int, ...]
) -> None:
    turned = np.array([[0.96, -0.28, 0.0], [0.28, 0.96, 0.0], [0.0, 0.0, 1.0]])
    file = stored(turned @ np.eye(3)[:, list(axes)] @ np.diag(flips))
    SimpleITK.WriteImage(file, tmp_path / f"x{suffix}")
    image = read_image(tmp_path / f"x{suffix}")
    assert image.grid is not None
    steps = image.grid.affine[:3, :3]
    assert [int(np.abs(steps[:, k]).argmax()) for k in range(3)] == [2, 1, 0]  # slices, rows, columns
    for index in ((0, 0, 0), (3, 2, 1), tuple(n - 1 for n in image.shape)):
        right, front, head, _ = image.grid.affine @ (*index, 1)
        assert image.pixels[index] == file[file.TransformPhysicalPointToIndex((-right, -front, head))]
    write_image(tmp_path / f"y{suffix}", image)
    same(SimpleITK.ReadImage(tmp_path / f"y{suffix}"), file)


def test_the_same_volume_as_nifti_lies_in_the_same_place(tmp_path: Path) -> None:
    file = stored(np.diag([-1.0, 1.0, -1.0]))
    for suffix in (".nrrd", ".nii.gz"):
        SimpleITK.WriteImage(file, tmp_path / f"x{suffix}")
    one, two = (read_image(tmp_path / f"x{suffix}") for suffix in (".nrrd", ".nii.gz"))
    np.testing.assert_array_equal(one.pixels, two.pixels)
    assert one.grid is not None
    assert two.grid is not None
    assert one.grid.difference(two.grid) == ""
    write_image(tmp_path / "y.nii", one)  # each in the format of the other
    write_image(tmp_path / "y.mha", two)
    np.testing.assert_allclose(nibabel.load(tmp_path / "y.nii").affine[:3], one.grid.affine[:3, [2, 1, 0, 3]])
    again = read_image(tmp_path / "y.mha")
    assert again.grid is not None
    assert again.grid.difference(two.grid) == ""
    np.testing.assert_array_equal(again.pixels, two.pixels)


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("dtype", ["uint8", "int16", "uint16", "int32", "float32", "float64"])
def test_dtypes_words_and_what_is_not_valid(tmp_path: Path, suffix: str, dtype: str) -> None:
    file = stored(dtype=dtype)
    file.SetMetaData("patient", "a phantom")
    SimpleITK.WriteImage(file, tmp_path / f"x{suffix}")
    image = read_image(tmp_path / f"x{suffix}")
    write_image(tmp_path / f"y{suffix}", image)
    back = SimpleITK.ReadImage(tmp_path / f"y{suffix}")
    same(back, file)
    assert back.GetMetaData("patient") == "a phantom"
    valid = image.pixels > 10
    if dtype.startswith("float"):
        write_image(tmp_path / f"z{suffix}", image, valid=valid)
        np.testing.assert_array_equal(np.isfinite(read_image(tmp_path / f"z{suffix}").pixels), valid)
    else:
        with pytest.raises(ValueError, match="with pixels that are not valid"):
            write_image(tmp_path / f"z{suffix}", image, valid=valid)


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_images_of_two_axes_in_grey_and_colour(tmp_path: Path, suffix: str) -> None:
    for shape in ((12, 16), (12, 16, 3)):
        pixels = np.random.default_rng(0).integers(0, 256, shape).astype(np.uint8)
        file = SimpleITK.GetImageFromArray(pixels, isVector=len(shape) == 3)
        file.SetSpacing((0.5, 0.25))
        SimpleITK.WriteImage(file, tmp_path / f"x{suffix}")
        image = read_image(tmp_path / f"x{suffix}")
        assert (image.spacing, image.spatial) == ((0.25, 0.5), 2)
        np.testing.assert_array_equal(image.pixels, pixels)
        write_image(tmp_path / f"y{suffix}", image, overwrite=True)
        same(SimpleITK.ReadImage(tmp_path / f"y{suffix}"), file)


@pytest.mark.parametrize("header", ["x.mhd", "x.nhdr"])
def test_headers_with_their_data_beside_them_and_no_further(tmp_path: Path, header: str) -> None:
    data = "x.raw"
    folder = tmp_path / "a"
    folder.mkdir()
    SimpleITK.WriteImage(stored(), folder / header)
    np.testing.assert_array_equal(read_image(folder / header).pixels.max(), VOXELS.max())
    with pytest.raises(ValueError, match="is only read"):
        check_output(folder / f"y{Path(header).suffix}", overwrite=False)
    text = (folder / header).read_text()
    assert f"{data}\n" in text
    (tmp_path / "secret.raw").write_bytes(bytes(2 * VOXELS.size))
    for name in ("../secret.raw", str(tmp_path / "secret.raw")):
        (folder / header).write_text(text.replace(f"{data}\n", f"{name}\n"))
        with pytest.raises(ValueError, match=r"names .*secret\.raw for its data; expected a file in its own folder"):
            read_image(folder / header)
    (folder / header).write_text(text)
    (folder / data).unlink()
    with pytest.raises(ValueError, match=r"its data are in x\.raw, which is not one file beside it"):
        read_image(folder / header)


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_what_is_refused(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"x{suffix}"
    SimpleITK.WriteImage(SimpleITK.GetImageFromArray(np.zeros((4, 5, 6), np.uint32)), path)
    with pytest.raises(ValueError, match="pixels are 32-bit unsigned integer; convert them to one of uint8"):
        read_image(path)
    SimpleITK.WriteImage(SimpleITK.GetImageFromArray(np.zeros((3, 4, 5, 6), np.uint8), isVector=False), path)
    with pytest.raises(ValueError, match=r"has 4 axes .6, 5, 4, 3. and 1 channel\(s\); expected a volume"):
        read_image(path)
    path.write_bytes(b"no image")
    with pytest.raises(ValueError, match=rf"x\{suffix}: not a readable image"):
        read_image(path)
    affine = np.eye(4)
    affine[0, 1] = 0.3
    sheared = Image(np.zeros((4, 5, 6), np.uint8), grid=Grid((4, 5, 6), affine))
    with pytest.raises(ValueError, match=r"have no right angles; write it as \.nii"):
        write_image(tmp_path / f"y{suffix}", sheared)
    assert not (tmp_path / f"y{suffix}").exists()


def _sheared():
    from nmfuse.images import Grid

    affine = np.eye(4)
    affine[0, 1] = 0.3
    return Grid((4, 5, 6), affine)


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_cut_off_and_sizes_that_lie(tmp_path: Path, suffix: str) -> None:
    whole, path = tmp_path / f"w{suffix}", tmp_path / f"x{suffix}"
    SimpleITK.WriteImage(stored(), whole, True)
    data = whole.read_bytes()
    for end in range(0, len(data) - 1, 10):
        path.write_bytes(data[:end])
        image = None
        with suppress(ValueError):
            image = read_image(path)
        if image is not None:  # all is there but the checksum
            assert end >= len(data) - 16
            np.testing.assert_array_equal(image.pixels, read_image(whole).pixels)
    SimpleITK.WriteImage(stored(), whole, False)
    uncompressed = whole.read_bytes()
    path.write_bytes(uncompressed.replace(b"5 7 9", b"5 7 99"))  # where nothing is packed, that is too much
    with pytest.raises(ValueError, match=r"its header promises .* pixels, more than the file holds"):
        read_image(path)
    for size, why in ((b"99999 99999 9", "may be an attack"), (b"9999 9999 1", "not a readable image")):
        path.write_bytes(data.replace(b"5 7 9", size))
        with pytest.raises(ValueError, match=why):
            read_image(path)
