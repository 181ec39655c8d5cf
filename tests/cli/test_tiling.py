"""``nmfuse fuse`` of images that are larger than memory, or said to be."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import tifffile
from typer.testing import CliRunner

import nmfuse
from nmfuse.cli.app import app
from nmfuse.io import read_image, write_image

RNG = np.random.default_rng(0)
A, B = RNG.integers(0, 256, (64, 2100), np.uint8), RNG.integers(0, 256, (64, 2100), np.uint8)


@pytest.fixture
def large(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    write_image(tmp_path / "a.zarr", A)
    tifffile.imwrite(tmp_path / "b.tif", B, tile=(128, 128))
    monkeypatch.setenv("NMFUSE_MAX_PIXELS", "100000")
    return tmp_path


def fuse(folder: Path, *arguments: str) -> tuple[int, str]:
    sources = [str(folder / name) for name in ("a.zarr", "b.tif")]
    result = CliRunner().invoke(app, ["fuse", *sources, *arguments])
    said = result.output if result.exception is None else f"{result.output} {result.exception}"
    return result.exit_code, " ".join(said.replace("│", " ").split())


def test_large_images_are_fused_in_tiles(large: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    arguments = ("--method", "laplacian", "--dtype", "float32")
    assert fuse(large, "-o", str(large / "f.zarr"), *arguments)[0] == 0
    assert fuse(large, "-o", str(large / "f.tif"), *arguments)[0] == 0
    monkeypatch.delenv("NMFUSE_MAX_PIXELS")
    expected = nmfuse.fuse(A, B, method="laplacian", output="float32")
    for name in ("f.zarr", "f.tif"):
        np.testing.assert_allclose(read_image(large / name).pixels, expected, atol=1e-6)
    assert fuse(large, "-o", str(large / "g.zarr"), *arguments)[0] == 0  # as any other format, of the whole
    np.testing.assert_array_equal(read_image(large / "g.zarr").pixels, expected)


def test_values_that_stand_for_nothing(large: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    arguments = ("--method", "laplacian", "--nodata", "none", "--nodata", "0", "--fill", "9")
    assert fuse(large, "-o", str(large / "f.zarr"), *arguments)[0] == 0
    monkeypatch.delenv("NMFUSE_MAX_PIXELS")
    assert fuse(large, "-o", str(large / "g.zarr"), *arguments)[0] == 0
    found, expected = (read_image(large / name).pixels for name in ("f.zarr", "g.zarr"))
    np.testing.assert_array_equal(found, expected)
    assert (found[B == 0] == A[B == 0]).all()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("-o", "f.png"), "f.png: images larger than memory are written as .zarr or .tif"),
        (("-o", "f.zarr", "--align", "rigid"), "is not for images larger than memory, fused in tiles"),
        (("-o", "f.zarr", "--bands", "1"), "prepare the files as docs/large.md says"),
        (("-o", "f.zarr", "--nodata", "0", "--nodata", "0", "--nodata", "0"), "--nodata: given 3 times, for 2 images"),
        (("-o", "f.zarr", "--method", "pca"), "looks at the whole image"),
    ],
)
def test_what_large_images_have_not(large: Path, arguments: tuple[str, ...], said: str) -> None:
    code, text = fuse(large, *arguments)
    assert code != 0
    assert said in text


def test_a_killed_run_goes_on_and_makes_the_same_bytes(large: Path) -> None:
    arguments = [str(large / "a.zarr"), str(large / "b.tif"), "--method", "average"]
    assert CliRunner().invoke(app, ["fuse", *arguments, "-o", str(large / "whole.zarr")]).exit_code == 0
    journal = large / ".f.zarr.part" / "journal"
    slow = (
        "import sys, time\n"
        "from nmfuse.methods.rivals.plain import Average\n"
        "plain = Average.fuse_part\n"
        "def fuse_part(*of):\n"
        "    if (journal := __import__('pathlib').Path(sys.argv[-1])).read_text().count('fuse '):\n"
        "        time.sleep(1000)\n"  # until it is killed
        "    return plain(*of)\n"
        "Average.fuse_part = fuse_part\n"
        "from nmfuse.scale import fuse_tiles\n"
        "fuse_tiles(sys.argv[1:3], sys.argv[3], method=__import__('nmfuse').Fuser('average'))\n"
    )
    run = subprocess.Popen([sys.executable, "-c", slow, *arguments[:2], str(large / "f.zarr"), str(journal)])
    try:
        while "fuse " not in (journal.read_text() if journal.exists() else ""):
            assert run.poll() is None
            time.sleep(0.01)
    finally:
        os.kill(run.pid, signal.SIGKILL)
        run.wait()
    assert not (large / "f.zarr").exists()
    done = journal.read_text().count("fuse ")
    assert done == 1
    assert CliRunner().invoke(app, ["fuse", *arguments, "-o", str(large / "f.zarr")]).exit_code == 0
    files = [[(p.relative_to(f), p.read_bytes()) for p in sorted(f.rglob("*")) if p.is_file()] for f in
             (large / "f.zarr", large / "whole.zarr")]  # fmt: skip
    assert files[0] == files[1]
    assert not journal.parent.exists()


def test_whole_folders_of_them(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        write_image(tmp_path / name / "x.zarr", RNG.integers(0, 256, (40, 60), np.uint8))
    command = ["fuse", str(tmp_path / "a"), str(tmp_path / "b"), "--method", "average"]
    assert CliRunner().invoke(app, [*command, "-o", str(tmp_path / "out")]).exit_code == 0
    expected = nmfuse.fuse(*[read_image(tmp_path / name / "x.zarr") for name in "ab"], method="average")
    np.testing.assert_array_equal(read_image(tmp_path / "out" / "x.zarr").pixels, expected.pixels)
    into = CliRunner().invoke(app, [*command, "-o", str(tmp_path / "a" / "x.zarr")])
    assert "is no folder; of whole folders the results go to one" in str(into.exception)


def test_a_folder_of_chunks_is_no_stream(large: Path) -> None:
    code, text = fuse(large, "-o", "-", "--suffix", ".zarr")
    assert code != 0
    assert "is a folder of files; expected that of a file" in text
