"""Copies are found however they were changed, different images are not taken for copies, and no split tears them."""

from __future__ import annotations

import re

import numpy as np
import pytest
from scipy import ndimage

from nmfuse import io
from nmfuse.classify import audit, find_images, group_copies, grouped_split, leaks
from nmfuse.classify.audit import refuse_leaks, trivial_features
from nmfuse.classify.copies import join_groups
from nmfuse.data import brain_phantom


@pytest.fixture(scope="module")
def originals() -> list[np.ndarray]:
    """Eight slices that no one would take for another: contrasts and lesions differ."""
    images = []
    for seed in range(8):
        phantom = brain_phantom(96, seed=seed)
        image = (phantom.t1, phantom.t2, phantom.pet, phantom.ct)[seed % 4].copy()
        rng = np.random.default_rng(seed)
        rows, columns = np.mgrid[:96, :96]
        for _ in range(3):
            y, x, radius = *rng.integers(28, 68, 2), rng.integers(6, 14)
            image[(rows - y) ** 2 + (columns - x) ** 2 < radius**2] = rng.random()
        smooth = ndimage.gaussian_filter(image, 1.5)
        images.append(np.where(smooth < 0.12, 0, smooth).astype(np.float32))
    return images


CHANGES = {
    "flipped": lambda x: x[:, ::-1],
    "upside down": lambda x: x[::-1],
    "a quarter turn": lambda x: np.rot90(x),
    "turned": lambda x: ndimage.rotate(x, 10, reshape=False, order=1).clip(0, 1),
    "turned and flipped": lambda x: ndimage.rotate(x[:, ::-1], -10, reshape=False, order=1).clip(0, 1),
    "brightened": lambda x: (1.3 * x).clip(0, 1),
    "with less contrast": lambda x: x**0.8,
    "smaller": lambda x: ndimage.zoom(x, 0.6, order=1).clip(0, 1),
    "in a wider frame": lambda x: np.pad(x, ((10, 30), (25, 5))),
}


@pytest.mark.parametrize("change", CHANGES)
def test_copies_are_found(originals, change):
    copies = [CHANGES[change](image) for image in originals]
    groups = group_copies([*originals, *copies])
    assert len(np.unique(groups[:8])) == 8  # the originals stay apart
    assert (groups[:8] == groups[8:]).sum() >= 7


def test_no_split_tears_a_group():
    rng = np.random.default_rng(0)
    groups, labels = rng.integers(0, 60, 300), np.zeros(300, np.int64)
    labels[np.isin(groups, np.arange(30))] = 1
    train, test = grouped_split(labels, groups)
    assert sorted([*train, *test]) == list(range(300))
    assert not len(leaks(groups, train, test))
    for half in (train, test):
        assert abs(labels[half].sum() - labels.sum() / 2) <= 5
    torn = rng.permutation(300)
    assert len(leaks(groups, torn[:150], torn[150:])) > 100
    with pytest.raises(ValueError, match="test_share: got 1"):
        grouped_split(labels, groups, 1)


def test_leaks_are_refused_or_warned_of():
    groups, names = np.array([0, 0, 1, 2]), ["a", "b", "c", "d"]
    with pytest.raises(ValueError, match=r"1 of 2 test images have a copy in the training half, such as b"):
        refuse_leaks(groups, np.array([0, 3]), np.array([1, 2]), names)
    assert "memory" in refuse_leaks(groups, np.array([0, 3]), np.array([1, 2]), names, allow=True)
    assert refuse_leaks(groups, np.array([0, 1]), np.array([2, 3]), names) == ""


def test_an_audit_counts_what_is_there(originals, tmp_path):
    for i, image in enumerate([*originals, originals[0], originals[1][:, ::-1]]):
        label = ("no", "yes")[i % 2]
        (tmp_path / label).mkdir(exist_ok=True)
        io.write_image(tmp_path / label / f"{i}.png", (image * 255).astype(np.uint8))
    (tmp_path / "yes" / "bad.png").write_bytes(b"broken")
    folder = find_images(tmp_path)
    names = folder.names
    train = np.array([i for i, name in enumerate(names) if re.search(r"[0-5]\.png", name)])
    test = np.array([i for i, name in enumerate(names) if re.search(r"[6-9]\.png", name)])
    found = audit(folder, (train, test))
    assert found.counts == (5, 5)
    assert found.same_pixels == 1
    assert sorted(found.leaking) == ["no/8.png", "yes/9.png"]
    assert len(np.unique(found.groups)) == 8
    assert len(found.unreadable) == 1
    assert "2 of 4 (50.0 %)" in found.text()
    assert "bad.png" in found.text()


def test_trivial_features_see_no_brain():
    x = np.random.default_rng(0).random((40, 60)).astype(np.float32)
    features = trivial_features([x, x[::-1], x.T])
    np.testing.assert_allclose(features[0], features[1], rtol=1e-5)
    np.testing.assert_allclose(features[2, :2], [60, 40])


def test_joined_groups_are_chained():
    a, b = np.array([4, 4, 1, 2, 2, 0]), np.array([0, 1, 1, 2, 3, 5])
    joined = join_groups(a, b)
    assert [sorted(np.flatnonzero(joined == group)) for group in np.unique(joined)] == [[0, 1, 2], [3, 4], [5]]
    np.testing.assert_array_equal(joined, join_groups(b, a))
