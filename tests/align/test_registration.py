"""Registration against known transforms of the digital phantom, the check, and the matching of exposure."""

from __future__ import annotations

import sys
from dataclasses import replace

import numpy as np
import pytest
from scipy import ndimage

from nmfuse.align import Transform, check, match, register
from nmfuse.align.models import fit
from nmfuse.data import brain_phantom
from nmfuse.images import Grid, Image

PLACES = np.indices((128, 128)).reshape(2, -1).astype(float)


@pytest.fixture(scope="module")
def pair() -> tuple[Image, Image]:
    """Return T2 and CT of one head, both with structure enough."""
    phantom = brain_phantom(192)
    return Image(phantom.t2, name="t2"), Image(phantom.ct, name="ct")


@pytest.fixture(scope="module")
def scene() -> Image:
    """Return a photograph, as it were: blobs of all sizes."""
    rng = np.random.default_rng(0)
    return Image(sum(ndimage.gaussian_filter(rng.normal(size=(256, 256)), s) * s for s in (1, 2, 4, 8)), name="scene")


def turned(image: Image, degrees: float, scale: float, shift: tuple[float, float]) -> tuple[Image, Transform]:
    """Return an image moved about its centre, and the true transform."""
    a, matrix, centre = np.deg2rad(degrees), np.eye(3), (np.array(image.shape) - 1) / 2
    matrix[:2, :2] = scale * np.array([[np.cos(a), -np.sin(a)], [np.sin(a), np.cos(a)]])
    matrix[:2, 2] = centre - matrix[:2, :2] @ centre + shift
    true = Transform(matrix, "similarity")
    return true.inverse().apply(image, image), true


def apart(a: Transform, b: Transform) -> float:
    return float(np.linalg.norm(a(PLACES) - b(PLACES), axis=0).mean())


@pytest.mark.parametrize(
    ("model", "move"),
    [("translation", (0, 1, (7, -5))), ("rigid", (-4, 1, (2, 6))), ("similarity", (3, 1.04, (-6, 1.5)))],
)
def test_a_known_transform_is_found(scene: Image, model: str, move: tuple) -> None:
    moved, true = turned(scene, *move)
    darker = moved.with_pixels(0.2 - 0.1 * moved.pixels, moved.valid)  # of another exposure, a negative
    found = register(darker, scene, model=model)
    assert (found.model, found.unit) == (model, "pixel")
    assert apart(found, true) < 0.1
    back = check(found.apply(darker, scene), scene)
    assert (back.verdict, back.shift < 0.3) == ("registered", True)


def test_other_models(scene: Image) -> None:
    moved, true = turned(scene, 2, 1.02, (3, 1))
    assert apart(register(moved, scene, model="affine"), true) < 0.2
    tilted = replace(true, matrix=np.array([*true.matrix[:2], [4e-5, -6e-5, 1]]), model="homography")
    seen = tilted.inverse().apply(scene, scene)
    assert apart(register(seen, scene, model="homography"), tilted) < 0.3
    field = np.stack([2 * np.sin(np.indices((9, 9))[0]), np.cos(np.indices((9, 9))[1])])
    bend = Transform(np.eye(3), "deformable", field=field, step=32.0)
    bent = bend.apply(scene, scene)  # bent(x) = scene(x + u): the scene is what moves
    found = register(scene, bent, model="deformable")
    affine = register(scene, bent, model="affine")
    assert apart(found, bend) < 0.5 * apart(affine, bend)


def test_images_of_unlike_size(scene: Image) -> None:
    small = Transform.scaling((160, 160), (256, 256)).apply(scene, Image(np.zeros((160, 160))))
    found = register(small, scene)
    assert apart(found, Transform.scaling((256, 256), (160, 160))) < 0.1


def test_mutual_information_of_unlike_kinds(pair: tuple[Image, Image]) -> None:
    moved, true = turned(pair[1], 3, 1, (4, -3))
    assert apart(register(moved, pair[0], model="rigid", method="information"), true) < 1
    assert apart(register(moved, pair[0], model="rigid"), true) < 0.5


def test_whole_images_are_compared_where_blocks_disagree() -> None:
    """T2 and CT with much noise: by blocks alone the error is 1.9 pixels."""
    phantom, rng = brain_phantom(192), np.random.default_rng(1)
    t2, ct = (Image(x + 0.35 * np.ptp(x) * rng.normal(size=x.shape)) for x in (phantom.t2, phantom.ct))
    moved, true = turned(ct, -4, 1, (5, -3))
    assert apart(register(replace(moved, valid=None), t2, model="rigid"), true) < 0.6


def test_mutual_information_finds_the_same_wherever_an_image_lies() -> None:
    """MRI with noise and a PET of 2 x 2 equal pixels: without smoothing, both results are 0.16 to 0.24 pixel apart."""
    phantom = brain_phantom(128)
    for seed in (1, 2):
        rng = np.random.default_rng(seed)
        t2 = Image(phantom.t2 + 0.15 * np.ptp(phantom.t2) * rng.normal(size=(128, 128)))
        values = ndimage.gaussian_filter(phantom.pet.astype(float), 2)[::2, ::2]
        values += 0.05 * np.ptp(values) * rng.normal(size=values.shape)
        pet = Image(np.kron(values, np.ones((2, 2))))
        before = register(pet, t2, model="rigid", method="information")
        for move in ((3, 1, (4, -3)), (-4, 1, (-2, 6))):
            moved, true = turned(pet, *move)
            moved = replace(moved, valid=None)  # what lies outside is black, as it was
            found = register(moved, t2, model="rigid", method="information")
            assert apart(found, true @ before) < 0.1
        assert apart(register(moved, t2, model="rigid", method="information"), found) < 1e-3


