"""What users see where there is no CUDA device: the reason, by name, and nothing else changes.

Each case is a process of its own, in which CUDA cannot be used: the module was not built, or no device is visible.
"""

from __future__ import annotations

import json
import os
import pickle
import subprocess
import sys
import types

import numpy as np
import pytest

import nmfuse
from nmfuse.kernels import _native

# An import of nmfuse._cuda fails as where it was not built.
WITHOUT_MODULE = """
import sys
class Blocker:
    def find_spec(self, name, path=None, target=None):
        if name == "nmfuse._cuda":
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
sys.meta_path.insert(0, Blocker())
"""
# An array on CUDA device 0, of a library that says it is CuPy.
ARRAY_ON_A_DEVICE = """
import sys, types
cupy = types.ModuleType("cupy")
class ndarray:
    dtype, shape, itemsize = "float32", (4, 5), 4
    flags = types.SimpleNamespace(c_contiguous=True)
    data = types.SimpleNamespace(ptr=64)
    def __dlpack_device__(self):
        return 2, 0
cupy.ndarray = ndarray
sys.modules["cupy"] = cupy
"""
LOOK = """
import json, numpy, nmfuse
seen = {"available": nmfuse.cuda.is_available(), "why": nmfuse.cuda.why(), "config": nmfuse.config()["cuda"]}
try:
    nmfuse.hannmean(ndarray())
except nmfuse.CudaUnavailable as error:
    seen["error"] = str(error)
seen["on the CPU"] = nmfuse.hannmean(numpy.ones((4, 4))).tolist()
print(json.dumps(seen))
"""
WAYS = {
    "not built": (WITHOUT_MODULE, {}, "this build has no CUDA module (No module named 'nmfuse._cuda'); build it where"),
    "no device": ("", {"CUDA_VISIBLE_DEVICES": ""}, ""),
}


@pytest.mark.parametrize("way", WAYS)
def test_users_are_told_why(way: str) -> None:
    before, environment, reason = WAYS[way]
    done = subprocess.run(
        [sys.executable, "-c", before + ARRAY_ON_A_DEVICE + LOOK],
        env=os.environ | environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    seen = json.loads(done.stdout)
    assert seen["available"] is False
    assert seen["why"].startswith(reason)
    assert len(seen["why"].split()) > 2  # a sentence, not a code
    assert seen["error"] == f"the array is on a CUDA device, but nmfuse cannot use CUDA: {seen['why']}"
    assert seen["config"] == f"not available: {seen['why']}"
    assert seen["on the CPU"] == np.ones((4, 4)).tolist()


def test_errors_can_be_pickled() -> None:
    for kind in (nmfuse.CudaUnavailable, nmfuse.CudaError):
        error = pickle.loads(pickle.dumps(kind("why")))
        assert isinstance(error, kind)
        assert str(error) == "why"


def test_other_devices_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    class Elsewhere:
        dtype, shape = "float32", (4, 5)

        def __dlpack_device__(self) -> tuple[int, int]:
            return 8, 0

    monkeypatch.setitem(sys.modules, "cupy", types.SimpleNamespace(ndarray=Elsewhere))
    with pytest.raises(ValueError, match="DLPack device type 8; expected the CPU"):
        _native.native_for(Elsewhere())
    with pytest.raises(ValueError, match="DLPack device type 8; expected the CPU"):
        nmfuse.hannmean(Elsewhere())
