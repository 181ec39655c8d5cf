"""OpenEXR, HEIF, HDF5 and .npz, written by the libraries of these formats themselves."""

from __future__ import annotations

import zipfile
import zlib
from pathlib import Path

import h5py
import numpy as np
import OpenEXR
import pillow_heif
import pytest
from PIL import Image as Pillow

from nmfuse.io import check_output, open_image, read_image, write_image
from tests.io.cut import check_cut_off

RNG = np.random.default_rng(0)
LIGHT = RNG.uniform(0, 8, (12, 20, 3)).astype(np.float32)


def scanlines() -> dict[str, object]:
    return {"compression": OpenEXR.ZIP_COMPRESSION, "type": OpenEXR.scanlineimage}  # anew, since files add to it


@pytest.mark.parametrize("dtype", ["float16", "float32"])
def test_exr_in_grey_and_colour_there_and_back(tmp_path: Path, dtype: str) -> None:
    for pixels in (LIGHT.astype(dtype), LIGHT[..., 0].astype(dtype)):
        OpenEXR.File(scanlines(), {"RGB" if pixels.ndim == 3 else "Y": pixels}).write(str(tmp_path / "x.exr"))
        image = read_image(tmp_path / "x.exr")
        np.testing.assert_array_equal(image.pixels, pixels)
        assert (image.dtype, image.valid) == (pixels.dtype, None)
        write_image(tmp_path / "y.exr", image, overwrite=True)
        with OpenEXR.File(str(tmp_path / "y.exr")) as file:
            np.testing.assert_array_equal(file.channels()["RGB" if pixels.ndim == 3 else "Y"].pixels, pixels)


def test_exr_with_alpha_by_which_colours_are_multiplied(tmp_path: Path) -> None:
    alpha = np.where(np.arange(20) < 5, 0, 0.5).astype(np.float32) * np.ones((12, 1), np.float32)
    OpenEXR.File(scanlines(), {"RGBA": np.dstack([LIGHT * alpha[..., None], alpha])}).write(str(tmp_path / "x.exr"))
    image = read_image(tmp_path / "x.exr")
    np.testing.assert_array_equal(image.valid, alpha > 0)
    np.testing.assert_array_equal(image.pixels[image.valid], LIGHT[alpha > 0])
    write_image(tmp_path / "y.exr", image)
    back = read_image(tmp_path / "y.exr")
    np.testing.assert_array_equal(back.valid, image.valid)
    np.testing.assert_array_equal(back.pixels[back.valid], LIGHT[alpha > 0])


def test_exr_that_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "x.exr"
    OpenEXR.File(scanlines(), {"Z": LIGHT[..., 0], "velocity": LIGHT[..., 1]}).write(str(path))
    with pytest.raises(ValueError, match="has the channels Z, velocity; expected Y, or R, G, B, and maybe A"):
        read_image(path)
    OpenEXR.File(scanlines(), {"Y": np.zeros((4, 4), np.uint32)}).write(str(path))
    with pytest.raises(ValueError, match="holds whole numbers; expected halves or floats"):
        read_image(path)
    shown = (np.array([0, 0], np.int32), np.array([99, 99], np.int32))
    OpenEXR.File({**scanlines(), "displayWindow": shown}, {"RGB": LIGHT}).write(str(path))
    with pytest.raises(ValueError, match="has pixels for another window than it shows"):
        read_image(path)
    parts = [OpenEXR.Part(scanlines(), {"RGB": LIGHT * k}, f"part {k}") for k in (1, 2)]
    OpenEXR.File(parts).write(str(path))
    with pytest.raises(ValueError, match=r"has 2 parts; choose one by its number, .*x\.exr\[0\] to .*x\.exr\[1\]"):
        read_image(path)
    np.testing.assert_array_equal(read_image(f"{path}[1]").pixels, 2 * LIGHT)
    with pytest.raises(ValueError, match="cannot hold uint8"):
        check_output(path, overwrite=True, dtype="uint8")


def test_heif_upright_in_colours_and_not_of_more_bits(tmp_path: Path) -> None:
    rows, columns = np.mgrid[:32, :48]
    pixels = np.stack([rows * 8, columns * 5, 128 + 0 * rows], axis=-1).astype(np.uint8)
    exif = Pillow.Exif()
    exif[274] = 6
    heif = pillow_heif.from_pillow(Pillow.fromarray(pixels))
    heif.save(tmp_path / "x.heic", quality=100, exif=exif.tobytes())
    image = read_image(tmp_path / "x.heic")
    assert image.shape == (48, 32, 3)  # turned by a quarter
    np.testing.assert_allclose(image.pixels.astype(int), np.rot90(pixels, -1).astype(int), atol=9)
    write_image(tmp_path / "y.png", image)  # its orientation is not applied twice
    assert read_image(tmp_path / "y.png").shape == (48, 32, 3)
    deep = pillow_heif.from_bytes("RGB;16", (48, 32), (pixels.astype(np.uint16) * 257).tobytes())
    deep.save(tmp_path / "deep.heic", quality=90)
    with pytest.raises(ValueError, match=r"has 1[02] bits a channel, which would be lost"):
        read_image(tmp_path / "deep.heic")
    with pytest.raises(ValueError, match="is only read"):
        check_output(tmp_path / "z.heic", overwrite=False)


