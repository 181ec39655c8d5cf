"""The training loop: the update rule by hand, resumption to the same bits, files that are whole or absent."""

from __future__ import annotations

import csv
import json
import math
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from nmfuse.io import new_file
from nmfuse.nets import Siamese
from nmfuse.nets.weights_file import read_weights, write_weights
from nmfuse.training import loops
from nmfuse.training.loops import CHECKPOINT_FORMAT, CurvePoint, Sgd, run_training, write_curves

RECIPE = {"variant": "test", "lr": 0.1}


pytestmark = pytest.mark.usefixtures("one_thread")


class PowerCutError(Exception):
    """What kills a run here."""


def seeded(make, seed=0):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return make()


def line() -> nn.Linear:
    return seeded(lambda: nn.Linear(3, 1)).double()


def batch_of(step: int) -> tuple[Tensor, Tensor]:
    rng = np.random.default_rng([7, step])
    x = torch.from_numpy(rng.random((8, 3)))
    return x, x @ torch.tensor([[1.0], [-2.0], [0.5]], dtype=torch.float64) + 0.3


def squares(net: nn.Module):
    def loss_of(step: int) -> Tensor:
        x, y = batch_of(step)
        return ((net(x.to(net.weight.dtype)) - y.to(net.weight.dtype)) ** 2).mean()

    return loss_of


def train(net, sgd, *, loss_of=None, every=10, recipe=RECIPE, checkpoint=None, progress=None, accuracy=lambda: 0.5):
    return run_training(
        net,
        squares(net) if loss_of is None else loss_of,
        accuracy,
        sgd,
        every=every,
        recipe=recipe,
        checkpoint=checkpoint,
        progress=progress,
    )


def gradient_by_hand(w: np.ndarray, step: int) -> np.ndarray:
    """Of the mean square, in the weights and the bias."""
    x, y = (values.numpy() for values in batch_of(step))
    x = np.c_[x, np.ones(8)]
    return 2 * x.T @ (x @ w - y[:, 0]) / 8


def weights_of(net: nn.Linear) -> np.ndarray:
    return np.append(net.weight.detach().numpy()[0], net.bias.item())


# ---- The update rule.


@pytest.mark.parametrize("weight_decay", [0.0, 0.3])
@pytest.mark.parametrize("momentum", [0.0, 0.5, 0.9])
def test_matches_the_written_rule(momentum, weight_decay):
    # v <- momentum v + weight_decay w + dL/dw, w <- w - lr v; the rate falls at steps 12 and 18.
    sgd, net = Sgd(20, 0.05, momentum, weight_decay), line()
    w, v = weights_of(net), np.zeros(4)
    for step in range(20):
        v = sgd.momentum * v + sgd.weight_decay * w + gradient_by_hand(w, step)
        w = w - sgd.lr_at(step) * v
    train(net, sgd)
    np.testing.assert_allclose(weights_of(net), w, rtol=1e-12)


def test_matches_the_published_rule_while_the_rate_is_constant():
    # v <- momentum v - lr (weight_decay w + dL/dw), w <- w + v
    sgd, net, at_6 = Sgd(10, 0.05, 0.9, 0.3), line(), []
    w, v = weights_of(net), np.zeros(4)
    for step in range(6):
        assert sgd.lr_at(step) == 0.05
        v = sgd.momentum * v - 0.05 * (sgd.weight_decay * w + gradient_by_hand(w, step))
        w = w + v
    train(net, sgd, progress=lambda done, *_: at_6.append(weights_of(net)) if done == 6 else None)
    np.testing.assert_allclose(at_6[0], w, rtol=1e-12)


@pytest.mark.parametrize("lr", [0, -0.1, math.nan, math.inf])
def test_refuses_a_bad_rate(lr):
    with pytest.raises(ValueError, match=f"lr: got {lr}; expected a positive learning rate"):
        Sgd(10, lr, 0.9, 0.0)


