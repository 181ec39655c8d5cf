"""``nmfuse export``: what other programs run gives what nmfuse gives."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

import nmfuse
from nmfuse.cli.app import app

pytestmark = pytest.mark.usefixtures("one_thread")


def test_onnxruntime_gives_what_the_module_gives(tmp_path: Path) -> None:
    onnxruntime = pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    path = tmp_path / "fuse.onnx"
    done = CliRunner().invoke(app, ["export", "--size", "33,40", "-o", str(path)], catch_exceptions=False)
    assert done.exit_code == 0
    assert [file.name for file in tmp_path.iterdir()] == ["fuse.onnx"]
    session = onnxruntime.InferenceSession(path)
    assert [source.name for source in session.get_inputs()] == ["source_1", "source_2"]
    sources = torch.rand(2, 1, 1, 33, 40, generator=torch.Generator().manual_seed(0))
    found = session.run(["fused"], {f"source_{k + 1}": x.numpy() for k, x in enumerate(sources)})[0]
    np.testing.assert_allclose(found, nmfuse.Fuser().module(2)(*sources).numpy(), atol=1e-4)
    assert float(np.ptp(found)) > 0.1


def test_the_module_gives_what_fuse_gives() -> None:
    sources = torch.rand(3, 2, 1, 24, 20, generator=torch.Generator().manual_seed(1))
    for options in ({}, {"denoise": "all", "smooth": True, "sharpen": 0.5}):
        fuser = nmfuse.Fuser(**options)
        found = fuser.module(3)(*sources)
        for n in range(2):
            torch.testing.assert_close(found[n, 0], fuser.fuse(*sources[:, n, 0]), atol=1e-5, rtol=0)


def test_what_is_refused(tmp_path: Path) -> None:
    from nmfuse.cli.exporting import run_export

    there = tmp_path / "there.onnx"
    there.touch()
    options = {"sources": 2, "size": (32, 32), "batch": 1, "overwrite": False}
    with pytest.raises(FileExistsError):
        run_export(nmfuse.Fuser(), there, **options)
    with pytest.raises(ValueError, match=r"its suffix is '.pb'; expected .onnx, or .pt2"):
        run_export(nmfuse.Fuser(), tmp_path / "x.pb", **options)
    with pytest.raises(ValueError, match="have no ONNX form"):
        run_export(nmfuse.Fuser(smooth=True), tmp_path / "x.onnx", **options)
    with pytest.raises(TypeError, match="module: 'laplacian' is no network"):
        nmfuse.Fuser("laplacian").module(2)
    with pytest.raises(ValueError, match="sources: got 1; expected an int of at least 2"):
        nmfuse.Fuser().module(1)
    with pytest.raises(ValueError, match="sources: got 3; this module fuses 2"):
        nmfuse.Fuser().module(2)(*torch.rand(3, 1, 1, 20, 20))
    done = CliRunner().invoke(app, ["export", "--size", "8,40", "-o", str(tmp_path / "x.onnx")])
    assert done.exit_code == 2
    assert [file.name for file in tmp_path.iterdir()] == ["there.onnx"]
