"""What fuzzing starts from is read, some changes of it are read or refused, and what it has found stays found."""

from __future__ import annotations

import struct
import warnings
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from nmfuse.io import read_image
from tests.fuzz.check import check_read
from tests.fuzz.seeds import FORMATS, seeds

CHANGES = 12  # of each seed
_INTERESTING = (0, 1, 0x7F, 0x80, 0xFF)


@pytest.fixture(autouse=True)
def _quiet(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("NMFUSE_MAX_PIXELS", str(2**21))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of broken files libraries say much
        yield


@pytest.mark.parametrize("suffix", FORMATS)
def test_seeds_and_changes_of_them(tmp_path: Path, suffix: str) -> None:
    rng, path = np.random.default_rng(0), tmp_path / f"x{suffix}"
    for data in seeds(suffix):
        path.write_bytes(data)
        assert check_read(path)
        for _ in range(CHANGES):
            changed = bytearray(data)
            for at in rng.integers(0, min(len(data), 400), rng.integers(1, 4)):  # headers come first
                changed[at] = rng.choice(_INTERESTING)
            path.write_bytes(changed)
            check_read(path)


def tiff(width: int, height: int, strips: bytes) -> bytes:
    """Return a TIFF of one directory, of 8-bit grey, whose strips are tags of their own."""
    tags = [(256, 3, 1, width), (257, 3, 1, height), (258, 3, 1, 8), (262, 3, 1, 1)]
    entries = b"".join(struct.pack("<HHII", *tag) for tag in tags) + strips
    return b"II*\0" + struct.pack("<IH", 8, len(entries) // 12) + entries + bytes(4)


FOUND = {
    "a TIFF of no columns": ("x.tif", tiff(0, 9, b"")),
    "a NIfTI without slices": ("x.nii", seeds(".nii")[0][:46] + bytes(2) + seeds(".nii")[0][48:]),
    "a MetaImage of -2 axes, which ITK reads for ever": (
        "x.mha",
        b"ObjectType = Image\nNDims =-2\nDimSize = -2 9\nElementType = MET_UCHAR\nElementDataFile = LOCAL\n",
    ),
}


@pytest.mark.parametrize("name", FOUND)
def test_what_was_found(tmp_path: Path, name: str) -> None:
    file, data = FOUND[name]
    (tmp_path / file).write_bytes(data)
    with pytest.raises(ValueError, match=rf"{file}: not a readable image"):
        read_image(tmp_path / file)
