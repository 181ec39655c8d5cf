"""The pipeline: hannmean, Siamese weight map, two-stage NMF, pyramid fusion, post-processing, colour."""

from __future__ import annotations

import dataclasses
import math
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from nmfuse import nets, pyramids
from nmfuse.fusion import image
from nmfuse.fusion.features import nmf_weight_map
from nmfuse.fusion.rules import fuse_pyramids
from nmfuse.fusion.weights import cnn_weight_map
from nmfuse.kernels import hannmean

# Options of the paper's structure, which the learned method has no use for.
_OF_PAPER = (
    "network", "hannmean_size", "weighting", "vote", "rank", "rank2", "keep", "beta", "nmf_iter", "pyramid", "levels",
    "t_top", "t_other", "epsilon", "seed",
)  # fmt: skip
_CHOICES = {
    "method": ("learned", "paper"),
    "denoise": ("off", "weights", "all"),
    "weighting": ("cnn+nmf", "cnn", "nmf", "half"),
    "vote": ("hard", "soft"),
    "pyramid": ("laplacian", "contrast"),
    "rounding": ("informed", "nearest"),
}


@dataclass
class Explanation:
    """A fused image and every intermediate that led to it, by name.

    Attributes
    ----------
    fused : array
        As `Fuser.fuse` returns it.
    steps : dict
        The intermediates, in the order they were made, as NumPy arrays or tensors like the sources (pyramids as
        lists). Luminance and weights are in [0, 1]; weights are those of image A.
    seconds : dict
        Wall time of each step.
    """

    fused: Any
    steps: dict[str, Any] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)

    def __getitem__(self, name: str) -> Any:
        return self.steps[name]


