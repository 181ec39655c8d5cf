"""aggregate_blocks and its adjoint against the oracle and their own laws, on every backend."""

from __future__ import annotations

import re

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from nmfuse.kernels import aggregate_blocks, aggregate_blocks_adjoint, reference, set_num_threads

from .tolerances import BLOCKS

DTYPES = [np.float32, np.float64]
GRIDS = [(1, 1), (1, 7), (9, 1), (5, 6), (2, 3, 4, 5), (13, 17), (2, 1, 1)]
# (block, stride): the net's, single pixels, gaps, remainders, tiles, wide gaps, block much wider than the stride
SIZES = [(16, 2), (1, 1), (2, 3), (5, 2), (7, 7), (16, 16), (3, 8), (1, 4), (20, 1), (9, 4)]
FILLS = ["nearest", 0.3]
FUNCTIONS = pytest.mark.parametrize(
    "function", [aggregate_blocks, aggregate_blocks_adjoint], ids=["forward", "adjoint"]
)
QUICK = settings(
    deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture], derandomize=True
)


def values(shape, dtype=np.float64, seed=0):
    return np.random.default_rng(seed).random(shape).astype(dtype)


def filled_exactly(grid, block, stride):
    """Size of the image that the blocks exactly fill."""
    return tuple((n - 1) * stride + block for n in grid[-2:])


def images_of(grid, block, stride):
    """Sizes of images: exactly filled, larger on both axes, clipped as far as it goes, and one axis of each."""
    exact = filled_exactly(grid, block, stride)
    least = filled_exactly(grid, 1, stride)
    larger = (exact[0] + 9, exact[1] + 2 * stride + 1)
    return [exact, larger, least, (larger[0], least[1]), (least[0], larger[1])]


def assert_adjoint_close(got, expected):
    """Relative to the largest element: an element adds up the shares of a block's pixels, all positive here."""
    np.testing.assert_allclose(got, expected, rtol=0, atol=BLOCKS[got.dtype] * expected.max())


def run(backend, x, block=16, stride=2, shape=None, function=aggregate_blocks, **options):
    return backend.numpy(function(backend.array(x), block, stride, shape, **options))


@pytest.mark.parametrize("size", SIZES, ids=str)
@pytest.mark.parametrize("grid", GRIDS, ids=str)
@pytest.mark.parametrize("dtype", DTYPES, ids=lambda t: t.__name__)
def test_matches_the_oracle(backend, dtype, grid, size):
    scores = values(grid, dtype)
    for shape in images_of(grid, *size):
        for fill in FILLS:
            got = run(backend, scores, *size, shape, fill=fill)
            assert got.dtype == dtype
            expected = reference.aggregate_blocks_ref(scores, *size, shape, fill)
            np.testing.assert_allclose(got, expected, rtol=0, atol=BLOCKS[scores.dtype])


@pytest.mark.parametrize("size", SIZES, ids=str)
@pytest.mark.parametrize("grid", GRIDS, ids=str)
@pytest.mark.parametrize("dtype", DTYPES, ids=lambda t: t.__name__)
def test_adjoint_matches_the_oracle(backend, dtype, grid, size):
    for shape in images_of(grid, *size):
        grad = values((*grid[:-2], *shape), dtype)
        for fill in FILLS:
            got = run(backend, grad, *size, grid[-2:], aggregate_blocks_adjoint, fill=fill)
            assert got.dtype == dtype
            expected = reference.aggregate_blocks_adjoint_ref(grad, *size, grid[-2:], fill)
            assert_adjoint_close(got, expected)