@pytest.mark.parametrize("value", [-0.1, 1, 2.0, math.nan, math.inf])
@pytest.mark.parametrize("name", ["momentum", "weight_decay"])
def test_refuses_a_bad_momentum_or_decay(name, value):
    with pytest.raises(ValueError, match=f"{name}: got {value}; expected at least 0 and less than 1"):
        Sgd(**{"steps": 10, "lr": 0.1, "momentum": 0.9, "weight_decay": 0.0, name: value})


@pytest.mark.parametrize("steps", [1, 2, 3, 5, 7, 10, 100, 1000, 6000])
def test_the_rate_falls_after_60_and_90_percent(steps):
    rates = [Sgd(steps, 0.02, 0.9, 0).lr_at(step) for step in range(steps)]
    for step, rate in enumerate(rates):
        share = 10 * step
        expected = 0.02 if share < 6 * steps else 0.002 if share < 9 * steps else 0.0002
        assert rate == pytest.approx(expected, rel=1e-12)


def test_the_rate_of_each_step_is_the_one_used():
    # A constant gradient of 1 without momentum: the weight falls by the rate.
    net = seeded(lambda: nn.Linear(1, 1, bias=False)).double()
    sgd, seen = Sgd(20, 0.1, 0.0, 0.0), [net.weight.item()]
    train(net, sgd, loss_of=lambda _: net.weight.sum(), progress=lambda *_: seen.append(net.weight.item()))
    np.testing.assert_allclose(-np.diff(seen), [sgd.lr_at(step) for step in range(20)], rtol=1e-9)


# ---- Curves and progress.


def test_curve_holds_mean_losses_and_accuracies():
    net = line()
    losses, loss_of, accuracies = [], squares(net), iter([0.1, 0.2, 0.3, 0.4])

    def recorded(step: int) -> Tensor:
        loss = loss_of(step)
        losses.append(loss.item())
        return loss

    sgd = Sgd(35, 0.05, 0.9, 0.0)
    curve = train(net, sgd, loss_of=recorded, accuracy=lambda: next(accuracies))
    assert [point.step for point in curve] == [10, 20, 30, 35]
    assert [point.score for point in curve] == [0.1, 0.2, 0.3, 0.4]
    assert [point.lr for point in curve] == [sgd.lr_at(step) for step in (9, 19, 29, 34)]
    for point, begin, end in zip(curve, (0, 10, 20, 30), (10, 20, 30, 35), strict=True):
        assert point.loss == pytest.approx(np.mean(losses[begin:end]), rel=1e-12)


def test_progress_is_told_each_step():
    net, told = line(), []
    train(net, Sgd(12, 0.05, 0.9, 0.0), progress=lambda *args: told.append(args))
    assert [args[:2] for args in told] == [(step, 12) for step in range(1, 13)]
    assert all(isinstance(loss, float) and loss > 0 for *_, loss in told)


def test_training_learns():
    net = line()
    curve = train(net, Sgd(400, 0.2, 0.9, 0.0))
    assert curve[-1].loss < 1e-4 * curve[0].loss
    np.testing.assert_allclose(weights_of(net), [1, -2, 0.5, 0.3], atol=1e-2)


# ---- Losses that are not finite.


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_a_loss_that_is_not_finite_ends_the_run(bad):
    net = line()
    before = []

    def loss_of(step: int) -> Tensor:
        before.append(weights_of(net))
        return squares(net)(step) * (bad if step == 4 else 1)

    message = re.escape(
        f"lr: with 0.05 the loss became {bad} at step 5; expected a finite loss, use a smaller learning rate"
    )
    with pytest.raises(ValueError, match=message):
        train(net, Sgd(20, 0.05, 0.9, 0.0), loss_of=loss_of)
    np.testing.assert_array_equal(weights_of(net), before[-1])  # not a step further


