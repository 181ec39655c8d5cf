"""``nmfuse train``: progress bars around `nmfuse.training`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from nmfuse.cli.progress import progress_bar
from nmfuse.training.dictionaries import train_dictionaries
from nmfuse.training.focus import train_focus
from nmfuse.training.fusion import train_fusion
from nmfuse.training.processes import process_group, process_number


def run_train_focus(output: Path, *, images: Path, variant: str, **options: Any) -> None:
    """Train and report the held-out patch accuracy."""
    with progress_bar(f"focus, {variant}") as progress:
        result = train_focus(images, output, variant=variant, progress=_loss(progress), **options)
    print(f"{output}: held-out patch accuracy {100 * result.accuracy:.2f} %")


def run_train_fusion(output: Path, **options: Any) -> None:
    """Train, with all processes that torchrun started, and report the held-out ranks."""
    with process_group(options["device"]), progress_bar("fusion") as progress:
        first = process_number() == 0
        result = train_fusion(output, progress=_loss(progress) if first else None, **options)
    if not first:
        return
    ranks = ", ".join(f"{name} {value:.1f}" for name, value in result.ranks.items())
    print(f"{output}: expected mean rank of held-out crops {-result.score:.2f} ({ranks})")


def run_train_dictionaries(images: Path, output: Path, seed: int, *, overwrite: bool) -> None:
    """Learn the dictionaries of the sparse methods."""
    with progress_bar("dictionaries") as progress:
        train_dictionaries(images, output, seed=seed, overwrite=overwrite, progress=_loss(progress))
    print(output)


def _loss(progress: Callable[[int, int, str], None]) -> Callable[[int, int, float], None]:
    return lambda done, total, loss: progress(done, total, f"loss {loss:.4f}")
