"""Healthy or unhealthy: two views, Siamese branches, two stages of NMF, a soft-max head."""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from nmfuse.classify.features import (
    LEVELS,
    SIDE,
    Branches,
    augment,
    coefficients,
    factorize,
    part_maps,
    pool,
    prepare,
    two_views,
)
from nmfuse.io import new_file
from nmfuse.nets.weights_file import read_weights, write_weights
from nmfuse.training.loops import CurvePoint, Sgd, run_training

FORMAT = "nmfuse.classifier.1"
_HEAD_STEPS = 400
_AT_ONCE = 128  # images looked at together
_WORST = 1e30

Progress = Callable[[int, int, float], None]  # of (steps done, steps in all, loss)
Images = np.ndarray | Sequence[np.ndarray]


@dataclass
class Explained:
    """Why an image was called what it was called.

    Attributes
    ----------
    probability : float
        That it is unhealthy.
    heat : array, shape (side, side)
        What each place adds to the log-odds of "unhealthy": their sum and `bias` are the log-odds.
    bias : float
    components : array, shape (r2,)
        What each component of the second NMF adds to them.
    """

    probability: float
    heat: np.ndarray
    bias: float
    components: np.ndarray


class Classifier:
    """Tells unhealthy from healthy brain images; `fit`, `predict`, `predict_proba`, `score` as in scikit-learn.

    Parameters
    ----------
    trainable : bool
        Whether the branches are fine-tuned, or stay at the focus weights.
    hannmean_size : int
        n of the filter that makes the second view; 0 gives the image itself twice.
    cnn : bool
        False: patches of the image in place of the branches' maps.
    rank, rank2 : int
        Of the two stages of NMF; 0 leaves a stage out.
    epochs, batch : int
        Of the fine-tuning; the weights of the epoch with the least validation loss are kept.
    lr, momentum, weight_decay : float
        Of its SGD.
    validation_fraction : float
        Share of the training images (of whole groups) that decides which epoch is kept.
    seed : int
        Of the split, the order, the augmentation and the factorizations.

    Attributes
    ----------
    classes_ : array
        [0, 1]: healthy, unhealthy.
    curve_ : list of CurvePoint
        Of the fine-tuning: loss, rate and validation accuracy after each epoch.

    References
    ----------
    Das et al., IJACSA 14 (2023), Sec. V; Lee & Seung, Nature 401 (1999), for parts by NMF.

    Examples
    --------
    >>> images = np.random.default_rng(0).random((12, 64, 64), np.float32)
    >>> labels = np.arange(12) % 2
    >>> classifier = Classifier(trainable=False, rank=4, rank2=2).fit(images, labels)
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
        batch: int = 128,
        lr: float = 0.05,
        momentum: float = 0.9,
        weight_decay: float = 5e-4,
        validation_fraction: float = 0.2,
        seed: int = 0,
    ) -> None:
        self.trainable, self.hannmean_size, self.cnn = trainable, hannmean_size, cnn
        self.rank, self.rank2 = rank, rank2
        self.epochs, self.batch, self.lr = epochs, batch, lr
        self.momentum, self.weight_decay = momentum, weight_decay
        self.validation_fraction, self.seed = validation_fraction, seed

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
        """Learn from images.

        Parameters
        ----------
        X : array (N, H, W) or sequence of arrays (H, W)
            From 0 to 1; pairs of registered images (N, 2, H, W) are taken too, as the two views.
        y : (N,)
            0 healthy, 1 unhealthy.
        groups : (N,), optional
            What may not be torn apart by the validation split, such as patients or copies of one image.
        checkpoint : path, optional
            Where fine-tuning saves its progress; a run that finds the file goes on from there, to the same result.
        progress : callable, optional
            Called with (steps done, steps in all, loss).

        Raises
        ------
        ValueError
            For an argument out of range, labels other than 0 and 1, one class alone, fewer than two images of a class,
            or a loss that becomes NaN.
        """
        self._check()
        labels = _labels(y, len(X))
        images = _prepared(X)
        kept, held = _validation_split(labels, groups, self.validation_fraction, self.seed)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.seed)
            self.branches_ = Branches(cnn=self.cnn)
            self.curve_: list[CurvePoint] = []
            if self.trainable and self.cnn:
                self._fine_tune(images, labels, kept, held, checkpoint, progress)
            self.branches_.requires_grad_(False).eval()
            self._learn_head(self._learn_parts(images), labels)
        self.classes_ = np.arange(2)
        return self

    def predict_proba(self, X: Images) -> np.ndarray:
        """Return the probabilities (N, 2) of healthy and unhealthy, by images as in `fit`."""
        self._need_fit()
        return self._probabilities(self._inputs(pool(self._maps(_prepared(X))) / self.scale_))

    def predict(self, X: Images) -> np.ndarray:
        """Return the likelier class of each image (N,): 0 healthy, 1 unhealthy."""
        likelier: np.ndarray = self.predict_proba(X).argmax(1)
        return likelier

    def score(self, X: Images, y: Sequence[int] | np.ndarray) -> float:
        """Return the accuracy."""
        return float((self.predict(X) == _labels(y, len(X), both=False)).mean())

    def explain(self, image: np.ndarray) -> Explained:
        """Say which components decided, and where in the image they are.

        Parameters
        ----------
        image : (H, W)
            As in `fit`; or a pair (2, H, W).

        Returns
        -------
        Explained
            The heat map lies on the image as the branches see it: see `nmfuse.classify.features.prepare`.
        """
        self._need_fit()
        prepared = _prepared(np.asarray(image)[None])
        maps = self._maps(prepared)
        inputs = self._inputs(pool(maps) / self.scale_)
        weight = (self.weight_[1] - self.weight_[0]) / self.spread_
        components = (weight * inputs)[0]
        bias = self.bias_[1] - self.bias_[0] - (weight * self.mean_).sum()
        if self.rank2:
            shares = self.W2_ / self.W2_.sum(0).clamp_min(1e-12)
            relevance = shares @ components
        else:
            relevance = components
        heat = torch.zeros(SIDE, SIDE)
        for level, m in zip(relevance.chunk(LEVELS), maps, strict=True):
            mean, most = level.chunk(2)
            spread = m[0] / m[0].sum((1, 2), keepdim=True).clamp_min(1e-12)
            place = functional.one_hot(m[0].flatten(1).argmax(1), m[0][0].numel()).reshape(m[0].shape).to(spread)
            there = torch.where(m[0].sum((1, 2), keepdim=True) > 0, spread, 1 / spread[0].numel())
            coarse = (mean[:, None, None] * there + most[:, None, None] * place).sum(0)
            times = SIDE // coarse.shape[0]
            heat += coarse.repeat_interleave(times, 0).repeat_interleave(times, 1) / times**2
        probability = float(self._probabilities(inputs)[0, 1])
        return Explained(probability, heat.numpy(), float(bias), components.numpy())

    def save(self, path: str | Path, *, overwrite: bool = False, notes: str = "") -> None:
        """Write a model file (.safetensors); its metadata holds the arguments and `notes`."""
        self._need_fit()
        tensors = {f"branches.{name}": value for name, value in self.branches_.state_dict().items()}
        tensors |= {name: getattr(self, f"{name}_") for name in _LEARNED if getattr(self, f"{name}_") is not None}
        metadata = {"parameters": json.dumps(self.get_params()), "notes": notes}
        metadata["curve"] = json.dumps([asdict(point) for point in self.curve_])
        with new_file(Path(path), overwrite=overwrite) as temporary:
            write_weights(temporary, tensors, FORMAT, metadata)

    @classmethod
    def load(cls, path: str | Path) -> Classifier:
        """Return the classifier of a model file.

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
            classifier = cls(**json.loads(metadata["parameters"]))
            classifier._check()
            branches = Branches(cnn=classifier.cnn)
            branches.load_state_dict(
                {name.removeprefix("branches."): x for name, x in tensors.items() if name.startswith("branches.")}
            )
            classifier.branches_ = branches.requires_grad_(False).eval()
            for name in _LEARNED:
                optional = {"W1": classifier.rank, "W2": classifier.rank2}.get(name, 1) == 0
                setattr(classifier, f"{name}_", None if optional else tensors[name])
            classifier.curve_ = [CurvePoint(**point) for point in json.loads(metadata["curve"])]
        except (KeyError, TypeError, RuntimeError, json.JSONDecodeError) as error:
            raise ValueError(f"{path}: is not a whole model file ({error}); train it anew") from error
        classifier.classes_ = np.arange(2)
        return classifier

    def _check(self) -> None:
        for name, least in (("rank", 0), ("rank2", 0), ("epochs", 1), ("batch", 2), ("seed", 0)):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or value < least:
                raise ValueError(f"{name}: got {value!r}; expected an int of at least {least}")
        if self.hannmean_size != 0 and (self.hannmean_size % 2 == 0 or not 3 <= self.hannmean_size <= 63):
            raise ValueError(f"hannmean_size: got {self.hannmean_size!r}; expected 0 or an odd int from 3 to 63")
        if not 0 < self.validation_fraction < 1:
            raise ValueError(f"validation_fraction: got {self.validation_fraction!r}; expected between 0 and 1")

    def _need_fit(self) -> None:
        if not hasattr(self, "classes_"):
            raise ValueError("the classifier has learned nothing yet; call fit, or load a model file")

    def _fine_tune(
        self,
        images: Tensor,
        labels: np.ndarray,
        kept: np.ndarray,
        held: np.ndarray,
        checkpoint: str | Path | None,
        progress: Progress | None,
    ) -> None:
        """Train the branches with a linear head of their own on the pooled maps; keep the best epoch."""
        net = _FineTuning(self.branches_, two_views(images[kept], self.hannmean_size))
        truth = torch.from_numpy(labels)
        by_class = [kept[labels[kept] == label] for label in (0, 1)]
        steps = max(1, round(len(kept) / self.batch))
        sgd = Sgd(self.epochs * steps, self.lr, self.momentum, self.weight_decay)

        def loss_of(step: int) -> Tensor:
            rng = np.random.default_rng([self.seed, step])
            chosen = np.concatenate([rng.choice(of, self.batch // 2, len(of) < self.batch // 2) for of in by_class])
            views = two_views(augment(images[chosen], rng), self.hannmean_size)
            return functional.cross_entropy(net(views), truth[chosen])

        def score() -> float:
            with torch.no_grad():
                logits = net(two_views(images[held], self.hannmean_size))
                net.keep_if_better(float(functional.cross_entropy(logits, truth[held])))
            return float((logits.argmax(1) == truth[held]).float().mean())

        recipe = {**self.get_params(), "images": _hash(images, labels)}
        path = None if checkpoint is None else Path(checkpoint)
        self.curve_ = run_training(
            net, loss_of, score, sgd, every=steps, recipe=recipe, checkpoint=path, progress=progress
        )
        self.branches_.load_state_dict(net.best.state_dict())

    def _maps(self, images: Tensor) -> list[Tensor]:
        """Return the maps of each level, of parts where there is a first NMF."""
        maps = self._seen(images)
        return maps if self.W1_ is None else part_maps(maps, self.W1_)

    @torch.no_grad()
    def _seen(self, images: Tensor) -> list[Tensor]:
        some = [self.branches_(two_views(part, self.hannmean_size)) for part in torch.split(images, _AT_ONCE)]
        return [torch.cat(level) for level in zip(*some, strict=True)]

    def _learn_parts(self, images: Tensor) -> Tensor:
        """Learn both stages of NMF; return what the head sees of these images (N, F)."""
        maps = self._seen(images)
        self.W1_: Tensor | None = None
        if self.rank:
            V = torch.cat([m.movedim(1, 0).flatten(1) for m in maps], dim=1)
            self.W1_ = factorize(V, min(self.rank, *V.shape), self.seed)
            maps = part_maps(maps, self.W1_)
        vectors = pool(maps)
        self.scale_ = vectors.mean(0).clamp_min(1e-6)
        vectors = vectors / self.scale_
        self.W2_: Any = None
        if self.rank2:
            self.W2_ = factorize(vectors.T, min(self.rank2, *vectors.shape), self.seed)
        return self._inputs(vectors)

    def _inputs(self, vectors: Tensor) -> Tensor:
        """Return what the head sees: the coefficients of the second NMF, or the pooled maps themselves."""
        return coefficients(vectors.T, self.W2_).T if self.rank2 else vectors

    def _learn_head(self, inputs: Tensor, labels: np.ndarray) -> None:
        self.mean_, self.spread_ = inputs.mean(0), inputs.std(0).clamp_min(1e-6)
        seen = (inputs - self.mean_) / self.spread_
        head = _linear_head(seen.shape[1])
        truth = torch.from_numpy(labels)
        by_class = [np.flatnonzero(labels == label) for label in (0, 1)]

        def loss_of(step: int) -> Tensor:
            rng = np.random.default_rng([self.seed, 1, step])
            chosen = np.concatenate([rng.choice(of, self.batch // 2) for of in by_class])
            return functional.cross_entropy(head(seen[chosen]), truth[chosen])

        sgd = Sgd(_HEAD_STEPS, 0.1, self.momentum, 10 * self.weight_decay)
        run_training(head, loss_of, lambda: 0.0, sgd, every=_HEAD_STEPS, recipe={}, checkpoint=None, progress=None)
        self.weight_, self.bias_ = head.weight.detach(), head.bias.detach()

    def _probabilities(self, inputs: Tensor) -> np.ndarray:
        seen = (inputs - self.mean_) / self.spread_
        logits = seen @ self.weight_.T + self.bias_
        return np.asarray(logits.double().softmax(1).numpy())


_PARAMETERS = tuple(inspect.signature(Classifier).parameters)
_LEARNED = ("W1", "scale", "W2", "mean", "spread", "weight", "bias")


def _linear_head(width: int) -> nn.Linear:
    """Return a linear layer to two classes that starts at zero."""
    head = nn.Linear(width, 2)
    nn.init.zeros_(head.weight)
    nn.init.zeros_(head.bias)
    return head


class _FineTuning(nn.Module):
    """Branches with a linear head on their pooled maps, and the best branches so far."""

    def __init__(self, branches: Branches, views: Tensor) -> None:
        super().__init__()
        self.branches = branches
        self.best = Branches(cnn=branches.cnn).requires_grad_(False)
        self.best_loss = nn.Parameter(torch.tensor(_WORST), requires_grad=False)
        with torch.no_grad():
            pooled = torch.cat([pool(branches(part)) for part in torch.split(views, _AT_ONCE)])
        spread = pooled.std(0)
        self.mean = nn.Parameter(pooled.mean(0), requires_grad=False)
        self.spread = nn.Parameter(spread + 0.01 * spread.mean(), requires_grad=False)
        self.head = _linear_head(pooled.shape[1])

    def forward(self, views: Tensor) -> Tensor:
        pooled = pool(self.branches(views))
        logits: Tensor = self.head((pooled - self.mean) / self.spread / pooled.shape[1] ** 0.5)
        return logits

    def keep_if_better(self, loss: float) -> None:
        if loss < float(self.best_loss):
            self.best_loss.fill_(loss)
            self.best.load_state_dict(self.branches.state_dict())


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
    group = np.arange(len(labels)) if groups is None else np.unique(np.asarray(groups), return_inverse=True)[1]
    if group.shape != labels.shape:
        raise ValueError(f"groups: shape {group.shape}; expected {labels.shape}, one for each image")
    order = np.random.default_rng(seed).permutation(group.max() + 1)
    sizes = np.bincount(group)[order].cumsum()
    held_groups = order[: max(1, int(np.searchsorted(sizes, fraction * len(labels))))]
    held = np.isin(group, held_groups)
    for half in (held, ~held):
        if len(np.unique(labels[half])) < 2:  # too few groups to go by them
            held = np.zeros(len(labels), bool)
            for label in (0, 1):
                of = np.flatnonzero(labels == label)
                held[of[: max(1, int(fraction * len(of)))]] = True
            break
    return np.flatnonzero(~held), np.flatnonzero(held)


def _hash(images: Tensor, labels: np.ndarray) -> str:
    import hashlib

    return hashlib.sha256(images.numpy().tobytes() + labels.tobytes()).hexdigest()
