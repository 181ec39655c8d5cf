"""TIFF: compressions, orientation, colours, pages, overviews, masks and stacks, as other programs write them."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
import pytest
import tifffile
from PIL import Image, ImageOps

from nmfuse.io import open_image, read_image
from nmfuse.io.orientation import upright
from tests.io.cut import check_cut_off

RNG = np.random.default_rng(0)
GREY = RNG.integers(0, 256, (37, 23), np.uint8)
COLOUR = RNG.integers(0, 256, (37, 23, 3), np.uint8)


@pytest.mark.parametrize("compression", ["tiff_lzw", "packbits", "tiff_deflate", "zstd", "raw"])
@pytest.mark.parametrize("pixels", [GREY, COLOUR], ids=["grey", "colour"])
def test_compressions_of_libtiff(tmp_path: Path, compression: str, pixels: np.ndarray) -> None:
    path = tmp_path / "x.tif"
    Image.fromarray(pixels).save(path, compression=compression)
    np.testing.assert_array_equal(read_image(path), pixels)


def test_lossy_compressions_are_read_as_libtiff_reads_them(tmp_path: Path) -> None:
    smooth = np.add.outer(np.arange(64), np.arange(48)).astype(np.uint8)
    for name, pixels in (("grey", smooth), ("colour", np.dstack([smooth, smooth[::-1], smooth]))):
        path = tmp_path / f"{name}.tif"
        Image.fromarray(pixels).save(path, compression="jpeg", quality=95)
        with Image.open(path) as theirs:
            difference = np.abs(read_image(path).pixels.astype(int) - np.asarray(theirs.convert(theirs.mode)))
        assert difference.max() <= 2
        assert np.abs(read_image(path).pixels.astype(int) - pixels).max() < 30


@pytest.mark.parametrize("compression", ["group3", "group4", "tiff_lzw", "tiff_deflate", "raw"])
def test_bits(tmp_path: Path, compression: str) -> None:
    Image.fromarray(GREY > 100).save(tmp_path / "x.tif", compression=compression)
    np.testing.assert_array_equal(read_image(tmp_path / "x.tif"), np.where(GREY > 100, 255, 0))


@pytest.mark.parametrize(("bits", "scale"), [(2, 85), (4, 17)])
@pytest.mark.parametrize("photometric", ["minisblack", "miniswhite"])
def test_fewer_than_8_bits(tmp_path: Path, bits: int, scale: int, photometric: str) -> None:
    pixels = np.tile(np.arange(2**bits, dtype=np.uint8), (8, 4))
    tifffile.imwrite(tmp_path / "x.tif", pixels, bitspersample=bits, photometric=photometric)
    expected = pixels * scale
    np.testing.assert_array_equal(
        read_image(tmp_path / "x.tif"), expected if "black" in photometric else 255 - expected
    )


def test_bits_that_fill_up_no_byte(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "x.tif", GREY % 64, bitspersample=6)
    with pytest.raises(ValueError, match=r"x\.tif: has 6 bits a pixel; expected 1, 2, 4, 8 or more, convert it"):
        read_image(tmp_path / "x.tif")
    deep = GREY.astype(np.uint16) * 16
    tifffile.imwrite(tmp_path / "x.tif", deep, bitspersample=12, photometric="miniswhite")
    np.testing.assert_array_equal(read_image(tmp_path / "x.tif"), 4095 - deep)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("pixels", [GREY, COLOUR], ids=["grey", "colour"])
def test_orientation(tmp_path: Path, orientation: int, pixels: np.ndarray) -> None:
    path = tmp_path / "x.tif"
    exif = Image.Exif()
    exif[274] = orientation
    Image.fromarray(pixels).save(path, exif=exif, compression="tiff_lzw")  # uncompressed, Pillow mistakes the size
    with Image.open(path) as file:
        expected = np.asarray(ImageOps.exif_transpose(file))
    np.testing.assert_array_equal(read_image(path), expected)
    np.testing.assert_array_equal(upright(pixels, orientation), expected)
    alpha = np.where(GREY > 100, 255, 0).astype(np.uint8)
    Image.fromarray(np.dstack([COLOUR, alpha])).save(path, exif=exif)
    np.testing.assert_array_equal(read_image(path).valid, upright(alpha > 0, orientation))


def _with_tag(path: Path, code: int, value: int) -> None:
    with tifffile.TiffFile(path, mode="r+") as file:
        file.pages.first.tags[code].overwrite(value)


@pytest.mark.parametrize(
    ("photometric", "word"),
    [(5, "CMYK"), (6, "YCbCr without JPEG"), (8, "CIELAB"), (9, "ICCLAB"), (10, "ITULAB"), (32845, "LogLuv")],
)
def test_colours_that_are_refused_by_name(tmp_path: Path, photometric: int, word: str) -> None:
    path = tmp_path / "x.tif"
    tifffile.imwrite(path, COLOUR, photometric="rgb")
    _with_tag(path, 262, photometric)
    with pytest.raises(ValueError, match=rf"x\.tif: its colours are {word}; expected grey, RGB or a palette, convert"):
        read_image(path)


def test_more_refused_by_name(tmp_path: Path) -> None:
    path = tmp_path / "x.tif"
    for mode, word in (("LAB", "CIELAB"), ("CMYK", "CMYK"), ("YCbCr", "YCbCr without JPEG")):
        Image.new(mode, (20, 16), 0).save(path)
        with pytest.raises(ValueError, match=f"its colours are {word}"):
            read_image(path)
    tifffile.imwrite(path, GREY)
    _with_tag(path, 262, 32803)
    with pytest.raises(ValueError, match="its colours are a colour filter array"):
        read_image(path)
    tifffile.imwrite(path, GREY)
    _with_tag(path, 262, 99)
    with pytest.raises(ValueError, match="its colours are of the unknown kind 99"):
        read_image(path)


def test_colours_that_alpha_has_shrunk(tmp_path: Path) -> None:
    alpha = np.full_like(GREY, 255)
    alpha[:10], alpha[10:20] = 0, 128
    shrunk = np.rint(COLOUR * (alpha / 255)[..., None]).astype(np.uint8)
    tifffile.imwrite(tmp_path / "x.tif", np.dstack([shrunk, alpha]), photometric="rgb", extrasamples=["assocalpha"])
    back = read_image(tmp_path / "x.tif")
    np.testing.assert_array_equal(back.valid, alpha > 0)
    np.testing.assert_array_equal(back.pixels[20:], COLOUR[20:])
    assert np.abs(back.pixels[10:].astype(int) - COLOUR[10:]).max() <= 1


def test_pages(tmp_path: Path) -> None:
    path = tmp_path / "x.tif"
    frames = [Image.fromarray(np.roll(GREY, k, 0)) for k in range(3)]
    frames[0].save(path, save_all=True, append_images=frames[1:])
    with pytest.raises(ValueError, match=r"x\.tif: has 3 pages; choose one by its number, .*x\.tif\[0\] to .*\[2\]"):
        read_image(path)
    for k in range(3):
        page = read_image(f"{path}[{k}]")
        np.testing.assert_array_equal(page, np.roll(GREY, k, 0))
        assert page.name == f"x.tif[{k}]"
    with pytest.raises(ValueError, match=r"x\.tif: has no page 3; it has 3, the first is .*x\.tif\[0\]"):
        read_image(f"{path}[3]")
    with pytest.raises(FileNotFoundError, match=r"y\.tif: no such file"):
        read_image(tmp_path / "y.tif[0]")
    Image.fromarray(GREY).save(tmp_path / "one.tif")
    np.testing.assert_array_equal(read_image(tmp_path / "one.tif[0]"), GREY)


def test_pages_of_unlike_kinds(tmp_path: Path) -> None:
    path = tmp_path / "x.tif"
    with tifffile.TiffWriter(path, bigtiff=True) as file:
        file.write(GREY, photometric="minisblack", metadata=None)
        file.write(COLOUR[:8], photometric="rgb", metadata=None, compression="lzw", predictor=True)
        file.write(GREY.astype(np.float32) / 7, photometric="minisblack", metadata=None, tile=(16, 16))
    np.testing.assert_array_equal(read_image(f"{path}[1]"), COLOUR[:8])
    np.testing.assert_array_equal(read_image(f"{path}[2]"), GREY.astype(np.float32) / 7)


def test_a_file_that_is_named_like_a_page_wins(tmp_path: Path) -> None:
    Image.fromarray(GREY).save(tmp_path / "x.tif")
    Image.fromarray(255 - GREY).save(tmp_path / "x.tif[0]", format="TIFF")
    np.testing.assert_array_equal(read_image(tmp_path / "x.tif[0]"), 255 - GREY)
    np.testing.assert_array_equal(read_image(tmp_path / "x.tif"), GREY)


def test_overviews_and_masks_are_no_pages(tmp_path: Path) -> None:
    path = tmp_path / "x.tif"
    small, seen = COLOUR[::2, ::2], GREY > 100
    with tifffile.TiffWriter(path) as file:
        options: dict[str, Any] = {"metadata": None, "photometric": "rgb"}
        file.write(COLOUR, subifds=1, **options)
        file.write(small, subfiletype=1, **options)  # in a SubIFD
        file.write(seen, subfiletype=4, metadata=None, photometric=4)
        file.write(small, subfiletype=1, **options)
        file.write(seen[::2, ::2], subfiletype=5, metadata=None, photometric=4)
    image = read_image(path)
    np.testing.assert_array_equal(image, COLOUR)
    np.testing.assert_array_equal(image.valid, seen)
    tifffile.imwrite(path, small, subfiletype=1, **options)
    with pytest.raises(ValueError, match=r"x\.tif: holds nothing but reduced copies of an image; expected the image"):
        read_image(path)


@pytest.mark.parametrize(("name", "options"), [("x.ome.tif", {"ome": True}), ("x.tif", {"imagej": True})])
def test_stacks_say_their_axes(tmp_path: Path, name: str, options: dict[str, Any]) -> None:
    path = tmp_path / name
    stack = RNG.integers(0, 65536, (2, 3, 4, 16, 20)).astype(np.uint16)
    tifffile.imwrite(path, stack, metadata={"axes": "TZCYX"}, photometric="minisblack", **options)
    with pytest.raises(
        ValueError, match=r"has 24 pages \(axes T of 2, Z of 3, C of 4; the last counts fastest\); choose one .*\[23\]"
    ):
        read_image(path)
    np.testing.assert_array_equal(read_image(f"{path}[23]"), stack[1, 2, 3])
    np.testing.assert_array_equal(read_image(f"{path}[5]"), stack[0, 1, 1])


def test_a_stack_with_one_directory(tmp_path: Path) -> None:
    path = tmp_path / "x.tif"
    stack = RNG.integers(0, 256, (5, 16, 20), np.uint8)
    tifffile.imwrite(path, stack, photometric="minisblack", truncate=True)
    for name in (path, f"{path}[4]"):
        with pytest.raises(ValueError, match="planes have no directories but one; store each as a page of its own"):
            read_image(name)


def test_planes_in_another_file_are_not_looked_for(tmp_path: Path) -> None:
    path = tmp_path / "x.ome.tif"
    tifffile.imwrite(path, np.stack([GREY, GREY]), metadata={"axes": "ZYX"}, photometric="minisblack")
    data = path.read_bytes()
    assert b"<TiffData" in data
    tifffile.imwrite(tmp_path / "y.ome.tif", GREY, metadata={"axes": "YX"})
    np.testing.assert_array_equal(read_image(tmp_path / "y.ome.tif"), GREY)


def test_a_bomb_is_refused_before_it_is_decompressed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "x.tif"
    packed = zlib.compress(bytes(400 * 40000))
    tifffile.imwrite(
        path,
        (packed for _ in range(100)),
        shape=(40000, 40000),
        dtype=np.uint8,
        rowsperstrip=400,
        compression="zlib",
        photometric="minisblack",
    )
    assert path.stat().st_size < 3e6

    def decode(*_: Any, **__: Any) -> None:
        raise AssertionError("decompressed")

    monkeypatch.setattr(tifffile.TiffPage, "asarray", decode)
    with pytest.raises(
        ValueError,
        match=r"x\.tif: has 1600000000 pixels, more than 134217728, which may be an attack; "
        r"set the environment variable NMFUSE_MAX_PIXELS=1600000000 if you trust it",
    ):
        read_image(path)
    monkeypatch.setenv("NMFUSE_MAX_PIXELS", "1600000000")
    with pytest.raises(ValueError, match="decompressed"):
        read_image(path)


def test_sizes_that_lie(tmp_path: Path) -> None:
    path = tmp_path / "x.tif"
    for tag in (256, 257):
        tifffile.imwrite(path, GREY, compression="zlib")
        _with_tag(path, tag, 2**31 - 1)
        with pytest.raises(ValueError, match="which may be an attack"):
            read_image(path)
        tifffile.imwrite(path, GREY, compression="zlib")
        _with_tag(path, tag, 100)
        with pytest.raises(ValueError, match="not a readable image"):
            read_image(path)
    tifffile.imwrite(path, GREY, tile=(16, 16), compression="zlib")
    _with_tag(path, 322, 2**20)
    _with_tag(path, 323, 2**20)
    with pytest.raises(ValueError, match="which may be an attack"):
        read_image(path)
    tifffile.imwrite(path, GREY)
    _with_tag(path, 279, 60000)
    with pytest.raises(ValueError, match=r"x\.tif: not a readable image"):
        read_image(path)


@pytest.mark.parametrize("compression", ["raw", "tiff_lzw", "packbits", "tiff_deflate", "jpeg", "zstd"])
def test_truncated_at_every_tenth_byte(tmp_path: Path, compression: str) -> None:
    path = tmp_path / "x.tif"
    Image.fromarray(COLOUR[:20, :20]).save(path, compression=compression)
    check_cut_off(path)


def test_strips_that_end_early(tmp_path: Path) -> None:
    for compression in ("lzw", "packbits", "zlib", "zstd"):
        path = tmp_path / "x.tif"
        tifffile.imwrite(path, GREY, compression=compression, photometric="minisblack")
        with tifffile.TiffFile(path) as file:
            size = file.pages.first.databytecounts[0]
        _with_tag(path, 279, size // 2)
        with pytest.raises(ValueError, match=r"x\.tif: not a readable image"):
            read_image(path)


def test_a_directory_that_points_to_itself(tmp_path: Path) -> None:
    path = tmp_path / "x.tif"
    tifffile.imwrite(path, GREY, photometric="minisblack", metadata=None, byteorder="<")
    data = bytearray(path.read_bytes())
    (at,) = struct.unpack_from("<I", data, 4)
    (tags,) = struct.unpack_from("<H", data, at)
    struct.pack_into("<I", data, at + 2 + 12 * tags, at)
    path.write_bytes(data)
    with pytest.raises(ValueError, match="pages follow each other in a circle"):
        read_image(path)


MANY = RNG.integers(1, 1000, (37, 23, 5), np.uint16)


@pytest.mark.parametrize("planar", ["contig", "separate"])
@pytest.mark.parametrize("compression", [None, "zlib"])
def test_bands_of_many(tmp_path: Path, planar: str, compression: str | None) -> None:
    path = tmp_path / "x.tif"
    stored = MANY if planar == "contig" else np.moveaxis(MANY, -1, 0)
    tifffile.imwrite(path, stored, photometric="minisblack", planarconfig=planar, compression=compression)
    with pytest.raises(
        ValueError, match=r"x\.tif: has 5 channels; expected grey .*: bands=\(4, 3, 2\), in the shell --b"
    ):
        read_image(path)
    for bands in ((4, 3, 2), (1, 1, 5)):
        np.testing.assert_array_equal(read_image(path, bands=bands), MANY[..., [band - 1 for band in bands]])
    np.testing.assert_array_equal(read_image(path, bands=(5,)), MANY[..., 4])
    for bands in ((1, 2), (0,), (6,), ()):
        with pytest.raises(
            ValueError, match=r"x\.tif: has no bands .*; expected one, or three \(red, green, blue\), of 1"
        ):
            read_image(path, bands=bands)


def test_bands_beside_alpha(tmp_path: Path) -> None:
    path, pixels = tmp_path / "x.tif", MANY.copy()
    pixels[:5, :, 4] = 0
    for kind in (["unspecified", "unassalpha"], [0, 0]):
        tifffile.imwrite(path, pixels, photometric="rgb", extrasamples=kind)
        found = read_image(path, bands=(4,))
        np.testing.assert_array_equal(found, MANY[..., 3])
        assert (found.valid is None) == (kind == [0, 0])
    tifffile.imwrite(path, pixels, photometric="rgb", extrasamples=["unspecified", "unassalpha"])
    np.testing.assert_array_equal(read_image(path, bands=(4,)).valid, pixels[..., 4] > 0)
    assert read_image(path, bands=(5,)).valid is None  # alpha itself is looked at
    tifffile.imwrite(path, pixels[..., :4], photometric="rgb", extrasamples=[0])  # red, green, blue and near infrared
    with pytest.raises(ValueError, match="a channel beside its colours, and does not say that it is alpha; choose one"):
        read_image(path)
    np.testing.assert_array_equal(read_image(path, bands=(1, 2, 3)), MANY[..., :3])


def test_bands_where_there_are_none(tmp_path: Path) -> None:
    Image.fromarray(GREY).convert("P").save(tmp_path / "x.tif")
    with pytest.raises(ValueError, match=r"x\.tif: is of a palette, whose colours are no bands"):
        read_image(tmp_path / "x.tif", bands=(1,))
    Image.fromarray(GREY).save(tmp_path / "x.png")
    with pytest.raises(
        ValueError, match=r"bands: .*x\.png is PNG, which has no such choice; leave it out for this file"
    ):
        read_image(tmp_path / "x.png", bands=(1,))
    Image.fromarray(GREY).save(tmp_path / "grey.tif")
    np.testing.assert_array_equal(read_image(tmp_path / "grey.tif", bands=(1,)), GREY)


def test_many_bands_count_as_many_pixels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NMFUSE_MAX_PIXELS", str(37 * 23))
    path = tmp_path / "x.tif"
    tifffile.imwrite(path, MANY[..., :4], photometric="rgb", extrasamples=["unassalpha"])
    assert read_image(path).shape == (37, 23, 3)
    tifffile.imwrite(path, MANY, photometric="minisblack", planarconfig="contig")
    with pytest.raises(ValueError, match="has 1702 pixels, more than 851"):
        read_image(path, bands=(1,))


def _at(data: bytes, mark: bytes, offset: int, layout: str, *numbers: int) -> bytes:
    """Return a compressed stream with other numbers behind a mark."""
    at = data.index(mark) + offset
    new = struct.pack(layout, *numbers)
    return data[:at] + new + data[at + len(new) :]


SQUARE = np.kron(GREY[:8, :8], np.ones((8, 8), np.uint8))
LIES = {
    "jpeg": (imagecodecs.jpeg8_encode(SQUARE), b"\xff\xc0", 5, ">HH", 60000, 60000),
    "jpeg2000": (imagecodecs.jpeg2k_encode(SQUARE, reversible=True), b"\xff\x51", 6, ">II", 60000, 60000),
    "png": (imagecodecs.png_encode(SQUARE), b"IHDR", 4, ">II", 60000, 60000),
    "webp": (imagecodecs.webp_encode(np.dstack([SQUARE] * 3), lossless=False), b"\x9d\x01\x2a", 3, "<HH", 16000, 16000),
    "lerc": (imagecodecs.lerc_encode(SQUARE), b"Lerc2 ", 14, "<ii", 60000, 60000),
}


@pytest.mark.parametrize("compression", LIES)
def test_parts_that_say_a_larger_size_of_themselves(tmp_path: Path, compression: str) -> None:
    path, (stream, *lie) = tmp_path / "x.tif", LIES[compression]
    shape, photometric = ((64, 64, 3), "rgb") if compression == "webp" else ((64, 64), "minisblack")
    options = {"dtype": np.uint8, "compression": compression, "rowsperstrip": 64, "photometric": photometric}
    tifffile.imwrite(path, iter([stream]), shape=shape, **options)
    assert read_image(path).shape[:2] == (64, 64)
    tifffile.imwrite(path, iter([_at(stream, *lie)]), shape=shape, **options)
    message = (
        r"x\.tif: not a readable image \(it has 64 x 64 pixels for each of its parts, one of which says \d{5} x \d{5}"
    )
    with pytest.raises(ValueError, match=message):
        read_image(path)
    tifffile.imwrite(path, iter([bytes(100)]), shape=shape, **options)
    with pytest.raises(ValueError, match="one of which says none that can be found"):
        read_image(path)


def test_compressions_that_nothing_here_checks(tmp_path: Path) -> None:
    path = tmp_path / "x.tif"
    tifffile.imwrite(path, SQUARE, compression="jpegxl", photometric="minisblack")
    with pytest.raises(ValueError, match=r"x\.tif: its compression is JPEGXL, which is not read; convert it"):
        read_image(path)


def test_what_tifffile_says_of_a_broken_file_is_logged(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "x.tif"
    tifffile.imwrite(path, GREY, photometric="minisblack", metadata=None)
    with tifffile.TiffFile(path) as file:
        at = file.pages.first.tags[282].offset + 8
    data = path.read_bytes()
    path.write_bytes(data[:at] + struct.pack("<I", 2**31) + data[at + 4 :])  # its resolution lies beyond the end
    with caplog.at_level("INFO", "nmfuse.io"):
        np.testing.assert_array_equal(read_image(path), GREY)
    assert "x.tif: <TiffTag.fromfile> raised TiffFileError" in caplog.text
    assert capfd.readouterr().err == ""


def test_a_value_for_no_data_is_known_of_pixels_that_stay_in_the_file(tmp_path: Path) -> None:
    pixels = np.arange(64 * 48, dtype=np.uint16).reshape(64, 48) % 50
    tifffile.imwrite(tmp_path / "a.tif", pixels, tile=(16, 16), extratags=[(42113, "s", 0, "7", True)])
    whole, lazy = read_image(tmp_path / "a.tif"), open_image(tmp_path / "a.tif", nodata=9)
    np.testing.assert_array_equal(whole.valid, pixels != 7)
    np.testing.assert_array_equal(lazy.valid[10:20, 5:], ((pixels != 7) & (pixels != 9))[10:20, 5:])
    np.testing.assert_array_equal(np.asarray(open_image(tmp_path / "a.tif").valid), whole.valid)
    with pytest.raises(ValueError, match=r"nodata: got 1\.5; .*a\.tif has uint16, which is never that"):
        open_image(tmp_path / "a.tif", nodata=1.5)
