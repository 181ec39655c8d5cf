"""``nmfuse train focus``: a progress bar around `nmfuse.training.focus.train_focus`."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from typing import Any

from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from nmfuse.training.focus import train_focus


def run_train_focus(
    images: Path,
    output: Path,
    variant: str,
    steps: int | None,
    seed: int,
    checkpoint: Path | None,
    *,
    overwrite: bool,
) -> None:
    """Train and report the held-out patch accuracy."""
    options: dict[str, Any] = {} if steps is None else {"steps": steps}
    columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.completed}/{task.total}"))
    progress = Progress(*columns, TimeRemainingColumn())
    with ExitStack() as shown:
        bar = progress.add_task(f"focus, {variant}", total=steps)

        def report(step: int, total: int, loss: float) -> None:
            if not progress.live.is_started:  # once the options have been found good
                shown.enter_context(progress)
            progress.update(bar, completed=step, total=total, description=f"focus, {variant}: loss {loss:.4f}")

        result = train_focus(
            images,
            output,
            variant=variant,
            seed=seed,
            checkpoint=checkpoint,
            overwrite=overwrite,
            progress=report,
            **options,
        )
    print(f"{output}: held-out patch accuracy {100 * result.accuracy:.2f} %")
