"""The classifier, its ablations and plain baselines on a split, measured alike."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

import nmfuse
from nmfuse.classify.audit import trivial_features, trivial_models
from nmfuse.classify.classifier import Classifier, Curve
from nmfuse.classify.extra import need_scikit_learn
from nmfuse.classify.features import prepare
from nmfuse.classify.hog import hog
from nmfuse.classify.measures import MEASURES, bootstrap, calibration, measures, precision_recall, roc
from nmfuse.kernels import hannmean

# What is given to the classifier. The heads are learned on the branches of "trainable", and repeated with it.
HEADS: dict[str, dict[str, object]] = {"trainable": {}, "without NMF 1": {"rank": 0}, "without NMF 2": {"rank2": 0}}
VARIANTS: dict[str, dict[str, object]] = {
    **HEADS,
    "frozen": {"trainable": False},
    "without Hannmean": {"hannmean_size": 0},
    "without CNN": {"cnn": False},
}
RIVALS = {"fused by wavelets": "wavelet", "fused by fuzzy logic": "fuzzy", "fused by PCA": "pca"}  # and the same head
TRIVIAL = {f"{model} on size and brightness": model for model in ("logistic regression", "random forest")}
BASELINES = ("logistic regression on pixels", "HOG + SVM", *TRIVIAL)
_REPEATED = (*HEADS, "frozen")  # for each seed
_DEFAULTS = Classifier().get_params()


@dataclass(frozen=True, eq=False)
class Evaluation:
    """The predictions for the test half.

    Attributes
    ----------
    labels : array, shape (N,)
        The class of each image: 0 for healthy, 1 for unhealthy.
    probabilities : dict
        For each method, one array (N,) of probabilities for each seed.
    curves : dict
        For each training with the first seed, rows of epoch, training loss and accuracy, validation loss and accuracy.
    groups : array, shape (N,), optional
        The group of each image; the bootstrap draws whole groups.
    """

    labels: np.ndarray
    probabilities: dict[str, list[np.ndarray]]
    curves: dict[str, Curve]
    groups: np.ndarray | None = None

    def rows(self) -> list[dict[str, object]]:
        """Return a row for each method: mean and deviation over the seeds, and the interval of the first seed."""
        rows = []
        for name, seeds in self.probabilities.items():
            each = [measures(self.labels, (p >= 0.5).astype(int)) for p in seeds]
            intervals = bootstrap(self.labels, seeds[0], self.groups)
            row: dict[str, object] = {"method": name, "seeds": len(seeds)}
            for measure in MEASURES:
                values = [float(getattr(m, measure)) for m in each]
                row[measure] = float(np.mean(values))
                row[f"{measure}_sd"] = float(np.std(values))
                row[f"{measure}_low"], row[f"{measure}_high"] = intervals[measure]
            row["roc_area"] = float(np.mean([roc(self.labels, p)[2] for p in seeds]))
            row["average_precision"] = float(np.mean([precision_recall(self.labels, p)[2] for p in seeds]))
            row["ece"] = float(np.mean([calibration(self.labels, p)[3] for p in seeds]))
            rows.append(row)
        return rows


def evaluate_split(
    images: Sequence[np.ndarray],
    labels: np.ndarray,
    train: np.ndarray,
    test: np.ndarray,
    groups: np.ndarray | None = None,
    *,
    methods: Sequence[str] | None = None,
    seeds: int = 5,
    epochs: int = 40,
    start: str | Path | None = None,
    device: str = "cpu",
    progress: Callable[[int, int, str], None] | None = None,
) -> Evaluation:
    """Train each method with the training half, and predict the test half once.

    Parameters
    ----------
    images : sequence of arrays (H, W)
        The images, with values from 0 to 1.
    labels : array, shape (N,)
        The class of each image: 0 for healthy, 1 for unhealthy.
    train, test : array
        The indices of the images in the two halves.
    groups : array, shape (N,), optional
        The group of each image: copies of one original, or images of one patient, have the same number. Validation and
        bootstrap keep groups together.
    methods : sequence of str, optional
        Names in `VARIANTS`, in `RIVALS` (for which the two views are fused and given to the same classifier) and in
        `BASELINES`; all by default.
    seeds : int
        The number of trainings of the classifier with and without NMF, trainable and frozen; the other methods are
        trained once.
    epochs : int
        The number of epochs of the fine-tuning.
    start : path, optional
        A model file whose fine-tuned branches every fine-tuning starts from.
    device : str
        The device on which the classifier is trained, "cpu" or "cuda".
    progress : callable, optional
        A function that is called with what is done, the total, and a description.

    Raises
    ------
    ModuleNotFoundError
        If one of `BASELINES` is asked for and scikit-learn is not installed.
    ValueError
        For an unknown method, for halves that overlap, and for what `Classifier.fit` refuses.

    Examples
    --------
    >>> images = list(np.random.default_rng(0).random((16, 64, 64), np.float32))
    >>> halves = np.arange(8), np.arange(8, 16)
    >>> evaluation = evaluate_split(images, np.arange(16) % 2, *halves, methods=["frozen"], seeds=1)
    >>> evaluation.rows()[0]["method"]
    'frozen'
    """
    known = (*VARIANTS, *RIVALS, *BASELINES)
    methods = known if methods is None else methods
    for name in methods:
        if name not in known:
            raise ValueError(f"methods: got {name!r}; expected some of {', '.join(known)}")
        if name in BASELINES:
            need_scikit_learn(f"methods: {name!r}")
    if np.intersect1d(train, test).size:
        raise ValueError(f"test: {np.intersect1d(train, test).size} images are in both halves; expected none")
    jobs = [(name, seed) for seed in range(seeds) for name in methods if seed == 0 or name in _REPEATED]
    halves = [images[i] for i in train], [images[i] for i in test]
    together = None if groups is None else groups[train]
    probabilities: dict[str, list[np.ndarray]] = {name: [] for name in methods}
    curves: dict[str, Curve] = {}
    tuned: tuple[int, Classifier] | None = None  # a seed, and the classifier whose branches its heads share
    for done, (name, seed) in enumerate(jobs):
        if progress is not None:
            progress(done, len(jobs), name)
        if name in BASELINES:
            probabilities[name].append(_baseline(name, halves[0], labels[train], halves[1]))
            continue
        learned, asked = halves
        if name in RIVALS:
            learned, asked = ([_fused(image, RIVALS[name]) for image in half] for half in halves)
        if name in HEADS and tuned is not None and tuned[0] == seed:
            ranks = {key: HEADS[name].get(key, _DEFAULTS[key]) for key in ("rank", "rank2")}
            classifier = copy.copy(tuned[1]).set_params(**ranks)
            classifier.fit_head(learned, labels[train], together)
        else:
            options = {"hannmean_size": 0} if name in RIVALS else VARIANTS[name]
            starts = {} if start is None or {"trainable", "cnn"} & options.keys() else {"start": start}
            classifier = Classifier(**options, **starts, epochs=epochs, seed=seed, device=device)  # type: ignore[arg-type]
            classifier.fit(learned, labels[train], together)
            if name in HEADS:
                tuned = seed, classifier
            if seed == 0:
                curves[name] = classifier.curve_
        probabilities[name].append(classifier.predict_proba(asked)[:, 1])
    if progress is not None:
        progress(len(jobs), len(jobs), "done")
    return Evaluation(labels[test], probabilities, curves, None if groups is None else groups[test])


def _fused(image: np.ndarray, method: str) -> np.ndarray:
    """Return an image and its Hannmean-filtered view, fused by a rival method."""
    smooth = hannmean(image, _DEFAULTS["hannmean_size"]).clip(0, 1)  # a mean of ones may be rounded up
    fused = nmfuse.fuse(image, smooth, method=method, data_range=(0, 1))
    return np.asarray(fused).clip(0, 1)


def _baseline(name: str, learned: Sequence[np.ndarray], labels: np.ndarray, asked: Sequence[np.ndarray]) -> np.ndarray:
    """Return the probabilities of the second images by a plain method that learned from the first."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler
    from sklearn.svm import SVC

    if name == "HOG + SVM":
        seen, there = ([hog(prepare(image)) for image in half] for half in (learned, asked))
        scores = make_pipeline(StandardScaler(), SVC(random_state=0)).fit(seen, labels).decision_function(there)
        return np.asarray(1 / (1 + np.exp(-scores)))
    if name in TRIVIAL:
        model = trivial_models()[TRIVIAL[name]]
        seen, there = (list(trivial_features(half)) for half in (learned, asked))
    else:
        model = make_pipeline(StandardScaler(), LogisticRegression(C=0.01, max_iter=1000))
        seen, there = ([prepare(image, 32).ravel() for image in half] for half in (learned, asked))
    return np.asarray(model.fit(seen, labels).predict_proba(there)[:, 1])
