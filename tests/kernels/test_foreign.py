"""Arrays of other libraries come in by DLPack, and the result goes out in their library."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import nmfuse

X = np.random.default_rng(0).random((20, 18), np.float32)


@pytest.fixture(params=["jax.numpy", "array_api_strict"])
def library(request: pytest.FixtureRequest) -> Any:
    """Return a library that follows the array API standard."""
    return pytest.importorskip(request.param)


def test_every_door_gives_the_same_library_back(library: Any) -> None:
    x = library.asarray(X)
    for door in (
        nmfuse.hannmean,
        nmfuse.hannmean_adjoint,
        lambda x: nmfuse.hannmean(x, 3, x > 0.5, outliers=3.0),
        lambda x: nmfuse.aggregate_blocks(x, 4, 2),
        lambda x: nmfuse.aggregate_blocks_adjoint(x, 4, 2),
        lambda x: nmfuse.window_information(x, 1 - x),
        nmfuse.detect_background,
        lambda x: nmfuse.nmf(x, 2, max_iter=5)[0],
        lambda x: nmfuse.nmf(x * 1e-20, 2, max_iter=5)[1],
        lambda x: nmfuse.fuse(x, 1 - x),
        lambda x: nmfuse.fuse(x, 1 - x, output="uint8"),
    ):
        got, expected = door(x), door(X)
        assert type(got) is type(x)
        assert np.array_equal(np.from_dlpack(got), expected)


def test_other_layouts_and_where_to_write(library: Any) -> None:
    assert type(nmfuse.hannmean(library.asarray(X).T)) is type(library.asarray(X))
    out = np.empty_like(X)
    assert nmfuse.hannmean(library.asarray(X), out=out) is out
    assert np.array_equal(out, nmfuse.hannmean(X))


def test_what_jax_cannot_do() -> None:
    jax = pytest.importorskip("jax")
    x = jax.numpy.asarray(X)
    with pytest.raises(ValueError, match="out: the array is read-only"):
        nmfuse.hannmean(x, out=x + 0)
    with pytest.raises(TypeError, match=r"expected an array|gives no DLPack array"):
        jax.jit(nmfuse.hannmean)(x)  # a tracer has no values
    with pytest.raises(TypeError, match="pass all of the same kind"):
        nmfuse.fuse(x, __import__("torch").from_numpy(X))


def test_a_library_that_says_nothing_comes_back_as_numpy() -> None:
    class Bare:
        dtype, shape = X.dtype, X.shape

        def __dlpack__(self, **options: Any) -> Any:
            return X.__dlpack__(**options)

        def __dlpack_device__(self) -> tuple[int, int]:
            return X.__dlpack_device__()

    assert np.array_equal(nmfuse.hannmean(Bare()), nmfuse.hannmean(X))
    with pytest.raises(TypeError, match="expected an array"):
        nmfuse.hannmean([1.0])