def _narrower(x: np.ndarray, scale: float) -> np.ndarray:
    centre = (np.array(x.shape) - 1) / 2
    return ndimage.affine_transform(x, np.eye(2) / scale, centre - centre / scale, order=1)


def test_volumes_in_mm(pair: tuple[Image, Image]) -> None:
    """A volume of slices that differ, its negative on a grid that lies 5 mm off and is turned by 3 degrees."""
    values = np.stack([_narrower(pair[0].pixels[::2, ::2], s) for s in np.linspace(0.6, 1, 24)]).astype(np.float32)
    affine = np.array([[0, 0, 2.0, -90], [0, 2.0, 0, -90], [5.0, 0, 0, 10], [0, 0, 0, 1]])
    fixed = Image(values, name="t2", spacing=(5.0, 2.0, 2.0), grid=Grid(values.shape, affine))
    a = np.deg2rad(3)
    true = np.array([[np.cos(a), -np.sin(a), 0, 5], [np.sin(a), np.cos(a), 0, -2], [0, 0, 1, 3], [0, 0, 0, 1]])
    moving = Image(1 - values, name="negative", grid=Grid(values.shape, true @ affine))
    found = register(moving, fixed, model="rigid")
    assert (found.unit, found.model) == ("mm", "rigid")
    places = np.array([[-40.0, 40, 0, 0], [0, 0, -40, 40], [40, 40, 40, 40]])
    error = np.linalg.norm(found(places) - Transform(true, unit="mm")(places), axis=0).mean()
    assert error < 0.5
    result = found.apply(moving, fixed)
    assert result.grid is fixed.grid
    back = check(result, fixed)
    assert back.verdict == "registered"
    assert back.shift_mm is not None


def test_the_check_measures_and_knows_what_it_cannot_tell(scene: Image, pair: tuple[Image, Image]) -> None:
    shifted = Image(np.roll(scene.pixels, (3, 4), (0, 1)), name="shifted")
    found = check(shifted, scene)
    assert found.verdict == "misregistered"
    assert abs(found.shift - 5) < 0.2
    assert f"misregistered: off by {found.shift:.2f} pixels" in str(found)
    assert check(scene, scene).shift < 0.01
    assert check(pair[1], pair[0]).verdict == "registered"
    noise = np.random.default_rng(1)
    for other in (np.zeros((256, 256)), noise.normal(size=(256, 256)), scene.pixels[::-1, ::-1]):
        assert check(Image(np.ascontiguousarray(other)), scene).verdict == "cannot tell"
    assert "cannot tell" in str(check(Image(noise.normal(size=(256, 256))), scene))
    with pytest.raises(ValueError, match=r"shifted: size \(256, 256\), but fixed is \(64, 64\); resize or align"):
        check(shifted, Image(np.zeros((64, 64))))


def test_the_fit_does_not_follow_what_is_far_off() -> None:
    rng = np.random.default_rng(0)
    points = rng.random((40, 2)) * 200
    others = points + np.array([2, -1])
    others[:12] += rng.normal(size=(12, 2)) * 30
    matrix, errors = fit("affine", points, others, np.ones(40))
    np.testing.assert_allclose(matrix[:2], [[1, 0, 2], [0, 1, -1]], atol=1e-3)
    assert (errors[12:] < 0.01).all()


def test_match() -> None:
    rng = np.random.default_rng(0)
    to = Image(rng.integers(0, 256, (60, 60, 3), np.uint8))
    gains = np.array([0.5, 0.7, 0.9])
    dark = Image(np.rint(to.pixels * gains).astype(np.uint8))
    dark.pixels[:20] = rng.integers(0, 256, (20, 60, 3))  # something else is seen there
    matched = match(dark, to)
    kept = (to.pixels[20:] > 20) & (to.pixels[20:] < 235)
    assert np.abs(matched.pixels[20:].astype(int) - to.pixels[20:])[kept].max() <= 3
    assert matched.dtype == np.uint8
    for wrong, message in (
        (Image(np.zeros((60, 60, 3), np.uint8), name="black"), "black: 0 pixels are clipped in neither image"),
        (Image(np.zeros((6, 6), np.uint8)), r"image: \(6, 6\) of uint8, but to is \(60, 60, 3\) of uint8; expected"),
    ):
        with pytest.raises(ValueError, match=message):
            match(wrong, to)


def test_what_is_refused(scene: Image, monkeypatch: pytest.MonkeyPatch) -> None:
    small, volume = Image(np.zeros((16, 16))), Image(np.zeros((8, 8, 8)), name="v", grid=Grid((8, 8, 8), np.eye(4)))
    for moving, fixed, options, message in (
        (scene, scene, {"model": "bent"}, "model: got 'bent'; expected one of translation"),
        (scene, scene, {"method": "luck"}, "method: got 'luck'; expected one of auto, edges, information"),
        (volume, scene, {}, "scene: has no grid in mm, but v has one; give both one, or neither"),
        (volume, volume, {"method": "edges"}, "edges are for images without a grid"),
        (volume, volume, {"model": "homography"}, "homography is for images without a grid, by edges"),
        (small, small, {}, "expected at least 32 x 32 pixels"),
        (Image(np.zeros((64, 64))), Image(np.zeros((64, 64))), {}, "0 blocks have structure in common with fixed"),
    ):
        with pytest.raises(ValueError, match=message):
            register(moving, fixed, **options)
    with pytest.raises(TypeError, match=r"moving: got ndarray; expected an nmfuse\.Image of a NumPy array"):
        register(scene.pixels, scene)  # type: ignore[arg-type]
    monkeypatch.setitem(sys.modules, "SimpleITK", None)
    with pytest.raises(ModuleNotFoundError, match=r"need SimpleITK, .* pip install 'nmfuse\[medical\]'"):
        register(scene, scene, method="information")
