"""`-` in the place of a file: standard input and output; and names that look like options."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import nmfuse
from nmfuse.io import read_image, write_image


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pair")
    rng = np.random.default_rng(0)
    for name in ("-a.png", "b ü.png"):
        write_image(folder / name, rng.integers(0, 256, (32, 48), np.uint8))
    return folder


def fuse(folder: Path, *arguments: str, given: bytes = b"") -> subprocess.CompletedProcess[bytes]:
    command = [sys.executable, "-m", "nmfuse.cli", "fuse", "--method", "average", *arguments]
    return subprocess.run(command, input=given, capture_output=True, check=False, cwd=folder)


def average(folder: Path) -> np.ndarray:
    return np.asarray(nmfuse.fuse(*(read_image(folder / name) for name in ("-a.png", "b ü.png")), method="average"))


@pytest.mark.parametrize(("given", "suffix"), [("png", ""), ("bmp", "png"), ("tiff", ".tif"), ("png", "npy")])
def test_from_standard_input_to_standard_output(pair: Path, tmp_path: Path, given: str, suffix: str) -> None:
    Image.open(pair / "-a.png").save(tmp_path / f"a.{given}")
    asked = ("--suffix", suffix) if suffix else ()
    done = fuse(pair, "-", "b ü.png", "-o", "-", *asked, given=(tmp_path / f"a.{given}").read_bytes())
    assert (done.returncode, done.stderr) == (0, b"")
    result = tmp_path / f"x.{suffix.strip('.') or 'png'}"
    result.write_bytes(done.stdout)
    np.testing.assert_array_equal(read_image(result), average(pair))


def test_leading_dashes(pair: Path, tmp_path: Path) -> None:
    done = fuse(pair, "-o", str(tmp_path / "f.png"), "--", "-a.png", "b ü.png")
    assert (done.returncode, done.stderr) == (0, b"")
    np.testing.assert_array_equal(read_image(tmp_path / "f.png"), average(pair))


@pytest.mark.parametrize(
    ("arguments", "given", "message"),
    [
        (("-", "b ü.png", "-o", "-"), b"", "nmfuse: -: standard input is empty; expected an image such as PNG"),
        (("-", "b ü.png", "-o", "-"), b"hello", "nmfuse: -: standard input begins with b'hello'; expected an image"),
        (("-", "b ü.png", "-o", "-"), b"\x89PNG", "standard-input.png: not a readable image"),
        (("-", "-", "-o", "-"), b"", "nmfuse: -: is given 2 times; standard input holds one image, give it once"),
        (("b ü.png", "b ü.png", "-o", "-", "--suffix", ".xyz"), b"", "unknown image suffix '.xyz'"),
        (("b ü.png", "b ü.png", "-o", "-", "--profile"), b"", "prints to standard output, where -o - writes the"),
    ],
)
def test_what_is_wrong_is_said(pair: Path, arguments: tuple[str, ...], given: bytes, message: str) -> None:
    done = fuse(pair, *arguments, given=given)
    assert (done.returncode in (1, 2), done.stdout) == (True, b"")
    assert message in " ".join(done.stderr.decode().replace("│", " ").split())
