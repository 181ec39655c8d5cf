"""nmf against the oracle and its own laws, on every backend."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from nmfuse.kernels import nmf, reference, set_num_threads
from nmfuse.kernels.nmf import FLOOR

from .tolerances import NMF

DTYPES = [np.float32, np.float64]
BETAS = [2.0, 1.0, 0.0, 0.5, 1.5, 3.0]
# (batch, m, n, rank): tiny, thin, odd, taller than a panel, wider than a tile, several chunks; ranks of every kernel
SHAPES = [
    ((), 1, 1, 1),
    ((), 1, 9, 1),
    ((), 40, 2, 2),
    ((3,), 7, 13, 4),
    ((), 70, 300, 8),
    ((2,), 37, 530, 11),
    ((), 130, 260, 19),
    ((), 45, 90, 37),
]
PENALTIES = {"l1_W": 0.02, "l1_H": 0.01, "l2_W": 0.1, "l2_H": 0.05}
QUICK = settings(
    deadline=None, max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture], derandomize=True
)


def problem(shape, dtype=np.float64, seed=0):
    """A matrix with zeros, and factors to start from."""
    batch, m, n, rank = shape
    rng = np.random.default_rng(seed)
    V = rng.random((*batch, m, n)) * (rng.random((*batch, m, n)) > 0.3)
    W, H = rng.random((*batch, m, rank)) + 0.05, rng.random((*batch, rank, n)) + 0.05
    return V.astype(dtype), W.astype(dtype), H.astype(dtype)


def in_turn(shapes, others):
    """Pair each shape with the next of the others: all pairs take long on the SIMT runner."""
    return list(zip(shapes, itertools.cycle(others), strict=False))


def run(backend, V, *args, **options):
    """Call nmf on the backend's arrays, and give NumPy back."""
    for name in ("init", "out"):
        if isinstance(options.get(name), tuple):
            options[name] = tuple(backend.array(x) for x in options[name])
    for name in {"fixed_W", "weights"} & options.keys():
        options[name] = backend.array(options[name])
    W, H, info = nmf(backend.array(V), *args, **options)
    return backend.numpy(W), backend.numpy(H), info


def assert_close(got, expected, dtype):
    assert got.dtype == dtype
    np.testing.assert_allclose(got, expected, rtol=0, atol=NMF[np.dtype(dtype)] * max(expected.max(), 1e-30))


@pytest.mark.parametrize("beta", BETAS)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("dtype", DTYPES, ids=lambda t: t.__name__)
def test_matches_the_oracle(backend, dtype, shape, beta):
    V, W, H = problem(shape, dtype)
    if beta <= 0:
        V += 0.01
    for penalties, iterations in (({}, 1), ({}, 7), (PENALTIES, 3)):
        options = {"beta": beta, **penalties}
        got_W, got_H, info = run(
            backend, V, shape[-1], init=(W, H), max_iter=iterations, tol=0, check_every=iterations, **options
        )
        plain_W, plain_H = reference.nmf_update_ref(V, W, H, iterations=iterations, **options)
        expected_W, expected_H = reference.nmf_normalize_ref(plain_W, plain_H)
        assert_close(got_W, expected_W, dtype)
        assert_close(got_H, expected_H, dtype)
        objective = reference.nmf_objective_ref(V, plain_W, plain_H, **options)
        size = reference.nmf_objective_ref(V, W, H, **options)  # a small difference of large numbers is no better
        np.testing.assert_allclose(info.objective[-1], objective, rtol=0, atol=NMF[np.dtype(dtype)] * size.max())
        assert info.n_iter.shape == shape[0]


@pytest.mark.parametrize("inner", [2, 5])
@pytest.mark.parametrize("dtype", DTYPES, ids=lambda t: t.__name__)
def test_inner_iterations_match_the_oracle(backend, dtype, inner):
    V, W, H = problem(((2,), 33, 280, 9), dtype)
    got_W, got_H, _ = run(backend, V, 9, init=(W, H), max_iter=3, tol=0, inner_iter=inner)
    expected = reference.nmf_normalize_ref(*reference.nmf_update_ref(V, W, H, iterations=3, inner_iter=inner))
    assert_close(got_W, expected[0], dtype)
    assert_close(got_H, expected[1], dtype)


