"""Healthy or unhealthy: two views, Siamese branches, two stages of NMF, a soft-max head."""

from __future__ import annotations

import copy
import inspect
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from nmfuse.classify.copies import grouped_split
from nmfuse.classify.features import (
    COLUMNS,
    SIDE,
    DeepBranches,
    FrozenBranches,
    augment,
    coefficients,
    factorize,
    part_maps,
    pool,
    poses,
    prepare,
    shrink,
    some_columns,
    two_views,
    unpose,
)
from nmfuse.io import new_file
from nmfuse.kernels.checks import check_count
from nmfuse.nets.weights_file import read_weights, write_weights
from nmfuse.training.loops import OneCycle, Sgd, hash_arrays, run_training, training_device

FORMAT = "nmfuse.classifier.3"
_AT_ONCE = {"cpu": 16, "cuda": 64}  # images looked at together: their maps stay in a processor's cache
_SMALL_SIDE = 64  # pixels: of the images in the first half of fine-tuning
_SMOOTHING = 0.05  # of the labels, in fine-tuning
_DROPOUT = 0.3  # of the pooled maps, in fine-tuning
_HEAD_BATCH = 128
_WORST = 1e30

Progress = Callable[[int, int, float], None]  # of (steps done, steps in all, loss)
Images = np.ndarray | Sequence[np.ndarray]
Curve = list[tuple[int, float, float, float, float]]


@dataclass
class Explained:
    """The reasons for a decision about an image.

    Attributes
    ----------
    probability : float
        The probability that the image is unhealthy.
    heat : array, shape (side, side)
        The contribution of each place to the log-odds of "unhealthy"; their sum plus `bias` is the log-odds.
    bias : float
        The part of the log-odds that does not depend on the image.
    components : array, shape (r2,)
        The contribution of each component of the second NMF to the log-odds.
    """

    probability: float
    heat: np.ndarray
    bias: float
    components: np.ndarray


