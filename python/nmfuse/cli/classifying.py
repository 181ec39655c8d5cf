"""``nmfuse classify``: training, prediction and evaluation around `nmfuse.classify`."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table

from nmfuse.classify import (
    Classifier,
    ImageFolder,
    audit,
    evaluate_split,
    find_images,
    group_copies,
    join_groups,
    read_groups,
    read_image,
    read_split,
)
from nmfuse.classify.audit import refuse_leaks
from nmfuse.classify.figures import curve_rows, draw_confusion, draw_curves, draw_reliability, draw_roc_pr, write_csv
from nmfuse.classify.images import read_images
from nmfuse.classify.measures import MEASURES, measures
from nmfuse.cli.progress import progress_bar
from nmfuse.compare.tables import markdown
from nmfuse.io import new_file

_log = logging.getLogger(__name__)


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
    """Train on a folder, or on the training half of its split, and write the model file."""
    if output.exists() and not overwrite:
        raise FileExistsError(f"{output}: exists already; give another name, or --overwrite")
    folder = find_images(data, classes)
    chosen = np.arange(len(folder.paths)) if split is None else read_split(split, folder)[0]
    images, kept = read_images(folder, chosen, skip_bad=skip_bad)
    with progress_bar("classify") as progress:
        copies = group_copies(images, progress=progress)
    surplus = len(copies) - len(np.unique(copies))
    if surplus:
        _log.warning("%s: %d images are copies of others; they are kept together in validation", data, surplus)
    groups = _joined(copies, split, group, folder, kept)
    classifier = Classifier(trainable=trainable, epochs=epochs, start=start, seed=seed, device=device)
    with progress_bar("classify") as progress:
        classifier.fit(
            images,
            folder.labels[kept],
            groups,
            checkpoint=checkpoint,
            progress=lambda done, total, loss: progress(done, total, f"loss {loss:.4f}"),
        )
    classifier.save(output, overwrite=overwrite, notes=f"{folder.classes[0]} / {folder.classes[1]}, {len(kept)} images")
    print(f"{output}: learned from {len(kept)} images")


def _joined(
    copies: np.ndarray, split: Path | None, group: str | None, folder: ImageFolder, kept: np.ndarray
) -> np.ndarray:
    """Return the groups by copies, and by a column of the split file if one is asked for."""
    if group is None:
        return copies
    if split is None:
        raise ValueError(f"group: got {group!r}, a column of the split file, but no split; give --split as well")
    return join_groups(copies, read_groups(split, group, folder)[kept])


def run_audit(data: Path, split: Path | None, classes: tuple[str, str] | None) -> None:
    """Print what is found in a folder and its split."""
    folder = find_images(data, classes)
    halves = None if split is None else read_split(split, folder)
    with progress_bar("audit") as progress:
        found = audit(folder, halves, progress=progress)
    print(found.text())


def run_predict(images: list[Path], model: Path, heat: Path | None, *, overwrite: bool) -> None:
    """Print label and probability of each image, and draw what decided."""
    classifier = Classifier.load(model)
    if heat is not None and not heat.is_dir():
        heat.mkdir(parents=True)
    for path in images:
        image = read_image(path)
        explained = classifier.explain(image)
        label = "unhealthy" if explained.probability >= 0.5 else "healthy"
        print(f"{path}: {label}, probability of unhealthy {explained.probability:.3f}")
        if heat is not None:
            _draw_heat(heat / f"{path.stem}.png", image, explained.heat, path.name, overwrite=overwrite)
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
    """Measure all methods on the test half, and write tables and figures into a folder."""
    if output.exists() and any(output.iterdir()) and not overwrite:
        raise FileExistsError(f"{output}: is not empty; give another folder, or --overwrite")
    folder = find_images(data, classes)
    halves = read_split(split, folder)
    images, kept = read_images(folder, np.concatenate(halves), skip_bad=skip_bad)
    place = {index: i for i, index in enumerate(kept)}
    train, test = (np.array([place[i] for i in half if i in place]) for half in halves)
    with progress_bar("classify") as progress:
        copies = group_copies(images, progress=progress)
        groups = _joined(copies, split, group, folder, kept)
        names = [folder.names[index] for index in kept]
        if warning := refuse_leaks(copies, train, test, names, allow=allow_leaks):
            _log.warning("split: %s", warning)
        evaluation = evaluate_split(
            images,
            folder.labels[kept],
            train,
            test,
            groups,
            methods=methods,
            seeds=seeds,
            epochs=epochs,
            start=start,
            device=device,
            progress=progress,
        )
    output.mkdir(parents=True, exist_ok=True)
    rows = evaluation.rows()
    first = {name: (evaluation.labels, seeds_[0]) for name, seeds_ in evaluation.probabilities.items()}
    best = next(iter(first))
    write_csv(output / "measures.csv", rows, overwrite=overwrite)
    draw_roc_pr(output / "roc.png", first, overwrite=overwrite)
    draw_reliability(output / "reliability.png", {best: first[best]}, overwrite=overwrite)
    confusion = measures(evaluation.labels, (first[best][1] >= 0.5).astype(int)).confusion
    draw_confusion(output / "confusion.png", confusion, folder.classes, overwrite=overwrite)
    if evaluation.curves:
        draw_curves(output / "curves.png", evaluation.curves, overwrite=overwrite)
        write_csv(output / "curves.csv", curve_rows(evaluation.curves), overwrite=overwrite)
    headers = ["method", *MEASURES, "ROC area", "average precision", "ECE"]
    body = [[str(row["method"]), *(_cell(row, name) for name in MEASURES), *_areas(row)] for row in rows]
    text = f"{len(train)} training and {len(test)} test images. In brackets: 95 % bootstrap interval of the first seed."
    table = output / "tables.md"
    with new_file(table, overwrite=overwrite) as temporary:
        temporary.write_text(f"{text}\n\n{markdown(headers, body)}\n", encoding="utf-8")
    shown = Table("method", *MEASURES)
    for row in rows:
        shown.add_row(str(row["method"]), *(f"{row[name]:.3f}" for name in MEASURES))
    Console().print(shown)
    print(table)


def _cell(row: dict[str, object], name: str) -> str:
    return f"{row[name]:.3f} ({row[f'{name}_low']:.3f}–{row[f'{name}_high']:.3f})"


def _areas(row: dict[str, object]) -> list[str]:
    return [f"{row[name]:.3f}" for name in ("roc_area", "average_precision", "ece")]


def _draw_heat(path: Path, image: np.ndarray, heat: np.ndarray, title: str, *, overwrite: bool) -> None:
    from matplotlib.figure import Figure

    from nmfuse.classify.features import prepare

    figure = Figure(figsize=(7, 3.6), layout="constrained")
    left, right = figure.subplots(1, 2)
    seen = prepare(image)
    most = float(np.abs(heat).max()) or 1.0
    left.imshow(seen, cmap="gray")
    left.set_title(title)
    right.imshow(seen, cmap="gray")
    shown = right.imshow(heat, cmap="RdBu_r", vmin=-most, vmax=most, alpha=0.6)
    right.set_title("for unhealthy (red), against (blue)")
    figure.colorbar(shown, ax=right, label="log-odds")
    for axes in (left, right):
        axes.set_axis_off()
    with new_file(path, overwrite=overwrite) as temporary:
        figure.savefig(temporary, format="png", dpi=100)
