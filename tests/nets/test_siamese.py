"""The Siamese net against its definition in float64 NumPy, and its own laws."""

from __future__ import annotations

import re

import numpy as np
import pytest
import torch
from torch import Tensor

from nmfuse.nets import Siamese, load, multiply_adds
from nmfuse.nets.siamese import PATCH, STRIDE

VARIANTS = ["lite", "full"]
SIZES = [(16, 16), (17, 16), (16, 17), (18, 19), (33, 40), (31, 22)]
CHANNELS = {"lite": 64, "full": 256}


pytestmark = pytest.mark.usefixtures("one_thread")


def make_net(variant: str = "lite", seed: int = 0, dtype: torch.dtype = torch.float64) -> Siamese:
    """A net with random weights and biases: at zero, where training starts them, a bias could hide a mistake."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        net = Siamese(variant)
        with torch.no_grad():
            for name, parameter in net.named_parameters():
                if name.endswith("bias"):
                    parameter.uniform_(-0.2, 0.2)
                else:
                    parameter.mul_(3)  # scores far from 0.5
    return net.to(dtype).requires_grad_(False)


def pair(height: int, width: int, count: int = 1, seed: int = 0, dtype: type = np.float64) -> tuple[Tensor, Tensor]:
    rng = np.random.default_rng(seed)
    a, b = (torch.from_numpy(rng.random((count, 1, height, width)).astype(dtype)) for _ in range(2))
    return a, b


# ---- The definition, by hand: one image, plain loops over a kernel's elements, no torch.


def convolve(x: np.ndarray, weight: np.ndarray, bias: np.ndarray) -> np.ndarray:
    """Correlation with zeros around: (C, H, W), (K, C, 3, 3), (K,) -> (K, H, W)."""
    padded = np.pad(x, ((0, 0), (1, 1), (1, 1)))
    rows, cols = x.shape[1:]
    windows = [padded[:, r : r + rows, c : c + cols] for r in range(3) for c in range(3)]
    flat = weight.reshape(*weight.shape[:2], 9)
    return sum(np.einsum("kc,chw->khw", flat[..., i], windows[i]) for i in range(9)) + bias[:, None, None]


def relu(x: np.ndarray) -> np.ndarray:
    return np.maximum(x, 0)


def features_by_hand(net: Siamese, image: np.ndarray) -> np.ndarray:
    """Branch of the published net: (H, W) -> (C, ceil(H/2), ceil(W/2))."""
    w = {name: value.double().numpy() for name, value in net.state_dict().items()}
    x = relu(convolve(image[None], w["conv1.weight"], w["conv1.bias"]))
    x = relu(convolve(x, w["conv2.weight"], w["conv2.bias"]))
    x = np.pad(x, ((0, 0), (0, x.shape[1] % 2), (0, x.shape[2] % 2)))  # a zero row or column where the size is odd
    channels, rows, cols = x.shape
    x = x.reshape(channels, rows // 2, 2, cols // 2, 2).max((2, 4))
    if net.variant == "full":
        return relu(convolve(x, w["conv3.weight"], w["conv3.bias"]))
    depthwise = np.stack(
        [
            convolve(plane[None], kernel[None], bias[None])[0]
            for plane, kernel, bias in zip(x, w["conv3.0.weight"], w["conv3.0.bias"], strict=True)
        ]
    )
    return relu(np.einsum("kc,chw->khw", w["conv3.1.weight"][..., 0, 0], depthwise) + w["conv3.1.bias"][:, None, None])


def logits_by_hand(net: Siamese, features_a: np.ndarray, features_b: np.ndarray) -> np.ndarray:
    """Fully connected layer on each concatenated 8 x 8 window of half-resolution features: (2, h - 7, w - 7)."""
    both = np.concatenate([features_a, features_b])
    weight = net.head.weight.double().numpy()  # (2, 2C, 8, 8)
    windows = np.lib.stride_tricks.sliding_window_view(both, (8, 8), axis=(1, 2))  # (2C, h - 7, w - 7, 8, 8)
    return np.einsum("kcyx,chwyx->khw", weight, windows)


def score_by_hand(net: Siamese, a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Softmax, class 1, of the mean of the logits of (a, b) and those of (b, a) with the classes swapped."""
    fa, fb = features_by_hand(net, a), features_by_hand(net, b)
    logits = (logits_by_hand(net, fa, fb) + logits_by_hand(net, fb, fa)[::-1]) / 2
    exp = np.exp(logits - logits.max(0))
    return exp[1] / exp.sum(0)


