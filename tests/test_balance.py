"""How much of each source is wanted, where the result comes from, and where sources contradict each other."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from scipy import ndimage

import nmfuse
from nmfuse.metrics import transfer


@pytest.fixture(scope="module")
def sources() -> list[np.ndarray]:
    phantom = nmfuse.data.brain_phantom(96)
    return [np.rint(255 * x).astype(np.uint8) for x in (phantom.t1, phantom.t2, phantom.ct)]


@pytest.mark.parametrize("method", ["learned", "paper", "laplacian"])
def test_a_source_alone_is_returned_as_it_is(method: str, sources: list[np.ndarray]) -> None:
    for k in range(3):
        alone = [float(i == k) for i in range(3)]
        np.testing.assert_array_equal(nmfuse.fuse(*sources, method=method, balance=alone), sources[k])


def test_colour_alone_is_returned_as_it_is(sources: list[np.ndarray]) -> None:
    colour = nmfuse.data.pet_rgb(nmfuse.data.brain_phantom(96).pet)
    np.testing.assert_array_equal(nmfuse.fuse(sources[0], colour, balance=[0, 1]), colour)
    np.testing.assert_array_equal(nmfuse.fuse(sources[0], colour, balance=[1, 0]), np.stack([sources[0]] * 3, -1))


def test_equal_shares_change_nothing_and_zero_leaves_out(sources: list[np.ndarray]) -> None:
    np.testing.assert_array_equal(nmfuse.fuse(*sources, balance=[0.4] * 3), nmfuse.fuse(*sources))
    np.testing.assert_array_equal(nmfuse.fuse(*sources, balance=[1, 0, 1]), nmfuse.fuse(sources[0], sources[2]))


def test_in_between_it_is_a_mean_of_fusions(sources: list[np.ndarray]) -> None:
    a, b, c = (x / np.float32(255) for x in sources)
    found = nmfuse.fuse(a, b, c, balance=[0.5, 1, 0.2])
    expected = 0.2 * nmfuse.fuse(a, b, c) + 0.3 * nmfuse.fuse(a, b) + 0.5 * b
    np.testing.assert_allclose(found, expected, atol=1e-5)
    again = nmfuse.fuse(c, b, a, balance=[0.2, 1, 0.5])
    np.testing.assert_array_equal(found, again)  # the order of the sources does not matter


def test_the_transfer_of_a_source_rises_with_its_balance(sources: list[np.ndarray]) -> None:
    pair = [sources[1], sources[2]]
    means = []
    for share in (0, 0.25, 0.5, 0.75, 1):
        fuser = nmfuse.Fuser("laplacian")
        found = transfer(lambda *x, b=share, f=fuser: f.fuse(*x, balance=[1, b]), pair, places=2)
        means.append(found.of(1).mean)
    assert means[0] == 0
    assert all(later > earlier for earlier, later in itertools.pairwise(means))


def test_where_the_wanted_source_shows_nothing_the_others_do(sources: list[np.ndarray]) -> None:
    valid = np.ones((96, 96), bool)
    valid[:, 60:] = False
    one = nmfuse.Image(sources[0], valid)
    found = nmfuse.fuse(one, sources[1], balance=[1, 0.5])
    np.testing.assert_array_equal(found.pixels[:, 60:], sources[1][:, 60:])


@pytest.mark.parametrize("balance", [[1], [1, 2, 0], [0, 0, 0], "abc", 1, [1, np.nan, 1], [1, -0.5, 1]])
def test_a_balance_that_makes_no_sense_is_refused(balance: object, sources: list[np.ndarray]) -> None:
    with pytest.raises(ValueError, match=r"balance: got .*expected"):
        nmfuse.fuse(*sources, balance=balance)


def test_provenance_of_a_focus_stack_is_its_depth_map() -> None:
    rng = np.random.default_rng(0)
    scene = np.rint(rng.uniform(0, 255, (96, 96)))
    blurred = ndimage.gaussian_filter(scene, 3)
    left = np.arange(96) < 48
    a, b = (np.where(side, scene, blurred).astype(np.uint8) for side in (left, ~left))
    steps = nmfuse.Fuser().explain(a, b)
    shares = steps["provenance"]
    np.testing.assert_allclose(shares.sum(0), 1, atol=1e-5)
    assert shares[0][:, :40].min() > 0.5
    assert shares[1][:, 56:].min() > 0.5


def test_conflict_is_where_signs_differ() -> None:
    a, b = np.full((2, 64, 64), 128, np.uint8)
    a[10:16, 10:16], b[10:16, 10:16] = 208, 68  # unlike
    a[40:46, 40:46], b[40:46, 40:46] = 208, 208  # alike
    found = nmfuse.Fuser().explain(a, b)["conflict"]
    assert found[10:16, 10:16].max() > 0.1
    assert found[40:46, 40:46].max() < 0.02
    assert found[24:32].max() < 0.01


def test_colours_fade_with_their_source(sources: list[np.ndarray]) -> None:
    """What is fused is b times the image of both and 1 - b times the first, in colour, too."""
    colour = nmfuse.data.pet_rgb(nmfuse.data.brain_phantom(96).pet)
    images = [sources[0].astype(np.float64) / 510 + 0.25, colour.astype(np.float64) / 510 + 0.25]  # nothing is clipped
    both, first, half = (nmfuse.fuse(*images, balance=balance) for balance in ([1, 1], [1, 0], [1, 0.25]))
    np.testing.assert_allclose(half, 0.25 * both + 0.75 * first, atol=1e-6)
    assert np.ptp(both, axis=-1).max() > 0.2
