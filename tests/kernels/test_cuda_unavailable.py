"""What is said where there is no CUDA device: the reason, by name, and nothing else changes."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys

import numpy as np
import pytest

import nmfuse
from nmfuse.kernels import _native


class OnDevice:
    """An array that says it is on CUDA device 0."""

    def __dlpack_device__(self) -> tuple[int, int]:
        return 2, 0


@pytest.fixture
def _no_cuda(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nmfuse.cuda, "why", lambda: "no CUDA driver")


@pytest.mark.usefixtures("_no_cuda")
def test_asking_for_a_device_names_the_reason() -> None:
    assert not nmfuse.cuda.is_available()
    with pytest.raises(nmfuse.CudaUnavailable, match="nmfuse cannot use CUDA: no CUDA driver"):
        _native.native_for(OnDevice())


def test_availability_and_reason_belong_together() -> None:
    assert nmfuse.cuda.is_available() == (nmfuse.cuda.why() == "")
    assert nmfuse.config()["cuda"]


def test_a_hidden_device_is_a_reason_not_an_error() -> None:
    code = "import nmfuse, pickle; print(nmfuse.cuda.is_available(), bool(nmfuse.cuda.why()))"
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=os.environ | {"CUDA_VISIBLE_DEVICES": ""},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.split() == ["False", "True"]


def test_errors_can_be_pickled() -> None:
    for kind in (nmfuse.CudaUnavailable, nmfuse.CudaError):
        error = pickle.loads(pickle.dumps(kind("why")))
        assert isinstance(error, kind)
        assert str(error) == "why"


def test_other_devices_are_refused() -> None:
    class Elsewhere:
        def __dlpack_device__(self) -> tuple[int, int]:
            return 8, 0

    with pytest.raises(ValueError, match="DLPack device type 8; expected the CPU"):
        _native.native_for(Elsewhere())
    with pytest.raises(TypeError, match=r"x: expected an array .*, got OnDevice"):
        nmfuse.hannmean(OnDevice())
    assert nmfuse.hannmean(np.ones((3, 3))).sum() == 9
