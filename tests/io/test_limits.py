"""One limit of pixels for all formats."""

from __future__ import annotations

import gzip
import io
import resource
import struct
import subprocess
import sys
import zlib
from pathlib import Path

import numpy as np
import pytest
import tifffile
import zarr
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


def peak_of_reading(path: Path) -> int:
    """Return how many MiB a process of its own takes at most to read a file, beyond what it has before."""
    code = (
        "import sys, imagecodecs, resource, nmfuse.io\n"
        "peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024\n"
        "before = peak()\n"
        "try:\n    nmfuse.io.read_image(sys.argv[1])\n"
        "except ValueError:\n    pass\n"
        "print(peak() - before)"
    )
    done = subprocess.run([sys.executable, "-c", code, path], capture_output=True, text=True, check=True)
    return int(done.stdout)


def webp(*chunks: tuple[bytes, bytes]) -> bytes:
    body = b"".join(kind + struct.pack("<I", len(data)) + data + b"\0" * (len(data) % 2) for kind, data in chunks)
    return b"RIFF" + struct.pack("<I", 4 + len(body)) + b"WEBP" + body


def test_a_webp_takes_the_memory_of_its_pixels_and_little_more(tmp_path: Path) -> None:
    """One colour in 11584 x 11584 pixels, which take 384 MiB: Pillow would take 2 GiB."""
    lossless = bytes.fromhex("2f3fed4f0b07508a2ad4a3ff8188e87f00")
    (tmp_path / "x.webp").write_bytes(webp((b"VP8L", lossless)))
    assert peak_of_reading(tmp_path / "x.webp") < 1024


def test_a_webp_whose_header_lies(tmp_path: Path) -> None:
    encoded = io.BytesIO()
    Image.new("RGB", (20, 16)).save(encoded, "WEBP", lossless=True)
    frame = encoded.getvalue()[20:]
    canvas = b"\0" * 4 + (11_583).to_bytes(3, "little") * 2
    (tmp_path / "x.webp").write_bytes(webp((b"VP8X", canvas), (b"VP8L", frame)))
    with pytest.raises(ValueError, match=r"x\.webp: not a readable image"):
        read_image(tmp_path / "x.webp")
    assert peak_of_reading(tmp_path / "x.webp") < 512


def test_a_chunk_of_zarr_that_unpacks_to_gigabytes(tmp_path: Path) -> None:
    path = tmp_path / "x.zarr"
    zarr.create_array(path, data=np.ones((32, 32), np.uint8), compressors=zarr.codecs.GzipCodec())
    (path / "c" / "0" / "0").write_bytes(gzip.compress(bytes(2**28), 1) * 4)  # of several members
    with pytest.raises(
        ValueError, match=r"x\.zarr: not a readable image .* by gzip, unpacks to more than the 1024 that"
    ):
        read_image(path)
    assert peak_of_reading(path) < 256


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