class Classifier:
    """Classifies brain images as healthy or unhealthy, by `fit`, `predict`, `predict_proba`, `score` as scikit-learn.

    Parameters
    ----------
    trainable : bool
        Whether the branches are fine-tuned; otherwise they keep the focus weights.
    hannmean_size : int
        The size n of the filter that makes the second view; with 0 both views are the image itself.
    cnn : bool
        False uses patches of the image instead of the maps of the branches.
    rank, rank2 : int
        The ranks of the two stages of NMF; 0 leaves a stage out.
    epochs : int
        The number of epochs of the fine-tuning and of the training of the head; each epoch uses every image twice. The
        weights with the least validation loss in the second half of the epochs are kept. In the first half the learning
        rate is high, and the loss of a few validation images is a matter of chance.
    batch : int
        The number of images in a step of the fine-tuning.
    lr, weight_decay : float
        The learning rate and weight decay of AdamW in the fine-tuning; the rate rises and falls along cosines.
    validation_fraction : float
        The share of the training images, in whole groups, that is held out to decide which epoch is kept.
    start : path, optional
        A model file whose fine-tuned branches this training starts from.
    seed : int
        The seed of the split, the order, the augmentation and the factorizations.
    device : str
        The device for training and prediction, "cpu" or "cuda".

    Attributes
    ----------
    classes_ : array
        The classes, [0, 1], for healthy and unhealthy.
    curve_ : list of tuples
        The course of the fine-tuning, or of the training of the head if the branches are frozen: epoch, training loss
        and accuracy, validation loss and accuracy.

    References
    ----------
    Das et al., IJACSA 14 (2023), Sec. V; Lee & Seung, Nature 401 (1999), for parts by NMF.

    Examples
    --------
    >>> images = np.random.default_rng(0).random((12, 64, 64), np.float32)
    >>> labels = np.arange(12) % 2
    >>> classifier = Classifier(trainable=False, rank=4, rank2=2, epochs=2).fit(images, labels)
    >>> classifier.predict_proba(images).shape
    (12, 2)
    """

    def __init__(
        self,
        *,
        trainable: bool = True,
        hannmean_size: int = 5,
        cnn: bool = True,
        rank: int = 32,
        rank2: int = 16,
        epochs: int = 40,
        batch: int = 32,
        lr: float = 3e-3,
        weight_decay: float = 0.05,
        validation_fraction: float = 0.1,
        start: str | Path | None = None,
        seed: int = 0,
        device: str = "cpu",
    ) -> None:
        self.trainable, self.hannmean_size, self.cnn = trainable, hannmean_size, cnn
        self.rank, self.rank2 = rank, rank2
        self.epochs, self.batch, self.lr, self.weight_decay = epochs, batch, lr, weight_decay
        self.validation_fraction, self.start, self.seed, self.device = validation_fraction, start, seed, device

    def get_params(self, deep: bool = True) -> dict[str, Any]:  # noqa: ARG002  # as scikit-learn calls it
        """Return the arguments by name."""
        return {name: getattr(self, name) for name in _PARAMETERS}

    def set_params(self, **params: Any) -> Classifier:
        """Set arguments by name."""
        for name, value in params.items():
            if name not in _PARAMETERS:
                raise ValueError(f"{name}: no such argument; expected one of {', '.join(_PARAMETERS)}")
            setattr(self, name, value)
        return self

    def fit(
        self,
        X: Images,
        y: Sequence[int] | np.ndarray,
        groups: Sequence[int] | np.ndarray | None = None,
        *,
        checkpoint: str | Path | None = None,
        progress: Progress | None = None,
    ) -> Classifier:
        """Train the classifier.

        Parameters
        ----------
        X : array (N, H, W) or sequence of arrays (H, W)
            The images, with values from 0 to 1. Pairs of registered images (N, 2, H, W) may be given instead, as the
            two views.
        y : (N,)
            The class of each image: 0 for healthy, 1 for unhealthy.
        groups : (N,), optional
            The group of each image, such as its patient, or the copies of one original. The validation split keeps
            groups together.
        checkpoint : path, optional
            The file in which the fine-tuning saves its progress. A run that finds the file continues from there, and
            gives the same result.
        progress : callable, optional
            A function that is called with the number of steps done, the total, and the loss.

        Raises
        ------
        ValueError
            For an argument out of range, labels other than 0 and 1, a missing class, fewer than two images of a class,
            or a loss that becomes NaN.
        """
        self._check()
        labels, images = _labels(y, len(X)), self._prepared(X)
        self.pairs_ = images.ndim == 4
        with torch.random.fork_rng():
            torch.manual_seed(self.seed)
            self.branches_ = self._new_branches()
            self.curve_: Curve = []
            if self.trainable and self.cnn:
                self._fine_tune(images, labels, groups, checkpoint, progress)
        return self._fit_head(images, labels, groups)

    def fit_head(
        self, X: Images, y: Sequence[int] | np.ndarray, groups: Sequence[int] | np.ndarray | None = None
    ) -> Classifier:
        """Train both stages of NMF and the head again, from images as in `fit`; the branches are not changed."""
        self._need_fit()
        self._check()
        return self._fit_head(self._prepared(X), _labels(y, len(X)), groups)

    def predict_proba(self, X: Images) -> np.ndarray:
        """Return the probabilities (N, 2) of healthy and unhealthy for images as in `fit`."""
        self._need_fit()
        logits = self._logits(self._inputs(self._vectors(self._prepared(X)))).mean(1)
        return np.asarray(logits.double().softmax(1).cpu().numpy())

    def predict(self, X: Images) -> np.ndarray:
        """Return the likelier class of each image (N,): 0 healthy, 1 unhealthy."""
        likelier: np.ndarray = self.predict_proba(X).argmax(1)
        return likelier

    def score(self, X: Images, y: Sequence[int] | np.ndarray) -> float:
        """Return the accuracy."""
        return float((self.predict(X) == _labels(y, len(X), both=False)).mean())

    def explain(self, image: np.ndarray) -> Explained:
        """Return which components decided, and where in the image they are.

        Parameters
        ----------
        image : (H, W)
            The image, as in `fit`, or a pair of images (2, H, W).

        Returns
        -------
        Explained
            The reasons. The heat map fits the image as the branches see it; see `nmfuse.classify.features.prepare`.
        """
        self._need_fit()
        prepared = self._prepared(np.asarray(image)[None])
        inputs = self._inputs(self._vectors(prepared))[0]  # of each pose
        weight = (self.weight_[1] - self.weight_[0]) / self.spread_
        components = weight * inputs
        bias = self.bias_[1] - self.bias_[0] - (weight * self.mean_).sum()
        relevance = components
        if self.rank2:
            relevance = components @ (self.W2_ / self.W2_.sum(0).clamp_min(_TINY)).T
        heats = [_laid_out(self._maps(pose), of) for pose, of in zip(poses(prepared), relevance, strict=True)]
        heat = unpose(torch.stack(heats)).mean(0)
        components = components.mean(0)
        probability = float((components.sum() + bias).double().sigmoid())
        return Explained(probability, heat.cpu().numpy(), float(bias), components.cpu().numpy())

    def save(self, path: str | Path, *, overwrite: bool = False, notes: str = "") -> None:
        """Write a model file (.safetensors), whose metadata contain the arguments and `notes`."""
        self._need_fit()
        tensors = {f"branches.{name}": value for name, value in self.branches_.state_dict().items()}
        tensors |= {name: getattr(self, f"{name}_") for name in _LEARNED if getattr(self, f"{name}_") is not None}
        tensors = {name: value for name, value in tensors.items() if value.is_floating_point()}
        parameters = {**self.get_params(), "start": None if self.start is None else Path(self.start).name}
        metadata = {"parameters": parameters, "pairs": self.pairs_, "curve": self.curve_}
        with new_file(Path(path), overwrite=overwrite) as temporary:
            as_text = {name: json.dumps(value) for name, value in metadata.items()}
            write_weights(temporary, tensors, FORMAT, {"notes": notes, **as_text})

    @classmethod
    def load(cls, path: str | Path, device: str = "cpu") -> Classifier:
        """Return the classifier of a model file, on a device.

        Raises
        ------
        FileNotFoundError
            If there is no such file.
        ValueError
            If it is not a whole model file.
        """
        path = Path(path)
        if not path.is_file():
            raise FileNotFoundError(f"{path}: no such model file; `nmfuse classify train` makes one")
        tensors, metadata = read_weights(path, FORMAT)
        try:
            classifier = cls(**json.loads(metadata["parameters"])).set_params(device=device)
            classifier._check()
            classifier.pairs_ = json.loads(metadata["pairs"])
            classifier.curve_ = [tuple(row) for row in json.loads(metadata["curve"])]
            branches = classifier._new_branches()
            branches.load_state_dict(
                {name.removeprefix("branches."): x for name, x in tensors.items() if name.startswith("branches.")}
            )
            classifier.branches_ = branches.requires_grad_(False).eval()
            for name in _LEARNED:
                optional = {"W1": classifier.rank, "W2": classifier.rank2}.get(name, 1) == 0
                setattr(classifier, f"{name}_", None if optional else tensors[name].to(device))
        except (KeyError, TypeError, RuntimeError, json.JSONDecodeError) as error:
            raise ValueError(f"{path}: is not a whole model file ({error}); train it anew") from error
        classifier.classes_ = np.arange(2)
        return classifier

    def _check(self) -> None:
        for name, least in (("rank", 0), ("rank2", 0), ("epochs", 1), ("batch", 2), ("seed", 0)):
            check_count(name, getattr(self, name), least)
        if self.hannmean_size != 0 and (self.hannmean_size % 2 == 0 or not 3 <= self.hannmean_size <= 63):
            raise ValueError(f"hannmean_size: got {self.hannmean_size!r}; expected 0 or an odd int from 3 to 63")
        if not 0 < self.validation_fraction < 1:
            raise ValueError(f"validation_fraction: got {self.validation_fraction!r}; expected between 0 and 1")
        if self.start is not None and not (self.trainable and self.cnn):
            raise ValueError(
                f"start: got {str(self.start)!r}, but the branches stay as they are; leave out one of both"
            )
        training_device(self.device)

    def _need_fit(self) -> None:
        if not hasattr(self, "classes_"):
            raise ValueError("the classifier has learned nothing yet; call fit, or load a model file")

    def _prepared(self, X: Images) -> Tensor:
        images = _prepared(X).to(self.device)
        if hasattr(self, "classes_") and self.pairs_ != (images.ndim == 4):
            raise ValueError(f"X: got {_kind(not self.pairs_)}, but the classifier learned from {_kind(self.pairs_)}")
        return images

    def _new_branches(self) -> nn.Module:
        deep = self.trainable and self.cnn
        branches = DeepBranches(pairs=self.pairs_) if deep else FrozenBranches(cnn=self.cnn)
        return branches.to(self.device)

    def _fine_tune(
        self,
        images: Tensor,
        labels: np.ndarray,
        groups: Sequence[int] | np.ndarray | None,
        checkpoint: str | Path | None,
        progress: Progress | None,
    ) -> None:
        """Train the branches with a linear head of their own on the pooled maps; keep the best epoch."""
        assert isinstance(self.branches_, DeepBranches)
        if self.start is not None:
            started = Classifier.load(self.start, self.device).branches_
            if not isinstance(started, DeepBranches):
                raise ValueError(f"start: {self.start} has frozen branches; expected a model with fine-tuned ones")
            self.branches_.load_state_dict(started.state_dict())
        net = _FineTuned(self.branches_)

        def learned(chosen: np.ndarray, rng: np.random.Generator, early: bool) -> Tensor:
            seen = augment(images[chosen], rng)
            if early:
                seen = shrink(seen, _SMALL_SIDE)
            logits: Tensor = net(two_views(seen, self.hannmean_size), rng)
            return logits

        recipe = {
            **self.get_params(),
            "start": hash_arrays(*net.state_dict().values()),
            "images": hash_arrays(images, labels),
        }
        self.curve_ = _fit_best(
            net,
            labels,
            _validation_split(labels, groups, self.validation_fraction, self.seed),
            learned,
            lambda chosen: net(two_views(images[chosen], self.hannmean_size)),
            lambda steps: OneCycle(steps, self.lr, self.weight_decay),
            smoothing=_SMOOTHING,
            epochs=self.epochs,
            batch=self.batch,
            seed=(self.seed,),
            recipe=recipe,
            checkpoint=None if checkpoint is None else Path(checkpoint),
            progress=progress,
        )
        net.emphasize()

    def _fit_head(self, images: Tensor, labels: np.ndarray, groups: Sequence[int] | np.ndarray | None) -> Classifier:
        """Learn both stages of NMF from all images, and the head from those that do not validate."""
        self.branches_.requires_grad_(False).eval()
        inputs = self._learn_parts(images)
        self.mean_, self.spread_ = inputs.mean((0, 1)), inputs.std((0, 1)).clamp_min(1e-6)
        seen = (inputs - self.mean_) / self.spread_
        head = _linear_head(seen.shape[2]).to(self.device)
        curve = _fit_best(
            head,
            labels,
            _validation_split(labels, groups, self.validation_fraction, self.seed),
            lambda chosen, rng, _: head(seen[chosen, rng.integers(0, seen.shape[1], len(chosen))]),
            lambda chosen: head(seen[chosen].mean(1)),
            lambda steps: Sgd(steps, 0.1, 0.9, 3e-3),
            smoothing=0.0,
            epochs=self.epochs,
            batch=_HEAD_BATCH,
            seed=(self.seed, 1),
        )
        self.curve_ = self.curve_ or curve
        self.weight_, self.bias_ = head.weight.detach(), head.bias.detach()
        self.classes_ = np.arange(2)
        return self

    def _learn_parts(self, images: Tensor) -> Tensor:
        """Learn both stages of NMF; return what the head sees of these images (N, poses, F)."""
        self.W1_: Tensor | None = None
        if self.rank:
            rng = np.random.default_rng(self.seed)
            share = COLUMNS / sum(m[0, 0].numel() for m in self._seen(images[:1])) / len(images)
            V = torch.cat([some_columns(self._seen(part), share, rng) for part in _parts(images)], dim=1)
            self.W1_ = factorize(V, min(self.rank, *V.shape), self.seed)
        self.scale_ = images.new_ones(1)
        vectors = self._vectors(images)
        if self.rank or not isinstance(self.branches_, DeepBranches):  # the maps of deep branches have their emphasis
            self.scale_ = vectors.mean((0, 1)).clamp_min(1e-6)
            vectors = vectors / self.scale_
        self.W2_: Any = None
        if self.rank2:
            V = vectors[:, 0].T
            self.W2_ = factorize(V, min(self.rank2, *V.shape), self.seed)
        return self._inputs(vectors)

    @torch.no_grad()
    def _seen(self, images: Tensor) -> list[Tensor]:
        """Return the branches' maps of each level."""
        maps: list[Tensor] = self.branches_(two_views(images, self.hannmean_size))
        return maps

    def _maps(self, images: Tensor) -> list[Tensor]:
        """Return the maps of each level, of parts where there is a first NMF."""
        maps = self._seen(images)
        return maps if self.W1_ is None else part_maps(maps, self.W1_)

    def _vectors(self, images: Tensor) -> Tensor:
        """Return the scaled pooled maps of each pose of images: (N, poses, M)."""
        seen = [[pool(self._maps(pose)) for pose in poses(part)] for part in _parts(images)]
        return torch.cat([torch.stack(part, dim=1) for part in seen]) / self.scale_

    def _inputs(self, vectors: Tensor) -> Tensor:
        """Return what the head sees (N, poses, F): coefficients of the second NMF, or the pooled maps themselves."""
        if not self.rank2:
            return vectors
        return coefficients(vectors.flatten(0, 1).T, self.W2_).T.reshape(*vectors.shape[:2], -1)

    def _logits(self, inputs: Tensor) -> Tensor:
        return (inputs - self.mean_) / self.spread_ @ self.weight_.T + self.bias_


