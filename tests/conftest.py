"""Fixtures that every test may use."""

from __future__ import annotations

import os

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # torch's threads, when they wait, leave the cores to others

import shutil
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import nmfuse
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


@pytest.fixture(scope="module")
def one_thread() -> Iterator[None]:
    """Leave torch one thread: on tiny nets and busy cores several wait for each other, and cost tenfold."""
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--require-cuda", action="store_true", help="fail where a test that needs a CUDA device cannot run"
    )


def _missing(request: pytest.FixtureRequest, what: str, *, required: bool) -> None:
    if required:
        pytest.fail(f"{what}, and this run needs it")
    pytest.skip(what)


@pytest.fixture(scope="session")
def cuda(request: pytest.FixtureRequest) -> None:
    """Ask for a CUDA device; mark the test with pytest.mark.cuda too."""
    if reason := nmfuse.cuda.why():
        _missing(request, f"no CUDA: {reason}", required=request.config.getoption("--require-cuda"))


@pytest.fixture
def browser() -> Iterator[Any]:
    """Return a headless Chromium, driven by Selenium."""
    webdriver = pytest.importorskip("selenium.webdriver")
    binary, driver = shutil.which("chromium"), shutil.which("chromedriver")
    if binary is None or driver is None:
        pytest.skip("needs chromium and chromedriver (Debian: apt install chromium chromium-driver)")
    options = webdriver.ChromeOptions()
    options.binary_location = binary
    flags = ("headless=new", "no-sandbox", "disable-gpu", "disable-dev-shm-usage", "window-size=1400,1200")
    for flag in flags:
        options.add_argument(f"--{flag}")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    found = webdriver.Chrome(options=options, service=webdriver.ChromeService(executable_path=driver))
    try:
        yield found
        assert [entry for entry in found.get_log("browser") if entry["level"] == "SEVERE"] == []
    finally:
        found.quit()


class Backend:
    """Where the kernels run, and how arrays get there and back."""

    def __init__(self, name: str) -> None:
        self.name = name

    def array(self, values: np.ndarray) -> Any:
        if self.name != "cuda":
            return values
        import cupy

        base = values if values.base is None else values.base  # a view stays a view, with its strides
        if base is values or not isinstance(base, np.ndarray) or base.dtype != values.dtype or 0 in values.shape:
            return cupy.asarray(values)
        offset = values.__array_interface__["data"][0] - base.__array_interface__["data"][0]
        there = cupy.asarray(base)
        if there.strides != base.strides:
            return cupy.asarray(values)
        return cupy.ndarray(values.shape, values.dtype, there.data + offset, values.strides)

    def numpy(self, values: Any) -> np.ndarray:
        return values if isinstance(values, np.ndarray) else values.get()


@pytest.fixture(params=["cpu", "simt", pytest.param("cuda", marks=pytest.mark.cuda)])
def backend(request: pytest.FixtureRequest) -> Iterator[Backend]:
    """Run a kernel test on each backend: the CPU, the CUDA kernels on the SIMT runner, and a CUDA device."""
    name = request.param
    if name == "cuda":
        request.getfixturevalue("cuda")
    elif find_spec(f"nmfuse._{name}") is None:
        what = f"nmfuse._{name} is not built (make test builds it with NMFUSE_SIMT=ON)"
        _missing(request, what, required="CI" in os.environ)
    with _native.cpu_arrays_run_on("nmfuse._cpu" if name == "cuda" else f"nmfuse._{name}"):
        yield Backend(name)
