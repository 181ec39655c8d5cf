"""nmf of sparse matrices against nmf of the same dense ones."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import sparse

from nmfuse.kernels import nmf, reference, set_num_threads

from .tolerances import NMF

PENALTIES = {"l1_W": 0.02, "l1_H": 0.01, "l2_W": 0.1, "l2_H": 0.05}
SOLVERS = [{}, {"inner_iter": 3}, {"solver": "hals"}, {"solver": "hals", "inner_iter": 3}, {"beta": 1.0}]


def problem(m=150, n=90, rank=5, dtype=np.float64, seed=0):
    """A matrix of which a tenth is stored, with an empty row and column, and factors to start from."""
    rng = np.random.default_rng(seed)
    V = rng.gamma(1, size=(m, n)) * (rng.random((m, n)) < 0.1)
    V[3], V[:, 7] = 0, 0
    return V.astype(dtype), (rng.random((m, rank)) + 0.05).astype(dtype), (rng.random((rank, n)) + 0.05).astype(dtype)


@pytest.mark.parametrize("penalties", [{}, PENALTIES], ids=["plain", "penalties"])
@pytest.mark.parametrize("options", SOLVERS, ids=str)
@pytest.mark.parametrize("rank", [1, 5, 8, 19, 37])
@pytest.mark.parametrize("dtype", [np.float32, np.float64], ids=lambda t: t.__name__)
def test_a_sparse_matrix_is_factorized_as_the_same_dense_one(dtype, rank, options, penalties):
    V, W, H = problem(rank=rank, dtype=dtype)
    settings = {"max_iter": 3, "tol": 0, **options, **penalties}
    by_columns = nmf(sparse.csc_array(V), rank, init=(W, H), **settings)
    swapped = {name[:-1] + {"W": "H", "H": "W"}[name[-1]]: value for name, value in penalties.items()}
    plain = {key: value for key, value in settings.items() if key not in penalties and key not in ("max_iter", "tol")}
    by_rows = nmf(sparse.csr_matrix(V), rank, init=(W, H), **settings)  # W first: as the transpose, H first

    def expected(V, W, H, penalties):
        hals = plain.get("solver") == "hals"
        update = reference.nmf_hals_ref if hals else reference.nmf_update_ref
        others = {key: value for key, value in plain.items() if key != "solver"}
        return update(V, W, H, iterations=3, **others, **penalties)

    close = {"rtol": 0, "atol": 30 * NMF[np.dtype(dtype)] * max(1.0, float(V.max()))}
    of_columns = expected(V, W, H, penalties)
    of_rows = [x.T for x in expected(V.T, H.T, W.T, swapped)][::-1]
    for got, plain_factors in ((by_columns, of_columns), (by_rows, of_rows)):
        np.testing.assert_allclose(got[0] @ got[1], plain_factors[0] @ plain_factors[1], **close)
        beta = {"beta": options.get("beta", 2.0)}
        objective = reference.nmf_objective_ref(V, *plain_factors, **beta, **penalties)
        np.testing.assert_allclose(got[2].objective[-1], objective, rtol=100 * NMF[np.dtype(dtype)])


@pytest.mark.parametrize("options", SOLVERS, ids=str)
def test_same_bits_for_any_number_of_threads(options):
    V = sparse.csr_array(problem(3000, 400, dtype=np.float32)[0])
    results = []
    try:
        for threads in (1, 2, 7):
            set_num_threads(threads)
            W, H, info = nmf(V, 6, max_iter=4, tol=0, **options)
            results.append(W.tobytes() + H.tobytes() + info.objective.tobytes())
    finally:
        set_num_threads(None)
    assert results[0] == results[1] == results[2]


def test_the_random_start_is_that_of_the_dense_matrix():
    V, _, _ = problem()
    dense, stored = nmf(V, 5, max_iter=5, tol=0), nmf(sparse.csc_array(V), 5, max_iter=5, tol=0)
    np.testing.assert_allclose(stored[0], dense[0], atol=1e-10)
    np.testing.assert_allclose(stored[1], dense[1], atol=1e-10)


def test_fixed_W_solves_for_H_alone():
    V, W, H = problem()
    for matrix in (sparse.csr_array(V), sparse.csc_array(V)):
        got_W, got_H, _ = nmf(matrix, fixed_W=W, init=(W, H), max_iter=9, tol=0)
        np.testing.assert_array_equal(got_W, W)
        np.testing.assert_allclose(got_H, nmf(V, fixed_W=W, init=(W, H), max_iter=9, tol=0)[1], atol=1e-12)


@pytest.mark.filterwarnings("ignore:Sparse")  # torch calls them beta
def test_torch_comes_back_as_torch():
    V, W, H = problem(dtype=np.float32)
    for layout, ours in (("to_sparse_csr", sparse.csr_array), ("to_sparse_csc", sparse.csc_array)):
        tensor = getattr(torch.from_numpy(V), layout)()
        got = nmf(tensor, 5, init=(torch.from_numpy(W), torch.from_numpy(H)), max_iter=3)
        assert isinstance(got[0], torch.Tensor)
        np.testing.assert_array_equal(got[1].numpy(), nmf(ours(V), 5, init=(W, H), max_iter=3)[1])


def test_entries_that_are_stored_twice_count_once():
    twice = sparse.csr_array((np.array([1.0, 2.0, 3.0]), np.array([0, 0, 1]), np.array([0, 2, 3])), shape=(2, 2))
    W, H, _ = nmf(twice, 2, beta=1.0, max_iter=500, tol=0)
    np.testing.assert_allclose(W @ H, [[3, 0], [0, 3]], atol=1e-6)
    assert twice.nnz == 3


BAD = {
    "coo": ({"V": sparse.coo_array(np.eye(4))}, TypeError, "V: a sparse matrix in coo format; expected CSR or CSC"),
    "dtype": ({"V": sparse.csr_array(np.eye(4, dtype=int))}, TypeError, "V: dtype int64 is not supported"),
    "negative": ({"V": sparse.csr_array(-np.eye(4))}, ValueError, "V: contains negative entries"),
    "beta": ({"beta": 0.5}, ValueError, r"beta: got 0\.5 for a sparse V; expected 2 or 1"),
    "init": ({"init": "nndsvda"}, ValueError, "init: got 'nndsvda' for a sparse V; expected 'random'"),
    "out": ({"out": (np.ones((4, 2)), np.ones((2, 4)))}, ValueError, "weights, out: not supported where V is sparse"),
    "rank": ({"rank": 5}, ValueError, "rank: got 5 for V of 4 x 4"),
}


@pytest.mark.parametrize("what", BAD)
def test_bad_input_gets_a_sentence(what):
    spoiled, error, message = BAD[what]
    options = {"V": sparse.csr_array(np.eye(4)), "rank": 2, **spoiled}
    with pytest.raises(error, match=message):
        nmf(**options)
