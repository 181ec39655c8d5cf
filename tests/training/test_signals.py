"""Signals that training puts into the sources: what is added, and what is missed of it."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import ndimage

from nmfuse.metrics import Signal
from nmfuse.metrics.transfer import _clutter
from nmfuse.training import signals
from nmfuse.training.signals import insert_signals, shortfalls

SHAPE = (3, 2, 128, 192)  # sources, scenes, rows, columns


@pytest.fixture(scope="module")
def images() -> np.ndarray:
    rng = np.random.default_rng(0)
    smooth = ndimage.gaussian_filter(rng.standard_normal(SHAPE), (0, 0, 2, 2))
    return (np.rint(128 + 30 * smooth / smooth.std()).clip(60, 196) / 255).astype(np.float32)


def test_a_signal_is_in_one_source_or_in_two_with_unlike_signs(images: np.ndarray) -> None:
    changed, inserted = insert_signals(images, np.random.default_rng(1))
    assert 8 <= len(inserted) <= 12  # a cell of 64 pixels has one where there is room
    contradicted = 0
    for one in inserted:
        rows, columns = one.place
        differences = list((changed - images)[:, one.scene, rows, columns])
        owner = next(d for d in differences if np.allclose(d, one.shape, atol=1e-6))
        rest = [d for d in differences if d is not owner and d.any()]
        assert 9 / 255 < np.abs(owner).max() <= 81 / 255
        assert len(rest) == (one.wanted < 1)
        for other in rest:
            contradicted += 1
            assert (other * owner).sum() < 0
            assert np.abs(other).sum() < np.abs(owner).sum()
    assert contradicted > 0
    assert changed.min() >= 0
    assert changed.max() <= 1
    np.testing.assert_allclose(255 * changed, np.rint(255 * changed), atol=1e-4)


def test_where_there_is_no_content_there_is_no_signal() -> None:
    black = np.zeros((2, 1, 64, 64), np.float32)
    changed, inserted = insert_signals(black, np.random.default_rng(0))
    assert not inserted
    assert not changed.any()
    zero = torch.zeros(1, 64, 64)
    assert [float(x) for x in shortfalls(zero, zero, inserted)] == [0, 0]


def test_an_average_lacks_what_it_does_not_show(images: np.ndarray, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(signals, "_CONTRADICTING", 0)
    changed, inserted = insert_signals(images, np.random.default_rng(2))
    means = [torch.from_numpy(x.mean(0)) for x in (images, changed)]
    assert float(shortfalls(means[0], means[1], inserted)[0]) == pytest.approx((2 / 3) ** 2, rel=1e-4)
    full = torch.from_numpy((changed - images).sum(0))
    missing, _ = shortfalls(torch.zeros_like(full), full, inserted)
    assert float(missing) == pytest.approx(0, abs=1e-10)


def test_visibility_is_that_of_the_metric(images: np.ndarray) -> None:
    rows, columns = np.mgrid[:64, :64]
    s = 50 * np.exp(-((rows - 32) ** 2 + (columns - 32) ** 2) / (2 * 2.0**2))
    image = 255 * images[0, 0]
    place = (slice(32, 96), slice(64, 128))
    template = np.zeros(image.shape)
    template[place] = s
    one = Signal(0, 64, 96, 2.0, 50.0, 1.0, 1.0)
    mine = signals._clutter(torch.from_numpy(image / 255), torch.from_numpy(s / 255).float(), place)
    expected = _clutter(image.astype(np.float64), template, one) / 255**2
    assert float(mine) == pytest.approx(expected, rel=0.05)


def test_gradients_are_finite(images: np.ndarray) -> None:
    changed, inserted = insert_signals(images, np.random.default_rng(3))
    without, shown = (torch.from_numpy(x.mean(0)).requires_grad_() for x in (images, changed))
    sum(shortfalls(without, shown, inserted)).backward()
    assert without.grad.isfinite().all()
    assert shown.grad.abs().max() > 0
