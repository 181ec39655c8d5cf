"""Focus training end to end, on photographs of noise."""

from __future__ import annotations

import csv
import json
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from nmfuse.nets import Siamese, load
from nmfuse.nets.siamese import FORMAT
from nmfuse.nets.weights_file import read_weights
from nmfuse.training import focus, train_focus
from nmfuse.training.patches import find_images, hash_files, pool_of_pairs

QUICK = {"steps": 20, "batch": 16}


pytestmark = pytest.mark.usefixtures("one_thread")


class PowerCutError(Exception):
    """What kills a run here."""


def save_noise(folder: Path, names: str = "abc", size: int = 40) -> Path:
    folder.mkdir(exist_ok=True)
    for name in names:
        noise = np.random.default_rng(ord(name)).integers(0, 256, (size, size))
        Image.fromarray(noise.astype(np.uint8)).save(folder / f"{name}.png")
    return folder


@pytest.fixture(scope="module")
def photographs(tmp_path_factory) -> Path:
    return save_noise(tmp_path_factory.mktemp("photographs"))


@pytest.fixture(scope="module")
def run(photographs, tmp_path_factory):
    """One run with its output file, its result and what progress was told."""
    output, told = tmp_path_factory.mktemp("run") / "lite.safetensors", []
    result = train_focus(photographs, output, **QUICK, notes="CC0", progress=lambda *args: told.append(args))
    return output, result, told


def tensors_of(path: Path) -> dict[str, torch.Tensor]:
    return read_weights(path, FORMAT)[0]


def assert_same_weights(first: Path, second: Path) -> None:
    first, second = tensors_of(first), tensors_of(second)
    assert sorted(first) == sorted(second)
    for name, value in first.items():
        assert torch.equal(value, second[name]), name


# ---- What a run gives.


def test_learns_what_is_sharp(run, photographs):
    output, result, _ = run
    assert result.accuracy > 0.9
    assert result.pairs == 5 * 200  # one photograph of three is held out
    net = load(output)
    assert net.variant == "lite"
    (held_out,) = focus._split(find_images(photographs), 0.2, 0)[1]
    pairs = pool_of_pairs([held_out], 200, 0)
    assert focus.accuracy(net, pairs) == result.accuracy


def test_writes_three_files_and_no_more(run):
    output, _, _ = run
    assert sorted(path.name for path in output.parent.iterdir()) == ["lite.csv", "lite.png", "lite.safetensors"]
    with Image.open(output.with_suffix(".png")) as picture:
        assert picture.format == "PNG"


def test_metadata(run, photographs):
    output, result, _ = run
    _, metadata = read_weights(output, FORMAT)
    recipe = json.loads(metadata.pop("recipe"))
    sha256 = hash_files(find_images(photographs))
    assert metadata == {
        "format": FORMAT,
        "variant": "lite",
        "data_sha256": sha256,
        "images": "3",
        "held_out_images": "1",
        "held_out_pairs": str(result.pairs),
        "held_out_accuracy": f"{result.accuracy:.5f}",
        "notes": "CC0",
    }
    assert recipe == {
        "variant": "lite",
        "batch": 16,
        "steps": 20,
        "lr": 0.02,
        "momentum": 0.9,
        "weight_decay": 5e-4,
        "seed": 0,
        "validation_fraction": 0.2,
        "pairs_per_level": 200,
        "data_sha256": sha256,
    }


def test_curve_and_progress(run):
    output, result, told = run
    assert [args[:2] for args in told] == [(step, 20) for step in range(1, 21)]
    (point,) = result.curve
    assert point.step == 20
    assert point.loss == pytest.approx(np.mean([loss for *_, loss in told]))
    assert point.lr == pytest.approx(2e-4)
    assert 0.9 < point.score <= 1
    with output.with_suffix(".csv").open(newline="") as file:
        (row,) = csv.DictReader(file)
    assert {name: float(value) for name, value in row.items()} == vars(point)