@QUICK
@given(
    grid=st.tuples(st.integers(1, 24), st.integers(1, 24)), block=st.integers(1, 24), stride=st.integers(1, 24),
    beyond=st.tuples(st.integers(0, 40), st.integers(0, 40)), fill=st.sampled_from(FILLS), seed=st.integers(0, 99),
)  # fmt: skip
def test_any_grid_matches_the_oracle(backend, grid, block, stride, beyond, fill, seed):
    shape = tuple(n + more for n, more in zip(filled_exactly(grid, 1, stride), beyond, strict=True))
    scores, grad = values(grid, seed=seed), values(shape, seed=seed + 1)
    got = run(backend, scores, block, stride, shape, fill=fill)
    expected = reference.aggregate_blocks_ref(scores, block, stride, shape, fill)
    np.testing.assert_allclose(got, expected, rtol=0, atol=BLOCKS[scores.dtype])
    got = run(backend, grad, block, stride, grid, aggregate_blocks_adjoint, fill=fill)
    expected = reference.aggregate_blocks_adjoint_ref(grad, block, stride, grid, fill)
    assert_adjoint_close(got, expected)


@QUICK
@given(
    grid=st.tuples(st.integers(1, 24), st.integers(1, 24)), block=st.integers(1, 24), stride=st.integers(1, 24),
    beyond=st.tuples(st.integers(0, 40), st.integers(0, 40)), fill=st.sampled_from(["nearest", 0.0]),
    seed=st.integers(0, 99),
)  # fmt: skip
def test_adjointness(backend, grid, block, stride, beyond, fill, seed):
    shape = tuple(n + more for n, more in zip(filled_exactly(grid, 1, stride), beyond, strict=True))
    x, y = values(grid, seed=seed), values(shape, seed=seed + 1)
    left = (run(backend, x, block, stride, shape, fill=fill) * y).sum()
    right = (x * run(backend, y, block, stride, grid, aggregate_blocks_adjoint, fill=fill)).sum()
    assert abs(left - right) <= 1e-12 * abs(left)


@pytest.mark.parametrize("shape", [(256, 256), (255, 250), (300, 257)], ids=str)
@pytest.mark.parametrize("dtype", DTYPES, ids=lambda t: t.__name__)
def test_several_bands_match_the_oracle(backend, dtype, shape):
    # The default grid of a 256 x 256 image, 121 x 121, fills it exactly; the others clip it and extend it.
    scores = values((121, 121), dtype)
    expected = reference.aggregate_blocks_ref(scores, 16, 2, shape)
    np.testing.assert_allclose(run(backend, scores, shape=shape), expected, rtol=0, atol=BLOCKS[scores.dtype])
    grad = values(shape, dtype)
    expected = reference.aggregate_blocks_adjoint_ref(grad, 16, 2, (121, 121))
    got = run(backend, grad, shape=(121, 121), function=aggregate_blocks_adjoint)
    assert_adjoint_close(got, expected)


def test_blocks_and_strides_larger_than_the_image(backend):
    scores, grad = values((4, 3)), values((9, 8))
    for block in (50, 1000, 10**12):
        got = run(backend, scores, block, 2, (9, 8))
        expected = reference.aggregate_blocks_ref(scores, 50, 2, (9, 8))
        np.testing.assert_allclose(got, expected, rtol=0, atol=BLOCKS[scores.dtype])
        got = run(backend, grad, block, 2, (4, 3), aggregate_blocks_adjoint)
        assert_adjoint_close(got, reference.aggregate_blocks_adjoint_ref(grad, 50, 2, (4, 3)))
    for stride in (50, 10**12):  # of one block
        got = run(backend, scores[:1, :1], 3, stride, (9, 8), fill=0.25)
        np.testing.assert_array_equal(got, reference.aggregate_blocks_ref(scores[:1, :1], 3, 50, (9, 8), 0.25))
        got = run(backend, grad, 3, stride, (1, 1), aggregate_blocks_adjoint)
        assert_adjoint_close(got, reference.aggregate_blocks_adjoint_ref(grad, 3, 50, (1, 1)))


def test_default_shapes(backend):
    assert run(backend, values((121, 120))).shape == (256, 254)
    assert run(backend, values((3, 2, 4)), 2, 5).shape == (3, 7, 17)
    adjoint = aggregate_blocks_adjoint
    assert run(backend, values((256, 257)), function=adjoint).shape == (121, 121)
    assert run(backend, values((2, 10, 3)), 16, 2, function=adjoint).shape == (2, 1, 1)  # never none