@pytest.mark.parametrize("inner", [1, 4])
@pytest.mark.parametrize(("shape", "dtype"), in_turn(SHAPES[1:], DTYPES))  # of 1 x 1 penalties leave rounding errors
def test_hals_matches_the_oracle(backend, dtype, shape, inner):
    V, W, H = problem(shape, dtype)
    for penalties, update_W in (({}, True), (PENALTIES, True), ({"l1_H": 0.3, "l2_H": 0.1}, False)):
        options = {"inner_iter": inner, **penalties}
        fixed = {} if update_W else {"fixed_W": W}
        got_W, got_H, info = run(
            backend, V, shape[-1], solver="hals", init=(W, H), max_iter=3, tol=0, **options, **fixed
        )
        plain = reference.nmf_hals_ref(V, W, H, iterations=3, update_W=update_W, **options)
        expected_W, expected_H = reference.nmf_normalize_ref(*plain) if update_W else plain
        close = {"rtol": 0, "atol": 30 * NMF[np.dtype(dtype)]}  # differences of sums, where updates are quotients
        np.testing.assert_allclose(got_W, expected_W, **close)
        np.testing.assert_allclose(got_H, expected_H, rtol=0, atol=close["atol"] * max(expected_H.max(), 1))
        objective = reference.nmf_objective_ref(V, *plain, **penalties)
        size = reference.nmf_objective_ref(V, W, H, **penalties)
        np.testing.assert_allclose(info.objective[-1], objective, rtol=0, atol=NMF[np.dtype(dtype)] * size.max())


@pytest.mark.parametrize("penalties", [{}, PENALTIES], ids=["plain", "penalties"])
def test_the_objective_of_hals_never_rises_and_falls_sooner(backend, penalties):
    V, _, _ = problem(((), 24, 50, 5))
    histories = [
        run(backend, V, 5, solver=solver, max_iter=30, tol=0, check_every=1, **penalties)[2].objective
        for solver in ("mu", "hals")
    ]
    assert (np.diff(histories[1]) <= 1e-12 * histories[1][0]).all()
    assert np.argmax(histories[1] <= histories[0][-1]) <= 15


def test_hals_with_zero_rows_and_columns_gives_no_nan(backend):
    V, _, _ = problem(((), 20, 40, 4))
    V[3], V[:, 7] = 0, 0
    for matrix in (V, np.zeros_like(V)):
        W, H, info = run(backend, matrix, 4, solver="hals", max_iter=60, tol=0)
        assert np.isfinite(W).all()
        assert np.isfinite(H).all()
        assert np.isfinite(info.objective).all()


@pytest.mark.parametrize("dtype", DTYPES, ids=lambda t: t.__name__)
@pytest.mark.parametrize(("shape", "beta"), [*in_turn(SHAPES, BETAS), *in_turn(SHAPES[4:], BETAS[:3])])
def test_weights_match_the_oracle(backend, dtype, shape, beta):
    V, W, H = problem(shape, dtype)
    rng = np.random.default_rng(1)
    known = rng.random(V.shape) < 0.8
    known[..., 0, 0] = True
    V = np.where(known, V + (0.01 if beta <= 0 else 0), np.nan).astype(dtype)
    for weights in (known, (known * rng.random(V.shape)).astype(dtype)):
        options = {"beta": beta, "weights": weights, **PENALTIES}
        got_W, got_H, info = run(backend, V, shape[-1], init=(W, H), max_iter=2, tol=0, **options)
        plain = reference.nmf_update_ref(V, W, H, iterations=2, **options)
        expected_W, expected_H = reference.nmf_normalize_ref(*plain)
        assert_close(got_W, expected_W, dtype)
        assert_close(got_H, expected_H, dtype)
        size = reference.nmf_objective_ref(V, W, H, **options)
        objective = reference.nmf_objective_ref(V, *plain, **options)
        np.testing.assert_allclose(info.objective[-1], objective, rtol=0, atol=NMF[np.dtype(dtype)] * size.max())
        assert (np.diff(info.objective, axis=0) <= 1e-6 * size).all()