_PARAMETERS = tuple(inspect.signature(Classifier).parameters)
_LEARNED = ("W1", "scale", "W2", "mean", "spread", "weight", "bias")
_TINY = 1e-12


def _laid_out(maps: list[Tensor], relevance: Tensor) -> Tensor:
    """Return the relevance (M,) of one image's pooled maps, laid on where the maps are: (side, side)."""
    heat = relevance.new_zeros(SIDE, SIDE)
    for level, m in zip(torch.split(relevance, [2 * m.shape[1] for m in maps]), maps, strict=True):
        mean, most = level.chunk(2)
        total = m[0].sum((1, 2), keepdim=True)
        there = torch.where(total > 0, m[0] / total.clamp_min(_TINY), 1 / m[0, 0].numel())
        place = functional.one_hot(m[0].flatten(1).argmax(1), m[0, 0].numel()).reshape(m[0].shape).to(there)
        coarse = (mean[:, None, None] * there + most[:, None, None] * place).sum(0)
        times = SIDE // coarse.shape[0]
        heat += coarse.repeat_interleave(times, 0).repeat_interleave(times, 1) / times**2
    return heat


def _linear_head(width: int) -> nn.Linear:
    """Return a linear layer to two classes that starts at zero."""
    head = nn.Linear(width, 2)
    nn.init.zeros_(head.weight)
    nn.init.zeros_(head.bias)
    return head


