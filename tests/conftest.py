"""Fixtures that every test may use."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nmfuse.kernels import _native

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="session")
def shared_dir() -> Path:
    """Return the folder of real images and oracles beside the repository (NMFUSE_SHARED names another place)."""
    folder = Path(os.environ.get("NMFUSE_SHARED", ROOT.parent / "shared"))
    if (folder / "data").is_dir():
        return folder
    reason = f"the research images and oracles are not at {folder} (they cannot be published)"
    if os.environ.get("CI"):
        pytest.fail(f"{reason}: CI needs them")
    pytest.skip(reason)


class Backend:
    """Where the kernels run, and how arrays get there and back."""

    def __init__(self, name: str) -> None:
        self.name = name

    def array(self, values: np.ndarray) -> Any:
        return values

    def numpy(self, values: Any) -> np.ndarray:
        return values


@pytest.fixture(params=["cpu"])
def backend(request: pytest.FixtureRequest) -> Iterator[Backend]:
    """Run a kernel test on each backend."""
    with _native.cpu_arrays_run_on(f"nmfuse._{request.param}"):
        yield Backend(request.param)