def test_weights_of_one_change_nothing():
    V, W, H = problem(((), 70, 300, 8))
    for beta in (2.0, 1.0, 0.5):
        plain, weighted = (
            nmf(V, 8, beta=beta, init=(W, H), max_iter=5, tol=0, weights=s) for s in (None, np.ones_like(V))
        )
        assert_close(weighted[0], plain[0], np.float64)
        assert_close(weighted[1], plain[1], np.float64)
    torch_W = nmf(torch.from_numpy(V), 8, init=(torch.from_numpy(W), torch.from_numpy(H)), max_iter=5, tol=0,
                  beta=0.5, weights=torch.ones(V.shape, dtype=torch.bool))[0]  # fmt: skip
    np.testing.assert_array_equal(torch_W.numpy(), weighted[0])


@pytest.mark.parametrize("beta", [2.0, 1.0])
def test_a_fifth_of_the_entries_may_be_missing(beta):
    """What is not seen is predicted as well as what is: a truth of rank 5 under noise."""
    rng = np.random.default_rng(3)
    truth = rng.gamma(1.0, size=(400, 5)) @ rng.gamma(1.0, size=(5, 500))
    V = np.maximum(truth + 0.3 * rng.standard_normal(truth.shape), 0)
    known = rng.random(V.shape) >= 0.2
    errors = []
    for weights in (np.ones_like(known), known):
        settings = {"beta": beta, "weights": weights, "max_iter": 300, "tol": 1e-6}
        W, H, _ = nmf(np.where(weights, V, np.nan).astype(np.float32), 5, **settings)
        errors.append(np.sqrt(np.mean((V - W @ H)[~known] ** 2)))
    assert errors[0] < 0.33  # the noise is 0.3
    assert errors[1] < 1.05 * errors[0]


@pytest.mark.parametrize("beta", [2.0, 1.0, 0.5])
def test_fixed_W_solves_for_H_alone(backend, beta):
    V, W, H = problem(((), 30, 140, 5))
    got_W, got_H, _ = run(backend, V, fixed_W=W, init=(W, H), beta=beta, max_iter=20, tol=0)
    np.testing.assert_array_equal(got_W, W)
    _, expected = reference.nmf_update_ref(V, W, H, beta=beta, iterations=20, update_W=False)
    assert_close(got_H, expected, np.float64)


def test_fixed_W_may_have_more_columns_than_V(backend):
    V, W, H = problem(((), 4, 6, 9))
    _, got, _ = run(backend, V, fixed_W=W, init=(W, H), max_iter=5, tol=0)
    assert_close(got, reference.nmf_update_ref(V, W, H, iterations=5, update_W=False)[1], np.float64)


@pytest.mark.parametrize("penalties", [{}, PENALTIES], ids=["plain", "penalties"])
@pytest.mark.parametrize("beta", [-0.5, *BETAS])
def test_the_objective_never_rises(backend, beta, penalties):
    V, _, _ = problem(((), 24, 50, 5))
    _, _, info = run(backend, V + 0.01, 5, beta=beta, max_iter=30, tol=0, check_every=1, **penalties)
    steps = np.diff(info.objective)
    assert (steps <= 1e-12 * info.objective[0]).all()
    assert info.objective[-1] < 0.9 * info.objective[0]


def test_history_ends_with_the_returned_factors(backend):
    V, _, _ = problem(((3,), 20, 30, 4))
    W, H, info = run(backend, V, 4, max_iter=25, tol=0, check_every=10)
    np.testing.assert_array_equal(info.iterations, [0, 10, 20, 25])
    np.testing.assert_allclose(info.objective[-1], reference.nmf_objective_ref(V, W, H), rtol=1e-9)
    assert not info.converged.any()
    np.testing.assert_array_equal(info.n_iter, [25, 25, 25])


