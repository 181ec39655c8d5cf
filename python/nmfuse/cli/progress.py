"""What commands say while they run: a progress bar, and images that belong to no set."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from rich.markup import escape
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
            progress.update(
                bar, completed=done, total=total, description=escape(f"{name}: {what}")
            )  # no [style] of a name

        yield report


def say_alone(alone: dict[Path, str], most: int = 20) -> None:
    """Name the images that are in no set, on standard error, with why."""
    for path, why in list(alone.items())[:most]:
        print(f"{path}: {why}", file=sys.stderr)
    if len(alone) > most:
        print(f"... and {len(alone) - most} more images that are in no set", file=sys.stderr)
