"""hannmean, aggregate_blocks and their adjoints along three axes, on every backend."""

from __future__ import annotations

import re

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from nmfuse.kernels import (
    aggregate_blocks,
    aggregate_blocks_adjoint,
    detect_background,
    hannmean,
    hannmean_adjoint,
    reference,
    set_num_threads,
)

from .tolerances import ADJOINT, BLOCKS, MEAN

DTYPES = [np.float32, np.float64, np.uint8, np.uint16]
FLOATS = [np.float32, np.float64]
FUNCTIONS = [hannmean, hannmean_adjoint, aggregate_blocks, aggregate_blocks_adjoint]
# one voxel, thin along each axis, odd and prime, several volumes
SHAPES = [(1, 1, 1), (7, 1, 1), (1, 7, 1), (1, 1, 7), (2, 3, 2), (5, 11, 13), (2, 3, 4, 7, 5)]
GRIDS = [(1, 1, 1), (3, 1, 1), (1, 4, 2), (4, 3, 5), (2, 2, 3, 4)]
SIZES = [(16, 2), (1, 1), (2, 3), (5, 2), (3, 3), (1, 4), (9, 4)]  # (block, stride)
FILLS = ["nearest", 0.3]
named = {"ids": lambda t: t.__name__}
QUICK = settings(
    deadline=None, max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture], derandomize=True
)


def volume(shape, dtype=np.float64, seed=0):
    values = np.random.default_rng(seed).random(shape)
    if np.issubdtype(dtype, np.integer):
        values = np.round(values * np.iinfo(dtype).max)
    return values.astype(dtype)


def random_codes(shape, seed=1):
    return np.random.default_rng(seed).integers(0, 3, shape).astype(np.uint8)


def masks(backend, codes):
    """The mask and background that stand for `codes`."""
    if codes is None:
        return {}
    return {
        "mask": backend.array(codes != reference.UNRELIABLE),
        "background": backend.array(codes == reference.BACKGROUND),
    }


def smooth(backend, x, size=3, codes=None, function=hannmean, **options):
    return backend.numpy(function(backend.array(x), size, spatial=3, **masks(backend, codes), **options))


def spread(backend, x, block, stride, shape=None, function=aggregate_blocks, **options):
    return backend.numpy(function(backend.array(x), block, stride, shape, spatial=3, **options))


def images_of(grid, block, stride):
    """Sizes of volumes: exactly filled, larger along all axes, clipped as far as it goes, and mixed."""
    exact = tuple((n - 1) * stride + block for n in grid[-3:])
    least = tuple((n - 1) * stride + 1 for n in grid[-3:])
    return [exact, tuple(n + stride + 2 for n in exact), least, (exact[0] + 5, least[1], exact[2])]


@pytest.mark.parametrize("size", [3, 5, 7, 9, 11])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("dtype", DTYPES, **named)
def test_hannmean_matches_the_oracle(backend, dtype, shape, size):
    x = volume(shape, dtype)
    for codes in (None, random_codes(shape)):
        got = smooth(backend, x, size, codes)
        assert got.dtype == x.dtype
        np.testing.assert_allclose(got, reference.hannmean_ref(x, size, codes, 3), rtol=0, atol=MEAN[x.dtype])


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("dtype", DTYPES, **named)
def test_more_than_a_strip_and_a_tile(backend, dtype, masked):
    x = volume((2, 37, 600), dtype)
    codes = random_codes(x.shape) if masked else None
    got = smooth(backend, x, 3, codes)
    np.testing.assert_allclose(got, reference.hannmean_ref(x, 3, codes, 3), rtol=0, atol=MEAN[x.dtype])


def test_the_largest_window(backend):
    x = volume((3, 4, 5))
    codes = random_codes(x.shape)
    np.testing.assert_allclose(
        smooth(backend, x, 63, codes), reference.hannmean_ref(x, 63, codes, 3), rtol=0, atol=MEAN[x.dtype]
    )


@pytest.mark.parametrize("size", [3, 5, 11])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("dtype", FLOATS, **named)
def test_hannmean_adjoint_matches_the_oracle(backend, dtype, shape, size):
    grad = volume(shape, dtype)
    for codes in (None, random_codes(shape)):
        got = smooth(backend, grad, size, codes, hannmean_adjoint)
        expected = reference.hannmean_adjoint_ref(grad, size, codes, 3)
        assert got.dtype == grad.dtype
        np.testing.assert_allclose(got, expected, rtol=0, atol=ADJOINT[grad.dtype] * abs(expected).max())


