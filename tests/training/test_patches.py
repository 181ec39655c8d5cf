"""Pairs of clear and blurred patches: by hand, and what is refused."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from nmfuse.io.formats import suffixes
from nmfuse.training.patches import (
    BLUR_LEVELS,
    LEAST_VARIANCE,
    augment,
    blur_levels,
    find_images,
    hash_files,
    patch_pairs,
    patch_variance,
    pool_of_pairs,
    read_grey,
)


def noise(shape, seed=0):
    return np.random.default_rng(seed).integers(0, 256, shape).astype(np.uint8)


def save(path: Path, pixels: np.ndarray) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)
    return path


# ---- Which files.


def test_images_of_a_folder_and_its_subfolders_are_found_and_sorted(tmp_path):
    names = ["b.png", "a.JPG", "sub/deep/z.tif", "sub/c.bmp", "d.jpeg", "e.webp", "f.tiff"]
    for name in names:
        save(tmp_path / name, noise((16, 16)))
    (tmp_path / "notes.txt").write_text("not an image")
    (tmp_path / "folder.png").mkdir()
    assert find_images(tmp_path) == sorted(tmp_path / name for name in names)


def test_listed_images_are_sorted(tmp_path):
    paths = [save(tmp_path / name, noise((16, 16))) for name in ("b.png", "c.png", "a.png")]
    assert find_images(paths) == sorted(paths)
    assert paths[0].name == "b.png"  # the caller's list stays as it was


def test_an_image_listed_twice_counts_once(tmp_path):
    a, b = (save(tmp_path / name, noise((16, 16))) for name in ("a.png", "b.png"))
    assert find_images([a, b, a]) == [a, b]  # so it is not trained on and held out


def test_one_image_listed_twice_is_one_image(tmp_path):
    path = save(tmp_path / "a.png", noise((16, 16)))
    with pytest.raises(ValueError, match="images: found 1; expected two at least"):
        find_images([path, path])


def test_missing_images(tmp_path):
    there = save(tmp_path / "a.png", noise((16, 16)))
    for folder in (tmp_path / "none", there):
        message = re.escape(f"images: {folder} is not a folder; give a folder of photographs")
        with pytest.raises(FileNotFoundError, match=message):
            find_images(folder)
    for missing in (tmp_path / "b.png", tmp_path):
        with pytest.raises(FileNotFoundError, match=re.escape(f"images: there is no file {missing}")):
            find_images([there, missing])


def test_too_few_images(tmp_path):
    expected = f"expected two at least ({', '.join(suffixes())}), one is held out"
    with pytest.raises(ValueError, match=re.escape(f"images: found 0 in {tmp_path}; {expected}")):
        find_images(tmp_path)
    path = save(tmp_path / "a.png", noise((16, 16)))
    with pytest.raises(ValueError, match=re.escape(f"images: found 1 in {tmp_path}; {expected}")):
        find_images(tmp_path)
    with pytest.raises(ValueError, match=re.escape(f"images: found 1; {expected}")):
        find_images([path])


def test_the_hash_changes_with_contents_names_and_order(tmp_path):
    def hash_of(**files: bytes) -> str:
        for name, content in files.items():
            (tmp_path / name).write_bytes(content)
        return hash_files([tmp_path / name for name in files])

    first = hash_of(a=b"1", b=b"2")
    assert re.fullmatch("[0-9a-f]{64}", first)
    assert hash_of(a=b"1", b=b"2") == first
    others = [hash_of(a=b"1", b=b"3"), hash_of(a=b"1", c=b"2"), hash_of(b=b"2", a=b"1"), hash_of(a=b"1"), hash_of()]
    assert len({first, *others}) == 6


def test_the_hash_knows_nothing_of_folders(tmp_path):
    paths = []
    for folder in ("x", "y"):
        (tmp_path / folder).mkdir()
        paths.append([tmp_path / folder / name for name in "ab"])
        for path in paths[-1]:
            path.write_bytes(path.name.encode())
    assert hash_files(paths[0]) == hash_files(paths[1])


# ---- Reading.


def test_grey_is_read_as_it_is(tmp_path):
    pixels = noise((17, 30))
    np.testing.assert_array_equal(read_grey(save(tmp_path / "x.png", pixels)), pixels)


def test_colour_becomes_luma(tmp_path):
    pixels = noise((20, 18, 3))
    expected = pixels @ [0.299, 0.587, 0.114]  # ITU-R BT.601
    got = read_grey(save(tmp_path / "x.png", pixels))
    assert got.dtype == np.uint8
    assert np.abs(got - expected).max() <= 0.51


def test_palettes_alpha_and_bilevel_are_read(tmp_path):
    pixels = noise((20, 18)) // 128 * 255
    image = Image.fromarray(pixels)
    for mode in ("P", "LA", "RGBA", "1", "RGB"):
        path = tmp_path / f"{mode}.png"
        image.convert(mode).save(path)
        np.testing.assert_array_equal(read_grey(path), pixels)


def test_deep_images_are_refused(tmp_path):
    path = save(tmp_path / "x.png", noise((20, 20)).astype(np.uint16))
    message = rf"{re.escape(str(path))}: not a readable 8-bit image \(mode I.*\); repair or remove it"
    with pytest.raises(ValueError, match=message):
        read_grey(path)
    path = save(tmp_path / "x.tif", noise((20, 20)).astype(np.float32))
    with pytest.raises(ValueError, match=r"not a readable 8-bit image \(mode F\)"):
        read_grey(path)


@pytest.mark.parametrize("kept", [0, 20, 200])
def test_damaged_images_are_refused(tmp_path, kept):
    path = save(tmp_path / "x.png", noise((40, 40)))
    path.write_bytes(path.read_bytes()[:kept])
    message = rf"{re.escape(str(path))}: not a readable 8-bit image \(.+\); repair or remove it"
    with pytest.raises(ValueError, match=message):
        read_grey(path)


def test_small_images_are_refused(tmp_path):
    path = save(tmp_path / "x.png", noise((40, 15)))
    with pytest.raises(ValueError, match=re.escape(f"{path}: is 15 x 40; expected 16 x 16 at least, remove it")):
        read_grey(path)
    assert read_grey(save(path, noise((16, 16)))).shape == (16, 16)


# ---- Blur and variance.


def blur_by_hand(x: np.ndarray) -> np.ndarray:
    """One pass: Gaussian of sigma 2, cut to 7 x 7 and normalised, the border reflected with its edge pixel."""
    kernel = np.exp(-(np.arange(-3, 4) ** 2) / (2 * 2.0**2))
    kernel /= kernel.sum()
    padded = np.pad(x, 3, "symmetric")
    windows = np.lib.stride_tricks.sliding_window_view(padded, (7, 7))
    return np.einsum("yxij,i,j->yx", windows, kernel, kernel)


def test_blur_levels_match_repeated_filtering():
    image = noise((20, 26))
    levels = blur_levels(image)
    assert levels.shape == (BLUR_LEVELS, 20, 26) == (5, 20, 26)
    assert levels.dtype == np.uint8
    expected = image.astype(np.float64)
    for level in levels:
        expected = blur_by_hand(expected)  # of the unrounded level before
        assert np.abs(level - expected).max() <= 0.501  # rounded to nearest; the passes are in float32


def test_each_level_is_smoother():
    roughness = [np.abs(np.diff(level.astype(float), axis=1)).mean() for level in blur_levels(noise((64, 64)))]
    assert roughness == sorted(roughness, reverse=True)
    assert roughness[0] > 2 * roughness[-1]


def test_constants_stay():
    for value in (0, 7, 255):
        np.testing.assert_array_equal(blur_levels(np.full((16, 19), value, np.uint8)), value)


@pytest.mark.parametrize("shape", [(16, 16), (16, 20), (33, 18)], ids=str)
def test_variance_matches_numpy_on_each_window(shape):
    image = noise(shape)
    windows = np.lib.stride_tricks.sliding_window_view(image.astype(np.float64), (16, 16))
    got = patch_variance(image)
    assert got.shape == (shape[0] - 15, shape[1] - 15)
    np.testing.assert_allclose(got, windows.var((2, 3)), rtol=1e-12)


def test_variance_of_flat_patches_is_exactly_zero():
    image = np.full((20, 200), 255, np.uint8)
    np.testing.assert_array_equal(patch_variance(image), 0)
    # Half of 5 and half of 15: the deviation is 5 and the variance 25 to the last bit, which is not above 25.
    stripes = np.tile(np.array([5, 15], np.uint8), (40, 20))
    np.testing.assert_array_equal(patch_variance(stripes), LEAST_VARIANCE)
    assert len(patch_pairs(stripes, 3, np.random.default_rng(0))) == 0


# ---- Pairs.


def places_of(patch: np.ndarray, image: np.ndarray) -> np.ndarray:
    windows = np.lib.stride_tricks.sliding_window_view(image, (16, 16))
    return np.argwhere((windows == patch).all((2, 3)))


def test_pairs_are_patches_of_one_place_with_texture():
    image = noise((30, 40))
    image[:, 20:] = 100  # places from column 20 on are flat
    pairs = patch_pairs(image, 7, np.random.default_rng(0))
    assert pairs.shape == (5 * 7, 2, 16, 16)
    assert pairs.dtype == np.uint8
    levels, variance = blur_levels(image), patch_variance(image)
    seen = set()
    for n, (clear, blurred) in enumerate(pairs):
        ((y, x),) = places_of(clear, image)
        assert variance[y, x] > LEAST_VARIANCE
        np.testing.assert_array_equal(blurred, levels[n // 7, y : y + 16, x : x + 16])
        seen.add((n // 7, int(y), int(x)))
    assert len(seen) == 35  # no place twice at a level
    assert len({(y, x) for _, y, x in seen}) > 7  # and others at other levels


def test_few_places_are_all_taken():
    assert patch_pairs(noise((17, 18)), 200, np.random.default_rng(0)).shape == (5 * 6, 2, 16, 16)
    assert patch_pairs(np.zeros((40, 40), np.uint8), 200, np.random.default_rng(0)).shape == (0, 2, 16, 16)


def test_pool_is_deterministic(tmp_path):
    paths = [save(tmp_path / f"{name}.png", noise((30, 30), ord(name))) for name in "abc"]
    pool = pool_of_pairs(paths, 4, seed=1)
    assert pool.shape == (3 * 5 * 4, 2, 16, 16)
    np.testing.assert_array_equal(pool, pool_of_pairs(paths, 4, seed=1))
    assert not np.array_equal(pool, pool_of_pairs(paths, 4, seed=2))
    # Each photograph has its own random numbers: another one after it changes nothing.
    np.testing.assert_array_equal(pool[:40], pool_of_pairs(paths[:2], 4, seed=1))
    for n, path in enumerate(paths):
        for clear in pool[20 * n : 20 * n + 20, 0]:
            assert len(places_of(clear, read_grey(path))) == 1


# ---- Augmentation.


def test_augment_keeps_the_pairs_aligned():
    # Two equal patches stay equal: both get the same flips, the same curve and the same contrast.
    patches = noise((300, 1, 16, 16))
    given = np.repeat(patches, 2, axis=1)
    got = augment(given, np.random.default_rng(0))
    assert got.shape == given.shape
    assert got.dtype == np.float32
    np.testing.assert_array_equal(got[:, 0], got[:, 1])
    np.testing.assert_array_equal(given, np.repeat(patches, 2, axis=1))
    assert len({patch.tobytes() for patch in got[:, 0]}) == 300


def test_augment_only_moves_pixels_and_bends_their_values():
    # Pixels that differ on the given patches differ on the same pixels after: one monotonic curve for each pair.
    ramp = np.arange(256, dtype=np.uint8).reshape(16, 16)
    given = np.stack([np.stack([ramp, np.flipud(ramp)])] * 200)
    got = augment(given, np.random.default_rng(1)).astype(np.float64)
    assert ((got >= 0) & (got <= 1)).all()
    orders = set()
    for a, b in got:
        rank = np.argsort(a.ravel(), kind="stable")
        positions = {tuple(np.sort(rank[:16])), tuple(np.sort(rank[-16:]))}
        orders.add(rank.tobytes())
        # Each value of a is a value of b: the same curve, at other places.
        np.testing.assert_array_equal(np.sort(a.ravel()), np.sort(b.ravel()))
        edges = [np.arange(16), np.arange(240, 256), np.arange(0, 256, 16), np.arange(15, 256, 16)]
        assert positions <= {tuple(edge) for edge in edges}  # the ramp still runs along an axis
    assert len(orders) == 8  # four flips, each transposed or not; the negative of a ramp is a flip of both axes


def test_augment_shows_all_orientations_and_both_polarities():
    given = np.full((600, 2, 16, 16), 40, np.uint8)
    given[..., 1, 4] = 200
    seen = set()
    for patch in augment(given, np.random.default_rng(4))[:, 0]:
        difference = patch - patch[0, 0]
        ((y, x),) = np.argwhere(difference)
        seen.add((int(y), int(x), bool(difference[y, x] > 0)))
    places = [(1, 4), (1, 11), (14, 4), (14, 11), (4, 1), (11, 1), (4, 14), (11, 14)]
    assert seen == {(y, x, brighter) for y, x in places for brighter in (True, False)}


def test_augment_covers_the_ranges_it_names():
    given = np.zeros((4000, 2, 16, 16), np.uint8)
    given[:, :, :, 8:] = 255
    got = augment(given, np.random.default_rng(2))
    contrast = np.ptp(got[:, 0], axis=(1, 2))
    assert 0.25 <= contrast.min() < 0.27
    assert 0.98 < contrast.max() <= 1
    middle = np.full((4000, 2, 16, 16), 64, np.uint8)
    middle[:, :, 0, 0], middle[:, :, 15, 15] = 0, 255
    low, high = (f(augment(middle, np.random.default_rng(3))[:, 0], axis=(1, 2)) for f in (np.min, np.max))
    value = (augment(middle, np.random.default_rng(3))[:, 0, 8, 8] - low) / (high - low)
    x = np.float64(64 / 255)
    inverted = (1 - x) ** 2 <= value
    assert value.min() == pytest.approx(x**2, rel=0.02)  # gamma 2
    assert value.max() == pytest.approx((1 - x) ** 0.5, rel=0.02)  # gamma 1/2 of the negative
    assert inverted.mean() == pytest.approx(0.5, abs=0.04)


def test_augment_is_deterministic():
    pairs = noise((20, 2, 16, 16))
    first = augment(pairs, np.random.default_rng(5))
    np.testing.assert_array_equal(first, augment(pairs, np.random.default_rng(5)))
    assert not np.array_equal(first, augment(pairs, np.random.default_rng(6)))


def test_augment_takes_no_pairs():
    assert augment(np.empty((0, 2, 16, 16), np.uint8), np.random.default_rng(0)).shape == (0, 2, 16, 16)