def test_by_hand(backend):
    got = run(backend, np.array([[0.0, 1.0]]), 2, 1, (2, 3))
    np.testing.assert_array_equal(got, [[0, 0.5, 1], [0, 0.5, 1]])
    got = run(backend, np.array([[0.0], [3.0], [6.0]]), 3, 2)[:, 0]
    np.testing.assert_array_equal(got, [0, 0, 1.5, 3, 4.5, 6, 6])
    got = run(backend, np.ones((2, 3)), 2, 1, (1, 2), aggregate_blocks_adjoint)
    np.testing.assert_array_equal(got, [[3, 3]])


def test_gaps_take_the_nearest_pixel_and_ties_the_lower(backend):
    scores = np.array([[1.0, 2.0, 3.0]])
    tie = run(backend, scores, 1, 4, (3, 11))
    np.testing.assert_array_equal(tie, [[1, 1, 1, 2, 2, 2, 2, 3, 3, 3, 3]] * 3)
    no_tie = run(backend, scores, 1, 3, (1, 8))
    np.testing.assert_array_equal(no_tie, [[1, 1, 2, 2, 2, 3, 3, 3]])
    down = run(backend, scores.T.copy(), 1, 4, (11, 2))
    np.testing.assert_array_equal(down, tie[:2].T)


def test_a_constant_fills_what_no_block_covers(backend):
    got = run(backend, np.array([[1.0, 2.0]]), 1, 2, (2, 5), fill=-7)
    np.testing.assert_array_equal(got, [[1, -7, 2, -7, -7], [-7] * 5])
    got = run(backend, np.array([[1.0, 2.0]]), 1, 2, (2, 5), fill=np.nan)
    np.testing.assert_array_equal(got, [[1, np.nan, 2, np.nan, np.nan], [np.nan] * 5])
    assert run(backend, np.ones((2, 2)), 1, 1, (3, 3), fill=float("inf"))[2, 2] == np.inf
    grad = run(backend, np.ones((2, 5)), 1, 2, (1, 2), aggregate_blocks_adjoint, fill=-7)
    np.testing.assert_array_equal(grad, [[1, 1]])


@pytest.mark.parametrize("size", SIZES, ids=str)
@pytest.mark.parametrize("dtype", DTYPES, ids=lambda t: t.__name__)
def test_ones_give_ones(backend, dtype, size):
    grid = (6, 11)
    for shape in images_of(grid, *size):  # small whole numbers: exact
        np.testing.assert_array_equal(run(backend, np.ones(grid, dtype), *size, shape), np.ones(shape))
        np.testing.assert_array_equal(run(backend, np.ones(grid, dtype), *size, shape, fill=1), np.ones(shape))


@pytest.mark.parametrize("size", SIZES, ids=str)
def test_means_lie_within_the_scores(backend, size):
    scores = values((7, 12)) - 0.5
    for shape in images_of(scores.shape, *size):
        got = run(backend, scores, *size, shape)
        assert scores.min() - 1e-15 <= got.min() <= got.max() <= scores.max() + 1e-15


@pytest.mark.parametrize("size", [(16, 2), (5, 2), (2, 3)], ids=str)
def test_is_linear(backend, size):
    x, y = values((9, 8), seed=1), values((9, 8), seed=2)
    combined = run(backend, 2 * x - 3 * y, *size)
    np.testing.assert_allclose(combined, 2 * run(backend, x, *size) - 3 * run(backend, y, *size), atol=1e-13)
    adjoint = aggregate_blocks_adjoint
    u, v = values((31, 28), seed=3), values((31, 28), seed=4)
    combined = run(backend, 2 * u - 3 * v, *size, function=adjoint)
    apart = 2 * run(backend, u, *size, function=adjoint) - 3 * run(backend, v, *size, function=adjoint)
    np.testing.assert_allclose(combined, apart, atol=1e-12)