def test_converged_problems_of_a_batch_stop_and_stay(backend):
    easy = np.outer(np.arange(1.0, 13), np.arange(1.0, 31))
    hard = np.random.default_rng(0).random((12, 30))
    V = np.stack([easy, hard, easy])
    W, H, info = run(backend, V, 3, max_iter=60, tol=1e-4, check_every=5)
    assert info.converged[0]
    assert max(info.n_iter[0], info.n_iter[2]) < info.n_iter[1]
    alone = run(backend, V[1], 3, init=tuple(x[1] for x in start_of(V, 3)), max_iter=60, tol=1e-4, check_every=5)
    np.testing.assert_allclose(W[1], alone[0], rtol=1e-9)
    np.testing.assert_allclose(H[1], alone[1], rtol=1e-9)


def start_of(V, rank):
    """The random start that the docstring promises."""
    rng = np.random.default_rng(0)
    scale = np.sqrt(V.mean((-2, -1), keepdims=True) / rank)
    W = np.abs(rng.standard_normal((*V.shape[:-1], rank))) * scale
    return W, np.abs(rng.standard_normal((*V.shape[:-2], rank, V.shape[-1]))) * scale


def test_random_start_is_the_one_documented(backend):
    V, _, _ = problem(((2,), 9, 14, 3))
    by_name = run(backend, V, 3, max_iter=4, tol=0)
    by_hand = run(backend, V, 3, init=start_of(V, 3), max_iter=4, tol=0)
    np.testing.assert_allclose(by_name[0], by_hand[0], rtol=1e-9)  # a device adds up the mean in another order
    np.testing.assert_allclose(by_name[1], by_hand[1], rtol=1e-9)
    assert not np.array_equal(run(backend, V, 3, seed=1, max_iter=4, tol=0)[0], by_name[0])


@pytest.mark.parametrize("shape", [(12, 40), (40, 12)], ids=str)
def test_nndsvda_starts_without_zeros(shape):
    rng = np.random.default_rng(3)
    V = rng.random((shape[0], 3)) @ rng.random((3, shape[1]))
    W, H, _ = nmf(V, 3, init="nndsvda", max_iter=0)
    assert W.min() > 1e-3
    assert H.min() > 1e-3
    W, H, info = nmf(V, 3, init="nndsvda", max_iter=400, tol=0)
    assert np.linalg.norm(V - W @ H) < 0.05 * np.linalg.norm(V)
    assert info.objective[-1] < info.objective[0]


def test_nndsvda_is_that_of_the_definition():
    V = np.random.default_rng(4).random((9, 14))
    W, H, _ = nmf(V, 4, init="nndsvda", max_iter=0)
    U, s, Vh = np.linalg.svd(V, full_matrices=False)
    product = np.zeros((4, 9, 14))
    for k in range(4):  # the stronger of the positive and the negative part of each pair of singular vectors
        parts = [(np.maximum(sign * U[:, k], 0), np.maximum(sign * Vh[k], 0)) for sign in (1, -1)]
        u, v = max(parts, key=lambda p: np.linalg.norm(p[0]) * np.linalg.norm(p[1]))
        u, v = (np.where(x * np.sqrt(s[k]) < FLOOR, 0, x) for x in (u, v))
        weight = np.sqrt(s[k] * np.linalg.norm(u) * np.linalg.norm(v))
        u, v = weight * u / np.linalg.norm(u), weight * v / np.linalg.norm(v)
        product[k] = np.outer(np.where(u == 0, V.mean(), u), np.where(v == 0, V.mean(), v))
    np.testing.assert_allclose(W @ H, product.sum(0), rtol=1e-9)


def test_recovers_an_exact_factorization(backend):
    rng = np.random.default_rng(0)
    V = rng.random((20, 2)) @ rng.random((2, 35))
    W, H, _ = run(backend, V, 2, max_iter=2000, tol=0, check_every=500)
    assert np.abs(V - W @ H).max() < 1e-3


