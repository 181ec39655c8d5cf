"""Stacks to learn from: what each picture shows, and what the truth is."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from nmfuse.training import stacks
from nmfuse.training.pairs import pair_set
from nmfuse.training.stacks import bracket, focus_stack


def picture(seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    x = ndimage.gaussian_filter(rng.standard_normal((96, 96)), 1)
    return np.clip(0.5 + 0.15 * x / x.std(), 0, 1).astype(np.float32)


@pytest.mark.parametrize("count", [2, 3, 5])
def test_every_place_is_sharp_in_one_picture(count: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stacks, "_SHAPES", 0)
    monkeypatch.setattr(stacks, "_NOISY", 0)
    scene = focus_stack(picture(), count, np.random.default_rng(3))
    assert scene.images.shape == (count, 96, 96)
    np.testing.assert_array_equal(scene.truth, picture())
    errors = np.abs(scene.images - scene.truth)
    assert errors.min(0).mean() < 0.5 * errors.mean((1, 2)).min()
    assert len(set(errors.argmin(0).ravel())) == count  # each of them somewhere


def test_what_is_out_of_focus_spreads_its_light(monkeypatch: pytest.MonkeyPatch) -> None:
    """A bright half before a dark one: beyond the edge it is brighter than the truth where the edge is blurred."""
    monkeypatch.setattr(stacks, "_SHAPES", 0)
    monkeypatch.setattr(stacks, "_NOISY", 0)
    x = np.full((96, 96), 0.05, np.float32)
    x[:, 48:] = 0.9
    halos = []
    for seed in range(8):
        scene = focus_stack(x, 2, np.random.default_rng(seed))
        halos.append((scene.images - x)[:, :, 30:44].max())
    assert max(halos) > 0.1


def test_noise_is_now_and_then_strong() -> None:
    noises = [np.std(np.diff(bracket(0 * picture() + 0.5, 3, np.random.default_rng(k)).images[1])) for k in range(5)]
    assert max(noises) < 0.02  # not in exposures
    flat = 0 * picture() + 0.5
    strong = [np.std(focus_stack(flat, 2, np.random.default_rng(k)).images[0][40:60, 40:60]) for k in range(40)]
    assert 2 <= sum(x > 0.02 for x in strong) <= 25


def test_exposures_go_from_dark_to_bright() -> None:
    scene = bracket(picture(), 4, np.random.default_rng(0))
    assert scene.truth is None
    assert (np.diff(scene.images.mean((1, 2))) > 0.02).all()


def test_heads_are_seen_by_as_many_as_asked_for() -> None:
    pairs = pair_set(None, None, 2)
    assert list(pairs.stacks) == ["heads"]
    images, truth = pairs.draw_stack(4, 3, 64, np.random.default_rng(0))
    assert (images.shape, truth) == ((4, 3, 64, 64), None)
    np.testing.assert_allclose(255 * images, np.rint(255 * images), atol=1e-4)
