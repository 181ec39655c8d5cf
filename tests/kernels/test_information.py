"""window_information against the oracle and its own laws, on every backend."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from nmfuse.kernels import reference, set_num_threads, window_information

from .tolerances import INFORMATION

DTYPES = [np.float32, np.float64]
SHAPES = [(3, 3), (4, 3), (3, 140), (21, 34), (2, 3, 9, 10), (2, 36, 140)]


def images(shape, dtype=np.float64, seed=0):
    """Two images of few and of many grey levels, with flat places, equal places, and lone bright pixels."""
    rng = np.random.default_rng(seed)
    x = rng.integers(0, 9, shape).astype(dtype)
    y = np.where(rng.random(shape) < 0.7, x, rng.integers(0, 256, shape)).astype(dtype)
    x[..., 4:9, 3:9] = 3
    y[..., 6:12, 2:8] = x[..., 6:12, 2:8]
    x[..., 12:18, 10:30] = 0
    x[..., 14:15, 15::4] = 1
    y[..., 13:16, 12:] = 0
    y[..., 14:15, 12::5] = 200
    return x, y


def run(backend, x, y, **options):
    return backend.numpy(window_information(backend.array(x), backend.array(y), **options))


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("dtype", DTYPES, ids=lambda t: t.__name__)
def test_matches_the_oracle(backend, dtype, shape):
    for scale in (1, 1 / 255):
        x, y = (z * dtype(scale) for z in images(shape, dtype))
        got = run(backend, x, y)
        assert got.dtype == np.float32
        np.testing.assert_allclose(got, reference.window_information_ref(x, y), rtol=0, atol=INFORMATION[x.dtype])


def test_smooth_images_match_the_oracle(backend):
    # Windows of steps far below the values: single precision would not do for them before the minimum is gone.
    rows, columns = np.mgrid[:12, :40] * 1.0
    x, y = 100 + 1e-5 * np.sin(rows + columns / 2), 200 + 1e-4 * np.cos(rows / 3 - columns)
    expected = reference.window_information_ref(x, y)
    np.testing.assert_allclose(run(backend, x, y), expected, rtol=0, atol=INFORMATION[x.dtype])


def test_equal_windows_tell_all_and_flat_ones_nothing(backend):
    x, _ = images((12, 20))
    np.testing.assert_array_equal(run(backend, x, x), np.ones((10, 18)))
    np.testing.assert_array_equal(run(backend, np.ones((5, 6)), np.ones((5, 6))), np.ones((3, 4)))
    uneven = np.arange(30.0).reshape(5, 6)
    np.testing.assert_array_equal(run(backend, uneven, np.ones((5, 6))), np.zeros((3, 4)))


def test_one_bright_pixel_above_rounding_errors_tells_nothing(backend):
    x, y = np.random.default_rng(0).random((2, 30, 60)) * 1e-8
    x[1::3, 1::3] = y[1::3, 2::3] = 1
    np.testing.assert_array_equal(run(backend, x, y), np.zeros((28, 58)))
    traces = 1e-3 * np.random.default_rng(1).random((2, 30, 60))
    expected = reference.window_information_ref(x + traces[0], y + traces[1])
    np.testing.assert_allclose(run(backend, x + traces[0], y + traces[1]), expected, atol=1e-3)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_nan_stays_in_its_windows(backend, bad):
    x, y = np.random.default_rng(0).random((2, 20, 50))
    x[8, 30] = bad
    reached = np.zeros((18, 48), bool)
    reached[6:9, 28:31] = True
    np.testing.assert_array_equal(np.isnan(run(backend, x, y)), reached)
    np.testing.assert_array_equal(np.isnan(run(backend, y, x)), reached)
    if np.isnan(bad):
        np.testing.assert_array_equal(np.isnan(run(backend, x, x)), reached)


def test_neither_order_nor_scale_matters(backend):
    x, y = images((14, 40))
    np.testing.assert_allclose(run(backend, x, y), run(backend, y, x), atol=1e-5)
    x, y = np.random.default_rng(0).random((2, 14, 40))  # no window equals another
    np.testing.assert_allclose(run(backend, 4 * x + 8, y), run(backend, x, y), atol=1e-5)


def test_planes_of_a_batch_are_alone_and_strides_are_followed(backend):
    x, y = images((2, 3, 9, 140), np.float32)
    together = run(backend, x, y)
    for index in np.ndindex(2, 3):
        np.testing.assert_array_equal(together[index], run(backend, x[index], y[index]))
    for view in (lambda z: z[0, :, ::2, 3:-5], lambda z: z[1, :, ::-1], lambda z: z[0].swapaxes(1, 2)):
        copies = (np.array(view(z), order="C") for z in (x, y))
        np.testing.assert_array_equal(run(backend, view(x), view(y)), run(backend, *copies))
    assert run(backend, x[:0], y[:0]).shape == (0, 3, 7, 138)


def test_out(backend):
    x, y = images((2, 8, 30))
    target = backend.array(np.full((2, 12, 35), -1, np.float32))
    out = target[:, ::2, 3:-4]
    assert window_information(backend.array(x), backend.array(y), out=out) is out
    np.testing.assert_array_equal(backend.numpy(out), run(backend, x, y))
    out[:] = -1
    np.testing.assert_array_equal(backend.numpy(target), -1)


def test_bits_do_not_depend_on_threads():
    x, y = images((200, 150))
    set_num_threads(1)
    alone = window_information(x, y)
    set_num_threads(2)
    np.testing.assert_array_equal(window_information(x, y), alone)
    set_num_threads(None)


def test_takes_and_gives_torch():
    x, y = images((2, 9, 10))
    got = window_information(torch.from_numpy(x), torch.from_numpy(y))
    assert got.dtype == torch.float32
    np.testing.assert_array_equal(got.numpy(), window_information(x, y))


def test_bad_input_is_refused():
    x = np.zeros((5, 6))
    with pytest.raises(TypeError, match="x: dtype uint8 is not supported; convert it to float32 or float64"):
        window_information(x.astype(np.uint8), x)
    with pytest.raises(TypeError, match="y: dtype float32 is not supported; convert it to float64"):
        window_information(x, x.astype(np.float32))
    with pytest.raises(ValueError, match=r"y: shape \(5, 5\); expected \(5, 6\), as x"):
        window_information(x, x[:, 1:])
    with pytest.raises(ValueError, match=r"x: shape \(2, 6\); expected at least 3 x 3 pixels"):
        window_information(x[:2], x[:2])
    with pytest.raises(ValueError, match="out: overlaps x or y"):
        window_information(x, x, out=x.view(np.float32)[:3, :4])
