"""The fusion network: its laws, whatever its weights, and the shipped file."""

from __future__ import annotations

import copy
import itertools
import json

import pytest
import torch

from nmfuse.data import brain_phantom
from nmfuse.nets import FusionNet, fusion_net, load_fusion
from nmfuse.nets.fusion_net import FORMAT
from nmfuse.nets.weights_file import read_weights, shipped, write_weights


def net_with_random_weights(seed=0, **options):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        net = FusionNet(**options)
        for parameter in net.parameters():
            torch.nn.init.normal_(parameter, std=0.3)
    return net.eval().double()  # random weights let rounding grow from level to level


def pair(*shape, seed=0):
    return torch.rand(2, *shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.parametrize("shape", [(1, 1, 16, 16), (2, 1, 17, 40), (1, 1, 64, 33), (1, 1, 130, 97)])
def test_shapes_and_exchange(shape):
    a, b = pair(*shape)
    net = net_with_random_weights(context=False)
    with torch.inference_mode():
        forth, context = net.explain(a, b, record=(shown := {}))
        back, _ = net.explain(b, a, record=(swapped := {}))
    assert forth.shape == shape
    assert len(shown["gates"]) == 6
    assert "parts" not in shown
    assert context.shape == (2, shape[0], 1, -(-shape[2] // 2), -(-shape[3] // 2))
    torch.testing.assert_close(back, forth, rtol=0, atol=1e-9)
    for gate, other in zip(shown["gates"], swapped["gates"], strict=True):
        torch.testing.assert_close(gate, other.flip(0), rtol=0, atol=1e-9)


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_an_image_fused_with_itself_is_itself(seed):
    a, _ = pair(1, 1, 70, 61, seed=seed)
    a[..., :20, :] = 0  # black, and a faint ramp
    a[..., 20:30, :] = torch.linspace(0, 0.01, 61)
    with torch.inference_mode():
        fused = net_with_random_weights(seed)(a, a)
    torch.testing.assert_close(fused, a, rtol=0, atol=0.5 / 255)


def test_black_stays_black():
    a, b = pair(1, 1, 64, 64)
    a[..., :, :40], b[..., :, :40] = 0, 0
    with torch.inference_mode():
        fused = net_with_random_weights(context=False)(a, b)
    assert (fused[..., :39] <= 0).all()
    assert (fused[..., 41:] > 0).any()


def test_a_first_layer_of_its_own_tells_the_images_apart():
    a, b = pair(1, 1, 40, 40)
    net = net_with_random_weights(context=False, specific=True)
    with torch.inference_mode():
        assert not torch.allclose(net(a, b), net(b, a), atol=1e-3)
    for first_b, branch in zip(net.firsts_b, net.branches, strict=True):
        first_b.load_state_dict(branch[0].state_dict())
    with torch.inference_mode():
        torch.testing.assert_close(net(a, b), net(b, a), rtol=0, atol=1e-9)


def test_context_sums_to_one_and_names_the_stronger():
    a, b = torch.zeros(2, 1, 1, 64, 64, dtype=torch.float64)
    a[..., :32, :], b[..., 32:, :] = pair(32, 64)
    net = net_with_random_weights()
    with torch.inference_mode():
        _, context = net.explain(a, b)
        _, none = net_with_random_weights(context=False).explain(a, b)
    torch.testing.assert_close(context.sum(0), torch.ones(1, 1, 32, 32, dtype=torch.float64))
    assert (none == 0.5).all()
    assert not (context == 0.5).all()


def test_what_only_one_image_shows_elsewhere_does_not_weigh_on_the_overlap():
    head = brain_phantom(128, 3)
    mri, pet = (torch.nn.functional.pad(torch.from_numpy(x)[None, None], (0, 128)) for x in (head.t1, head.pet))
    neck = mri.clone()
    neck[..., 140:] = torch.rand(1, 1, 128, 116, generator=torch.Generator().manual_seed(0))
    overlap = torch.nn.functional.avg_pool2d(mri * pet, 2)[0, 0] > 0.04
    with torch.inference_mode():
        alone, beside = (load_fusion().explain(x, pet)[1][0, 0, 0][overlap] for x in (mri, neck))
    assert (alone - beside).abs().mean() < 0.02
    assert 0.2 < alone.mean() < 0.8


def test_tiles_give_what_the_whole_gives(monkeypatch):
    a, b = pair(2, 1, 97, 64)
    net = net_with_random_weights()
    with torch.inference_mode():
        whole = net(a, b)
        monkeypatch.setitem(fusion_net._TILE, "cpu", (8, 12))
        torch.testing.assert_close(net(a, b), whole, rtol=0, atol=1e-9)
        monkeypatch.setattr(fusion_net, "_REACH", 3)
        assert not torch.allclose(net(a, b), whole, rtol=0, atol=1e-5)  # the test would see a seam


def test_seams_of_a_large_image_cannot_be_found(monkeypatch):
    """In float64, where rounding does not hide them: in float32 it moves single pixels by 2e-6."""
    tile, net = brain_phantom(256), copy.deepcopy(load_fusion()).double()
    a, b = (torch.from_numpy(x).double().tile(4, 4)[None, None] for x in (tile.t2, tile.ct))
    with torch.inference_mode():
        tiled = net(a, b)
        monkeypatch.setitem(fusion_net._TILE, "cpu", (1024, 1024))
        torch.testing.assert_close(net(a, b), tiled, rtol=0, atol=1e-12)


def test_bad_shapes_are_refused():
    net = FusionNet()
    for a, b in [((1, 1, 16, 16), (1, 1, 16, 17)), ((1, 1, 15, 16),) * 2, ((1, 3, 16, 16),) * 2, ((16, 16),) * 2]:
        with pytest.raises(ValueError, match=r"a, b: shapes .*; expected \(N, 1, H, W\), 16 x 16 at least"):
            net(torch.zeros(a), torch.zeros(b))


def test_gradients_reach_every_weight():
    net = FusionNet()
    for name, parameter in net.named_parameters():
        if "out.weight" in name or "scene.2.weight" in name:
            torch.nn.init.normal_(parameter, std=0.1)
    a, b = pair(1, 1, 130, 97)
    net(a.float(), b.float()).square().sum().backward()
    for name, parameter in net.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all()
        assert parameter.grad.abs().max() > 0, name
    for finer, coarser in itertools.pairwise(net.heads):  # the notes are written, and read
        assert (coarser.out.weight.grad[2:].abs().amax((1, 2, 3)) > 0).all()
        for layer in (finer.own, finer.other):
            assert (layer.weight.grad[:, -4:].abs().amax((0, 2, 3)) > 0).all()


@pytest.mark.parametrize(("name", "file"), [("default", "fusion"), ("all", "fusion_all")])
def test_shipped_weights(name, file):
    path = shipped(file)
    assert path.stat().st_size <= 300_000
    _, metadata = read_weights(path, FORMAT)
    recipe = json.loads(metadata["recipe"])
    assert recipe["data_sha256"]
    assert recipe["steps"] >= 1000
    assert metadata["notes"]
    net = load_fusion(name)
    assert sum(parameter.numel() for parameter in net.parameters()) <= 60_000
    assert not any(parameter.requires_grad for parameter in net.parameters())
    assert load_fusion(path) is net


def test_wrong_files_are_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match="expected 'default', 'all' or a file that `nmfuse train fusion` wrote"):
        load_fusion(tmp_path / "no.safetensors")
    with pytest.raises(ValueError, match=r"its format is 'nmfuse\.siamese\.1', expected 'nmfuse\.fusion\.5'"):
        load_fusion(shipped("lite"))
    path = tmp_path / "x.safetensors"
    write_weights(path, {"branches.0.0.weight": torch.zeros(3)}, FORMAT, {"context": "1"})
    with pytest.raises(ValueError, match="the weights do not fit the fusion network"):
        load_fusion(path)
