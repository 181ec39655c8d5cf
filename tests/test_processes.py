"""Tasks in processes: what each returns, and that one that dies takes no other with it."""

from __future__ import annotations

import os
from pathlib import Path

from nmfuse.kernels import num_threads
from nmfuse.processes import run_each


def work(folder: Path, number: int) -> tuple[int, int]:
    if number == 1:
        os._exit(9)  # as the system kills what takes too much memory
    (folder / f"{number}").touch()
    return 2 * number, num_threads()


def test_a_process_that_dies_takes_no_other_task_with_it(tmp_path: Path) -> None:
    found = {task[1]: result for task, result in run_each(work, [(tmp_path, k) for k in range(3)], workers=2)}
    assert str(found.pop(1)) == "its process ended before it was done (killed, or out of memory?)"
    assert found == {0: (0, 1), 2: (4, 1)}
    assert os.environ.get("NMFUSE_NUM_THREADS") is None


def test_no_tasks() -> None:
    assert list(run_each(work, [], workers=2)) == []
