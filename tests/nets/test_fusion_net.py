"""The fusion network: its laws, whatever its weights, and the shipped file."""

from __future__ import annotations

import copy
import itertools
import json
import math

import numpy as np
import pytest
import torch
from scipy import ndimage

from nmfuse import pyramids
from nmfuse.data import brain_phantom
from nmfuse.images import scratch as scratches
from nmfuse.images.scratch import Scratch
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


def images(*shape, seed=0):
    """Return images in [0, 1] of a shape, that of the sources' stack (S, N, 1, H, W) as a rule."""
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def modalities(count, size=96):
    """Return up to five images (S, 1, 1, H, W) of one head, float32."""
    head = brain_phantom(size)
    shown = (head.t2, head.ct, head.pet, head.t1, 0.9 * np.roll(head.t1, 7, axis=1))
    return torch.stack([torch.from_numpy(np.ascontiguousarray(x, np.float32)) for x in shown[:count]])[:, None, None]


@pytest.mark.parametrize("count", [2, 3, 5])
@pytest.mark.parametrize("shape", [(1, 1, 16, 16), (2, 1, 17, 40), (1, 1, 64, 33), (1, 1, 130, 97)])
def test_shapes_and_exchange(shape, count):
    sources = images(count, *shape)
    net = net_with_random_weights(context=False)
    with torch.inference_mode():
        forth, context = net.explain(sources, record=(shown := {}))
        assert forth.shape == shape
        assert len(shown["gates"]) == 6
        assert "parts" not in shown
        assert context.shape == (count, shape[0], 1, -(-shape[2] // 2), -(-shape[3] // 2))
        assert [gate.shape[:3] for gate in shown["gates"]] == [(count, shape[0], 1)] * 6
        for order in ([*range(count)][::-1], [*range(1, count), 0]):
            back, _ = net.explain(sources[order], record=(swapped := {}))
            torch.testing.assert_close(back, forth, rtol=0, atol=1e-9)
            for gate, other in zip(shown["gates"], swapped["gates"], strict=True):
                torch.testing.assert_close(gate[order], other, rtol=0, atol=1e-9)
    assert any((gate[0] - gate[-1]).abs().max() > 0.1 for gate in shown["gates"])  # or exchange would be no news


@pytest.mark.parametrize("count", [2, 3, 5])
def test_a_list_of_sources_is_as_good_as_a_stack(count):
    sources, net = images(count, 2, 1, 33, 40), net_with_random_weights()
    with torch.inference_mode():
        assert torch.equal(net(list(sources)), net(sources))


@pytest.mark.parametrize("count", [2, 3, 5])
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_copies_of_an_image_fuse_to_it(seed, count):
    a = images(1, 1, 70, 61, seed=seed)
    a[..., :20, :] = 0  # black, and a faint ramp
    a[..., 20:30, :] = torch.linspace(0, 0.01, 61)
    with torch.inference_mode():
        fused = net_with_random_weights(seed)([a] * count)
    torch.testing.assert_close(fused, a, rtol=0, atol=0.5 / 255)


@pytest.mark.parametrize("count", [2, 3, 5])
def test_black_stays_black(count):
    sources = images(count, 1, 1, 64, 64)
    sources[..., :, :40] = 0
    with torch.inference_mode():
        fused = net_with_random_weights(context=False)(sources)
    assert (fused[..., :39] <= 0).all()
    assert (fused[..., 41:] > 0).any()


@pytest.mark.parametrize("count", [2, 3, 5])
def test_no_pixel_becomes_brighter_than_twice_what_is_near(count):
    sources = images(count, 1, 1, 64, 64)
    sources[..., 20:40, 20:40] *= 0.01
    with torch.inference_mode():
        fused = net_with_random_weights(context=False)(sources)
    near = torch.nn.functional.max_pool2d(sources.amax(0), 3, 1, 1)
    assert (fused <= 2 * near).all()
    assert (fused == 2 * near).any()  # these weights ask for more


@pytest.mark.parametrize("count", [2, 3, 5])
def test_gates_are_those_of_the_definition(count):
    """Equal weights, the least and the greatest excess, the least gate, and what opposition takes from the fainter."""
    sources = images(count, 1, 1, 48, 48)
    net = net_with_random_weights(context=False)
    details = (sources - pyramids.expand(pyramids.reduce(sources), (48, 48))).numpy()[:, 0, 0]

    def mean(x):
        return ndimage.uniform_filter(x, 3, mode="constant")

    energy = np.stack([mean(x * x) for x in details])
    cross = np.stack([mean(x * (details.sum(0) - x)) for x in details])
    match = np.clip(cross.sum(0) / ((count - 1) * energy.sum(0)), 0, 1)
    pairs = np.array([[2 * mean(x * y) / mean(x * x + y * y) for y in details] for x in details])
    pairs[range(count), range(count)] = 0  # the match with others alone
    best = np.clip(pairs.max(1), 0, 1)
    share = np.clip(2 * energy / energy.sum(0), 2 / count, 1)
    opposition = np.clip(-2 * cross / energy.sum(0), 0, 1)
    for bias, excess in ((-20.0, -1.0), (0.0, 0.0), (20.0, 1.0)):
        with torch.inference_mode():
            for head in net.heads:
                head.out.weight[:2] = 0
                head.out.bias[:2] = torch.tensor([0.0, bias])
            net.explain(sources, record=(shown := {}))
        gates = []
        for matched, q in ((match, np.full_like(share, 2 / count)), (best, share)):
            gate = 1 / count + (1 - matched) * excess * q
            gates.append(gate + (1 - matched) * np.clip(0.4 * np.sqrt(q) - gate, 0, None))
        expected = np.maximum(*gates) * (1 - opposition * (1 - energy / energy.max(0)))
        np.testing.assert_allclose(shown["gates"][0].numpy()[:, 0, 0], expected, atol=1e-9)
        top = shown["gates"][-1].sum(0)
        assert torch.allclose(top, torch.ones_like(top)) == (bias == 0)  # no least gate where brightness is decided
    assert 0 < match.mean() < 1
    assert opposition.max() > 0.5
    assert (gates[1] > gates[0] + 0.1).any() == (count > 2)


@pytest.mark.parametrize("count", [3, 5, 8])
def test_what_one_of_many_shows_is_shown_as_of_a_pair(count):
    """A spot in one source, where nothing else is: its gate is that of two sources, whatever their number."""
    details = torch.zeros(count, 1, 1, 16, 16, dtype=torch.float64)
    details[0, ..., 8, 8] = 0.1
    logits = torch.zeros(count, 1, 2, 16, 16, dtype=torch.float64)
    logits[:, :, 1] = 1.0
    weight = 1 / count
    gate = fusion_net._gates(logits, details, is_top=False)[0, 0, 0, 8, 8]
    assert gate == pytest.approx(weight + math.tanh(1.0))
    logits[:, :, 1] = -3.0
    assert fusion_net._gates(logits, details, is_top=False)[0, 0, 0, 8, 8] == pytest.approx(0.4)


@pytest.mark.parametrize("count", [3, 5, 8])
def test_what_several_show_is_not_added_up(count):
    """Copies of a detail, beside one source without it: all together they are not shown with more than a pair's."""
    rng = np.random.default_rng(0)
    detail = torch.from_numpy(0.1 * rng.standard_normal((1, 1, 16, 16)))
    details = torch.cat([detail.expand(count - 1, -1, -1, -1), torch.zeros_like(detail)])[:, None]
    logits = torch.zeros(count, 1, 2, 16, 16, dtype=torch.float64)
    logits[:, :, 1] = 30.0
    shown = fusion_net._gates(logits, details, is_top=False)[:-1].sum(0)
    match = (count - 2) / (count - 1)  # of all sources; each of the copies has one that it matches
    gate = 1 / count + (1 - match) * 2 / count
    expected = (count - 1) * (gate + (1 - match) * max(0, 0.4 * math.sqrt(2 / count) - gate))
    torch.testing.assert_close(shown, torch.full_like(shown, expected))
    assert expected < 1.5


@pytest.mark.parametrize("name", ["default", "all"])
def test_the_stronger_of_two_that_contradict_each_other_keeps_its_sign(name):
    """A disc that is bright in one texture, and fainter and dark in the other."""
    rows, columns = np.mgrid[:64, :64]
    disc = torch.from_numpy(np.clip(3.5 - np.hypot(rows - 32, columns - 32), 0, 1)).float()
    rng = np.random.default_rng(0)
    a, b = (
        torch.from_numpy(0.5 + 0.05 * x / x.std()).float()
        for x in ndimage.gaussian_filter(rng.standard_normal((2, 64, 64)), (0, 1.5, 1.5))
    )
    a, b, net = a[None, None], b[None, None], load_fusion(name)
    with torch.inference_mode():
        for strong, weak in ((a, b), (b, a)):
            for sign in (1, -1):
                difference = net([strong + 0.3 * sign * disc, weak - 0.22 * sign * disc]) - net([strong, weak])
                assert sign * (difference[0, 0] * disc).sum() > 0


@pytest.mark.parametrize("count", [2, 3, 5])
def test_one_source_leads_the_others_as_it_would_a_single_one(count):
    """The softmax is of log2(S) times the logits: S images, of which one leads by x, are weighed by S^(x / ln 2)."""
    logits = torch.zeros(count, 1, 1, 4, 4, dtype=torch.float64)
    logits[0] = 1.5
    weights = fusion_net._weights(logits)
    torch.testing.assert_close(weights.sum(0), torch.ones(1, 1, 4, 4, dtype=torch.float64))
    lead = count ** (1.5 / math.log(2))
    torch.testing.assert_close(weights[0], torch.full_like(weights[0], lead / (lead + count - 1)))


@pytest.mark.parametrize("count", [3, 5])
def test_the_gates_are_made_of_those_weights(count):
    """On flat images, whose details all match, gates are the weights alone."""
    sources = torch.full((count, 1, 1, 32, 32), 0.5, dtype=torch.float64)
    sources *= torch.linspace(0.2, 1, count, dtype=torch.float64)[:, None, None, None, None]
    net = net_with_random_weights(context=False)
    logits = []
    top = net.heads[-1]
    forward = top.forward

    def seen(*given):
        logits.append(forward(*given))
        return logits[-1]

    top.forward = seen
    for head in net.heads:  # without an excess
        head.out.weight.data[1], head.out.bias.data[1] = 0, 0
    with torch.inference_mode():
        net.explain(sources, record=(shown := {}))
    torch.testing.assert_close(shown["gates"][-1], fusion_net._weights(logits[0][:, :, :1]), rtol=0, atol=1e-12)


def test_weights_of_two_are_those_that_many_would_get(monkeypatch):
    """Two sources take a way of their own through the heads, a third faster."""
    sources, net = modalities(2), load_fusion()
    with torch.inference_mode():
        fused, _ = net.explain(sources, record=(pair := {}))
        monkeypatch.setattr(fusion_net._Head, "_of_pair", fusion_net._Head._of_many)
        again, _ = net.explain(sources, record=(many := {}))
    torch.testing.assert_close(again, fused, rtol=0, atol=1e-5)
    for gate, other in zip(pair["gates"], many["gates"], strict=True):
        torch.testing.assert_close(other, gate, rtol=0, atol=1e-5)


@pytest.mark.parametrize("count", [2, 3, 5])
def test_context_is_a_share_and_names_the_stronger(count):
    sources = torch.zeros(count, 1, 1, 64, 64, dtype=torch.float64)
    for s, rows in enumerate(torch.arange(64).tensor_split(count)):
        sources[s, :, :, rows] = images(1, 1, len(rows), 64, seed=s)
    net = net_with_random_weights()
    with torch.inference_mode():
        _, context = net.explain(sources)
        _, none = net_with_random_weights(context=False).explain(sources)
    assert ((context > 0) & (context < 1)).all()
    if count == 2:
        torch.testing.assert_close(context.sum(0), torch.ones(1, 1, 32, 32, dtype=torch.float64))
    assert (none == 0.5).all()
    assert not (context == 0.5).all()


@pytest.mark.parametrize("count", [2, 3, 5])
def test_images_of_a_batch_are_fused_each_for_itself(count):
    sources, net = images(count, 3, 1, 40, 33), net_with_random_weights(context=False)
    with torch.inference_mode():
        together = net(sources)
        for n in range(3):
            torch.testing.assert_close(net(sources[:, n : n + 1]), together[n : n + 1], rtol=0, atol=1e-9)


@pytest.mark.parametrize("count", [2, 3, 5])
def test_a_volume_of_one_slice_is_an_image(count):
    sources, net = modalities(count), load_fusion()
    with torch.inference_mode():
        fused, context = net.explain(sources, record=(plain := {}))
        same, same_context = net.explain(sources, record=(of_volume := {}), volume=True)
    torch.testing.assert_close(same, fused, rtol=0, atol=1e-6)
    torch.testing.assert_close(same_context, context, rtol=0, atol=1e-5)
    for one, other in zip(plain["gates"], of_volume["gates"], strict=True):
        torch.testing.assert_close(other, one, rtol=0, atol=1e-5)
    assert of_volume["parts"].shape == plain["parts"].shape


def volume_of_heads(count, depth=3):
    heads = [brain_phantom(64, seed) for seed in range(depth)]
    shown = [[x.t2, x.ct, x.pet, x.t1, x.t1[:, ::-1]] for x in heads]
    return torch.from_numpy(np.array(shown, np.float64)).transpose(0, 1)[:count, :, None].contiguous()


@pytest.mark.parametrize("count", [2, 3])
def test_slices_of_a_volume_in_another_order_give_the_same_in_that_order(count):
    sources, order = volume_of_heads(count), [2, 0, 1]
    net = copy.deepcopy(load_fusion()).double()
    net.context = False  # the factorization starts from a draw that knows columns by their place
    with torch.inference_mode():
        fused = net.explain(sources, volume=True)[0]
        moved = net.explain(sources[:, order], volume=True)[0]
        torch.testing.assert_close(moved, fused[order], rtol=0, atol=1e-12)
        apart = net.explain(sources)[0]
    assert not torch.allclose(apart, fused, rtol=0, atol=1e-3)  # slices know of each other


@pytest.mark.parametrize("count", [2, 3])
def test_with_context_too_up_to_the_start_of_the_factorization(count):
    sources, order = volume_of_heads(count).float(), [2, 0, 1]
    net = load_fusion()
    with torch.inference_mode():
        fused = net.explain(sources, volume=True)[0]
        moved = net.explain(sources[:, order], volume=True)[0]
    assert (moved - fused[order]).abs().mean() < 1e-3


def test_what_only_one_image_shows_elsewhere_does_not_weigh_on_the_overlap():
    head = brain_phantom(128, 3)
    mri, pet = (torch.nn.functional.pad(torch.from_numpy(x)[None, None], (0, 128)) for x in (head.t1, head.pet))
    neck = mri.clone()
    neck[..., 140:] = torch.rand(1, 1, 128, 116, generator=torch.Generator().manual_seed(0))
    overlap = torch.nn.functional.avg_pool2d(mri * pet, 2)[0, 0] > 0.04
    with torch.inference_mode():
        alone, beside = (load_fusion().explain([x, pet])[1][0, 0, 0][overlap] for x in (mri, neck))
    assert (alone - beside).abs().mean() < 0.02
    assert 0.2 < alone.mean() < 0.8


@pytest.mark.parametrize("count", [2, 3, 5])
def test_tiles_give_what_the_whole_gives(monkeypatch, count):
    sources = images(count, 2, 1, 97, 64)
    net = net_with_random_weights()
    monkeypatch.setitem(fusion_net._TILE, "cpu", (1 << 10, 1 << 10))
    with torch.inference_mode():
        whole, context = net.explain(sources, record=(at_once := {}))
        monkeypatch.setitem(fusion_net._TILE, "cpu", (8, 12))
        tiled, tiled_context = net.explain(sources, record=(in_tiles := {}))
        torch.testing.assert_close(tiled, whole, rtol=0, atol=1e-9)
        torch.testing.assert_close(tiled_context, context, rtol=0, atol=1e-9)
        for one, other in zip(at_once["gates"], in_tiles["gates"], strict=True):
            torch.testing.assert_close(other, one, rtol=0, atol=1e-9)
        torch.testing.assert_close(in_tiles["parts"], at_once["parts"], rtol=0, atol=1e-9)
        monkeypatch.setattr(fusion_net, "_REACH", 3 if count == 2 else 2)  # weights of many are nearly all or nothing
        seam = 1e-5 if count == 2 else 1e-7
        assert not torch.allclose(net(sources), whole, rtol=0, atol=seam)  # the test would see a seam


@pytest.mark.parametrize("count", [3, 5])
@pytest.mark.parametrize("volume", [False, True])
def test_memory_on_disk_gives_what_memory_gives(monkeypatch, count, volume):
    sources = volume_of_heads(count).float() if volume else modalities(count, 128)
    net, scratch = load_fusion(), Scratch()
    with torch.inference_mode():
        fused, context = net.explain(sources, record=(within := {}), volume=volume)
        monkeypatch.setattr(scratches, "IN_MEMORY", 0)
        planes = [scratch.keep(x.clone(), k) for k, x in enumerate(sources)]
        assert scratch.on_disk
        stored, stored_context = net.explain(planes, record=(on_disk := {}), volume=volume, scratch=scratch)
    torch.testing.assert_close(stored, fused, rtol=0, atol=1e-6)
    torch.testing.assert_close(stored_context, context, rtol=0, atol=1e-6)
    for one, other in zip(within["gates"], on_disk["gates"], strict=True):
        torch.testing.assert_close(other, one, rtol=0, atol=1e-5)
    for plane, source in zip(planes, sources, strict=True):
        assert torch.equal(plane, source)


def test_contexts_on_disk_are_made_in_several_pieces(monkeypatch):
    energy, level = images(3, 1, 1, 70, 40).float(), images(3, 1, 1, 1, 1, seed=1).float() + 0.5
    expected = fusion_net._contexts(energy, level, Scratch())
    monkeypatch.setattr(scratches, "IN_MEMORY", 0)
    monkeypatch.setattr(fusion_net, "_KEPT", 3 * 40 * 8)  # rows of 8
    scratch = Scratch()
    scratch.keep(torch.zeros(4, 4), 2)
    torch.testing.assert_close(fusion_net._contexts(energy, level, scratch), expected, rtol=0, atol=1e-7)


def test_seams_of_a_large_image_cannot_be_found(monkeypatch):
    """In float64, where rounding does not hide them: in float32 it moves single pixels by 2e-6."""
    tile, net = brain_phantom(256), copy.deepcopy(load_fusion()).double()
    a, b = (torch.from_numpy(x).double().tile(4, 4)[None, None] for x in (tile.t2, tile.ct))
    with torch.inference_mode():
        tiled = net([a, b])
        monkeypatch.setitem(fusion_net._TILE, "cpu", (1024, 1024))
        torch.testing.assert_close(net([a, b]), tiled, rtol=0, atol=1e-12)


def test_bad_shapes_are_refused():
    net = FusionNet()
    good = (1, 1, 16, 16)
    for shapes in [(good, (1, 1, 16, 17)), (good, good, (2, 1, 16, 16)), ((1, 1, 15, 16),) * 2, ((1, 3, 16, 16),) * 2,
                   ((16, 16),) * 2, (good,)]:  # fmt: skip
        message = r"sources: shapes .*; expected two or more of \(N, 1, H, W\), 16 x 16 at least"
        with pytest.raises(ValueError, match=message):
            net([torch.zeros(shape) for shape in shapes])


@pytest.mark.parametrize("count", [2, 3])
def test_gradients_reach_every_weight(count):
    net = FusionNet()
    for name, parameter in net.named_parameters():
        if "out.weight" in name or "scene.2.weight" in name:
            torch.nn.init.normal_(parameter, std=0.1)
    net(images(count, 1, 1, 130, 97).float()).square().sum().backward()
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
    assert [int(metadata[size]) for size in ("channels", "hidden", "rank", "rank2")] == [16, 24, 8, 3]
    assert metadata["context"] == "1"
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
    with pytest.raises(ValueError, match=r"its format is 'nmfuse\.siamese\.1', expected 'nmfuse\.fusion\.7'"):
        load_fusion(shipped("lite"))
    path = tmp_path / "x.safetensors"
    sizes = {"channels": "16", "hidden": "24", "rank": "8", "rank2": "3"}
    write_weights(path, {"branches.0.0.weight": torch.zeros(3)}, FORMAT, {"context": "1", **sizes})
    with pytest.raises(ValueError, match="the weights do not fit the fusion network"):
        load_fusion(path)
    for wrong in ({}, sizes | {"rank": "eight"}):
        write_weights(path, {"branches.0.0.weight": torch.zeros(3)}, FORMAT, {"context": "1", **wrong})
        with pytest.raises(ValueError, match=r"its metadata lacks the sizes of the network .*; train it anew"):
            load_fusion(path)


def test_a_file_says_how_large_its_network_is(tmp_path):
    net = FusionNet(channels=8, hidden=6, rank=4, rank2=2, context=False)
    path = tmp_path / "small.safetensors"
    metadata = {"context": "0", **{name: str(size) for name, size in net.sizes.items()}}
    write_weights(path, net.state_dict(), FORMAT, metadata)
    loaded = load_fusion(path)
    assert (loaded.sizes, loaded.context) == (net.sizes, False)
    sources = modalities(3)
    with torch.inference_mode():
        assert torch.equal(loaded(sources), net.eval()(sources))
