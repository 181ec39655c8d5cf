"""Finding sets of images, and what is wrong with a folder or a table of them."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

from nmfuse.data import brain_phantom
from nmfuse.io import SourceSet, find_sets, write_image


@pytest.fixture(scope="module")
def pairs_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two kinds: two grey pairs, and one whose second image is in colour and partly transparent."""
    folder = tmp_path_factory.mktemp("pairs")
    for kind, count in (("mri_ct", 2), ("mri_pet", 1)):
        (folder / kind).mkdir()
        for i in range(count):
            phantom = brain_phantom(64, seed=i)
            mri, ct = (np.rint(255 * x).astype(np.uint8) for x in (phantom.t2, phantom.ct))
            write_image(folder / kind / f"{i:02d}_A.png", mri)
            if kind == "mri_ct":
                write_image(folder / kind / f"{i:02d}_B.png", ct)
            else:
                colour = np.stack([ct, mri // 2, mri // 4], axis=-1)
                write_image(folder / kind / f"{i:02d}_B.png", colour, valid=np.arange(64 * 64).reshape(64, 64) > 9)
    return folder


def empty(folder: Path, *names: str) -> Path:
    folder.mkdir(exist_ok=True)
    for name in names:
        (folder / name).write_bytes(b"")
    return folder


def test_folder_of_folders_and_a_folder(pairs_dir: Path) -> None:
    assert [one.label for one in find_sets(pairs_dir)] == ["mri_ct/00", "mri_ct/01", "mri_pet/00"]
    assert [one.label for one in find_sets(str(pairs_dir / "mri_ct"))] == ["mri_ct/00", "mri_ct/01"]
    both = find_sets([pairs_dir / "mri_pet", pairs_dir / "mri_ct"])
    assert [one.label for one in both] == ["mri_ct/00", "mri_ct/01", "mri_pet/00"]


def test_images_are_read_as_they_are_and_as_luminance(pairs_dir: Path) -> None:
    one = find_sets(pairs_dir)[-1]
    assert [image.shape for image in one.images()] == [(64, 64), (64, 64, 3)]
    grey = one.luminances()[1]
    assert (grey.shape, grey.dtype, grey.name) == ((64, 64), np.uint8, "00_B.png")
    assert np.count_nonzero(~grey.valid) == 10


def test_more_than_two_sources(tmp_path: Path) -> None:
    names = ("focus_A.png", "focus_B.tif", "focus_C.png", "focus_D.jpg", "two_A.png", "two_B.png", "holiday_Z.png")
    folder = empty(tmp_path / "stacks", *names, "focus_A.txt", ".focus_A.png", "notes_A.csv")
    stack, pair = find_sets(folder)
    assert stack == SourceSet("stacks", "focus", tuple(folder / name for name in names[:4]))
    assert pair.paths == (folder / "two_A.png", folder / "two_B.png")
    table = tmp_path / "stacks.csv"
    table.write_text(
        "a,b,c,d,n,name\n"
        "stacks/two_A.png,stacks/two_B.png,stacks/focus_C.png,,7,three\n"
        "stacks/two_A.png,stacks/two_B.png,,,8,\n"
    )
    assert [(one.label, len(one.paths)) for one in find_sets(table)] == [("stacks/three", 3), ("stacks/two", 2)]
    table.write_text("a,b,c,d\nstacks/two_A.png,stacks/two_B.png,,stacks/focus_C.png\n")
    with pytest.raises(ValueError, match=r"stacks\.csv: line 2 has no c; expected a file"):
        find_sets(table)


def test_table(pairs_dir: Path, tmp_path: Path) -> None:
    for side in "AB":
        shutil.copy(pairs_dir / "mri_ct" / f"00_{side}.png", tmp_path / f"{side}.png")
    table = tmp_path / "mine.csv"
    table.write_text("a,b,kind,name\nA.png,B.png,brain,first\nB.png,A.png,,\n")
    assert [one.label for one in find_sets(table)] == ["brain/first", "mine/B"]
    table.write_text("a,c\nA.png,B.png\n")
    with pytest.raises(ValueError, match="has no column b; expected a, b"):
        find_sets(table)
    table.write_text("a,b\nA.png,C.png\n")
    with pytest.raises(FileNotFoundError, match=r"C\.png: no such file, named in .*mine\.csv"):
        find_sets(table)
    table.write_text("a,b\nA.png,B.png\nA.png\n")
    with pytest.raises(ValueError, match=r"mine\.csv: line 3 has no b; expected a file"):
        find_sets(table)


def test_what_is_wrong_is_said(pairs_dir: Path, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="no such folder or CSV file"):
        find_sets(tmp_path / "nowhere")
    with pytest.raises(ValueError, match="has no pairs"):
        find_sets(tmp_path)
    with pytest.raises(ValueError, match="is mri_ct/00, and so is"):
        find_sets([pairs_dir, pairs_dir / "mri_ct"])


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (("01_A.png",), r"01_A\.png: has 0 partners 01_B\.\*; expected one"),
        (("01_B.png",), r"01_B\.png: has 0 partners 01_A\.\*; expected one"),
        (("01_A.png", "01_B.png", "01_B.tif"), r"01_A\.png: has 2 partners 01_B\.\*; expected one"),
        (("01_A.png", "01_B.png", "01_D.png"), r"01_D\.png: is named like a source, but there is no 01_C\.\*; rename"),
    ],
)
def test_sources_that_are_missing_or_there_twice(tmp_path: Path, names: tuple[str, ...], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        find_sets(empty(tmp_path / "x", *names))
