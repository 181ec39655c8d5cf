"""What a folder of images and its split are worth: copies, leaks, and what needs no look at the brain."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from nmfuse.classify.copies import group_copies, grouped_split, leaks
from nmfuse.classify.extra import need_scikit_learn
from nmfuse.classify.images import ImageFolder, try_images

_BORDER = 0.05  # of the height and width


@dataclass(frozen=True, eq=False)
class Audit:
    """The findings about a folder of images.

    Attributes
    ----------
    counts : (int, int)
        The numbers of readable images, healthy and unhealthy.
    unreadable : list of str
        The names of the other images, each with what is wrong with it.
    same_pixels : int
        The number of images with the same pixels as another one.
    groups : array, shape (N,)
        The group of each image; copies of one original are in one group. See `group_copies`.
    leaking : list of str
        The test images that have a copy in the training half.
    tested : int
        The number of images in the test half.
    trivial : dict
        The accuracy in the test half of methods that only see trivial features.
    """

    counts: tuple[int, int]
    unreadable: list[str]
    same_pixels: int
    groups: np.ndarray
    leaking: list[str]
    tested: int
    trivial: dict[str, float]

    def text(self) -> str:
        """Return the findings in a few lines."""
        sizes = np.bincount(self.groups)
        copies = int((sizes - 1).sum())
        lines = [
            f"images: {self.counts[0]} healthy, {self.counts[1]} unhealthy, {len(self.unreadable)} unreadable",
            *(f"  {problem}" for problem in self.unreadable),
            f"same pixels as another image: {self.same_pixels}",
            f"originals: {len(sizes)}; copies of them (flipped, turned, brightened, scaled): {copies}, "
            f"the most of one: {sizes.max() - 1}",
            f"test images with a copy in the training half: {len(self.leaking)} of {self.tested} "
            f"({100 * len(self.leaking) / max(self.tested, 1):.1f} %)",
        ]
        for name, accuracy in self.trivial.items():
            lines.append(f"accuracy of a {name} on size, brightness and border alone: {accuracy:.3f}")
        if self.leaking:
            lines.append("An accuracy on this split measures memory as well: split by group.")
        return "\n".join(lines)


def audit(
    folder: ImageFolder,
    split: tuple[np.ndarray, np.ndarray] | None = None,
    *,
    progress: Callable[[int, int, str], None] | None = None,
) -> Audit:
    """Look for copies, leaks between the halves, and trivial cues in a folder of images.

    Parameters
    ----------
    folder : ImageFolder
        The images, as `find_images` returns them.
    split : (train, test), optional
        The indices of the images in the two halves; by default half of the groups of copies, drawn at random.
    progress : callable, optional
        A function that is called with what is done, the total, and a description.

    Raises
    ------
    ModuleNotFoundError
        If scikit-learn is not installed.
    ValueError
        If no image of one of the classes is readable.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> from nmfuse.classify import find_images
    >>> from nmfuse.io import write_image
    >>> folder = Path(tempfile.mkdtemp())
    >>> for name, seed in (("no/1", 0), ("no/2", 1), ("yes/1", 2), ("yes/2", 3)):
    ...     (folder / name).parent.mkdir(exist_ok=True)
    ...     write_image(folder / f"{name}.png", np.random.default_rng(seed).integers(0, 256, (40, 40), np.uint8))
    >>> found = audit(find_images(folder))
    >>> found.counts, found.same_pixels
    ((2, 2), 0)
    """
    need_scikit_learn("an audit")
    images, kept, unreadable = [], [], []
    for place, image in try_images(folder, range(len(folder.paths))):
        if isinstance(image, ValueError):
            unreadable.append(str(image))
        else:
            images.append(image)
            kept.append(place)
    places = np.array(kept, np.int64)
    labels = folder.labels[places]
    counts = np.bincount(labels, minlength=2)
    if counts.min() == 0:
        raise ValueError(
            f"{folder.paths[0].parent.parent}: no {folder.classes[int(counts.argmin())]} image is readable"
        )
    hashes = [hashlib.sha256(image.tobytes() + str(image.shape).encode()).hexdigest() for image in images]
    groups = group_copies(images, progress=progress)
    if split is None:
        train, test = grouped_split(labels, groups)
    else:
        train, test = (np.flatnonzero(np.isin(places, half)) for half in split)
    names = folder.names
    return Audit(
        counts=(int(counts[0]), int(counts[1])),
        unreadable=unreadable,
        same_pixels=len(hashes) - len(set(hashes)),
        groups=groups,
        leaking=[names[places[i]] for i in leaks(groups, train, test)],
        tested=len(test),
        trivial=trivial_scores(trivial_features(images), labels, train, test),
    )


def trivial_features(images: Sequence[np.ndarray]) -> np.ndarray:
    """Return what needs no look at the brain: size, aspect, brightness, contrast, black and border, (N, 8).

    Examples
    --------
    >>> trivial_features([np.ones((40, 20), np.float32)])[0, :3]
    array([40., 20.,  2.])
    """
    rows = []
    for image in images:
        height, width = image.shape
        y, x = (max(1, round(_BORDER * side)) for side in image.shape)
        border = np.concatenate([image[:y].ravel(), image[-y:].ravel(), image[:, :x].ravel(), image[:, -x:].ravel()])
        spread = [image.mean(), image.std(), (image < 0.02).mean(), border.mean(), border.std()]
        rows.append([height, width, height / width, *spread])
    return np.array(rows, np.float64)


def trivial_scores(features: np.ndarray, labels: np.ndarray, train: np.ndarray, test: np.ndarray) -> dict[str, float]:
    """Return the test accuracy of logistic regression and of a random forest."""
    return {
        name: float(model.fit(features[train], labels[train]).score(features[test], labels[test]))
        for name, model in trivial_models().items()
    }


def trivial_models() -> dict[str, Any]:
    """Return what trivial features are given to; ModuleNotFoundError without scikit-learn."""
    need_scikit_learn("what trivial features are given to")
    from sklearn.ensemble import RandomForestClassifier
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    return {
        "logistic regression": make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000)),
        "random forest": RandomForestClassifier(300, random_state=0),
    }


def refuse_leaks(
    groups: np.ndarray, train: np.ndarray, test: np.ndarray, names: Sequence[str], *, allow: bool = False
) -> str:
    """Refuse a split that copies cross; with `allow`, return a warning instead (empty where there is none).

    Raises
    ------
    ValueError
        If a test image has a copy in the training half.

    Examples
    --------
    >>> refuse_leaks(np.array([0, 1]), np.array([0]), np.array([1]), ["a.png", "b.png"])
    ''
    """
    crossing = leaks(groups, train, test)
    if not len(crossing):
        return ""
    found = f"{len(crossing)} of {len(test)} test images have a copy in the training half, such as {names[crossing[0]]}"
    if not allow:
        raise ValueError(f"split: {found}; split by group (`nmfuse classify audit`), or pass --allow-leaks")
    return f"{found}: what is measured is memory as well"
