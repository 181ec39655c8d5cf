"""The pipeline from end to end: properties, formats, options, bad input, and the real pairs."""

from __future__ import annotations

import itertools
import resource
from pathlib import Path

import numpy as np
import pytest
import torch
from nmfuse.fusion import Fuser

import nmfuse
from nmfuse.data import brain_phantom
from nmfuse.io import read_image
from nmfuse.nets.fusion_net import FORMAT, FusionNet
from nmfuse.nets.weights_file import write_weights

STEPS = [
    "a", "b", "a_denoised", "b_denoised", "S", "W_cnn", "P_A", "P_B", "A", "B", "share", "discriminativeness",
    "kept", "P_F", "A2", "H_A", "H_B", "W_nmf", "W", "pyramid_a", "pyramid_b", "pyramid_W", "pyramid_fused",
    "collapsed", "luminance",
]  # fmt: skip


@pytest.fixture(scope="module")
def pair() -> tuple[np.ndarray, np.ndarray]:
    phantom = brain_phantom(96)
    return tuple(np.rint(255 * x).astype(np.uint8) for x in (phantom.t2, phantom.ct))


VARIANTS = {
    "learned": Fuser(),
    "learned, sharpened": Fuser(sharpen=0.5),
    "rules": Fuser(method="paper"),
    "contrast": Fuser(pyramid="contrast"),
    "soft": Fuser(vote="soft"),
    "cnn": Fuser(weighting="cnn"),
    "nmf": Fuser(weighting="nmf"),
    "half": Fuser(weighting="half"),
    "kl": Fuser(beta=1.0),
    "two levels": Fuser(levels=2),
    "off": Fuser(denoise="off"),
    "paper": Fuser.paper(),
}


@pytest.mark.parametrize("name", VARIANTS)
def test_exchanging_the_images_changes_no_bit(name: str, pair: tuple[np.ndarray, np.ndarray]) -> None:
    a, b = pair
    fuser = VARIANTS[name]
    np.testing.assert_array_equal(fuser.fuse(a, b), fuser.fuse(b, a))


@pytest.mark.parametrize("name", [name for name in VARIANTS if name not in ("paper", "learned, sharpened")])
def test_an_image_fused_with_itself_is_itself(name: str, pair: tuple[np.ndarray, np.ndarray]) -> None:
    fused = VARIANTS[name].fuse(pair[0], pair[0])
    assert np.abs(fused.astype(int) - pair[0]).max() <= 1


@pytest.mark.parametrize("name", VARIANTS)
def test_nothing_leaves_the_sources_range_before_the_clip(name: str, pair: tuple[np.ndarray, np.ndarray]) -> None:
    floats = [(0.2 + 0.5 * x / 255).astype(np.float32) for x in pair]
    explanation = VARIANTS[name].explain(*floats)
    collapsed, sources = explanation["collapsed"], np.stack([explanation["a"], explanation["b"]])
    assert collapsed.min() >= sources.min() - 1e-6
    assert collapsed.max() <= sources.max() + 1e-6


def test_both_images_are_to_be_seen_in_the_result(pair: tuple[np.ndarray, np.ndarray]) -> None:
    phantom = brain_phantom(96, noise=False)
    fused = nmfuse.fuse(phantom.t2, phantom.ct)
    labels = {name: phantom.labels == code for code, name in enumerate(phantom.label_names)}
    bone = next(mask for name, mask in labels.items() if "skull" in name or "bone" in name)
    csf = next(mask for name, mask in labels.items() if name.lower().startswith(("csf", "ventricle")))
    assert fused[bone].mean() > 0.6 * phantom.ct[bone].mean()
    assert fused[csf].mean() > 0.6 * phantom.t2[csf].mean()