def test_the_same_seed_gives_the_same_bits(run, photographs, tmp_path):
    output, result, _ = run
    again = train_focus(find_images(photographs)[::-1], tmp_path / "again.safetensors", **QUICK)
    assert again == result
    assert_same_weights(output, tmp_path / "again.safetensors")
    train_focus(photographs, tmp_path / "other.safetensors", **QUICK, seed=1)
    assert not torch.equal(
        tensors_of(output)["conv1.weight"], tensors_of(tmp_path / "other.safetensors")["conv1.weight"]
    )


def test_full_variant(photographs, tmp_path):
    result = train_focus(photographs, tmp_path / "full.safetensors", variant="full", steps=2, batch=4)
    assert 0 <= result.accuracy <= 1
    assert load(tmp_path / "full.safetensors").variant == "full"


def test_the_default_steps_are_those_of_the_shipped_files(photographs, tmp_path, monkeypatch):
    assert focus.STEPS == {"full": 1000, "lite": 6000}
    for variant in ("lite", "full"):
        assert json.loads(load_metadata(variant)["recipe"])["steps"] == focus.STEPS[variant]
    monkeypatch.setitem(focus.STEPS, "lite", 3)
    result = train_focus(photographs, tmp_path / "x.safetensors", batch=4)
    assert result.curve[-1].step == 3


def load_metadata(variant: str) -> dict[str, str]:
    path = Path(focus.__file__).parents[1] / "nets" / "weights" / f"{variant}.safetensors"
    return read_weights(path, FORMAT)[1]


def test_the_callers_random_numbers_are_left_alone(photographs, tmp_path):
    def numpy_state() -> np.ndarray:
        return np.random.get_state()[1].copy()  # noqa: NPY002

    torch.manual_seed(123)
    before, numpy_before = torch.get_rng_state(), numpy_state()
    train_focus(photographs, tmp_path / "x.safetensors", steps=2, batch=4)
    assert torch.equal(torch.get_rng_state(), before)
    np.testing.assert_array_equal(numpy_state(), numpy_before)
    torch.manual_seed(321)
    train_focus(photographs, tmp_path / "y.safetensors", steps=2, batch=4)
    assert_same_weights(tmp_path / "x.safetensors", tmp_path / "y.safetensors")  # and do not matter


@pytest.mark.parametrize(("fraction", "held_out"), [(0.01, 1), (0.2, 1), (0.5, 2), (0.6, 3), (0.99, 4)])
def test_held_out_photographs_are_never_trained_on(tmp_path, monkeypatch, fraction, held_out):
    folder, pools = save_noise(tmp_path / "photographs", "abcde"), []

    def recorded(paths, per_level, seed):
        pools.append(list(paths))
        return pool_of_pairs(paths, per_level, seed)

    monkeypatch.setattr(focus, "pool_of_pairs", recorded)
    train_focus(folder, tmp_path / "x.safetensors", steps=1, batch=2, validation_fraction=fraction)
    training, validation = pools
    assert len(validation) == held_out
    assert sorted(training + validation) == find_images(folder)


# ---- Loss and accuracy.


def net_and_pairs(photographs: Path) -> tuple[Siamese, np.ndarray]:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        net = Siamese("lite")
    return net, pool_of_pairs(find_images(photographs), 60, 0)


def test_accuracy_is_the_share_of_scores_above_a_half(photographs):
    net, pairs = net_and_pairs(photographs)
    assert len(pairs) > 512  # more than one batch
    x = torch.from_numpy(pairs).float() / 255
    with torch.no_grad():
        right = (net.score_map(x[:, :1], x[:, 1:]) > 0.5).float().mean()
    assert 0 < right < 1
    assert focus.accuracy(net, pairs) == pytest.approx(float(right), abs=1e-6)
    assert focus.accuracy(net, pairs[:, ::-1].copy()) == pytest.approx(1 - float(right), abs=1e-6)
    assert focus.accuracy(net, np.repeat(pairs[:9, :1], 2, axis=1)) == 0  # 0.5 names nobody


