"""Metrics of images as they are read: colour by its luminance, dtypes that differ, sizes too small for some."""

from __future__ import annotations

import math

import numpy as np
import pytest

from nmfuse.images import Image
from nmfuse.images.luma import grey
from nmfuse.metrics import METRICS, evaluate, measure, white_of

A, B = np.random.default_rng(0).integers(0, 256, (2, 50, 60), np.uint8)
COLOUR = np.random.default_rng(1).integers(0, 256, (50, 60, 3), np.uint8)


def test_colour_is_measured_by_its_luminance() -> None:
    expected = evaluate(grey(COLOUR), [A, B], metrics=["EN", "VIF"])
    assert measure(COLOUR, [A, B], ["EN", "VIF"]) == expected
    assert measure(Image(COLOUR), [Image(A), B], ["EN", "VIF"]) == expected


def test_what_is_not_defined_is_nan() -> None:
    values = measure(A, [A, B])
    assert list(values) == list(METRICS)
    assert [name for name, value in values.items() if math.isnan(value)] == ["MS_SSIM"]
    three = measure(A, [A, B, A])
    assert [name for name, value in three.items() if math.isnan(value)] == [
        name for name, metric in METRICS.items() if metric.pairs_only or name == "MS_SSIM"
    ]
    with pytest.raises(ValueError, match="metrics: 'Q' is not known"):
        measure(A, [A, B], ["EN", "Q"])


def test_floats_are_from_0_to_1() -> None:
    expected = measure(A / 255, [A / 255, B / 255], ["SD"], data_range=1)
    assert measure(A / 255, [A / 255, B / 255], ["SD"]) == expected
    message = "sources: floats of 0 to 255, whose white is not known; metrics expect 0 to 1: scale them"
    with pytest.raises(ValueError, match=message):
        measure(A.astype(float), [A.astype(float), B.astype(float)])
    assert measure(2.0 * A, [2.0 * A, 2.0 * B], ["SD"], data_range=510)["SD"] == pytest.approx(expected["SD"])


def test_dtypes_that_differ() -> None:
    expected = measure(A, [A, B], ["SD", "VIF"])
    mixed = measure(A, [A.astype(np.uint16) * 257, B / 255], ["SD", "VIF"])
    assert mixed == pytest.approx(expected, rel=1e-9)
    with pytest.raises(ValueError, match="whose white is not known"):
        measure(A, [A, B.astype(float)], ["SD"])
    shifted = measure(A, [A.astype(np.int16) - 9, B], ["SD", "VIF"], window=[None, (-9, 246), None])
    assert shifted == pytest.approx(expected, rel=1e-9)


def test_white_is_that_of_the_valid_pixels() -> None:
    pixels = np.array([[0.5, 9.0]])
    assert white_of([Image(pixels, np.array([[True, False]]))]) == 1.0
    assert white_of([Image(pixels, np.zeros((1, 2), bool))]) == 1.0
    with pytest.raises(ValueError, match=r"floats of 0\.5 to 9"):
        white_of([Image(pixels)])
