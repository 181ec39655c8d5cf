"""How the shell says what to read of a file: bands, and the value that stands for nothing."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tifffile
import typer

import nmfuse
from nmfuse.cli.app import app
from nmfuse.io import read_image, write_image

RNG = np.random.default_rng(0)
MANY = RNG.integers(1, 256, (32, 40, 4), np.uint8)
GREY = RNG.integers(1, 256, (32, 40), np.uint8)


def shell(*arguments: str | Path) -> None:
    """Run `nmfuse fuse` in this process, where errors are raised."""
    app(["fuse", *map(str, arguments), "--method", "average"], standalone_mode=False)


@pytest.fixture
def pair(tmp_path: Path) -> tuple[Path, Path]:
    many, grey = MANY.copy(), GREY.copy()
    many[:4] = grey[:8] = 0
    tifffile.imwrite(tmp_path / "many.tif", many, photometric="rgb", extrasamples=[0])
    write_image(tmp_path / "grey.png", grey)
    return tmp_path / "many.tif", tmp_path / "grey.png"


def test_once_for_all_or_once_for_each(pair: tuple[Path, Path], tmp_path: Path) -> None:
    out = tmp_path / "f.png"
    bands, nodata = ("--bands", "4,3,2", "--bands", "all"), ("--nodata", "0")
    shell(*pair, "-o", out, *bands, *nodata)
    images = [read_image(pair[0], bands=(4, 3, 2), nodata=0), read_image(pair[1], nodata=0)]
    expected = nmfuse.fuse(*images, method="average")
    found = read_image(out)
    np.testing.assert_array_equal(found.valid, expected.valid)
    assert not found.valid[:4].any()
    np.testing.assert_array_equal(found.pixels[4:], expected.pixels[4:])
    np.testing.assert_array_equal(found.pixels[4:8], images[0].pixels[4:8])  # there the other shows nothing
    shell(pair[0], pair[0], "-o", out, "--overwrite", "--bands", "4", "--nodata", "none", "--nodata", "0")
    np.testing.assert_array_equal(read_image(out), read_image(pair[0], bands=(4,)))


def test_folders(pair: tuple[Path, Path], tmp_path: Path) -> None:
    for name in "AB":
        (tmp_path / name).mkdir()
    pair[0].rename(tmp_path / "A" / "1.tif")
    pair[1].rename(tmp_path / "B" / "1.png")
    shell(tmp_path / "A", tmp_path / "B", "-o", tmp_path / "F", "--bands", "1", "--bands", "all", "--suffix", ".tif")
    images = [read_image(tmp_path / "A" / "1.tif", bands=(1,)), read_image(tmp_path / "B" / "1.png")]
    np.testing.assert_array_equal(read_image(tmp_path / "F" / "1.tif"), nmfuse.fuse(*images, method="average"))


def test_mistakes(pair: tuple[Path, Path], tmp_path: Path) -> None:
    for arguments, error, message in (
        (("--bands", "red"), typer.BadParameter, "got 'red'; expected numbers such as 4,3,2"),
        (("--nodata", "black"), typer.BadParameter, "got 'black'; expected a number such as -9999"),
        (("--bands", "1", "--bands", "1", "--bands", "1"), ValueError, "--bands: given 3 times, for 2 images; give it"),
        (("--bands", "4,3,2"), ValueError, r"bands: .*grey\.png is PNG, which has no such choice"),
        (("--bands", "5", "--bands", "all"), ValueError, r"many\.tif: has no bands 5; expected one, or three"),
        (("--bands", "1", "--bands", "all", "--nodata", "-9999"), ValueError, r"nodata: got -9999; .* is never that"),
    ):
        with pytest.raises(error, match=message):
            shell(*pair, "-o", tmp_path / "f.png", *arguments)
        assert not (tmp_path / "f.png").exists()