def test_one_order_of_a_pair_stands_for_both(photographs):
    # So a batch of 128 examples is 64 pairs: (a, b) with label 1 and (b, a) with label 0 have the same loss.
    net, pairs = net_and_pairs(photographs)
    x = torch.from_numpy(pairs[:50]).float() / 255
    a, b = x[:, :1], x[:, 1:]
    entropy = torch.nn.functional.cross_entropy
    first = entropy(net(a, b).flatten(1), torch.ones(50, dtype=torch.long))
    second = entropy(net(b, a).flatten(1), torch.zeros(50, dtype=torch.long))
    assert first.item() == second.item()
    loss = focus._loss(net, pairs, 16, seed=3, step=5)
    assert loss.item() == focus._loss(net, pairs, 16, seed=3, step=5).item()
    assert loss.item() != focus._loss(net, pairs, 16, seed=3, step=6).item()
    assert loss.item() != focus._loss(net, pairs, 16, seed=4, step=5).item()


def test_a_batch_holds_half_as_many_pairs(photographs, tmp_path, monkeypatch):
    counts, augment = [], focus.augment

    def counted(pairs, rng):
        counts.append(len(pairs))
        return augment(pairs, rng)

    monkeypatch.setattr(focus, "augment", counted)
    train_focus(photographs, tmp_path / "x.safetensors", steps=3, batch=10)
    assert counts == [5, 5, 5]


# ---- Checkpoints.


def kill_at(step: int):
    def progress(done: int, *_: object) -> None:
        if done == step:
            raise PowerCutError

    return progress


def test_a_killed_run_continues_to_the_same_bits(photographs, tmp_path):
    options = {"steps": 120, "batch": 8}
    unbroken = train_focus(photographs, tmp_path / "unbroken.safetensors", **options)
    checkpoint, output, steps = tmp_path / "run.checkpoint", tmp_path / "resumed.safetensors", []
    with pytest.raises(PowerCutError):
        train_focus(photographs, output, **options, checkpoint=checkpoint, progress=kill_at(115))
    assert not output.exists()
    resumed = train_focus(
        photographs, output, **options, checkpoint=checkpoint, progress=lambda step, *_: steps.append(step)
    )
    assert steps == list(range(101, 121))  # it was saved after 50 and 100
    assert resumed == unbroken
    assert_same_weights(tmp_path / "unbroken.safetensors", output)
    assert output.with_suffix(".csv").read_bytes() == (tmp_path / "unbroken.csv").read_bytes()


def test_a_checkpoint_of_other_images_or_options_is_refused(photographs, tmp_path):
    checkpoint = tmp_path / "run.checkpoint"
    train_focus(photographs, tmp_path / "x.safetensors", **QUICK, checkpoint=checkpoint)
    message = re.escape(f"checkpoint: {checkpoint} belongs to a run with other images or options")
    others = [{"steps": 21}, {"batch": 8}, {"lr": 0.01}, {"momentum": 0.8}, {"weight_decay": 0.0}, {"seed": 1}]
    for other in [*others, {"validation_fraction": 0.5}, {"variant": "full"}]:
        with pytest.raises(ValueError, match=message):
            train_focus(photographs, tmp_path / "y.safetensors", **{**QUICK, **other}, checkpoint=checkpoint)
    other = save_noise(tmp_path / "other", "abd")
    with pytest.raises(ValueError, match=message):
        train_focus(other, tmp_path / "y.safetensors", **QUICK, checkpoint=checkpoint)
    assert not list(tmp_path.glob("y.*"))


# ---- What is refused, before anything is trained.


def refuse(error, message, images, output, **options) -> None:
    told = []
    with pytest.raises(error, match=message):
        train_focus(images, output, **{**QUICK, **options}, progress=lambda *args: told.append(args))
    assert not told


@pytest.mark.parametrize("suffix", [".safetensors", ".csv", ".png"])
def test_existing_outputs_are_kept(photographs, tmp_path, suffix):
    existing = tmp_path / f"x{suffix}"
    existing.write_text("precious")
    message = re.escape(f"output: {existing} exists already; pass overwrite=True (--overwrite) to replace it")
    refuse(FileExistsError, message, photographs, tmp_path / "x.safetensors")
    assert existing.read_text() == "precious"
    assert list(tmp_path.iterdir()) == [existing]


