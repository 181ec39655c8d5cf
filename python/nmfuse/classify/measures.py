"""The measures of a classifier of two classes, their intervals, and the curves of its probabilities."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

MEASURES = ("accuracy", "precision", "recall", "f1", "false_detection_rate", "sensitivity", "specificity")


@dataclass(frozen=True, eq=False)
class Measures:
    """The seven measures of a classifier; the positive class is 1, unhealthy. A measure that is 0/0 is NaN.

    Attributes
    ----------
    accuracy : float
        (TP + TN) / all.
    precision : float
        TP / (TP + FP); NaN where nothing is predicted unhealthy.
    recall, sensitivity : float
        TP / (TP + FN), one measure under its two names; NaN where nothing is unhealthy.
    f1 : float
        2 P R / (P + R), computed as 2 TP / (2 TP + FP + FN): 0, not NaN, for a classifier that finds none of the
        unhealthy; NaN only where nothing is unhealthy and nothing is predicted to be.
    false_detection_rate : float
        FP / (FP + TP), which is 1 - precision; NaN where nothing is predicted unhealthy.
    specificity : float
        TN / (TN + FP); NaN where nothing is healthy.
    confusion : array, shape (2, 2)
        int64, [[TN, FP], [FN, TP]]: rows are the true classes, columns the predicted ones.
    """

    accuracy: float
    precision: float
    recall: float
    f1: float
    false_detection_rate: float
    sensitivity: float
    specificity: float
    confusion: np.ndarray


def measures(labels: ArrayLike, predicted: ArrayLike) -> Measures:
    """Return the seven measures of predicted classes, and the confusion matrix.

    Parameters
    ----------
    labels, predicted : array-like, shape (N,)
        The true and the predicted class of each image: 0 healthy, 1 unhealthy.

    Raises
    ------
    ValueError
        If there are no images, the lengths differ, or a value is neither 0 nor 1.

    Examples
    --------
    >>> result = measures([0, 0, 0, 1, 1], [0, 0, 1, 1, 1])
    >>> result.accuracy, round(result.precision, 3), result.recall, result.f1
    (0.8, 0.667, 1.0, 0.8)
    >>> result.confusion
    array([[2, 1],
           [0, 2]])
    """
    labels = _classes("labels", labels)
    predicted = _classes("predicted", predicted)
    _require_length("predicted", predicted, labels)
    counts = np.bincount(2 * labels + predicted, minlength=4)
    rates = _rates(counts[None].astype(np.float64))
    return Measures(**{name: float(value[0]) for name, value in rates.items()}, confusion=counts.reshape(2, 2))


def bootstrap(
    labels: ArrayLike,
    probabilities: ArrayLike,
    groups: ArrayLike | None = None,
    threshold: float = 0.5,
    resamples: int = 2000,
    seed: int = 0,
) -> dict[str, tuple[float, float]]:
    """Return the 95 % percentile interval of each of the seven measures, by the bootstrap.

    Images of one patient, or copies of one image, tend to be classified rightly or wrongly together, so they tell less
    than as many images of different patients would. If `groups` says which images belong together, whole groups are
    drawn. Otherwise every image counts as independent, and the intervals are too narrow if they are not.

    Parameters
    ----------
    labels : array-like, shape (N,)
        The true class of each image: 0 healthy, 1 unhealthy.
    probabilities : array-like, shape (N,)
        The probability that each image is unhealthy, in [0, 1].
    groups : array-like, shape (N,), optional
        The group of each image, such as its patient, as a number or a name.
    threshold : float
        The least probability at which an image is predicted to be unhealthy.
    resamples : int
        The number of sets that are drawn with replacement, each with as many groups (or images) as there are.
    seed : int
        The seed; the same seed gives the same intervals.

    Returns
    -------
    dict
        For each measure (low, high), its 2.5th and 97.5th percentile. Resamples in which a measure is 0/0 are left out;
        if it is 0/0 in all of them, both ends are NaN.

    Raises
    ------
    ValueError
        If lengths differ, a label or probability is out of range, there are fewer than two images or groups, or
        `resamples` is less than 1.

    References
    ----------
    Efron & Tibshirani, An Introduction to the Bootstrap (1993), ch. 13; Field & Welsh, J. R. Statist. Soc. B 69 (2007)
    369-390 (whole groups are drawn).

    Examples
    --------
    >>> labels, probabilities = [0, 0, 0, 0, 1, 1, 1, 1], [0.1, 0.2, 0.3, 0.6, 0.4, 0.7, 0.8, 0.9]
    >>> bootstrap(labels, probabilities)["accuracy"]
    (0.375, 1.0)
    >>> bootstrap(labels * 9, probabilities * 9)["accuracy"]  # nine copies of each image look like more data
    (0.652..., 0.847...)
    >>> bootstrap(labels * 9, probabilities * 9, groups=list(range(8)) * 9)["accuracy"]
    (0.375, 1.0)
    """
    labels, probabilities = _labels_and_probabilities(labels, probabilities)
    if not 0 <= threshold <= 1:
        raise ValueError(f"threshold: got {threshold}; expected a probability, from 0 to 1")
    if resamples < 1:
        raise ValueError(f"resamples: got {resamples}; expected at least 1, such as 2000")
    cells = 2 * labels + (probabilities >= threshold)
    group, unit = np.arange(len(labels)), "image"
    if groups is not None:
        names, unit = np.asarray(groups), "group"
        _require_length("groups", names, labels)
        group = np.unique(names, return_inverse=True)[1]
    number = int(group.max()) + 1
    if number < 2:
        raise ValueError(
            f"{'groups' if unit == 'group' else 'labels'}: got one {unit}; expected at least two to draw from"
        )
    # Groups with the same four counts are interchangeable, so it is enough to draw how many of each kind come:
    # exactly the distribution of drawing groups one by one, in memory that does not grow with their number.
    counts = np.bincount(4 * group + cells, minlength=4 * number).reshape(number, 4)
    kinds, how_many = np.unique(counts, axis=0, return_counts=True)
    drawn = np.random.default_rng(seed).multinomial(number, how_many / number, size=resamples)
    return {name: _interval(values) for name, values in _rates((drawn @ kinds).astype(np.float64)).items()}


def roc(labels: ArrayLike, probabilities: ArrayLike) -> tuple[np.ndarray, np.ndarray, float]:
    """Return the ROC curve, and the area under it.

    Parameters
    ----------
    labels : array-like, shape (N,)
        The true class of each image: 0 healthy, 1 unhealthy.
    probabilities : array-like, shape (N,)
        The probability that each image is unhealthy, in [0, 1].

    Returns
    -------
    fpr, tpr : array, float64
        The shares of the healthy and of the unhealthy that are called unhealthy, from (0, 0) to (1, 1), with one point
        for each different probability. Images with equal probabilities are joined by a slanted line.
    area : float
        The area by trapezoids, which is the chance that of an unhealthy and a healthy image the former has the higher
        probability, where a tie counts half.

    Raises
    ------
    ValueError
        If lengths differ, a label or probability is out of range, or one class is missing.

    References
    ----------
    Fawcett, Pattern Recognition Letters 27 (2006) 861-874.

    Examples
    --------
    >>> roc([0, 0, 1, 1], [0.1, 0.4, 0.35, 0.8])
    (array([0. , 0. , 0.5, 0.5, 1. ]), array([0. , 0.5, 0.5, 1. , 1. ]), 0.75)
    """
    tp, fp = _cumulative(labels, probabilities)
    area = np.sum(np.diff(fp) * (tp[1:] + tp[:-1])) / (2 * tp[-1] * fp[-1])
    return fp / fp[-1], tp / tp[-1], float(area)


def precision_recall(labels: ArrayLike, probabilities: ArrayLike) -> tuple[np.ndarray, np.ndarray, float]:
    """Return the curve of precision over recall, and the average precision.

    Parameters
    ----------
    labels : array-like, shape (N,)
        The true class of each image: 0 healthy, 1 unhealthy.
    probabilities : array-like, shape (N,)
        The probability that each image is unhealthy, in [0, 1].

    Returns
    -------
    recall, precision : array, float64
        The curve from recall 0, where the precision is set to 1, to recall 1, with one point for each different
        probability.
    average_precision : float
        The sum of precision times the rise of recall, without interpolation, which would be too optimistic (Davis &
        Goadrich). For random guesses it is about the share of the unhealthy.

    Raises
    ------
    ValueError
        If lengths differ, a label or probability is out of range, or one class is missing.

    References
    ----------
    Davis & Goadrich, ICML 2006.

    Examples
    --------
    >>> recall, precision, average = precision_recall([0, 0, 1, 1], [0.1, 0.4, 0.35, 0.8])
    >>> recall, round(average, 3)
    (array([0. , 0.5, 0.5, 1. , 1. ]), 0.833)
    """
    tp, fp = _cumulative(labels, probabilities)
    recall = tp / tp[-1]
    precision = np.append(1.0, tp[1:] / (tp[1:] + fp[1:]))
    return recall, precision, float(np.sum(np.diff(recall) * precision[1:]))


def calibration(
    labels: ArrayLike, probabilities: ArrayLike, bins: int = 10
) -> tuple[np.ndarray, np.ndarray, np.ndarray, float]:
    """Return what a reliability diagram shows, and the expected calibration error.

    Parameters
    ----------
    labels : array-like, shape (N,)
        The true class of each image: 0 healthy, 1 unhealthy.
    probabilities : array-like, shape (N,)
        The probability that each image is unhealthy, in [0, 1].
    bins : int
        The number of bins of equal width, by the probability of being unhealthy. (Bins by the confidence in the
        predicted class would hide errors that are opposite in the two classes.) A bin includes its lower edge, and the
        last one both edges.

    Returns
    -------
    mean_predicted, share_unhealthy : array, shape (bins,)
        The mean probability and the share of unhealthy images in each bin; NaN in an empty one.
    count : array, shape (bins,)
        The number of images in each bin, int64.
    ece : float
        The expected calibration error: the mean over all images of ``|share_unhealthy - mean_predicted|`` of their bin;
        0 is perfect.

    Raises
    ------
    ValueError
        If lengths differ, a label or probability is out of range, or `bins` is less than 1.

    References
    ----------
    Naeini, Cooper & Hauskrecht, AAAI 2015.

    Examples
    --------
    >>> calibration([0, 1, 1, 1], [0.25, 0.25, 0.75, 0.75], bins=2)
    (array([0.25, 0.75]), array([0.5, 1. ]), array([2, 2]), 0.25)
    """
    labels, probabilities = _labels_and_probabilities(labels, probabilities)
    if bins < 1:
        raise ValueError(f"bins: got {bins}; expected at least 1, such as 10")
    index = np.digitize(probabilities, np.arange(1, bins) / bins)
    count = np.bincount(index, minlength=bins)
    predicted = np.bincount(index, probabilities, minlength=bins)
    unhealthy = np.bincount(index, labels, minlength=bins)
    ece = np.abs(unhealthy - predicted).sum() / len(labels)
    return _ratio(predicted, count), _ratio(unhealthy, count), count, float(ece)


def _rates(counts: np.ndarray) -> dict[str, np.ndarray]:
    """Return the seven measures of each row (TN, FP, FN, TP)."""
    tn, fp, fn, tp = counts.T
    recall = _ratio(tp, tp + fn)
    return {
        "accuracy": _ratio(tp + tn, counts.sum(1)),
        "precision": _ratio(tp, tp + fp),
        "recall": recall,
        "f1": _ratio(2 * tp, 2 * tp + fp + fn),
        "false_detection_rate": _ratio(fp, fp + tp),
        "sensitivity": recall,
        "specificity": _ratio(tn, tn + fp),
    }


def _ratio(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    result = np.full(whole.shape, np.nan)
    np.divide(part, whole, out=result, where=whole > 0)
    return result


def _interval(values: np.ndarray) -> tuple[float, float]:
    values = values[~np.isnan(values)]
    if not values.size:
        return float("nan"), float("nan")
    low, high = np.quantile(values, [0.025, 0.975])
    return float(low), float(high)


def _cumulative(labels: ArrayLike, probabilities: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    """Return how many TP and FP there are above a threshold that falls past one different probability at a time."""
    labels, probabilities = _labels_and_probabilities(labels, probabilities)
    if labels.all() or not labels.any():
        raise ValueError(f"labels: got images of class {labels[0]} only; expected both classes, 0 and 1")
    order = np.argsort(-probabilities, kind="stable")
    last = np.append(np.flatnonzero(np.diff(probabilities[order])), len(labels) - 1)  # of each run of ties
    tp = np.append(0, np.cumsum(labels[order])[last])
    return tp, np.append(0, last + 1) - tp


def _labels_and_probabilities(labels: ArrayLike, probabilities: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    labels = _classes("labels", labels)
    found = np.asarray(probabilities)
    if found.ndim == 2:
        raise ValueError(f"probabilities: got shape {found.shape}; expected one axis, pass the column of the unhealthy")
    _require_length("probabilities", found, labels)
    if found.dtype.kind not in "biuf":
        raise ValueError(f"probabilities: got values of type {found.dtype}; expected numbers from 0 to 1")
    wrong = found[~((found >= 0) & (found <= 1))]
    if wrong.size:
        raise ValueError(f"probabilities: got {wrong[0]}; expected numbers from 0 to 1, scores must be mapped to them")
    return labels, found.astype(np.float64)


def _classes(name: str, values: ArrayLike) -> np.ndarray:
    array = np.asarray(values)
    if array.ndim != 1:
        raise ValueError(f"{name}: got shape {array.shape}; expected one axis, one value for each image")
    if not array.size:
        raise ValueError(f"{name}: got no images; expected at least one")
    wrong = array[~np.isin(array, (0, 1))] if array.dtype.kind in "biuf" else array
    if wrong.size:
        raise ValueError(f"{name}: got {wrong[0]}; expected 0 (healthy) or 1 (unhealthy)")
    return array.astype(np.int64)


def _require_length(name: str, values: np.ndarray, labels: np.ndarray) -> None:
    if values.shape != labels.shape:
        raise ValueError(f"{name}: got shape {values.shape}; expected {labels.shape}, one value for each label")