def test_a_run_that_diverges_is_ended():
    net = line().float()
    with pytest.raises(ValueError, match=r"lr: with 1000 the loss became (inf|nan) at step"):
        train(net, Sgd(1000, 1000, 0.9, 0.0))


def diverge_at(net: nn.Linear, last: int):
    """A loss that is finite and whose gradient at step `last` is NaN: that of the root of 0."""

    def loss_of(step: int) -> Tensor:
        loss = squares(net)(step)
        return loss + (0 * net.weight.sum()).sqrt() if step == last else loss

    return loss_of


def test_a_last_step_that_makes_the_weights_nan_is_an_error():
    net = line()
    message = "lr: with 0.05 the last step made weights that are not finite; use a smaller learning rate"
    with pytest.raises(ValueError, match=message):
        train(net, Sgd(15, 0.05, 0.9, 0.0), loss_of=diverge_at(net, 14))


@pytest.mark.parametrize("last", [9, 14])
def test_weights_that_are_not_finite_are_not_saved(tmp_path, last):
    checkpoint, net = tmp_path / "run.checkpoint", line().float()
    with pytest.raises(ValueError, match="smaller learning rate"):
        train(net, Sgd(15, 0.05, 0.9, 0.0), loss_of=diverge_at(net, last), checkpoint=checkpoint)
    assert not checkpoint.exists() or read_weights(checkpoint, CHECKPOINT_FORMAT)


# ---- Checkpoints.


class Small(nn.Module):
    """A Siamese net's head and memory order, and a loss that depends on the step alone."""

    def __init__(self) -> None:
        super().__init__()
        self.net = Siamese("lite")

    def loss(self, step: int) -> Tensor:
        rng = np.random.default_rng([3, step])
        a, b = (torch.from_numpy(rng.random((4, 1, 16, 16), np.float32)) for _ in range(2))
        labels = torch.from_numpy(rng.integers(0, 2, 4))
        return nn.functional.cross_entropy(self.net(a, b).flatten(1), labels)


def kill_at(step: int):
    def progress(done: int, *_: object) -> None:
        if done == step:
            raise PowerCutError

    return progress


SGD = Sgd(30, 0.02, 0.9, 5e-4)


