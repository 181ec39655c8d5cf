"""The front door: properties, formats, any number of sources, options, bad input, and the real pairs."""

from __future__ import annotations

import itertools
import resource
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import nmfuse
from nmfuse import Fuser
from nmfuse.data import brain_phantom
from nmfuse.io import read_image
from nmfuse.methods import paper

STEPS = [
    "sources", "denoised", "S", "W_cnn", "P", "A", "share", "H", "W_nmf", "B", "discriminativeness", "kept", "P_F",
    "A2", "W", "pyramids", "pyramid_W", "pyramid_fused", "collapsed", "luminance", "provenance",
    "conflict",
]  # fmt: skip


@pytest.fixture(scope="module")
def pair() -> tuple[np.ndarray, np.ndarray]:
    phantom = brain_phantom(96)
    return tuple(np.rint(255 * x).astype(np.uint8) for x in (phantom.t2, phantom.ct))


VARIANTS = {
    "learned": Fuser(),
    "learned, sharpened": Fuser(sharpen=0.5),
    "rules": Fuser("paper"),
    "contrast": Fuser("paper", pyramid="contrast"),
    "soft": Fuser("paper", vote="soft"),
    "cnn": Fuser("paper", weighting="cnn"),
    "nmf": Fuser("paper", weighting="nmf"),
    "half": Fuser("paper", weighting="half"),
    "kl": Fuser("paper", beta=1.0),
    "two levels": Fuser("paper", levels=2),
    "off": Fuser("paper", denoise="off"),
    "background and outliers": Fuser("paper", background=True, outliers=3.0),
    "paper": Fuser("paper-letter"),
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
    collapsed, sources = explanation["collapsed"], explanation["sources"]
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
    fuser = Fuser("paper")
    explanation = fuser.explain(*pair)
    assert list(explanation.steps) == STEPS
    np.testing.assert_array_equal(explanation.fused, fuser.fuse(*pair))
    assert set(explanation.seconds) >= {"hannmean", "network", "nmf", "pyramid"}
    h, w = pair[0].shape
    assert explanation["S"].shape == (2, h // 2 - 7, w // 2 - 7)
    assert explanation["W"].shape == (2, h, w)
    np.testing.assert_allclose(explanation["sources"], np.stack(pair) / 255, atol=1e-6)
    np.testing.assert_allclose(explanation["W"], (explanation["W_cnn"] + explanation["W_nmf"]) / 2, atol=1e-6)
    np.testing.assert_allclose(explanation["W"].sum(0), 1, atol=1e-5)


@pytest.mark.parametrize("method", ["learned", "paper"])
def test_steps_belong_to_the_source_they_stand_at(method: str) -> None:
    """Whatever the order of the sources, a step has the values of a source at that source's place."""
    phantom = brain_phantom(64)
    sources = [phantom.ct, phantom.t1, phantom.t2]
    forth = Fuser(method).explain(*sources)
    order = [2, 0, 1]
    back = Fuser(method).explain(*(sources[k] for k in order))
    np.testing.assert_array_equal(forth.fused, back.fused)
    np.testing.assert_array_equal(forth["sources"], np.stack(sources))
    of_source = {
        "learned": ("sources", "parts", "context"),
        "paper": ("sources", "denoised", "S", "W_cnn", "P", "A", "H", "W_nmf", "W"),
    }[method]
    for name in of_source:
        np.testing.assert_array_equal(forth[name][order], back[name])
    for level, other in zip(*(e["gates" if method == "learned" else "pyramids"] for e in (forth, back)), strict=True):
        np.testing.assert_array_equal(level[order], other)


def test_what_is_reconstructed_from_a_sources_bases_is_its_features(pair: tuple[np.ndarray, np.ndarray]) -> None:
    for sources in (pair, pair[::-1]):
        steps = Fuser("paper").explain(*sources)
        for bases, features in zip(steps["A"], steps["P"], strict=True):
            near = np.tensordot(bases, steps["B"], axes=1)
            assert np.corrcoef(near.ravel(), features.ravel())[0, 1] > 0.8  # up to their balance


def test_explain_of_the_learned_method(pair: tuple[np.ndarray, np.ndarray]) -> None:
    explanation = Fuser().explain(*pair)
    assert list(explanation.steps) == [
        "sources", "parts", "context", "gates", "collapsed", "luminance", "provenance", "conflict",
    ]  # fmt: skip
    np.testing.assert_array_equal(explanation.fused, Fuser().fuse(*pair))
    assert set(explanation.seconds) >= {"network", "post-processing", "colour"}
    h, w = pair[0].shape
    assert explanation["context"].shape == (2, h // 2, w // 2)
    assert explanation["parts"].shape == (2, 3, h // 2, w // 2)
    energy = np.square(explanation["parts"]).sum(1)
    bright = explanation["sources"].min(0)[::2, ::2] > 0.2
    share = (energy[0] / (energy.sum(0) + 1e-9))[bright]
    assert np.corrcoef(share, explanation["context"][0][bright])[0, 1] > 0.9
    assert [gates.shape for gates in explanation["gates"]][:2] == [(2, h, w), (2, h // 2, w // 2)]
    assert len(explanation["gates"]) == 6


def test_an_option_belongs_to_its_method() -> None:
    assert Fuser().method == "learned"
    assert Fuser("paper", rank=8) == Fuser("paper", rank=8) != Fuser("paper")
    expected = "rank: is an option of method='paper' or 'paper-letter'; 'learned' has hannmean_size, sharpen, smooth, "
    with pytest.raises(ValueError, match=expected):
        Fuser(rank=8)
    with pytest.raises(ValueError, match="wavelets: 'pca' has no options"):
        Fuser("pca", wavelets="db2")
    with pytest.raises(ValueError, match="method: got 'best'; expected one of learned, learned-all, paper"):
        Fuser("best")
    with pytest.raises(ValueError, match="levels: got 0"):
        Fuser("laplacian", levels=0)


def test_old_names_name_the_new_ones() -> None:
    with pytest.raises(AttributeError, match=r"Fuser\.paper: is Fuser\(method='paper-letter'\) now"):
        Fuser.paper()
    with pytest.raises(AttributeError, match=r"nmfuse\.baselines: is nmfuse\.methods; call nmfuse\.fuse"):
        nmfuse.baselines  # noqa: B018
    with pytest.raises(AttributeError, match=r"nmfuse\.fusion: is nmfuse\.fuse, nmfuse\.Fuser"):
        nmfuse.fusion  # noqa: B018


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float32", "float64"])
@pytest.mark.parametrize("kind", ["numpy", "torch"])
def test_kind_dtype_and_range_come_back(dtype: str, kind: str, pair: tuple[np.ndarray, np.ndarray]) -> None:
    scale = {"uint8": 1, "uint16": 257}.get(dtype, 1 / 255)
    a, b = ((x.astype(float) * scale).astype(dtype) for x in pair)
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
    "inf": (lambda a, b: (np.where(a > 9, np.inf, a / 255.0), b / 255.0), ValueError, r"sources\[0\]: contains inf"),
    "empty": (lambda a, b: (a[:0], b[:0]), ValueError, "empty"),
    "dtype": (lambda a, b: (a.astype(np.int64), b), TypeError, "dtype int64 is not supported"),
    "two ranges": (lambda a, b: (a, b / 255.0), ValueError, r"window: not given, and the images' ranges differ"),
    "two kinds": (lambda a, b: (a, torch.from_numpy(b)), TypeError, "all of the same kind"),
    "a list": (lambda a, b: (a.tolist(), b), TypeError, r"sources\[0\]: got list"),
    "five channels": (lambda a, b: (np.repeat(a[..., None], 5, -1), b), ValueError, r"expected \(H, W\)"),
    "a batch": (lambda a, b: (a[None, None], b[None, None]), ValueError, "axis=0, a volume spatial=3"),
    "one image": (lambda a, _: (a,), ValueError, "got one array of shape"),
    "one in a list": (lambda a, _: ([a],), ValueError, "sources: got 1; expected two or more"),
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
        ({"outliers": 0.0}, "outliers: got 0.0; expected a positive"),
    ],
)
def test_bad_options_are_refused_at_once(options: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Fuser("paper", **options)


def test_a_wrong_range_is_refused(pair: tuple[np.ndarray, np.ndarray]) -> None:
    with pytest.raises(ValueError, match=r"data_range: got .* but the images span"):
        nmfuse.fuse(*pair, data_range=(0, 100))
    with pytest.raises(ValueError, match="low < high"):
        nmfuse.fuse(*pair, data_range=(5, 5))
    with pytest.raises(ValueError, match="window, data_range: got both"):
        nmfuse.fuse(*pair, data_range=(0, 255), window="auto")


@pytest.mark.parametrize("number", range(1, 13))
def test_real_mri_and_ct(number: int, shared_dir: Path) -> None:
    folder = shared_dir / "data" / "pairs" / "mri_ct"
    mri, ct = (read_image(folder / f"{number:02d}_{side}.png").pixels for side in "AB")
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
    a, b = (read_image(folder / f"{number:02d}_{side}.png").pixels for side in "AB")
    fused = nmfuse.fuse(a, b)
    assert fused.shape == max(a.shape, b.shape, key=len)
    assert fused.std() > 0.5 * min(a.std(), b.std())


@pytest.mark.parametrize("options", [{}, {"weighting": "cnn"}, {"weighting": "nmf", "rank2": 0}, {"vote": "soft"}])
def test_a_large_image_is_fused_by_strips_as_in_one_piece(options: dict[str, Any], monkeypatch: Any) -> None:
    """Strips of an odd height, the last of a single row of features; the parts are found in some rows of them."""
    phantom = brain_phantom(128)
    a, b = (np.tile(np.rint(255 * x).astype(np.uint8), (3, 1))[:353] for x in (phantom.t2, phantom.ct))
    fuser = Fuser("paper", **options)
    whole = fuser.fuse(a, b).astype(int)
    for name, value in (("_LARGE", 1), ("_STRIP", 128 * 88), ("_FITTED", 1 << 12)):
        monkeypatch.setattr(paper, name, value)
    strips = fuser.fuse(a, b).astype(int)
    if options == {"weighting": "cnn"}:
        assert np.array_equal(strips, whole)
    assert np.abs(strips - whole).mean() < 0.25
    assert np.abs(strips - whole).max() <= 5
    assert np.array_equal(fuser.fuse(b, a), strips)  # the sources have no order here, either
