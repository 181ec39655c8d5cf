"""More than two sources, volumes, batches and gradients."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from scipy import ndimage

import nmfuse
from nmfuse.data import brain_phantom
from nmfuse.metrics import evaluate

PHANTOM = brain_phantom(96)
SOURCES = [PHANTOM.t1, PHANTOM.t2, PHANTOM.ct, PHANTOM.pet]


def focus_stack(depths: int, seed: int = 0) -> tuple[np.ndarray, list[np.ndarray]]:
    """Return a textured scene on a slope, and pictures of it, each sharp at one depth."""
    rng = np.random.default_rng(seed)
    texture = sum(ndimage.gaussian_filter(rng.standard_normal((128, 160)), s) * s for s in (1, 2, 4, 8))
    scene = np.clip(0.5 + 0.25 * texture / texture.std(), 0, 1)
    depth = np.linspace(0, depths, scene.shape[1])[None] + 0 * scene
    levels = np.stack([scene, *(ndimage.gaussian_filter(scene, 0.7 * k) for k in range(1, 2 * depths))])
    rows, columns = np.indices(scene.shape)
    pictures = []
    for k in range(depths):
        blur = np.clip(1.5 * np.abs(depth - k - 0.5) - 0.75, 0, len(levels) - 1.001)
        low = blur.astype(int)
        share = blur - low
        picture = levels[low, rows, columns] * (1 - share) + levels[low + 1, rows, columns] * share
        pictures.append(np.rint(255 * picture).astype(np.uint8))
    return np.rint(255 * scene).astype(np.uint8), pictures


@pytest.mark.parametrize("method", ["learned", "paper"])
@pytest.mark.parametrize("count", [3, 7])
def test_copies_of_an_image_are_that_image(method: str, count: int) -> None:
    fused = nmfuse.fuse(*[PHANTOM.t2] * count, method=method)
    np.testing.assert_allclose(fused, PHANTOM.t2, atol=0.5 / 255)


def test_the_picture_does_not_brighten_with_the_number_of_sources() -> None:
    """Noisy copies, which nothing tells apart: as bright for nine as for two, and not noisier."""
    rng = np.random.default_rng(0)
    clean = 0.2 + 0.5 * PHANTOM.t2
    noisy = [np.clip(clean + rng.normal(0, 0.03, clean.shape), 0, 1).astype(np.float32) for _ in range(9)]
    means, noises = [], []
    for count in (2, 4, 9):
        fused = nmfuse.fuse(*noisy[:count])
        means.append(float(fused.mean() - clean.mean()))
        noises.append(float((fused - ndimage.gaussian_filter(fused, 1)).std()))
    assert max(np.abs(means)) < 0.01
    assert noises[2] <= 1.05 * noises[0]


def test_a_focus_stack_beats_a_fold_of_pairs() -> None:
    better = []
    for seed in range(3):
        scene, pictures = focus_stack(8, seed)
        together = nmfuse.fuse(*pictures)
        folded = pictures[0]
        for picture in pictures[1:]:
            folded = nmfuse.fuse(folded, picture)
        quality = [evaluate(fused, pictures, metrics=["Q_abf"])["Q_abf"] for fused in (together, folded)]
        assert quality[0] > quality[1]
        error = [np.sqrt(np.mean((fused.astype(float) - scene) ** 2)) for fused in (together, folded)]
        better.append(error[0] / error[1])
    assert np.mean(better) < 1


@pytest.mark.parametrize("method", ["learned", "laplacian", "mertens"])
def test_every_source_is_to_be_seen(method: str) -> None:
    """A spot that one of four sources shows is in the fused image."""
    for k in range(4):
        with_spot = [x.copy() for x in SOURCES]
        y, x = 48, 60
        rows, columns = np.indices(PHANTOM.t1.shape)
        spot = 0.35 * np.exp(-((rows - y) ** 2 + (columns - x) ** 2) / (2 * 3.0**2))
        sign = -1 if with_spot[k][y, x] > 0.5 else 1
        with_spot[k] = np.clip(with_spot[k] + sign * spot, 0, 1).astype(np.float32)
        fused, without = (nmfuse.fuse(*s, method=method) for s in (with_spot, SOURCES))
        assert sign * ((fused - without) * spot).sum() / (spot**2).sum() > 0.05


def test_volumes_and_their_slices() -> None:
    heads = [brain_phantom(64, seed) for seed in range(5)]
    a, b = (np.stack([getattr(head, name) for head in heads]) for name in ("t2", "ct"))
    for method in ("learned", "paper", "pca"):
        fused = nmfuse.fuse(a, b, spatial=3, method=method)
        assert (fused.shape, fused.dtype) == (a.shape, a.dtype)
        np.testing.assert_array_equal(fused, nmfuse.fuse(b, a, spatial=3, method=method))
        across = nmfuse.fuse(np.moveaxis(a, 0, 2), np.moveaxis(b, 0, 2), spatial=3, slice_axis=2, method=method)
        np.testing.assert_array_equal(np.moveaxis(across, 2, 0), fused)
    colour = np.stack([b, b / 2, b / 3], axis=-1)
    assert nmfuse.fuse(a, colour, spatial=3).shape == colour.shape
    tensors = [torch.from_numpy(a), torch.from_numpy(np.ascontiguousarray(np.moveaxis(colour, -1, 0)))]
    np.testing.assert_allclose(
        nmfuse.fuse(*tensors, spatial=3).movedim(0, -1).numpy(), nmfuse.fuse(a, colour, spatial=3), atol=1e-5
    )


@pytest.mark.parametrize("method", ["learned", "paper"])
def test_a_volume_of_one_slice_is_that_slice(method: str) -> None:
    image = nmfuse.fuse(PHANTOM.t2, PHANTOM.ct, method=method)
    volume = nmfuse.fuse(PHANTOM.t2[None], PHANTOM.ct[None], spatial=3, method=method)
    np.testing.assert_allclose(volume[0], image, atol=1e-4 if method == "learned" else 0.02)


def test_slices_of_a_volume_share_what_the_network_knows() -> None:
    """A slice is fused otherwise beside others than alone, and alike wherever it stands."""
    heads = [brain_phantom(64, seed) for seed in range(4)]
    a, b = (np.stack([getattr(head, name) for head in heads]) for name in ("t2", "ct"))
    volume = nmfuse.fuse(a, b, spatial=3)
    backwards = nmfuse.fuse(a[::-1].copy(), b[::-1].copy(), spatial=3)
    np.testing.assert_allclose(backwards[::-1], volume, atol=5e-3)
    alone = nmfuse.fuse(a[0], b[0])
    assert np.abs(volume[0] - alone).max() > 1e-3


def test_explain_of_a_volume() -> None:
    a, b = (np.stack([x, x]) for x in (PHANTOM.t2, PHANTOM.ct))
    learned = nmfuse.Fuser().explain(a, b, spatial=3)
    assert learned["gates"][0].shape == (2, 2, 96, 96)
    assert learned["context"].shape == (2, 2, 48, 48)
    assert learned["parts"].shape == (2, 3, 2, 48, 48)
    paper = nmfuse.Fuser("paper").explain(a, b, spatial=3)
    assert paper["W"].shape == paper["W_cnn"].shape == paper["W_nmf"].shape == (2, 2, 96, 96)
    assert paper["P"].shape == (2, 64, 2, 48, 48)


@pytest.mark.parametrize("method", ["learned", "paper", "average"])
@pytest.mark.parametrize(("channels", "dtype"), [(1, "float32"), (3, "uint8"), (1, "uint16")])
def test_a_batch_is_its_sets(method: str, channels: int, dtype: str) -> None:
    rng = np.random.default_rng(0)
    sets = rng.random((3, 3, channels, 40, 36))
    scale = {"uint8": 255, "uint16": 65535}.get(dtype, 1)
    sets = (sets * scale).astype(dtype)
    fused = nmfuse.Fuser(method).fuse_batch(sets)
    assert (fused.shape, fused.dtype) == ((3, channels, 40, 36), np.dtype(dtype))
    for one, got in zip(sets, fused, strict=True):
        expected = nmfuse.Fuser(method).fuse(*(torch.from_numpy(x) for x in one))
        expected = expected.reshape(got.shape).numpy()
        np.testing.assert_allclose(got.astype(float), expected.astype(float), atol=1e-5 * scale + (dtype != "float32"))
    with pytest.raises(
        ValueError, match=r"sources: got ndarray of shape \(3, 40, 36\); expected an array \(N, S, C, H, W\)"
    ):
        nmfuse.Fuser().fuse_batch(sets[0, :, 0])


@pytest.mark.parametrize("method", ["learned", "paper"])
def test_gradients_flow_to_every_source(method: str) -> None:
    sources = [torch.from_numpy(x[20:60, 20:70]).clone().requires_grad_() for x in SOURCES[:3]]
    fused = nmfuse.fuse(*sources, method=method)
    assert fused.requires_grad
    plain = nmfuse.fuse(*(x.detach() for x in sources), method=method)
    torch.testing.assert_close(fused.detach(), plain, rtol=0, atol=1e-5)
    fused.square().sum().backward()
    for x in sources:
        assert x.grad is not None
        assert x.grad.isfinite().all()
        assert x.grad.abs().max() > 0.01
    assert not nmfuse.fuse(*(x.detach() for x in sources), method=method).requires_grad
    with torch.no_grad():
        assert not nmfuse.fuse(*sources, method=method).requires_grad


def test_a_gradient_is_a_difference() -> None:
    """With colour and a window in between, by central differences of the sum, in float64 sources."""
    rng = np.random.default_rng(1)
    a, b = (torch.from_numpy(rng.random((3, 24, 24)) * 100) for _ in range(2))
    a.requires_grad_()
    weights = torch.from_numpy(rng.random((3, 24, 24)))

    def value(x: torch.Tensor) -> torch.Tensor:
        return (nmfuse.fuse(x, b, data_range=(0, 100), method="paper", weighting="half") * weights).sum()

    (gradient,) = torch.autograd.grad(value(a), a)
    direction = torch.from_numpy(rng.standard_normal((3, 24, 24)))
    step = 1e-2
    with torch.no_grad():
        difference = (value(a + step * direction) - value(a - step * direction)) / (2 * step)
    assert float((gradient * direction).sum()) == pytest.approx(float(difference), rel=0.05)


def test_methods_without_gradients_say_so() -> None:
    x = torch.from_numpy(PHANTOM.t1).requires_grad_()
    with pytest.raises(TypeError, match=r"require grad, which Pca does not record; pass x\.detach\(\)"):
        nmfuse.fuse(x, torch.from_numpy(PHANTOM.t2), method="pca")


@pytest.mark.parametrize("kind", ["mri_t1_t2", "multi_focus"])
def test_a_real_pair_and_its_average(kind: str, shared_dir: Path) -> None:
    """A third source that says nothing new takes nothing away: both images are still told of."""
    a, b = (nmfuse.io.read_image(shared_dir / "data" / "pairs" / kind / f"01_{s}.png").pixels for s in "AB")
    a, b = (x if x.ndim == 2 else x.mean(-1).astype(np.uint8) for x in (a, b))
    between = ((a.astype(int) + b) // 2).astype(np.uint8)
    two, three = nmfuse.fuse(a, b), nmfuse.fuse(a, b, between)
    quality = [evaluate(fused, [a, b], metrics=["Q_abf"])["Q_abf"] for fused in (two, three, between)]
    assert quality[1] > quality[0] - 0.15
    assert quality[1] > quality[2]


def test_a_batch_says_what_it_cannot_take() -> None:
    batch = np.random.default_rng(0).random((2, 2, 1, 32, 32), np.float32)
    batch[0, 0, 0, 3, 3] = np.nan
    with pytest.raises(ValueError, match="sources: contains NaN or inf, which a batch cannot leave out"):
        nmfuse.Fuser().fuse_batch(batch)
    with pytest.raises(ValueError, match="sources: got MaskedArray of shape"):
        nmfuse.Fuser().fuse_batch(np.ma.masked_invalid(batch))
    with pytest.raises(TypeError, match="sources: dtype complex64 is not supported"):
        nmfuse.Fuser().fuse_batch(np.ones((2, 2, 1, 32, 32), np.complex64))