@QUICK
@given(
    shape=st.tuples(*[st.integers(1, 14)] * 3), half=st.integers(1, 9), seed=st.integers(0, 99), masked=st.booleans()
)
def test_adjointness_of_hannmean(backend, shape, half, seed, masked):
    x, y = volume(shape, seed=seed), volume(shape, seed=seed + 1)
    codes = random_codes(shape, seed) if masked else None
    left = (smooth(backend, x, 2 * half + 1, codes) * y).sum()
    right = (x * smooth(backend, y, 2 * half + 1, codes, hannmean_adjoint)).sum()
    assert abs(left - right) <= 1e-12 * abs(left)


@pytest.mark.parametrize("size", [3, 9, 13])
@pytest.mark.parametrize("dtype", DTYPES, **named)
def test_constants_are_preserved(backend, dtype, size):
    value = 0.7 if np.issubdtype(dtype, np.floating) else np.iinfo(dtype).max
    x = np.full((4, 6, 21), value, dtype)
    for codes in (None, random_codes(x.shape)):
        rtol = 0 if np.issubdtype(dtype, np.integer) else MEAN[x.dtype]
        np.testing.assert_allclose(smooth(backend, x, size, codes), x, rtol=rtol)


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("dtype", DTYPES, **named)
def test_a_volume_of_one_plane_is_an_image(backend, dtype, masked):
    x = volume((2, 1, 13, 21), dtype)
    codes = random_codes(x.shape) if masked else None
    as_images = backend.numpy(hannmean(backend.array(x), 5, **masks(backend, codes)))
    np.testing.assert_array_equal(smooth(backend, x, 5, codes), as_images)
    if np.issubdtype(dtype, np.floating):
        as_images = backend.numpy(hannmean_adjoint(backend.array(x), 5, **masks(backend, codes)))
        np.testing.assert_array_equal(smooth(backend, x, 5, codes, hannmean_adjoint), as_images)
        as_images = backend.numpy(aggregate_blocks(backend.array(x), 5, 2, (29, 47)))
        np.testing.assert_array_equal(spread(backend, x, 5, 2, (1, 29, 47)), as_images)
        as_images = backend.numpy(aggregate_blocks_adjoint(backend.array(x), 5, 2, (3, 7)))
        np.testing.assert_array_equal(spread(backend, x, 5, 2, (1, 3, 7), aggregate_blocks_adjoint), as_images)


def test_equal_planes_are_smoothed_as_one(backend):
    # Along the depth nothing changes, so the volume's mean is the image's, up to rounding.
    x = np.repeat(volume((1, 17, 23)), 6, axis=0)
    expected = backend.numpy(hannmean(backend.array(x), 7))
    np.testing.assert_allclose(smooth(backend, x, 7), expected, atol=1e-14)


def test_impulse_response(backend):
    x = np.zeros((5, 5, 5))
    x[2, 2, 2] = 64
    expected = np.zeros((5, 5, 5))
    expected[1:4, 1:4, 1:4] = np.multiply.outer([1, 2, 1], np.outer([1, 2, 1], [1, 2, 1]))
    np.testing.assert_allclose(smooth(backend, x), expected, atol=1e-14)


@pytest.mark.parametrize("size", [3, 7])
def test_nan_reaches_its_cube_only(backend, size):
    x = volume((11, 14, 40), np.float32)
    x[5, 7, 20] = np.nan
    reached = np.zeros(x.shape, bool)
    half = size // 2
    reached[5 - half : 6 + half, 7 - half : 8 + half, 20 - half : 21 + half] = True
    np.testing.assert_array_equal(np.isnan(smooth(backend, x, size)), reached)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_ignored_nan_does_no_harm(backend, bad):
    x = volume((5, 9, 12))
    codes = np.ones(x.shape, np.uint8)
    codes[2, 5, 6] = codes[0, 0, 0] = reference.UNRELIABLE
    clean = smooth(backend, x, 5, codes)
    x[codes == reference.UNRELIABLE] = bad
    np.testing.assert_array_equal(smooth(backend, x, 5, codes), clean)


