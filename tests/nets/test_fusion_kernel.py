"""The fusion network's kernel against the module of torch in float64, whatever the weights, sizes and tiles."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch

from nmfuse.data import brain_phantom
from nmfuse.images import scratch as scratches
from nmfuse.images.part import Place
from nmfuse.images.scratch import Scratch
from nmfuse.kernels import num_threads, set_num_threads
from nmfuse.nets import FusionNet, fusion_kernel, fusion_net, load_fusion


@pytest.fixture
def no_kernel(monkeypatch):
    def without(net, sources, **options):
        with monkeypatch.context() as patch:
            patch.setattr(fusion_kernel, "can_run", lambda _: False)
            return net.explain(sources, **options)

    return without


def net_of(seed=0, std=0.15, **sizes):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        net = FusionNet(**sizes)
        for parameter in net.parameters():
            torch.nn.init.normal_(parameter, std=std)
    return net.eval().requires_grad_(False)


def heads(count, shape):
    """Return images (S, N, 1, H, W) of one head, float32."""
    n, _, height, width = shape
    head = brain_phantom(max(64, height, width))
    shown = [head.t2, head.ct, head.pet, head.t1, np.flipud(head.t1)]
    planes = np.stack([np.roll(shown[s % 5], s // 5, 1) for s in range(count)]).astype(np.float32)
    return torch.from_numpy(planes)[:, None, None, :height, :width].expand(-1, n, -1, -1, -1).contiguous()


@pytest.mark.parametrize("count", [2, 3, 7])
@pytest.mark.parametrize("shape", [(1, 1, 16, 16), (2, 1, 17, 41), (1, 1, 97, 130), (1, 1, 33, 600)])
def test_it_is_what_the_module_says(count, shape, no_kernel):
    sources, net = heads(count, shape), load_fusion()
    with torch.inference_mode():
        assert fusion_kernel.can_run(sources)
        fused, context = net.explain(sources, record=(shown := {}))
        exact = copy.deepcopy(net).double()
        expected, expected_context = exact.explain(sources.double(), record=(wanted := {}))
        by_torch, _ = no_kernel(net, sources)
    error = (by_torch - expected).abs().max()
    assert (fused - expected).abs().max() < max(2e-5, 4 * error)  # as exact as torch is in float32
    torch.testing.assert_close(context.double(), expected_context, rtol=0, atol=1e-3)
    for gate, exact_gate in zip(shown["gates"], wanted["gates"], strict=True):
        assert gate.shape == exact_gate.shape
        assert (gate - exact_gate).abs().mean() < 1e-4


@pytest.mark.parametrize(
    "sizes", [{"channels": 5, "hidden": 7}, {"channels": 12, "hidden": 24}, {"channels": 16, "hidden": 3}]
)
def test_other_sizes_of_network(sizes):
    sources, net = heads(3, (1, 1, 50, 70)), net_of(**sizes, context=False)
    with torch.inference_mode():
        torch.testing.assert_close(
            net(sources).double(), copy.deepcopy(net).double()(sources.double()), rtol=0, atol=1e-4
        )


def test_features_are_those_of_the_branch():
    net, images = net_of(), heads(3, (2, 1, 37, 300))
    with torch.inference_mode():
        expected = copy.deepcopy(net).double().branches[1](images.flatten(0, 1).double())
        torch.testing.assert_close(net._look(images, 1).double(), expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("count", [2, 4])
def test_threads_change_no_bit(count):
    sources, before = heads(count, (1, 1, 300, 270)), num_threads()
    fused = []
    for threads in (1, 2, 5):
        set_num_threads(threads)
        with torch.inference_mode():
            fused.append(load_fusion()(sources))
    set_num_threads(None if before == num_threads() else before)
    assert torch.equal(fused[0], fused[1])
    assert torch.equal(fused[0], fused[2])


def test_a_part_is_that_of_the_whole():
    net, sources = load_fusion(), heads(2, (1, 1, 200, 180))
    part: Place = (slice(64, 130), slice(32, 101))
    with torch.inference_mode():
        whole, _ = net.explain(sources)
        cut, _ = net.explain(sources, inner=part)
    assert torch.equal(cut[..., part[0], part[1]], whole[..., part[0], part[1]])


def test_copies_give_the_image():
    net, image = load_fusion(), heads(1, (1, 1, 64, 80))[0]
    with torch.inference_mode():
        for count in (2, 3, 9):
            torch.testing.assert_close(net([image] * count), image, rtol=0, atol=1e-5)


def test_changed_weights_are_seen():
    net, sources = net_of(), heads(2, (1, 1, 40, 40))
    with torch.no_grad():
        before = net(sources)
        for parameter in net.parameters():
            parameter.mul_(1.1)
        after = net(sources)
        expected = copy.deepcopy(net).double()(sources.double())
    assert not torch.equal(before, after)
    torch.testing.assert_close(after.double(), expected, rtol=0, atol=1e-4)


def test_it_stands_back_where_torch_looks_on():
    x = torch.rand(1, 1, 16, 16)
    with torch.no_grad():
        assert fusion_kernel.can_run(x)
        assert not fusion_kernel.can_run(x.double())
        assert not fusion_kernel.can_run(x.to("meta"))
        with torch.autocast("cpu", torch.bfloat16):
            assert not fusion_kernel.can_run(x)
    assert not fusion_kernel.can_run(x)


def test_images_may_lie_in_memory_as_they_like():
    net, sources = load_fusion(), heads(3, (2, 1, 40, 70))
    turned = sources.transpose(-1, -2)
    with torch.no_grad():
        expected = net(turned.contiguous())
        assert torch.equal(net(turned), expected)
        assert torch.equal(net(turned.clone().requires_grad_()), expected)
        assert torch.equal(net([x[..., ::2] for x in turned.repeat_interleave(2, -1)]), expected)


@pytest.mark.parametrize("shape", [(1, 1, 1500, 64), (3, 1, 700, 45)])
@pytest.mark.parametrize("on_disk", [False, True])
def test_slabs_change_no_bit(shape, on_disk, monkeypatch):
    net, sources, scratch = load_fusion(), list(heads(3, shape)), Scratch()
    if on_disk:
        monkeypatch.setattr(scratches, "IN_MEMORY", 0)
        sources = [scratch.keep(x, k) for k, x in enumerate(sources)]
        assert scratch.on_disk
    with torch.inference_mode():
        whole, _ = net.explain(sources, volume=True, scratch=scratch)
        monkeypatch.setattr(fusion_net, "_LARGE", 1 << 12)
        slabs, _ = net.explain(sources, volume=True, scratch=scratch)
        assert torch.equal(slabs, whole)
        monkeypatch.setattr(fusion_net, "MARGIN", 32)
        if shape[2] > 1000:
            assert not torch.equal(net.explain(sources, volume=True)[0], whole)  # the test would see a seam
