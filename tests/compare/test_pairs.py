"""Finding pairs, and what is wrong with a folder or a table of them."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

from nmfuse.compare import find_pairs


def test_folder_of_folders_and_a_folder(pairs_dir: Path) -> None:
    assert [pair.label for pair in find_pairs(pairs_dir)] == ["mri_ct/00", "mri_ct/01", "mri_pet/00"]
    assert [pair.label for pair in find_pairs(pairs_dir / "mri_ct")] == ["mri_ct/00", "mri_ct/01"]
    both = find_pairs([pairs_dir / "mri_pet", pairs_dir / "mri_ct"])
    assert [pair.label for pair in both] == ["mri_ct/00", "mri_ct/01", "mri_pet/00"]


def test_colour_is_read_as_it_is_and_as_luminance(pairs_dir: Path) -> None:
    pair = find_pairs(pairs_dir)[-1]
    assert pair.images()[1].shape == (64, 64, 3)
    assert (pair.luminances()[1].shape, pair.luminances()[1].dtype) == ((64, 64), np.uint8)


def test_table(pairs_dir: Path, tmp_path: Path) -> None:
    for side in "AB":
        shutil.copy(pairs_dir / "mri_ct" / f"00_{side}.png", tmp_path / f"{side}.png")
    table = tmp_path / "mine.csv"
    table.write_text("a,b,kind,name\nA.png,B.png,brain,first\nB.png,A.png,,\n")
    assert [pair.label for pair in find_pairs(table)] == ["brain/first", "mine/B"]
    table.write_text("a,c\nA.png,B.png\n")
    with pytest.raises(ValueError, match="has no column b; expected a, b"):
        find_pairs(table)
    table.write_text("a,b\nA.png,C.png\n")
    with pytest.raises(FileNotFoundError, match=r"C\.png: no such file, named in .*mine\.csv"):
        find_pairs(table)


def test_what_is_wrong_is_said(pairs_dir: Path, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="no such folder or CSV file"):
        find_pairs(tmp_path / "nowhere")
    with pytest.raises(ValueError, match="has no pairs"):
        find_pairs(tmp_path)
    (tmp_path / "01_A.png").write_bytes(b"")
    with pytest.raises(ValueError, match=r"01_A\.png: has 0 partners 01_B"):
        find_pairs(tmp_path)
    with pytest.raises(ValueError, match="is mri_ct/00, and so is"):
        find_pairs([pairs_dir, pairs_dir / "mri_ct"])
