"""The training loop: optimizers with their schedules, checkpoints, curves."""

from __future__ import annotations

import csv
import hashlib
import json
import math
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from nmfuse.io import new_file
from nmfuse.nets.weights_file import read_weights, write_weights
from nmfuse.training.muon import Muon
from nmfuse.training.processes import average, process_number, require_alike

CHECKPOINT_FORMAT = "nmfuse.checkpoint.1"
_DROPS = (0.6, 0.9)  # of the steps: where the learning rate falls to a tenth


@dataclass(frozen=True)
class Sgd:
    """The optimizer's part of a recipe: v <- momentum v + weight_decay w + dL/dw, w <- w - lr v.

    While the rate stays the same this is the rule of Liu et al. (FUSION 2017); where it falls, so does the step that v
    makes (theirs keeps its length).

    Raises
    ------
    ValueError
        For a rate that is not positive, or a momentum or decay outside [0, 1).
    """

    steps: int
    lr: float
    momentum: float
    weight_decay: float

    def __post_init__(self) -> None:
        _require_rates(self, "momentum", "weight_decay")

    def lr_at(self, step: int) -> float:
        """Return the learning rate of a step, counted from 0: a tenth after 60 %, a hundredth after 90 % of them."""
        return float(self.lr * 0.1 ** sum(step >= drop * self.steps for drop in _DROPS))

    def optimizer(self, net: nn.Module) -> torch.optim.Optimizer:
        """Return the optimizer of a net's parameters."""
        return torch.optim.SGD(net.parameters(), lr=self.lr, momentum=self.momentum, weight_decay=self.weight_decay)


@dataclass(frozen=True)
class OneCycle:
    """AdamW or Muon; the rate rises to `lr` over 30 % of the steps and falls to a thousandth of it, along cosines.

    Raises
    ------
    ValueError
        For a rate that is not positive, a decay outside [0, 1), or a decay with Muon, which has none.

    References
    ----------
    Loshchilov & Hutter, ICLR 2019 (AdamW); Smith & Topin, arXiv:1708.07120 (the rate).
    """

    steps: int
    lr: float
    weight_decay: float = 0.0
    muon: bool = False

    def __post_init__(self) -> None:
        _require_rates(self, "weight_decay")
        if self.muon and self.weight_decay > 0:
            raise ValueError(f"weight_decay: got {self.weight_decay}; expected 0 with muon")

    def lr_at(self, step: int) -> float:
        """Return the learning rate of a step, counted from 0."""
        rise = 0.3 * self.steps
        if step < rise:
            low, share = 1 / 25, 1 - step / rise
        else:
            low, share = 1e-3, (step - rise) / (self.steps - rise)
        return self.lr * (low + (1 - low) * (1 + math.cos(math.pi * share)) / 2)

    def optimizer(self, net: nn.Module) -> torch.optim.Optimizer:
        """Return the optimizer of a net's parameters."""
        if self.muon:
            return Muon(net.parameters(), lr=self.lr)
        return torch.optim.AdamW(net.parameters(), lr=self.lr, weight_decay=self.weight_decay)


@dataclass(frozen=True)
class CurvePoint:
    """One row of the curves: the mean loss of the steps since the row before, and the held-out score after them."""

    step: int
    loss: float
    lr: float
    score: float


def training_device(name: str) -> torch.device:
    """Return the device to train on.

    Raises
    ------
    ValueError
        If there is none of that name, or none here.
    """
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise ValueError(f"device: got {name!r}; expected 'cpu' or 'cuda'") from error
    if device.type not in ("cpu", "cuda"):
        raise ValueError(f"device: got {name!r}; expected 'cpu' or 'cuda'")
    if device.type == "cuda" and not torch.cuda.is_available():
        raise ValueError("device: got 'cuda', but torch sees no CUDA device here; train on 'cpu'")
    return device