@pytest.mark.parametrize("beta", [2.0, 1.0, 0.5])
@pytest.mark.parametrize("dtype", DTYPES, ids=lambda t: t.__name__)
def test_zero_rows_and_columns_give_no_nan(backend, dtype, beta):
    V, _, _ = problem(((), 20, 40, 4), dtype)
    V[3], V[:, 7] = 0, 0
    for matrix in (V, np.zeros_like(V)):
        W, H, info = run(backend, matrix, 4, beta=beta, max_iter=200, tol=0)
        for x in (W, H, info.objective):
            assert np.isfinite(x).all()
        assert W.min() >= dtype(FLOOR)
        assert H.min() >= dtype(FLOOR)


def test_normalised_and_sorted(backend):
    V, _, _ = problem(((2,), 25, 60, 6))
    W, H, _ = run(backend, V, 6, max_iter=30)
    np.testing.assert_allclose(np.linalg.norm(W, axis=-2), 1, rtol=1e-12)
    strength = np.linalg.norm(H, axis=-1)
    assert (np.diff(strength, axis=-1) <= 0).all()


def test_scaling_V_scales_H(backend):
    V, _, _ = problem(((), 25, 60, 6))
    one, ten = (run(backend, factor * V, 6, max_iter=30, tol=0) for factor in (1, 16))
    np.testing.assert_allclose(ten[0], one[0], rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(ten[1], 16 * one[1], rtol=1e-9, atol=1e-8)


@pytest.mark.parametrize("exponent", [-100, -60, -14, 41, 100])
@pytest.mark.parametrize("beta", [2.0, 1.0, 0.5])
def test_V_far_from_one_is_factorized_as_well(backend, beta, exponent):
    V, W, H = problem(((), 25, 60, 6), np.float32)
    V /= np.float32(1.01) * V.max()
    scale = np.float32(2.0) ** exponent  # a power of two, so that nothing is rounded
    penalties = {"l1_W": 0.1, "l1_H": 0.2, "l2_W": 0.3, "l2_H": 0.4}
    scaled = {
        "l1_W": 0.1 * float(scale) ** beta, "l2_W": 0.3 * float(scale) ** beta,
        "l1_H": 0.2 * float(scale) ** (beta - 1), "l2_H": 0.4 * float(scale) ** (beta - 2),
    }  # fmt: skip
    one = run(backend, V, 6, beta=beta, init=(W, H), max_iter=20, tol=0, **penalties)
    far = run(backend, scale * V, 6, beta=beta, init=(W, scale * H), max_iter=20, tol=0, **scaled)
    np.testing.assert_allclose(far[0], one[0], rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(far[1] / scale, one[1], rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(far[2].objective / float(scale) ** beta, one[2].objective, rtol=1e-4)


@QUICK
@given(
    m=st.integers(1, 50), n=st.integers(1, 150), rank=st.integers(1, 12), beta=st.sampled_from([2.0, 1.0]),
    seed=st.integers(0, 99),
)  # fmt: skip
def test_any_shape_matches_the_oracle(backend, m, n, rank, beta, seed):
    rank = min(rank, m, n)
    V, W, H = problem(((), m, n, rank), seed=seed)
    got = run(backend, V, rank, beta=beta, init=(W, H), max_iter=2, tol=0)
    expected = reference.nmf_normalize_ref(*reference.nmf_update_ref(V, W, H, beta=beta, iterations=2))
    np.testing.assert_allclose(got[0] @ got[1], expected[0] @ expected[1], rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("beta", [2.0, 1.0, 0.5])
@pytest.mark.parametrize("batch", [(), (9,)], ids=str)
def test_same_bits_for_any_number_of_threads(batch, beta):
    V, _, _ = problem((batch, 150, 3000 if not batch else 300, 7), np.float32)
    results = []
    try:
        for threads in (1, 2, 7):
            set_num_threads(threads)
            W, H, info = nmf(V, 7, beta=beta, max_iter=6, tol=0)
            results.append(W.tobytes() + H.tobytes() + info.objective.tobytes())
    finally:
        set_num_threads(None)
    assert results[0] == results[1] == results[2]


def test_same_bits_on_every_run(backend):
    V, _, _ = problem(((2,), 70, 600, 7), np.float32)
    first, second = (run(backend, V, 7, max_iter=6, tol=0) for _ in range(2))
    np.testing.assert_array_equal(first[0], second[0])
    np.testing.assert_array_equal(first[1], second[1])


def test_strided_and_transposed_input(backend):
    V, W, H = problem(((), 40, 60, 3))
    expected = run(backend, V, 3, init=(W, H), max_iter=3)
    wide = np.zeros((40, 80))
    wide[:, 10:70] = V
    for view in (wide[:, 10:70], np.asfortranarray(V)):
        got = run(backend, view, 3, init=(W, H), max_iter=3)
        np.testing.assert_array_equal(got[0], expected[0])
        np.testing.assert_array_equal(got[1], expected[1])


def test_out_receives_the_factors_and_inputs_stay_as_they_were():
    V, W, H = problem(((), 10, 20, 3))
    kept = [x.copy() for x in (V, W, H)]
    out = np.empty((10, 3)), np.empty((3, 20))
    got_W, got_H, _ = nmf(V, 3, init=(W, H), max_iter=3, out=out)
    assert got_W is out[0]
    assert got_H is out[1]
    for x, before in zip((V, W, H), kept, strict=True):
        np.testing.assert_array_equal(x, before)


@pytest.mark.parametrize("options", [{}, {"beta": 1.0}, {"beta": 0.5}, {"init": "nndsvda"}, {"inner_iter": 3}], ids=str)
@pytest.mark.parametrize("shape", [((), 1, 1, 1), ((2,), 37, 530, 11), ((), 400, 2100, 8)], ids=str)
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16], ids=lambda t: t.__name__)
def test_integers_are_factorized_as_the_same_floats(dtype, shape, options):
    batch, m, n, rank = shape
    wide = np.random.default_rng(1).integers(0, np.iinfo(dtype).max, (*batch, m, n + 7), dtype, endpoint=True)
    V = wide[..., 3 : n + 3]
    expected_W, expected_H, expected = nmf(V.astype(np.float32), rank, max_iter=4, tol=0, **options)
    assert np.all(expected.objective[-1] <= expected.objective[0])
    for values in (V, torch.from_numpy(wide)[..., 3 : n + 3]):
        W, H, info = nmf(values, rank, max_iter=4, tol=0, **options)
        assert type(W) is type(values)
        assert str(W.dtype).endswith("float32")
        np.testing.assert_array_equal(np.asarray(W), expected_W)
        np.testing.assert_array_equal(np.asarray(H), expected_H)
        np.testing.assert_array_equal(info.objective, expected.objective)
    H = nmf(V, fixed_W=expected_W, max_iter=4)[1]
    np.testing.assert_array_equal(H, nmf(V.astype(np.float32), fixed_W=expected_W, max_iter=4)[1])


@pytest.mark.cuda
def test_integers_on_a_device_are_refused(cuda):
    with pytest.raises(TypeError, match="V: dtype uint8 is not supported; convert it to float32 or float64"):
        nmf(torch.ones(4, 6, dtype=torch.uint8, device="cuda"), 2)


def test_torch_comes_back_as_torch():
    V, _, _ = problem(((), 10, 20, 3), np.float32)
    W, H, _ = nmf(torch.from_numpy(V), 3)
    assert isinstance(W, torch.Tensor)
    np.testing.assert_array_equal(W.numpy(), nmf(V, 3)[0])
    np.testing.assert_array_equal(H.numpy(), nmf(V, 3)[1])


GOOD = np.ones((4, 6))
BAD = {
    "negative": ({"V": GOOD - 2}, ValueError, r"V: contains negative entries \(least -1\); shift or clip it first"),
    "nan": ({"V": GOOD * np.nan}, ValueError, r"V: contains NaN or inf"),
    "inf": ({"V": GOOD * np.inf}, ValueError, r"V: contains NaN or inf"),
    "empty": ({"V": GOOD[:0]}, ValueError, r"V: shape \(0, 6\) is empty"),
    "vector": ({"V": GOOD[0]}, ValueError, r"V: shape \(6,\) has 1 axes; expected at least 2"),
    "dtype": ({"V": GOOD.astype(int)}, TypeError, r"V: dtype int64 is not supported; convert it to float32 or"),
    "a list": ({"V": GOOD.tolist()}, TypeError, r"V: expected an array .*, got list"),
    "large rank": ({"rank": 5}, ValueError, r"rank: got 5 for V of 4 x 6; expected at most min\(m, n\) = 4"),
    "rank": ({"rank": 0}, ValueError, r"rank: got 0; expected an int of at least 1"),
    "zeros": ({"V": GOOD * 0, "beta": 0}, ValueError, r"V: contains zeros, where beta <= 0 is infinite"),
    "beta": ({"beta": np.nan}, ValueError, r"beta: got nan"),
    "tol": ({"tol": -1}, ValueError, r"tol: got -1; expected a non-negative number"),
    "max_iter": ({"max_iter": 1.5}, ValueError, r"max_iter: got 1\.5; expected an int of at least 0"),
    "check_every": ({"check_every": 0}, ValueError, r"check_every: got 0; expected an int of at least 1"),
    "inner": ({"inner_iter": 2, "beta": 1}, ValueError, r"inner_iter: got 2 with beta=1"),
    "penalty": ({"l2_H": -1.0}, ValueError, r"l2_H: got -1\.0; expected a non-negative number"),
    "init": ({"init": "svd"}, ValueError, r"init: got 'svd'; expected 'random', 'nndsvda' or \(W, H\)"),
    "init shape": ({"init": (GOOD, GOOD)}, ValueError, r"init\[0\]: shape \(4, 6\); expected \(4, 2\)"),
    "fixed_W": ({"fixed_W": GOOD[:2]}, ValueError, r"fixed_W: shape \(2, 6\); expected \(4, r\)"),
    "fixed_W dtype": ({"fixed_W": GOOD.astype("f4")}, TypeError, r"fixed_W: dtype float32 is not supported"),
    "solver": ({"solver": "cd"}, ValueError, r"solver: got 'cd'; expected one of \('mu', 'hals'\)"),
    "hals": ({"solver": "hals", "beta": 1.0}, ValueError, r"solver: 'hals' with beta=1\.0; it needs beta=2"),
    "weights": ({"weights": GOOD + 1}, ValueError, r"weights: from 2 to 2; expected numbers in \[0, 1\]"),
    "weights shape": ({"weights": GOOD[:2]}, ValueError, r"weights: shape \(2, 6\); expected that of V"),
    "no weights": ({"weights": GOOD > 2}, ValueError, r"weights: all are 0"),
    "weights dtype": ({"weights": GOOD.astype(int)}, TypeError, r"weights: dtype int64 is not supported"),
    "hals weights": ({"weights": GOOD, "solver": "hals"}, ValueError, r"weights: got solver='hals' .*pass solver='mu'"),
    "nan of weight": ({"V": GOOD * np.nan, "weights": GOOD}, ValueError, r"V: contains NaN or inf"),
    "out": ({"out": (np.ones((4, 2)), GOOD)}, ValueError, r"out: shape \(4, 6\); expected \(2, 6\)"),
}  # fmt: skip


@pytest.mark.parametrize("what", BAD)
def test_bad_input_gets_a_sentence(what):
    spoiled, error, message = BAD[what]
    options = {"V": GOOD, "rank": 2, **spoiled}
    with pytest.raises(error, match=message):
        nmf(options.pop("V"), options.pop("rank"), **options)
