"""Transforms: kept in files, combined, inverted, and applied by one interpolation."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from nmfuse.align import Transform, resize
from nmfuse.images import Grid, Image

TURN = np.array([[0.98, -0.17, 4.0], [0.17, 0.98, -3.0], [0, 0, 1]])
AFFINE = np.array([[0, 0, 1.0, -7], [0, 1.0, 0, 3], [1.5, 0, 0, 20], [0, 0, 0, 1]])


def plane(places: np.ndarray) -> np.ndarray:
    return 2 * places[0] - 3 * places[1] + 500


@pytest.mark.parametrize("dtype", ["uint16", "int32", "float32", "float64"])
@pytest.mark.parametrize("how", ["linear", "bspline"])
def test_what_is_linear_stays_so(dtype: str, how: str) -> None:
    transform, places = Transform(TURN), np.indices((60, 80)).astype(float)
    image = Image(plane(places).astype(dtype), name="x", carried={"a": 1})
    moved = transform.apply(image, Image(np.zeros((50, 60))), interpolation=how)
    at = transform(np.indices((50, 60)).astype(float))
    inside = ((at >= 0) & (at <= np.array([59, 79])[:, None, None])).all(0)
    np.testing.assert_array_equal(moved.valid, inside)
    assert (moved.dtype, moved.name, moved.carried) == (np.dtype(dtype), "x", {"a": 1})
    deep = ((at >= 10) & (at <= np.array([49, 69])[:, None, None])).all(0)  # splines look around
    np.testing.assert_allclose(moved.pixels[deep], plane(at)[deep], atol=0.51 if dtype in ("uint16", "int32") else 0.01)
    assert not moved.pixels[~inside].any()


def test_a_shift_by_whole_pixels_is_exact_and_colour_is_moved_alike() -> None:
    colour = np.random.default_rng(0).integers(0, 256, (20, 30, 3), np.uint8)
    moved = Transform.translation(3, -2).apply(Image(colour), Image(colour))
    np.testing.assert_array_equal(moved.pixels[:17, 2:], colour[3:, :-2])
    assert moved.valid[:17, 2:].all()
    assert moved.valid.sum() == 17 * 28


def test_what_is_not_valid_bleeds_nowhere() -> None:
    valid = np.indices((40, 40))[1] > 12
    image = Image(np.where(valid, 7.0, 1e6).astype(np.float32), valid)
    moved = Transform(TURN).apply(image, image)
    np.testing.assert_allclose(moved.pixels[moved.valid], 7, rtol=1e-5)
    assert 0 < moved.valid.mean() < valid.mean()


def test_composed_and_inverted() -> None:
    one, two, places = Transform(TURN, "rigid"), Transform.translation(2, 5), np.random.default_rng(0).random((2, 9))
    np.testing.assert_allclose((one @ two)(places), one(two(places)))
    np.testing.assert_allclose(one.inverse()(one(places)), places)
    assert ((one @ two).model, (two @ two).model) == ("rigid", "translation")
    homography = Transform(np.array([*TURN[:2], [1e-3, -2e-3, 1]]), "homography")
    np.testing.assert_allclose(homography.inverse()(homography(places)), places)


def test_files(tmp_path: Path) -> None:
    places = np.random.default_rng(0).random((2, 9)) * 40
    bent = Transform(TURN, "deformable", field=np.random.default_rng(1).normal(size=(2, 5, 6)), step=10.0)
    for k, transform in enumerate((Transform(TURN, "rigid"), bent)):
        transform.save(tmp_path / f"{k}.json")
        loaded = Transform.load(tmp_path / f"{k}.json")
        assert loaded.model == transform.model
        np.testing.assert_allclose(loaded(places), transform(places), atol=1e-4)
    volume = Transform(np.block([[np.diag([1, 1.1, 0.9]), np.array([[4.0], [5], [6]])], [0, 0, 0, 1]]), "affine", "mm")
    volume.save(tmp_path / "x.tfm")
    np.testing.assert_allclose(Transform.load(tmp_path / "x.tfm").matrix, volume.matrix)
    import SimpleITK

    itk = SimpleITK.ReadTransform(tmp_path / "x.tfm")  # which counts mm to the left and to the back
    np.testing.assert_allclose(itk.TransformPoint((-1.0, -2.0, 3.0)), np.array([-1, -1, 1]) * [5, 7.2, 8.7])
    (tmp_path / "no.json").write_text("{}")
    (tmp_path / "no.tfm").write_text("no")
    for path, error, message in (
        (tmp_path / "no.json", ValueError, "is no transform that nmfuse wrote"),
        (tmp_path / "no.tfm", ValueError, "is no transform that ITK reads"),
        (tmp_path / "none.json", FileNotFoundError, "no such file"),
    ):
        with pytest.raises(error, match=message):
            Transform.load(path)
    with pytest.raises(ValueError, match=r"a transform in mm is kept as \.tfm; name the file so"):
        volume.save(tmp_path / "x.json")
    with pytest.raises(FileExistsError, match="overwrite"):
        volume.save(tmp_path / "x.tfm")


def test_in_mm_a_volume_is_moved_by_its_grid() -> None:
    grid = Grid((12, 20, 16), AFFINE)
    image = Image(np.random.default_rng(0).random(grid.shape).astype(np.float32), grid=grid)
    moved = Transform(np.block([[np.eye(3), np.array([[2.0], [0], [0]])], [0, 0, 0, 1]]), "rigid", "mm").apply(
        image, image
    )
    np.testing.assert_allclose(moved.pixels[..., :14], image.pixels[..., 2:], atol=1e-6)  # 2 mm to the right
    assert not moved.valid[..., 14:].any()


def test_resize() -> None:
    places = np.indices((60, 80)).astype(float)
    image = Image(plane(places).astype(np.float32), name="x.png")
    smaller = resize(image, Image(np.zeros((30, 40))))
    np.testing.assert_allclose(smaller.pixels[4:-4, 4:-4], plane(2 * np.indices((30, 40)) + 0.5)[4:-4, 4:-4], atol=1e-2)
    larger = resize(image, Image(np.zeros((90, 120))))
    at = Transform.scaling((90, 120), (60, 80))(np.indices((90, 120)).astype(float))
    np.testing.assert_allclose(larger.pixels[4:-4, 4:-4], plane(at)[4:-4, 4:-4], atol=1e-2)
    checkered = Image((np.indices((64, 64)).sum(0) % 2 * 200).astype(np.uint8))
    assert np.ptp(resize(checkered, Image(np.zeros((24, 24)))).pixels[4:-4, 4:-4].astype(int)) <= 10  # no aliasing
    assert resize(image, image) is image
    with pytest.raises(ValueError, match=r"x\.png: is 60 x 80, and like is 30 x 30, of other proportions; crop one"):
        resize(image, Image(np.zeros((30, 30))))


def test_what_is_refused() -> None:
    bent = Transform(np.eye(3), "deformable", field=np.zeros((2, 2, 2)), step=10.0)
    image, volume = Image(np.zeros((40, 40))), Transform(np.eye(4), unit="mm")
    for act, message in (
        (lambda: Transform(np.zeros((3, 3))), "matrix: got .*; expected .* with an inverse"),
        (lambda: Transform(np.eye(3), "bent"), "model: got 'bent'; expected one of translation, rigid"),
        (lambda: Transform(np.eye(3), unit="m"), "unit: got 'm'; expected pixel or mm"),
        (lambda: Transform(np.eye(3), field=np.zeros((2, 2))), r"field: shape \(2, 2\), step 0.0; expected"),
        (bent.inverse, "is deformable, which has no inverse here"),
        (lambda: bent @ bent, "the second is deformable; only the first may be"),
        (lambda: volume @ bent, "2 axes in pixel, then 3 in mm; expected both alike"),
        (lambda: volume.apply(image, image), "like: has no grid, and the transform is in mm"),
        (
            lambda: bent.apply(image, image, interpolation="sinc"),
            "got 'sinc'; expected one of nearest, linear, bspline",
        ),
        (lambda: Transform.translation(99, 0).apply(image, image), "image: shows nothing of the fixed image"),
        (lambda: bent.apply(Image(np.zeros((4, 4, 4))), image), "is a volume, and the transform is in pixels"),
    ):
        with pytest.raises(ValueError, match=message):
            act()