def test_lonely_and_background_voxels_keep_their_value(backend):
    x = volume((4, 5, 6))
    codes = np.zeros(x.shape, np.uint8)
    np.testing.assert_array_equal(smooth(backend, x, 3, codes), x)
    codes = random_codes(x.shape)
    got = smooth(backend, x, 3, codes)
    np.testing.assert_array_equal(got[codes == reference.BACKGROUND], x[codes == reference.BACKGROUND])


@pytest.mark.parametrize("dtype", DTYPES, **named)
def test_outliers_match_the_oracle(backend, dtype):
    x = volume((2, 4, 7, 9), dtype)
    x[0, 2, 5, 6] = x.max()
    if np.issubdtype(dtype, np.floating):
        x[1, 2, 3, 3], x[1, 0, 6, 8] = np.nan, np.inf
    codes = reference.reject_outliers_ref(x, 3, 2.0, np.ones(x.shape, np.uint8), 3)
    assert (codes == reference.UNRELIABLE).any()
    flat = reference.reject_outliers_ref(x, 3, 2.0, np.ones(x.shape, np.uint8))
    assert (codes != flat).any()  # the neighbouring planes count
    got = smooth(backend, x, 3, outliers=2.0)
    np.testing.assert_allclose(got, reference.hannmean_ref(x, 3, codes, 3), rtol=0, atol=MEAN[x.dtype])


@pytest.mark.parametrize("size", SIZES, ids=str)
@pytest.mark.parametrize("grid", GRIDS, ids=str)
@pytest.mark.parametrize("dtype", FLOATS, **named)
def test_blocks_match_the_oracle(backend, dtype, grid, size):
    scores = volume(grid, dtype)
    for shape in images_of(grid, *size):
        grad = volume((*grid[:-3], *shape), dtype)
        for fill in FILLS:
            got = spread(backend, scores, *size, shape, fill=fill)
            assert got.dtype == dtype
            expected = reference.aggregate_blocks_ref(scores, *size, shape, fill)
            np.testing.assert_allclose(got, expected, rtol=0, atol=BLOCKS[scores.dtype])
            got = spread(backend, grad, *size, grid[-3:], aggregate_blocks_adjoint, fill=fill)
            assert got.dtype == dtype
            expected = reference.aggregate_blocks_adjoint_ref(grad, *size, grid[-3:], fill)
            np.testing.assert_allclose(got, expected, rtol=0, atol=2 * BLOCKS[scores.dtype] * expected.max())


@QUICK
@given(
    grid=st.tuples(*[st.integers(1, 8)] * 3), block=st.integers(1, 9), stride=st.integers(1, 9),
    beyond=st.tuples(*[st.integers(0, 12)] * 3), fill=st.sampled_from(["nearest", 0.0]), seed=st.integers(0, 99),
)  # fmt: skip
def test_adjointness_of_blocks(backend, grid, block, stride, beyond, fill, seed):
    shape = tuple((n - 1) * stride + 1 + more for n, more in zip(grid, beyond, strict=True))
    x, y = volume(grid, seed=seed), volume(shape, seed=seed + 1)
    left = (spread(backend, x, block, stride, shape, fill=fill) * y).sum()
    right = (x * spread(backend, y, block, stride, grid, aggregate_blocks_adjoint, fill=fill)).sum()
    assert abs(left - right) <= 1e-12 * abs(left)


@pytest.mark.parametrize("size", SIZES, ids=str)
@pytest.mark.parametrize("dtype", FLOATS, **named)
def test_ones_give_ones(backend, dtype, size):
    grid = (3, 2, 5)
    for shape in images_of(grid, *size):  # small whole numbers: exact
        np.testing.assert_array_equal(spread(backend, np.ones(grid, dtype), *size, shape), np.ones(shape))


def test_gaps_take_the_nearest_plane_or_the_constant(backend):
    scores = np.array([1.0, 2.0, 3.0])[:, None, None]
    got = spread(backend, scores, 1, 4, (11, 2, 2))
    np.testing.assert_array_equal(got[:, 1, 1], [1, 1, 1, 2, 2, 2, 2, 3, 3, 3, 3])
    for value in (-7, np.nan, np.inf):
        got = spread(backend, scores, 1, 2, (7, 1, 1), fill=value)
        np.testing.assert_array_equal(got[:, 0, 0], [1, value, 2, value, 3, value, value])
    adjoint = spread(backend, np.ones((7, 1, 1)), 1, 2, (3, 1, 1), aggregate_blocks_adjoint, fill=-7)
    np.testing.assert_array_equal(adjoint[:, 0, 0], [1, 1, 1])


