"""One image file: what is read, what is refused, and that nothing is lost."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image

from nmfuse import images
from nmfuse.io import list_images, read_image, write_image

GREY = np.arange(20 * 30, dtype=np.uint16).reshape(20, 30)


@pytest.mark.parametrize("suffix", [".png", ".bmp", ".tif", ".tiff"])
@pytest.mark.parametrize("channels", [1, 3])
def test_8_bits_come_back(tmp_path: Path, suffix: str, channels: int) -> None:
    pixels = (GREY % 251).astype(np.uint8)
    if channels == 3:
        pixels = np.stack([pixels, 255 - pixels, pixels // 2], axis=-1)
    path = tmp_path / f"x{suffix}"
    write_image(path, pixels)
    np.testing.assert_array_equal(read_image(path), pixels)


@pytest.mark.parametrize(
    ("suffix", "dtype"),
    [
        (".png", "uint16"),
        (".png", ">u2"),
        *(
            (suffix, dtype)
            for suffix in (".tif", ".npy")
            for dtype in ("uint16", "int16", "int32", "float16", "float32", "float64", ">u2", ">f4")
        ),
    ],
)
def test_deeper_pixels_come_back(tmp_path: Path, suffix: str, dtype: str) -> None:
    path = tmp_path / f"x{suffix}"
    pixels = (GREY * 100).astype(dtype) - GREY.astype(dtype)
    write_image(path, pixels)
    back = read_image(path)
    assert (back.dtype.name, back.name, back.valid) == (pixels.dtype.name, f"x{suffix}", None)
    np.testing.assert_array_equal(back, pixels)
    if suffix in (".png", ".tif", ".npy"):
        colour = np.stack([pixels, pixels[::-1], pixels], -1)
        write_image(path, colour, overwrite=True)
        np.testing.assert_array_equal(read_image(path), colour)


def test_jpeg_is_close(tmp_path: Path) -> None:
    pixels = np.tile(np.linspace(0, 255, 64).astype(np.uint8), (64, 1))
    write_image(tmp_path / "x.jpg", pixels)
    assert np.abs(read_image(tmp_path / "x.jpg").pixels.astype(int) - pixels).max() < 8


def test_grey_stored_as_colour_palettes_and_opaque_alpha(tmp_path: Path) -> None:
    grey = (GREY % 256).astype(np.uint8)
    Image.fromarray(np.repeat(grey[..., None], 3, axis=-1)).save(tmp_path / "rgb.png")
    np.testing.assert_array_equal(read_image(tmp_path / "rgb.png"), grey)
    Image.fromarray(grey).convert("P").save(tmp_path / "palette.png")
    np.testing.assert_array_equal(read_image(tmp_path / "palette.png"), grey)
    opaque = np.dstack([grey, grey // 2, grey // 3, np.full_like(grey, 255)])
    Image.fromarray(opaque).save(tmp_path / "opaque.png")
    np.testing.assert_array_equal(read_image(tmp_path / "opaque.png"), opaque[..., :3])
    assert read_image(tmp_path / "opaque.png").valid is None
    Image.fromarray(grey > 100).save(tmp_path / "bits.png")
    Image.fromarray(grey > 100).save(tmp_path / "bits.tif")
    for name in ("bits.png", "bits.tif"):
        bits = read_image(tmp_path / name)
        assert bits.dtype == np.uint8
        np.testing.assert_array_equal(bits, np.where(grey > 100, 255, 0))


HALF = np.arange(20 * 30).reshape(20, 30) % 30 >= 15  # what is valid


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize(
    ("suffix", "dtype"),
    [
        (".png", "uint8"),
        (".png", "uint16"),
        (".webp", "uint8"),
        (".avif", "uint8"),
        *((".tif", dtype) for dtype in ("uint8", "uint16", "int16", "int32", "float16", "float32", "float64")),
    ],
)
def test_what_is_not_valid_is_transparent(tmp_path: Path, suffix: str, dtype: str, channels: int) -> None:
    pixels = (GREY % 100).astype(dtype)
    if channels == 3:
        pixels = np.stack([pixels, pixels + 20, pixels + 40], axis=-1)
    path = tmp_path / f"x{suffix}"
    write_image(path, pixels, valid=HALF)
    back = read_image(path)
    np.testing.assert_array_equal(back.valid, HALF)
    if suffix not in (".webp", ".avif"):  # lossy
        assert (back.shape, back.dtype) == (pixels.shape, dtype)
        np.testing.assert_array_equal(back, pixels)
    write_image(path, back, overwrite=True)
    np.testing.assert_array_equal(read_image(path).valid, HALF)
    write_image(path, pixels, valid=np.ones_like(HALF), overwrite=True)
    assert read_image(path).valid is None


def test_transparency_of_every_kind(tmp_path: Path) -> None:
    grey = (GREY % 256).astype(np.uint8)
    part = np.where(HALF, 1 + grey // 2, 0).astype(np.uint8)  # partly transparent counts as shown
    rainbow = np.dstack([grey, grey // 2, grey // 3, part])
    Image.fromarray(rainbow).save(tmp_path / "rgba.png")
    Image.fromarray(np.dstack([grey, part])).save(tmp_path / "la.png")
    Image.fromarray(rainbow).save(tmp_path / "rgba.tif")
    Image.fromarray(np.dstack([np.where(HALF[..., None], grey[..., None], rainbow[..., :3]), part])).save(
        tmp_path / "hidden_colours.png"
    )
    for name in ("rgba.png", "la.png", "rgba.tif", "hidden_colours.png"):
        np.testing.assert_array_equal(read_image(tmp_path / name).valid, HALF)
        assert read_image(tmp_path / name).ndim == (3 if "rgba" in name else 2)
    Image.fromarray(grey).save(tmp_path / "colour_of_grey.png", transparency=7)
    Image.fromarray(rainbow[..., :3]).save(tmp_path / "colour_of_rgb.png", transparency=(7, 3, 2))
    Image.fromarray(GREY).save(tmp_path / "colour_of_16_bits.png", transparency=7)
    indexed = Image.fromarray(grey).convert("P")
    indexed.save(tmp_path / "colour_of_palette.png", transparency=7)
    indexed.save(tmp_path / "alphas_of_palette.png", transparency=bytes([9] * 7 + [0] + [9] * 248))
    Image.fromarray(grey > 7).save(tmp_path / "colour_of_bits.png", transparency=1)
    for path in sorted(tmp_path.glob("*_of_*.png")):
        image = read_image(path)
        values = GREY if "16" in path.name else grey
        expected = values <= 7 if "bits.png" in path.name and "16" not in path.name else values != 7
        np.testing.assert_array_equal(image.valid, expected, err_msg=path.name)
        assert image.dtype == (np.uint16 if "16" in path.name else np.uint8)


def test_tiffs_that_store_colours_otherwise(tmp_path: Path) -> None:
    grey = (GREY % 256).astype(np.uint8)
    colour = np.stack([grey, grey // 2, grey // 3], axis=-1)
    tifffile.imwrite(tmp_path / "planes.tif", np.moveaxis(colour, -1, 0), photometric="rgb", planarconfig="separate")
    np.testing.assert_array_equal(read_image(tmp_path / "planes.tif"), colour)
    thin = colour[:3, :4]  # three rows are no planes
    tifffile.imwrite(tmp_path / "thin.tif", thin, photometric="rgb")
    np.testing.assert_array_equal(read_image(tmp_path / "thin.tif"), thin)
    tifffile.imwrite(tmp_path / "negative.tif", 255 - grey, photometric="miniswhite")
    np.testing.assert_array_equal(read_image(tmp_path / "negative.tif"), grey)
    tifffile.imwrite(tmp_path / "negative.tif", grey.astype(np.float32), photometric="miniswhite")
    with pytest.raises(ValueError, match=r"negative\.tif: says that white is 0, in float32; store it with black as 0"):
        read_image(tmp_path / "negative.tif")
    palette = np.random.default_rng(0).integers(0, 256, (3, 256), np.uint16)
    for scale, found in ((257, palette), (256, palette), (250, palette * 250)):
        tifffile.imwrite(tmp_path / "palette.tif", grey, photometric="palette", colormap=palette * np.uint16(scale))
        np.testing.assert_array_equal(read_image(tmp_path / "palette.tif"), np.moveaxis(found[:, grey], 0, -1))


@pytest.mark.parametrize(
    ("shape", "dtype", "options", "message"),
    [
        (
            (20, 30, 4),
            "uint8",
            {"photometric": "separated"},
            "its colours are CMYK; expected grey, RGB or a palette",
        ),
        (
            (20, 30, 4),
            "uint8",
            {"photometric": "rgb", "extrasamples": [0]},
            "not say that it is alpha; choose one",
        ),
        (
            (20, 30, 5),
            "uint8",
            {"photometric": "rgb", "extrasamples": [2, 0]},
            "has 5 channels; expected grey",
        ),
        ((20, 30), "uint32", {"photometric": "minisblack"}, "pixels are uint32; convert them to one of uint8, uint16"),
        ((20, 30), "complex64", {"photometric": "minisblack"}, "pixels are complex64; convert them"),
    ],
)
def test_tiffs_that_would_lose_something(
    tmp_path: Path, shape: tuple[int, ...], dtype: str, options: dict, message: str
) -> None:
    tifffile.imwrite(tmp_path / "x.tif", np.ones(shape, dtype), **options)
    with pytest.raises(ValueError, match=message):
        read_image(tmp_path / "x.tif")


@pytest.mark.parametrize("name", ["text.png", "text.tif"])
def test_what_is_no_image(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text("hello")
    with pytest.raises(ValueError, match=f"{name}: not a readable image"):
        read_image(tmp_path / name)


def test_missing_and_folder(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="no such file"):
        read_image(tmp_path / "x.png")
    with pytest.raises(ValueError, match="is a folder"):
        read_image(tmp_path)
    (tmp_path / "x.xyz").write_bytes(b"")
    with pytest.raises(ValueError, match=r"x\.xyz: unknown image suffix '\.xyz'; expected one of \.png, "):
        read_image(tmp_path / "x.xyz")


def test_nothing_is_overwritten_unasked(tmp_path: Path) -> None:
    path = tmp_path / "x.png"
    write_image(path, np.zeros((16, 16), np.uint8))
    before = path.read_bytes()
    with pytest.raises(FileExistsError, match="--overwrite"):
        write_image(path, np.ones((16, 16), np.uint8))
    assert path.read_bytes() == before
    write_image(path, np.ones((16, 16), np.uint8), overwrite=True)
    assert read_image(path).pixels[0, 0] == 1


PLANE = np.zeros((16, 16), np.uint8)
SOME = np.eye(16) > 0


@pytest.mark.parametrize(
    ("name", "pixels", "options", "error", "message"),
    [
        ("x.xyz", PLANE, {}, ValueError, "unknown image suffix"),
        ("x.gif", PLANE, {}, ValueError, r"GIF cannot hold uint8 grey .* \(it is only read\); write \.png, "),
        ("x.jpg", PLANE.astype("uint16"), {}, ValueError, "JPEG cannot hold uint16 grey images of 2 axes"),
        ("x.png", PLANE.astype("float32"), {}, ValueError, r"PNG cannot hold float32 .*; write \.tif, \.tiff, \.npy"),
        ("x.webp", np.zeros((16, 16, 3), "uint16"), {}, ValueError, "WebP cannot hold uint16 colour images"),
        ("x.png", np.zeros((9, 16, 16), "uint8"), {}, ValueError, r"grey images of 3 axes .*; write .*\.npy"),
        ("x.png", np.zeros((9, 9, 16, 16), "uint8"), {}, ValueError, "grey images of 4 axes .*; no format here does"),
        ("x.tif", PLANE.astype("uint32"), {}, ValueError, "TIFF cannot hold uint32 grey"),
        ("x.jpg", PLANE, {"valid": SOME}, ValueError, r"not valid \(transparent\) .*write \.png, \.webp, \.tif"),
        ("x.npy", PLANE, {"valid": SOME}, ValueError, r"NumPy cannot hold .* not valid .*; write \.png"),
        ("x.png", PLANE, {"valid": SOME[:9]}, ValueError, r"valid: shape \(9, 16\); expected .* \(16, 16\)"),
        ("x.png", PLANE, {"valid": PLANE}, TypeError, "valid: got uint8; expected an array of bool"),
        ("x.png", PLANE, {"valid": True}, TypeError, "valid: got bool; expected an array of bool"),
        ("x.png", images.Image(PLANE, SOME), {"valid": SOME}, ValueError, "has its own; give one of both"),
        ("x.png", [[1]], {}, TypeError, "image: got list; expected an Image or a NumPy array"),
        ("x.png", PLANE[:0], {}, ValueError, r"image: shape \(0, 16\) is empty"),
        ("no/x.png", PLANE, {}, FileNotFoundError, "does not exist; create it first"),
    ],
)
def test_what_cannot_be_written(
    tmp_path: Path, name: str, pixels: object, options: dict, error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        write_image(tmp_path / name, pixels, **options)
    assert list(tmp_path.iterdir()) == []


def test_images_of_folders_below(tmp_path: Path) -> None:
    for name in ("b.PNG", "a.tif", "c/d.jpg", "c/e.csv", ".f/g.png.txt", "c/._d.jpg"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"")
    assert [path.name for path in list_images(tmp_path)] == ["a.tif", "b.PNG"]
    assert [path.name for path in list_images(tmp_path, below=True)] == ["a.tif", "b.PNG", "d.jpg"]
    with pytest.raises(NotADirectoryError, match=r"a\.tif: is not a folder; expected one of images"):
        list_images(tmp_path / "a.tif")


@pytest.mark.parametrize(("dtype", "nodata"), [("uint8", 0), ("int16", -9999), ("float32", -1e39), ("float32", np.nan)])
def test_nodata(tmp_path: Path, dtype: str, nodata: float) -> None:
    grey = np.random.default_rng(0).integers(1, 100, (16, 20)).astype(dtype)
    colour = np.dstack([grey, grey + 1, grey])
    with np.errstate(over="ignore"):
        empty = np.asarray(nodata).astype(dtype)
    grey[:3] = colour[:3] = empty
    colour[5, 5, 0] = empty  # in one channel alone
    for pixels in (grey, colour):
        tifffile.imwrite(tmp_path / "x.tif", pixels, photometric="rgb" if pixels.ndim == 3 else "minisblack")
        assert read_image(tmp_path / "x.tif").valid is None
        expected = np.ones((16, 20), bool)
        expected[:3] = False
        np.testing.assert_array_equal(read_image(tmp_path / "x.tif", nodata=nodata).valid, expected)
    assert read_image(tmp_path / "x.tif", nodata=77.0 + 30).valid is None


def test_nodata_that_cannot_be(tmp_path: Path) -> None:
    write_image(tmp_path / "x.png", np.zeros((16, 20), np.uint8))
    for nodata in (-9999, 0.5, 256, np.nan):
        with pytest.raises(ValueError, match=r"nodata: got .*; .*x\.png has uint8, which is never that"):
            read_image(tmp_path / "x.png", nodata=nodata)


def test_nodata_of_a_volume(tmp_path: Path) -> None:
    volume = np.random.default_rng(0).integers(1, 9, (4, 5, 6), np.int16)
    volume[1] = 0
    write_image(tmp_path / "x.nii", volume)
    np.testing.assert_array_equal(read_image(tmp_path / "x.nii", nodata=0).valid, volume != 0)
