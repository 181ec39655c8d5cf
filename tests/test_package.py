"""What importing costs, what works without torch, and what a child process inherits."""

from __future__ import annotations

import multiprocessing
import os
import pickle
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import numpy as np
import pytest

import nmfuse
from nmfuse import _cpu

ROOT = Path(__file__).resolve().parents[1]


def python(code: str, **environment: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env=os.environ | environment
    )
    return done.stdout.strip()


def test_import_leaves_torch_and_everything_heavy_alone() -> None:
    heavy = python(
        "import sys, nmfuse; print(*(m for m in ('torch','scipy','skimage','matplotlib','typer') if m in sys.modules))"
    )
    assert heavy == ""


def test_kernels_work_where_torch_is_not_installed() -> None:
    without_torch = "import sys; sys.modules['torch'] = None; import numpy as np, nmfuse; "
    assert python(without_torch + "print(nmfuse.hannmean(np.ones((4, 4)))[0, 0])") == "1.0"
    message = python(without_torch + "\ntry:\n nmfuse.fuse\nexcept ImportError as e: print(e)")
    assert "torch" in message
    assert "pip install torch" in message


def test_one_version() -> None:
    declared = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    assert nmfuse.__version__ == declared == _cpu.version
    assert re.search(rf"^## {re.escape(declared)}", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)


def test_config_says_what_this_build_is() -> None:
    config = nmfuse.config()
    assert config["nmfuse"] == nmfuse.__version__
    assert {"compiler", "flags", "instruction set", "threads", "torch", "cuda"} <= set(config)


@pytest.mark.parametrize("isa", ["baseline", "avx2", "avx512"])
def test_instruction_set_can_be_forced_down(isa: str) -> None:
    best = python("from nmfuse import _cpu; print(_cpu.isa())")
    order = ["baseline", "avx2", "avx512"]
    if order.index(isa) <= order.index(best):
        assert python("from nmfuse import _cpu; print(_cpu.isa())", NMFUSE_FORCE_ISA=isa) == isa
    else:
        with pytest.raises(subprocess.CalledProcessError):
            python("from nmfuse import _cpu; _cpu.isa()", NMFUSE_FORCE_ISA=isa)


def test_thread_count_follows_the_environment() -> None:
    ask = "import nmfuse; print(nmfuse.num_threads())"
    assert python(ask, NMFUSE_NUM_THREADS="1") == "1"
    assert python(ask, OMP_NUM_THREADS="1") == "1"
    assert int(python(ask)) >= 1
    with pytest.raises(ValueError, match="n: got 0; expected an int of at least 1"):
        nmfuse.set_num_threads(0)


def _smooth(x: np.ndarray) -> np.ndarray:
    return nmfuse.hannmean(x)


@pytest.mark.filterwarnings("ignore:.*use of fork.*:DeprecationWarning")
def test_forked_children_have_threads_of_their_own() -> None:
    x = np.random.default_rng(0).random((512, 512))
    nmfuse.set_num_threads(4)
    try:
        expected = _smooth(x)  # the parent's pool is running
        with multiprocessing.get_context("fork").Pool(2) as pool:
            for result in pool.map(_smooth, [x] * 4):
                np.testing.assert_array_equal(result, expected)
    finally:
        nmfuse.set_num_threads(None)


def test_a_fuser_can_be_pickled() -> None:
    fuser = nmfuse.Fuser("paper", rank=8)
    again = pickle.loads(pickle.dumps(fuser))
    assert (again, again.method, again.options.rank) == (fuser, "paper", 8)
    assert again != nmfuse.Fuser("paper")


def test_what_has_moved_says_where() -> None:
    with pytest.raises(AttributeError, match=r"nmfuse\.baselines: is nmfuse\.methods; call nmfuse\.fuse"):
        _ = nmfuse.baselines
    with pytest.raises(AttributeError, match=r"nmfuse\.fusion: is nmfuse\.fuse, .* now"):
        _ = nmfuse.fusion
    with pytest.raises(AttributeError, match=r"Fuser\.paper: is Fuser"):
        nmfuse.Fuser.paper()


def test_ctrl_c_ends_a_long_factorization() -> None:
    code = (
        "import numpy as np, nmfuse, os, signal, threading, time\n"
        "V = np.random.default_rng(0).random((400, 20000), dtype=np.float32)\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"  # ignored in a job in the background
        "threading.Timer(1.0, os.kill, (os.getpid(), signal.SIGINT)).start()\n"
        "try: nmfuse.nmf(V, 32, max_iter=10**6, tol=0, check_every=10**6)\n"
        "except KeyboardInterrupt: print('interrupted')"
    )
    assert python(code) == "interrupted"


def test_the_first_fusion_loads_no_compiler():
    """torch's compiler takes longer to import than torch, and than hundreds of small fusions."""
    fuse = "import sys, numpy as np, nmfuse; nmfuse.fuse(*np.random.default_rng(0).random((2, 32, 32), np.float32)); "
    assert python(fuse + "print('torch' in sys.modules, 'torch._dynamo' in sys.modules)") == "True False"