def test_a_nan_score_stays_in_its_cube(backend):
    scores = volume((6, 7, 8), np.float32)
    scores[2, 3, 4] = np.nan
    got = spread(backend, scores, 5, 2)
    reached = np.zeros(got.shape, bool)
    reached[4:9, 6:11, 8:13] = True
    np.testing.assert_array_equal(np.isnan(got), reached)


def test_default_shapes(backend):
    assert spread(backend, volume((3, 2, 4)), 5, 3).shape == (11, 8, 14)
    assert spread(backend, volume((2, 11, 8, 14)), 5, 3, function=aggregate_blocks_adjoint).shape == (2, 3, 2, 4)


@pytest.mark.parametrize("shape", [(0, 4, 5), (3, 0, 5), (3, 4, 0), (0, 3, 4, 5)], ids=str)
def test_empty_volumes(backend, shape):
    assert smooth(backend, np.zeros(shape)).shape == shape
    assert smooth(backend, np.zeros(shape), function=hannmean_adjoint).shape == shape
    if len(shape) == 4:
        assert spread(backend, np.zeros(shape), 5, 2).shape == (0, 9, 11, 13)
        assert spread(backend, np.zeros(shape), 2, 2, function=aggregate_blocks_adjoint).shape == (0, 1, 2, 2)


LAYOUTS = {
    "cut": lambda x: x[:, 1:, ::2, 2:9],
    "every other volume": lambda x: x[::2],
    "every other plane": lambda x: x[:, ::2],
    "upside down": lambda x: x[:, ::-1, ::-1],
    "axes swapped": lambda x: x.swapaxes(1, 3),
    "broadcast": lambda x: np.broadcast_to(x[0, :1], x.shape[1:]),
    "fortran": np.asfortranarray,
}


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("dtype", FLOATS, **named)
def test_every_layout_gives_what_its_contiguous_copy_gives(backend, dtype, layout):
    x = LAYOUTS[layout](volume((4, 6, 8, 11), dtype))
    kept, plain = x.copy(), np.array(x, order="C")
    codes = random_codes(x.shape)
    np.testing.assert_array_equal(smooth(backend, x, 5, codes), smooth(backend, plain, 5, codes))
    np.testing.assert_array_equal(spread(backend, x, 3, 2), spread(backend, plain, 3, 2))
    adjoint = aggregate_blocks_adjoint
    np.testing.assert_array_equal(
        spread(backend, x, 3, 2, function=adjoint), spread(backend, plain, 3, 2, function=adjoint)
    )
    np.testing.assert_array_equal(x, kept)


@pytest.mark.parametrize("function", FUNCTIONS)
def test_out_is_written_and_nothing_beside_it(backend, function):
    x = volume((2, 4, 6, 7))
    options = {"shape": (9, 12, 13), "block": 3, "stride": 2} if function is aggregate_blocks else {}
    if function is aggregate_blocks_adjoint:
        options = {"shape": (2, 3, 4), "block": 3, "stride": 2}
    expected = backend.numpy(function(backend.array(x), spatial=3, **options))
    shape = expected.shape
    target = backend.array(np.full((*shape[:-2], 2 * shape[-2], shape[-1] + 5), -1.0))
    out = target[..., ::2, 3:-2]
    assert function(backend.array(x), spatial=3, out=out, **options) is out
    np.testing.assert_array_equal(backend.numpy(out), expected)
    out[:] = -1
    np.testing.assert_array_equal(backend.numpy(target), -1)


def test_volumes_of_a_batch_are_alone(backend):
    x, codes = volume((2, 3, 4, 5, 6), np.float32), random_codes((2, 3, 4, 5, 6))
    together, blocks = smooth(backend, x, 5, codes), spread(backend, x, 3, 2, (9, 11, 13))
    adjoints = spread(backend, x, 2, 1, function=aggregate_blocks_adjoint)
    for index in np.ndindex(2, 3):
        np.testing.assert_array_equal(together[index], smooth(backend, x[index], 5, codes[index]))
        np.testing.assert_array_equal(blocks[index], spread(backend, x[index], 3, 2, (9, 11, 13)))
        alone = spread(backend, x[index], 2, 1, function=aggregate_blocks_adjoint)
        np.testing.assert_array_equal(adjoints[index], alone)


