"""Whole grey levels of 8-bit images, chosen to tell more of both sources."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from nmfuse import Fuser
from nmfuse.data import brain_phantom
from nmfuse.images import rows, stack
from nmfuse.images.rounding import round_informed
from nmfuse.metrics import evaluate


@pytest.fixture(scope="module")
def pair() -> tuple[np.ndarray, np.ndarray]:
    """A phantom in 40 greys, as archives keep such images."""
    phantom = brain_phantom(96)
    return tuple((6 * np.rint(40 * x)).astype(np.uint8) for x in (phantom.t2, phantom.ct))


def rounded_by_hand(y: np.ndarray, a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """The rule, pixel by pixel, in float64; all in grey levels, a and b in whole ones."""
    nearest, result = np.rint(y).astype(int), np.zeros(y.shape, int)
    tables = [np.zeros((256, 256)) for _ in range(2)]
    for table, source in zip(tables, (a, b), strict=True):
        np.add.at(table, (source, nearest), 1)
    own = np.log1p(tables[0].sum(0))
    for at, value in np.ndenumerate(y):
        low = int(np.floor(value))
        gain = 0.0
        if low < 255:
            for table, source in zip(tables, (a, b), strict=True):
                pixels = np.log1p(table[source[at], low : low + 2])
                gain += pixels[1] - pixels[0] - 1.5 * (own[low + 1] - own[low])
        free = 0.1 < value - low < 0.9 and abs(gain) > 1e-5
        result[at] = low + (gain > 0) if free else nearest[at]
    return result


@pytest.mark.parametrize("data_range", [None, (-5.0, 300.0), (-10.0, 256.0)])
def test_levels_are_chosen_by_the_rule(data_range: tuple[float, float] | None) -> None:
    rng = np.random.default_rng(5)
    a, b = (rng.integers(0, 12, (40, 33), np.uint8) * step for step in (20, 7))
    taken = stack.take([a, b], data_range=data_range)
    planes, form = taken.planes, taken.form
    y = 0.6 * planes[0] + 0.4 * planes[1] + 0.004 * torch.from_numpy(rng.random(a.shape, np.float32))
    rounded = round_informed(y, planes, form.low, form.high)
    values, got = (x.double().numpy() * (form.high - form.low) + form.low for x in (y, rounded))
    np.testing.assert_allclose(got, np.rint(got), atol=1e-4)
    share = values % 1
    clear = (np.abs(share[..., None] - [0.1, 0.5, 0.9]) > 1e-3).all(-1)  # float32 at the edge of what may move
    assert clear.mean() > 0.98
    np.testing.assert_array_equal(np.rint(got)[clear], rounded_by_hand(values, a, b)[clear])
    assert np.abs(got - values).max() < 0.9 + 1e-3


def test_it_tells_more_of_both_images_at_less_than_a_grey_level(pair: tuple[np.ndarray, np.ndarray]) -> None:
    near, informed = (Fuser(rounding=name).fuse(*pair) for name in ("nearest", "informed"))
    exact = 255 * Fuser().fuse(*(x / 255 for x in pair))
    assert np.abs(informed - exact).max() < 0.9 + 1e-3
    told = [evaluate(fused, list(pair), metrics=["MI", "SSIM", "Q_abf"]) for fused in (near, informed)]
    assert told[1]["MI"] > told[0]["MI"] + 0.05
    assert told[1]["SSIM"] == pytest.approx(told[0]["SSIM"], abs=0.005)
    assert told[1]["Q_abf"] == pytest.approx(told[0]["Q_abf"], abs=0.005)


def test_it_tells_more_in_colour_too(pair: tuple[np.ndarray, np.ndarray]) -> None:
    mri = pair[0]
    tint = np.stack([pair[1], pair[1] // 2, pair[1] // 3], axis=-1)
    np.testing.assert_array_equal(Fuser().fuse(tint, tint), tint)  # its luminance lies between the levels
    grey = [0.299, 0.587, 0.114]
    told = []
    for name in ("nearest", "informed"):
        fused, colour = (np.rint(x @ grey).astype(np.uint8) for x in (Fuser(rounding=name).fuse(mri, tint), tint))
        told.append(evaluate(fused, [mri, colour], metrics=["MI"])["MI"])
    assert told[1] > told[0] + 0.05


@pytest.mark.parametrize("data_range", [(-5.0, 300.0), (-10.0, 256.0)])
def test_any_range_of_values_is_rounded(data_range: tuple[float, float], pair: tuple[np.ndarray, np.ndarray]) -> None:
    near, informed = (Fuser(rounding=name).fuse(*pair, data_range=data_range) for name in ("nearest", "informed"))
    assert np.abs(near.astype(int) - informed).max() == 1


def test_some_rows_at_a_time_are_rounded_as_all_at_once(
    pair: tuple[np.ndarray, np.ndarray], monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = Fuser().fuse(*pair)
    monkeypatch.setattr(rows, "AT_ONCE", 3000)
    np.testing.assert_array_equal(Fuser().fuse(*pair), whole)


@pytest.mark.parametrize("dtype", ["uint16", "float32"])
def test_finer_images_are_left_as_they_are(dtype: str, pair: tuple[np.ndarray, np.ndarray]) -> None:
    fine = [(x / 255 * (65535 if dtype == "uint16" else 1)).astype(dtype) for x in pair]
    near, informed = (Fuser(rounding=name).fuse(*fine) for name in ("nearest", "informed"))
    np.testing.assert_array_equal(near, informed)


def test_only_the_learned_method_rounds_so() -> None:
    with pytest.raises(ValueError, match="rounding: is an option of method='learned' or 'learned-all'"):
        Fuser("paper", rounding="nearest")
    with pytest.raises(ValueError, match="rounding: got 'up'; expected one of informed, nearest"):
        Fuser(rounding="up")
