"""The measures against hand-computed cases, their definitions and scikit-learn."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nmfuse.classify.measures import MEASURES, bootstrap, calibration, measures, precision_recall, roc

QUICK = settings(deadline=None, max_examples=60, derandomize=True)
PAIRS = st.lists(st.tuples(st.integers(0, 1), st.integers(0, 1)), min_size=1, max_size=40)
# Few different probabilities: ties.
SCORED = st.lists(st.tuples(st.integers(0, 1), st.integers(0, 12)), min_size=2, max_size=60).filter(
    lambda rows: len({label for label, _ in rows}) == 2
)


def split(rows):
    labels, twelfths = np.array(rows).T
    return labels, twelfths / 12


def example(number=400, seed=0):
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 2, number)
    return labels, np.clip(0.25 + 0.5 * labels + 0.3 * rng.standard_normal(number), 0, 1)


def test_hand_computed():
    # TP 3, FN 1, FP 2, TN 4
    labels = [1, 1, 1, 1, 0, 0, 0, 0, 0, 0]
    result = measures(labels, [1, 1, 1, 0, 1, 1, 0, 0, 0, 0])
    assert result.confusion.tolist() == [[4, 2], [1, 3]]
    assert result.accuracy == 7 / 10
    assert result.precision == 3 / 5
    assert result.recall == result.sensitivity == 3 / 4
    assert result.f1 == pytest.approx(2 * 0.6 * 0.75 / 1.35)
    assert result.false_detection_rate == 2 / 5
    assert result.specificity == 4 / 6


@pytest.mark.parametrize(
    ("labels", "predicted", "undefined"),
    [
        ([0, 0], [0, 0], {"precision", "recall", "sensitivity", "f1", "false_detection_rate"}),
        ([0, 1], [0, 0], {"precision", "false_detection_rate"}),
        ([0, 0], [0, 1], {"recall", "sensitivity"}),
        ([1, 1], [1, 1], {"specificity"}),
    ],
)
def test_zero_by_zero_is_nan(labels, predicted, undefined):
    result = measures(labels, predicted)
    assert {name for name in MEASURES if math.isnan(getattr(result, name))} == undefined


def test_f1_is_zero_where_none_is_found():
    assert measures([0, 1], [0, 0]).f1 == 0


@pytest.mark.parametrize("kind", [bool, np.uint8, np.float32])
def test_any_type_of_labels(kind):
    assert measures(np.array([0, 1, 1], kind), np.array([0, 1, 0], kind)).confusion.tolist() == [[1, 0], [1, 1]]


@QUICK
@given(PAIRS)
def test_laws(rows):
    labels, predicted = np.array(rows).T
    result = measures(labels, predicted)
    mirrored = measures(1 - labels, 1 - predicted)
    assert result.confusion.sum() == len(rows)
    assert result.accuracy == np.mean(labels == predicted)
    np.testing.assert_equal(result.specificity, mirrored.sensitivity)
    np.testing.assert_equal(result.confusion, mirrored.confusion[::-1, ::-1])
    if not math.isnan(result.precision):
        assert result.false_detection_rate == pytest.approx(1 - result.precision)
        if not math.isnan(result.recall):
            ends = sorted([result.precision, result.recall])
            assert ends[0] - 1e-12 <= result.f1 <= ends[1] + 1e-12


@QUICK
@given(PAIRS)
def test_measures_as_scikit_learn(rows):
    metrics = pytest.importorskip("sklearn.metrics")
    labels, predicted = np.array(rows).T
    result = measures(labels, predicted)
    precision, recall, f1, _ = metrics.precision_recall_fscore_support(
        labels, predicted, average="binary", zero_division=np.nan
    )
    np.testing.assert_allclose(result.precision, precision)
    np.testing.assert_allclose(result.recall, recall)
    np.testing.assert_allclose(result.f1, f1)
    np.testing.assert_equal(result.confusion, metrics.confusion_matrix(labels, predicted, labels=[0, 1]))


def test_interval_holds_the_estimate():
    labels, probabilities = example()
    result = measures(labels, probabilities >= 0.5)
    intervals = bootstrap(labels, probabilities)
    assert tuple(intervals) == MEASURES
    for name, (low, high) in intervals.items():
        assert low < getattr(result, name) < high


def test_interval_is_as_wide_as_theory_says():
    labels = np.tile([0, 1], 500)
    probabilities = np.where(np.arange(1000) % 10 < 2, 1 - labels, labels)  # 80 % right
    low, high = bootstrap(labels, probabilities)["accuracy"]
    assert (high - low) / 2 == pytest.approx(1.96 * math.sqrt(0.8 * 0.2 / 1000), rel=0.1)


def test_interval_covers_the_truth():
    truth, covered = 0.7, 0
    for seed in range(200):
        labels = np.random.default_rng(seed).integers(0, 2, 200)
        right = np.random.default_rng([seed, 1]).random(200) < truth
        low, high = bootstrap(labels, np.where(right, labels, 1 - labels), resamples=500, seed=seed)["accuracy"]
        covered += low <= truth <= high
    assert 178 <= covered <= 199  # 190 expected, within four standard deviations


def test_copies_do_not_narrow_the_interval_of_groups():
    labels, probabilities = example(60)
    once = bootstrap(labels, probabilities)
    many = (np.repeat(labels, 9), np.repeat(probabilities, 9))
    images = bootstrap(*many)
    groups = bootstrap(*many, groups=np.repeat([f"patient {i}" for i in range(60)], 9))
    for name in MEASURES:
        assert groups[name][1] - groups[name][0] > 2 * (images[name][1] - images[name][0])
        np.testing.assert_allclose(groups[name], once[name], atol=0.04)  # the draws differ


def test_interval_as_by_drawing_groups_one_by_one():
    labels, probabilities = example(90)
    groups = np.random.default_rng(3).integers(0, 20, 90)
    members = [np.flatnonzero(groups == group) for group in range(20)]
    rng = np.random.default_rng(4)
    drawn = []
    for _ in range(2000):
        chosen = np.concatenate([members[i] for i in rng.integers(0, 20, 20)])
        drawn.append(np.mean(labels[chosen] == (probabilities[chosen] >= 0.5)))
    expected = np.quantile(drawn, [0.025, 0.975])
    np.testing.assert_allclose(bootstrap(labels, probabilities, groups)["accuracy"], expected, atol=0.015)


def test_bootstrap_repeats_itself():
    labels, probabilities = example(50)
    assert bootstrap(labels, probabilities, seed=1) == bootstrap(labels, probabilities, seed=1)
    assert bootstrap(labels, probabilities, seed=1) != bootstrap(labels, probabilities, seed=2)


def test_threshold():
    labels, probabilities = [0, 0, 1, 1], [0.2, 0.6, 0.6, 0.9]
    assert bootstrap(labels, probabilities, threshold=0.6)["sensitivity"] == (1, 1)
    assert bootstrap(labels, probabilities, threshold=1)["sensitivity"] == (0, 0)


def test_undefined_in_every_resample():
    intervals = bootstrap([0, 0, 0], [0.1, 0.2, 0.7])
    assert np.isnan(intervals["recall"]).all()
    assert intervals["specificity"][1] == 1


def test_perfect_and_worst():
    labels = [0, 0, 1, 1]
    assert roc(labels, [0.1, 0.2, 0.8, 0.9])[2] == precision_recall(labels, [0.1, 0.2, 0.8, 0.9])[2] == 1
    assert roc(labels, [0.9, 0.8, 0.2, 0.1])[2] == 0
    fpr, tpr, area = roc(labels, [0.5] * 4)
    assert (fpr.tolist(), tpr.tolist(), area) == ([0, 1], [0, 1], 0.5)
    assert precision_recall(labels, [0.5] * 4)[2] == 0.5


@QUICK
@given(SCORED)
def test_area_is_the_chance_of_the_right_order(rows):
    labels, probabilities = split(rows)
    differences = probabilities[labels == 1][:, None] - probabilities[labels == 0]
    fpr, tpr, area = roc(labels, probabilities)
    assert area == pytest.approx(np.mean((differences > 0) + 0.5 * (differences == 0)))
    assert (np.diff(fpr) >= 0).all()
    assert (np.diff(tpr) >= 0).all()
    assert roc(1 - labels, probabilities)[2] == pytest.approx(1 - area)


@QUICK
@given(SCORED)
def test_curves_as_scikit_learn(rows):
    metrics = pytest.importorskip("sklearn.metrics")
    labels, probabilities = split(rows)
    fpr, tpr, area = roc(labels, probabilities)
    expected = metrics.roc_curve(labels, probabilities, drop_intermediate=False)
    np.testing.assert_allclose(fpr, expected[0])
    np.testing.assert_allclose(tpr, expected[1])
    assert area == pytest.approx(metrics.roc_auc_score(labels, probabilities))
    recall, precision, average = precision_recall(labels, probabilities)
    expected = metrics.precision_recall_curve(labels, probabilities)
    np.testing.assert_allclose(precision, expected[0][::-1])
    np.testing.assert_allclose(recall, expected[1][::-1])
    assert average == pytest.approx(metrics.average_precision_score(labels, probabilities))


@pytest.mark.parametrize("bins", [1, 5, 10])
def test_calibration_as_scikit_learn(bins):
    module = pytest.importorskip("sklearn.calibration")
    labels, probabilities = example()
    predicted, share, count, _ = calibration(labels, probabilities, bins)
    expected = module.calibration_curve(labels, probabilities, n_bins=bins)
    np.testing.assert_allclose(share[count > 0], expected[0])
    np.testing.assert_allclose(predicted[count > 0], expected[1])


def test_calibration_by_hand():
    predicted, share, count, ece = calibration([0, 1, 1, 0, 1], [0, 0.1, 0.3, 0.3, 1], bins=10)
    assert count.tolist() == [1, 1, 0, 2, 0, 0, 0, 0, 0, 1]  # an edge belongs to the bin above it, 1 to the last
    np.testing.assert_allclose(predicted[count > 0], [0, 0.1, 0.3, 1])
    np.testing.assert_allclose(share[count > 0], [0, 1, 0.5, 1])
    assert np.isnan(share[count == 0]).all()
    assert ece == pytest.approx((0 + 0.9 + 2 * 0.2 + 0) / 5)


def test_a_calibrated_classifier_is_near_zero():
    rng = np.random.default_rng(0)
    probabilities = rng.random(200_000)
    assert calibration(rng.random(200_000) < probabilities, probabilities)[3] < 0.01
    assert calibration(np.zeros(10), np.ones(10))[3] == 1


@pytest.mark.parametrize(
    ("labels", "predicted", "message"),
    [
        ([], [], "labels: got no images; expected at least one"),
        ([0, 1], [0], r"predicted: got shape \(1,\); expected \(2,\), one value for each label"),
        ([0, 2], [0, 1], r"labels: got 2; expected 0 \(healthy\) or 1 \(unhealthy\)"),
        ([0, 1], [0, 0.5], "predicted: got 0.5; expected 0"),
        ([0, float("nan")], [0, 1], "labels: got nan; expected 0"),
        (["no", "yes"], [0, 1], "labels: got no; expected 0"),
        ([[0, 1]], [0, 1], r"labels: got shape \(1, 2\); expected one axis"),
    ],
)
def test_bad_classes(labels, predicted, message):
    with pytest.raises(ValueError, match=message):
        measures(labels, predicted)


@pytest.mark.parametrize("function", [bootstrap, roc, precision_recall, calibration])
@pytest.mark.parametrize(
    ("labels", "probabilities", "message"),
    [
        ([], [], "labels: got no images"),
        ([0, 1], [0.5], r"probabilities: got shape \(1,\); expected \(2,\)"),
        ([0, 3], [0.5, 0.5], "labels: got 3; expected 0"),
        ([0, 1], [0.5, 1.5], "probabilities: got 1.5; expected numbers from 0 to 1"),
        ([0, 1], [-0.1, 0.5], "probabilities: got -0.1; expected numbers from 0 to 1"),
        ([0, 1], [0.5, float("nan")], "probabilities: got nan; expected numbers from 0 to 1"),
        ([0, 1], ["a", "b"], "probabilities: got values of type <U1; expected numbers"),
        ([0, 1], [[0.5, 0.5], [0.1, 0.9]], r"probabilities: got shape \(2, 2\); .* pass the column of the unhealthy"),
    ],
)
def test_bad_probabilities(function, labels, probabilities, message):
    with pytest.raises(ValueError, match=message):
        function(labels, probabilities)


@pytest.mark.parametrize("function", [roc, precision_recall])
@pytest.mark.parametrize("label", [0, 1])
def test_one_class_has_no_curve(function, label):
    with pytest.raises(ValueError, match=f"labels: got images of class {label} only; expected both classes"):
        function([label, label], [0.2, 0.7])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"groups": [1, 1]}, "groups: got one group; expected at least two"),
        ({"groups": [1, 2, 3]}, r"groups: got shape \(3,\); expected \(2,\)"),
        ({"threshold": 50}, "threshold: got 50; expected a probability"),
        ({"threshold": float("nan")}, "threshold: got nan; expected a probability"),
        ({"resamples": 0}, "resamples: got 0; expected at least 1"),
    ],
)
def test_bad_bootstrap(options, message):
    with pytest.raises(ValueError, match=message):
        bootstrap([0, 1], [0.2, 0.7], **options)


def test_bootstrap_of_one_image():
    with pytest.raises(ValueError, match="labels: got one image; expected at least two"):
        bootstrap([1], [0.5])


def test_bad_bins():
    with pytest.raises(ValueError, match="bins: got 0; expected at least 1"):
        calibration([0, 1], [0.2, 0.7], bins=0)