def test_moves_with_the_grid(backend):
    scores = values((20, 30))
    moved = run(backend, scores[3:, 5:], 5, 2)
    inside = slice(5, -5)  # away from the border each pixel has the same blocks
    np.testing.assert_allclose(moved[inside, inside], run(backend, scores, 5, 2)[6:, 10:][inside, inside], atol=1e-14)


def test_the_adjoint_shares_out_what_it_is_given(backend):
    # Its elements sum to those of the gradient: every pixel gives all it has, to the blocks that made it.
    grad = values((40, 37))
    for size in SIZES:
        got = run(backend, grad, *size, (2, 3), aggregate_blocks_adjoint)
        assert got.sum() == pytest.approx(grad.sum(), rel=1e-13)


@pytest.mark.parametrize("size", SIZES, ids=str)
@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_nan_and_inf_stay_in_the_pixels_of_their_block(backend, bad, size):
    block, stride = size
    scores = values((12, 13), np.float32)
    scores[5, 7] = bad
    shape = filled_exactly(scores.shape, block, stride)
    reached = np.zeros(shape, bool)
    reached[5 * stride : 5 * stride + block, 7 * stride : 7 * stride + block] = True
    got = run(backend, scores, block, stride, shape, fill=0.5)
    np.testing.assert_array_equal(~np.isfinite(got), reached)
    np.testing.assert_array_equal(np.isnan(got), reached & np.isnan(bad))
    by_nearest = reference.aggregate_blocks_ref(scores, block, stride, shape)
    np.testing.assert_array_equal(np.isnan(run(backend, scores, block, stride, shape)), np.isnan(by_nearest))


@pytest.mark.parametrize("size", SIZES, ids=str)
def test_nan_in_a_gradient_reaches_the_blocks_of_its_pixel(backend, size):
    block, stride = size
    grid = (9, 10)
    grad = values(filled_exactly(grid, block, stride), np.float32)
    y, x = 4 * stride, 5 * stride
    grad[y, x] = np.nan
    rows, cols = (np.arange(n) * stride for n in grid)
    reached = np.outer((rows <= y) & (y < rows + block), (cols <= x) & (x < cols + block))
    got = run(backend, grad, block, stride, grid, aggregate_blocks_adjoint, fill=0.0)
    np.testing.assert_array_equal(np.isnan(got), reached)


def test_planes_of_a_batch_are_alone(backend):
    scores = values((3, 2, 40, 11), np.float32)
    together = run(backend, scores, 7, 3, (130, 41))
    grad = values((3, 2, 50, 41), np.float32)
    adjoints = run(backend, grad, 7, 3, (15, 11), aggregate_blocks_adjoint)
    for index in np.ndindex(3, 2):
        np.testing.assert_array_equal(together[index], run(backend, scores[index], 7, 3, (130, 41)))
        alone = run(backend, grad[index], 7, 3, (15, 11), aggregate_blocks_adjoint)
        np.testing.assert_array_equal(adjoints[index], alone)


def test_empty_batches(backend):
    assert run(backend, np.zeros((0, 3, 4)), 5, 2).shape == (0, 9, 11)
    assert run(backend, np.zeros((2, 0, 9, 11)), 5, 2, function=aggregate_blocks_adjoint).shape == (2, 0, 3, 4)


@pytest.mark.parametrize(
    "view",
    [
        lambda x: x[:, ::2, 2:20],
        lambda x: x[:, ::-1],
        lambda x: x[..., ::-2],
        lambda x: x.swapaxes(1, 2),
        lambda x: x[::2, 3:9, 5:6],
        lambda x: np.broadcast_to(x[0, 0], (4, 6, x.shape[-1])),
        lambda x: np.asfortranarray(x),
    ],
    ids=["cut", "upside down", "every other, backwards", "transposed", "one column", "broadcast", "fortran"],
)
@pytest.mark.parametrize("dtype", DTYPES, ids=lambda t: t.__name__)
def test_strided_views(backend, dtype, view):
    x = view(values((3, 20, 24), dtype))
    kept = x.copy()
    np.testing.assert_array_equal(run(backend, x, 5, 2), run(backend, np.array(x, order="C"), 5, 2))
    adjoint = run(backend, x, 5, 2, (1, 1), aggregate_blocks_adjoint)
    np.testing.assert_array_equal(adjoint, run(backend, np.array(x, order="C"), 5, 2, (1, 1), aggregate_blocks_adjoint))
    np.testing.assert_array_equal(x, kept)


