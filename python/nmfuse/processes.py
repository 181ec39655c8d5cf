"""Many tasks in processes of their own: one that dies takes no other with it, and none outlives this process."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from multiprocessing import get_context, parent_process
from typing import Any

from nmfuse.kernels import set_num_threads

Task = tuple[Any, ...]


def run_each(
    function: Callable[..., Any], tasks: Sequence[Task], *, workers: int, threads: int = 1
) -> Iterator[tuple[Task, Any]]:
    """Call a function with the arguments of each task, in `workers` processes of `threads` threads each.

    Yields each task with the result of the function, in the order in which they end. If a process dies (because it is
    killed, or runs out of memory), the lost tasks are run again one by one, and the one that makes a process die again
    is yielded with a RuntimeError. Other errors are raised, so `function` should return errors of its own. The
    processes are ended if the loop over this generator is left early.

    Examples
    --------
    >>> [(task, found) for task, found in run_each(pow, [(2, 3)], workers=1)]
    [((2, 3), 8)]
    """
    left, one_by_one = dict(enumerate(tasks)), False
    while left:
        broken = False
        with _pool(1 if one_by_one else min(workers, len(left)), threads) as pool:
            waiting = {pool.submit(_call, function, *task): k for k, task in left.items()}
            try:
                for future in as_completed(waiting):
                    try:
                        found = future.result()
                    except BrokenProcessPool:
                        broken = True
                    else:
                        yield left.pop(waiting[future]), found
            except BaseException:
                for process in list(pool._processes.values()):
                    process.terminate()
                pool.shutdown(cancel_futures=True)
                raise
        if broken and one_by_one:
            died = RuntimeError("its process ended before it was done (killed, or out of memory?)")
            yield left.pop(min(left)), died
        one_by_one = broken and not one_by_one


@contextmanager
def _pool(workers: int, threads: int) -> Iterator[ProcessPoolExecutor]:
    """Give a pool whose processes, which start within the block, have so many threads each."""
    names = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NMFUSE_NUM_THREADS")
    before = {name: os.environ.get(name) for name in names}
    os.environ.update(dict.fromkeys(names, str(threads)))
    try:
        with ProcessPoolExecutor(workers, get_context("spawn"), _begin, (threads,)) as pool:
            yield pool
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def _begin(threads: int) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the parent too, which ends this process
    signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))  # files half written are taken away
    threading.Thread(target=_end_with_parent, daemon=True).start()
    import torch

    torch.set_num_threads(threads)
    set_num_threads(threads)
    try:
        import cv2
    except ModuleNotFoundError:
        return
    cv2.setNumThreads(threads)


def _end_with_parent() -> None:
    parent = parent_process()
    assert parent is not None  # this runs in a child
    parent.join()
    os._exit(1)  # a parent that was killed could not say so


def _call(function: Callable[..., Any], *task: Any) -> Any:
    try:
        return function(*task)
    except SystemExit as ended:  # the pool would take it for the task's own error, and go on with the next
        os._exit(int(ended.code or 0))
