"""Dictionary learning: one short run, and clear errors."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from nmfuse.data import brain_phantom
from nmfuse.io import write_image
from nmfuse.training.dictionaries import train_dictionaries

pytest.importorskip("sklearn")


@pytest.fixture(scope="module")
def photographs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("photographs")
    rng = np.random.default_rng(0)
    for i in range(2):
        noise = np.cumsum(np.cumsum(rng.standard_normal((400, 400)), 0), 1)
        for k, image in enumerate((noise, noise.T, brain_phantom(256, seed=i).t1)):
            scaled = (image - image.min()) / np.ptp(image)
            write_image(folder / f"{i}{k}.png", np.rint(255 * scaled).astype(np.uint8))
    return folder


def test_a_short_run(photographs: Path, tmp_path: Path) -> None:
    reports: list[tuple[int, int, float]] = []
    train_dictionaries(photographs, tmp_path / "x.npz", patches=1100, progress=lambda *seen: reports.append(seen))
    with np.load(tmp_path / "x.npz") as x:
        assert (x["general"].shape, x["oriented"].shape, x["general"].dtype) == ((64, 256), (6, 64, 256), np.int8)
    assert [report[:2] for report in reports] == [(k, 7) for k in range(1, 8)]
    assert all(0 <= error < 0.9 for *_, error in reports)


def test_errors_come_before_work(photographs: Path, tmp_path: Path) -> None:
    (tmp_path / "there.npz").write_bytes(b"kept")
    with pytest.raises(FileExistsError, match="exists already"):
        train_dictionaries(photographs, tmp_path / "there.npz")
    assert (tmp_path / "there.npz").read_bytes() == b"kept"
    with pytest.raises(ValueError, match=r"patches of orientation \d; expected 1024, give more images"):
        train_dictionaries(photographs, tmp_path / "new.npz", patches=10)
    assert not (tmp_path / "new.npz").exists()
