"""The classifier on phantoms with and without lesions: it learns, explains itself, is saved and resumed whole."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from torch import Tensor

from nmfuse.classify import Classifier, evaluate_split
from nmfuse.classify.classifier import _validation_split
from nmfuse.classify.evaluate import BASELINES, RIVALS, VARIANTS
from nmfuse.data import brain_phantom
from nmfuse.nets import DeepBranch
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


@pytest.fixture(scope="module")
def tuned(phantoms) -> Classifier:
    images, labels = phantoms
    return Classifier(epochs=10, batch=16).fit(images[:32], labels[:32])


@pytest.mark.parametrize("name", ["frozen", "tuned"])
def test_lesions_are_told_from_none(request, name, phantoms):
    images, labels = phantoms
    classifier = request.getfixturevalue(name)
    assert classifier.score(images[32:], labels[32:]) >= 0.75
    probabilities = classifier.predict_proba(images[32:])
    np.testing.assert_allclose(probabilities.sum(1), 1)
    np.testing.assert_array_equal(classifier.predict(images[32:]), probabilities.argmax(1))
    assert len(classifier.curve_) == classifier.epochs
    assert all(0 <= accuracy <= 1 for row in classifier.curve_ for accuracy in (row[2], row[4]))


@pytest.mark.parametrize("name", ["frozen", "tuned"])
def test_an_image_is_judged_alone(request, name, phantoms):
    images, _ = phantoms
    classifier = request.getfixturevalue(name)
    together = classifier.predict_proba(images[:5])
    alone = np.concatenate([classifier.predict_proba([image]) for image in images[:5]])
    np.testing.assert_allclose(alone, together, atol=1e-5)


@pytest.mark.parametrize("name", ["frozen", "tuned"])
def test_a_mirror_image_is_judged_alike(request, name, phantoms):
    classifier = request.getfixturevalue(name)
    images = [np.maximum(np.pad(image, 16), 0.1) for image in phantoms[0][:4]]  # content to the edge: nothing is cut
    mirrored = [image[:, ::-1].copy() for image in images]
    np.testing.assert_allclose(classifier.predict_proba(mirrored), classifier.predict_proba(images), atol=1e-4)
    heat, other = (classifier.explain(image).heat for image in (images[1], mirrored[1]))
    np.testing.assert_allclose(other[:, ::-1], heat, atol=1e-3)


@pytest.mark.parametrize("name", ["frozen", "tuned"])
def test_the_heat_map_and_the_bias_are_the_log_odds(request, name, phantoms):
    images, _ = phantoms
    for image in images[:4]:
        explained = request.getfixturevalue(name).explain(image)
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


@pytest.mark.parametrize("trainable", [False, True])
def test_pairs_are_two_views(phantoms, tmp_path, trainable):
    images, labels = phantoms
    pairs = np.stack([np.stack([image, image[::-1]]) for image in images[:8]])
    classifier = Classifier(trainable=trainable, rank=4, rank2=2, epochs=2, batch=8).fit(pairs, labels[:8])
    probabilities = classifier.predict_proba(pairs)
    assert probabilities.shape == (8, 2)
    with pytest.raises(ValueError, match="single images and pairs are mixed"):
        classifier.predict([pairs[0], images[0]])
    classifier.save(tmp_path / "model.safetensors")
    loaded = Classifier.load(tmp_path / "model.safetensors")
    np.testing.assert_array_equal(loaded.predict_proba(pairs), probabilities)
    with pytest.raises(ValueError, match="X: got single images, but the classifier learned from pairs"):
        loaded.predict(images[:2])


@pytest.mark.parametrize("name", ["frozen", "tuned"])
def test_a_saved_classifier_says_the_same(request, name, phantoms, tmp_path):
    images, _ = phantoms
    classifier = request.getfixturevalue(name)
    classifier.save(tmp_path / "model.safetensors")
    loaded = Classifier.load(tmp_path / "model.safetensors")
    assert loaded.get_params() == classifier.get_params()
    assert loaded.curve_ == classifier.curve_
    np.testing.assert_array_equal(loaded.predict_proba(images[:6]), classifier.predict_proba(images[:6]))
    with pytest.raises(FileExistsError):
        classifier.save(tmp_path / "model.safetensors")


def test_a_start_from_another_model(tuned, frozen, phantoms, tmp_path):
    images, labels = phantoms
    tuned.save(tmp_path / "tuned.safetensors")
    options = {"epochs": 1, "batch": 16, "lr": 1e-8}
    started = Classifier(start=tmp_path / "tuned.safetensors", **options).fit(images[:16], labels[:16])
    weight, afresh = (
        c.branches_.branch.conv5.weight for c in (started, Classifier(**options).fit(images[:16], labels[:16]))
    )
    np.testing.assert_allclose(weight, tuned.branches_.branch.conv5.weight, atol=1e-6)
    assert float((weight - afresh).abs().max()) > 1e-3
    frozen.save(tmp_path / "frozen.safetensors")
    with pytest.raises(ValueError, match="has frozen branches; expected a model with fine-tuned ones"):
        Classifier(start=tmp_path / "frozen.safetensors").fit(images[:16], labels[:16])
    with pytest.raises(ValueError, match="but the branches stay as they are"):
        Classifier(start=tmp_path / "tuned.safetensors", trainable=False).fit(images[:16], labels[:16])


def test_fine_tuning_sees_small_images_at_first(phantoms, monkeypatch):
    images, labels = phantoms
    sides, forward = [], DeepBranch.forward

    def watched(branch: DeepBranch, x: Tensor) -> Tensor:
        if branch.training and torch.is_grad_enabled():
            sides.append(x.shape[-1])
        return forward(branch, x)

    monkeypatch.setattr(DeepBranch, "forward", watched)
    Classifier(epochs=2, batch=8, rank=4, rank2=2).fit(images[:16], labels[:16])
    half = len(sides) // 2
    assert set(sides[:half]) == {64, 32}  # the Hannmean-filtered view is looked at in half size
    assert set(sides[half:]) == {96, 48}


def test_a_head_learned_anew_leaves_the_branches(tuned, phantoms):
    images, labels = phantoms
    other = copy.copy(tuned).set_params(rank=0, rank2=4).fit_head(images[:32], labels[:32])
    assert other.branches_ is tuned.branches_
    assert (other.W1_, other.W2_.shape[1], tuned.rank) == (None, 4, 32)
    assert other.score(images[32:], labels[32:]) >= 0.75


def test_validation_takes_whole_groups_of_both_classes():
    labels, groups = np.arange(40) % 2, np.arange(40) // 4
    kept, held = _validation_split(labels, groups, 0.2, 0)
    assert set(groups[kept]).isdisjoint(groups[held])
    assert 4 <= len(held) <= 12
    assert set(labels[held]) == set(labels[kept]) == {0, 1}
    kept, held = _validation_split(labels, labels, 0.1, 0)  # a class a group: torn apart, or nothing could be told
    assert set(labels[held]) == set(labels[kept]) == {0, 1}


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
    methods = list(VARIANTS | RIVALS) + list(BASELINES)
    evaluation = evaluate_split(images, labels, *halves, methods=methods, seeds=2, epochs=2)
    rows = {row["method"]: row for row in evaluation.rows()}
    assert list(rows) == methods
    repeated = ["trainable", "without NMF 1", "without NMF 2", "frozen"]
    assert [name for name in methods if rows[name]["seeds"] == 2] == repeated
    for row in rows.values():
        assert row["accuracy_low"] <= row["accuracy_high"]
        assert 0 <= row["ece"] <= 1
    shared = ["without NMF 1", "without NMF 2"]  # the branches of "trainable"
    assert list(evaluation.curves) == [name for name in VARIANTS | RIVALS if name not in shared]
    assert not np.array_equal(evaluation.probabilities["trainable"][0], evaluation.probabilities["without NMF 1"][0])
    assert len(evaluation.curves["trainable"]) == 2
    with pytest.raises(ValueError, match="methods: got 'magic'"):
        evaluate_split(images, labels, *halves, methods=["magic"])
    with pytest.raises(ValueError, match="test: 16 images are in both halves"):
        evaluate_split(images, labels, np.arange(32), np.arange(16, 48))


def test_hog_sees_directions_and_what_is_trivial_does_not():
    rng = np.random.default_rng(0)
    rows, columns = np.mgrid[:64, :64]
    images, labels = [], np.arange(60) % 2
    for label in labels:
        angle = rng.uniform(-0.3, 0.3) + label * np.pi / 2
        phase = (rows * np.sin(angle) + columns * np.cos(angle)) / rng.uniform(2, 4) + rng.uniform(0, 6)
        images.append(0.5 + rng.uniform(0.1, 0.3) * np.sin(phase) + rng.normal(0, 0.02, (64, 64)))
    methods = ["HOG + SVM", "random forest on size and brightness"]
    evaluation = evaluate_split(images, labels, np.arange(30), np.arange(30, 60), methods=methods)
    accuracy = {row["method"]: row["accuracy"] for row in evaluation.rows()}
    assert accuracy["HOG + SVM"] >= 0.95
    assert accuracy["random forest on size and brightness"] <= 0.75
