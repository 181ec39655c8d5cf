"""Factorization by processes of torch.distributed: two of them make what one does, and send only sums."""

from __future__ import annotations

import multiprocessing
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import distributed

import nmfuse

M, N, RANK = 40, 1500, 4
CUT = 1100  # columns of the first process: more than are drawn at once, not the same as those of the second
FACTORIZATIONS: dict[str, dict[str, Any]] = {
    "given": {"max_iter": 7, "tol": 0, "check_every": 3},
    "random": {"max_iter": 5, "tol": 0, "seed": 3},
    "stopped": {"max_iter": 200, "tol": 1e-2},
}
CASES = [
    (dtype, beta, name, exponent)
    for dtype, beta, name, exponent in (
        *((dtype, beta, "given", 0) for dtype in ("float64", "float32", "uint8", "uint16") for beta in (2, 1)),
        ("float64", 2, "random", 0),
        ("float64", 2, "stopped", 0),
        ("float32", 1, "given", 60),
        ("float32", 2, "given", -40),
    )
]


def problem(dtype: str, exponent: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return a matrix with zeros, and factors to start from."""
    rng = np.random.default_rng(0)
    V = rng.gamma(1.0, size=(M, RANK)) @ rng.gamma(0.5, size=(RANK, N)) * (rng.random((M, N)) > 0.1)
    W, H = rng.random((M, RANK)) + 0.05, rng.random((RANK, N)) + 0.05
    floating = np.dtype(dtype if dtype.startswith("float") else "float32")
    V = np.minimum(V * 10, np.iinfo(dtype).max) if dtype.startswith("uint") else V * 2.0**exponent
    factors = (torch.from_numpy(x.astype(floating)) for x in (W, H * 2.0**exponent))
    return torch.from_numpy(V.astype(dtype)), *factors


def factorize(case: tuple[str, int, str, int], columns: slice) -> tuple[torch.Tensor, torch.Tensor, nmfuse.NmfInfo]:
    dtype, beta, name, exponent = case
    V, W, H = problem(dtype, exponent)
    options = FACTORIZATIONS[name] | ({} if name == "random" else {"init": (W, H[:, columns])})
    return nmfuse.scale.nmf_distributed(V[:, columns], RANK, beta=beta, **options)


def refusals(number: int) -> Iterator[tuple[str, dict[str, Any]]]:
    """Return what process 1 alone does wrong, and both are told."""
    good = torch.ones(6, 8)
    for wrong in (good * torch.nan, good - 2, good[1:], good.double()):
        yield "V", {"V": wrong if number else good, "rank": 2}
    yield "rank", {"V": good, "rank": 7}


def work(number: int, folder: Path) -> None:
    """Do what all processes do, and leave what it gave in a file."""
    torch.set_num_threads(1)
    distributed.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=number, world_size=2)
    sent, all_reduce = [], distributed.all_reduce

    def counted(sums: torch.Tensor, **options: Any) -> None:
        sent.append(sums.numel())
        all_reduce(sums, **options)

    distributed.all_reduce = counted
    found: dict[str, Any] = {"factors": []}
    for case in CASES:
        W, H, info = factorize(case, slice(0, CUT) if number == 0 else slice(CUT, N))
        found["factors"].append((W.numpy(), H.numpy(), info.objective, info.iterations))
        found.setdefault("sent", list(sent))
    found["errors"] = []
    for _, options in refusals(number):
        with pytest.raises(ValueError) as error:  # noqa: PT011  # its text is looked at where all are together
            nmfuse.scale.nmf_distributed(**options)
        found["errors"].append(str(error.value))
    torch.save(found, folder / f"{number}.pt")
    distributed.destroy_process_group()


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """Return what each of two processes found."""
    folder = tmp_path_factory.mktemp("processes")
    spawn = multiprocessing.get_context("spawn")
    processes = [spawn.Process(target=work, args=(number, folder)) for number in range(2)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
        assert process.exitcode == 0
    return [torch.load(folder / f"{number}.pt", weights_only=False) for number in range(2)]


@pytest.fixture
def alone(tmp_path: Path) -> Iterator[None]:
    """Make this process a group of its own."""
    distributed.init_process_group("gloo", init_method=f"file://{tmp_path}/meet", rank=0, world_size=1)
    yield
    distributed.destroy_process_group()


@pytest.mark.parametrize("case", CASES, ids=str)
def test_two_processes_make_what_one_makes(case: tuple[str, int, str, int], found: Any, alone: None) -> None:
    W, H, info = factorize(case, slice(None))
    one, two = (each["factors"][CASES.index(case)] for each in found)
    tolerance = 1e-12 if W.dtype == torch.float64 else 3e-5
    np.testing.assert_array_equal(one[0], two[0])
    for got, wanted in ((one[0], W), (np.concatenate([one[1], two[1]], axis=1), H)):
        assert got.dtype == wanted.numpy().dtype
        np.testing.assert_allclose(got, wanted.numpy(), rtol=0, atol=tolerance * float(wanted.max()))
    for got in (one, two):
        np.testing.assert_allclose(got[2], info.objective, rtol=tolerance)
        np.testing.assert_array_equal(got[3], info.iterations)
    if case[2] == "stopped":
        assert bool(info.converged)
        assert 10 < info.n_iter < 200


@pytest.mark.parametrize("case", [case for case in CASES if case[2] != "random"], ids=str)
def test_one_process_makes_what_nmf_makes(case: tuple[str, int, str, int], alone: None) -> None:
    dtype, beta, name, exponent = case
    V, W, H = problem(dtype, exponent)
    expected = nmfuse.nmf(V, RANK, beta=beta, init=(W, H), **FACTORIZATIONS[name])
    got = factorize(case, slice(None))
    tolerance = 1e-10 if W.dtype == torch.float64 else 5e-5
    for factor, wanted in zip(got[:2], expected[:2], strict=True):
        assert factor.dtype == wanted.dtype
        torch.testing.assert_close(factor, wanted, rtol=0, atol=tolerance * float(wanted.max()))
    np.testing.assert_allclose(got[2].objective, expected[2].objective, rtol=tolerance)
    np.testing.assert_array_equal(got[2].iterations, expected[2].iterations)


def test_only_sums_are_sent(found: Any) -> None:
    """Of the first case: the objective four times, the sums of W seven times, norms once; nothing of V and H."""
    iteration = M * RANK + RANK * RANK
    for each in found:
        assert each["sent"] == [1, *[iteration] * 3, 1, *[iteration] * 3, 1, iteration, 1, RANK]


def test_what_one_process_does_wrong_all_are_told(found: Any) -> None:
    assert found[0]["errors"] == found[1]["errors"]
    for got, wanted in zip(
        found[0]["errors"],
        (
            "V: contains NaN or inf in process 1",
            "V: contains negative entries (least -1) in process 1",
            "V: 5 rows of float32 in process 1, but 6 of float32 in process 0",
            "V: 6 rows of float64 in process 1, but 6 of float32 in process 0",
            "rank: got 7",
        ),
        strict=True,
    ):
        assert got.startswith(wanted)


def test_what_is_refused(alone: None) -> None:
    V, (W, H) = torch.ones(6, 8), (torch.ones(6, 2), torch.ones(2, 8))
    cases: list[tuple[type[Exception], str, Any, dict[str, Any]]] = [
        (TypeError, "V: got ndarray; expected a tensor", V.numpy(), {}),
        (TypeError, "V: dtype float16 is not supported", V.half(), {}),
        (ValueError, r"V: shape \(6, 0\); expected \(m, n\)", V[:, :0], {}),
        (ValueError, r"V: shape \(1, 6, 8\); expected \(m, n\)", V[None], {}),
        (ValueError, "beta: got 0; expected 2 or 1", V, {"beta": 0}),
        (ValueError, "init: got 'nndsvda'; expected 'random' or", V, {"init": "nndsvda"}),
        (ValueError, r"init: a tuple of 1; expected \(W, H\)", V, {"init": (W,)}),
        (ValueError, r"init: H of shape \(2, 7\), torch.float32, on cpu", V, {"init": (W, H[:, 1:])}),
        (ValueError, "init: W contains NaN, inf or negative", V, {"init": (-W, H)}),
    ]
    for error, message, matrix, options in cases:
        with pytest.raises(error, match=message):
            nmfuse.scale.nmf_distributed(matrix, **({"rank": 2} | options))


def test_without_a_group() -> None:
    with pytest.raises(RuntimeError, match="no process group; start the script with torchrun"):
        nmfuse.scale.nmf_distributed(torch.ones(6, 8), 2)
