"""The classifier on phantoms with and without lesions: it learns, explains itself, is saved and resumed whole."""

from __future__ import annotations

import numpy as np
import pytest

from nmfuse.classify import Classifier, evaluate_split
from nmfuse.data import brain_phantom
from nmfuse.nets.weights_file import shipped

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def phantoms() -> tuple[list[np.ndarray], np.ndarray]:
    """Slices of 48 phantoms; every other one has a bright lesion."""
    images, labels = [], []
    for seed in range(48):
        image = brain_phantom(64, seed=seed).t2.copy()
        rng = np.random.default_rng(seed)
        if seed % 2:
            y, x = rng.integers(24, 40, 2)
            rows, columns = np.mgrid[:64, :64]
            image[(rows - y) ** 2 + (columns - x) ** 2 < rng.integers(16, 50)] = 1.0
        images.append(image)
        labels.append(seed % 2)
    return images, np.array(labels)


@pytest.fixture(scope="module")
def frozen(phantoms) -> Classifier:
    images, labels = phantoms
    return Classifier(trainable=False, rank=12, rank2=6).fit(images[:32], labels[:32])


def test_lesions_are_told_from_none(frozen, phantoms):
    images, labels = phantoms
    assert frozen.score(images[32:], labels[32:]) >= 0.75
    probabilities = frozen.predict_proba(images[32:])
    np.testing.assert_allclose(probabilities.sum(1), 1)
    np.testing.assert_array_equal(frozen.predict(images[32:]), probabilities.argmax(1))


def test_an_image_is_judged_alone(frozen, phantoms):
    images, _ = phantoms
    together = frozen.predict_proba(images[:5])
    alone = np.concatenate([frozen.predict_proba([image]) for image in images[:5]])
    np.testing.assert_allclose(alone, together, atol=1e-5)


def test_the_heat_map_and_the_bias_are_the_log_odds(frozen, phantoms):
    images, _ = phantoms
    for image in images[:4]:
        explained = frozen.explain(image)
        odds = np.log(explained.probability / (1 - explained.probability))
        assert explained.heat.sum() + explained.bias == pytest.approx(odds, abs=1e-3)
        assert explained.components.sum() + explained.bias == pytest.approx(odds, abs=1e-3)


@pytest.mark.parametrize("left_out", ["rank", "rank2"])
def test_a_stage_left_out(phantoms, left_out):
    images, labels = phantoms
    classifier = Classifier(trainable=False, rank=8, rank2=4).set_params(**{left_out: 0}).fit(images, labels)
    explained = classifier.explain(images[1])
    odds = np.log(explained.probability / (1 - explained.probability))
    assert explained.heat.sum() + explained.bias == pytest.approx(odds, abs=1e-3)


def test_pairs_are_two_views(phantoms):
    images, labels = phantoms
    pairs = np.stack([np.stack([image, image[::-1]]) for image in images[:8]])
    classifier = Classifier(trainable=False, rank=4, rank2=2).fit(pairs, labels[:8])
    assert classifier.predict_proba(pairs).shape == (8, 2)
    with pytest.raises(ValueError, match="single images and pairs are mixed"):
        classifier.predict([pairs[0], images[0]])


def test_a_saved_classifier_says_the_same(frozen, phantoms, tmp_path):
    images, _ = phantoms
    frozen.save(tmp_path / "model.safetensors")
    loaded = Classifier.load(tmp_path / "model.safetensors")
    assert loaded.get_params() == frozen.get_params()
    np.testing.assert_array_equal(loaded.predict_proba(images[:6]), frozen.predict_proba(images[:6]))
    with pytest.raises(FileExistsError):
        frozen.save(tmp_path / "model.safetensors")


def test_files_that_are_no_model_are_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match="no such model file"):
        Classifier.load(tmp_path / "none.safetensors")
    with pytest.raises(ValueError, match="format"):
        Classifier.load(shipped("lite"))
    (tmp_path / "cut.safetensors").write_bytes(b"not a model")
    with pytest.raises(ValueError, match="is not a whole safetensors file"):
        Classifier.load(tmp_path / "cut.safetensors")


class PowerCutError(Exception):
    """What kills a run here."""


def test_a_killed_run_resumes_to_the_same_result(phantoms, tmp_path):
    images, labels = phantoms
    options = {"epochs": 4, "batch": 16, "rank": 4, "rank2": 2}
    whole = Classifier(**options).fit(images, labels)
    assert len(whole.curve_) == 4

    def cut(done: int, total: int, loss: float) -> None:
        if done > total // 2:
            raise PowerCutError

    with pytest.raises(PowerCutError):
        Classifier(**options).fit(images, labels, checkpoint=tmp_path / "c", progress=cut)
    resumed = Classifier(**options).fit(images, labels, checkpoint=tmp_path / "c")
    np.testing.assert_array_equal(resumed.predict_proba(images), whole.predict_proba(images))
    with pytest.raises(ValueError, match="belongs to a run with other images or options"):
        Classifier(**options, seed=1).fit(images, labels, checkpoint=tmp_path / "c")


def test_a_loss_that_explodes_stops_with_the_step(phantoms):
    images, labels = phantoms
    with pytest.raises(ValueError, match=r"lr: with .* at step \d+|lr: with .* not finite"):
        Classifier(epochs=8, batch=16, lr=1e6).fit(images, labels)


def test_bad_input_is_refused(phantoms):
    images, labels = phantoms
    fit = Classifier(trainable=False).fit
    with pytest.raises(ValueError, match="y: has 0 unhealthy images"):
        fit(images[:4], [0, 0, 0, 0])
    with pytest.raises(ValueError, match=r"y: shape \(3,\); expected \(4,\)"):
        fit(images[:4], [0, 1, 0])
    with pytest.raises(ValueError, match="y: has labels"):
        fit(images[:4], [0, 1, 2, 1])
    with pytest.raises(TypeError, match="X: image 0 is uint8"):
        fit([(image * 255).astype(np.uint8) for image in images[:4]], labels[:4])
    with pytest.raises(ValueError, match=r"X: image 0 has values outside \[0, 1\]"):
        fit([image * 3 for image in images[:4]], labels[:4])
    with pytest.raises(ValueError, match=r"X: image 0 has shape \(3, 64, 64\)"):
        fit([np.stack([image] * 3) for image in images[:4]], labels[:4])
    with pytest.raises(ValueError, match="learned nothing yet"):
        Classifier().predict(images[:1])
    with pytest.raises(ValueError, match="rank: got -1"):
        Classifier(rank=-1).fit(images, labels)


def test_all_methods_are_measured_alike(phantoms):
    images, labels = phantoms
    halves = np.arange(32), np.arange(32, 48)
    methods = ["trainable", "frozen", "without CNN", "HOG + SVM", "logistic regression on pixels"]
    evaluation = evaluate_split(images, labels, *halves, methods=methods, seeds=2, epochs=2)
    rows = {row["method"]: row for row in evaluation.rows()}
    assert list(rows) == methods
    assert [rows[name]["seeds"] for name in methods] == [2, 2, 1, 1, 1]
    for row in rows.values():
        assert row["accuracy_low"] <= row["accuracy_high"]
        assert 0 <= row["ece"] <= 1
    assert list(evaluation.curves) == ["trainable"]
    assert len(evaluation.curves["trainable"]) == 2
    with pytest.raises(ValueError, match="methods: got 'magic'"):
        evaluate_split(images, labels, *halves, methods=["magic"])
    with pytest.raises(ValueError, match="test: 16 images are in both halves"):
        evaluate_split(images, labels, np.arange(32), np.arange(16, 48))
