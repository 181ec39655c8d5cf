"""Brackets and stacks by EXIF: what belongs together by camera, size, time and exposure, and what does not."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from nmfuse.io import find_brackets

ORIGINAL, DIGITIZED, FRACTION, SHUTTER, APERTURE, ISO, BIAS = 36867, 36868, 37521, 33434, 33437, 34855, 37380


def shoot(path: Path, seconds: float, size: tuple[int, int] = (16, 12), model: str = "X", **tags: Any) -> None:
    exif = Image.Exif()
    exif[272], exif[274] = model, tags.pop("orientation", 1)
    whole = int(seconds)
    inner = {ORIGINAL: f"2024:06:01 12:{whole // 60:02d}:{whole % 60:02d}"}
    if seconds != whole:
        inner[FRACTION] = f"{seconds - whole:.2f}"[2:]
    named = {"shutter": SHUTTER, "aperture": APERTURE, "iso": ISO, "bias": BIAS}
    exif[34665] = inner | {named[name]: value for name, value in tags.items()}
    Image.new("L", size).save(path, exif=exif.tobytes())


def found(folder: Path, **options: Any) -> list[str]:
    return ["".join(path.stem for path in one.paths) for one in find_brackets(folder, **options)[0]]


def test_brackets_and_stacks(tmp_path: Path) -> None:
    """Two brackets without a pause, after a while a stack, and a bracket that follows it at once."""
    shutters = [1 / 100, 1 / 25, 1 / 400] * 2 + [1 / 60] * 4 + [1 / 30, 1 / 250]
    for k, (letter, shutter) in enumerate(zip("abcdefghijkl", shutters, strict=True)):
        shoot(tmp_path / f"{letter}.jpg", k if k < 6 else k + 10, shutter=shutter)
    assert found(tmp_path) == ["abc", "def", "ghij", "kl"]


def test_the_time_between_is_from_end_to_begin(tmp_path: Path) -> None:
    shots = (("a", 0, 8.0), ("b", 9.5, 2.0), ("c", 12.25, 0.5), ("d", 60, 4.0), ("e", 63, 1.0))
    for letter, seconds, shutter in shots:
        shoot(tmp_path / f"{letter}.jpg", seconds, shutter=shutter)
    assert found(tmp_path) == ["abc", "de"]
    assert found(tmp_path, gap=1.4) == ["bc", "de"]
    assert found(tmp_path, gap=50) == ["abcde"]


def test_any_part_of_the_exposure_makes_a_bracket_and_noise_does_not(tmp_path: Path) -> None:
    for letter, iso, aperture in (("a", 100, 4.0), ("b", 400, 4.0), ("c", 100, 2.8), ("d", 105, 4.0), ("e", 98, 4.1)):
        shoot(tmp_path / f"{letter}.jpg", ord(letter) - 97, shutter=1 / 50, iso=iso, aperture=aperture)
    assert found(tmp_path) == ["abc", "de"]


def test_bias_alone_makes_a_bracket(tmp_path: Path) -> None:
    for letter, bias in zip("abcdef", (0, -2, 2) * 2, strict=True):
        shoot(tmp_path / f"{letter}.jpg", 0, bias=bias)
    assert found(tmp_path) == ["abc", "def"]


def test_cameras_sizes_and_formats_are_kept_apart(tmp_path: Path) -> None:
    for k in range(2):
        shoot(tmp_path / f"a{k}.jpg", k)
        shoot(tmp_path / f"b{k}.jpg", k, model="Y")
        shoot(tmp_path / f"c{k}.tif", k)
        shoot(tmp_path / f"d{k}.jpg", k, orientation=6)
    assert sorted(found(tmp_path)) == ["a0a1", "b0b1", "c0c1", "d0d1"]


def test_what_stands_alone_is_named(tmp_path: Path) -> None:
    for letter, seconds in (("a", 0), ("b", 1), ("c", 30)):
        shoot(tmp_path / f"{letter}.jpg", seconds)
    Image.new("L", (16, 12)).save(tmp_path / "d.png")
    (tmp_path / "e.jpg").write_text("broken")
    sets, alone = find_brackets(tmp_path)
    assert [(one.kind, one.name) for one in sets] == [(tmp_path.name, "a")]
    assert {path.name for path in alone} == {"c.jpg", "d.png", "e.jpg"}
    assert "within 2 s makes a bracket or stack with it" in alone[tmp_path / "c.jpg"]
    assert alone[tmp_path / "d.png"] == "has no EXIF time (neither DateTimeOriginal nor DateTimeDigitized)"
    assert "cannot identify image file" in alone[tmp_path / "e.jpg"]


def test_what_is_wrong_is_said(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="gap: got -1; expected seconds, 0 or more"):
        find_brackets(tmp_path, gap=-1)
    shoot(tmp_path / "a.jpg", 0)
    with pytest.raises(ValueError, match=r"no pictures belong together by their EXIF; a\.jpg stands alone"):
        find_brackets(tmp_path)
    with pytest.raises(NotADirectoryError, match="is not a folder"):
        find_brackets(tmp_path / "no")
