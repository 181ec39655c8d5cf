"""What only a CUDA device can show: the caller's stream and library, graphs, large sizes."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import numpy as np
import pytest

import nmfuse
from nmfuse.kernels import _native, reference

pytestmark = [pytest.mark.cuda, pytest.mark.usefixtures("cuda")]


def random(shape: tuple[int, ...], seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).random(shape, np.float32)


@pytest.fixture(params=["cupy", "torch"])
def library(request: pytest.FixtureRequest) -> Any:
    """A module-like object with `array` and `host`."""
    if request.param == "cupy":
        cupy = pytest.importorskip("cupy")
        return type(
            "Cupy", (), {"array": staticmethod(cupy.asarray), "host": staticmethod(cupy.asnumpy), "name": "cupy"}
        )
    import torch

    return type(
        "Torch",
        (),
        {
            "array": staticmethod(lambda x: torch.from_numpy(x).cuda()),
            "host": staticmethod(lambda x: x.cpu().numpy()),
            "name": "torch",
        },
    )


def test_the_same_kind_comes_back(library: Any) -> None:
    x, scores = library.array(random((2, 40, 50))), library.array(random((10, 12)))
    V = library.array(random((20, 300)))
    y, w = nmfuse.hannmean(x, 5), nmfuse.aggregate_blocks(scores)
    W, H, info = nmfuse.nmf(V, 4, max_iter=20)
    for result, source in ((y, x), (w, scores), (W, V), (H, V)):
        assert type(result) is type(source)
        assert result.device == source.device
    np.testing.assert_allclose(library.host(y), reference.hannmean_ref(library.host(x), 5), atol=4e-6)
    cpu_W, cpu_H, cpu_info = nmfuse.nmf(random((20, 300)), 4, max_iter=20)
    np.testing.assert_allclose(library.host(W) @ library.host(H), cpu_W @ cpu_H, rtol=1e-3, atol=1e-5)
    np.testing.assert_array_equal(info.iterations, cpu_info.iterations)


def test_converged_problems_stop_where_the_cpu_stops(library: Any) -> None:
    V = np.stack([np.outer(np.arange(1.0, 13), np.arange(1.0, 31)), np.random.default_rng(0).random((12, 30))])
    *_, there = nmfuse.nmf(library.array(V), 3, max_iter=200, tol=1e-4, check_every=5)
    *_, here = nmfuse.nmf(V, 3, max_iter=200, tol=1e-4, check_every=5)
    np.testing.assert_array_equal(there.n_iter, here.n_iter)
    np.testing.assert_array_equal(there.converged, here.converged)
    np.testing.assert_allclose(there.objective, here.objective, rtol=1e-6)


def test_work_is_queued_on_the_callers_stream() -> None:
    import torch

    x = torch.rand(2048, 2048, device="cuda")
    expected = nmfuse.hannmean(x, 9)
    torch.cuda.synchronize()
    stream = torch.cuda.Stream()
    with torch.cuda.stream(stream):
        nmfuse.hannmean(x * 2, 9)  # loads modules, which may wait
        stream.synchronize()
        torch.cuda._sleep(200_000_000)  # about a tenth of a second
        late = x * 2
        result = nmfuse.hannmean(late, 9)
        assert not stream.query()  # neither waited for it
    stream.synchronize()
    torch.testing.assert_close(result, 2 * expected)


def _recorded(call: Any) -> tuple[Any, Any]:
    import torch

    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        call()  # loads modules
    stream.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        result = call()
    return graph, result


def test_graphs_record_the_kernels() -> None:
    import torch

    x, scores = torch.zeros(300, 400, device="cuda"), torch.zeros(100, 90, device="cuda")
    hann, y = _recorded(lambda: nmfuse.hannmean(x, 7))
    blocks, w = _recorded(lambda: nmfuse.aggregate_blocks(scores))
    x.copy_(torch.rand_like(x))
    scores.copy_(torch.rand_like(scores))
    hann.replay()
    blocks.replay()
    torch.testing.assert_close(y, nmfuse.hannmean(x, 7))
    torch.testing.assert_close(w, nmfuse.aggregate_blocks(scores))


@pytest.mark.parametrize("shape", [(64, 3000), (8, 30, 100)], ids=["grid", "blocks"])
def test_graphs_record_a_factorization(shape: tuple[int, ...]) -> None:
    import torch

    *batch, m, n = shape
    V, W, H = (torch.rand(*batch, *size, device="cuda") + 0.1 for size in ((m, n), (m, 5), (5, n)))
    options = {"init": (W, H), "tol": 0, "max_iter": 20}
    graph, (got_W, got_H, info) = _recorded(lambda: nmfuse.nmf(V, 5, **options))
    V.copy_(torch.rand_like(V))
    graph.replay()
    expected_W, expected_H, expected = nmfuse.nmf(V, 5, **options)
    torch.testing.assert_close(got_W, expected_W, rtol=0, atol=0)
    torch.testing.assert_close(got_H, expected_H, rtol=0, atol=0)
    np.testing.assert_array_equal(info.objective, expected.objective)
    with pytest.raises(ValueError, match=r"init, tol: a CUDA graph records work on data not known yet"):
        _recorded(lambda: nmfuse.nmf(V * 1, 5))  # an empty graph would warn


def test_the_same_bits_on_every_run() -> None:
    import torch

    V = torch.rand(512, 16384, device="cuda")
    first, second = (nmfuse.nmf(V, 16, max_iter=20, tol=0) for _ in range(2))
    assert torch.equal(first[0], second[0])
    assert torch.equal(first[1], second[1])


def test_thousands_of_small_problems_in_one_call() -> None:
    import torch

    V = torch.rand(4096, 24, 100, device="cuda")
    W, H, _ = nmfuse.nmf(V, 4, max_iter=30, tol=0)
    expected_W, expected_H, _ = nmfuse.nmf(
        V[4000:4004].contiguous(), 4, init=_start(V, 4, 4000, 4004), max_iter=30, tol=0
    )
    torch.testing.assert_close(W[4000:4004], expected_W, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(H[4000:4004], expected_H, rtol=1e-5, atol=1e-6)


def _start(V: Any, rank: int, first: int, last: int) -> tuple[Any, Any]:
    import torch

    rng = np.random.default_rng(0)
    scale = np.sqrt(V.double().mean((-2, -1)).cpu().numpy() / rank)[:, None, None]
    W = np.abs(rng.standard_normal((*V.shape[:-1], rank))) * scale
    H = np.abs(rng.standard_normal((V.shape[0], rank, V.shape[-1]))) * scale
    return tuple(torch.from_numpy(x[first:last]).float().cuda() for x in (W, H))


def test_sizes_beyond_32_bits() -> None:
    import torch

    if torch.cuda.mem_get_info()[0] < 24 << 30:
        pytest.skip("needs 24 GiB of free GPU memory")
    x = torch.zeros(32768, 32768 + 2048, dtype=torch.uint8, device="cuda")  # 1.1e9 pixels
    x = torch.cat([x, x]).view(65536, -1)  # 2.3e9
    x[-1, -1] = 255
    y = nmfuse.hannmean(x, 3)
    assert int(y[-1, -1]) == 143  # (2 + 1)^2 / 16 of 255, the edge repeated
    assert int(y[0, 0]) == 0
    del x, y
    V = torch.ones(32, 67_200_000, device="cuda")  # 8.6 GB, 2.15e9 elements
    W, H, _ = nmfuse.nmf(V, 1, max_iter=3, tol=0)
    assert abs(float(W[-1, 0] * H[0, -1]) - 1) < 1e-3


def test_arguments_on_two_devices_are_refused(library: Any) -> None:
    x = library.array(random((20, 20)))
    with pytest.raises(ValueError, match=r"mask: is on device \(1, 0\), expected \(2, 0\)"):
        nmfuse.hannmean(x, mask=np.ones((20, 20), bool))


def test_the_cpu_only_parts_say_so(library: Any) -> None:
    x = library.array(random((20, 20)))
    with pytest.raises(ValueError, match="init: 'nndsvda' runs on the CPU only"):
        nmfuse.nmf(x, 2, init="nndsvda")
    with pytest.raises(ValueError, match="x: background detection runs on the CPU only"):
        nmfuse.hannmean(x, background="auto")


def test_a_forked_child_works_on_the_cpu() -> None:
    code = (
        "import os, sys, numpy as np, nmfuse, torch\n"
        "nmfuse.hannmean(torch.rand(9, 9, device='cuda'))\n"
        "pid = os.fork()\n"
        "if pid == 0: os._exit(0 if nmfuse.hannmean(np.ones((9, 9))).sum() == 81 else 1)\n"
        "sys.exit(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_current_stream_of_either_library(library: Any) -> None:
    native, stream = _native.native_for(library.array(random((4, 4))))
    assert native.__name__ == "nmfuse._cuda"
    assert isinstance(stream, int)
    assert stream != 0