def test_same_bits_for_any_number_of_threads():
    x = volume((9, 75, 140), np.float32)
    mask = random_codes(x.shape) == 1
    results = []
    try:
        for threads in (1, 2, 7):
            set_num_threads(threads)
            made = [hannmean(x, 5, spatial=3), hannmean(x, 9, mask, spatial=3), hannmean_adjoint(x, 5, mask, spatial=3)]
            made += [aggregate_blocks(x[:, :40, :50], 5, 2, (25, 90, 110), spatial=3, fill=0.5)]
            made += [aggregate_blocks_adjoint(x, 5, 2, spatial=3)]
            results.append(b"".join(y.tobytes() for y in made))
    finally:
        set_num_threads(None)
    assert results[0] == results[1] == results[2]


def test_takes_and_gives_torch():
    x = volume((2, 4, 5, 6), np.float32)
    for function in FUNCTIONS:
        options = {"size": 3} if "hann" in function.__name__ else {"block": 2, "stride": 1}
        got = function(torch.from_numpy(x), spatial=3, **options)
        assert isinstance(got, torch.Tensor)
        np.testing.assert_array_equal(got.numpy(), function(x, spatial=3, **options))


@pytest.mark.parametrize("function", FUNCTIONS)
@pytest.mark.parametrize("spatial", [0, 1, 4, "3", True, None])
def test_refuses_another_number_of_axes(function, spatial):
    message = re.escape(f"spatial: got {spatial!r}; expected 2 (images) or 3 (volumes)")
    with pytest.raises(ValueError, match=message):
        function(np.ones((4, 4, 4)), spatial=spatial)


@pytest.mark.parametrize("function", FUNCTIONS)
def test_refuses_an_image_where_a_volume_is_wanted(backend, function):
    name = {aggregate_blocks: "scores", hannmean: "x"}.get(function, "grad")
    with pytest.raises(ValueError, match=rf"{name}: shape \(4, 4\) has 2 axes; expected at least 3"):
        function(backend.array(np.ones((4, 4))), spatial=3)


def test_refuses_shapes_that_do_not_fit(backend):
    x = backend.array(np.ones((4, 4, 4)))
    for shape in (5, (5, 5), (5, 5, 5, 5), (0, 5, 5), (5.0, 5, 5)):
        message = re.escape(f"shape: got {shape!r}; expected three ints of at least 1, (planes, rows, columns)")
        with pytest.raises(ValueError, match=message):
            aggregate_blocks(x, 2, 1, shape, spatial=3)
    with pytest.raises(ValueError, match="shape: axis 0 has 3 pixels, but block 3 of 4 at stride 1 starts at pixel 3"):
        aggregate_blocks(x, 2, 1, (3, 5, 5), spatial=3)
    with pytest.raises(ValueError, match=r"scores: shape \(0, 3, 3\) has no blocks; expected at least 1 x 1 x 1"):
        aggregate_blocks(backend.array(np.ones((0, 3, 3))), 2, 1, spatial=3)
    with pytest.raises(ValueError, match=r"mask: shape \(4, 4\); expected \(4, 4, 4\)"):
        hannmean(x, mask=backend.array(np.ones((4, 4), bool)), spatial=3)
    with pytest.raises(ValueError, match="out: overlaps x; pass another array"):
        hannmean(x, out=x, spatial=3)


def test_the_background_of_a_volume_is_one_object():
    # The second plane's spot is connected to the body through the first; alone it would be an object of its own.
    x = np.zeros((3, 12, 12), np.float32)
    x[0, 2:10, 2:10] = 1
    x[1, 4, 4] = 1
    x[2, 2:4, 8:10] = 1  # nothing connects this one
    x[0, 5, 5] = 0  # a hole that is open to the next plane
    expected = np.ones(x.shape, bool)
    expected[0, 2:10, 2:10] = expected[1, 4, 4] = False
    expected[0, 5, 5] = True
    np.testing.assert_array_equal(detect_background(x, spatial=3), expected)
    got = hannmean(x, 3, spatial=3, background="auto")
    np.testing.assert_array_equal(got[expected], x[expected])
    assert not detect_background(x)[2, 2, 8]
    with pytest.raises(ValueError, match=r"x: shape \(12, 12\) has 2 axes; expected at least 3"):
        detect_background(x[0], 3)
