"""Files to write: what is refused before any work is done, and that a file is there whole or not at all."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nmfuse.io import check_file, check_output, new_file, write_image


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("x.xyz", {}, r"x\.xyz: unknown image suffix '\.xyz'; expected one of \.png"),
        ("x.gif", {}, r"x\.gif: GIF cannot hold images \(it is only read\); write \.png"),
        ("x", {}, r"unknown image suffix ''"),
        ("x.png", {"dtype": np.float32}, r"x\.png: PNG cannot hold float32 images \(.*\); write \.tif, \.tiff, \.npy"),
        ("x.jpg", {"dtype": "uint16"}, "JPEG cannot hold uint16 images"),
        ("x.bmp", {"dtype": "uint16", "colour": True}, "BMP cannot hold uint16 colour images"),
        ("x.png", {"dtype": "uint16", "ndim": 4}, r"PNG cannot hold uint16 images of 4 axes .*; write \.npy"),
        ("x.tif", {"ndim": 5}, "TIFF cannot hold images of 5 axes .*; no format here does: convert the pixels"),
        ("x.bmp", {"transparent": True}, r"BMP cannot hold images with pixels that are not valid \(transparent\)"),
    ],
)
def test_images_that_no_file_could_hold(tmp_path: Path, name: str, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        check_output(tmp_path / name, overwrite=False, **options)


def test_images_that_a_file_holds(tmp_path: Path) -> None:
    check_output(tmp_path / "x.png", overwrite=False)
    check_output(tmp_path / "x.PNG", overwrite=False, dtype="uint16", ndim=2, colour=False)
    check_output(tmp_path / "x.png", overwrite=False, dtype=np.uint8, ndim=3)
    check_output(tmp_path / "x.webp", overwrite=False, dtype=np.uint8, ndim=3, colour=True, transparent=True)
    check_output(str(tmp_path / "x.tiff"), overwrite=False, dtype=">f4", ndim=3, colour=True)


def test_the_message_is_that_of_writing(tmp_path: Path) -> None:
    pixels = np.zeros((16, 16, 3), np.float32)
    messages = []
    for refuse in (
        lambda path: write_image(path, pixels),
        lambda path: check_output(path, overwrite=False, dtype=pixels.dtype, ndim=pixels.ndim, colour=True),
    ):
        with pytest.raises(ValueError, match="PNG cannot hold") as refused:
            refuse(tmp_path / "x.png")
        messages.append(str(refused.value))
    assert messages[0] == messages[1]


@pytest.mark.parametrize("check", [check_output, check_file])
def test_places_that_cannot_be_written(tmp_path: Path, check: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(FileNotFoundError, match=r"no/x\.png: the folder .*no does not exist; create it first"):
        check(tmp_path / "no" / "x.png", overwrite=False)
    (tmp_path / "folder.png").mkdir()
    with pytest.raises(FileExistsError, match=r"folder\.png: is a folder; expected a file name"):
        check(tmp_path / "folder.png", overwrite=True)
    (tmp_path / "old.png").write_text("mine")
    with pytest.raises(FileExistsError, match=r"old\.png: exists already; pass --overwrite"):
        check(tmp_path / "old.png", overwrite=False)
    check(tmp_path / "old.png", overwrite=True)
    monkeypatch.setattr(os, "access", lambda path, _: Path(path) != tmp_path)  # root may write anywhere
    with pytest.raises(PermissionError, match=r"new\.png: nothing can be written to the folder .*; choose another"):
        check(tmp_path / "new.png", overwrite=True)


@pytest.mark.parametrize("overwrite", [False, True])
def test_a_source_is_never_overwritten(tmp_path: Path, overwrite: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    source = tmp_path / "a.png"
    source.write_text("mine")
    (tmp_path / "link.png").symlink_to(source)
    monkeypatch.chdir(tmp_path)
    for path in ("a.png", "./a.png", tmp_path / "link.png"):
        with pytest.raises(ValueError, match=r"is the source .*a\.png; a source is never overwritten, give another"):
            check_output(path, overwrite=overwrite, sources=["b.png", source])
    with pytest.raises(ValueError, match="never overwritten"):
        check_file("c.png", overwrite=overwrite, sources=[tmp_path / "c.png"])  # not even one that is yet to come
    check_output("d.png", overwrite=overwrite, sources=[source])


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


def test_a_disk_that_is_full_is_said_of_the_file_that_was_asked_for(tmp_path: Path) -> None:
    """A limit for the size of files, which the system tells as it tells a full disk."""
    command = [sys.executable, "-m", "tests.io.full_disk", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert len(lines) == 14, lines
    for line in lines:
        name = line.split()[0]
        assert f"{tmp_path / name}: cannot be written: " in line
        assert f"-{name}" not in line  # no temporary name
    assert sum("File too large" in line for line in lines) >= 10