@FUNCTIONS
@pytest.mark.parametrize("fill", FILLS)
def test_out(backend, function, fill):
    adjoint = function is aggregate_blocks_adjoint
    stride, shape = (1, (7, 8)) if adjoint else (4, (60, 55))  # the forward one has gaps to fill
    x = values((2, 12, 13))
    expected = run(backend, x, 3, stride, shape, function, fill=fill)
    out = backend.array(np.full((2, *shape), np.nan))
    assert function(backend.array(x), 3, stride, shape, fill=fill, out=out) is out
    np.testing.assert_array_equal(backend.numpy(out), expected)

    # A view: nothing beside it is touched.
    target = backend.array(np.full((2, 2 * shape[0], shape[1] + 5), -1.0))
    out = target[:, ::2, 3:-2]
    assert function(backend.array(x), 3, stride, shape, fill=fill, out=out) is out
    np.testing.assert_array_equal(backend.numpy(out), expected)
    out[:] = -1
    np.testing.assert_array_equal(backend.numpy(target), -1)


def test_takes_and_gives_torch():
    scores = values((2, 5, 6), np.float32)
    got = aggregate_blocks(torch.from_numpy(scores), 5, 2)
    assert isinstance(got, torch.Tensor)
    np.testing.assert_array_equal(got.numpy(), aggregate_blocks(scores, 5, 2))
    back = aggregate_blocks_adjoint(got, 5, 2)
    assert isinstance(back, torch.Tensor)
    np.testing.assert_array_equal(back.numpy(), aggregate_blocks_adjoint(got.numpy(), 5, 2))