class _FineTuned(nn.Module):
    """Branches with a linear head on their pooled maps."""

    def __init__(self, branches: DeepBranches) -> None:
        super().__init__()
        self.branches = branches
        self.head = _linear_head(2 * len(branches.emphasis)).to(branches.emphasis.device)
        branches.emphasis.fill_(1)

    def forward(self, views: Tensor, rng: np.random.Generator | None = None) -> Tensor:
        """Return the logits; with a generator, some of the pooled maps are dropped."""
        pooled = pool(self.branches(views))
        if rng is not None:
            kept = torch.from_numpy(rng.random(pooled.shape) >= _DROPOUT).to(pooled)
            pooled = pooled * kept / (1 - _DROPOUT)
        logits: Tensor = self.head(pooled)
        return logits

    @torch.no_grad()
    def emphasize(self) -> None:
        """Let the branches multiply each map by how much the log-odds depend on it."""
        of_mean, of_most = (self.head.weight[1] - self.head.weight[0]).abs().chunk(2)
        self.branches.emphasis.copy_(of_mean + of_most)


class _Kept(nn.Module):
    """A net in training, the best of its states, and its curves: what a checkpoint has to hold."""

    best_loss: Tensor
    curve: Tensor
    right: Tensor

    def __init__(self, net: nn.Module, epochs: int) -> None:
        super().__init__()
        self.net, self.best = net, copy.deepcopy(net).requires_grad_(False)
        self.register_buffer("best_loss", torch.tensor(_WORST))
        self.register_buffer("curve", torch.full((epochs, 3), -1.0))  # training accuracy, validation loss and accuracy
        self.register_buffer("right", torch.zeros(2))  # of this epoch's images: how many are told right, and all

    def end_epoch(self, epoch: int, loss: float, accuracy: float) -> None:
        self.curve[epoch] = torch.tensor([float(self.right[0] / self.right[1]), loss, accuracy])
        self.right.zero_()
        if epoch >= len(self.curve) // 2 and loss < float(self.best_loss):
            self.best_loss.fill_(loss)
            self.best.load_state_dict(self.net.state_dict())