def test_explain_names_every_step_and_fuses_the_same(pair: tuple[np.ndarray, np.ndarray]) -> None:
    fuser = Fuser(method="paper")
    explanation = fuser.explain(*pair)
    assert list(explanation.steps) == STEPS
    np.testing.assert_array_equal(explanation.fused, fuser.fuse(*pair))
    assert set(explanation.seconds) >= {"hannmean", "network", "nmf", "pyramid"}
    h, w = pair[0].shape
    assert explanation["S"].shape == (h // 2 - 7, w // 2 - 7)
    assert explanation["W"].shape == (h, w)
    np.testing.assert_allclose(explanation["a"], pair[0] / 255, atol=1e-6)
    np.testing.assert_allclose(explanation["W"], (explanation["W_cnn"] + explanation["W_nmf"]) / 2, atol=1e-6)


def test_explained_maps_belong_to_the_image_they_name(pair: tuple[np.ndarray, np.ndarray]) -> None:
    fuser = Fuser(method="paper")
    forth, back = fuser.explain(*pair), fuser.explain(*pair[::-1])
    for name in ("S", "W_cnn", "W_nmf", "W"):
        np.testing.assert_allclose(forth[name], 1 - back[name], atol=1e-6)
    for one, other in (("a", "b"), ("P_A", "P_B"), ("H_A", "H_B")):
        np.testing.assert_array_equal(forth[one], back[other])
    # What is reconstructed from the named halves must be the named features, up to their balance.
    for steps in (forth, back):
        channels = steps["P_A"].shape[0]
        near = np.tensordot(steps["A"][:channels], steps["B"], axes=1)
        assert np.corrcoef(near.ravel(), steps["P_A"].ravel())[0, 1] > 0.8


def test_explain_of_the_learned_method(pair: tuple[np.ndarray, np.ndarray]) -> None:
    explanation = Fuser().explain(*pair)
    names = ["a", "b", "parts_a", "parts_b", "W_nmf", "gate_a", "gate_b", "collapsed", "luminance"]
    assert list(explanation.steps) == names
    np.testing.assert_array_equal(explanation.fused, Fuser().fuse(*pair))
    assert set(explanation.seconds) >= {"network", "post-processing", "colour"}
    h, w = pair[0].shape
    assert explanation["W_nmf"].shape == (h // 2, w // 2)
    parts = {side: explanation[f"parts_{side}"] for side in "ab"}
    assert parts["a"].shape == parts["b"].shape == (3, h // 2, w // 2)
    energy = {side: np.square(x).sum(0) for side, x in parts.items()}
    bright = np.minimum(explanation["a"], explanation["b"])[::2, ::2] > 0.2
    share = (energy["a"] / (energy["a"] + energy["b"] + 1e-9))[bright]
    assert np.corrcoef(share, explanation["W_nmf"][bright])[0, 1] > 0.9
    assert [gate.shape for gate in explanation["gate_a"]][:2] == [(h, w), (h // 2, w // 2)]
    back = Fuser().explain(*pair[::-1])
    np.testing.assert_array_equal(back["gate_a"][0], explanation["gate_b"][0])
    np.testing.assert_array_equal(back["parts_a"], parts["b"])
    np.testing.assert_allclose(back["W_nmf"], 1 - explanation["W_nmf"], atol=1e-6)


def test_a_network_that_minds_the_order_gets_it(pair: tuple[np.ndarray, np.ndarray], tmp_path: Path) -> None:
    torch.manual_seed(0)
    net = FusionNet(context=False, specific=True)
    for parameter in net.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    write_weights(tmp_path / "net.safetensors", net.state_dict(), FORMAT, {"context": "0", "specific": "1"})
    fuser = Fuser(fusion_network=tmp_path / "net.safetensors")
    floats = [x.astype(np.float32) / 255 for x in pair]
    for a, b in (floats, floats[::-1]):
        with torch.inference_mode():
            alone = net(*(torch.from_numpy(x)[None, None] for x in (a, b)))[0, 0].numpy()
        np.testing.assert_allclose(fuser.fuse(a, b), np.clip(alone, 0, 1), atol=1e-5)
    assert np.abs(fuser.fuse(*floats) - fuser.fuse(*floats[::-1])).max() > 0.01


def test_the_papers_options_choose_the_papers_method() -> None:
    assert Fuser().method == "learned"
    assert Fuser(rank=8).method == Fuser(pyramid="contrast").method == Fuser.paper().method == "paper"
    with pytest.raises(ValueError, match="rank: is an option of method='paper', and method is 'learned'"):
        Fuser(method="learned", rank=8)
    with pytest.raises(ValueError, match="method: got 'best'; expected one of learned, paper"):
        Fuser(method="best")


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float32", "float64"])
@pytest.mark.parametrize("kind", ["numpy", "torch"])
def test_kind_dtype_and_range_come_back(dtype: str, kind: str, pair: tuple[np.ndarray, np.ndarray]) -> None:
    scale = {"uint8": 1, "uint16": 16}.get(dtype, 1 / 255)
    a, b = ((x * scale).astype(dtype) for x in pair)
    if kind == "torch":
        fused = nmfuse.fuse(torch.from_numpy(a), torch.from_numpy(b))
        assert isinstance(fused, torch.Tensor)
        fused = fused.numpy()
    else:
        fused = nmfuse.fuse(a, b)
    assert fused.dtype == dtype
    assert fused.shape == a.shape
    assert min(a.min(), b.min()) <= fused.min()
    assert fused.max() <= max(a.max(), b.max())
    assert fused.max() > 0.7 * max(a.max(), b.max())


def test_an_affine_change_of_range_changes_nothing_else(pair: tuple[np.ndarray, np.ndarray]) -> None:
    floats = [x / 255 for x in pair]
    there = [x * 2000.0 - 1000.0 for x in floats]
    fused = nmfuse.fuse(*there, data_range=(-1000.0, 1000.0))
    np.testing.assert_allclose((fused + 1000) / 2000, nmfuse.fuse(*floats), atol=1e-5)


def test_layouts_of_memory_do_not_matter(pair: tuple[np.ndarray, np.ndarray]) -> None:
    expected = nmfuse.fuse(*pair)
    np.testing.assert_array_equal(nmfuse.fuse(*(np.asfortranarray(x) for x in pair)), expected)
    np.testing.assert_array_equal(nmfuse.fuse(*(x[::-1].copy()[::-1] for x in pair)), expected)
    frozen = [x.copy() for x in pair]
    for x in frozen:
        x.flags.writeable = False
    np.testing.assert_array_equal(nmfuse.fuse(*frozen), expected)


@pytest.mark.parametrize("shape", [(16, 16), (17, 16), (16, 31), (33, 50), (97, 64)])
def test_sizes(shape: tuple[int, int]) -> None:
    rng = np.random.default_rng(0)
    a, b = (rng.random(shape, np.float32) for _ in range(2))
    fused = nmfuse.fuse(a, b)
    assert fused.shape == shape
    assert np.isfinite(fused).all()


def test_a_large_image_is_fused_in_little_memory() -> None:
    """4096 x 4095: its features, whole, would take more than 10 GiB."""
    tile = brain_phantom(256)
    a, b = (np.rint(255 * np.tile(x, (16, 16))[:, 1:]).astype(np.uint8) for x in (tile.t2, tile.ct))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    fused = nmfuse.fuse(a, b)
    assert (fused.shape, fused.dtype) == ((4096, 4095), np.uint8)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 5 << 20  # KiB
    np.testing.assert_allclose(fused[1024:1280, 1023:1279], fused[2048:2304, 2047:2303], atol=1)  # no seams


def test_flat_and_black_images() -> None:
    black, grey = np.zeros((40, 40), np.uint8), np.full((40, 40), 90, np.uint8)
    assert (nmfuse.fuse(black, black) == 0).all()
    fused = nmfuse.fuse(black, grey)
    assert fused.min() >= 0
    assert fused.max() <= 90


def test_one_colour_source_keeps_its_hue(pair: tuple[np.ndarray, np.ndarray]) -> None:
    tint = np.stack([pair[1], pair[1] // 2, pair[1] // 4], axis=-1)
    fused = nmfuse.fuse(pair[0], tint)
    assert fused.shape == tint.shape
    inside = (pair[1] > 60) & (fused.max(-1) < 255) & (fused.min(-1) > 0)
    u, v = ((x[..., 0] - 0.587 * x[..., 1] - 0.299 * x[..., 0] - 0.114 * x[..., 2]) for x in (fused * 1.0, tint * 1.0))
    np.testing.assert_allclose(u[inside], v[inside], atol=2)
    as_tensor = nmfuse.fuse(torch.from_numpy(pair[0]), torch.from_numpy(tint).movedim(-1, 0))
    np.testing.assert_array_equal(as_tensor.movedim(0, -1).numpy(), fused)


def test_two_colour_sources(pair: tuple[np.ndarray, np.ndarray]) -> None:
    red = np.stack([pair[0], pair[0] * 0, pair[0] * 0], axis=-1)
    grey = np.repeat(pair[1][..., None], 3, axis=-1)
    np.testing.assert_array_equal(nmfuse.fuse(red, grey), nmfuse.fuse(grey, red))
    np.testing.assert_array_equal(nmfuse.fuse(grey, grey), grey)


def test_post_processing(pair: tuple[np.ndarray, np.ndarray]) -> None:
    plain, sharp, smooth = (
        nmfuse.fuse(*pair, **options).astype(float) for options in ({}, {"sharpen": 0.8}, {"smooth": True})
    )
    roughness = [np.abs(np.diff(x, axis=0)).mean() for x in (smooth, plain, sharp)]
    assert roughness[0] < roughness[1] < roughness[2]


BAD = {
    "different sizes": (lambda a, b: (a, b[:-1]), ValueError, "register and resample"),
    "too small": (lambda a, b: (a[:15, :15], b[:15, :15]), ValueError, "at least 16 x 16"),
    "nan": (lambda a, b: (np.where(a > 9, np.nan, a / 255.0), b / 255.0), ValueError, "a: contains NaN or inf"),
    "empty": (lambda a, b: (a[:0], b[:0]), ValueError, "empty"),
    "dtype": (lambda a, b: (a.astype(np.int32), b.astype(np.int32)), TypeError, "dtype int32 is not supported"),
    "two dtypes": (lambda a, b: (a, b / 255.0), TypeError, "b: dtype float64, but a is uint8"),
    "two kinds": (lambda a, b: (a, torch.from_numpy(b)), TypeError, "two of the same kind"),
    "a list": (lambda a, b: (a.tolist(), b), TypeError, "a: got list"),
    "four channels": (lambda a, b: (np.repeat(a[..., None], 4, -1), b), ValueError, r"expected \(H, W\)"),
    "a batch": (lambda a, b: (a[None, None], b[None, None]), ValueError, "one pair at a time"),
    "masked": (lambda a, b: (np.ma.masked_less(a, 5), b), TypeError, "MaskedArray"),
}  # fmt: skip


@pytest.mark.parametrize("what", BAD)
def test_bad_pairs_get_a_sentence(what: str, pair: tuple[np.ndarray, np.ndarray]) -> None:
    spoil, error, message = BAD[what]
    with pytest.raises(error, match=message):
        nmfuse.fuse(*spoil(*pair))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"pyramid": "ratio"}, "pyramid: got 'ratio'; expected one of laplacian, contrast"),
        ({"rank": 0}, "rank: got 0; expected an int of at least 1"),
        ({"levels": 0}, "levels: got 0"),
        ({"hannmean_size": 4}, "hannmean_size: got 4; expected an odd int"),
        ({"epsilon": 0.0}, "epsilon: got 0.0; expected a positive"),
        ({"t_top": float("nan")}, "t_top: got nan"),
        ({"sharpen": -1}, "sharpen: got -1"),
    ],
)
def test_bad_options_are_refused_at_once(options: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Fuser(**options)


def test_a_wrong_range_is_refused(pair: tuple[np.ndarray, np.ndarray]) -> None:
    with pytest.raises(ValueError, match=r"data_range: got .* but the images span"):
        nmfuse.fuse(*pair, data_range=(0, 100))
    with pytest.raises(ValueError, match="low < high"):
        nmfuse.fuse(*pair, data_range=(5, 5))


@pytest.mark.parametrize("number", range(1, 13))
def test_real_mri_and_ct(number: int, shared_dir: Path) -> None:
    folder = shared_dir / "data" / "pairs" / "mri_ct"
    mri, ct = (read_image(folder / f"{number:02d}_{side}.png") for side in "AB")
    fused = nmfuse.fuse(mri, ct)
    assert fused.dtype == np.uint8
    assert fused.shape == mri.shape
    np.testing.assert_array_equal(fused, nmfuse.fuse(ct, mri))
    values, average = (
        nmfuse.metrics.evaluate(x, [mri, ct], metrics=["Q_abf", "VIF"])
        for x in (fused, ((mri.astype(int) + ct) // 2).astype(np.uint8))
    )
    assert values["Q_abf"] > average["Q_abf"] + 0.1
    assert values["VIF"] > average["VIF"]


@pytest.mark.parametrize(
    ("kind", "number"),
    list(itertools.product(["mri_pet", "mri_spect", "mri_t1_t2", "ir_vis", "multi_focus"], [1, 2])),
)
def test_real_pairs_of_every_kind(kind: str, number: int, shared_dir: Path) -> None:
    folder = shared_dir / "data" / "pairs" / kind
    a, b = (read_image(folder / f"{number:02d}_{side}.png") for side in "AB")
    fused = nmfuse.fuse(a, b)
    assert fused.shape == max(a.shape, b.shape, key=len)
    assert fused.std() > 0.5 * min(a.std(), b.std())
