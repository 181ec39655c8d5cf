"""16-bit PNG, GIF, AVIF and .npy; and every format cut off at every tenth byte."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from nmfuse import images
from nmfuse.io import read_image, write_image
from tests.io.cut import check_cut_off
from tests.io.test_limits import png

RNG = np.random.default_rng(0)
DEEP = RNG.integers(0, 65536, (30, 22, 3)).astype(np.uint16)
GREY = RNG.integers(0, 256, (30, 22), np.uint8)
SEEN = GREY > 80


def test_16_bit_colour_of_another_program(tmp_path: Path) -> None:
    path = tmp_path / "x.png"
    cv2.imwrite(str(path), DEEP[..., ::-1])
    np.testing.assert_array_equal(read_image(path), DEEP)
    alpha = np.where(SEEN, 65535, 0).astype(np.uint16)
    cv2.imwrite(str(path), np.dstack([DEEP[..., ::-1], alpha]))
    back = read_image(path)
    np.testing.assert_array_equal(back, DEEP)
    np.testing.assert_array_equal(back.valid, SEEN)


@pytest.mark.parametrize("pixels", [DEEP, DEEP[..., 0]], ids=["colour", "grey"])
@pytest.mark.parametrize("valid", [None, SEEN], ids=["whole", "part"])
def test_16_bits_come_back_and_others_read_them(tmp_path: Path, pixels: np.ndarray, valid: np.ndarray | None) -> None:
    path = tmp_path / "x.png"
    carried = {"dpi": (300.0, 300.0), "xmp": b"<x/>"}
    write_image(path, images.Image(pixels, valid, carried=carried))
    back = read_image(path)
    assert (back.dtype, back.shape) == (np.uint16, pixels.shape)
    np.testing.assert_array_equal(back, pixels)
    np.testing.assert_array_equal(back.valid, valid)
    assert back.carried["xmp"] == b"<x/>"
    np.testing.assert_allclose(back.carried["dpi"], (300, 300), rtol=1e-3)
    theirs = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
    assert theirs.dtype == np.uint16
    shown = theirs[..., 2::-1] if theirs.ndim == 3 else theirs
    np.testing.assert_array_equal(shown if pixels.ndim == 3 or shown.ndim == 2 else shown[..., 0], pixels)


def test_the_transparent_colour_of_16_bits(tmp_path: Path) -> None:
    row = b"\0" + DEEP[0, :16].astype(">u2").tobytes()
    data = bytearray(png(16, 1, 16, 2, row))
    colour = DEEP[0, 3].astype(">u2").tobytes()
    (tmp_path / "x.png").write_bytes(data[:33] + _chunk(b"tRNS", colour) + data[33:])
    back = read_image(tmp_path / "x.png")
    np.testing.assert_array_equal(back, DEEP[:1, :16])
    np.testing.assert_array_equal(back.valid[0], np.arange(16) != 3)


def _chunk(kind: bytes, body: bytes) -> bytes:
    import struct
    import zlib

    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def test_gif(tmp_path: Path) -> None:
    path = tmp_path / "x.gif"
    Image.fromarray(GREY).save(path)
    np.testing.assert_array_equal(read_image(path), GREY)
    Image.fromarray(GREY).save(path, transparency=int(GREY[0, 0]))
    np.testing.assert_array_equal(read_image(path).valid, GREY[0, 0] != GREY)
    frames = [Image.fromarray(np.full((20, 24), k, np.uint8)) for k in (0, 100, 200)]
    frames[0].save(path, save_all=True, append_images=frames[1:])
    with pytest.raises(ValueError, match=r"x\.gif: has 3 frames; choose one by its number"):
        read_image(path)
    for k, level in enumerate((0, 100, 200)):
        np.testing.assert_array_equal(read_image(f"{path}[{k}]"), np.full((20, 24), level))


def test_avif(tmp_path: Path) -> None:
    path = tmp_path / "x.avif"
    smooth = np.add.outer(np.arange(64), np.arange(48)).astype(np.uint8)
    write_image(path, smooth)
    assert np.abs(read_image(path).pixels.astype(int) - smooth).max() <= 8
    import imagecodecs

    path.write_bytes(imagecodecs.avif_encode(DEEP >> 6, bitspersample=10))
    with pytest.raises(ValueError, match=r"x\.avif: has more than 8 bits a channel, which would be lost; store it as"):
        read_image(path)


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (np.zeros(5, np.uint8), r"shape \(5,\); expected \(H, W\), \(H, W, 3\) or a volume of them"),
        (np.zeros((2, 3, 4, 5), np.uint8), r"shape \(2, 3, 4, 5\); expected"),
        (np.zeros((0, 4), np.uint8), r"shape \(0, 4\); expected"),
        (np.zeros((4, 4), np.complex64), "pixels are complex64; convert them to one of uint8"),
        (np.array([[{}]]), "not a readable image"),
    ],
)
def test_arrays_that_are_no_images(tmp_path: Path, array: np.ndarray, message: str) -> None:
    np.save(tmp_path / "x.npy", array, allow_pickle=True)
    with pytest.raises(ValueError, match=rf"x\.npy: {message}"):
        read_image(tmp_path / "x.npy")


def test_arrays(tmp_path: Path) -> None:
    volume = RNG.integers(0, 256, (5, 6, 7), np.uint8)
    images = (volume, 3), (np.asfortranarray(GREY), 2), (DEEP.astype(">u2"), 2), (np.stack([DEEP, DEEP]), 3)
    for array, spatial in images:
        np.save(tmp_path / "x.npy", array)
        back = read_image(tmp_path / "x.npy")
        np.testing.assert_array_equal(back, array)
        assert back.dtype.isnative
        assert back.spatial == spatial
    write_image(tmp_path / "y.npy", volume)
    np.testing.assert_array_equal(np.load(tmp_path / "y.npy"), volume)
    with pytest.raises(ValueError, match=r"y\.npy: NumPy has no pages; leave out \[0\]"):
        read_image(tmp_path / "y.npy[0]")


def _gif(path: Path) -> None:
    Image.fromarray(GREY).save(path)


@pytest.mark.parametrize(
    ("suffix", "write"),
    [
        (".png", lambda path: write_image(path, GREY)),
        (".png", lambda path: write_image(path, DEEP)),
        (".jpg", lambda path: write_image(path, GREY)),
        (".bmp", lambda path: write_image(path, GREY)),
        (".webp", lambda path: write_image(path, GREY)),
        (".avif", lambda path: write_image(path, GREY)),
        (".tif", lambda path: write_image(path, DEEP)),
        (".npy", lambda path: write_image(path, GREY)),
        (".gif", _gif),
    ],
)
def test_truncated_at_every_tenth_byte(tmp_path: Path, suffix: str, write: Callable[[Path], None]) -> None:
    path = tmp_path / f"x{suffix}"
    write(path)
    length = path.stat().st_size
    check_cut_off(path, [*range(0, length, 10), *range(length - 9, length)])


def test_what_a_file_holds_counts_and_no_other_program_is_called(tmp_path: Path) -> None:
    Image.fromarray(GREY).save(tmp_path / "x.png", format="WEBP", lossless=True)
    np.testing.assert_array_equal(read_image(tmp_path / "x.png"), GREY)
    (tmp_path / "x.png").write_text("%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\nshowpage\n")
    with pytest.raises(ValueError, match=r"x\.png: not a readable image"):
        read_image(tmp_path / "x.png")