@dataclass(frozen=True)
class Fuser:
    """Fuses pairs of registered images; each step of the pipeline is an argument.

    Parameters
    ----------
    method : {"learned", "paper"}, optional
        "learned": Siamese features, two stages of NMF and pyramid gates trained together (`nmfuse.nets.FusionNet`).
        "paper": the paper's structure, by the options below: a weight map of the Siamese focus network and of NMF, and
        a rule with thresholds. By default "learned", but "paper" where one of the paper's options is not its default.
    fusion_network : str or path
        Weights of the learned method: "default", trained on free material alone; "all", trained also on medical and
        infrared pairs that carry no licence; or a file that ``nmfuse train fusion`` wrote.
    network : str or path
        Weights of the Siamese network: "lite", "full", or a file that ``nmfuse train focus`` wrote.
    denoise : {"weights", "off", "all"}
        Where the Hannmean-filtered images are used: only to decide the weights (the fused image keeps the sources'
        sharpness), nowhere, or for the fused image too (the paper). The learned method decides from what it fuses:
        there only "all" filters.
    hannmean_size : int
        n, the window of the Hannmean filter in pixels: odd, 3 to 63.
    weighting : {"cnn+nmf", "cnn", "nmf", "half"}
        W: the mean of W_cnn and W_nmf, one of them, or 1/2 everywhere.
    vote : {"hard", "soft"}
        Whether block scores S are first cut at 1/2 (the paper) or averaged as they are.
    rank, rank2 : int
        r1 and r2, the ranks of the two NMF stages; ``rank2=0`` leaves the second out.
    keep : int
        K, how many modality-specific components of stage 1 are kept.
    beta : float
        Divergence of the factorizations.
    nmf_iter : int
        Iterations of each factorization at most.
    pyramid : {"laplacian", "contrast"}
        Contrast is the paper's (a ratio of low-pass images); Laplacian keeps more of both images by every measure.
    levels : int, optional
        N, levels of the pyramid with its top; by default floor(log2(min(H, W))).
    t_top, t_other : float
        Match thresholds t of the top level and of the others: above it coefficients are weighted, below it the one of
        larger energy is taken.
    epsilon : float
        e of the contrast pyramid, on the scale [0, 1].
    sharpen : float
        Amount of unsharp masking of the fused luminance (0 none, 0.5 visible); kept within the sources' range.
    smooth : bool
        Whether the fused luminance is passed through the Hannmean filter once more.
    seed : int
        Of the factorizations' start.
    rounding : {"informed", "nearest"}
        Of 8-bit images by the learned method. "informed" first brings the fused luminance to that of its two nearest
        grey levels which keeps more of what both images tell (`nmfuse.fusion.image.round_informed`); "nearest" only
        rounds each channel of the result, as ``method="paper"`` always does.

    Raises
    ------
    TypeError, ValueError
        For an argument out of its range, here and not when an image comes.

    References
    ----------
    Das et al., "Utilizing Deep Convolutional Neural Networks and Non-Negative Matrix Factorization for Multi-Modal
    Image Fusion", IJACSA 14 (2023).

    Examples
    --------
    >>> import nmfuse
    >>> phantom = nmfuse.data.brain_phantom(64)
    >>> nmfuse.Fuser(levels=4).fuse(phantom.t2, phantom.ct).shape
    (64, 64)
    """

    method: str | None = None
    fusion_network: str | Path = "default"
    network: str | Path = "lite"
    denoise: str = "weights"
    hannmean_size: int = 3
    weighting: str = "cnn+nmf"
    vote: str = "hard"
    rank: int = 16
    rank2: int = 4
    keep: int = 12
    beta: float = 2.0
    nmf_iter: int = 100
    pyramid: str = "laplacian"
    levels: int | None = None
    t_top: float = 0.6
    t_other: float = 0.6
    epsilon: float = pyramids.CONTRAST_EPSILON
    sharpen: float = 0.0
    smooth: bool = False
    seed: int = 0
    rounding: str = "informed"

    def __post_init__(self) -> None:
        fields = {field.name: field.default for field in dataclasses.fields(self)}
        given = [name for name in _OF_PAPER if getattr(self, name) != fields[name]]
        if self.method is None:
            object.__setattr__(self, "method", "paper" if given else "learned")
        elif self.method == "learned" and given:
            raise ValueError(
                f"{given[0]}: is an option of method='paper', and method is 'learned'; leave one of them out"
            )
        for name, choices in _CHOICES.items():
            if getattr(self, name) not in choices:
                raise ValueError(f"{name}: got {getattr(self, name)!r}; expected one of {', '.join(choices)}")
        for name in ("network", "fusion_network"):
            if not isinstance(getattr(self, name), (str, Path)):
                raise TypeError(f"{name}: got {type(getattr(self, name)).__name__}; expected a name or a path")
        counts = {"rank": 1, "rank2": 0, "keep": 0, "nmf_iter": 1, "seed": 0, "hannmean_size": 3}
        if self.levels is not None:
            counts["levels"] = 1
        for name, least in counts.items():
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or value < least:
                raise ValueError(f"{name}: got {value!r}; expected an int of at least {least}")
        if self.hannmean_size % 2 == 0 or self.hannmean_size > 63:
            raise ValueError(f"hannmean_size: got {self.hannmean_size}; expected an odd int from 3 to 63")
        for name in ("beta", "t_top", "t_other", "epsilon", "sharpen"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
                raise ValueError(f"{name}: got {value!r}; expected a finite number")
        if self.epsilon <= 0:
            raise ValueError(f"epsilon: got {self.epsilon!r}; expected a positive number, such as 1/255")
        if self.sharpen < 0:
            raise ValueError(f"sharpen: got {self.sharpen!r}; expected a non-negative amount, such as 0.5")

    @classmethod
    def paper(cls, **changes: Any) -> Fuser:
        """Return the pipeline by the paper's letter: full network, denoised sources fused, contrast pyramid."""
        return cls(
            **(
                {"method": "paper", "network": "full", "denoise": "all", "vote": "hard", "pyramid": "contrast"}
                | changes
            )
        )

    def fuse(self, a: Any, b: Any, *, data_range: tuple[float, float] | None = None) -> Any:
        """Fuse two registered images; see `nmfuse.fuse`."""
        return self._run(a, b, data_range, None, _Clock())

    def explain(self, a: Any, b: Any, *, data_range: tuple[float, float] | None = None) -> Explanation:
        """Fuse two registered images and return every intermediate with the result.

        The steps of the learned method, by name: ``a``, ``b`` (luminance), ``W_nmf`` (how much of the parts found by
        NMF belongs to image A, at half resolution), ``gate_a``, ``gate_b`` (of each level of the pyramid),
        ``collapsed`` and ``luminance`` (fused). Those of the paper's: ``a``, ``b``, ``a_denoised``, ``b_denoised``,
        ``S`` (block scores), ``W_cnn``, ``P_A``, ``P_B`` (features), those of `nmfuse.fusion.features.NmfWeights`,
        ``W``, ``pyramid_a``, ``pyramid_b``, ``pyramid_W``, ``pyramid_fused``, ``collapsed`` and ``luminance``.

        Parameters
        ----------
        a, b, data_range
            As `nmfuse.fuse`.

        Returns
        -------
        Explanation
            ``explanation["W_cnn"]`` and so on, ``explanation.fused``, ``explanation.seconds``.

        Examples
        --------
        >>> import nmfuse
        >>> phantom = nmfuse.data.brain_phantom(64)
        >>> nmfuse.Fuser(method="paper").explain(phantom.t2, phantom.ct)["W"].shape
        (64, 64)
        """
        steps: dict[str, Any] = {}
        clock = _Clock()
        fused = self._run(a, b, data_range, steps, clock)
        if not isinstance(a, Tensor):
            steps = {name: _to_numpy(value) for name, value in steps.items()}
        return Explanation(fused, steps, clock.seconds)

    @torch.inference_mode()
    def _run(
        self, a: Any, b: Any, data_range: tuple[float, float] | None, steps: dict[str, Any] | None, clock: _Clock
    ) -> Any:
        image_a, image_b, form = image.take_pair(a, b, data_range)
        y_a, y_b = image.luminance(image_a), image.luminance(image_b)
        # The factorization starts from a random draw, so the pair is always worked on in one order, whichever way it
        # came: exchanging the images changes nothing, to the last bit.
        exchanged = not self._minds_order(y_a) and _comes_later(y_a, y_b)
        if exchanged:
            y_a, y_b = y_b, y_a
        named: dict[str, Any] = {"a": y_a, "b": y_b}
        if self.method == "learned":
            y, low, high = self._learned(y_a, y_b, named, clock, explained=steps is not None)
        else:
            y, low, high = self._by_rules(y_a, y_b, named, clock)
        with clock("post-processing"):
            y = self._finish(y, low, high)
            if self.method == "learned" and self.rounding == "informed" and form.dtype == "uint8":
                y = image.round_informed(y, y_a, y_b, form.low, form.high)
        with clock("colour"):
            fused = image.give_back(image.with_chroma(y, image.chroma(image_a, image_b)), form)
        if steps is not None:
            named["luminance"] = y
            steps.update(_exchange(named) if exchanged else named)
        return fused

    def _minds_order(self, a: Tensor) -> bool:
        """Return whether the network tells image A from B by their place."""
        return self.method == "learned" and nets.load_fusion(self.fusion_network, a.device).firsts_b is not None

    def _learned(
        self, a: Tensor, b: Tensor, steps: dict[str, Any], clock: _Clock, *, explained: bool
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Fuse by the fusion network; return the fused luminance, and the least and the greatest of what was fused."""
        if self.denoise == "all":
            with clock("hannmean"):
                a, b = hannmean(torch.stack([a, b]), self.hannmean_size)
                steps["a_denoised"], steps["b_denoised"] = a, b
        with clock("network"):
            net = nets.load_fusion(self.fusion_network, a.device)
            record: dict[str, Any] | None = {} if explained else None
            fused, context = net.explain(a[None, None], b[None, None], clock, record=record)
            low, high = torch.minimum(a.amin(), b.amin()), torch.maximum(a.amax(), b.amax())
            y = fused[0, 0].clamp_(low, high)
        if record is not None:
            if "parts" in record:
                steps["parts_a"], steps["parts_b"] = record["parts"][:, 0]
            steps["W_nmf"] = context[0, 0, 0]
            steps["gate_a"], steps["gate_b"] = ([level[side, 0, 0] for level in record["gates"]] for side in (0, 1))
            steps["collapsed"] = y
        return y, low, high

    def _by_rules(self, a: Tensor, b: Tensor, steps: dict[str, Any], clock: _Clock) -> tuple[Tensor, Tensor, Tensor]:
        """Fuse as the paper does; return the fused luminance, and the least and the greatest of what was fused."""
        shape = (a.shape[0], a.shape[1])
        with clock("hannmean"):
            pair = torch.stack([a, b])
            quiet = pair if self.denoise == "off" else hannmean(pair, self.hannmean_size)
            steps["a_denoised"], steps["b_denoised"] = quiet[0], quiet[1]
        with clock("network"):
            W = self._weights(quiet, shape, steps, clock)
        with clock("pyramid"):
            source = quiet if self.denoise == "all" else pair
            levels = pyramids.max_levels(shape)
            steps |= fuse_pyramids(
                source[0],
                source[1],
                W,
                pyramid=self.pyramid,
                levels=levels if self.levels is None else min(self.levels, levels),
                t_top=self.t_top,
                t_other=self.t_other,
                epsilon=self.epsilon,
            )
        return steps["collapsed"], source.amin(), source.amax()

    def _weights(self, pair: Tensor, shape: tuple[int, int], steps: dict[str, Any], clock: _Clock) -> Tensor:
        """Return W, the weight of the first image of the pair (2, H, W)."""
        maps = []
        if self.weighting != "half":
            network = nets.load(self.network, pair.device)
            features = network.features(pair[:, None])
        if "cnn" in self.weighting:
            S = network.score_features(features[:1], features[1:])[0]
            steps["S"] = S
            with clock("aggregate_blocks"):
                steps["W_cnn"] = cnn_weight_map(S, self.vote, shape)
            maps.append(steps["W_cnn"])
        if "nmf" in self.weighting:
            steps["P_A"], steps["P_B"] = features[0], features[1]
            with clock("nmf"):
                stages = nmf_weight_map(
                    features[0],
                    features[1],
                    shape,
                    rank=self.rank,
                    rank2=self.rank2,
                    keep=self.keep,
                    beta=self.beta,
                    max_iter=self.nmf_iter,
                    seed=self.seed,
                )
            steps |= {f.name: getattr(stages, f.name) for f in dataclasses.fields(stages)}
            maps.append(stages.W_nmf)
        W = torch.stack(maps).mean(dim=0) if maps else pair.new_full(shape, 0.5)
        steps["W"] = W
        return W

    def _finish(self, y: Tensor, low: Tensor, high: Tensor) -> Tensor:
        """Clip, smooth and sharpen the fused luminance; nothing leaves the sources' range."""
        y = y.clamp(low, high)
        if self.smooth:
            y = hannmean(y, self.hannmean_size)
        if self.sharpen > 0:
            y = (y + self.sharpen * (y - hannmean(y, 5))).clamp(low, high)
        return y


def fuse(a: Any, b: Any, *, data_range: tuple[float, float] | None = None, **options: Any) -> Any:
    """Fuse two registered images into one.

    Parameters
    ----------
    a, b : NumPy array or torch tensor
        Both of one kind, dtype (uint8, uint16, float32 or float64) and size, at least 16 x 16 pixels: (H, W) or
        (H, W, 3) for NumPy, (H, W) or (3, H, W) for torch. Colour is fused as luminance; the chroma of one colour
        source is kept, that of two is averaged, each weighted by its distance from grey.
    data_range : (low, high), optional
        What means black and white, for both images. By default (0, 255) for uint8, (0, 1) for floats within it, else
        from 0 (or the least value below it) to the greatest value of either image.
    **options
        As `Fuser`.

    Returns
    -------
    NumPy array or torch tensor
        Of the sources' kind, dtype and range; in colour where a source is.

    Raises
    ------
    TypeError
        For kinds or dtypes that are not supported or differ.
    ValueError
        For sizes that differ or are below 16 x 16, NaN or inf, or an option out of range.

    References
    ----------
    Das et al., IJACSA 14 (2023).

    Examples
    --------
    >>> import nmfuse
    >>> phantom = nmfuse.data.brain_phantom(64)
    >>> nmfuse.fuse(phantom.t2, phantom.ct).dtype
    dtype('float32')
    """
    return Fuser(**options).fuse(a, b, data_range=data_range)


class _Clock:
    """Adds up wall time by step; a step within another is not counted twice."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._inner = 0.0

    @contextmanager
    def __call__(self, step: str) -> Iterator[None]:
        outer, self._inner = self._inner, 0.0
        start = time.perf_counter()
        yield
        elapsed = time.perf_counter() - start
        self.seconds[step] = self.seconds.get(step, 0.0) + elapsed - self._inner
        self._inner = outer + elapsed


def _comes_later(a: Tensor, b: Tensor) -> bool:
    """Whether b goes before a in the order that pairs are worked on: brighter first, then by the first difference."""
    mean_a, mean_b = float(a.double().mean()), float(b.double().mean())
    if mean_a != mean_b:
        return mean_b > mean_a
    differ = (a != b).flatten()
    if not bool(differ.any()):
        return False
    first = int(differ.int().argmax())
    return bool(b.flatten()[first] > a.flatten()[first])


_SIDES = {
    "a": "b",
    "a_denoised": "b_denoised",
    "P_A": "P_B",
    "H_A": "H_B",
    "pyramid_a": "pyramid_b",
    "parts_a": "parts_b",
    "gate_a": "gate_b",
}
_FRACTIONS_OF_A = ("S", "W_cnn", "W_nmf", "W", "share")


def _exchange(steps: dict[str, Any]) -> dict[str, Any]:
    """Name the steps of an exchanged pair as the caller named the images."""
    other = _SIDES | {b: a for a, b in _SIDES.items()}
    named = {name: steps[other.get(name, name)] for name in steps}
    for name in _FRACTIONS_OF_A:
        if name in named:
            named[name] = 1 - named[name]
    if "pyramid_W" in named:
        named["pyramid_W"] = [1 - w for w in named["pyramid_W"]]
    if "A" in named:
        A = named["A"]
        named["A"] = torch.cat([A[A.shape[0] // 2 :], A[: A.shape[0] // 2]])
    return named


def _to_numpy(value: Any) -> Any:
    return [v.numpy() for v in value] if isinstance(value, list) else value.numpy()
