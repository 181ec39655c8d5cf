"""Locks of names in a folder: they keep other processes out, and end with the process that holds them."""

from __future__ import annotations

import errno
import logging
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from nmfuse.io.locks import LOCK_FILE, locked
from nmfuse.io.output import leftovers, new_file

HOLD = """
import sys, time
from nmfuse.io.locks import locked
with locked(sys.argv[1], "a"):
    print("held", flush=True)
    time.sleep(60)
"""


def test_one_process_at_a_time(tmp_path: Path) -> None:
    with subprocess.Popen([sys.executable, "-c", HOLD, tmp_path], stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "held\n"
        with locked(tmp_path, "b", wait=False) as held:
            assert held
        with locked(tmp_path, "a", wait=False) as held:
            assert not held
        other.kill()
        with locked(tmp_path, "a") as held:
            assert held
    assert [path.name for path in tmp_path.iterdir()] == [LOCK_FILE]


def test_a_file_system_without_locks(tmp_path: Path, monkeypatch: Any, caplog: pytest.LogCaptureFixture) -> None:
    def fail(*_: Any) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr("fcntl.lockf", fail)
    with caplog.at_level(logging.WARNING), locked(tmp_path, "a") as held:
        assert held
    assert "has no locks ([Errno 77] No locks available" in caplog.text or "has no locks ([Errno 37]" in caplog.text


def test_leftovers_are_what_new_file_writes_to(tmp_path: Path) -> None:
    with new_file(tmp_path / "a b.png") as temporary:
        temporary.write_text("half")
        assert leftovers(tmp_path) == {"a b.png": [temporary]}
    assert leftovers(tmp_path) == {}
