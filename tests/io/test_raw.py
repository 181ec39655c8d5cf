"""Raw photographs: a DNG that is made here, with colours that are known."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from scipy import ndimage

import nmfuse
from nmfuse.cli.app import app
from nmfuse.images import Image
from nmfuse.io import find_brackets, is_image, raw, read_image, write_image

TO_CAMERA = np.array([[3.2406, -1.5372, -0.4986], [-0.9689, 1.8758, 0.0415], [0.0557, -0.2040, 1.0570]])  # sRGB's own
NEUTRAL = (0.5, 1.0, 0.8)  # what the sensor shows of white
LEFT, RIGHT = 0.125, 0.5


def dng(path: Path, white: Any, neutral: tuple[float, ...] = NEUTRAL, **tags: Any) -> None:
    """Write what a sensor of red, green, green and blue sees of a grey picture in linear light, (H, W)."""
    seen = np.asarray(white)[..., None] * NEUTRAL
    mosaic = seen[..., 1].copy()
    mosaic[0::2, 0::2], mosaic[1::2, 1::2] = seen[0::2, 0::2, 0], seen[1::2, 1::2, 2]

    def rationals(values: Any) -> list[int]:
        return [n for value in np.ravel(values) for n in (round(value * 10000), 10000)]

    described = [
        (50706, "B", 4, (1, 4, 0, 0)), (33421, "H", 2, (2, 2)), (33422, "B", 4, (0, 1, 1, 2)),
        (50708, "s", 0, "A camera"), (271, "s", 0, "A maker"), (272, "s", 0, "A model"), (50717, "I", 1, 65535),
        (50721, "2i", 9, rationals(TO_CAMERA)), (50778, "H", 1, 21), (50728, "2I", 3, rationals(neutral)),
        (274, "H", 1, tags.get("orientation", 1)),
    ]  # fmt: skip
    pixels = np.rint(65535 * mosaic).astype(np.uint16)
    extra = [(*tag, True) for tag in described]
    tifffile.imwrite(path, pixels, photometric=32803, extratags=extra, metadata=None, software=False)


def halves(height: int = 32, width: int = 48) -> np.ndarray:
    return np.tile(np.where(np.arange(width) < width // 2, LEFT, RIGHT), (height, 1))


def srgb(linear: float) -> int:
    return round(65535 * (1.055 * linear ** (1 / 2.4) - 0.055))


def check_halves(image: Image) -> None:
    """Look at the middle of each half: grey, and as bright as sRGB has it."""
    for column, linear in ((12, LEFT), (36, RIGHT)):
        found = np.broadcast_to(image.pixels[16, column], 3).astype(int)
        assert np.abs(found - srgb(linear)).max() <= 8, found


def test_colours_are_those_of_srgb(tmp_path: Path) -> None:
    dng(tmp_path / "x.dng", halves())
    image = read_image(tmp_path / "x.dng")
    assert (image.shape[:2], image.dtype, image.valid) == ((32, 48), np.uint16, None)
    check_halves(image)
    assert image.carried["white_balance"] == pytest.approx((2.0, 1.0, 1.25, 1.0))
    write_image(tmp_path / "y.tif", image)
    with tifffile.TiffFile(tmp_path / "y.tif") as file:
        tags = file.pages.first.tags
        assert (tags[271].value, tags[272].value, 274 in tags, 34675 in tags) == ("A maker", "A model", False, True)


def test_brightness_does_not_depend_on_what_is_seen(tmp_path: Path) -> None:
    dng(tmp_path / "dark.dng", halves() / 4)
    image = read_image(tmp_path / "dark.dng").pixels[16, 36].astype(int)
    assert np.abs(image - srgb(RIGHT / 4)).max() <= 8


@pytest.mark.parametrize(("orientation", "turns"), [(3, 2), (6, -1), (8, 1)])
def test_orientation(tmp_path: Path, orientation: int, turns: int) -> None:
    dng(tmp_path / "x.dng", halves())
    dng(tmp_path / "turned.dng", halves(), orientation=orientation)
    upright, turned = read_image(tmp_path / "x.dng"), read_image(tmp_path / "turned.dng")
    np.testing.assert_array_equal(turned, np.rot90(upright, turns))


def test_the_white_balance_of_another(tmp_path: Path) -> None:
    dng(tmp_path / "a.dng", halves())
    dng(tmp_path / "b.dng", halves(), neutral=(1.0, 1.0, 1.0))  # the camera took another light for white
    first, other = (read_image(tmp_path / f"{name}.dng") for name in "ab")
    assert other.ndim == 3
    again = read_image(tmp_path / "b.dng", white_balance=first.carried["white_balance"])
    np.testing.assert_array_equal(again, first)
    paths = [str(tmp_path / name) for name in ("a.dng", "b.dng", "f.tif")]
    app(["fuse", *paths[:2], "-o", paths[2], "--method", "average"], standalone_mode=False)
    expected = nmfuse.fuse(first, first, method="average")
    np.testing.assert_array_equal(read_image(tmp_path / "f.tif"), expected)
    for balance in ((1, 1, 1), (1, 1, 0, 1), (1, 1, np.nan, 1)):
        with pytest.raises(ValueError, match=r"white_balance: got .*; expected four numbers above 0"):
            read_image(tmp_path / "b.dng", white_balance=balance)


def test_what_is_no_raw_photograph(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for data in (b"", bytes(1000), b"II*\0" + bytes(1000)):
        (tmp_path / "x.dng").write_bytes(data)
        with pytest.raises(ValueError, match=r"x\.dng: not a readable image \(LibRaw"):
            read_image(tmp_path / "x.dng")
    dng(tmp_path / "x.dng", halves())
    monkeypatch.setenv("NMFUSE_MAX_PIXELS", "1535")
    with pytest.raises(ValueError, match=r"x\.dng: has 1536 pixels, more than 1535"):
        read_image(tmp_path / "x.dng")
    monkeypatch.delenv("NMFUSE_MAX_PIXELS")
    with pytest.raises(ValueError, match=r"y\.dng: Raw photograph cannot hold uint16 colour images of 3 axes"):
        write_image(tmp_path / "y.dng", read_image(tmp_path / "x.dng"))
    assert is_image("IMG_0001.CR2")


def test_cut_off(tmp_path: Path) -> None:
    dng(tmp_path / "x.dng", halves())
    data = (tmp_path / "x.dng").read_bytes()
    for size in range(0, len(data) - 10, 100):
        (tmp_path / "x.dng").write_bytes(data[:size])
        with pytest.raises(ValueError, match=r"x\.dng: not a readable image"):
            read_image(tmp_path / "x.dng")


def test_exif_that_is_elsewhere_is_said_to_be_left_out(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "x.cr3").write_bytes(bytes(4) + b"ftypcrx ")
    with caplog.at_level(logging.WARNING, "nmfuse.io"):
        assert len(raw.exif_of_raw(tmp_path / "x.cr3")) == 0
    assert "x.cr3: its EXIF is stored in a way that is not read, and is left out" in caplog.text


def test_brackets_know_them(tmp_path: Path) -> None:
    for k in range(2):
        dng(tmp_path / f"{k}.dng", halves())
    with pytest.raises(ValueError, match=r"no pictures belong together by their EXIF; 0\.dng has no EXIF time"):
        find_brackets(tmp_path)


def test_they_are_aligned_into_tiff(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    scene = ndimage.gaussian_filter(np.random.default_rng(0).random((80, 100)), 2)
    scene = (scene - scene.min()) / np.ptp(scene)
    paths = [tmp_path / "a.dng", tmp_path / "b.dng"]
    for path, shift in zip(paths, (0, 4), strict=True):
        dng(path, np.roll(scene, shift, 1))
    out = tmp_path / "out"
    app(["align", *map(str, paths), "-o", str(out), "--model", "translation"], standalone_mode=False)
    assert [Path(name).name for name in capsys.readouterr().out.split()] == ["a.tif", "b.json", "b.tif"]
    first, other = (read_image(out / name) for name in ("a.tif", "b.tif"))
    np.testing.assert_array_equal(first, read_image(paths[0]))
    assert np.abs(other.pixels[8:-8, 8:-8].astype(float) - first.pixels[8:-8, 8:-8]).mean() < 2000
