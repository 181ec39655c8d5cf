"""The pictures are whole PNG files, and nothing is left behind where one cannot be drawn."""

from __future__ import annotations

import csv

import numpy as np
import pytest
from PIL import Image

from nmfuse.classify.figures import (
    CURVE_COLUMNS,
    curve_rows,
    draw_confusion,
    draw_curves,
    draw_reliability,
    draw_roc_pr,
    write_csv,
)

LABELS = np.tile([0, 1], 30)
PREDICTIONS = {
    "trainable": (LABELS, np.clip(0.4 * LABELS + np.linspace(0, 0.6, 60), 0, 1)),
    "trivial features": (LABELS, np.full(60, 0.5)),
}
CURVES = {
    "frozen": [(epoch, 1 / epoch, 1 - 0.5 / epoch, 1.2 / epoch, 1 - 0.6 / epoch) for epoch in range(1, 41)],
    "trainable": [(1, 0.7, 0.5, float("nan"), float("nan"))],
}
DRAWN = [
    (draw_roc_pr, (PREDICTIONS,)),
    (draw_reliability, (PREDICTIONS,)),
    (draw_confusion, ([[48, 2], [5, 45]], ("healthy", "unhealthy"))),
    (draw_curves, (CURVES,)),
]


def grey(path):
    with Image.open(path) as image:
        assert image.format == "PNG"
        return np.asarray(image.convert("L"))


@pytest.mark.parametrize(("draw", "arguments"), DRAWN)
def test_pictures(tmp_path, draw, arguments):
    path = tmp_path / "picture.png"
    draw(path, *arguments)
    pixels = grey(path)
    assert 500 < pixels.shape[0] < 1200
    assert 500 < pixels.shape[1] < 1400
    assert pixels.min() < 80  # ink
    assert np.mean(pixels == 255) > 0.2  # on white
    assert path.stat().st_size < 200_000
    assert list(tmp_path.iterdir()) == [path]


def test_more_names_than_colours(tmp_path):
    draw_roc_pr(tmp_path / "a.png", {str(i): PREDICTIONS["trainable"] for i in range(9)})
    assert (tmp_path / "a.png").exists()


def test_a_class_without_images(tmp_path):
    draw_confusion(tmp_path / "a.png", np.array([[0, 0], [1, 3]]), ("no", "yes"))
    assert (tmp_path / "a.png").exists()


@pytest.mark.parametrize(
    ("draw", "arguments", "message"),
    [
        (draw_roc_pr, ({},), "predictions: got none; expected at least one"),
        (draw_roc_pr, ({"a": ([1, 1], [0.5, 0.5])},), "labels: got images of class 1 only"),
        (draw_reliability, ({},), "predictions: got none; expected at least one"),
        (draw_reliability, ({"a": ([0, 1], [0.5, 2])},), "probabilities: got 2.0; expected"),
        (draw_confusion, ([[1, 2]], ("a", "b")), r"matrix: got shape \(1, 2\); expected a row and a column for each"),
        (draw_confusion, ([], ()), r"matrix: got shape \(0,\)"),
        (draw_confusion, ([[1, 2], [3, -1]], ("a", "b")), "matrix: got .*; expected whole numbers"),
        (draw_confusion, ([[0.5, 0.5], [0.1, 0.9]], ("a", "b")), "matrix: got .*; expected whole numbers"),
        (draw_curves, ({},), "curves: got none; expected at least one"),
        (draw_curves, ({"frozen": []},), "curves of 'frozen': got none"),
        (
            draw_curves,
            ({"frozen": [(1, 0.5)]},),
            "curves: got a row of 2 values of 'frozen'; expected epoch, train_loss",
        ),
    ],
)
def test_bad_input_leaves_nothing(tmp_path, draw, arguments, message):
    with pytest.raises(ValueError, match=message):
        draw(tmp_path / "a.png", *arguments)
    assert not list(tmp_path.iterdir())


def test_only_png(tmp_path):
    with pytest.raises(ValueError, match=r"path: got .*a\.jpg; expected a file name that ends in \.png"):
        draw_confusion(tmp_path / "a.jpg", [[1, 0], [0, 1]], ("a", "b"))
    assert not list(tmp_path.iterdir())


def test_a_file_is_replaced_only_if_asked(tmp_path):
    path = tmp_path / "a.png"
    path.write_bytes(b"mine")
    with pytest.raises(FileExistsError, match="exists already"):
        draw_confusion(path, [[1, 0], [0, 1]], ("a", "b"))
    assert path.read_bytes() == b"mine"
    draw_confusion(path, [[1, 0], [0, 1]], ("a", "b"), overwrite=True)
    grey(path)
    with pytest.raises(FileNotFoundError, match="does not exist; create it first"):
        draw_confusion(tmp_path / "none" / "a.png", [[1, 0], [0, 1]], ("a", "b"))


def test_csv_of_curves(tmp_path):
    path = tmp_path / "curves.csv"
    write_csv(path, curve_rows(CURVES))
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == ["name", *CURVE_COLUMNS]
    assert len(rows) == 41
    read = [tuple(float(row[column]) for column in CURVE_COLUMNS) for row in rows]
    np.testing.assert_array_equal(read[:40], CURVES["frozen"])  # every digit
    assert np.isnan(read[40][-2:]).all()


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([], "rows: got none; expected at least one"),
        ([{"a": 1}, {"b": 1}], r"rows: got one with \['b'\]; expected all to have the first one's columns \['a'\]"),
        ([{"a": 1}, {"a": 1, "b": 2}], "rows: got one with"),
    ],
)
def test_bad_rows_leave_nothing(tmp_path, rows, message):
    with pytest.raises(ValueError, match=message):
        write_csv(tmp_path / "a.csv", rows)
    assert not list(tmp_path.iterdir())


def test_half_a_table_is_not_left(tmp_path):
    class Broken:
        def __str__(self):
            raise RuntimeError("no text")

    with pytest.raises(RuntimeError, match="no text"):
        write_csv(tmp_path / "a.csv", [{"a": 1}, {"a": Broken()}])
    assert not list(tmp_path.iterdir())
