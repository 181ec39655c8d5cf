"""Factorization in chunks: what one machine makes of the whole matrix, to the bit for any number of workers."""

from __future__ import annotations

import os
import signal
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dask
import dask.array as da
import numpy as np
import pytest
import zarr
from distributed import Client, LocalCluster

import nmfuse
from nmfuse.kernels import chunk, reference

M, N, RANK, CHUNK = 40, 290, 4, 75  # the last chunk is narrower
ONE_THREAD = {"scheduler": "synchronous"}


def problem(dtype: Any = np.float64, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return a matrix with zeros, and factors to start from."""
    rng = np.random.default_rng(seed)
    V = rng.gamma(1.0, size=(M, RANK)) @ rng.gamma(0.5, size=(RANK, N)) * (rng.random((M, N)) > 0.1)
    floating = np.dtype(dtype) if np.dtype(dtype).kind == "f" else np.dtype(np.float32)
    V = V if np.dtype(dtype).kind == "f" else np.minimum(V * 10, np.iinfo(dtype).max)
    W, H = rng.random((M, RANK)) + 0.05, rng.random((RANK, N)) + 0.05
    return V.astype(dtype), W.astype(floating), H.astype(floating)


def factorize(V: Any, **options: Any) -> tuple[np.ndarray, np.ndarray, nmfuse.NmfInfo]:
    W, H, info = nmfuse.scale.nmf(V, RANK, **options)
    return W, H.compute(), info


def in_chunks(V: np.ndarray) -> da.Array:
    return da.from_array(V, chunks=(M, CHUNK))


@pytest.mark.parametrize("beta", [2, 1])
@pytest.mark.parametrize("dtype", [np.float64, np.float32, np.uint8, np.uint16])
def test_chunks_give_what_the_whole_gives(dtype: Any, beta: int) -> None:
    V, W, H = problem(dtype)
    options: dict[str, Any] = {"beta": beta, "init": (W, H), "max_iter": 11, "tol": 0, "check_every": 4}
    expected = nmfuse.nmf(V, RANK, **options)
    with dask.config.set(ONE_THREAD):
        got = factorize(in_chunks(V), **options)
    tolerance = 1e-12 if W.dtype == np.float64 else 3e-5
    for factor, wanted in zip(got[:2], expected[:2], strict=True):
        assert factor.dtype == wanted.dtype
        np.testing.assert_allclose(factor, wanted, rtol=0, atol=tolerance * wanted.max())
    np.testing.assert_allclose(got[2].objective, expected[2].objective, rtol=tolerance)
    assert got[2].iterations.tolist() == [0, 4, 8, 11]


@pytest.mark.parametrize("beta", [2, 1])
def test_update_of_a_chunk(beta: int) -> None:
    """Of one chunk wider than a panel: the reference."""
    rng = np.random.default_rng(0)
    V, W, H = rng.random((9, 2500)), rng.random((9, 3)), rng.random((3, 2500))
    updated, sums = chunk.update_chunk(V, W, H, beta)
    wanted_W, wanted_H = reference.nmf_update_ref(V, W, H, beta=beta)
    np.testing.assert_allclose(updated, wanted_H, rtol=1e-12)
    np.testing.assert_allclose(chunk.update_W(W, sums), wanted_W, rtol=1e-12)
    objective = chunk.objective_of_chunk(V, W, H, beta)
    np.testing.assert_allclose(objective, reference.nmf_objective_ref(V, W, H, beta=beta), rtol=1e-12)


def test_it_stops_where_the_objective_no_longer_falls() -> None:
    V, W, H = problem()
    options: dict[str, Any] = {"init": (W, H), "max_iter": 200, "tol": 1e-2}
    with dask.config.set(ONE_THREAD):
        info = factorize(in_chunks(V), **options)[2]
    assert bool(info.converged)
    assert info.n_iter == nmfuse.nmf(V, RANK, **options)[2].n_iter < 200


@pytest.mark.parametrize("exponent", [-40, 60])
def test_far_from_one(exponent: int) -> None:
    V, W, H = problem(np.float32)
    options: dict[str, Any] = {"max_iter": 3, "tol": 0}
    with dask.config.set(ONE_THREAD):
        near = factorize(in_chunks(V), init=(W, H), **options)
        far = factorize(in_chunks(V * np.float32(2.0**exponent)), init=(W, H * np.float32(2.0**exponent)), **options)
    np.testing.assert_allclose(far[0], near[0], rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(far[1] * 2.0**-exponent, near[1], rtol=1e-3, atol=1e-5 * near[1].max())
    np.testing.assert_allclose(far[2].objective * 4.0**-exponent, near[2].objective, rtol=1e-4)


def test_rows_and_columns_of_zeros() -> None:
    V, _, _ = problem()
    V[3], V[:, :50] = 0, 0  # and a chunk without anything
    for beta in (2, 1):
        with dask.config.set(ONE_THREAD):
            W, H, info = factorize(in_chunks(V), beta=beta, max_iter=6, check_every=2)
        assert np.isfinite(W).all()
        assert np.isfinite(H).all()
        assert (np.diff(info.objective) <= 0).all()


class Watch:
    """Copies of chunks, by `map_blocks`: their bytes in all, and at once."""

    def __init__(self) -> None:
        self.read = self.held = self.most = 0

    def __call__(self, block: np.ndarray) -> np.ndarray:
        block = block.copy()
        self.read, self.held = self.read + block.nbytes, self.held + block.nbytes
        self.most = max(self.most, self.held)
        weakref.finalize(block, self._release, block.nbytes)
        return block

    def _release(self, size: int) -> None:
        self.held -= size


def test_only_some_chunks_of_a_file_are_in_memory(tmp_path: Path) -> None:
    V, watch = problem(np.float32)[0], Watch()
    zarr.create_array(tmp_path / "v.zarr", data=V, chunks=(M, 29))
    stored = da.from_zarr(tmp_path / "v.zarr").map_blocks(watch, meta=np.empty((0, 0), np.float32))
    options: dict[str, Any] = {"max_iter": 2, "tol": 0, "check_every": 1}
    with dask.config.set(ONE_THREAD):
        W, H, _ = factorize(stored, **options)
        expected = factorize(da.from_array(V, chunks=(M, 29)), **options)
    np.testing.assert_array_equal(W, expected[0])
    np.testing.assert_array_equal(H, expected[1])
    assert watch.read == V.nbytes * (1 + 2 + 3)  # to see its values, for each iteration, for each objective
    assert watch.most <= 2 * V.nbytes // 10  # of 10 chunks; each is read before the one before is let go
    assert watch.held == 0


def test_images_are_fused_in_tiles_of_dask_arrays(tmp_path: Path) -> None:
    a, b = np.random.default_rng(0).integers(0, 256, (2, 128, 192), np.uint8)
    np.save(tmp_path / "a.npy", a)
    watch = Watch()
    lazy = da.from_array(b, chunks=(64, 64)).map_blocks(watch, meta=np.empty((0, 0), np.uint8))
    options: dict[str, Any] = {"method": "average", "tile": 64}
    with dask.config.set(ONE_THREAD):
        nmfuse.scale.fuse_tiles([tmp_path / "a.npy", lazy], tmp_path / "f.zarr", **options)
        fused = nmfuse.io.read_image(tmp_path / "f.zarr").pixels
        np.testing.assert_array_equal(fused, nmfuse.fuse(a, b, method="average"))
        assert watch.read >= b.nbytes
        assert watch.most <= 2 * 64 * 64
        with pytest.raises(ValueError, match=r"sources\[1\]: size 128 x 191, but .*a.npy is 128 x 192"):
            nmfuse.scale.fuse_tiles([tmp_path / "a.npy", lazy[:, 1:]], tmp_path / "g.zarr", **options)
        with pytest.raises(ValueError, match=r"sources\[0\]: has chunks of unknown sizes; call compute_chunk_sizes"):
            nmfuse.scale.fuse_tiles([lazy[lazy[:, 0] > 9], lazy], tmp_path / "g.zarr", **options)


@pytest.fixture(scope="module")
def client() -> Iterator[Client]:
    """Two workers, processes of their own with one thread each."""
    with (
        dask.config.set({"distributed.comm.timeouts.connect": "2s"}),  # to one that is gone
        LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=":0") as cluster,
        Client(cluster, set_as_default=False) as client,
    ):
        yield client


def die_once(block: np.ndarray, folder: Path, when: int) -> np.ndarray:
    """Return a block; the process that is asked for the `when`-th one is killed, by itself."""
    with (folder / "asked").open("ab") as file:
        file.write(b".")
        number = file.tell()
    if number == when:
        os.kill(os.getpid(), signal.SIGKILL)
    return block


@pytest.mark.parametrize("beta", [2, 1])
def test_the_same_bits_for_any_number_of_threads(beta: int) -> None:
    V = in_chunks(problem(np.float32)[0]).rechunk((M, 17))  # 18 chunks: sums of sums
    found = []
    for workers in (1, 3):
        with dask.config.set(scheduler="threads", num_workers=workers):
            found.append(factorize(V, beta=beta, max_iter=4, tol=0))
    np.testing.assert_array_equal(found[0][0], found[1][0])
    np.testing.assert_array_equal(found[0][1], found[1][1])


def test_the_same_bits_from_processes_one_of_which_is_killed(client: Client, tmp_path: Path) -> None:
    V = in_chunks(problem(np.float32)[0])
    with dask.config.set(ONE_THREAD):
        expected = factorize(V, max_iter=6, tol=0)
    before = set(client.scheduler_info()["workers"])
    chunks = V.numblocks[1]
    dangerous = V.map_blocks(die_once, tmp_path, chunks * 5 + 2, meta=V._meta)  # in the middle of an iteration
    with client.as_current():
        got = factorize(dangerous, max_iter=6, tol=0)
    assert (tmp_path / "asked").stat().st_size > chunks * (1 + 6 + 2)  # what was lost was asked for again
    client.wait_for_workers(2)
    assert set(client.scheduler_info()["workers"]) != before
    np.testing.assert_array_equal(got[0], expected[0])
    np.testing.assert_array_equal(got[1], expected[1])
    np.testing.assert_array_equal(got[2].objective, expected[2].objective)


@pytest.mark.parametrize("beta", [2, 1])
def test_the_same_bits_wherever_arrays_lie(beta: int) -> None:
    """Arrays that come by a network lie at odd addresses; others are slices, or in the order of Fortran."""

    def moved(x: np.ndarray) -> np.ndarray:
        memory = np.empty(x.nbytes + 1, np.uint8)[1:]
        odd = memory.view(x.dtype).reshape(x.shape)
        odd[...] = x
        return odd

    V, W, H = problem(np.float32)
    expected, sums = chunk.update_chunk(V, W, H, beta)
    for other in (moved, np.asfortranarray, lambda x: np.repeat(x, 2, axis=1)[:, ::2]):
        H_there, there = chunk.update_chunk(other(V), other(W), other(H), beta)
        np.testing.assert_array_equal(H_there, expected)
        for got, wanted in zip(there, sums, strict=True):
            np.testing.assert_array_equal(got, wanted)
        assert chunk.objective_of_chunk(other(V), other(W), other(H), beta) == chunk.objective_of_chunk(V, W, H, beta)
        np.testing.assert_array_equal(chunk.update_W(other(W), sums), chunk.update_W(W, sums))
        assert chunk.look_at_chunk(other(V)) == chunk.look_at_chunk(V)


def test_what_is_refused() -> None:
    V, W, H = problem()
    good = in_chunks(V)
    cases: list[tuple[type[Exception], str, Any, dict[str, Any]]] = [
        (TypeError, "V: got ndarray; expected a dask array", V, {}),
        (TypeError, "V: got int64 in chunks of ndarray; expected NumPy's float32", good.astype(np.int64), {}),
        (ValueError, r"V: chunks of \(20, 20\) rows; .* V.rechunk\(\{0: -1\}\)", good.rechunk((20, 100)), {}),
        (ValueError, r"V: chunks .*; expected two axes", good[0], {}),
        (ValueError, r"V: chunks .*nan.*; expected two axes, and chunks of known sizes", good[:, good[0] > 1], {}),
        (ValueError, r"V: contains negative entries \(least -1\)", good - good.max() * 0 - (good == 0), {}),
        (ValueError, "V: contains NaN or inf", da.log(good) * 0, {}),
        (ValueError, "rank: got 41", good, {"rank": 41}),
        (ValueError, "beta: got 0; expected 2 or 1", good, {"beta": 0}),
        (ValueError, "tol: got -1", good, {"tol": -1}),
        (ValueError, "init: got 'nndsvda'; expected 'random' or", good, {"init": "nndsvda"}),
        (ValueError, r"init: a tuple of 1; expected \(W, H\)", good, {"init": (W,)}),
        (ValueError, r"init: H of shape \(4, 289\), float64; expected \(4, 290\)", good, {"init": (W, H[:, 1:])}),
        (ValueError, "init: contains NaN, inf or negative", good, {"init": (W, -H)}),
    ]
    with dask.config.set(ONE_THREAD):
        for error, message, matrix, options in cases:
            with pytest.raises(error, match=message), np.errstate(all="ignore"):
                nmfuse.scale.nmf(matrix, **({"rank": RANK} | options))
