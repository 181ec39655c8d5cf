"""Pixels that a source does not show: no weight, no halo, and invalid where no source shows anything."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image as Pillow

import nmfuse
from nmfuse.data import brain_phantom
from nmfuse.images.validity import extend, filled, patterns

PHANTOM = brain_phantom(128)
METHODS = ("learned", "paper", "laplacian", "average")


def hidden(x: np.ndarray, columns: slice) -> np.ndarray:
    x = x.copy()
    x[:, columns] = np.nan
    return x


@pytest.mark.parametrize("method", METHODS)
def test_the_other_source_fills_what_one_does_not_show(method: str) -> None:
    fused = nmfuse.fuse(hidden(PHANTOM.t1, np.s_[70:]), PHANTOM.t2, method=method)
    np.testing.assert_array_equal(fused[:, 70:], PHANTOM.t2[:, 70:])


@pytest.mark.parametrize("method", METHODS)
def test_no_halo_at_the_edge_of_what_is_shown(method: str) -> None:
    """Flat images: the edge of the valid region is no edge of the picture, on either side of it, to any distance."""
    a, b = (np.full((96, 96), value, np.float32) for value in (0.8, 0.3))
    whole = nmfuse.fuse(a, b, method=method)
    fused = nmfuse.fuse(hidden(a, np.s_[50:]), b, method=method)
    np.testing.assert_allclose(fused[:, :50], whole[:, :50], atol=2e-3)
    np.testing.assert_array_equal(fused[:, 50:], b[:, 50:])


@pytest.mark.parametrize("method", METHODS)
def test_a_picture_near_the_edge_is_fused_as_if_all_were_shown(method: str) -> None:
    whole = nmfuse.fuse(PHANTOM.t1, PHANTOM.t2, method=method)
    fused = nmfuse.fuse(hidden(PHANTOM.t1, np.s_[70:]), PHANTOM.t2, method=method)
    zeros = nmfuse.fuse(np.nan_to_num(hidden(PHANTOM.t1, np.s_[70:])), PHANTOM.t2, method=method)
    near = np.s_[:, 62:70]
    if method == "average":
        np.testing.assert_allclose(fused[near], whole[near], atol=1e-6)
    else:  # a border of zeros shows for many pixels; here little does
        assert np.abs(fused[near] - whole[near]).mean() < 0.6 * np.abs(zeros[near] - whole[near]).mean()
        assert np.abs(fused[near] - whole[near]).mean() < 0.06


@pytest.mark.parametrize("where", ["nan", "masked", "alpha", "Image"])
def test_every_way_to_say_that_a_pixel_is_invalid(where: str) -> None:
    a, b = (np.rint(255 * x).astype(np.uint8) for x in (PHANTOM.t1, PHANTOM.t2))
    shown = np.ones(a.shape, bool)
    shown[:40] = False
    source: Any = {
        "nan": lambda: np.where(shown, a / 255, np.nan).astype(np.float32),
        "masked": lambda: np.ma.MaskedArray(a, ~shown),
        "alpha": lambda: np.stack([a, a, a, 255 * shown], axis=-1).astype(np.uint8),
        "Image": lambda: nmfuse.Image(a, valid=shown),
    }[where]()
    other = (b / 255).astype(np.float32) if where == "nan" else b
    fused = np.asarray(nmfuse.fuse(source, other))
    grey = fused[..., 0] if where == "alpha" else fused
    np.testing.assert_array_equal(grey[:40], other[:40])
    if where == "alpha":
        assert (fused[..., 3] == 255).all()
    np.testing.assert_array_equal(
        np.asarray(nmfuse.fuse(other, source))[:40, :, ...].reshape(40, 128, -1)[..., 0], other[:40]
    )


def test_what_no_source_shows_stays_invalid() -> None:
    a, b = hidden(PHANTOM.t1, np.s_[70:]), hidden(PHANTOM.t2, np.s_[90:])
    fused = nmfuse.fuse(a, b)
    assert np.isnan(fused[:, 90:]).all()
    assert np.isfinite(fused[:, :90]).all()
    assert (nmfuse.fuse(a, b, fill=0.25)[:, 90:] == 0.25).all()
    with pytest.raises(ValueError, match=r"fill: not given, and some pixels are valid in no source.*output='float32'"):
        nmfuse.fuse(a, b, output="uint8")
    assert (nmfuse.fuse(a, b, output="uint8", fill=7)[:, 90:] == 7).all()


def test_masked_arrays_and_transparent_pictures_come_back_as_such() -> None:
    a, b = (np.rint(255 * x).astype(np.uint8) for x in (PHANTOM.t1, PHANTOM.t2))
    mask = np.zeros(a.shape, bool)
    mask[:, 90:] = True
    fused = nmfuse.fuse(np.ma.MaskedArray(a, mask), np.ma.MaskedArray(b, mask))
    assert isinstance(fused, np.ma.MaskedArray)
    np.testing.assert_array_equal(fused.mask, mask)
    pictures = [Pillow.fromarray(np.stack([x, x, x, 255 * ~mask], axis=-1).astype(np.uint8)) for x in (a, b)]
    picture = nmfuse.fuse(*pictures)
    assert (picture.mode, picture.size) == ("RGBA", (128, 128))
    np.testing.assert_array_equal(np.asarray(picture)[..., 3] == 0, mask)
    image = nmfuse.fuse(nmfuse.Image(a, valid=~mask, spacing=(1.0, 2.0)), nmfuse.Image(b, valid=~mask))
    np.testing.assert_array_equal(image.valid, ~mask)
    assert image.spacing == (1.0, 2.0)


def test_three_sources_of_unlike_fields_of_view() -> None:
    """At each pixel the fusion of those that are valid there, and of nothing else."""
    sources = [hidden(PHANTOM.t1, np.s_[100:]), hidden(PHANTOM.t2, np.s_[:30]), PHANTOM.ct]
    fused = nmfuse.fuse(*sources, method="average")
    expected = np.nanmean(np.stack(sources), axis=0)
    np.testing.assert_allclose(fused, expected, atol=1e-6)
    np.testing.assert_array_equal(nmfuse.fuse(*sources[::-1], method="average"), fused)


@pytest.mark.parametrize("spatial", [2, 3])
@pytest.mark.parametrize("method", ["average", "maximum", "laplacian", "contrast"])
def test_many_fields_of_view_are_fused_at_once(method: str, spatial: int, caplog: pytest.LogCaptureFixture) -> None:
    """A shaken stack: what is not valid does not count, whatever lies there."""
    scene = np.random.default_rng(0).random((64, 80)).astype(np.float32)
    sources = [hidden(scene, np.s_[: 3 * k]) for k in range(1, 6)]
    sources += [hidden(scene, np.s_[80 - 3 * k :]) for k in range(1, 6)]
    if spatial == 3:
        sources = [np.stack([x, x]) for x in sources]
    fused = nmfuse.fuse(*sources, method=method, spatial=spatial)
    np.testing.assert_allclose(fused, scene if spatial == 2 else np.stack([scene, scene]), atol=2e-6)
    assert not caplog.records
    if method in ("average", "maximum"):
        others = [x * share for x, share in zip(sources, np.linspace(0.2, 1, 10, dtype=np.float32), strict=True)]
        of_pixels = np.nanmean if method == "average" else np.nanmax
        np.testing.assert_allclose(
            nmfuse.fuse(*others, method=method, spatial=spatial), of_pixels(np.stack(others), axis=0), atol=1e-6
        )


def test_patterns() -> None:
    masks = [torch.tensor([[1, 1, 0, 0]]).bool(), None, torch.tensor([[1, 0, 1, 0]]).bool()]
    sets, which = patterns(masks)
    assert which is not None
    assert [sets[number] for number in which[0].tolist()] == [[0, 1, 2], [0, 1], [1, 2], [1]]
    assert patterns([None, None]) == ([], None)
    nothing = torch.zeros(1, 2, dtype=torch.bool)
    assert patterns([nothing, nothing])[0] == [[]]
    many = torch.rand((70, 4, 5), generator=torch.Generator().manual_seed(0)) > 0.3  # more than one number holds
    sets, which = patterns(list(many))
    assert which is not None
    assert [sets[number] for number in which.flatten().tolist()] == [
        many[:, y, x].nonzero()[:, 0].tolist() for y in range(4) for x in range(5)
    ]


@pytest.mark.parametrize("shape", [(20, 33), (5, 17, 12)])
def test_what_is_filled_in_goes_on(shape: tuple[int, ...]) -> None:
    x = torch.linspace(0, 1, shape[-1], dtype=torch.float64).expand(shape)
    known = torch.rand(shape, generator=torch.Generator().manual_seed(0)) > 0.5
    torch.testing.assert_close(extend(x, known), x, rtol=0, atol=0.15)
    assert torch.equal(extend(x, known)[known], x[known])
    assert (extend(x, torch.zeros_like(known)) == 0).all()
    other = 0.5 * x
    a, b = filled([x, other], [known, None])
    assert torch.equal(b, other)
    torch.testing.assert_close(a, x, rtol=0, atol=0.15)


def test_ties_of_what_is_shown_have_no_order_either() -> None:
    """Two sources of the same pixels, one of which does not show some of them."""
    one = PHANTOM.t1[:64, :64].copy()
    one[:32] = 0
    other = one.copy()
    other[:32] = np.nan
    third = PHANTOM.t2[:64, :64]
    expected = nmfuse.fuse(one, other, third)
    for sources in ((other, one, third), (third, other, one), (other, third, one)):
        np.testing.assert_array_equal(nmfuse.fuse(*sources), expected)


@pytest.mark.parametrize("fill", [300, -5, float("nan"), "x", True])
def test_a_fill_that_the_result_cannot_hold(fill: Any) -> None:
    a, b = (np.rint(255 * x).astype(np.uint8) for x in (PHANTOM.t1, PHANTOM.t2))
    with pytest.raises(ValueError, match=r"fill: got .*; expected a number that uint8 can hold"):
        nmfuse.fuse(a, b, fill=fill)


def test_what_is_masked_is_never_looked_at() -> None:
    a, b = PHANTOM.t1.copy(), PHANTOM.t2
    mask = np.zeros(a.shape, bool)
    mask[:, 90:] = True
    expected = nmfuse.fuse(np.ma.MaskedArray(a, mask), b)
    for garbage in (1e30, np.inf, np.nan, -7.0):
        a[mask] = garbage
        np.testing.assert_array_equal(nmfuse.fuse(np.ma.MaskedArray(a, mask), b), expected)


def test_many_sets_of_valid_sources_are_said(caplog: pytest.LogCaptureFixture) -> None:
    rng = np.random.default_rng(0)
    sources = [
        np.where(rng.random((32, 32)) < 0.1, np.nan, x[:32, :32])
        for x in (PHANTOM.t1, PHANTOM.t2, PHANTOM.ct, PHANTOM.pet)
    ]
    fused = nmfuse.fuse(*sources, method="fuzzy")
    assert "combinations that are valid together somewhere is fused by itself" in caplog.text
    assert np.isfinite(fused).all()
