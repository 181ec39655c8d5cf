"""The one progress bar of the commands."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager

from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn


@contextmanager
def progress_bar(name: str) -> Iterator[Callable[[int, int, str], None]]:
    """Give a function of (done, in all, what) that shows a bar from its first call on."""
    columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.completed}/{task.total}"))
    progress = Progress(*columns, TimeRemainingColumn())
    bar = progress.add_task(name)
    with ExitStack() as shown:

        def report(done: int, total: int, what: str) -> None:
            if not progress.live.is_started:  # once the options have been found good
                shown.enter_context(progress)
            progress.update(bar, completed=done, total=total, description=f"{name}: {what}")

        yield report