def test_hdf5_by_the_path_in_it(tmp_path: Path) -> None:
    path = tmp_path / "x.h5"
    volume = RNG.integers(0, 4000, (5, 6, 7)).astype(">i2")
    with h5py.File(path, "w") as file:
        file.create_dataset("scan/t1", data=volume, compression="gzip", chunks=(1, 6, 7))
    image = read_image(path)  # there is one alone
    np.testing.assert_array_equal(image.pixels, volume)
    assert (image.spatial, image.dtype.isnative, image.name) == (3, True, "x.h5")
    with h5py.File(path, "a") as file:
        file["scan/t2"] = LIGHT
        file["names"] = [b"a", b"b"]
        file["elsewhere"] = h5py.ExternalLink("/etc/passwd", "/x")
    with pytest.raises(ValueError, match=r"holds 3 arrays; choose one: .*x\.h5:/names, .*x\.h5:/scan/t1, .*t2"):
        read_image(path)
    np.testing.assert_array_equal(read_image(f"{path}:/scan/t2").pixels, LIGHT)
    np.testing.assert_array_equal(read_image(f"{path}:scan/t1").pixels, volume)
    with pytest.raises(ValueError, match="has no array /elsewhere; it has"):
        read_image(f"{path}:/elsewhere")
    with pytest.raises(ValueError, match=r"shape \(2,\); expected"):
        read_image(f"{path}:/names")


def test_hdf5_reads_no_other_files_and_allocates_nothing_that_it_does_not_hold(tmp_path: Path) -> None:
    (tmp_path / "secret.raw").write_bytes(bytes(64))
    with h5py.File(tmp_path / "x.h5", "w") as file:
        file.create_dataset("x", (8, 8), np.uint8, external=[(str(tmp_path / "secret.raw"), 0, 64)])
    with pytest.raises(ValueError, match="keeps /x in other files"):
        read_image(tmp_path / "x.h5")
    with h5py.File(tmp_path / "y.h5", "w") as file:
        file.create_dataset("x", (2**20, 2**20), np.uint8, chunks=(64, 64))
    with pytest.raises(ValueError, match="which may be an attack"):
        read_image(tmp_path / "y.h5")


@pytest.mark.parametrize("shuffle", [False, True])
def test_a_chunk_of_hdf5_that_unpacks_to_more_than_it_holds(tmp_path: Path, shuffle: bool) -> None:
    path = tmp_path / "x.h5"
    with h5py.File(path, "w") as file:
        data = file.create_dataset("x", (128, 80), np.uint16, chunks=(64, 64), compression="gzip", shuffle=shuffle)
        data[:64] = 7  # no other chunk is written
    expected = np.repeat([7, 0], 64)[:, None].repeat(80, 1)
    for place in (np.s_[...], np.s_[5], np.s_[60:66, 3], np.s_[..., 60:70], np.s_[::3]):
        np.testing.assert_array_equal(open_image(path).pixels[place], expected[place])
    with h5py.File(path, "a") as file:
        file["x"].id.write_direct_chunk((64, 64), zlib.compress(bytes(2**20)))
    np.testing.assert_array_equal(open_image(path).pixels[:, :64], expected[:, :64])
    with pytest.raises(ValueError, match="by gzip of HDF5, unpacks to more than the 8192 that it is to hold"):
        read_image(path)


def test_a_chunk_of_hdf5_that_gzip_did_not_make_smaller(tmp_path: Path) -> None:
    path, noise = tmp_path / "x.h5", RNG.integers(0, 256, (64, 64), np.uint8)
    with h5py.File(path, "w") as file:
        data = file.create_dataset("x", (64, 64), np.uint8, chunks=(64, 64), compression="gzip", shuffle=True)
        data.id.write_direct_chunk((0, 0), noise.tobytes(), filter_mask=0b11)  # neither shuffled nor compressed
    np.testing.assert_array_equal(read_image(path), noise)


def test_npz_by_name(tmp_path: Path) -> None:
    path = tmp_path / "x.npz"
    np.savez_compressed(path, one=LIGHT)
    np.testing.assert_array_equal(read_image(path).pixels, LIGHT)
    np.savez(path, one=LIGHT, two=np.asfortranarray(LIGHT[..., 0]), three=np.array([{}], dtype=object))
    with pytest.raises(ValueError, match=r"holds 3 arrays; choose one: .*x\.npz:/one, "):
        read_image(path)
    np.testing.assert_array_equal(read_image(f"{path}:two").pixels, LIGHT[..., 0])
    with pytest.raises(ValueError, match=r"x\.npz: shape \(1,\)"):
        read_image(f"{path}:three")  # never unpickled
    with pytest.raises(ValueError, match="has no array four"):
        read_image(f"{path}:four")
    head = (
        b"\x93NUMPY\x01\x00v\x00" + b"{'descr': '|u1', 'fortran_order': False, 'shape': (%d, %d), }".ljust(117) + b"\n"
    )
    for shape, why in (((2**30, 2**30), "may be an attack"), ((2000, 2000), "is truncated")):
        with zipfile.ZipFile(path, "w") as file:
            file.writestr("x.npy", head.replace(b"%d, %d", b"%d, %d" % shape))
        with pytest.raises(ValueError, match=why):
            read_image(path)


@pytest.mark.parametrize("suffix", [".exr", ".h5", ".npz", ".heic"])
def test_cut_off(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"x{suffix}"
    if suffix == ".exr":
        write_image(path, LIGHT)
    elif suffix == ".h5":
        with h5py.File(path, "w") as file:
            file["x"] = LIGHT
    elif suffix == ".npz":
        np.savez_compressed(path, x=LIGHT)
    else:
        pillow_heif.from_pillow(Pillow.fromarray((LIGHT * 30).astype(np.uint8))).save(path)
    length = path.stat().st_size
    check_cut_off(path, range(0, length, max(10, length // 60)))