def test_overwrite_replaces_all_three(photographs, tmp_path):
    files = [tmp_path / f"x{suffix}" for suffix in (".csv", ".png", ".safetensors")]
    for file in files:
        file.write_text("old")
    train_focus(photographs, tmp_path / "x.safetensors", steps=1, batch=2, overwrite=True)
    assert sorted(tmp_path.iterdir()) == files
    assert all(file.read_bytes() != b"old" for file in files)
    assert load(tmp_path / "x.safetensors").variant == "lite"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"variant": "large"}, "variant: got 'large'; expected 'full' or 'lite'"),
        ({"steps": 0}, "steps: got 0; expected an int of at least 1"),
        ({"steps": -5}, "steps: got -5; expected an int of at least 1"),
        ({"batch": 7}, "batch: got 7; expected an even number, each pair counts in both orders"),
        ({"batch": 0}, "batch: got 0; expected an int of at least 2"),
        ({"batch": -2}, "batch: got -2; expected an int of at least 2"),
        ({"lr": 0}, "lr: got 0; expected a positive learning rate"),
        ({"lr": -0.1}, "lr: got -0.1; expected a positive learning rate"),
        ({"lr": float("nan")}, "lr: got nan; expected a positive learning rate"),
        ({"lr": float("inf")}, "lr: got inf; expected a positive learning rate"),
        ({"momentum": 1.0}, "momentum: got 1.0; expected at least 0 and less than 1"),
        ({"weight_decay": -1e-4}, "weight_decay: got -0.0001; expected at least 0 and less than 1"),
        ({"validation_fraction": 0}, "validation_fraction: got 0; expected more than 0 and less than 1"),
        ({"validation_fraction": 1.0}, "validation_fraction: got 1.0; expected more than 0 and less than 1"),
        ({"validation_fraction": float("nan")}, "validation_fraction: got nan; expected more than 0 and less than 1"),
    ],
    ids=str,
)
def test_bad_options(photographs, tmp_path, options, message):
    refuse(ValueError, re.escape(message), photographs, tmp_path / "x.safetensors", **options)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["x", "x.pt", "x.SAFETENSORS", ".safetensors"])
def test_bad_output_names(photographs, tmp_path, name):
    message = re.escape(f"output: got {tmp_path / name}; expected a file name that ends in .safetensors")
    refuse(ValueError, message, photographs, tmp_path / name)


def test_missing_output_folder(photographs, tmp_path):
    message = re.escape(f"output: the folder {tmp_path / 'none'} does not exist; create it first")
    refuse(FileNotFoundError, message, photographs, tmp_path / "none" / "x.safetensors")


def test_missing_and_too_few_images(tmp_path):
    output = tmp_path / "x.safetensors"
    refuse(FileNotFoundError, "images: .* is not a folder; give a folder of photographs", tmp_path / "none", output)
    refuse(ValueError, "images: found 1 in .*; expected two at least", save_noise(tmp_path / "one", "a"), output)


def test_photographs_that_cannot_be_used(tmp_path):
    folder, output = save_noise(tmp_path / "photographs", "ab"), tmp_path / "x.safetensors"
    (folder / "c.png").write_bytes(b"not an image")
    message = rf"{re.escape(str(folder / 'c.png'))}: not a readable 8-bit image \(.+\); repair or remove it"
    refuse(ValueError, message, folder, output)
    Image.new("L", (15, 60)).save(folder / "c.png")
    refuse(ValueError, "c.png: is 15 x 60; expected 16 x 16 at least, remove it", folder, output)
    for name in "abc":
        Image.new("L", (40, 40), 90).save(folder / f"{name}.png")
    message = r"images: .*[abc].png and others have no 16 x 16 patch with texture; give sharp photographs"
    refuse(ValueError, message, folder, output)
    assert not list(tmp_path.glob("x.*"))


def test_a_run_that_diverges_writes_nothing(photographs, tmp_path):
    with pytest.raises(ValueError, match=r"lr: with 1e\+20 the loss became (nan|inf) at step \d+; .* smaller"):
        train_focus(photographs, tmp_path / "x.safetensors", **QUICK, lr=1e20)
    assert not list(tmp_path.iterdir())