@pytest.mark.parametrize("size", SIZES, ids=str)
@pytest.mark.parametrize("variant", VARIANTS)
def test_matches_the_definition(variant, size):
    # The 16 x 16 image is the published net on one patch. On larger ones a score is that of the dense definition, in
    # which the convolutions see the pixels around a block; see test_a_score_depends_on_its_block_and_a_ring_of_4.
    net = make_net(variant)
    a, b = pair(*size)
    expected = score_by_hand(net, a[0, 0].numpy(), b[0, 0].numpy())
    assert np.ptp([*expected.flat, 0.5]) > 0.01  # not all alike
    np.testing.assert_allclose(net.score_map(a, b)[0].numpy(), expected, rtol=0, atol=1e-11)
    np.testing.assert_allclose(
        net.features(a)[0].numpy(), features_by_hand(net, a[0, 0].numpy()), rtol=1e-11, atol=1e-12
    )


@pytest.mark.parametrize("variant", VARIANTS)
def test_float32_is_near_the_definition(variant):
    net = make_net(variant, dtype=torch.float32)
    a, b = pair(18, 21, dtype=np.float32)
    got = net.score_map(a, b)
    assert got.dtype == torch.float32
    expected = score_by_hand(net, a[0, 0].double().numpy(), b[0, 0].double().numpy())
    np.testing.assert_allclose(got[0].numpy(), expected, rtol=0, atol=1e-4)  # sums of some 10,000 products


