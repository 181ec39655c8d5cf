"""Sources in, one image out: kinds, layouts, order, and where they lie in memory."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from PIL import Image as Pillow

import nmfuse
from nmfuse.data import brain_phantom
from nmfuse.images import scratch
from nmfuse.images.order import canonical_order
from nmfuse.images.scratch import Scratch
from nmfuse.images.stack import take

PHANTOM = brain_phantom(64)
BYTES = [np.rint(255 * x).astype(np.uint8) for x in (PHANTOM.t1, PHANTOM.t2, PHANTOM.ct)]


def test_pictures_and_images_are_taken_and_given_back() -> None:
    expected = nmfuse.fuse(*BYTES)
    picture = nmfuse.fuse(*(Pillow.fromarray(x) for x in BYTES))
    assert isinstance(picture, Pillow.Image)
    np.testing.assert_array_equal(np.asarray(picture), expected)
    image = nmfuse.fuse(nmfuse.Image(BYTES[0], name="t1.png", carried={"k": 1}), *BYTES[1:])
    assert isinstance(image, nmfuse.Image)
    assert (image.name, image.carried) == ("t1.png", {"k": 1})
    np.testing.assert_array_equal(image.pixels, expected)


def test_messages_call_an_image_by_its_name() -> None:
    with pytest.raises(ValueError, match=r"ct\.png: size 63 x 64, but mri\.png is 64 x 64"):
        nmfuse.fuse(nmfuse.Image(BYTES[0], name="mri.png"), nmfuse.Image(BYTES[1][1:], name="ct.png"))


def test_all_ways_to_pass_many() -> None:
    expected = nmfuse.fuse(*BYTES)
    np.testing.assert_array_equal(nmfuse.fuse(BYTES), expected)
    np.testing.assert_array_equal(nmfuse.fuse(x for x in BYTES), expected)
    np.testing.assert_array_equal(nmfuse.fuse(np.stack(BYTES), axis=0), expected)
    np.testing.assert_array_equal(nmfuse.fuse(np.stack(BYTES, axis=-1), axis=-1), expected)
    tensor = nmfuse.fuse(torch.from_numpy(np.stack(BYTES)), axis=0)
    np.testing.assert_array_equal(tensor.numpy(), expected)
    with pytest.raises(ValueError, match=r"got one array of shape \(3, 64, 64\); expected two or more .* axis=0"):
        nmfuse.fuse(np.stack(BYTES))
    with pytest.raises(ValueError, match="axis: got 0 with 2 sources"):
        nmfuse.fuse(*BYTES[:2], axis=0)
    with pytest.raises(ValueError, match="axis: got 5 for"):
        nmfuse.fuse(np.stack(BYTES), axis=5)


@pytest.mark.parametrize("method", ["learned", "paper", "pca", "guided-filter"])
def test_order_does_not_matter(method: str) -> None:
    tint = np.stack([BYTES[2], BYTES[2] // 2, BYTES[2] // 3], axis=-1)
    red = np.stack([BYTES[1], BYTES[1] // 4, BYTES[1] // 5], axis=-1)
    sources = [BYTES[0], red, tint, BYTES[2]]
    expected = nmfuse.fuse(*sources, method=method)
    for order in itertools.islice(itertools.permutations(range(4)), 1, 24, 5):
        np.testing.assert_array_equal(nmfuse.fuse(*(sources[k] for k in order), method=method), expected)


def test_the_canonical_order() -> None:
    bright, dark = torch.full((2, 2), 0.9), torch.full((2, 2), 0.1)
    left, right = torch.tensor([[0.6, 0.4], [0.5, 0.5]]), torch.tensor([[0.4, 0.6], [0.5, 0.5]])
    assert canonical_order([dark, right, bright, left]) == [2, 3, 1, 0]
    colours = [(None,), (torch.ones(2, 2, 2),), (torch.zeros(2, 2, 2),)]
    assert canonical_order([dark, dark, dark], colours) == [1, 2, 0]


def test_sources_that_do_not_fit_wait_on_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    sources = [rng.integers(0, 256, (48, 40, 3), np.uint8) for _ in range(5)]
    expected = nmfuse.fuse(*sources)
    monkeypatch.setattr(scratch, "IN_MEMORY", 0)
    assert take(sources).scratch.on_disk
    assert np.abs(nmfuse.fuse(*sources).astype(int) - expected).max() <= 1
    pair = take(sources[:2])
    assert not pair.scratch.on_disk  # a pair never needs the disk


def test_scratch_keeps_what_it_is_given(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scratch, "IN_MEMORY", 0)
    kept = Scratch()
    planes = [torch.rand(7, 9) for _ in range(4)]
    stored = [kept.keep(plane, place) for place, plane in enumerate(planes)]
    assert kept.on_disk
    kept.release()
    for plane, there in zip(planes, stored, strict=True):
        assert torch.equal(plane, there)
    room = kept.empty((3, 5))
    room.fill_(2.0)
    kept.release()
    assert (room == 2).all()


@pytest.mark.parametrize("spatial", [1, 4, True])
def test_bad_axes(spatial: int) -> None:
    with pytest.raises(ValueError, match="spatial: got"):
        nmfuse.fuse(*BYTES, spatial=spatial)
    with pytest.raises(ValueError, match="slice_axis: got 1; expected 0, 1 or 2"):
        nmfuse.fuse(*BYTES, slice_axis=1)


def test_pictures_that_cannot_hold_the_result_are_refused_before_any_work() -> None:
    grey, colour = Pillow.fromarray(BYTES[0]), Pillow.fromarray(np.stack(BYTES, axis=-1))
    with pytest.raises(ValueError, match="output: a PIL image of this kind cannot hold float16; expected output="):
        nmfuse.fuse(grey, grey, output="float16")
    with pytest.raises(ValueError, match="cannot hold uint16; expected output= one of uint8"):
        nmfuse.fuse(colour, colour, output="uint16")
    assert nmfuse.fuse(grey, grey, output="float32").mode == "F"


def test_a_transparent_grey_of_a_picture_is_invalid() -> None:
    picture = Pillow.fromarray(np.where(BYTES[0] > 200, 255, BYTES[0]).astype(np.uint8))
    picture.info["transparency"] = 255
    taken = take([picture, picture])
    assert taken.valid[0] is not None
    np.testing.assert_array_equal(taken.valid[0].numpy(), np.asarray(picture) != 255)


def test_results_of_tensors_can_be_worked_on() -> None:
    """They are ordinary tensors: changed in place, and part of what is differentiated."""
    a, b = (torch.from_numpy(x) for x in (PHANTOM.t1, PHANTOM.t2))
    fused = nmfuse.fuse(a, b)
    fused.add_(1)
    weight = torch.ones(1, requires_grad=True)
    (fused * weight).sum().backward()
    assert weight.grad is not None
