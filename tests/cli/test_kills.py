"""Runs that are killed at random moments leave nothing half-written, and go on where they were."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

KILLS = int(os.environ.get("NMFUSE_KILLS", "8"))  # 100 for a long look


@pytest.mark.parametrize(
    ("what", "kills"),
    [("fuse", KILLS), ("jobs", 1 + KILLS // 10), ("compare", 1 + KILLS // 10), ("stack", 1 + KILLS // 10)],
)
def test_killed_runs_leave_nothing_half_written_and_go_on(what: str, kills: int) -> None:
    script = Path(__file__).with_name("kills.py")
    command = [sys.executable, script, what, str(kills)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60 + 60 * kills)
    assert done.returncode == 0, done.stderr
    assert f"{what}: {kills} kills" in done.stdout