def _fit_best(
    net: nn.Module,
    labels: np.ndarray,
    halves: tuple[np.ndarray, np.ndarray],
    learned: Callable[[np.ndarray, np.random.Generator, bool], Tensor],
    asked: Callable[[np.ndarray], Tensor],
    schedule: Callable[[int], Sgd | OneCycle],
    *,
    smoothing: float,
    epochs: int,
    batch: int,
    seed: tuple[int, ...],
    recipe: dict[str, Any] | None = None,
    checkpoint: Path | None = None,
    progress: Progress | None = None,
) -> Curve:
    """Train a net on balanced batches, leave it at its best epoch of the second half, and return its curve.

    `learned` and `asked` give the logits of the images at some places, in training and in validation; `learned` is told
    whether it is the first half of the training.
    """
    kept, held = halves
    by_class = [kept[labels[kept] == label] for label in (0, 1)]
    steps = max(1, round(2 * len(kept) / batch))
    state = _Kept(net, epochs)
    device = next(net.parameters()).device
    at_once = _AT_ONCE[device.type]

    def loss_of(step: int) -> Tensor:
        net.train()
        rng = np.random.default_rng([*seed, step])
        chosen = np.concatenate([rng.choice(of, batch // 2, len(of) < batch // 2) for of in by_class])
        truth, logits = torch.from_numpy(labels[chosen]).to(device), learned(chosen, rng, step < epochs // 2 * steps)
        state.right += torch.tensor([float((logits.argmax(1) == truth).sum()), len(chosen)])
        return functional.cross_entropy(logits, truth, label_smoothing=smoothing)

    def score() -> float:
        net.eval()
        with torch.no_grad():
            logits = torch.cat([asked(part) for part in np.split(held, range(at_once, len(held), at_once))]).cpu()
        truth = torch.from_numpy(labels[held])
        loss = float(functional.cross_entropy(logits, truth, label_smoothing=smoothing))
        accuracy = float((logits.argmax(1) == truth).float().mean())
        state.end_epoch(int((state.curve[:, 1] >= 0).sum()), loss, accuracy)
        return accuracy

    points = run_training(
        state,
        loss_of,
        score,
        schedule(epochs * steps),
        every=steps,
        recipe=recipe or {},
        checkpoint=checkpoint,
        progress=progress,
    )
    net.load_state_dict(state.best.state_dict())
    rows = zip(points, state.curve.tolist(), strict=True)
    return [(epoch + 1, point.loss, *row) for epoch, (point, row) in enumerate(rows)]


def _prepared(X: Images) -> Tensor:
    """Return the images as the branches see them: (N, side, side), or pairs (N, 2, side, side)."""
    prepared = []
    for i, image in enumerate(X):
        x = np.asarray(image)
        if x.dtype.kind != "f":
            raise TypeError(f"X: image {i} is {x.dtype}; expected floats from 0 to 1, divide by the greatest value")
        planes = x[None] if x.ndim == 2 else x
        if planes.ndim != 3 or len(planes) > 2 or min(planes.shape) < 1:
            raise ValueError(f"X: image {i} has shape {x.shape}; expected (H, W), or (2, H, W) for a pair")
        if not (np.isfinite(planes).all() and planes.min() >= 0 and planes.max() <= 1):
            raise ValueError(f"X: image {i} has values outside [0, 1]; scale them")
        seen = np.stack([prepare(plane) for plane in planes])
        prepared.append(seen[0] if x.ndim == 2 else seen)
    if not prepared:
        raise ValueError("X: no images; expected at least one")
    if len({x.shape for x in prepared}) > 1:
        raise ValueError("X: single images and pairs are mixed; expected one or the other")
    return torch.from_numpy(np.stack(prepared))


def _labels(y: Sequence[int] | np.ndarray, count: int, *, both: bool = True) -> np.ndarray:
    labels = np.asarray(y)
    if labels.shape != (count,):
        raise ValueError(f"y: shape {labels.shape}; expected ({count},), one label for each image")
    if not np.isin(labels, (0, 1)).all():
        raise ValueError(f"y: has labels {np.unique(labels).tolist()}; expected 0 (healthy) and 1 (unhealthy)")
    if both:
        for label, name in enumerate(("healthy", "unhealthy")):
            if (labels == label).sum() < 2:
                raise ValueError(f"y: has {(labels == label).sum()} {name} images; expected at least two of each class")
    return labels.astype(np.int64)


def _validation_split(
    labels: np.ndarray, groups: Sequence[int] | np.ndarray | None, fraction: float, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """Return which images to learn from and which to validate by: whole groups, both classes in either half."""
    single = np.arange(len(labels))
    group = single if groups is None else np.unique(np.asarray(groups), return_inverse=True)[1]
    if group.shape != labels.shape:
        raise ValueError(f"groups: shape {group.shape}; expected {labels.shape}, one for each image")
    halves = grouped_split(labels, group, fraction, seed)
    if any(len(np.unique(labels[half])) < 2 for half in halves):  # too few groups to go by them
        halves = grouped_split(labels, single, max(fraction, 1 / np.bincount(labels).min()), seed)
    return halves


def _kind(pairs: bool) -> str:
    return "pairs" if pairs else "single images"


def _parts(images: Tensor) -> tuple[Tensor, ...]:
    """Return images in parts of as many as are looked at together."""
    return torch.split(images, _AT_ONCE[images.device.type])
