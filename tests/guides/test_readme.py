"""What README.md shows works: its Python is run here, its shell commands are those of the guides, run there."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from nmfuse.data import brain_phantom
from nmfuse.io import read_image, write_image
from tests.guides.running import BLOCK, NOT_RUN, ROOT

README = (ROOT / "README.md").read_text(encoding="utf-8")


def lines_of_shell(text: str) -> list[str]:
    blocks = [body for kind, body in BLOCK.findall(text) if kind == "shell"]
    return [line for line in "".join(blocks).splitlines() if not line.startswith(NOT_RUN)]


def test_python(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, one_thread: None) -> None:
    monkeypatch.chdir(tmp_path)
    phantom = brain_phantom(64)
    write_image("mri.png", np.rint(255 * phantom.t2).astype(np.uint8))
    write_image("ct.png", np.rint(255 * phantom.ct).astype(np.uint8))
    (body,) = (body for kind, body in BLOCK.findall(README) if kind == "python")
    exec(compile(body, "README.md", "exec"), {})  # not a stranger's
    fused = read_image("fused_too.png").pixels
    assert fused.shape == (64, 64)
    assert all(
        np.corrcoef(fused.ravel(), read_image(name).pixels.ravel())[0, 1] > 0.5 for name in ("mri.png", "ct.png")
    )


def test_shell() -> None:
    guides = [ROOT / "docs" / "start.md", *(ROOT / "docs" / "guides").glob("*.md")]
    run = {line for page in guides for line in lines_of_shell(page.read_text(encoding="utf-8"))}
    assert len(lines_of_shell(README)) == 6
    assert set(lines_of_shell(README)) <= run


def test_length() -> None:
    assert len(README.splitlines()) <= 150
