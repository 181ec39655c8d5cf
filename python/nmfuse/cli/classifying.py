"""``nmfuse classify``: progress bars around `nmfuse.classify.commands`, and tables on the screen."""

from __future__ import annotations

from pathlib import Path

from rich.console import Console
from rich.table import Table

from nmfuse.classify.commands import audit_folder, evaluate_folder, predict_files, train_model
from nmfuse.classify.measures import MEASURES
from nmfuse.cli.progress import progress_bar


def run_train(
    data: Path,
    split: Path | None,
    classes: tuple[str, str] | None,
    output: Path,
    epochs: int,
    seed: int,
    checkpoint: Path | None,
    *,
    group: str | None,
    start: Path | None,
    device: str,
    trainable: bool,
    skip_bad: bool,
    overwrite: bool,
) -> None:
    """Train, and say from how many images."""
    with progress_bar("classify") as progress:
        learned = train_model(
            data,
            output,
            split=split,
            classes=classes,
            group=group,
            checkpoint=checkpoint,
            skip_bad=skip_bad,
            overwrite=overwrite,
            progress=progress,
            trainable=trainable,
            epochs=epochs,
            start=start,
            seed=seed,
            device=device,
        )
    print(f"{output}: learned from {learned} images")


def run_audit(data: Path, split: Path | None, classes: tuple[str, str] | None) -> None:
    """Print what is found in a folder and its split."""
    with progress_bar("audit") as progress:
        found = audit_folder(data, split=split, classes=classes, progress=progress)
    print(found.text())


def run_predict(images: list[Path], model: Path, heat: Path | None, *, overwrite: bool) -> None:
    """Print label and probability of each image."""
    for path, explained in predict_files(images, model, heat=heat, overwrite=overwrite):
        label = "unhealthy" if explained.probability >= 0.5 else "healthy"
        print(f"{path}: {label}, probability of unhealthy {explained.probability:.3f}")
    print("A research tool, not a medical device.")


def run_evaluate(
    data: Path,
    split: Path,
    classes: tuple[str, str] | None,
    output: Path,
    methods: list[str] | None,
    seeds: int,
    epochs: int,
    *,
    group: str | None,
    start: Path | None,
    device: str,
    skip_bad: bool,
    allow_leaks: bool,
    overwrite: bool,
) -> None:
    """Measure, and print the measures of each method."""
    with progress_bar("classify") as progress:
        rows = evaluate_folder(
            data,
            split,
            output,
            classes=classes,
            group=group,
            skip_bad=skip_bad,
            allow_leaks=allow_leaks,
            overwrite=overwrite,
            progress=progress,
            methods=methods,
            seeds=seeds,
            epochs=epochs,
            start=start,
            device=device,
        )
    shown = Table("method", *MEASURES)
    for row in rows:
        shown.add_row(str(row["method"]), *(f"{row[name]:.3f}" for name in MEASURES))
    Console().print(shown)
    print(output / "tables.md")
