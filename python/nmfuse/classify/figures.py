"""Pictures and tables of a classifier's report."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike

from nmfuse.classify.measures import calibration, precision_recall, roc
from nmfuse.io import new_file

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Okabe & Ito, Color Universal Design (2008), told apart by the colour-blind; without their yellow, too pale on white.
_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
_GREY = "0.55"
_DPI = 150
_UNIT = (-0.015, 1.015)  # a little more than 0 to 1, so that a curve along the edge is whole

CURVE_COLUMNS = ("epoch", "train_loss", "train_accuracy", "validation_loss", "validation_accuracy")

Predictions = Mapping[str, tuple[ArrayLike, ArrayLike]]  # name -> (labels, probabilities)
Curves = Mapping[str, Sequence[tuple[int, float, float, float, float]]]  # name -> rows of CURVE_COLUMNS


def draw_roc_pr(path: str | Path, predictions: Predictions, *, overwrite: bool = False) -> None:
    """Draw the ROC curves beside the precision-recall curves, each with its area, to a PNG file.

    Parameters
    ----------
    path : path
        Of the picture, which ends in .png.
    predictions : mapping
        Name -> (labels, probabilities), as `roc` takes them.
    overwrite : bool
        Replace the file if there is one.

    Raises
    ------
    ValueError
        If there are no predictions, they are not what `roc` takes, or the file's name does not end in .png.
    FileExistsError, FileNotFoundError
        If the file is there already, or its folder is not.

    Examples
    --------
    >>> import tempfile
    >>> path = Path(tempfile.mkdtemp()) / "roc.png"
    >>> draw_roc_pr(path, {"frozen": ([0, 0, 1, 1], [0.1, 0.4, 0.35, 0.8])})
    >>> path.exists()
    True
    """
    _require_some("predictions", predictions)
    figure = _figure(7.6, 4.4)
    left, right = figure.subplots(1, 2)
    left.plot([0, 1], [0, 1], color=_GREY, linestyle=":", linewidth=1)
    for (name, (labels, probabilities)), style in zip(predictions.items(), _styles(len(predictions)), strict=True):
        fpr, tpr, area = roc(labels, probabilities)
        recall, precision, average = precision_recall(labels, probabilities)
        left.plot(fpr, tpr, label=f"{name}: {area:.3f}, {average:.3f}", **style)
        # The step before a point, as the average precision counts it.
        right.plot(recall, precision, drawstyle="steps-pre", **style)
        right.axhline(float(precision[-1]), color=_GREY, linestyle=":", linewidth=1)  # all called unhealthy: chance
    left.set(title="ROC", xlabel="1 − specificity", ylabel="sensitivity")
    right.set(title="precision and recall", xlabel="recall", ylabel="precision")
    for axes in (left, right):
        axes.set(xlim=_UNIT, ylim=_UNIT)
    _legend(figure, left, 2, "area under the ROC curve, average precision")
    _save(figure, path, overwrite)


def draw_reliability(path: str | Path, predictions: Predictions, *, bins: int = 10, overwrite: bool = False) -> None:
    """Draw reliability diagrams above the counts of images in each bin, with the calibration error, to a PNG file.

    Parameters
    ----------
    path : path
        Of the picture, which ends in .png.
    predictions : mapping
        Name -> (labels, probabilities), as `calibration` takes them.
    bins : int
        Of equal width, of the probability of being unhealthy.
    overwrite : bool
        Replace the file if there is one.

    Raises
    ------
    ValueError
        If there are no predictions, they are not what `calibration` takes, or the file's name does not end in .png.
    FileExistsError, FileNotFoundError
        If the file is there already, or its folder is not.

    Examples
    --------
    >>> import tempfile
    >>> path = Path(tempfile.mkdtemp()) / "reliability.png"
    >>> draw_reliability(path, {"frozen": ([0, 0, 1, 1], [0.1, 0.4, 0.35, 0.8])})
    >>> path.exists()
    True
    """
    _require_some("predictions", predictions)
    figure = _figure(5.4, 6.6)
    above, below = figure.subplots(2, 1, sharex=True, height_ratios=[3.4, 1])
    above.plot([0, 1], [0, 1], color=_GREY, linestyle=":", linewidth=1)
    for (name, (labels, probabilities)), style in zip(predictions.items(), _styles(len(predictions)), strict=True):
        predicted, share, count, ece = calibration(labels, probabilities, bins)
        filled = count > 0  # a line across empty bins, rather than a gap
        above.plot(predicted[filled], share[filled], marker="o", markersize=4, label=f"{name}: {ece:.3f}", **style)
        below.stairs(count, np.linspace(0, 1, bins + 1), **style)
    above.set(title="reliability", ylabel="share unhealthy")
    above.set(xlim=_UNIT, ylim=_UNIT)
    below.set(xlabel="predicted probability of unhealthy", ylabel="images")
    below.set_ylim(bottom=0)
    _legend(figure, above, 2, "expected calibration error")
    _save(figure, path, overwrite)


def draw_confusion(path: str | Path, matrix: ArrayLike, classes: Sequence[str], *, overwrite: bool = False) -> None:
    """Draw a confusion matrix to a PNG file: counts, and their shares of the true class.

    Parameters
    ----------
    path : path
        Of the picture, which ends in .png.
    matrix : array-like, shape (K, K)
        Counts; rows are the true classes, columns the predicted ones.
    classes : sequence of str
        The K names.
    overwrite : bool
        Replace the file if there is one.

    Raises
    ------
    ValueError
        If the matrix is not one of counts of these classes, or the file's name does not end in .png.
    FileExistsError, FileNotFoundError
        If the file is there already, or its folder is not.

    Examples
    --------
    >>> import tempfile
    >>> path = Path(tempfile.mkdtemp()) / "confusion.png"
    >>> draw_confusion(path, [[48, 2], [5, 45]], ("healthy", "unhealthy"))
    >>> path.exists()
    True
    """
    counts = np.asarray(matrix)
    if counts.shape != (len(classes), len(classes)) or not len(classes):
        raise ValueError(f"matrix: got shape {counts.shape}; expected a row and a column for each of {tuple(classes)}")
    if counts.dtype.kind not in "iu" or counts.min() < 0:
        raise ValueError(f"matrix: got {counts.tolist()}; expected whole numbers from 0 up")
    shares = counts / np.maximum(counts.sum(1, keepdims=True), 1)
    figure = _figure(4.6, 4)
    axes = figure.subplots()
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    for (row, column), count in np.ndenumerate(counts):
        axes.text(
            column,
            row,
            f"{count}\n{shares[row, column]:.1%}",
            ha="center",
            va="center",
            fontsize=13,
            color="white" if shares[row, column] > 0.5 else "black",
        )
    axes.set_xticks(range(len(classes)), classes)
    axes.set_yticks(range(len(classes)), classes, rotation=90, va="center")
    axes.set(xlabel="predicted", ylabel="true")
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    _save(figure, path, overwrite)


def draw_curves(path: str | Path, curves: Curves, *, overwrite: bool = False) -> None:
    """Draw accuracy and loss over the epochs, of training and of validation, to a PNG file.

    Parameters
    ----------
    path : path
        Of the picture, which ends in .png.
    curves : mapping
        Name, such as "frozen" -> rows (epoch, train loss, train accuracy, validation loss, validation accuracy); NaN
        where there is no value.
    overwrite : bool
        Replace the file if there is one.

    Raises
    ------
    ValueError
        If there are no curves, a row does not have five values, or the file's name does not end in .png.
    FileExistsError, FileNotFoundError
        If the file is there already, or its folder is not.

    Examples
    --------
    >>> import tempfile
    >>> path = Path(tempfile.mkdtemp()) / "curves.png"
    >>> draw_curves(path, {"frozen": [(1, 0.7, 0.5, 0.7, 0.5), (2, 0.4, 0.8, 0.5, 0.7)]})
    >>> path.exists()
    True
    """
    _require_some("curves", curves)
    figure = _figure(7.6, 4)
    left, right = figure.subplots(1, 2)
    for i, (name, rows) in enumerate(curves.items()):
        colour = _COLOURS[i % len(_COLOURS)]
        epochs, train_loss, train_accuracy, loss, accuracy = _columns(name, rows)
        marker = "." if len(rows) == 1 else ""
        for axes, train, validation in ((left, train_accuracy, accuracy), (right, train_loss, loss)):
            axes.plot(epochs, train, "--", marker=marker, color=colour, linewidth=1.1)
            axes.plot(epochs, validation, "-", marker=marker, color=colour, linewidth=1.6, label=name)
    left.set(title="accuracy (dashed: training)", xlabel="epoch")
    right.set(title="loss (dashed: training)", xlabel="epoch")
    right.set_ylim(bottom=0)
    for axes in (left, right):
        axes.xaxis.get_major_locator().set_params(integer=True)
    _legend(figure, left, min(len(curves), 3))
    _save(figure, path, overwrite)


def draw_heat(
    path: str | Path, image: np.ndarray, heat: np.ndarray, title: str = "", *, overwrite: bool = False
) -> None:
    """Draw an image as the branches see it, and beside it what spoke for and against "unhealthy", to a PNG file.

    Parameters
    ----------
    path : path
        Of the picture, which ends in .png.
    image : array, shape (H, W)
        From 0 to 1.
    heat : array, shape (side, side)
        As `Classifier.explain` returns it.
    title : str
        What stands above the image.
    overwrite : bool
        Replace the file if there is one.

    Raises
    ------
    ValueError
        If the file's name does not end in .png.
    FileExistsError, FileNotFoundError
        If the file is there already, or its folder is not.

    Examples
    --------
    >>> import tempfile
    >>> path = Path(tempfile.mkdtemp()) / "heat.png"
    >>> draw_heat(path, np.ones((50, 40), np.float32), np.zeros((96, 96)), "01.png")
    >>> path.exists()
    True
    """
    from nmfuse.classify.features import prepare

    figure = _figure(7.0, 3.6)
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
    _save(figure, path, overwrite)


def curve_rows(curves: Curves) -> list[dict[str, object]]:
    """Return curves as rows for `write_csv`.

    Parameters
    ----------
    curves : mapping
        As `draw_curves` takes them.

    Examples
    --------
    >>> curve_rows({"frozen": [(1, 0.7, 0.5, 0.8, 0.4)]})[0]["validation_loss"]
    0.8
    """
    return [
        {"name": name, **dict(zip(CURVE_COLUMNS, row, strict=True))} for name, rows in curves.items() for row in rows
    ]


def write_csv(path: str | Path, rows: Sequence[Mapping[str, object]], *, overwrite: bool = False) -> None:
    """Write rows as a CSV file, with the names of the first row's columns in the first line.

    Parameters
    ----------
    path : path
    rows : sequence of mappings
        Column -> value; all with the same columns.
    overwrite : bool
        Replace the file if there is one.

    Raises
    ------
    ValueError
        If there are no rows, or their columns differ.
    FileExistsError, FileNotFoundError
        If the file is there already, or its folder is not.

    Examples
    --------
    >>> import tempfile
    >>> path = Path(tempfile.mkdtemp()) / "measures.csv"
    >>> write_csv(path, [{"measure": "accuracy", "value": 0.93}])
    >>> print(path.read_text())
    measure,value
    accuracy,0.93
    <BLANKLINE>
    """
    _require_some("rows", rows)
    columns = list(rows[0])
    for row in rows:
        if set(row) != set(columns):
            raise ValueError(f"rows: got one with {list(row)}; expected all to have the first one's columns {columns}")
    with new_file(path, overwrite=overwrite) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, columns, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def _require_some(name: str, values: Mapping[str, Any] | Sequence[Any]) -> None:
    if not values:
        raise ValueError(f"{name}: got none; expected at least one")


def _columns(name: str, rows: Sequence[tuple[int, float, float, float, float]]) -> np.ndarray:
    for row in rows:
        if len(row) != len(CURVE_COLUMNS):
            raise ValueError(f"curves: got a row of {len(row)} values of {name!r}; expected {', '.join(CURVE_COLUMNS)}")
    _require_some(f"curves of {name!r}", rows)
    return np.array(rows, np.float64).T


def _figure(width: float, height: float) -> Figure:
    from matplotlib.figure import Figure  # slow to import

    return Figure(figsize=(width, height), layout="constrained", dpi=_DPI)


def _styles(number: int) -> list[dict[str, Any]]:
    """Return a colour for each name, and another line style each time that the colours are used up."""
    lines = ("-", "--", "-.")
    return [
        {"color": _COLOURS[i % len(_COLOURS)], "linestyle": lines[i // len(_COLOURS) % len(lines)], "linewidth": 1.6}
        for i in range(number)
    ]


def _legend(figure: Figure, axes: Axes, columns: int, title: str | None = None) -> None:
    """Put the names below the panels, where they cover no curve."""
    handles, names = axes.get_legend_handles_labels()
    figure.legend(handles, names, title=title, loc="outside lower center", ncols=columns, frameon=False)


def _save(figure: Figure, path: str | Path, overwrite: bool) -> None:
    if Path(path).suffix.lower() != ".png":
        raise ValueError(f"path: got {path}; expected a file name that ends in .png")
    for axes in figure.axes:
        if not axes.images:
            axes.grid(color="0.9", linewidth=0.7)
            axes.set_axisbelow(True)
            axes.spines[["top", "right"]].set_visible(False)
    with new_file(path, overwrite=overwrite) as temporary:
        figure.savefig(temporary, format="png")
