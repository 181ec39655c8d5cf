"""The table of formats, and what packages add to it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nmfuse.images import Image
from nmfuse.io import Format, check_output, find_sets, formats, is_image, read_image, suffixes, write_image


def _read(path: Path) -> Image:
    return Image(np.loadtxt(path, np.uint8, ndmin=2))


def _write(path: Path, image: Image) -> None:
    np.savetxt(path, image.pixels, "%d")


TEXT = Format("text", (".txt", ".txt.old"), _read, _write, grey=("uint8",))
READ_ONLY = Format("archive", (".arc",), _read)
PNG_AGAIN = Format("another PNG", (".png",), _read)
NO_FORMAT = "png"


@pytest.fixture
def add(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., None]]:
    """Install a package with entry points whose values are names of this module."""

    def installed(*names: str) -> None:
        points = [EntryPoint(name, f"{__name__}:{name}", formats.GROUP) for name in names]
        monkeypatch.setattr(formats, "entry_points", lambda group: points if group == formats.GROUP else [])
        formats._table.cache_clear()

    yield installed
    monkeypatch.undo()
    formats._table.cache_clear()


def test_suffixes_are_those_that_are_read() -> None:
    assert set(suffixes()) >= {".png", ".jpg", ".jpeg", ".bmp", ".webp", ".tif", ".tiff"}
    assert is_image(Path("folder.csv/X.Tiff"))
    assert not is_image("folder.png/x")
    assert not is_image(".png")


def test_entry_points_add_formats(add: Callable[..., None], tmp_path: Path) -> None:
    assert not is_image("x.txt")
    add("TEXT", "READ_ONLY")
    assert suffixes()[-3:] == (".txt", ".txt.old", ".arc")
    for name in ("01_A.txt", "01_B.txt.old"):
        write_image(tmp_path / name, np.eye(3, dtype=np.uint8))
    image = read_image(tmp_path / "01_B.txt.old")
    np.testing.assert_array_equal(image, np.eye(3))
    assert (image.name, image.dtype) == ("01_B.txt.old", np.uint8)
    (tmp_path / "01_B.txt.old").rename(tmp_path / "01_B.txt")
    assert len(find_sets(tmp_path)[0].images()) == 2
    with pytest.raises(
        ValueError, match=r"x\.arc: archive cannot hold uint8 images \(it is only read\); write \.png, "
    ):
        check_output(tmp_path / "x.arc", overwrite=False, dtype="uint8")
    with pytest.raises(ValueError, match=r"x\.txt: text cannot hold colour images \(it holds grey of uint8, no colour"):
        check_output(tmp_path / "x.txt", overwrite=False, colour=True)
    (tmp_path / "broken.txt").write_text("1 2\n3")
    with pytest.raises(ValueError, match="number of columns changed"):
        read_image(tmp_path / "broken.txt")


@pytest.mark.parametrize(
    ("name", "error", "message"),
    [
        (
            "PNG_AGAIN",
            ValueError,
            r"the entry point PNG_AGAIN \(.*:PNG_AGAIN\) has \.png, which PNG has already; uninst",
        ),
        ("NO_FORMAT", TypeError, r"the entry point NO_FORMAT \(.*\) is a str; expected a nmfuse\.io\.Format"),
    ],
)
def test_entry_points_that_are_refused(
    add: Callable[..., None], name: str, error: type[Exception], message: str, **_: Any
) -> None:
    add(name)
    with pytest.raises(error, match=message):
        suffixes()
