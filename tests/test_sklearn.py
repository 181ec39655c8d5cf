"""The estimators beside scikit-learn's, and what theirs do not do."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest
from scipy import sparse
from sklearn import decomposition
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer
from sklearn.utils.estimator_checks import estimator_checks_generator

from nmfuse.sklearn import NMF, MiniBatchNMF

ESTIMATORS = [
    NMF(max_iter=500),
    NMF(solver="mu", tol=1e-9, max_iter=10000),  # fit_transform must be at its minimum to agree with transform
    MiniBatchNMF(max_iter=20, fresh_restarts=True),  # which they check too
]


def problem(seed=0, shape=(60, 25), rank=4, noise=0.05):
    rng = np.random.default_rng(seed)
    W, H = rng.gamma(1, size=(shape[0], rank)), rng.gamma(1, size=(rank, shape[1]))
    return W @ H + noise * rng.random(shape)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("estimator", ESTIMATORS, ids=str)
def test_scikit_learn_checks_the_estimator(estimator):
    checked = 0
    for one, check in estimator_checks_generator(estimator):
        if check.func.__name__ != "check_array_api_input":  # asks for an environment variable of SciPy
            check(one)
            checked += 1
    assert checked > 40


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.parametrize("dtype", [np.float64, np.float32], ids=lambda t: t.__name__)
@pytest.mark.parametrize(
    "options",
    [
        {}, {"beta_loss": 1}, {"beta_loss": "itakura-saito"}, {"alpha_W": 0.01, "alpha_H": 0.02, "l1_ratio": 0.5},
    ],
    ids=str,
)  # fmt: skip
@pytest.mark.parametrize("init", ["random", "nndsvda"])
def test_the_multiplicative_iterates_are_theirs(init, options, dtype):
    X = problem().astype(dtype)
    settings = {
        "n_components": 4,
        "init": init,
        "solver": "mu",
        "random_state": 0,
        "max_iter": 15,
        "tol": 0.0,
        **options,
    }
    ours, theirs = NMF(**settings), decomposition.NMF(**settings)
    W, expected = ours.fit_transform(X), theirs.fit_transform(X)
    accuracy = {"rtol": 1e-7, "atol": 1e-9} if dtype == np.float64 else {"rtol": 2e-3, "atol": 2e-3}
    assert W.dtype == ours.components_.dtype == dtype
    np.testing.assert_allclose(W, expected, **accuracy)
    np.testing.assert_allclose(ours.components_, theirs.components_, **accuracy)
    np.testing.assert_allclose(ours.reconstruction_err_, theirs.reconstruction_err_, rtol=1e-3)
    assert ours.n_iter_ == theirs.n_iter_ == 15


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.parametrize("penalties", [{}, {"alpha_W": 0.01, "alpha_H": 0.02, "l1_ratio": 0.3}], ids=str)
def test_coordinate_descent_needs_fewer_iterations_than_theirs(penalties):
    X = problem()
    model = {"n_components": 4, "init": "nndsvda", "tol": 0.0, **penalties}
    ours, theirs = NMF(max_iter=20, **model).fit(X), decomposition.NMF(max_iter=40, **model).fit(X)
    assert ours.reconstruction_err_ < 1.01 * theirs.reconstruction_err_


@pytest.mark.parametrize(
    "options", [{}, {"alpha_W": 0.005, "l1_ratio": 0.5}, {"solver": "mu", "beta_loss": 1}], ids=str
)
def test_transform_agrees_with_fit_transform_at_convergence(options):
    X = problem()
    model = NMF(4, tol=1e-10, max_iter=20000, **options)
    W = model.fit_transform(X)
    np.testing.assert_allclose(model.transform(X), W, atol=2e-3 * W.max())


def test_shuffled_components_reach_the_same_error():
    X = problem()
    plain, shuffled = (NMF(4, tol=1e-8, max_iter=3000, shuffle=each, random_state=1) for each in (False, True))
    plain.fit(X)
    W = shuffled.fit_transform(X)
    np.testing.assert_allclose(np.linalg.norm(X - W @ shuffled.components_), shuffled.reconstruction_err_, rtol=1e-9)
    assert shuffled.n_iter_ != plain.n_iter_
    assert shuffled.reconstruction_err_ < 1.02 * plain.reconstruction_err_


@pytest.mark.parametrize("beta_loss", [2, 1])
def test_missing_values_are_filled_in(beta_loss):
    rng = np.random.default_rng(1)
    X = problem(noise=0.0)
    holes = np.where(rng.random(X.shape) < 0.2, np.nan, X)
    model = NMF(4, solver="mu", beta_loss=beta_loss, tol=1e-6, max_iter=5000, random_state=0)
    W = model.fit_transform(holes)
    missing = np.isnan(holes)
    assert np.sqrt(np.mean((X - W @ model.components_)[missing] ** 2)) < 0.05 * X.std()
    filled = model.inverse_transform(model.transform(holes[:10]))
    assert np.sqrt(np.mean((X[:10] - filled)[missing[:10]] ** 2)) < 0.05 * X.std()
    known = (holes - W @ model.components_)[~missing]
    if beta_loss == 2:
        np.testing.assert_allclose(model.reconstruction_err_, np.linalg.norm(known), rtol=1e-6)


def test_missing_values_need_a_solver_that_takes_them():
    X = problem()
    X[0, 0] = np.nan
    with pytest.raises(ValueError, match="contains NaN"):
        NMF(4).fit(X)


def test_feature_names_in_a_pipeline():
    model = make_pipeline(FunctionTransformer(feature_names_out="one-to-one"), NMF(3, max_iter=300))
    assert list(model.fit(problem()).get_feature_names_out()) == ["nmf0", "nmf1", "nmf2"]


def test_components_that_are_all_zero_transform_to_zeros():
    model = NMF(2).fit(problem())
    model.components_ = np.zeros_like(model.components_)
    assert not model.transform(problem()).any()


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.parametrize("solver", ["cd", "mu"])
def test_little_more_than_a_sparse_matrix_and_its_factors_is_in_memory(solver):
    rows, columns, each, rank = 60_000, 2_000, 100, 16
    values = np.random.default_rng(0).random(rows * each, np.float32)
    places = np.tile(np.arange(0, columns, columns // each, dtype=np.int32), rows)
    X = sparse.csr_array((values, places, np.arange(0, rows * each + 1, each, dtype=np.int32)), shape=(rows, columns))
    given = X.data.nbytes + X.indices.nbytes + X.indptr.nbytes
    model = NMF(rank, init="random", solver=solver, max_iter=1, tol=0, random_state=0)
    tracemalloc.start()
    W = model.fit_transform(X)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert given + peak < 1.2 * (given + W.nbytes + model.components_.nbytes)
