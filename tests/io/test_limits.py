"""One limit of pixels for all formats."""

from __future__ import annotations

import resource
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image

from nmfuse.io import read_image


def png(width: int, height: int, bits: int, colour: int, data: bytes) -> bytes:
    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = struct.pack(">IIBBBBB", width, height, bits, colour, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(data)) + chunk(b"IEND", b"")


def test_a_size_that_lies(tmp_path: Path) -> None:
    (tmp_path / "x.png").write_bytes(png(100_000, 100_000, 8, 0, b"\0"))
    with pytest.raises(ValueError, match=r"x\.png: has 10000000000 pixels, more than 134217728, which may"):
        read_image(tmp_path / "x.png")
    (tmp_path / "x.png").write_bytes(png(100, 100, 8, 0, b"\0"))
    with pytest.raises(ValueError, match=r"x\.png: not a readable image"):
        read_image(tmp_path / "x.png")


@pytest.mark.parametrize("frame", [0, 1])
def test_a_frame_of_gif_that_is_larger_than_its_screen(tmp_path: Path, frame: int) -> None:
    data = b"GIF89a" + struct.pack("<HHBBB", 1, 1, 0x80, 0, 0) + b"\0\0\0\xff\xff\xff"
    for k in range(2):
        side = 60_000 if k == frame else 1  # disposed of by filling it, which makes room for all of it
        data += b"\x21\xf9\x04\x08\0\0\0\0," + struct.pack("<HHHHB", 0, 0, side, side, 0) + b"\x02\x02\x44\x01\0"
    (tmp_path / "x.gif").write_bytes(data + b";")
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(ValueError, match=r"x\.gif: (has 3600000000 pixels|not a readable image \(DecompressionBomb)"):
        read_image(f"{tmp_path / 'x.gif'}[1]")
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 2**19  # kB


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".bmp", ".webp", ".tif"])
def test_the_limit_can_be_set(tmp_path: Path, suffix: str, monkeypatch: pytest.MonkeyPatch) -> None:
    pixels = np.zeros((100, 120), np.uint8)
    path = tmp_path / f"x{suffix}"
    if suffix == ".tif":
        tifffile.imwrite(path, pixels)
    else:
        Image.fromarray(pixels).save(path)
    monkeypatch.setenv("NMFUSE_MAX_PIXELS", "11999")
    with pytest.raises(ValueError, match=r"has 12000 pixels, more than 11999, .* NMFUSE_MAX_PIXELS=12000 if you trust"):
        read_image(path)
    monkeypatch.setenv("NMFUSE_MAX_PIXELS", "12000")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10)  # Pillow's own is not asked
    assert read_image(path).shape == (100, 120)
    assert Image.MAX_IMAGE_PIXELS == 10
    monkeypatch.setenv("NMFUSE_MAX_PIXELS", "many")
    with pytest.raises(ValueError, match="NMFUSE_MAX_PIXELS: got 'many'; expected a number of pixels such as"):
        read_image(path)


def test_large_pictures_of_few_bytes(tmp_path: Path) -> None:
    """Decoders of JPEG take what is missing for grey."""
    Image.new("L", (20, 16)).save(tmp_path / "x.jpg")
    data = (tmp_path / "x.jpg").read_bytes()
    at = data.index(b"\xff\xc0") + 5
    (tmp_path / "x.jpg").write_bytes(data[:at] + struct.pack(">HH", 8000, 16000) + data[at + 4 :])
    with pytest.raises(
        ValueError, match=r"x\.jpg: not a readable image \(its header promises 128000000 pixels, in \d+ byt"
    ):
        read_image(tmp_path / "x.jpg")
    Image.new("L", (2400, 2000)).save(tmp_path / "black.jpg")
    assert read_image(tmp_path / "black.jpg").shape == (2000, 2400)
