"""Fusion training: gates of the pyramid learned end to end, by differentiable forms of the metrics."""

from __future__ import annotations

import functools
import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from nmfuse.io import new_file
from nmfuse.nets.fusion_net import FORMAT, FusionNet
from nmfuse.nets.weights_file import write_weights
from nmfuse.training.loops import CurvePoint, OneCycle, output_files, run_training, write_curves
from nmfuse.training.losses import fusion_scores
from nmfuse.training.pairs import Maker, PairSet, pair_set
from nmfuse.training.patches import hash_files

STEPS = 1600  # of the shipped file
# What each smooth metric is worth; the worse-served source counts most.
WEIGHTS = {
    "EN": 1.0, "SD": 0.4, "SF": 1.0, "MI": 0.5, "SCD": 0.8, "VIF": 1.5, "Q_abf": 3.0, "SSIM": 2.0, "VIF_min": 2.5,
    "Q_over": 3.0,
}  # fmt: skip
_RELATIVE_MOST = 1.1  # SD, SF and EN beyond that of the stronger source bring nothing more
_OUTSIDE = 20.0  # price of values outside [0, 1]
_EVERY = 100
_HELD_OUT_CROPS = 48


@dataclass(frozen=True)
class FusionResult:
    """What `train_fusion` gives back.

    Attributes
    ----------
    score : float
        Weighted sum of the smooth metrics of held-out crops.
    scores : dict
        The mean of each of them.
    curve : list of CurvePoint
        Loss, learning rate and held-out score along the way.
    """

    score: float
    scores: dict[str, float]
    curve: list[CurvePoint]


def train_fusion(
    output: str | Path,
    *,
    data: str | Path | None = None,
    photos: str | Path | None = None,
    phantoms: int = 0,
    steps: int = STEPS,
    batch: int = 6,
    crop: int = 96,
    lr: float = 3e-3,
    context: bool = True,
    seed: int = 0,
    checkpoint: str | Path | None = None,
    overwrite: bool = False,
    progress: Callable[[int, int, float], None] | None = None,
    notes: str = "",
) -> FusionResult:
    """Train a `FusionNet` and write its weight file and its curves (CSV and PNG beside it).

    Each step fuses a batch of random crops, drawn from all kinds of pairs alike, and climbs the weighted sum of
    differentiable forms of ten metrics (`WEIGHTS`; `nmfuse.training.losses.fusion_scores`), with Adam and a one-cycle
    schedule. A fifth of the patients, photographs and phantoms is held out.

    Parameters
    ----------
    output : path
        The weight file, ending in .safetensors.
    data, photos, phantoms
        What to learn from; see `nmfuse.training.pairs.pair_set`.
    steps, batch, crop : int
        Steps, pairs a step, and pixels along a crop.
    lr : float
        The greatest learning rate.
    context : bool
        Whether the two stages of NMF take part.
    seed : int
        Of the crops and of the starting weights.
    checkpoint : path, optional
        Saved every 100 steps; a run that finds it continues from there, to the same bits as an unbroken run.
    overwrite : bool
        Replace the output files if they exist.
    progress : callable, optional
        Called with (steps done, steps in all, loss) after each step.
    notes : str
        Kept in the file's metadata: what the images were, and their licence.

    Returns
    -------
    FusionResult

    Raises
    ------
    FileNotFoundError, FileExistsError
        If a folder is missing; if an output file exists.
    ValueError
        For an option out of range, images that cannot be used, or a loss that becomes NaN or inf.

    Examples
    --------
    >>> import tempfile
    >>> output = Path(tempfile.mkdtemp()) / "fusion.safetensors"
    >>> len(train_fusion(output, phantoms=2, steps=2, batch=1, crop=64).curve)
    1
    """
    for name, value, least in (("steps", steps, 1), ("batch", batch, 1), ("crop", crop, 64), ("seed", seed, 0)):
        if isinstance(value, bool) or not isinstance(value, int) or value < least:
            raise ValueError(f"{name}: got {value}; expected an int of at least {least}")
    schedule = OneCycle(steps, lr)
    checkpoint = None if checkpoint is None else Path(checkpoint)
    files = output_files(Path(output), checkpoint, overwrite=overwrite)
    pairs = pair_set(None if data is None else Path(data), None if photos is None else Path(photos), phantoms)
    recipe = {
        **asdict(schedule),
        "batch": batch,
        "crop": crop,
        "context": context,
        "seed": seed,
        "weights": WEIGHTS,
        "kinds": sorted(pairs.training),
        "phantoms": phantoms,
        "data_sha256": hash_files(pairs.files),
    }
    with torch.random.fork_rng(devices=[]):  # leaves the caller's random numbers alone
        torch.default_generator.manual_seed(seed)
        net = FusionNet(context=context)
    held_out = _held_out(pairs, crop)

    def score() -> float:
        with torch.no_grad():
            return float(_value(*held_out, net(*held_out)).mean())

    curve = run_training(
        net,
        functools.partial(_loss, net, pairs, batch, crop, seed),
        score,
        schedule,
        every=_EVERY,
        recipe=recipe,
        checkpoint=checkpoint,
        progress=progress,
    )
    with torch.no_grad():
        scores = fusion_scores(*(x[:, 0] for x in (*held_out, net(*held_out))))
    result = FusionResult(curve[-1].score, {name: float(value.mean()) for name, value in scores.items()}, curve)
    metadata = {
        "context": str(int(context)),
        "recipe": json.dumps(recipe),
        "held_out_score": f"{result.score:.5f}",
        "held_out_scores": json.dumps(result.scores),
        "notes": notes,
    }
    write_curves(curve, files[1], files[2], "Fusion training", "held-out score")
    with new_file(files[0], overwrite=True) as temporary:
        write_weights(temporary, net.state_dict(), FORMAT, metadata)
    return result


def _batch(makers: list[Maker], count: int, crop: int, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
    drawn = [makers[rng.integers(len(makers))](crop, rng) for _ in range(count)]
    a, b = (torch.from_numpy(np.stack([pair[side] for pair in drawn]))[:, None] for side in (0, 1))
    return a, b


def _held_out(pairs: PairSet, crop: int) -> tuple[Tensor, Tensor]:
    return _batch(list((pairs.held_out or pairs.training).values()), _HELD_OUT_CROPS, crop, np.random.default_rng(1))


def _loss(net: FusionNet, pairs: PairSet, count: int, crop: int, seed: int, step: int) -> Tensor:
    a, b = _batch(list(pairs.training.values()), count, crop, np.random.default_rng([seed, step]))
    return -_value(a, b, net(a, b)).mean()


def _value(a: Tensor, b: Tensor, fused: Tensor) -> Tensor:
    """Return what each fused image of a batch is worth: (N,)."""
    scores = fusion_scores(a[:, 0], b[:, 0], fused[:, 0])
    for name in ("EN", "SD", "SF"):
        scores[name] = scores[name].clamp_max(_RELATIVE_MOST)
    outside = ((fused - 1).clamp_min(0) + (-fused).clamp_min(0)).mean((1, 2, 3))
    total: Tensor = torch.stack([weight * scores[name] for name, weight in WEIGHTS.items()]).sum(0)
    return total - _OUTSIDE * outside
