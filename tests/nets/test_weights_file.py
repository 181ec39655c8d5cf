"""Weight files: what is written comes back, what is not whole or not ours is refused by a sentence."""

from __future__ import annotations

import json
import os
import pickle
import re
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

import nmfuse.nets
from nmfuse.nets import Siamese, load
from nmfuse.nets.siamese import FORMAT
from nmfuse.nets.weights_file import read_weights, write_weights

WEIGHTS = Path(nmfuse.nets.__file__).with_name("weights")
NOT_WHOLE = "is not a whole safetensors file .*; give a file that `nmfuse train` wrote"


def some_tensors() -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(0)
    return {
        "a": torch.rand(3, 4, generator=generator),
        "b.weight": torch.rand(2, 3, 5, 5, generator=generator).to(memory_format=torch.channels_last),
        "view": torch.rand(6, 8, generator=generator).T[1:3],
        "scalar": torch.tensor(0.5),
    }


def lite_tensors() -> dict[str, Tensor]:
    return {name: value.detach().clone() for name, value in Siamese("lite").state_dict().items()}


def write_net(path: Path, tensors: dict[str, Tensor] | None = None, *, tag: str = FORMAT, **metadata: str) -> Path:
    write_weights(path, lite_tensors() if tensors is None else tensors, tag, {"variant": "lite", **metadata})
    return path


# ---- The files that come with nmfuse.


@pytest.mark.parametrize("variant", ["lite", "full"])
def test_shipped_file(variant):
    path = WEIGHTS / f"{variant}.safetensors"
    assert path.stat().st_size <= 2_000_000
    tensors, metadata = read_weights(path, FORMAT)
    assert metadata["variant"] == variant
    assert float(metadata["held_out_accuracy"]) >= 0.97
    assert int(metadata["held_out_pairs"]) >= 1000
    recipe = json.loads(metadata["recipe"])
    assert recipe["variant"] == variant
    assert recipe["data_sha256"] == metadata["data_sha256"]
    assert re.fullmatch("[0-9a-f]{64}", metadata["data_sha256"])
    net = load(variant)
    assert sorted(net.state_dict()) == sorted(tensors)
    for name, value in net.state_dict().items():
        assert torch.equal(value, tensors[name]), name


def test_nothing_else_is_shipped():
    shipped = ["full.safetensors", "fusion.safetensors", "fusion_all.safetensors", "lite.safetensors"]
    assert sorted(path.name for path in WEIGHTS.iterdir()) == shipped


# ---- Reading and writing.


def test_tensors_and_metadata_come_back(tmp_path):
    path, written = tmp_path / "x.safetensors", some_tensors()
    write_weights(path, written, "some.format.1", {"notes": "Größe, 大きさ", "empty": ""})
    tensors, metadata = read_weights(path, "some.format.1")
    assert metadata == {"format": "some.format.1", "notes": "Größe, 大きさ", "empty": ""}
    assert sorted(tensors) == sorted(written)
    for name, value in written.items():
        assert torch.equal(tensors[name], value), name


def test_the_same_makes_the_same_bytes(tmp_path):
    metadata = {name: name for name in "qwertyuiopasdfgh"}
    files = [tmp_path / f"{k}.safetensors" for k in range(4)]
    for path in files:
        write_weights(path, some_tensors(), "nmfuse.test.1", metadata)
    assert len({path.read_bytes() for path in files}) == 1


def test_parameters_that_require_grad_are_written(tmp_path):
    path = tmp_path / "x.safetensors"
    write_weights(path, dict(Siamese("lite").named_parameters()), FORMAT, {"variant": "lite"})
    assert load(path).variant == "lite"


@pytest.mark.parametrize("variant", ["lite", "full"])
def test_a_net_comes_back(tmp_path, variant):
    net, path = Siamese(variant), tmp_path / "mine.safetensors"
    write_net(path, net.state_dict(), variant=variant)
    loaded = load(path)
    assert loaded.variant == variant
    assert loaded is load(str(path))
    a, b = torch.rand(2, 1, 1, 20, 23, generator=torch.Generator().manual_seed(1))
    assert torch.equal(loaded.score_map(a, b), net.score_map(a, b))


def test_a_rewritten_file_is_read_anew(tmp_path):
    path, tensors = tmp_path / "mine.safetensors", lite_tensors()
    write_net(path, tensors)
    first = load(path)
    write_net(path, {name: value + 1 for name, value in tensors.items()})
    os.utime(path, ns=(1, 1))  # another time, even where the clock is coarse
    second = load(path)
    assert second is not first
    assert torch.equal(second.conv1.weight, tensors["conv1.weight"] + 1)
    assert torch.equal(first.conv1.weight, tensors["conv1.weight"])


def test_a_file_with_the_name_of_a_variant_is_reached_by_its_path(tmp_path, monkeypatch):
    write_net(tmp_path / "lite")
    monkeypatch.chdir(tmp_path)
    assert load("lite") is load()
    assert load("./lite") is not load()


# ---- What is refused.


