"""Many runs of nmf over one matrix, and nmf over a matrix that comes in chunks."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import sparse

from nmfuse.kernels import nmf, nmf_runs, nmf_stream


def blocks(groups=3, noise=0.1, seed=0):
    """Columns in groups, the rows of which are strong."""
    rng = np.random.default_rng(seed)
    return np.kron(np.eye(groups), np.ones((12, 10))) + noise * rng.random((12 * groups, 10 * groups))


def test_a_run_is_nmf_with_its_seed():
    V = blocks()
    runs = nmf_runs(V, [2, 3], seeds=[4, 7], max_iter=20)
    assert [each.rank for each in runs] == [2, 3]
    for each in runs:
        for seed, W, H, objective in zip(each.seeds, each.W, each.H, each.objective, strict=True):
            expected = nmf(V, each.rank, seed=seed, solver="hals", inner_iter=3, max_iter=20)
            np.testing.assert_array_equal(W, expected[0])
            np.testing.assert_array_equal(H, expected[1])
            assert objective == expected[2].objective[-1]
        assert each.objective[each.best] == each.objective.min()


def test_the_consensus_counts_how_often_two_columns_are_together():
    (runs,) = nmf_runs(blocks(noise=0.8), 4, seeds=range(6), max_iter=15)
    labels = [H.argmax(0) for H in runs.H]
    expected = [[np.mean([each[i] == each[j] for each in labels]) for j in range(30)] for i in range(30)]
    np.testing.assert_allclose(runs.consensus(), expected)


def test_the_true_number_of_groups_is_the_stable_one():
    stability = {each.rank: each.stability() for each in nmf_runs(blocks(), [2, 3], seeds=range(8))}
    assert stability[3] > 0.999 > stability[2]
    truth = np.kron(np.eye(3), np.ones((10, 10)))
    np.testing.assert_array_equal(nmf_runs(blocks(), 3, seeds=range(8))[0].consensus(), truth)


def test_runs_of_a_sparse_matrix_and_of_another_divergence():
    V = sparse.csc_array(np.where(blocks() > 0.9, blocks(), 0))
    (runs,) = nmf_runs(V, 3, seeds=range(4), solver="mu", inner_iter=1, beta=1.0)
    assert runs.stability() > 0.999


def chunks_of(V, size):
    return (V[:, first : first + size] for first in range(0, V.shape[1], size))


def error(V, W):
    H = nmf(V, fixed_W=W, solver="hals", inner_iter=50, max_iter=5, tol=0)[1]
    return np.linalg.norm(V - W @ H)


@pytest.mark.parametrize("dtype", [np.float32, np.float64], ids=lambda t: t.__name__)
def test_a_stream_comes_as_far_as_the_whole_matrix(dtype):
    rng = np.random.default_rng(0)
    V = (rng.gamma(1, size=(40, 5)) @ rng.gamma(0.5, size=(5, 2000)) + 0.1 * rng.random((40, 2000))).astype(dtype)
    whole = nmf(V, 5, solver="hals", inner_iter=3, max_iter=200, tol=1e-6)[0]
    W = nmf_stream(chunks_of(V, 100), 5)
    assert W.dtype == dtype
    np.testing.assert_allclose(np.linalg.norm(W, axis=0), 1, rtol=1e-5)
    assert error(V, W) < 1.2 * error(V, whole)
    turns = (chunk for _ in range(3) for chunk in chunks_of(V, 100))
    assert error(V, nmf_stream(turns, 5, forget=0.8)) < 1.08 * error(V, whole)


def test_an_array_on_disk_is_read_in_chunks(tmp_path):
    rng = np.random.default_rng(0)
    V = rng.random((20, 3)) @ rng.random((3, 500))
    np.save(tmp_path / "v.npy", V)
    on_disk = np.load(tmp_path / "v.npy", mmap_mode="r")
    np.testing.assert_array_equal(nmf_stream(on_disk, 3, columns=128), nmf_stream(chunks_of(V, 128), 3))


def test_what_drifts_is_forgotten():
    rng = np.random.default_rng(0)
    before, after = rng.gamma(0.5, size=(2, 30, 3))
    stream = [before @ rng.random((3, 60)) for _ in range(20)] + [after @ rng.random((3, 60)) for _ in range(20)]
    kept, forgot = (error(stream[-1], nmf_stream(iter(stream), 3, forget=f)) for f in (1.0, 0.7))
    assert forgot < 0.5 * kept


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: nmf_runs(blocks(), 2, seeds=[]), "seeds: there are none"),
        (lambda: nmf_runs(blocks()[None], 2, seeds=[0]), r"V: shape \(1, 36, 30\); expected two axes"),
        (lambda: nmf_runs(blocks(), [0], seeds=[0]), "ranks: got 0; expected an int of at least 1"),
        (lambda: nmf_stream([], 2), "V: there is no chunk"),
        (lambda: nmf_stream([np.ones((4, 5)), np.ones((3, 5))], 2), r"V: a chunk of shape \(3, 5\); expected 4 rows"),
        (lambda: nmf_stream(np.ones(4), 2), r"V: shape \(4,\); expected two axes"),
        (lambda: nmf_stream([np.ones((4, 5))], 2, forget=0), "forget: got 0; expected a number above 0"),
        (lambda: nmf_stream([-np.ones((4, 5))], 2), "V: contains negative entries"),
    ],
)
def test_bad_input_gets_a_sentence(call, message):
    with pytest.raises(ValueError, match=message):
        call()
