"""Copies of one image in a set: flipped, turned, brightened, scaled."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from scipy import ndimage, sparse

from nmfuse.classify.images import crop_content, fit_square

SIDE = 32  # pixels: what is compared
ANGLES = tuple(range(-40, 41, 5))  # degrees: how far a copy may be turned, beside quarter turns
ALIKE = 0.92  # correlation from which two images are copies
_FOREGROUND = 0.12  # of the bright: darker is background
_AT_ONCE = 512


def group_copies(
    images: Sequence[np.ndarray], threshold: float = ALIKE, progress: Callable[[int, int, str], None] | None = None
) -> np.ndarray:
    """Return the group of each image: copies of one original are in one group.

    The content of each image is reduced to 32 x 32 pixels within a circle, and its grey levels are replaced by their
    ranks. It is correlated with every other one, turned in steps of five degrees and flipped, so brightness, contrast,
    scale, flips and rotations do not matter. Images whose correlation is at least `threshold` are linked, and linked
    images form a group. This finds copies of images with little noise; noise that was cropped or rotated with an image
    hides some copies.

    Parameters
    ----------
    images : sequence of arrays (H, W)
        The images, with values from 0 to 1.
    threshold : float
        The least correlation of copies, from 0 to 1; a lower value finds more copies, and more images that are not
        copies.
    progress : callable, optional
        A function that is called with what is done, the total, and a description.

    Returns
    -------
    array, shape (N,)
        The group of each image, int64, from 0.

    Examples
    --------
    >>> a, b = np.random.default_rng(0).random((2, 8, 8)).repeat(8, 1).repeat(8, 2)
    >>> group_copies([a, b, 0.8 * a[:, ::-1]])
    array([0, 1, 0])
    """
    if not 0 < threshold <= 1:
        raise ValueError(f"threshold: got {threshold!r}; expected more than 0, at most 1")
    squares = np.stack([_content(image) for image in images])
    still = _signatures(squares)
    linked = []
    turns = [(quarter, angle) for quarter in range(0, 360, 90) for angle in ANGLES]
    for done, (quarter, angle) in enumerate(turns):
        turned = ndimage.rotate(squares, quarter + angle, axes=(1, 2), reshape=False, order=1)
        for views in (_signatures(turned), _signatures(turned[:, :, ::-1])):
            for start in range(0, len(still), _AT_ONCE):
                a, b = np.nonzero(still[start : start + _AT_ONCE] @ views.T >= threshold)
                linked.append(np.stack([a + start, b]))
        if progress is not None:
            progress(done + 1, len(turns), "looking for copies")
    return _connected(np.concatenate(linked, axis=1), len(still))


def join_groups(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Return groups (N,), from 0, of images that belong together by either of two groupings.

    Examples
    --------
    >>> join_groups(np.array([0, 0, 1, 2]), np.array([0, 1, 1, 2]))
    array([0, 0, 0, 1])
    """
    firsts = [np.unique(groups, return_index=True, return_inverse=True)[1:] for groups in (a, b)]
    links = [np.stack([np.arange(len(a)), first[place]]) for first, place in firsts]
    return _connected(np.concatenate(links, axis=1), len(a))


def leaks(groups: np.ndarray, train: np.ndarray, test: np.ndarray) -> np.ndarray:
    """Return the indices in `test` of images that have a copy in the training half.

    Examples
    --------
    >>> leaks(np.array([0, 0, 1, 2]), np.array([0, 3]), np.array([1, 2]))
    array([1])
    """
    there: np.ndarray = test[np.isin(groups[test], groups[train])]
    return there


def grouped_split(
    labels: np.ndarray, groups: np.ndarray, test_share: float = 0.5, seed: int = 0
) -> tuple[np.ndarray, np.ndarray]:
    """Split images without dividing any group, with each class as near to `test_share` as the groups allow.

    Groups are assigned one by one, the largest first, each to the half that lacks most of its class.

    Returns
    -------
    train, test : array
        The sorted indices of the images in each half.

    Raises
    ------
    ValueError
        If `test_share` is not between 0 and 1.

    Examples
    --------
    >>> grouped_split(np.array([0, 0, 1, 1]), np.array([0, 1, 2, 3]))
    (array([0, 2]), array([1, 3]))
    """
    if not 0 < test_share < 1:
        raise ValueError(f"test_share: got {test_share!r}; expected between 0 and 1")
    members = [np.flatnonzero(groups == group) for group in np.unique(groups)]
    order = np.random.default_rng(seed).permutation(len(members))
    wanted = np.array([1 - test_share, test_share])[:, None] * np.bincount(labels, minlength=2)
    got = np.zeros((2, 2))
    halves: tuple[list[int], list[int]] = ([], [])
    for index in sorted(order, key=lambda i: -len(members[i])):
        of = members[index]
        counts = np.bincount(labels[of], minlength=2)
        side = int(((wanted - got) * counts).sum(1).argmax())
        got[side] += counts
        halves[side].extend(of.tolist())
    return np.array(sorted(halves[0]), np.int64), np.array(sorted(halves[1]), np.int64)


def _connected(links: np.ndarray, count: int) -> np.ndarray:
    """Return which of `count` images hang together by links (2, L) from one to another."""
    graph = sparse.coo_array((np.ones(links.shape[1], bool), tuple(links)), shape=(count, count))
    groups: np.ndarray = sparse.csgraph.connected_components(graph, directed=False)[1]
    return groups.astype(np.int64)


def _content(image: np.ndarray) -> np.ndarray:
    bright = max(float(np.quantile(image, 0.99)), 1e-6)
    image = np.where(image < _FOREGROUND * bright, 0, image / bright)  # noise of the background has ranks as well
    return fit_square(np.ascontiguousarray(crop_content(image, image > 0), np.float32), SIDE)


def _signatures(squares: np.ndarray) -> np.ndarray:
    """Return ranks within the circle, of mean 0 and length 1: their products are correlations."""
    y, x = np.mgrid[:SIDE, :SIDE] - (SIDE - 1) / 2
    inside = squares[:, np.hypot(y, x) < SIDE / 2]
    ranks = _ranks(np.round(inside * 63).astype(np.int64))
    ranks -= ranks.mean(1, keepdims=True)
    unit: np.ndarray = (ranks / np.maximum(np.linalg.norm(ranks, axis=1, keepdims=True), 1e-6)).astype(np.float32)
    return unit


def _ranks(levels: np.ndarray) -> np.ndarray:
    """Return the mean rank of each level (N, M), from 0 on, among those of its row."""
    count, bins = len(levels), int(levels.max()) + 1
    rows = bins * np.arange(count)[:, None]
    counts = np.bincount((levels + rows).ravel(), minlength=count * bins).reshape(count, bins)
    mean: np.ndarray = counts.cumsum(1) - (counts - 1) / 2
    return np.take_along_axis(mean, levels, 1)
