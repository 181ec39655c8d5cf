"""Fusing in forked and spawned processes, in workers of a DataLoader, in threads, and not in a subinterpreter."""

from __future__ import annotations

import multiprocessing
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader, Dataset

import nmfuse

A, B = np.random.default_rng(0).random((2, 24, 32), np.float32)


class Fused(Dataset[np.ndarray]):
    """Each item is fused by the worker that is asked for it."""

    def __len__(self) -> int:
        return 2

    def __getitem__(self, index: int) -> np.ndarray:
        if index >= len(self):
            raise IndexError(index)
        return nmfuse.fuse(A, B[::-1].copy() if index else B)


# What a parent that has fused with two threads of torch leaves in a child: threads that do not exist.
FORKED = """
import multiprocessing, os, sys
import numpy as np, torch, nmfuse
a, b = np.random.default_rng(0).random((2, 160, 160), np.float32)
torch.set_num_threads(2)
expected = nmfuse.fuse(a, b)
pid = os.fork()
if pid == 0:
    os._exit(0 if np.allclose(nmfuse.fuse(a, b), expected, atol=1e-5) and torch.get_num_threads() == 1 else 1)
assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
assert torch.get_num_threads() == 2
with multiprocessing.get_context("fork").Pool(2) as pool:
    for fused in pool.starmap(nmfuse.fuse, [(a, b)] * 3):
        assert np.allclose(fused, expected, atol=1e-5)
"""


def test_a_child_of_a_process_that_has_fused_can_fuse() -> None:
    done = subprocess.run([sys.executable, "-c", FORKED], capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")  # of fork in a process with threads, from 3.12 on
@pytest.mark.parametrize("start", ["fork", "spawn"])
def test_workers_of_a_data_loader(start: str) -> None:
    context = multiprocessing.get_context(start)
    loaded = list(DataLoader(Fused(), batch_size=None, num_workers=1, multiprocessing_context=context))
    for got, expected in zip(loaded, Fused(), strict=True):
        np.testing.assert_allclose(got, expected, atol=1e-6)


def test_eight_threads_at_once_give_what_one_gives() -> None:
    V = np.random.default_rng(1).random((12, 400))
    scores = np.random.default_rng(2).random((5, 6))
    calls = [
        partial(nmfuse.fuse, A, B),
        partial(nmfuse.hannmean, A, 5, outliers=3.0),
        partial(nmfuse.aggregate_blocks, scores, 4, 2),
        lambda: nmfuse.nmf(V, 3, max_iter=20)[1],
        partial(nmfuse.window_information, A, B),
        lambda: nmfuse.hannmean(torch.from_numpy(A).requires_grad_()).detach().numpy(),
    ]
    expected = [call() for call in calls]
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda place: calls[place % len(calls)](), range(8 * len(calls))))
    for place, got in enumerate(found):
        assert np.array_equal(got, expected[place % len(calls)])


def test_a_subinterpreter_is_told_to_go_elsewhere() -> None:
    name = "_interpreters" if sys.version_info >= (3, 13) else "_xxsubinterpreters"
    code = (
        "import warnings; warnings.simplefilter('ignore')\n"
        "try:\n"
        "    import nmfuse; nmfuse.num_threads()\n"
        "except ImportError as error:\n"
        "    print(error, flush=True)\n"
    )
    outer = f"import {name} as i; i.run_string(i.create(), {code!r})"
    done = subprocess.run([sys.executable, "-c", outer], capture_output=True, text=True, timeout=60, check=False)
    assert "subinterpreter" in done.stdout + done.stderr