def test_missing_file(tmp_path):
    for path in (tmp_path / "none.safetensors", tmp_path, Path("Lite")):
        message = re.escape(
            f"{path}: no such weight file; expected 'lite', 'full' or a file that `nmfuse train focus` wrote"
        )
        with pytest.raises(FileNotFoundError, match=message):
            load(path)


@pytest.mark.parametrize("kept", [0, 4, 8, 100, 1000, -1000, -1])
def test_truncated_file(tmp_path, kept):
    path = write_net(tmp_path / "x.safetensors")
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(ValueError, match=f"{re.escape(str(path))}: {NOT_WHOLE}"):
        load(path)


@pytest.mark.parametrize("content", [b"\0" * 64, b"\xff" * 64, b"not a weight file at all, but a note"], ids=repr)
def test_other_bytes(tmp_path, content):
    path = tmp_path / "x.safetensors"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=NOT_WHOLE):
        load(path)


def test_bytes_after_the_end(tmp_path):
    path = write_net(tmp_path / "x.safetensors")
    path.write_bytes(path.read_bytes() + b"more")
    with pytest.raises(ValueError, match=NOT_WHOLE):
        load(path)


def test_pickled_weights(tmp_path):
    path = tmp_path / "x.pt"
    torch.save(lite_tensors(), path)
    with pytest.raises(ValueError, match=f"{re.escape(str(path))}: {NOT_WHOLE}"):
        load(path)


def test_nothing_in_a_file_is_executed(tmp_path):
    class Payload:
        def __reduce__(self):
            return Path.touch, (tmp_path / "executed",)

    path = tmp_path / "x.safetensors"
    path.write_bytes(pickle.dumps(Payload()))
    with pytest.raises(ValueError, match=NOT_WHOLE):
        load(path)
    assert not (tmp_path / "executed").exists()
    pickle.loads(path.read_bytes())  # it would have been
    assert (tmp_path / "executed").exists()


def test_wrong_tag(tmp_path):
    path = write_net(tmp_path / "x.safetensors", tag="nmfuse.checkpoint.1")
    message = re.escape(f"{path}: its format is 'nmfuse.checkpoint.1', expected '{FORMAT}'; give a file that")
    with pytest.raises(ValueError, match=message):
        load(path)


def test_no_tag(tmp_path):
    path = tmp_path / "x.safetensors"
    save_file({name: value.contiguous() for name, value in lite_tensors().items()}, path)
    with pytest.raises(ValueError, match=re.escape(f"its format is None, expected '{FORMAT}'")):
        load(path)


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
def test_weights_that_are_not_finite(tmp_path, bad):
    tensors = lite_tensors()
    tensors["conv2.bias"][3] = bad
    path = write_net(tmp_path / "x.safetensors", tensors)
    with pytest.raises(ValueError, match=re.escape(f"{path}: conv2.bias is not finite float32; give a file that")):
        load(path)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float16, torch.bfloat16, torch.int32, torch.complex64])
def test_weights_of_another_dtype(tmp_path, dtype):
    tensors = lite_tensors()
    tensors["head.weight"] = tensors["head.weight"].to(dtype)
    path = write_net(tmp_path / "x.safetensors", tensors)
    with pytest.raises(ValueError, match=re.escape(f"{path}: head.weight is not finite float32; give a file that")):
        load(path)


@pytest.mark.parametrize("variant", ["full", "large", "", None])
def test_wrong_variant(tmp_path, variant):
    path = tmp_path / "x.safetensors"
    write_weights(path, lite_tensors(), FORMAT, {} if variant is None else {"variant": variant})
    if variant == "full":
        message = r"the weights do not fit the full net: conv1.bias is \(16,\), expected \(64,\); train it anew with"
    else:
        message = re.escape(f"{path}: its variant is {variant!r}; expected 'full' or 'lite', train it anew")
    with pytest.raises(ValueError, match=message):
        load(path)


def test_wrong_shapes(tmp_path):
    good = lite_tensors()

    def refuse(tensors: dict[str, Tensor], wrong: str) -> None:
        path = write_net(tmp_path / "x.safetensors", tensors)
        message = re.escape(f"{path}: the weights do not fit the lite net: {wrong}; train it anew with `nmfuse train")
        with pytest.raises(ValueError, match=message):
            load(path)

    refuse(
        {**good, "conv2.weight": torch.zeros(32, 16, 3, 1)}, "conv2.weight is (32, 16, 3, 1), expected (32, 16, 3, 3)"
    )
    # As many elements, and shapes that could be broadcast, are no excuse.
    refuse(
        {**good, "head.weight": good["head.weight"].transpose(0, 1)},
        "head.weight is (128, 2, 8, 8), expected (2, 128, 8, 8)",
    )
    refuse({**good, "conv1.bias": torch.zeros(1)}, "conv1.bias is (1,), expected (16,)")
    refuse({name: x for name, x in good.items() if name != "conv3.0.bias"}, "conv3.0.bias is missing, expected (32,)")
    refuse({**good, "head.bias": torch.zeros(2)}, "head.bias is (2,), expected nothing")
    refuse({}, "conv1.bias is missing, expected (16,)")
    assert load(write_net(tmp_path / "x.safetensors", good)).variant == "lite"
