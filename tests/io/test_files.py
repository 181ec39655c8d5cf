"""Image files: what is read, what is refused, and that nothing is lost."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image

from nmfuse.io import new_file, read_image, write_image

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


@pytest.mark.parametrize(("suffix", "dtype"), [(".png", "uint16"), (".tif", "uint16"), (".tif", "float32")])
def test_deeper_pixels_come_back(tmp_path: Path, suffix: str, dtype: str) -> None:
    path = tmp_path / f"x{suffix}"
    write_image(path, (GREY * 100).astype(dtype))
    back = read_image(path)
    assert back.dtype == dtype
    np.testing.assert_array_equal(back, (GREY * 100).astype(dtype))


def test_jpeg_is_close(tmp_path: Path) -> None:
    pixels = np.tile(np.linspace(0, 255, 64).astype(np.uint8), (64, 1))
    write_image(tmp_path / "x.jpg", pixels)
    assert np.abs(read_image(tmp_path / "x.jpg").astype(int) - pixels).max() < 8


def test_grey_stored_as_colour_palettes_and_opaque_alpha(tmp_path: Path) -> None:
    grey = (GREY % 256).astype(np.uint8)
    Image.fromarray(np.repeat(grey[..., None], 3, axis=-1)).save(tmp_path / "rgb.png")
    np.testing.assert_array_equal(read_image(tmp_path / "rgb.png"), grey)
    Image.fromarray(grey).convert("P").save(tmp_path / "palette.png")
    np.testing.assert_array_equal(read_image(tmp_path / "palette.png"), grey)
    opaque = np.dstack([grey, grey // 2, grey // 3, np.full_like(grey, 255)])
    Image.fromarray(opaque).save(tmp_path / "opaque.png")
    np.testing.assert_array_equal(read_image(tmp_path / "opaque.png"), opaque[..., :3])


def test_transparency_is_refused(tmp_path: Path) -> None:
    Image.fromarray(np.full((20, 20, 4), 100, np.uint8)).save(tmp_path / "x.png")
    with pytest.raises(ValueError, match="partly transparent"):
        read_image(tmp_path / "x.png")


def _png(width: int, height: int, bits: int, colour: int, data: bytes) -> bytes:
    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = struct.pack(">IIBBBBB", width, height, bits, colour, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(data)) + chunk(b"IEND", b"")


def test_16_bit_colour_png_is_refused_rather_than_halved(tmp_path: Path) -> None:
    (tmp_path / "x.png").write_bytes(_png(16, 16, 16, 2, (b"\0" + bytes(16 * 6)) * 16))
    with pytest.raises(ValueError, match="16-bit colour would lose its lower 8 bits"):
        read_image(tmp_path / "x.png")


def test_decompression_bomb(tmp_path: Path) -> None:
    (tmp_path / "x.png").write_bytes(_png(100_000, 100_000, 8, 0, b"\0"))
    with pytest.raises(ValueError, match="which may be an attack"):
        read_image(tmp_path / "x.png")


def test_truncated_files(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (64, 64), np.uint8)
    for suffix in (".png", ".tif"):
        path = tmp_path / f"x{suffix}"
        write_image(path, pixels)
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
        with pytest.raises(ValueError, match="not a readable image"):
            read_image(path)


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


def test_a_stack_of_pages_is_refused(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "x.tif", np.zeros((5, 20, 20), np.uint8), photometric="minisblack")
    with pytest.raises(ValueError, match="has 5 pages"):
        read_image(tmp_path / "x.tif")


def test_nothing_is_overwritten_unasked(tmp_path: Path) -> None:
    path = tmp_path / "x.png"
    write_image(path, np.zeros((16, 16), np.uint8))
    before = path.read_bytes()
    with pytest.raises(FileExistsError, match="--overwrite"):
        write_image(path, np.ones((16, 16), np.uint8))
    assert path.read_bytes() == before
    write_image(path, np.ones((16, 16), np.uint8), overwrite=True)
    assert read_image(path)[0, 0] == 1


def test_a_failed_write_leaves_nothing_behind(tmp_path: Path) -> None:
    path = tmp_path / "x.txt"
    path.write_text("old")

    def fail() -> None:
        with new_file(path, overwrite=True) as temporary:
            temporary.write_text("half")
            raise RuntimeError("disk full")

    with pytest.raises(RuntimeError, match="disk full"):
        fail()
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(
    ("name", "dtype", "message"),
    [
        ("x.gif", "uint8", "unknown image suffix"),
        ("x.jpg", "uint16", "cannot hold uint16"),
        ("x.png", "float32", "cannot hold float32"),
        ("no/x.png", "uint8", "does not exist; create it first"),
    ],
)
def test_what_cannot_be_written(tmp_path: Path, name: str, dtype: str, message: str) -> None:
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        write_image(tmp_path / name, np.zeros((16, 16), dtype))
    assert list(tmp_path.iterdir()) == []
