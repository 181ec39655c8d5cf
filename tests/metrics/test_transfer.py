"""Signal transfer: known methods have known values."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

import nmfuse
from nmfuse.metrics import Signal, Transfer, contradiction, transfer, transfer_grid

SHAPE = (96, 120)


@pytest.fixture(scope="module")
def images() -> list[np.ndarray]:
    """Return two textures in the middle of the range, where no signal is clipped."""
    rng = np.random.default_rng(0)
    smooth = [ndimage.gaussian_filter(rng.standard_normal(SHAPE), 2) for _ in range(2)]
    return [np.rint(120 + 20 * x / x.std()).clip(85, 165).astype(np.uint8) for x in smooth]


def first(*sources: np.ndarray) -> np.ndarray:
    return sources[0]


def average(*sources: np.ndarray) -> np.ndarray:
    return np.mean([np.asarray(x, np.float64) for x in sources], axis=0) / 255


def test_an_average_shows_half_of_each(images: list[np.ndarray]) -> None:
    found = transfer(average, images)
    assert len(found.signals) == 18  # three places for each of three widths in each of two sources
    np.testing.assert_allclose([one.transfer for one in found.signals], 0.5, atol=1e-12)
    assert (found.mean, found.p5, found.lost, found.wrong) == pytest.approx((0.5, 0.5, 0, 0))


def test_a_copy_of_one_source_loses_the_other(images: list[np.ndarray]) -> None:
    found = transfer(first, images)
    assert [one.transfer for one in found.of(0).signals] == pytest.approx([1] * 9)
    assert [one.visibility for one in found.of(0).signals] == pytest.approx([1] * 9)
    assert [(one.transfer, one.visibility) for one in found.of(1).signals] == [(0, 0)] * 9
    assert (found.lost, found.wrong, found.faint) == (0.5, 0, 0.5)


def test_a_negative_shows_signals_inverted(images: list[np.ndarray]) -> None:
    found = transfer(lambda a, _: 255 - a, images)
    assert found.of(0).wrong == 1
    assert found.of(0).mean == pytest.approx(-1)


def test_clutter_hides_what_is_shown_in_full(images: list[np.ndarray]) -> None:
    rng = np.random.default_rng(1)
    flat, grain = np.full(SHAPE, 100, np.uint8), rng.uniform(-0.3, 0.3, SHAPE)
    found = transfer(lambda a, b: average(a, b) + grain, [flat, flat], sigmas=[1.5])
    assert found.mean == pytest.approx(0.5)
    assert found.visibility < 0.1
    assert transfer(average, [flat, flat], sigmas=[1.5]).visibility == pytest.approx(0.5)


def test_visibility_is_that_of_the_definition(images: list[np.ndarray]) -> None:
    """The matched filter's outputs, one after the other, over the whole image."""
    one = transfer(average, images, places=1, sigmas=[3.0]).signals[0]
    rows, columns = np.mgrid[: SHAPE[0], : SHAPE[1]]
    signal = np.rint(one.contrast * np.exp(-((rows - one.row) ** 2 + (columns - one.column) ** 2) / 18))

    def deviation(image: np.ndarray) -> float:
        outputs = []
        for y in range(-8, 9):
            for x in range(-8, 9):
                moved = ndimage.shift(image.astype(float), (-y, -x), order=0, mode="nearest")
                outputs.append((moved * signal).sum())
        return float(np.std(outputs))

    fused = 255 * average(*images)
    expected = 0.5 * deviation(images[one.source]) / deviation(fused)
    assert one.visibility == pytest.approx(expected, rel=0.05)  # at the border of the template it is cut


@pytest.mark.parametrize("dtype", [np.uint16, np.float32])
def test_other_ranges_give_the_same(images: list[np.ndarray], dtype: type) -> None:
    scale = 257 if dtype is np.uint16 else 1 / 255
    scaled = [(x.astype(np.float64) * scale).astype(dtype) for x in images]
    expected = transfer(nmfuse.Fuser("laplacian"), images)
    found = transfer(nmfuse.Fuser("laplacian"), scaled)
    for mine, theirs in zip(found.signals, expected.signals, strict=True):
        assert (mine.row, mine.column) == (theirs.row, theirs.column)
        assert mine.transfer == pytest.approx(theirs.transfer, abs=0.05)


