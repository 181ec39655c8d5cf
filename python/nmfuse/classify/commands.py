"""What ``nmfuse classify`` does: from folders and files to a model file, predictions, an audit, a report.

Each function checks what it is to write before it begins to work.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from nmfuse.classify.audit import Audit, audit, refuse_leaks
from nmfuse.classify.classifier import Classifier, Explained
from nmfuse.classify.copies import group_copies, join_groups
from nmfuse.classify.evaluate import Evaluation, evaluate_split
from nmfuse.classify.figures import (
    curve_rows,
    draw_confusion,
    draw_curves,
    draw_heat,
    draw_reliability,
    draw_roc_pr,
    write_csv,
)
from nmfuse.classify.images import ImageFolder, find_images, read_groups, read_image, read_images, read_split
from nmfuse.classify.measures import MEASURES, measures
from nmfuse.io import check_file, new_file
from nmfuse.io.tables import markdown

_log = logging.getLogger(__name__)

Progress = Callable[[int, int, str], None]  # of (done, in all, what)


def train_model(
    data: Path,
    output: Path,
    *,
    split: Path | None = None,
    classes: tuple[str, str] | None = None,
    group: str | None = None,
    checkpoint: Path | None = None,
    skip_bad: bool = False,
    overwrite: bool = False,
    progress: Progress | None = None,
    **options: Any,
) -> int:
    """Train on a folder, or on the training half of its split, and write the model file.

    Parameters
    ----------
    data : path
        Folder of both classes, see `find_images`.
    output : path
        The model file to write.
    split : path, optional
        CSV file, see `read_split`: its training half is learned from.
    classes : (str, str), optional
        Names of the two folders.
    group : str, optional
        Column of the split file: images with the same text in it are kept together, as copies are.
    checkpoint : path, optional
        Where fine-tuning saves its progress.
    skip_bad : bool
        Go on without images that cannot be read.
    overwrite : bool
        Whether the model file may be replaced.
    progress : callable, optional
        Called with (done, in all, what).
    **options
        Arguments of `Classifier`.

    Returns
    -------
    int
        How many images were learned from.

    Raises
    ------
    FileExistsError, FileNotFoundError, PermissionError, ValueError
        For the output file, the folder, the split, an image that cannot be read, or what `Classifier.fit` refuses.
    """
    if group is not None and split is None:
        raise ValueError(f"group: got {group!r}, a column of the split file, but no split; give --split as well")
    check_file(output, overwrite=overwrite)
    folder = find_images(data, classes)
    chosen = np.arange(len(folder.paths)) if split is None else read_split(split, folder)[0]
    images, kept = read_images(folder, chosen, skip_bad=skip_bad)
    copies = group_copies(images, progress=progress)
    surplus = len(copies) - len(np.unique(copies))
    if surplus:
        _log.warning("%s: %d images are copies of others; they are kept together in validation", data, surplus)
    groups = _joined(copies, split, group, folder, kept)
    classifier = Classifier(**options).fit(
        images, folder.labels[kept], groups, checkpoint=checkpoint, progress=_with_loss(progress)
    )
    classifier.save(output, overwrite=overwrite, notes=f"{folder.classes[0]} / {folder.classes[1]}, {len(kept)} images")
    return len(kept)


def audit_folder(
    data: Path,
    *,
    split: Path | None = None,
    classes: tuple[str, str] | None = None,
    progress: Progress | None = None,
) -> Audit:
    """Look for copies, leaks and trivial cues in a folder and its split; see `audit`."""
    folder = find_images(data, classes)
    return audit(folder, None if split is None else read_split(split, folder), progress=progress)


def predict_files(
    paths: Sequence[Path], model: Path, *, heat: Path | None = None, overwrite: bool = False
) -> Iterator[tuple[Path, Explained]]:
    """Tell what a model says of images, one by one, and draw what decided.

    Parameters
    ----------
    paths : sequence of paths
        Image files.
    model : path
        Model file.
    heat : path, optional
        Folder, made if missing, for a picture of each image: its name with .png.
    overwrite : bool
        Whether pictures may be replaced.

    Yields
    ------
    (path, Explained)
        Once the picture is written.

    Raises
    ------
    FileExistsError, FileNotFoundError, PermissionError, ValueError
        For the model file, an image that cannot be read, a picture that exists, or two images whose pictures would have
        one name.
    """
    classifier = Classifier.load(model)
    pictures: dict[Path, Path] = {}
    if heat is not None:
        heat.mkdir(parents=True, exist_ok=True)
        pictures = {path: heat / f"{path.stem}.png" for path in paths}
        name, count = Counter(pictures.values()).most_common(1)[0]
        if count > 1:
            raise ValueError(f"heat: {count} images have pictures named {name}; give them to a folder each")
        for picture in pictures.values():
            check_file(picture, overwrite=overwrite, sources=paths)
    for path in paths:
        image = read_image(path)
        explained = classifier.explain(image)
        if path in pictures:
            draw_heat(pictures[path], image, explained.heat, path.name, overwrite=overwrite)
        yield path, explained


def evaluate_folder(
    data: Path,
    split: Path,
    output: Path,
    *,
    classes: tuple[str, str] | None = None,
    group: str | None = None,
    skip_bad: bool = False,
    allow_leaks: bool = False,
    overwrite: bool = False,
    progress: Progress | None = None,
    **options: Any,
) -> list[dict[str, object]]:
    """Measure all methods on the test half of a split, and write tables and figures into a folder.

    Parameters
    ----------
    data, split, classes, group, skip_bad
        See `train_model`.
    output : path
        Folder, made if missing: tables.md, measures.csv, roc.png, reliability.png, confusion.png, and curves.csv and
        curves.png where something was trained.
    allow_leaks : bool
        Measure a split that copies cross, with a warning.
    overwrite : bool
        Whether files in the folder may be replaced.
    progress : callable, optional
        Called with (done, in all, what).
    **options
        Arguments of `evaluate_split`.

    Returns
    -------
    list of dict
        A row for each method, see `Evaluation.rows`.

    Raises
    ------
    FileExistsError
        If the folder is not empty and nothing may be replaced.
    FileNotFoundError, ModuleNotFoundError, ValueError
        For the folder, the split, an image that cannot be read, a split that copies cross, or what `evaluate_split`
        refuses.
    """
    if output.exists() and not output.is_dir():
        raise FileExistsError(f"{output}: is a file; expected a folder")
    if output.exists() and any(output.iterdir()) and not overwrite:
        raise FileExistsError(f"{output}: is not empty; give another folder, or --overwrite")
    folder = find_images(data, classes)
    halves = read_split(split, folder)
    images, kept = read_images(folder, np.concatenate(halves), skip_bad=skip_bad)
    place = {index: i for i, index in enumerate(kept)}
    train, test = (np.array([place[i] for i in half if i in place], np.int64) for half in halves)
    copies = group_copies(images, progress=progress)
    groups = _joined(copies, split, group, folder, kept)
    names = [folder.names[index] for index in kept]
    if warning := refuse_leaks(copies, train, test, names, allow=allow_leaks):
        _log.warning("split: %s", warning)
    evaluation = evaluate_split(images, folder.labels[kept], train, test, groups, progress=progress, **options)
    return write_report(evaluation, folder.classes, len(train), output, overwrite=overwrite)


def write_report(
    evaluation: Evaluation, classes: tuple[str, str], trained: int, output: Path, *, overwrite: bool = False
) -> list[dict[str, object]]:
    """Write the tables and figures of an evaluation into a folder, made if missing; return a row for each method.

    Parameters
    ----------
    evaluation : Evaluation
        Of `evaluate_split`.
    classes : (str, str)
        What the figures call healthy and unhealthy.
    trained : int
        Number of training images, for the tables.
    output : path
        The folder.
    overwrite : bool
        Whether files in it may be replaced.

    Raises
    ------
    FileExistsError
        If a file is there and may not be replaced.

    Examples
    --------
    >>> import tempfile
    >>> folder = Path(tempfile.mkdtemp()) / "report"
    >>> evaluation = Evaluation(np.array([0, 0, 1, 1]), {"frozen": [np.array([0.1, 0.6, 0.7, 0.9])]}, {})
    >>> rows = write_report(evaluation, ("no", "yes"), 10, folder)
    >>> rows[0]["accuracy"], sorted(path.name for path in folder.iterdir())
    (0.75, ['confusion.png', 'measures.csv', 'reliability.png', 'roc.png', 'tables.md'])
    """
    output.mkdir(parents=True, exist_ok=True)
    rows = evaluation.rows()
    first = {name: (evaluation.labels, seeds[0]) for name, seeds in evaluation.probabilities.items()}
    best = next(iter(first))
    write_csv(output / "measures.csv", rows, overwrite=overwrite)
    draw_roc_pr(output / "roc.png", first, overwrite=overwrite)
    draw_reliability(output / "reliability.png", {best: first[best]}, overwrite=overwrite)
    confusion = measures(evaluation.labels, (first[best][1] >= 0.5).astype(int)).confusion
    draw_confusion(output / "confusion.png", confusion, classes, overwrite=overwrite)
    if evaluation.curves:
        draw_curves(output / "curves.png", evaluation.curves, overwrite=overwrite)
        write_csv(output / "curves.csv", curve_rows(evaluation.curves), overwrite=overwrite)
    headers = ["method", *MEASURES, "ROC area", "average precision", "ECE"]
    body = [[str(row["method"]), *(_cell(row, name) for name in MEASURES), *_areas(row)] for row in rows]
    text = (
        f"{trained} training and {len(evaluation.labels)} test images. "
        "In brackets: 95 % bootstrap interval of the first seed."
    )
    with new_file(output / "tables.md", overwrite=overwrite) as temporary:
        temporary.write_text(f"{text}\n\n{markdown(headers, body)}\n", encoding="utf-8")
    return rows


def _joined(
    copies: np.ndarray, split: Path | None, group: str | None, folder: ImageFolder, kept: np.ndarray
) -> np.ndarray:
    """Return the groups by copies, and by a column of the split file if one is asked for."""
    if group is None or split is None:
        return copies
    return join_groups(copies, read_groups(split, group, folder)[kept])


def _with_loss(progress: Progress | None) -> Callable[[int, int, float], None] | None:
    return None if progress is None else lambda done, total, loss: progress(done, total, f"loss {loss:.4f}")


def _cell(row: dict[str, object], name: str) -> str:
    return f"{row[name]:.3f} ({row[f'{name}_low']:.3f}–{row[f'{name}_high']:.3f})"


def _areas(row: dict[str, object]) -> list[str]:
    return [f"{row[name]:.3f}" for name in ("roc_area", "average_precision", "ece")]
