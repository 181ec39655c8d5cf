"""The street: the same at every size and view, and what its photographs show."""

from __future__ import annotations

import numpy as np
import pytest

from nmfuse.data import street_scene


def test_a_seed_is_the_same_street_at_every_size() -> None:
    small, large = street_scene(48, 64), street_scene(96, 128)
    halved = large.temperature.reshape(48, 2, 64, 2).mean((1, 3))
    assert np.median(np.abs(halved - small.temperature)) < 0.5
    assert np.array_equal(small.light, street_scene(48, 64).light)
    assert not np.array_equal(small.light, street_scene(48, 64, seed=1).light)


def test_views_are_moved_as_asked() -> None:
    plain, moved = street_scene(96, 128), street_scene(96, 128, shift=(3, -5))
    np.testing.assert_allclose(moved.temperature[3:, :-5], plain.temperature[:-3, 5:], atol=0.7)
    person = [street_scene(96, 128, zoom=zoom).temperature > 30 for zoom in (1.0, 1.5)]
    assert person[1].sum() > 1.8 * person[0].sum()
    turned = street_scene(96, 128, turn=180)
    np.testing.assert_allclose(turned.distance, plain.distance[::-1, ::-1])


def test_the_person_is_warm_and_as_dark_as_the_passage() -> None:
    scene = street_scene(96, 128)
    person = scene.temperature > 25
    person[:, :90] = False
    assert person.sum() > 50
    assert scene.light[person].mean() < 0.03


def test_focus_blurs_what_lies_elsewhere() -> None:
    scene = street_scene(96, 128)
    sharp = scene.photograph().astype(float)
    sign, house = scene.distance == 3.0, scene.distance == 25.0
    for focus, clear, blurred in ((3.0, sign, house), (25.0, house, sign)):
        error = np.abs(scene.photograph(focus=focus) - sharp).mean(-1)
        assert error[clear].mean() < 0.5 * error[blurred].mean()


def test_exposure_is_a_factor_of_light() -> None:
    scene = street_scene(96, 128)
    dark, bright = scene.photograph(0.25).mean(), scene.photograph(4.0).mean()
    assert dark < 0.6 * scene.photograph().mean() < 0.6 * bright


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"height": 8}, "height: got 8; expected at least 16 pixels"),
        ({"width": 0}, "width: got 0; expected at least 16 pixels"),
        ({"zoom": 0.0}, "zoom: got 0.0; expected a number above 0"),
    ],
)
def test_what_is_refused(options: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        street_scene(**options)  # type: ignore[arg-type]


def test_photographs_refuse_what_is_no_exposure_or_distance() -> None:
    scene = street_scene(32, 32)
    with pytest.raises(ValueError, match="exposure: got 0; expected a number above 0"):
        scene.photograph(0)
    with pytest.raises(ValueError, match=r"focus: got -1\.0; expected a number above 0"):
        scene.photograph(focus=-1.0)
