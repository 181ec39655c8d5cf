"""Training by two processes: the losses of one with twice the batch; a run that ended goes on."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import distributed

from nmfuse.io import write_image
from nmfuse.nets.fusion_net import FusionNet, load_fusion
from nmfuse.training import fusion
from nmfuse.training.losses import load_standings
from nmfuse.training.pairs import pair_set
from nmfuse.training.processes import average, require_alike

pytestmark = pytest.mark.usefixtures("one_thread")


class EndedError(Exception):
    """What a run is ended by."""


def end_at(last: int) -> Callable[[int, int, float], None]:
    """Return a progress that ends a run."""

    def progress(step: int, *_: Any) -> None:
        if step == last:
            raise EndedError

    return progress


def train(output: Path, **options: Any) -> fusion.FusionResult:
    data, checkpoint = output.parent / "data", output.with_suffix(".c")
    return fusion.train_fusion(output, data=data, checkpoint=checkpoint, steps=3, crop=64, **options)


def look_often(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(fusion, "_EVERY", 1)
    patch.setattr(fusion, "_HELD_OUT_CROPS", 1)


def work(number: int, folder: Path) -> None:
    """Train in one of two processes, in two runs."""
    torch.set_num_threads(1)
    distributed.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=number, world_size=2)
    with pytest.MonkeyPatch.context() as patch:
        look_often(patch)
        with pytest.raises(EndedError):
            train(folder / "broken.safetensors", batch=1, progress=end_at(2))
        distributed.barrier()  # the first process has written the checkpoint that both go on from
        found = train(folder / "broken.safetensors", batch=1)
    torch.save(found.curve, folder / f"{number}.pt")
    means = torch.full((2, 3), float(number)), torch.tensor(4.0 * number)
    average(means)
    assert (means[0] == 0.5).all()
    assert means[1] == 2
    with pytest.raises(ValueError, match="step: 1 in process 1, but 0 in process 0; expected the same options"):
        require_alike("step", number)
    distributed.destroy_process_group()


def test_two_processes_train_as_one_with_twice_the_batch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in "abc":
        for side in "AB":
            image = np.random.default_rng([ord(name), ord(side)]).integers(0, 256, (70, 70))
            (tmp_path / "data" / "mri_ct").mkdir(parents=True, exist_ok=True)
            write_image(tmp_path / "data" / "mri_ct" / f"{name}_{side}.png", image.astype(np.uint8))
    spawn = multiprocessing.get_context("spawn")
    processes = [spawn.Process(target=work, args=(number, tmp_path)) for number in range(2)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
        assert process.exitcode == 0
    look_often(monkeypatch)
    alone = train(tmp_path / "alone.safetensors", batch=2)
    (tmp_path / "broken.c").rename(tmp_path / "other.c")
    train(tmp_path / "other.safetensors", batch=2)  # one process takes up what two have done
    curves = [torch.load(tmp_path / f"{number}.pt", weights_only=False) for number in range(2)]
    assert curves[0] == curves[1]
    for together, by_one in zip(curves[0], alone.curve, strict=True):
        assert together.loss == pytest.approx(by_one.loss, rel=1e-4)
        assert together.score == pytest.approx(by_one.score, rel=1e-3)
    nets = (load_fusion(tmp_path / f"{name}.safetensors") for name in ("broken", "other"))
    assert all(torch.equal(*weights) for weights in zip(*(net.parameters() for net in nets), strict=True))


def test_losses_and_gradients_of_parts_have_the_mean_of_the_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of pairs and of stacks, with and without a truth; scenes have unlike numbers of signals."""
    pairs, standings, net = pair_set(None, None, 2), load_standings(), FusionNet()

    def loss_of(count: int, number: int, processes: int, step: int) -> tuple[float, torch.Tensor]:
        monkeypatch.setattr(fusion, "process_count", lambda: processes)
        monkeypatch.setattr(fusion, "process_number", lambda: number)
        loss = fusion._loss(net, pairs, standings, count, 64, 0, step)
        used = [weight for weight in net.parameters() if weight.requires_grad]
        slopes = torch.autograd.grad(loss, used, allow_unused=True)
        return float(loss.detach()), torch.cat([slope.flatten() for slope in slopes if slope is not None])

    for step, stacks in enumerate((0, 0, 1)):
        monkeypatch.setattr(fusion, "_STACKS", stacks)
        whole, slope = loss_of(2, 0, 1, step)
        parts = [loss_of(1, number, 2, step) for number in range(2)]
        assert np.mean([loss for loss, _ in parts]) == pytest.approx(whole, rel=1e-5)
        assert abs(parts[0][0] - parts[1][0]) > 0.01 * whole
        mean = (parts[0][1] + parts[1][1]) / 2
        assert float((mean - slope).norm()) < 1e-3 * float(slope.norm())
