"""The guides of volumes, of the classifier and of training."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from nmfuse.data import brain_phantom
from nmfuse.io import read_image
from tests.guides.running import contrast, run_guide

pytestmark = pytest.mark.usefixtures("one_thread")


def test_volumes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    nibabel = pytest.importorskip("nibabel")
    pydicom = pytest.importorskip("pydicom")
    run_guide("guides/volumes.md", tmp_path, monkeypatch)
    from tests.data.make_nifti import lesion

    ball = lesion(80, 12)[:, ::-1]  # as it is read: rows from back to front
    t1, flair, fused = (read_image(name).pixels for name in ("nifti/t1.nii.gz", "nifti/flair.nii.gz", "fused.nii.gz"))
    middle = len(ball) // 2
    seen = [contrast(volume[middle], ball[middle]) for volume in (t1, flair, fused)]
    assert seen[0] < 0.2 * seen[1]
    assert seen[2] > 0.25 * seen[1]
    headers = [nibabel.load(name).header for name in ("nifti/t1.nii.gz", "fused.nii.gz")]
    assert np.array_equal(*(header.get_sform() for header in headers))
    phantom = brain_phantom(80, depth=12)
    bone = (phantom.ct[6] > 0.8)[::-1][4:-4, 4:-4]
    assert read_image("slice.png").pixels[4:-4, 4:-4][bone].mean() > 180  # which T1 shows black
    assert phantom.t1[6][::-1][4:-4, 4:-4][bone].mean() < 0.2
    dataset = pydicom.dcmread("fused.dcm")
    assert dataset.NumberOfFrames == 10
    assert dataset.ImageType[0] == "DERIVED"
    assert str(dataset.PatientName) == "Phantom^Digital"


def test_train(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run_guide("guides/train.md", tmp_path, monkeypatch)
    assert read_image("fused.png").shape == (96, 128, 3)


def test_classify(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("sklearn")
    run_guide("guides/classify.md", tmp_path, monkeypatch)
    assert list(Path("heat").iterdir())