@pytest.mark.parametrize("killed", [3, 10, 15, 27, 29])
def test_a_killed_run_continues_to_the_same_bits(tmp_path, killed):
    # The rate falls at steps 18 and 27; checkpoints are saved after 10, 20 and 30.
    unbroken = seeded(Small)
    expected = train(unbroken, SGD, loss_of=unbroken.loss)

    checkpoint, first = tmp_path / "run.checkpoint", seeded(Small)
    with pytest.raises(PowerCutError):
        train(first, SGD, loss_of=first.loss, checkpoint=checkpoint, progress=kill_at(killed))
    assert checkpoint.exists() == (killed >= 10)
    resumed, steps = seeded(Small, seed=99 if killed >= 10 else 0), []  # its own starting weights do not matter

    def loss_of(step: int) -> Tensor:
        steps.append(step)
        return resumed.loss(step)

    curve = train(resumed, SGD, loss_of=loss_of, checkpoint=checkpoint)
    assert steps == list(range(killed // 10 * 10, 30))
    assert curve == expected
    for (name, got), wanted in zip(resumed.named_parameters(), unbroken.parameters(), strict=True):
        assert torch.equal(got, wanted), name
        assert got.stride() == wanted.stride(), name


def test_a_run_killed_twice_continues_to_the_same_bits(tmp_path):
    unbroken = seeded(Small)
    train(unbroken, SGD, loss_of=unbroken.loss)
    checkpoint = tmp_path / "run.checkpoint"
    for killed in (12, 24):
        net = seeded(Small)
        with pytest.raises(PowerCutError):
            train(net, SGD, loss_of=net.loss, checkpoint=checkpoint, progress=kill_at(killed))
    net = seeded(Small)
    train(net, SGD, loss_of=net.loss, checkpoint=checkpoint)
    assert all(torch.equal(got, wanted) for got, wanted in zip(net.parameters(), unbroken.parameters(), strict=True))


def test_a_killed_run_without_momentum_continues_to_the_same_bits(tmp_path):
    sgd = Sgd(30, 0.02, 0.0, 5e-4)
    unbroken, killed, resumed = seeded(Small), seeded(Small), seeded(Small)
    train(unbroken, sgd, loss_of=unbroken.loss)
    checkpoint = tmp_path / "run.checkpoint"
    with pytest.raises(PowerCutError):
        train(killed, sgd, loss_of=killed.loss, checkpoint=checkpoint, progress=kill_at(15))
    train(resumed, sgd, loss_of=resumed.loss, checkpoint=checkpoint)
    assert all(
        torch.equal(got, wanted) for got, wanted in zip(resumed.parameters(), unbroken.parameters(), strict=True)
    )


def test_a_finished_run_is_not_trained_again(tmp_path):
    checkpoint, net = tmp_path / "run.checkpoint", seeded(Small)
    curve = train(net, SGD, loss_of=net.loss, checkpoint=checkpoint)
    again, steps = seeded(Small, seed=5), []
    assert train(again, SGD, loss_of=steps.append, checkpoint=checkpoint) == curve
    assert steps == []
    assert all(torch.equal(got, wanted) for got, wanted in zip(again.parameters(), net.parameters(), strict=True))


def test_checkpoints_are_whole_and_alone(tmp_path):
    net = seeded(Small)
    train(net, SGD, loss_of=net.loss, checkpoint=tmp_path / "run.checkpoint")
    assert [path.name for path in tmp_path.iterdir()] == ["run.checkpoint"]
    tensors, metadata = read_weights(tmp_path / "run.checkpoint", CHECKPOINT_FORMAT)
    names = [name for name, _ in net.named_parameters()]
    assert sorted(tensors) == sorted(
        [*(f"weight.{name}" for name in names), *(f"momentum_buffer.{name}" for name in names)]
    )
    assert json.loads(metadata["recipe"]) == RECIPE
    assert [point["step"] for point in json.loads(metadata["curve"])] == [10, 20, 30]


def test_a_run_killed_while_it_saves_keeps_the_checkpoint_before(tmp_path, monkeypatch):
    checkpoint, calls = tmp_path / "run.checkpoint", []

    def write(path: Path, *args: object) -> None:
        calls.append(path)
        if len(calls) == 2:
            path.write_bytes(b"half a check")
            raise PowerCutError
        write_weights(path, *args)

    monkeypatch.setattr(loops, "write_weights", write)
    net = seeded(Small)
    with pytest.raises(PowerCutError):
        train(net, SGD, loss_of=net.loss, checkpoint=checkpoint)
    assert list(tmp_path.iterdir()) == [checkpoint]
    _, metadata = read_weights(checkpoint, CHECKPOINT_FORMAT)
    assert [point["step"] for point in json.loads(metadata["curve"])] == [10]


def test_a_checkpoint_of_another_run_is_refused(tmp_path):
    checkpoint, net = tmp_path / "run.checkpoint", seeded(Small)
    train(net, SGD, loss_of=net.loss, checkpoint=checkpoint)
    before = checkpoint.read_bytes()
    message = re.escape(
        f"checkpoint: {checkpoint} belongs to a run with other images or options; give another file or delete it"
    )
    for recipe in ({**RECIPE, "lr": 0.2}, {**RECIPE, "seed": 1}, {}):
        other = seeded(Small)
        with pytest.raises(ValueError, match=message):
            train(other, SGD, loss_of=other.loss, checkpoint=checkpoint, recipe=recipe)
    assert checkpoint.read_bytes() == before


def test_a_file_that_is_no_checkpoint_is_refused(tmp_path):
    checkpoint, net = tmp_path / "run.checkpoint", line()
    checkpoint.write_bytes(b"not a checkpoint, but something that somebody may want to keep")
    with pytest.raises(ValueError, match="is not a whole safetensors file"):
        train(net, SGD, checkpoint=checkpoint)
    write_weights(checkpoint, dict(net.float().named_parameters()), "nmfuse.siamese.1", {})
    with pytest.raises(ValueError, match=f"its format is 'nmfuse.siamese.1', expected '{CHECKPOINT_FORMAT}'"):
        train(net, SGD, checkpoint=checkpoint)
    assert read_weights(checkpoint, "nmfuse.siamese.1")


# ---- Files.

CURVE = [CurvePoint(10, 0.5, 0.02, 0.75), CurvePoint(20, 0.125, 0.002, 0.96875), CurvePoint(25, 1e-7, 0.0002, 1.0)]


def test_curves_are_written_as_a_table_and_a_picture(tmp_path):
    write_curves(CURVE, tmp_path / "c.csv", tmp_path / "c.png", "Focus training, lite", "score")
    with (tmp_path / "c.csv").open(newline="") as file:
        rows = list(csv.reader(file))
    assert rows[0] == ["step", "loss", "lr", "score"]
    assert [[float(value) for value in row] for row in rows[1:]] == [
        [point.step, point.loss, point.lr, point.score] for point in CURVE
    ]
    with Image.open(tmp_path / "c.png") as picture:
        assert picture.format == "PNG"
        assert picture.width > 300
        assert picture.convert("L").getextrema()[0] < 200  # something is drawn
    assert sorted(path.name for path in tmp_path.iterdir()) == ["c.csv", "c.png"]


@pytest.mark.parametrize(
    "curve",
    [
        CURVE[:1],
        [CurvePoint(1, 0.0, 0.02, 1.0), CurvePoint(2, 0.0, 0.02, 1.0)],
    ],
    ids=["one point", "no loss"],
)
def test_short_and_perfect_curves_are_written(tmp_path, curve):
    write_curves(curve, tmp_path / "c.csv", tmp_path / "c.png", "x", "score")
    assert len((tmp_path / "c.csv").read_text().splitlines()) == 1 + len(curve)


def test_new_file_appears_at_the_end(tmp_path):
    path = tmp_path / "x.txt"
    with new_file(path, overwrite=True) as temporary:
        assert temporary.parent == tmp_path
        assert temporary.suffix == ".txt"  # writers go by it
        temporary.write_text("new")
        assert not path.exists()
    assert path.read_text() == "new"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, PowerCutError])
