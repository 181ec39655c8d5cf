"""Fusion training: gates of the pyramid learned end to end, so that nothing is lost that one source alone shows."""

from __future__ import annotations

import copy
import functools
import json
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from nmfuse.io import new_file
from nmfuse.kernels.checks import check_count
from nmfuse.metrics import RANKING
from nmfuse.nets.fusion_net import FORMAT, FusionNet, load_fusion, weight_file
from nmfuse.nets.weights_file import read_weights, write_weights
from nmfuse.training.loops import (
    CurvePoint,
    OneCycle,
    hash_arrays,
    output_files,
    run_training,
    training_device,
    write_curves,
)
from nmfuse.training.losses import expected_ranks, fidelity, load_standings
from nmfuse.training.pairs import Image, PairSet, pair_set
from nmfuse.training.patches import hash_files
from nmfuse.training.processes import process_count, process_number
from nmfuse.training.signals import insert_signals, shortfalls

STEPS = 2600  # of the first pass of the shipped files
_RANK_WEIGHTS = {"Q_abf": 4.0}  # in the loss, any other's is 1; docs/design/0007: what it is worth
_RANK_WEIGHTS_OF: dict[str, dict[str, float]] = {"multi_focus": {}}  # kinds with others: here all are 1
_OUTSIDE = 60.0  # price of values outside [0, 1]
_MISSING, _FAINT = 6.0, 4.0  # prices of what signals lack in transfer and in visibility
_STACKS = 0.25  # share of the steps that fuse stacks
_TRUTH = 50.0  # price of the root mean square error where the truth is known, of an image from 0 to 1
_QUALITY = 10.0  # price of what the fused image of a stack lacks of the edges and structures of its sources
_EVERY = 100
_HELD_OUT_CROPS = 48


@dataclass(frozen=True)
class FusionResult:
    """What `train_fusion` gives back.

    Attributes
    ----------
    score : float
        Mean expected rank of held-out crops, negated.
    ranks : dict
        The mean of it for each metric.
    curve : list of CurvePoint
        Loss, learning rate and held-out score along the way.
    """

    score: float
    ranks: dict[str, float]
    curve: list[CurvePoint]


def train_fusion(
    output: str | Path,
    *,
    data: str | Path | None = None,
    photos: str | Path | None = None,
    phantoms: int = 0,
    start: str | Path | None = None,
    steps: int = STEPS,
    batch: int = 2,
    crop: int = 128,
    lr: float = 3e-3,
    context: bool = True,
    seed: int = 0,
    device: str = "cpu",
    checkpoint: str | Path | None = None,
    overwrite: bool = False,
    progress: Callable[[int, int, float], None] | None = None,
    notes: str = "",
) -> FusionResult:
    """Train a `FusionNet` and write its weight file and its curves (CSV and PNG beside it).

    Each step fuses a batch of random crops twice, as they are and with small signals put into them, most in one source
    alone, some in two with unlike signs (`nmfuse.training.signals`). It lowers what the fused images lack of the
    signals, in transfer and in visibility (`nmfuse.metrics.transfer`), and, of pairs, the mean rank over ten metrics at
    which they would stand among other methods: differentiable forms of the metrics against what the others reach on
    that kind of pair (`nmfuse.training.losses.expected_ranks`). The rank of Q_abf counts four times, in focus stacks
    once. A quarter of the steps fuses stacks of two to five images, of photographs and phantoms, where the error counts
    in place of the ranks as far as the truth is known (focus), and else edges and structure. With Muon and a one-cycle
    schedule. A fifth of the patients, photographs and phantoms is held out; all metrics count alike in its score.

    Processes of torch.distributed that call it together, with the same options and files, train one net: each step
    takes `batch` pairs for each of them. Two do what one does with twice the batch, to rounding. The first writes.

    Parameters
    ----------
    output : path
        The weight file, ending in .safetensors.
    data, photos, phantoms
        What to learn from; see `nmfuse.training.pairs.pair_set`.
    start : str or path, optional
        Weights to go on from, as `nmfuse.nets.fusion_net.load_fusion` takes them; their recipe is kept, and their
        `context` must be the one asked for. A smaller `lr`, such as 1e-3, keeps more of what they know.
    steps, batch, crop : int
        Steps, pairs a step (of each process), and pixels along a crop.
    lr : float
        The greatest learning rate.
    context : bool
        Whether the two stages of NMF take part.
    seed : int
        Of the crops and, without `start`, of the starting weights.
    device : str
        Where to train: "cpu" or "cuda".
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
        If a folder or `start` is missing; if an output file exists.
    ValueError
        For an option out of range, images or a `start` that cannot be used, or a loss that becomes NaN or inf.

    Examples
    --------
    >>> import tempfile
    >>> output = Path(tempfile.mkdtemp()) / "fusion.safetensors"
    >>> len(train_fusion(output, phantoms=2, steps=2, batch=1, crop=64).curve)
    1
    """
    for name, value, least in (("steps", steps, 1), ("batch", batch, 1), ("crop", crop, 64), ("seed", seed, 0)):
        check_count(name, value, least)
    schedule, where = OneCycle(steps, lr, muon=True), training_device(device)
    checkpoint = None if checkpoint is None else Path(checkpoint)
    files = output_files(Path(output), checkpoint, overwrite=overwrite)
    net = _starting_net(start, seed, context=context).to(where)
    pairs = pair_set(None if data is None else Path(data), None if photos is None else Path(photos), phantoms)
    recipe = {
        **asdict(schedule),
        "batch": batch * process_count(),
        "crop": crop,
        "context": context,
        "seed": seed,
        "kinds": sorted(pairs.training),
        "phantoms": phantoms,
        "prices": {"missing": _MISSING, "faint": _FAINT, "truth": _TRUTH, "quality": _QUALITY, "outside": _OUTSIDE},
        "stacks": {"kinds": sorted(pairs.stacks), "share": _STACKS},
        "rank_weights": {kind: _rank_weights(kind) for kind in sorted(pairs.training)},
        "data_sha256": hash_files(pairs.files),
        "start": None if start is None else json.loads(read_weights(weight_file(start), FORMAT)[1]["recipe"]),
        "start_sha256": hash_arrays(*net.state_dict().values()),
    }
    standings = load_standings()
    held_out = pairs.draw("held_out" if pairs.held_out else "training", _HELD_OUT_CROPS, crop, np.random.default_rng(1))

    def score() -> float:
        with torch.no_grad():
            return -float(_ranks(net, held_out, standings).mean())

    curve = run_training(
        net,
        functools.partial(_loss, net, pairs, standings, batch, crop, seed),
        score,
        schedule,
        every=_EVERY,
        recipe=recipe,
        checkpoint=checkpoint,
        progress=progress,
    )
    with torch.no_grad():
        ranks = _ranks(net, held_out, standings).mean(0)
    result = FusionResult(curve[-1].score, dict(zip(RANKING, ranks.tolist(), strict=True)), curve)
    if process_number() > 0:
        return result
    metadata = {
        "context": str(int(context)),
        **{name: str(size) for name, size in net.sizes.items()},
        "recipe": json.dumps(recipe),
        "held_out_score": f"{result.score:.5f}",
        "held_out_ranks": json.dumps(result.ranks),
        "notes": notes,
    }
    write_curves(curve, files[1], files[2], "Fusion training", "held-out score")
    with new_file(files[0], overwrite=True) as temporary:
        write_weights(temporary, net.state_dict(), FORMAT, metadata)
    return result


