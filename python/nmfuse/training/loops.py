"""The training loop: SGD with momentum and a step schedule, checkpoints, curves, files that appear whole or never."""

from __future__ import annotations

import csv
import json
import math
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from nmfuse.nets.weights_file import read_weights, write_weights

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
        if not 0 < self.lr < math.inf:
            raise ValueError(f"lr: got {self.lr}; expected a positive learning rate")
        for name in ("momentum", "weight_decay"):
            value = getattr(self, name)
            if not 0 <= value < 1:
                raise ValueError(f"{name}: got {value}; expected at least 0 and less than 1")

    def lr_at(self, step: int) -> float:
        """Return the learning rate of a step, counted from 0: a tenth after 60 %, a hundredth after 90 % of them."""
        return float(self.lr * 0.1 ** sum(step >= drop * self.steps for drop in _DROPS))


@dataclass(frozen=True)
class CurvePoint:
    """One row of the curves: the mean loss of the steps since the row before, and the accuracy after them."""

    step: int
    loss: float
    lr: float
    accuracy: float


def run_sgd(
    net: nn.Module,
    loss_of: Callable[[int], Tensor],
    accuracy: Callable[[], float],
    sgd: Sgd,
    *,
    every: int,
    recipe: Mapping[str, object],
    checkpoint: Path | None,
    progress: Callable[[int, int, float], None] | None,
) -> list[CurvePoint]:
    """Train `net` in place and return its curves.

    Parameters
    ----------
    net : Module
        With its starting weights.
    loss_of : callable
        The loss of a step's batch, which depends on the step's number alone: so a resumed run sees the same batches.
    accuracy : callable
        The held-out accuracy of `net` as it is now.
    sgd : Sgd
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
        If the loss becomes NaN or inf, or the checkpoint is not one of this run.
    """
    optimizer = torch.optim.SGD(net.parameters(), lr=sgd.lr, momentum=sgd.momentum, weight_decay=sgd.weight_decay)
    done, curve = 0, list[CurvePoint]()
    if checkpoint is not None and checkpoint.exists():
        done, curve = _load_checkpoint(checkpoint, net, optimizer, recipe)
    total = 0.0
    for step in range(done, sgd.steps):
        optimizer.param_groups[0]["lr"] = sgd.lr_at(step)
        loss = loss_of(step)
        value = loss.item()
        if not math.isfinite(value):
            raise ValueError(
                f"lr: with {sgd.lr} the loss became {value} at step {step + 1}; expected a finite loss, "
                "use a smaller learning rate"
            )
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        total += value
        if (step + 1) % every == 0 or step + 1 == sgd.steps:
            since = step + 1 - (curve[-1].step if curve else 0)
            curve.append(CurvePoint(step + 1, total / since, sgd.lr_at(step), accuracy()))
            total = 0.0
            _require_finite(net, sgd)
            if checkpoint is not None:
                _save_checkpoint(checkpoint, net, optimizer, recipe, curve)
        if progress is not None:
            progress(step + 1, sgd.steps, value)
    return curve


def _require_finite(net: nn.Module, sgd: Sgd) -> None:
    if not all(bool(parameter.isfinite().all()) for parameter in net.parameters()):
        raise ValueError(
            f"lr: with {sgd.lr} the last step made weights that are not finite; use a smaller learning rate"
        )


def _save_checkpoint(
    path: Path,
    net: nn.Module,
    optimizer: torch.optim.Optimizer,
    recipe: Mapping[str, object],
    curve: list[CurvePoint],
) -> None:
    tensors = {}
    for name, parameter in net.named_parameters():
        tensors[f"weight.{name}"] = parameter
        if optimizer.defaults["momentum"] > 0:
            tensors[f"momentum.{name}"] = optimizer.state[parameter]["momentum_buffer"]
    metadata = {"recipe": json.dumps(recipe), "curve": json.dumps([asdict(point) for point in curve])}
    with whole_file(path) as temporary:
        write_weights(temporary, tensors, CHECKPOINT_FORMAT, metadata)


def _load_checkpoint(
    path: Path, net: nn.Module, optimizer: torch.optim.Optimizer, recipe: Mapping[str, object]
) -> tuple[int, list[CurvePoint]]:
    tensors, metadata = read_weights(path, CHECKPOINT_FORMAT)
    if metadata.get("recipe") != json.dumps(recipe):
        raise ValueError(
            f"checkpoint: {path} belongs to a run with other images or options; give another file or delete it"
        )
    for name, parameter in net.named_parameters():
        parameter.data.copy_(tensors[f"weight.{name}"])
        if optimizer.defaults["momentum"] > 0:
            # preserve_format: the momentum gets the weights' memory order, as an unbroken run has it.
            momentum = torch.empty_like(parameter, memory_format=torch.preserve_format)
            optimizer.state[parameter]["momentum_buffer"] = momentum.detach().copy_(tensors[f"momentum.{name}"])
    curve = [CurvePoint(**point) for point in json.loads(metadata["curve"])]
    return curve[-1].step, curve


def write_curves(curve: list[CurvePoint], csv_path: Path, png_path: Path, title: str) -> None:
    """Write the curves as a table and as a picture."""
    with whole_file(csv_path) as temporary, temporary.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(asdict(curve[0])))
        writer.writeheader()
        writer.writerows(asdict(point) for point in curve)

    from matplotlib.figure import Figure  # slow to import

    figure = Figure(figsize=(7, 4), layout="constrained")
    left = figure.subplots()
    right = left.twinx()
    steps = [point.step for point in curve]
    left.plot(steps, [point.loss for point in curve], "C0")
    right.plot(steps, [100 * point.accuracy for point in curve], "C1")
    all_positive = min(point.loss for point in curve) > 0
    left.set(xlabel="step", title=title, yscale="log" if all_positive else "linear")
    left.set_ylabel("loss", color="C0")
    right.set_ylabel("held-out patch accuracy, %", color="C1")
    with whole_file(png_path) as temporary:
        figure.savefig(temporary)


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """Give a temporary path beside `path`, renamed to `path` when the block ends without an error."""
    temporary = path.with_name(f".{os.getpid()}-{path.name}")
    try:
        yield temporary
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
