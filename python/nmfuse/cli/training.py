"""``nmfuse train``: progress bars around `nmfuse.training`."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from nmfuse.training.focus import train_focus
from nmfuse.training.fusion import train_fusion


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
    with _bar(f"focus, {variant}") as progress:
        result = train_focus(
            images,
            output,
            variant=variant,
            steps=steps,
            seed=seed,
            checkpoint=checkpoint,
            overwrite=overwrite,
            progress=progress,
        )
    print(f"{output}: held-out patch accuracy {100 * result.accuracy:.2f} %")


def run_train_fusion(output: Path, **options: Any) -> None:
    """Train and report the held-out scores."""
    with _bar("fusion") as progress:
        result = train_fusion(output, progress=progress, **options)
    scores = ", ".join(f"{name} {value:.3f}" for name, value in result.scores.items())
    print(f"{output}: held-out score {result.score:.3f} ({scores})")


@contextmanager
def _bar(name: str) -> Iterator[Callable[[int, int, float], None]]:
    """Give a function of (steps done, steps in all, loss) that shows a bar from its first call on."""
    columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.completed}/{task.total}"))
    progress = Progress(*columns, TimeRemainingColumn())
    bar = progress.add_task(name)
    with ExitStack() as shown:

        def report(step: int, total: int, loss: float) -> None:
            if not progress.live.is_started:  # once the options have been found good
                shown.enter_context(progress)
            progress.update(bar, completed=step, total=total, description=f"{name}: loss {loss:.4f}")

        yield report
