"""The guides of two images, folders, and how results are judged."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import nmfuse
from nmfuse.io import read_image
from tests.guides.running import ROOT, run_guide

pytestmark = pytest.mark.usefixtures("one_thread")


def test_start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run_guide("start.md", tmp_path, monkeypatch)
    np.testing.assert_array_equal(read_image("fused.png").pixels, read_image("fused_too.png").pixels)
    assert "<html" in Path("report.html").read_text(encoding="utf-8")


def test_two_images(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    names = run_guide("guides/two_images.md", tmp_path, monkeypatch)
    assert read_image("three.png").pixels.shape == (128, 128, 3)
    full = nmfuse.fuse(*(read_image(name).pixels for name in ("mri.png", "pet.png")))
    spread = [np.ptp(pixels.astype(float), axis=-1).mean() for pixels in (full, read_image("less.png").pixels)]
    assert 0 < spread[1] < spread[0]  # less of the PET's colours
    assert not np.isnan(np.asarray(names["fused"])).any()


def test_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run_guide("guides/folders.md", tmp_path, monkeypatch)
    for folder, names in (("fused", "012"), ("listed", "02")):
        found = sorted(path.name for path in Path(folder).iterdir() if path.suffix == ".png")
        assert [name[-5] for name in found] == list(names)
    assert len(Path("pairs.jsonl").read_text(encoding="utf-8").splitlines()) == 3


def test_judge(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    names = run_guide("guides/judge.md", tmp_path, monkeypatch)
    assert 0.3 < names["found"].mean < 0.7  # type: ignore[attr-defined]  # of the average, half
    assert Path("report/report.html").exists()
    assert any(path.name.startswith("provenance") for path in Path("steps").iterdir())


def test_every_guide_is_run() -> None:
    guides = {path.stem for path in (ROOT / "docs" / "guides").glob("*.md")}
    tests = "".join(path.read_text(encoding="utf-8") for path in Path(__file__).parent.glob("test_*.py"))
    assert [name for name in guides if f'run_guide("guides/{name}.md"' not in tests] == []


def test_factorize(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("sklearn")
    names = run_guide("factorize.md", tmp_path, monkeypatch)
    assert np.isfinite(np.asarray(names["filled"])).all()