@pytest.mark.parametrize("begun", [True, False])
@pytest.mark.parametrize("old", ["old", None])
def test_new_file_leaves_nothing_behind_on_an_error(tmp_path, error, begun, old):
    path = tmp_path / "x.txt"
    if old is not None:
        path.write_text(old)

    def write() -> None:
        with new_file(path, overwrite=True) as temporary:
            if begun:
                temporary.write_text("half")
            raise error

    with pytest.raises(error):
        write()
    assert [file.read_text() for file in tmp_path.iterdir()] == ([] if old is None else [old])


def test_new_file_that_was_never_written_is_an_error(tmp_path):
    def forget() -> None:
        with new_file(tmp_path / "x.txt", overwrite=True):
            pass

    with pytest.raises(FileNotFoundError):
        forget()
    assert not list(tmp_path.iterdir())


def test_new_file_without_its_folder(tmp_path):
    def write(path: Path) -> None:
        with new_file(path, overwrite=True) as temporary:
            temporary.write_text("x")

    with pytest.raises(FileNotFoundError):
        write(tmp_path / "none" / "x.txt")


@pytest.mark.parametrize("name", ["gpu", "meta", ""])
def test_an_unknown_device_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match=f"device: got {name!r}; expected 'cpu' or 'cuda'"):
        loops.training_device(name)


def test_a_missing_device_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(ValueError, match="device: got 'cuda', but torch sees no CUDA device here"):
        loops.training_device("cuda")
