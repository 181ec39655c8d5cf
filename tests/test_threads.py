"""Between the kernels, small steps of torch take one thread, and nobody else's threads are touched."""

from __future__ import annotations

import threading
from contextlib import suppress

import numpy as np
import pytest
import torch

from nmfuse import Fuser, fuser
from nmfuse.threads import torch_on_one_thread


@pytest.fixture
def three_threads():
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    yield
    torch.set_num_threads(before)


@pytest.mark.usefixtures("three_threads")
def test_only_the_caller_is_changed_and_only_for_a_while():
    inside, seen = threading.Event(), []

    def other() -> None:
        torch.rand(100_000).exp()
        seen.append(torch.get_num_threads())
        inside.wait()
        torch.rand(100_000).exp()
        seen.append(torch.get_num_threads())

    thread = threading.Thread(target=other)
    thread.start()
    with suppress(ZeroDivisionError), torch_on_one_thread():
        assert torch.get_num_threads() == 1
        inside.set()
        thread.join()
        raise ZeroDivisionError
    assert seen == [3, 3]
    assert torch.get_num_threads() == 3


@pytest.mark.usefixtures("three_threads")
@pytest.mark.parametrize(("method", "side", "threads"), [("learned", 32, 1), ("learned", 80, 3), ("paper", 32, 3)])
def test_which_fusions_take_one(method, side, threads, monkeypatch):
    seen = []
    monkeypatch.setattr(fuser, "_SMALL", 2 * 64 * 64)
    monkeypatch.setattr(fuser.Fuser, "_run", lambda *_: seen.append(torch.get_num_threads()))
    images = np.random.default_rng(0).random((2, side, side), np.float32)
    Fuser(method).fuse(*images)
    assert seen == [threads]
    assert torch.get_num_threads() == 3