@pytest.mark.parametrize("size", SIZES, ids=str)
@pytest.mark.parametrize("variant", VARIANTS)
def test_shapes(variant, size):
    net = make_net(variant, dtype=torch.float32)
    a, b = pair(*size, count=3, dtype=np.float32)
    half = tuple(-(-n // 2) for n in size)
    grid = tuple(n - 7 for n in half)
    assert net.features(a).shape == (3, CHANNELS[variant], *half)
    assert net(a, b).shape == (3, 2, *grid)
    assert net.score_map(a, b).shape == (3, *grid)


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_score_depends_on_its_block_and_a_ring_of_4(variant):
    # Cutting a block out puts zeros around it where the dense map has pixels, so a 16 x 16 cut-out has another score.
    # Three convolutions, the last at half resolution, reach 1 + 1 + 2 = 4 pixels beyond a block: with that ring the
    # dense map and the cut-out agree.
    net = make_net(variant)
    a, b = pair(44, 53)
    dense = net.score_map(a, b)[0]
    for j, i in [(2, 2), (5, 7), (10, 16)]:
        y, x = STRIDE * j, STRIDE * i

        def cut(image: Tensor, ring: int, y: int = y, x: int = x) -> Tensor:
            return image[..., y - ring : y + PATCH + ring, x - ring : x + PATCH + ring]

        with_ring = net.score_map(cut(a, 4), cut(b, 4))[0]
        assert with_ring.shape == (5, 5)
        assert float(with_ring[2, 2]) == pytest.approx(float(dense[j, i]), abs=1e-12)
        for ring in (0, 2):
            assert abs(float(net.score_map(cut(a, ring), cut(b, ring))[0, ring // 2, ring // 2] - dense[j, i])) > 1e-6

        changed = a.clone()
        changed[..., :, : x - 4] = 0
        changed[..., :, x + PATCH + 4 :] = 0
        changed[..., : y - 4, :] = 0
        changed[..., y + PATCH + 4 :, :] = 0
        assert float(net.score_map(changed, b)[0, j, i]) == pytest.approx(float(dense[j, i]), abs=1e-12)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("variant", VARIANTS)
def test_swapping_the_images_gives_exactly_the_rest(variant, dtype):
    net = make_net(variant, dtype=dtype)
    a, b = (x.to(dtype) for x in pair(37, 48, count=2))
    forward, backward = net.score_map(a, b), net.score_map(b, a)
    assert (forward > 0.5).any()
    assert (forward < 0.5).any()
    assert torch.equal(backward, 1 - forward)
    assert torch.equal(forward, 1 - backward)
    assert torch.equal(net(b, a), net(a, b).flip(1))


@pytest.mark.parametrize("variant", VARIANTS)
def test_alike_images_score_a_half(variant):
    a, _ = pair(24, 30)
    assert (make_net(variant).score_map(a, a) == 0.5).all()


@pytest.mark.parametrize("variant", VARIANTS)
def test_score_map_is_the_softmax_of_forward(variant):
    net = make_net(variant)
    a, b = pair(20, 26, count=2)
    logits = net(a, b)
    torch.testing.assert_close(net.score_map(a, b), logits.softmax(1)[:, 1], rtol=0, atol=1e-13)
    assert (logits.sum(1) == 0).all()


@pytest.mark.parametrize("size", SIZES, ids=str)
@pytest.mark.parametrize("variant", VARIANTS)
def test_the_difference_of_two_responses_is_that_of_the_logits(variant, size):
    net = make_net(variant)
    a, b = pair(*size, count=2)
    features = net.features(a), net.features(b)
    response_a, response_b = (net.response(x) for x in features)
    assert response_a.shape == (2, *(-(-n // 2) - 7 for n in size))
    margin = response_a - response_b
    for i in range(2):
        x, y = (feature[i].numpy() for feature in features)
        forth, back = logits_by_hand(net, x, y), logits_by_hand(net, y, x)
        expected = ((forth[1] - forth[0]) + (back[0] - back[1])) / 2
        np.testing.assert_allclose(margin[i].numpy(), expected, rtol=0, atol=1e-11)
    logits = net(a, b)
    torch.testing.assert_close(margin, logits[:, 1] - logits[:, 0], rtol=0, atol=1e-13)
    torch.testing.assert_close(net.score_map(a, b), margin.sigmoid(), rtol=0, atol=1e-13)


@pytest.mark.parametrize("variant", VARIANTS)
def test_features_are_rectified_and_channels_last(variant):
    net = make_net(variant, dtype=torch.float32)
    x = net.features(pair(31, 34, count=2, dtype=np.float32)[0])
    assert (x >= 0).all()
    assert (x > 0).any()
    assert (x == 0).any()
    assert x.is_contiguous(memory_format=torch.channels_last)


def test_scores_do_not_depend_on_the_batch():
    net = make_net()
    a, b = pair(21, 24, count=3)
    together = net.score_map(a, b)
    for i in range(3):
        torch.testing.assert_close(together[i], net.score_map(a[i : i + 1], b[i : i + 1])[0], rtol=0, atol=1e-13)


def test_extreme_scores_are_0_and_1_and_swap_exactly():
    net = make_net()
    net.head.weight.mul_(1e4)
    a, b = pair(30, 30)
    scores = net.score_map(a, b)
    assert ((scores == 0) | (scores == 1)).any()
    assert ((scores >= 0) & (scores <= 1)).all()
    assert torch.equal(net.score_map(b, a), 1 - scores)


def test_every_parameter_is_trained():
    net = make_net(dtype=torch.float32).requires_grad_(True)
    a, b = pair(16, 16, count=8, dtype=np.float32)
    loss = torch.nn.functional.cross_entropy(net(a, b).flatten(1), torch.ones(8, dtype=torch.long))
    loss.backward()
    for name, parameter in net.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().max() > 0, name


def test_full_has_the_published_parameters():
    # 640 + 73,856 + 295,168 + 65,536; the published 435,202 count two output biases, which its code leaves out.
    assert sum(parameter.numel() for parameter in Siamese("full").parameters()) == 435_202 - 2
    shapes = {name: tuple(parameter.shape) for name, parameter in Siamese("full").named_parameters()}
    assert shapes["conv1.weight"] == (64, 1, 3, 3)
    assert shapes["conv2.weight"] == (128, 64, 3, 3)
    assert shapes["conv3.weight"] == (256, 128, 3, 3)
    assert shapes["head.weight"] == (2, 512, 8, 8)


def test_multiply_adds():
    full = 2 * (256 * (9 * 64 + 9 * 64 * 128) + 64 * 9 * 128 * 256) + 64 * 512 * 2
    lite = 2 * (256 * (9 * 16 + 9 * 16 * 32) + 64 * (9 * 32 + 32 * 64)) + 64 * 128 * 2
    assert multiply_adds("full") == full
    assert multiply_adds("lite") == lite
    for size in [(16, 16), (17, 33), (256, 256), (1024, 768)]:
        assert multiply_adds("full", *size) >= 10 * multiply_adds("lite", *size)
    # 17 x 33 pixels are 9 x 17 cells at half resolution and 2 x 10 scores.
    assert multiply_adds("lite", 17, 33) == (
        2 * (17 * 33 * (9 * 16 + 9 * 16 * 32) + 9 * 17 * (9 * 32 + 32 * 64)) + 2 * 10 * 64 * 128 * 2
    )


def test_starting_weights_follow_torchs_seed():
    def weights(seed: int) -> Tensor:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            net = Siamese("lite")
        assert all((value == 0).all() for name, value in net.named_parameters() if name.endswith("bias"))
        return net.conv2.weight

    assert torch.equal(weights(1), weights(1))
    assert not torch.equal(weights(1), weights(2))
    bound = (6 / (9 * 16 + 9 * 32)) ** 0.5  # Xavier
    assert 0.9 * bound < weights(1).abs().max() <= bound


@pytest.mark.parametrize("shape", [(16, 16), (1, 16, 16), (1, 3, 16, 16), (1, 1, 15, 16), (1, 1, 16, 15)], ids=str)
def test_refuses_a_bad_shape(shape):
    net, x = make_net(dtype=torch.float32), torch.zeros(shape)
    message = re.escape(f"x: has shape {shape}; expected (N, 1, H, W) with H and W >= 16")
    for call in (lambda: net.features(x), lambda: net(x, x), lambda: net.score_map(x, x)):
        with pytest.raises(ValueError, match=message):
            call()


def test_refuses_images_of_two_shapes():
    net = make_net(dtype=torch.float32)
    message = re.escape("b: has shape (1, 1, 16, 18); expected that of a, (1, 1, 16, 17)")
    for function in (net.forward, net.score_map):
        with pytest.raises(ValueError, match=message):
            function(torch.zeros(1, 1, 16, 17), torch.zeros(1, 1, 16, 18))


@pytest.mark.parametrize("variant", ["Lite", "", "large", None])
def test_refuses_another_variant(variant):
    message = re.escape(f"variant: got {variant!r}; expected 'full' or 'lite'")
    with pytest.raises(ValueError, match=message):
        Siamese(variant)
    with pytest.raises(ValueError, match=message):
        multiply_adds(variant)


# ---- The weights that come with nmfuse.


@pytest.mark.parametrize("variant", VARIANTS)
def test_shipped_weights_are_frozen_and_shared(variant):
    net = load(variant)
    assert net.variant == variant
    assert not net.training
    assert not any(parameter.requires_grad for parameter in net.parameters())
    assert load(variant) is net


def test_lite_is_the_default():
    assert load() is load("lite")


@pytest.mark.parametrize("variant", VARIANTS)
def test_shipped_weights_know_sharp_from_blurred(variant):
    # The left half of a is blurred, the right half of b.
    rng = np.random.default_rng(3)
    coarse = np.kron(rng.random((12, 12)), np.ones((8, 8)))  # 96 x 96, edges and texture
    sharp = 0.7 * coarse + 0.3 * rng.random((96, 96))
    kernel = np.exp(-(np.arange(-3, 4) ** 2) / 8)
    kernel /= kernel.sum()
    blurred = np.apply_along_axis(lambda line: np.convolve(np.pad(line, 3, "edge"), kernel, "valid"), 0, sharp)
    blurred = np.apply_along_axis(lambda line: np.convolve(np.pad(line, 3, "edge"), kernel, "valid"), 1, blurred)
    left = np.arange(96) < 48
    a, b = np.where(left, blurred, sharp), np.where(left, sharp, blurred)
    a, b = (torch.from_numpy(x.astype(np.float32))[None, None] for x in (a, b))
    scores = load(variant).score_map(a, b)[0]  # 41 x 41; column i belongs to pixels 2i to 2i + 15
    assert (scores[:, :17] < 0.5).float().mean() > 0.95
    assert (scores[:, 24:] > 0.5).float().mean() > 0.95
