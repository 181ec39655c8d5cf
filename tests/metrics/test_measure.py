"""Metrics of images as they are read: colour by its luminance, dtypes that differ, sizes too small for some."""

from __future__ import annotations

import math

import numpy as np
import pytest

from nmfuse.images import Grid, Image
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


VOLUMES = np.random.default_rng(2).integers(-900, 900, (3, 5, 50, 60)).astype(np.int16)


def test_volumes_are_measured_slice_by_slice() -> None:
    volumes = VOLUMES.copy()
    volumes[:, 3] = 7  # a slice that shows nothing
    shown = [0, 1, 2, 4]
    values = measure(volumes[0], list(volumes[1:]), ["EN", "VIF", "MS_SSIM"], window=(-900, 900))
    each = [measure(*_slices(volumes, k), ["EN", "VIF"], window=(-900, 900)) for k in shown]
    for name in ("EN", "VIF"):
        assert values[name] == pytest.approx(np.mean([row[name] for row in each]))
    assert math.isnan(values["MS_SSIM"])
    assert measure(volumes[0], list(volumes[1:]), ["EN"], data_range=(-900, 900))["EN"] == pytest.approx(values["EN"])
    assert math.isnan(measure(volumes[0, 3:4], list(volumes[1:, 3:4]), ["EN"], window=(-900, 900))["EN"])


def _slices(volumes: np.ndarray, k: int) -> tuple[np.ndarray, list[np.ndarray]]:
    return volumes[0, k], list(volumes[1:, k])


def test_the_window_of_a_volume_is_one() -> None:
    volumes = VOLUMES.copy()
    volumes[:, 1] //= 100
    low, high = int(volumes.min()), int(volumes.max())
    found = measure(volumes[0], list(volumes[1:]), ["SD"], window="minmax")
    assert found == pytest.approx(measure(volumes[0], list(volumes[1:]), ["SD"], window=(low, high)), rel=1e-2)
    by_slice = np.mean([measure(*_slices(volumes, k), ["SD"], window="minmax")["SD"] for k in range(5)])
    assert by_slice > 1.1 * found["SD"]


def test_what_is_not_valid_of_a_volume_is_black() -> None:
    valid = np.ones(VOLUMES[0].shape, bool)
    valid[:, :16] = False
    masked = [Image(x, valid) for x in VOLUMES]
    black = [np.where(valid, x, -900) for x in VOLUMES]
    options = {"window": (-900, 900), "metrics": ["EN", "VIF"]}
    assert measure(masked[0], masked[1:], **options) == measure(black[0], black[1:], **options)


def test_volumes_of_unlike_places_are_refused() -> None:
    here, there = (Image(x, grid=Grid(x.shape, np.diag([k, 1, 1, 1.0]))) for k, x in zip((1, 2), VOLUMES, strict=False))
    with pytest.raises(ValueError, match="is not on the grid of fused: spacing 2 x 1 x 1 mm against 1 x 1 x 1"):
        measure(here, [here, there], ["EN"], window="auto")
    with pytest.raises(ValueError, match=r"shape .*, and fused has .*; metrics compare volumes on one grid"):
        measure(VOLUMES[0], [VOLUMES[0], VOLUMES[1][:4]], ["EN"], window="auto")