def hash_arrays(*arrays: Tensor | NDArray[Any]) -> str:
    """Return the SHA-256 of the arrays' contents, in this order."""
    digest = hashlib.sha256()
    for array in arrays:
        digest.update(np.ascontiguousarray(array.cpu().numpy() if isinstance(array, Tensor) else array).tobytes())
    return digest.hexdigest()


def run_training(
    net: nn.Module,
    loss_of: Callable[[int], Tensor],
    score: Callable[[], float],
    schedule: Sgd | OneCycle,
    *,
    every: int,
    recipe: Mapping[str, object],
    checkpoint: Path | None,
    progress: Callable[[int, int, float], None] | None,
) -> list[CurvePoint]:
    """Train `net` in place and return its curves.

    Processes of torch.distributed that call it together average their losses and gradients, and so keep the same
    weights; the first of them writes the checkpoint, which all of them read.

    Parameters
    ----------
    net : Module
        With its starting weights.
    loss_of : callable
        The loss of a step's batch, which depends on the step's number alone: so a resumed run sees the same batches.
    score : callable
        The held-out score of `net` as it is now, such as an accuracy.
    schedule : Sgd or OneCycle
    every : int
        Steps between two points of the curves, and between two checkpoints.
    recipe : mapping
        What makes the run; a checkpoint of another recipe is refused.
    checkpoint : path, optional
        Where progress is saved; if the file exists, the run continues from it.
    progress : callable, optional
        Called with (steps done, steps in all, loss) after each step.

    Raises
    ------
    ValueError
        If the loss becomes NaN or inf, the checkpoint is not one of this run, or processes start from different states.
    """
    optimizer = schedule.optimizer(net)
    done, curve = 0, list[CurvePoint]()
    if checkpoint is not None and checkpoint.exists():
        done, curve = _load_checkpoint(checkpoint, net, optimizer, recipe)
    require_alike("checkpoint, start: step and weights", (done, hash_arrays(*net.state_dict().values())))
    total = 0.0
    for step in range(done, schedule.steps):
        optimizer.param_groups[0]["lr"] = schedule.lr_at(step)
        loss = loss_of(step)
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        loss = loss.detach()
        average([loss, *(parameter.grad for parameter in net.parameters() if parameter.grad is not None)])
        value = loss.item()
        if not math.isfinite(value):
            raise ValueError(
                f"lr: with {schedule.lr} the loss became {value} at step {step + 1}; expected a finite loss, "
                "use a smaller learning rate"
            )
        optimizer.step()
        total += value
        if (step + 1) % every == 0 or step + 1 == schedule.steps:
            since = step + 1 - (curve[-1].step if curve else 0)
            curve.append(CurvePoint(step + 1, total / since, schedule.lr_at(step), score()))
            total = 0.0
            _require_finite(net, schedule.lr)
            if checkpoint is not None and process_number() == 0:
                _save_checkpoint(checkpoint, net, optimizer, recipe, curve)
        if progress is not None:
            progress(step + 1, schedule.steps, value)
    return curve


def _require_rates(schedule: Sgd | OneCycle, *shares: str) -> None:
    if not 0 < schedule.lr < math.inf:
        raise ValueError(f"lr: got {schedule.lr}; expected a positive learning rate")
    for name in shares:
        value = getattr(schedule, name)
        if not 0 <= value < 1:
            raise ValueError(f"{name}: got {value}; expected at least 0 and less than 1")


def _require_finite(net: nn.Module, lr: float) -> None:
    if not all(bool(parameter.isfinite().all()) for parameter in net.parameters()):
        raise ValueError(f"lr: with {lr} the last step made weights that are not finite; use a smaller learning rate")