def _starting_net(start: str | Path | None, seed: int, *, context: bool) -> FusionNet:
    if start is None:
        with torch.random.fork_rng(devices=[]):  # leaves the caller's random numbers alone
            torch.default_generator.manual_seed(seed)
            return FusionNet(context=context)
    net = copy.deepcopy(load_fusion(start)).requires_grad_(True).train()
    if net.context != context:
        raise ValueError(f"start: {start} has context={net.context}; asked for {context}: ask for the file's own")
    return net


def _loss(
    net: FusionNet, pairs: PairSet, standings: dict[str, Tensor], count: int, crop: int, seed: int, step: int
) -> Tensor:
    """Return the loss of this process's pairs of a step's batch; the mean over all processes is that of the batch."""
    rng = np.random.default_rng([seed, step])
    mine, whole = slice(process_number() * count, (process_number() + 1) * count), count * process_count()
    device = next(net.parameters()).device
    truth: np.ndarray | None = None
    if is_stack := bool(pairs.stacks) and rng.random() < _STACKS:
        images, truth = pairs.draw_stack(int(rng.integers(2, 6)), whole, crop, rng)
    else:
        a, b, kinds = pairs.draw("training", whole, crop, rng)
        images, kinds = np.stack([a, b]), kinds[mine]
    changed, inserted = insert_signals(images, rng)
    own = [replace(one, scene=one.scene - mine.start) for one in inserted if mine.start <= one.scene < mine.stop]
    sources = torch.from_numpy(np.concatenate([images[:, mine], changed[:, mine]], axis=1)).to(device)
    fused = net(sources[:, :, None])[:, 0]
    outside = (fused - 1).clamp_min(0) + (-fused).clamp_min(0)
    without, with_signals = fused.clamp(0, 1).chunk(2)
    missing, faint = shortfalls(without, with_signals, own)
    share = process_count() * len(own) / max(1, len(inserted))  # of the signals, where 1 is as many as others have
    loss: Tensor = _OUTSIDE * outside.mean() + share * (_MISSING * missing + _FAINT * faint)
    if truth is not None:
        error = without - torch.from_numpy(truth[mine]).to(device)
        loss = loss + _TRUTH * (error.square().mean((-2, -1)) + 1e-6).sqrt().mean()
    if is_stack:
        return loss if truth is not None else loss - _QUALITY * fidelity(sources, fused).mean()
    ranks = expected_ranks(sources[0], sources[1], fused, _others(standings, kinds * 2).to(device))
    weights = torch.tensor([[_rank_weights(kind).get(name, 1.0) for name in RANKING] for kind in kinds] * 2)
    return loss + (ranks * weights.to(ranks)).mean()


def _rank_weights(kind: str) -> dict[str, float]:
    return _RANK_WEIGHTS_OF.get(kind, _RANK_WEIGHTS)


def _ranks(net: FusionNet, drawn: tuple[Image, Image, list[str]], standings: dict[str, Tensor]) -> Tensor:
    """Return the expected ranks (N, 10) of a drawn batch once fused."""
    device = next(net.parameters()).device
    a, b = (torch.from_numpy(x).to(device) for x in drawn[:2])
    fused = net(torch.stack([a, b])[:, :, None])[:, 0]
    return expected_ranks(a, b, fused, _others(standings, drawn[2]).to(device))


def _others(standings: dict[str, Tensor], kinds: list[str]) -> Tensor:
    """Return where other methods stand on pairs of these kinds, (N, 10, K)."""
    return torch.stack([standings.get(kind, standings["any"]) for kind in kinds])
