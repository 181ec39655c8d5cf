"""`-` in the place of a file: standard input and output; and names that look like options."""

from __future__ import annotations

import io
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer import BadParameter

import nmfuse
from nmfuse.cli.app import app
from nmfuse.cli.streams import files_for_streams
from nmfuse.images import Grid, Image
from nmfuse.io import read_image, write_image

STREAM = Path("-")


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


def give(monkeypatch: Any, data: bytes) -> None:
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(data)))


@pytest.mark.parametrize("suffix", [None, ".tif"])
def test_from_standard_input_to_standard_output(pair: Path, tmp_path: Path, suffix: str | None) -> None:
    asked = ("--suffix", suffix) if suffix else ()
    done = fuse(pair, "-", "b ü.png", "-o", "-", *asked, given=(pair / "-a.png").read_bytes())
    assert (done.returncode, done.stderr) == (0, b"")
    result = tmp_path / f"x{suffix or '.png'}"
    result.write_bytes(done.stdout)
    expected = nmfuse.fuse(*(read_image(pair / name) for name in ("-a.png", "b ü.png")), method="average")
    np.testing.assert_array_equal(read_image(result), expected)


def test_leading_dashes(pair: Path, tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.chdir(pair)
    out = str(tmp_path / "f.png")
    app(["fuse", "--method", "average", "-o", out, "--", "-a.png", "b ü.png"], standalone_mode=False)
    expected = nmfuse.fuse(*(read_image(pair / name) for name in ("-a.png", "b ü.png")), method="average")
    np.testing.assert_array_equal(read_image(out), expected)


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".bmp", ".webp", ".avif", ".tif", ".npy", ".nii", ".nii.gz"])
def test_the_format_is_seen_by_the_bytes(suffix: str, tmp_path: Path, monkeypatch: Any) -> None:
    pixels = np.full((8, 16, 16) if suffix.startswith(".nii") else (16, 16), 7, np.uint8)
    grid = Grid((8, 16, 16), np.eye(4)) if suffix.startswith(".nii") else None
    write_image(tmp_path / f"x{suffix}", Image(pixels, grid=grid))
    give(monkeypatch, (tmp_path / f"x{suffix}").read_bytes())
    with files_for_streams([tmp_path / "y.png", STREAM], tmp_path / "f.png", ".png") as (sources, output):
        assert (sources[0], output) == (tmp_path / "y.png", tmp_path / "f.png")
        assert sources[1].name == f"standard-input{suffix}"
        assert np.all(read_image(sources[1]).pixels == 7)
    assert not sources[1].exists()


@pytest.mark.parametrize(
    ("arguments", "given", "message"),
    [
        (("-", "b ü.png", "-o", "-"), b"", "-: standard input is empty; expected an image such as PNG"),
        (("-", "b ü.png", "-o", "-"), b"hello", "-: standard input begins with b'hello'; expected an image such as"),
        (("-", "b ü.png", "-o", "-"), b"\x89PNG", "standard-input.png: not a readable image"),
        (("-", "-", "-o", "-"), b"", "-: is given 2 times; standard input holds one image, give it once"),
        (("b ü.png", "b ü.png", "-o", "-", "--suffix", ".xyz"), b"", "unknown image suffix '.xyz'"),
        (("b ü.png", "b ü.png", "-o", "-", "--profile"), b"", "prints to standard output, where -o - writes the"),
    ],
)
def test_what_is_wrong_is_said(
    pair: Path, arguments: tuple[str, ...], given: bytes, message: str, monkeypatch: Any, capfd: Any
) -> None:
    monkeypatch.chdir(pair)
    give(monkeypatch, given)
    with pytest.raises((ValueError, BadParameter)) as refused:
        app(["fuse", "--method", "average", *arguments], standalone_mode=False)
    assert message in str(refused.value)
    assert capfd.readouterr().out == ""


def test_an_image_is_not_written_to_a_terminal(monkeypatch: Any) -> None:
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    with (
        pytest.raises(ValueError, match="-o -: would write an image to the terminal; redirect it"),
        files_for_streams([], STREAM, ".png"),
    ):
        pass