def _save_checkpoint(
    path: Path,
    net: nn.Module,
    optimizer: torch.optim.Optimizer,
    recipe: Mapping[str, object],
    curve: list[CurvePoint],
) -> None:
    tensors: dict[str, Tensor] = {}
    for name, parameter in net.named_parameters():
        tensors[f"weight.{name}"] = parameter
        for key, value in optimizer.state[parameter].items():
            if isinstance(value, Tensor):
                tensors[f"{key}.{name}"] = value
    tensors |= {f"buffer.{name}": value for name, value in _buffers(net).items()}
    metadata = {"recipe": json.dumps(recipe), "curve": json.dumps([asdict(point) for point in curve])}
    with new_file(path, overwrite=True) as temporary:
        write_weights(temporary, tensors, CHECKPOINT_FORMAT, metadata)


def _buffers(net: nn.Module) -> dict[str, Tensor]:
    """Return what a net keeps beside its parameters; not the counts of batches, which change nothing."""
    return {name: value for name, value in net.named_buffers() if value.is_floating_point()}


def _load_checkpoint(
    path: Path, net: nn.Module, optimizer: torch.optim.Optimizer, recipe: Mapping[str, object]
) -> tuple[int, list[CurvePoint]]:
    tensors, metadata = read_weights(path, CHECKPOINT_FORMAT)
    if metadata.get("recipe") != json.dumps(recipe):
        raise ValueError(
            f"checkpoint: {path} belongs to a run with other images or options; give another file or delete it"
        )
    for name, value in _buffers(net).items():
        value.copy_(tensors[f"buffer.{name}"])
    for name, parameter in net.named_parameters():
        parameter.data.copy_(tensors[f"weight.{name}"])
        for saved, value in tensors.items():
            key, _, owner = saved.partition(".")
            if owner != name or key == "weight":
                continue
            if value.shape == parameter.shape:
                # preserve_format: moments get the weights' memory order, as an unbroken run has it.
                moment = torch.empty_like(parameter, memory_format=torch.preserve_format)
                moment.detach().copy_(value)
                value = moment.detach()
            optimizer.state[parameter][key] = value
    curve = [CurvePoint(**point) for point in json.loads(metadata["curve"])]
    return curve[-1].step, curve


def write_curves(curve: list[CurvePoint], csv_path: Path, png_path: Path, title: str, score: str) -> None:
    """Write the curves as a table and as a picture."""
    with new_file(csv_path, overwrite=True) as temporary, temporary.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(asdict(curve[0])))
        writer.writeheader()
        writer.writerows(asdict(point) for point in curve)

    from matplotlib.figure import Figure  # slow to import

    figure = Figure(figsize=(7, 4), layout="constrained")
    left = figure.subplots()
    right = left.twinx()
    steps = [point.step for point in curve]
    left.plot(steps, [point.loss for point in curve], "C0")
    right.plot(steps, [point.score for point in curve], "C1")
    all_positive = min(point.loss for point in curve) > 0
    left.set(xlabel="step", title=title, yscale="log" if all_positive else "linear")
    left.set_ylabel("loss", color="C0")
    right.set_ylabel(score, color="C1")
    with new_file(png_path, overwrite=True) as temporary:
        figure.savefig(temporary)


def output_files(output: Path, checkpoint: Path | None, *, overwrite: bool) -> tuple[Path, Path, Path]:
    """Return the paths of weights, table and picture; refuse what cannot or must not be written."""
    if output.suffix != ".safetensors":
        raise ValueError(f"output: got {output}; expected a file name that ends in .safetensors")
    if not output.parent.is_dir():
        raise FileNotFoundError(f"output: the folder {output.parent} does not exist; create it first")
    files = output, output.with_suffix(".csv"), output.with_suffix(".png")
    if checkpoint is not None:
        if not checkpoint.parent.is_dir():
            raise FileNotFoundError(f"checkpoint: the folder {checkpoint.parent} does not exist; create it first")
        if checkpoint in files:
            raise ValueError(f"checkpoint: {checkpoint} is an output of this run; give another file")
    for file in files:
        if file.exists() and not overwrite:
            raise FileExistsError(f"output: {file} exists already; pass overwrite=True (--overwrite) to replace it")
    return files