@pytest.mark.parametrize("stride", [2, 3])
@pytest.mark.parametrize("dtype", [np.float32, np.float64], ids=lambda t: t.__name__)
def test_what_exceeds_the_caches_has_the_bits_of_what_does_not(dtype, stride):
    scores, shape = np.random.default_rng(0).random((29, 400)).astype(dtype), (29 * stride + 8, 400 * stride + 9)
    many = np.tile(scores, (2**24 // (shape[0] * shape[1] * scores.itemsize) + 1, 1, 1))
    target = np.zeros((len(many), shape[0], shape[1] + 8), dtype)
    out = target[..., 3:-5]  # rows begin anywhere in a vector
    aggregate_blocks(many, 8, stride, shape, out=out)
    np.testing.assert_array_equal(out, np.broadcast_to(aggregate_blocks(scores, 8, stride, shape), out.shape))
    assert not target[..., :3].any()
    assert not target[..., -5:].any()


@pytest.mark.parametrize("size", [(16, 2), (5, 3), (2, 3)], ids=str)
def test_same_bits_for_any_number_of_threads(size):
    scores = values((2, 150, 131), np.float32)
    grad = values((2, 333, 290), np.float32)
    results = []
    try:
        for threads in (1, 2, 7):
            set_num_threads(threads)
            forward = aggregate_blocks(scores, *size, (470, 430))
            adjoint = aggregate_blocks_adjoint(grad, *size)
            results.append(forward.tobytes() + adjoint.tobytes())
    finally:
        set_num_threads(None)
    assert results[0] == results[1] == results[2]


@FUNCTIONS
@pytest.mark.parametrize("value", [0, -2, 2.0, True, "3", None])
@pytest.mark.parametrize("name", ["block", "stride"])
def test_refuses_a_bad_block_or_stride(backend, function, name, value):
    message = re.escape(f"{name}: got {value!r}; expected an int of at least 1 pixel")
    with pytest.raises(ValueError, match=message):
        function(backend.array(np.ones((4, 4))), **{name: value})


@FUNCTIONS
@pytest.mark.parametrize("fill", ["zero", "", True, None, [0]])
def test_refuses_a_bad_fill(backend, function, fill):
    message = re.escape(f"fill: got {fill!r}; expected 'nearest' or a number")
    with pytest.raises(ValueError, match=message):
        function(backend.array(np.ones((4, 4))), 2, 1, fill=fill)


@FUNCTIONS
@pytest.mark.parametrize("shape", [5, (5,), (5, 5, 5), (0, 5), (5, -1), (5.0, 5), "ab"])
def test_refuses_a_bad_shape(backend, function, shape):
    message = re.escape(f"shape: got {shape!r}; expected two ints of at least 1, (rows, columns)")
    with pytest.raises(ValueError, match=message):
        function(backend.array(np.ones((4, 4))), 2, 1, shape)


def test_every_block_starts_inside_the_image(backend):
    scores = backend.array(np.ones((4, 5)))
    aggregate_blocks(scores, 16, 2, (7, 9))
    message = r"shape: axis 0 has 6 pixels, but block 3 of 4 at stride 2 starts at pixel 6; expected at most 3 blocks"
    with pytest.raises(ValueError, match=message):
        aggregate_blocks(scores, 16, 2, (6, 9))
    message = r"shape: axis 1 has 8 pixels, but block 4 of 5 at stride 2 starts at pixel 8; expected at most 4 blocks"
    with pytest.raises(ValueError, match=message):
        aggregate_blocks(scores, 16, 2, (7, 8))
    message = r"shape: axis 1 has 5 pixels, but block 3 of 4 at stride 2 starts at pixel 6; expected at most 3 blocks"
    with pytest.raises(ValueError, match=message):
        aggregate_blocks_adjoint(scores, 2, 2, (2, 4))


def test_refuses_bad_arrays(backend):
    x = backend.array(np.ones((4, 5)))
    for function, name in ((aggregate_blocks, "scores"), (aggregate_blocks_adjoint, "grad")):
        for dtype in (np.int32, np.uint8, np.float16):
            with pytest.raises(TypeError, match=f"{name}: dtype .* is not supported; convert it to float32 or float64"):
                function(backend.array(np.ones((4, 5), dtype)), 2, 1)
        with pytest.raises(ValueError, match=rf"{name}: shape \(4,\) has 1 axes; expected at least 2"):
            function(backend.array(np.ones(4)), 2, 1)
        with pytest.raises(TypeError, match=rf"{name}: expected an array .*, got list; pass numpy.asarray\({name}\)"):
            function([[1.0]], 2, 1)
        with pytest.raises(ValueError, match=rf"out: overlaps {name}; pass another array"):
            function(x, 1, 1, out=x)
        with pytest.raises(ValueError, match=r"out: shape \(4, 4\); expected \(4, 5\)"):
            function(x, 1, 1, out=backend.array(np.ones((4, 4))))
        with pytest.raises(TypeError, match="out: dtype float32 is not supported; convert it to float64"):
            function(x, 1, 1, out=backend.array(np.ones((4, 5), np.float32)))
    with pytest.raises(ValueError, match=r"scores: shape \(0, 3\) has no blocks; expected at least 1 x 1"):
        aggregate_blocks(backend.array(np.ones((0, 3))), 2, 1)
    with pytest.raises(ValueError, match="shape: axis 0 has 0 pixels"):
        aggregate_blocks_adjoint(backend.array(np.ones((0, 3))), 2, 1)


@FUNCTIONS
def test_refuses_an_out_it_cannot_write(function):
    read_only = np.zeros((4, 5))
    read_only.flags.writeable = False
    with pytest.raises(ValueError, match="out: the array is read-only; pass a writable one"):
        function(np.ones((4, 5)), 1, 1, out=read_only)
    with pytest.raises(ValueError, match="out: the last axis must be contiguous"):
        function(np.ones((4, 5)), 1, 1, out=np.zeros((5, 4)).T)