def test_colour_is_looked_at_by_its_luminance(images: list[np.ndarray]) -> None:
    colour = np.stack([images[1]] * 3, axis=-1)
    found = transfer(nmfuse.Fuser("laplacian"), [images[0], colour])
    expected = transfer(nmfuse.Fuser("laplacian"), images)
    assert found.mean == pytest.approx(expected.mean, abs=0.02)


def test_any_number_of_sources(images: list[np.ndarray]) -> None:
    found = transfer(average, [*images, images[0]])
    assert len(found.signals) == 27
    assert found.mean == pytest.approx(1 / 3)


def test_signals_lie_where_all_sources_have_content() -> None:
    a, b = np.zeros(SHAPE, np.uint8), np.zeros(SHAPE, np.uint8)
    a[:, :70], b[:, 50:] = 100, 200
    found = transfer(average, [a, b])
    assert all(45 <= one.column <= 75 for one in found.signals)
    assert {one.contrast for one in found.of(0).signals} == {50.0}  # bright on dark
    assert {one.contrast for one in found.of(1).signals if one.column > 55} == {-50.0}


def test_a_seed_is_the_same_places(images: list[np.ndarray]) -> None:
    assert transfer(average, images, seed=3) == transfer(average, images, seed=3)
    assert transfer(average, images, seed=3) != transfer(average, images, seed=4)


def test_contradictions(images: list[np.ndarray]) -> None:
    found = contradiction(average, images)
    assert len(found.signals) == 16
    assert found.mean == pytest.approx((80 - 60) / 2 / 80, abs=0.01)
    kept = [one.transfer for one in contradiction(first, images).signals]
    np.testing.assert_allclose(kept, [1] * 8 + [-0.75] * 8, atol=0.01)


def test_a_grid_says_of_every_part_what_is_lost_there(images: list[np.ndarray]) -> None:
    """The left half comes from one source, the right half from the other."""
    larger = [np.tile(x, (3, 3)) for x in images]
    halves = np.arange(larger[0].shape[1]) < larger[0].shape[1] // 2
    found = transfer_grid(lambda a, b: np.where(halves, a, b), larger)
    assert len(found.signals) == 2 * 4 * 5
    for one in found.signals:
        if abs(one.column - larger[0].shape[1] // 2) > 12:
            assert one.transfer == pytest.approx(float((one.source == 0) == (one.column < 180)), abs=1e-6)
    with pytest.raises(ValueError, match="spacing: got 8"):
        transfer_grid(average, larger, spacing=8)


def test_figures_of_many() -> None:
    found = Transfer(tuple(Signal(0, 0, 0, 3.0, 50.0, k / 100, k / 100) for k in range(-20, 81)))
    assert found.mean == pytest.approx(0.3)
    assert found.p5 == pytest.approx(-0.15)
    assert found.lost == pytest.approx(45 / 101)
    assert found.wrong == pytest.approx(10 / 101)
    assert found.visibility == pytest.approx(0.3)
    assert found.summary()["faint"] == pytest.approx(70 / 101)


def test_what_cannot_be_measured_is_refused(images: list[np.ndarray]) -> None:
    with pytest.raises(TypeError, match=r"method: got 'laplacian'; expected a function .*nmfuse.Fuser"):
        transfer("laplacian", images)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="two or more"):
        transfer(average, images[:1])
    with pytest.raises(ValueError, match="sizes"):
        transfer(average, [images[0], images[1][:, :-1]])
    with pytest.raises(ValueError, match="more than 40 pixels"):
        transfer(average, [x[:30] for x in images])
    with pytest.raises(TypeError, match="int32"):
        transfer(average, [x.astype(np.int32) for x in images])
    with pytest.raises(ValueError, match="0 to 1"):
        transfer(average, [x.astype(np.float32) for x in images])
    with pytest.raises(ValueError, match="gave an image of shape"):
        transfer(lambda a, _: a[:-1], images)
