"""hannmean and its adjoint against the oracle and their own laws, on every backend."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from nmfuse.kernels import hannmean, hannmean_adjoint, reference, set_num_threads

from .tolerances import ADJOINT, MEAN

DTYPES = [np.float32, np.float64, np.uint8, np.uint16]
SHAPES = [(1, 1), (1, 7), (7, 1), (2, 3), (17, 13), (2, 3, 11, 19), (33, 70)]
QUICK = settings(
    deadline=None, max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture], derandomize=True
)


def image(shape, dtype=np.float64, seed=0):
    values = np.random.default_rng(seed).random(shape)
    if np.issubdtype(dtype, np.integer):
        values = np.round(values * np.iinfo(dtype).max)
    return values.astype(dtype)


def random_codes(shape, seed=1):
    return np.random.default_rng(seed).integers(0, 3, shape).astype(np.uint8)


def run(backend, x, size=3, codes=None, function=hannmean, **options):
    """Call the public function with the mask and background that stand for `codes`."""
    if codes is not None:
        options["mask"] = backend.array(codes != reference.UNRELIABLE)
        options["background"] = backend.array(codes == reference.BACKGROUND)
    return backend.numpy(function(backend.array(x), size, **options))


@pytest.mark.parametrize("size", [3, 5, 7, 9, 11, 15])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("dtype", DTYPES, ids=lambda t: t.__name__)
def test_matches_the_oracle(backend, dtype, shape, size):
    x = image(shape, dtype)
    for codes in (None, random_codes(shape)):
        got = run(backend, x, size, codes)
        assert got.dtype == x.dtype
        expected = reference.hannmean_ref(x, size, codes)
        np.testing.assert_allclose(got, expected, rtol=0, atol=MEAN[x.dtype])


@pytest.mark.parametrize("dtype", DTYPES, ids=lambda t: t.__name__)
def test_largest_window(backend, dtype):
    x = image((20, 41), dtype)
    codes = random_codes(x.shape)
    got = run(backend, x, 63, codes)
    np.testing.assert_allclose(got, reference.hannmean_ref(x, 63, codes), rtol=0, atol=MEAN[x.dtype])


@pytest.mark.parametrize("size", [3, 5, 11])
@pytest.mark.parametrize("shape", [(1, 1), (1, 7), (2, 3), (17, 13), (2, 9, 8)], ids=str)
@pytest.mark.parametrize("dtype", [np.float32, np.float64], ids=lambda t: t.__name__)
def test_adjoint_matches_the_oracle(backend, dtype, shape, size):
    grad = image(shape, dtype)
    for codes in (None, random_codes(shape)):
        got = run(backend, grad, size, codes, hannmean_adjoint)
        expected = reference.hannmean_adjoint_ref(grad, size, codes)
        assert got.dtype == grad.dtype
        np.testing.assert_allclose(got, expected, rtol=0, atol=ADJOINT[grad.dtype] * abs(expected).max())


@QUICK
@given(
    rows=st.integers(1, 40), cols=st.integers(1, 40), half=st.integers(1, 31), seed=st.integers(0, 99),
    masked=st.booleans(),
)  # fmt: skip
def test_adjointness(backend, rows, cols, half, seed, masked):
    x, y = image((rows, cols), seed=seed), image((rows, cols), seed=seed + 1)
    codes = random_codes(x.shape, seed) if masked else None
    left = (run(backend, x, 2 * half + 1, codes) * y).sum()
    right = (x * run(backend, y, 2 * half + 1, codes, hannmean_adjoint)).sum()
    assert abs(left - right) <= 1e-12 * abs(left)


def test_window_of_size_3_is_121():
    np.testing.assert_allclose(reference.hann_window(3), [0.25, 0.5, 0.25], rtol=1e-15)


def test_impulse_response(backend):
    x = np.zeros((5, 5))
    x[2, 2] = 16
    expected = np.zeros((5, 5))
    expected[1:4, 1:4] = np.outer([1, 2, 1], [1, 2, 1])
    np.testing.assert_allclose(run(backend, x), expected, atol=1e-14)


@pytest.mark.parametrize("size", [3, 5, 9, 13])
@pytest.mark.parametrize("dtype", DTYPES, ids=lambda t: t.__name__)
def test_constants_are_preserved(backend, dtype, size):
    value = 0.7 if np.issubdtype(dtype, np.floating) else np.iinfo(dtype).max
    x = np.full((12, 21), value, dtype)
    for codes in (None, random_codes(x.shape)):
        rtol = 0 if np.issubdtype(dtype, np.integer) else MEAN[x.dtype]
        np.testing.assert_allclose(run(backend, x, size, codes), x, rtol=rtol)


def test_is_linear(backend):
    x, y = image((20, 15), seed=1), image((20, 15), seed=2)
    codes = random_codes(x.shape)
    combined = run(backend, 2 * x - 3 * y, 5, codes)
    np.testing.assert_allclose(combined, 2 * run(backend, x, 5, codes) - 3 * run(backend, y, 5, codes), atol=1e-13)


def test_commutes_with_shifts_inside(backend):
    x = image((30, 40))
    shifted = run(backend, x[3:, 5:], 7)[3:-3, 3:-3]
    np.testing.assert_allclose(shifted, run(backend, x, 7)[6:-3, 8:-3], atol=1e-14)


def test_noise_variance_falls_to_the_sum_of_squared_weights(backend):
    noise = np.random.default_rng(5).standard_normal((400, 400))
    kernel = np.outer([1, 2, 1], [1, 2, 1]) / 16
    ratio = run(backend, noise)[1:-1, 1:-1].var() / noise.var()
    assert (kernel**2).sum() == pytest.approx(0.1406, abs=1e-4)
    assert ratio == pytest.approx(0.1406, abs=3e-3)  # 160,000 pixels, correlated over 9: about 1 % of spread


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16], ids=lambda t: t.__name__)
def test_integers_round_ties_to_even(backend, dtype):
    # The middle of one row [0, a, 0] becomes a / 2.
    largest = int(np.iinfo(dtype).max)
    for a, mean in [(1, 0), (3, 2), (5, 2), (7, 4), (largest, (largest + 1) // 2)]:
        assert run(backend, np.array([[0, a, 0]], dtype))[0, 1] == mean


@pytest.mark.parametrize("size", [3, 5])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16], ids=lambda t: t.__name__)
def test_integers_are_rounded_from_exact_sums(backend, dtype, size):
    largest = int(np.iinfo(dtype).max)
    x = image((3, 70, 141), dtype)
    x[1] = x[1] // 64 * 64  # many means halfway between two integers
    x[2] = largest - x[2] % 3
    codes = random_codes(x.shape)
    for spatial, exact in ((2, True), (3, dtype == np.uint8 or size == 3)):  # 12^3 * 65535 is more than a float counts
        for chosen in (None, codes) if exact else ():
            got = run(backend, x, size, chosen, spatial=spatial)
            np.testing.assert_array_equal(got, reference.hannmean_exact_ref(x, size, chosen, spatial))


@pytest.mark.parametrize("size", [3, 5])
def test_every_tie_of_bytes_is_rounded_to_even(backend, size):
    line = np.array({3: [1, 2, 1], 5: [1, 3, 4, 3, 1]}[size])
    weights = np.outer(line, line)
    x = np.zeros((255, size, size), np.uint8)
    for tie, plane in enumerate(x):  # pixels whose weighted sum is (tie + 1/2) sum(weights), found greedily
        rest = (2 * tie + 1) * weights.sum() // 2
        for place in zip(*np.unravel_index(np.argsort(-weights, axis=None), weights.shape), strict=True):
            plane[place] = min(255, rest // weights[place])
            rest -= int(plane[place]) * weights[place]
        assert rest == 0
    middle = run(backend, x, size)[:, size // 2, size // 2]
    np.testing.assert_array_equal(middle, 2 * ((np.arange(255) + 1) // 2))


def test_nothing_bleeds_between_brain_and_background(backend):
    x = np.zeros((24, 24), np.float32)
    x[6:18, 6:18] = 1
    got = run(backend, x, 5, background=0.0)
    np.testing.assert_array_equal(got[x == 0], 0)
    np.testing.assert_allclose(got[x == 1], 1, rtol=1e-6)


@pytest.mark.parametrize("dtype", DTYPES, ids=lambda t: t.__name__)
def test_background_of_every_dtype_in_torch(dtype):
    x = image((9, 9), dtype)
    limit = float(np.median(x))
    got = hannmean(torch.from_numpy(x), background=limit).numpy()
    np.testing.assert_array_equal(got, hannmean(x, background=limit))
    np.testing.assert_array_equal(got[x <= limit], x[x <= limit])


def test_unreliable_pixels_are_replaced_and_lonely_ones_kept(backend):
    x = image((9, 9))
    mask = np.ones((9, 9), bool)
    mask[4, 4] = False
    got = run(backend, x, mask=backend.array(mask))
    weights = np.outer([1, 2, 1], [1, 2, 1]) / 16
    weights[1, 1] = 0
    assert got[4, 4] == pytest.approx((weights * x[3:6, 3:6]).sum() / weights.sum(), rel=1e-13)
    np.testing.assert_array_equal(run(backend, x, mask=backend.array(np.zeros((9, 9), bool))), x)


@pytest.mark.parametrize("size", [3, 7])
def test_nan_reaches_its_window_only(backend, size):
    x = image((30, 40), np.float32)
    x[12, 20] = np.nan
    reached = np.zeros(x.shape, bool)
    reached[12 - size // 2 : 13 + size // 2, 20 - size // 2 : 21 + size // 2] = True
    np.testing.assert_array_equal(np.isnan(run(backend, x, size)), reached)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_ignored_nan_does_no_harm(backend, bad):
    x = image((11, 12))
    mask = np.ones(x.shape, bool)
    mask[5, 6] = mask[0, 0] = False
    clean = run(backend, x, 5, mask=backend.array(mask))
    x[~mask] = bad
    np.testing.assert_array_equal(run(backend, x, 5, mask=backend.array(mask)), clean)


@pytest.mark.parametrize("dtype", DTYPES, ids=lambda t: t.__name__)
def test_outliers_match_the_oracle(backend, dtype):
    x = image((2, 14, 15), dtype)
    x[0, 5, 6] = x.max()
    if np.issubdtype(dtype, np.floating):
        x[1, 2, 3], x[1, 9, 9] = np.nan, np.inf
    codes = reference.reject_outliers_ref(x, 5, 2.0, np.ones(x.shape, np.uint8))
    assert (codes == reference.UNRELIABLE).any()
    got = run(backend, x, 5, outliers=2.0)
    np.testing.assert_allclose(got, reference.hannmean_ref(x, 5, codes), rtol=0, atol=MEAN[x.dtype])


def test_outliers_keep_the_callers_mask_as_it_was(backend):
    x = image((10, 10))
    x[4, 4] = 40
    mask = np.ones(x.shape, bool)
    mask[0, 0] = False
    given = backend.array(mask.copy())
    got = run(backend, x, 3, mask=given, outliers=3.0)
    np.testing.assert_array_equal(backend.numpy(given), mask)
    codes = reference.reject_outliers_ref(x, 3, 3.0, mask.astype(np.uint8))
    assert codes[4, 4] == reference.UNRELIABLE
    np.testing.assert_allclose(got, reference.hannmean_ref(x, 3, codes), atol=1e-14)


@pytest.mark.parametrize("shape", [(0, 5), (5, 0), (0, 4, 4)], ids=str)
def test_empty_images(backend, shape):
    assert run(backend, np.zeros(shape)).shape == shape


def test_out_and_strided_views(backend):
    base, target = image((3, 20, 24)), np.zeros((3, 10, 24))
    x = base[:, ::2, 2:20]
    out = target[..., 3:21]
    got = hannmean(backend.array(x), 5, out=backend.array(out)) if backend.name == "cpu" else None
    expected = reference.hannmean_ref(x, 5)
    if got is not None:
        assert got is out
        assert not target[..., :3].any()
        assert not target[..., 21:].any()
        np.testing.assert_allclose(out, expected, atol=1e-14)
    np.testing.assert_allclose(run(backend, x, 5), expected, atol=1e-14)


@pytest.mark.parametrize("masked", [False, True])
def test_same_bits_for_any_number_of_threads(masked):
    x = image((200, 131), np.float32)
    mask = random_codes(x.shape) == 1 if masked else None
    results = []
    try:
        for threads in (1, 2, 7):
            set_num_threads(threads)
            results.append(hannmean(x, 9, mask).tobytes())
    finally:
        set_num_threads(None)
    assert results[0] == results[1] == results[2]


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("dtype", DTYPES, ids=lambda t: t.__name__)
def test_what_exceeds_the_caches_has_the_bits_of_what_does_not(dtype, masked):
    x = image((61, 1163), dtype)
    mask = random_codes(x.shape) == 1 if masked else None
    many = np.tile(x, (2**24 // x.nbytes + 1, 1, 1))
    target = np.zeros((*many.shape[:2], many.shape[2] + 8), dtype)
    out = target[..., 3:-5]  # rows begin anywhere in a vector
    hannmean(many, 7, None if mask is None else np.broadcast_to(mask, many.shape).copy(), out=out)
    np.testing.assert_array_equal(out, np.broadcast_to(hannmean(x, 7, mask), out.shape))
    assert not target[..., :3].any()
    assert not target[..., -5:].any()


@pytest.mark.parametrize("size", [0, 1, 2, 4, -3, 65, 3.0, True, "3"])
def test_refuses_a_bad_size(backend, size):
    for function in (hannmean, hannmean_adjoint):
        with pytest.raises(ValueError, match=r"size: got .*; expected an odd int from 3 to 63"):
            function(backend.array(np.ones((4, 4))), size)


def test_refuses_bad_arrays(backend):
    x = backend.array(np.ones((4, 5)))
    with pytest.raises(TypeError, match="x: dtype int32 is not supported"):
        hannmean(backend.array(np.ones((4, 5), np.int32)))
    with pytest.raises(TypeError, match="grad: dtype uint8 is not supported"):
        hannmean_adjoint(backend.array(np.ones((4, 5), np.uint8)))
    with pytest.raises(ValueError, match=r"x: shape .* has 1 axes; expected at least 2"):
        hannmean(backend.array(np.ones(4)))
    with pytest.raises(TypeError, match="mask: dtype uint8 is not supported"):
        hannmean(x, mask=backend.array(np.ones((4, 5), np.uint8)))
    with pytest.raises(ValueError, match=r"mask: shape \(5, 4\); expected \(4, 5\)"):
        hannmean(x, mask=backend.array(np.ones((5, 4), bool)))
    with pytest.raises(ValueError, match=r"out: shape \(4, 4\); expected \(4, 5\)"):
        hannmean(x, out=backend.array(np.ones((4, 4))))
    with pytest.raises(TypeError, match="out: "):
        hannmean(x, out=backend.array(np.ones((4, 5), np.float32)))
    with pytest.raises(ValueError, match="out: overlaps x"):
        hannmean(x, out=x)
    with pytest.raises(ValueError, match="outliers: got -1; expected a positive number"):
        hannmean(x, outliers=-1)
    with pytest.raises(ValueError, match="background: got 'dark'; expected 'auto', a number or a bool array"):
        hannmean(x, background="dark")
