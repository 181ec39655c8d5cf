"""Windows: what they resolve to, and that sources of unlike ranges are fused as if they had been windowed by hand."""

from __future__ import annotations

import logging
from typing import Any

import numpy as np
import pytest
import torch

import nmfuse
from nmfuse.data import brain_phantom
from nmfuse.images import window


def correlation(a: np.ndarray, b: np.ndarray) -> float:
    return float(np.corrcoef(a.ravel().astype(float), b.ravel().astype(float))[0, 1])


@pytest.fixture(scope="module")
def head() -> dict[str, np.ndarray]:
    """CT in Hounsfield units, MRI up to 400, 16-bit thermal of a few kelvin, 12-bit visible."""
    p = brain_phantom(128)
    hu = np.interp(p.ct, [0, 0.15, 0.2, 0.3, 0.34, 0.86, 1.0], [-1000, -80, 0, 40, 60, 1200, 1500])
    return {
        "ct": hu.astype(np.float32),
        "mri": (400 * p.t1).astype(np.float32),
        "thermal": (51241 + 940 * p.t1).astype(np.uint16),
        "visible": (4095 * p.t2).astype(np.uint16),
        "rgb": np.rint(255 * np.stack([p.t2, p.t1, p.ct], axis=-1)).astype(np.uint8),
    }


@pytest.mark.parametrize(
    ("spec", "values", "expected"),
    [
        (None, torch.zeros(2, 2, dtype=torch.uint8), (0, 255)),
        (None, torch.zeros(2, 2, dtype=torch.int16), (-32768, 32767)),
        (None, torch.zeros(2, 2, dtype=torch.int32), (-(2**31), 2**31 - 1)),
        (None, torch.zeros(2, 2, dtype=torch.bool), (0, 1)),
        (None, torch.tensor([[0.2, 0.9]]), (0, 1)),
        (None, torch.tensor([[5.0, 7.0]]), (0, 7)),
        (None, torch.tensor([[-5.0, 7.0]]), (-5, 7)),
        ((-100, 300), torch.zeros(2, 2), (-100, 300)),
        ("minmax", torch.tensor([[-5.0, 7.0], [float("nan"), 3.0]]), (-5, 7)),
        ("minmax", torch.full((2, 2), -1024.0), (-1024, 0)),
        ("auto", torch.arange(1001.0)[None], (1, 999)),
        ("ct-brain", torch.zeros(2, 2), (0, 80)),
        ("ct-soft", torch.zeros(2, 2), (-150, 250)),
        ("ct-bone", torch.zeros(2, 2), (-500, 1300)),
        ("ct-lung", torch.zeros(2, 2), (-1350, 150)),
        ("suv", torch.zeros(2, 2), (0, 10)),
    ],
)
def test_resolved(spec: Any, values: torch.Tensor, expected: tuple[float, float]) -> None:
    assert window.resolve(spec, values) == pytest.approx(expected)


def test_percentiles_are_of_the_valid_pixels() -> None:
    x = torch.cat([torch.full((1, 5000), -2000.0), torch.arange(5000.0)[None]], dim=1)
    low, high = window.resolve("auto", x, x > -2000)
    assert (low, high) == pytest.approx((5, 4994), abs=1)
    assert window.resolve("minmax", x, x > -2000) == (0, 4999)


@pytest.mark.parametrize(
    ("spec", "error", "message"),
    [
        ("ct-head", ValueError, "window: got 'ct-head'; expected 'minmax', 'auto', ct-brain"),
        ((3, 3), ValueError, r"window: got \(3, 3\); expected \(low, high\) with low < high"),
        ((0, float("inf")), ValueError, "expected \\(low, high\\) with low < high"),
        (7, TypeError, "window: got 7; expected \\(low, high\\)"),
    ],
)
def test_bad_windows(spec: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        window.resolve(spec, torch.zeros(2, 2))


def test_each_source_has_its_own_window(head: dict[str, np.ndarray]) -> None:
    """As if each had been windowed by hand; what lies beyond a window is clipped."""
    by_hand = [np.clip((head["ct"] + 100) / 400, 0, 1), head["mri"] / 400]
    fused = nmfuse.fuse(head["ct"], head["mri"], window=[(-100, 300), (0, 400)])
    np.testing.assert_allclose((fused + 100) / 400, nmfuse.fuse(*by_hand), atol=1e-5)
    back = nmfuse.fuse(head["mri"], head["ct"], window=[(0, 400), (-100, 300)])
    np.testing.assert_allclose(back / 400, (fused + 100) / 400, atol=1e-5)


def test_ct_in_hounsfield_units_beside_mri(head: dict[str, np.ndarray]) -> None:
    """One range for both left 0.10 of the correlation with soft tissue of a CT; its own window keeps it."""
    soft = (head["ct"] > -60) & (head["ct"] < 100)
    ct16 = np.rint(head["ct"]).astype(np.int16)
    fused = nmfuse.fuse(ct16, head["mri"], window=["ct-brain", "auto"])
    assert (fused.dtype, fused.min() >= 0, fused.max() <= 80) == (np.int16, True, True)
    shared = nmfuse.fuse(head["ct"], head["mri"], data_range=(-1000, 1500))
    assert correlation(fused[soft], head["ct"][soft]) > 0.6
    assert correlation(fused[soft], head["ct"][soft]) > correlation(shared[soft], head["ct"][soft]) + 0.2


def test_thermal_of_16_bits_beside_12_bits_and_beside_colour(head: dict[str, np.ndarray]) -> None:
    fused = nmfuse.fuse(head["thermal"], head["visible"], window=["auto", (0, 4095)])
    assert (fused.dtype, fused.min() >= 51241, fused.max() <= 52181) == (np.uint16, True, True)
    assert correlation(fused, head["thermal"]) > 0.8
    assert correlation(fused, head["visible"]) > 0.8
    coloured = nmfuse.fuse(head["thermal"], head["rgb"], window=["auto", None], output="uint8")
    assert (coloured.dtype, coloured.shape) == (np.uint8, head["rgb"].shape)
    same = nmfuse.fuse(head["rgb"], head["thermal"], window=[None, "auto"])
    np.testing.assert_array_equal(coloured, same)


@pytest.mark.parametrize(
    ("names", "spans"),
    [
        (("ct", "mri"), r"sources\[0\] float32, -1000 to 14.*; sources\[1\] float32, .* to 400"),
        (("thermal", "rgb"), r"sources\[0\] uint16, 51\d+ to 52181; sources\[1\] uint8, 0 to 255"),
        (("rgb", "mri"), r"sources\[0\] uint8, 0 to 255; sources\[1\] float32"),
        (("mri", "rgb"), r"sources\[0\] float32, .* to 400; sources\[1\] uint8"),
    ],
)
def test_ranges_that_differ_must_be_said(head: dict[str, np.ndarray], names: tuple[str, str], spans: str) -> None:
    with pytest.raises(ValueError, match=rf"window: not given, and the images' ranges differ \({spans}.*window=\["):
        nmfuse.fuse(*(head[name] for name in names))
    assert nmfuse.fuse(*(head[name] for name in names), window=["auto", "auto"]).dtype == head[names[0]].dtype


def test_floats_of_one_range_need_no_word(head: dict[str, np.ndarray]) -> None:
    fused = nmfuse.fuse(head["mri"], head["mri"][::-1] * 0.9)
    np.testing.assert_allclose(fused / head["mri"].max(), nmfuse.fuse(*(
        x / head["mri"].max() for x in (head["mri"], head["mri"][::-1] * 0.9)
    )), atol=1e-5)  # fmt: skip


def test_integers_that_fill_little_of_their_dtype_are_said(
    head: dict[str, np.ndarray], caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        nmfuse.fuse(head["visible"], head["visible"] // 2)
    assert "its values, 0 to 4" in caplog.text
    assert "choose other limits by window='auto', 'minmax' or (low, high), in the shell by --window auto" in caplog.text
    caplog.clear()
    with caplog.at_level(logging.WARNING):
        nmfuse.fuse(head["visible"] * 16, head["visible"] * 8)
        nmfuse.fuse(head["visible"], head["visible"] // 2, window="minmax")
    assert caplog.text == ""


@pytest.mark.parametrize("windows", [["auto"], ["auto"] * 3])
def test_one_window_for_each(head: dict[str, np.ndarray], windows: list[str]) -> None:
    with pytest.raises(ValueError, match=f"window: got {len(windows)} windows, and 2 sources; expected one for each"):
        nmfuse.fuse(head["ct"], head["mri"], window=windows)


@pytest.mark.parametrize("dtype", ["bool", "uint8", "int16", "uint16", "int32", "float16", "float32", "float64"])
def test_every_dtype_beside_another(dtype: str, head: dict[str, np.ndarray]) -> None:
    unit = head["mri"] / head["mri"].max()
    kind = np.dtype(dtype).kind
    low, high = (np.iinfo(dtype).min, np.iinfo(dtype).max) if kind in "iu" else (0, 1)
    a = (np.rint(unit.astype(float) * (high - low) + low) if kind != "f" else unit).astype(dtype)
    b = head["rgb"][..., 0]
    fused = nmfuse.fuse(a, b, window=[None, None])
    assert fused.dtype == a.dtype
    as_floats = nmfuse.fuse((a.astype(float) - low) / (high - low), b / 255)
    near = (fused.astype(float) - low) / (high - low)
    np.testing.assert_allclose(near, as_floats, atol=max(1e-3, 0.95 / (high - low)) if kind != "f" else 1e-3)
    swapped = nmfuse.fuse(a.astype(a.dtype.newbyteorder(">")), b, window=[None, None])
    assert swapped.dtype.isnative
    np.testing.assert_array_equal(swapped, fused)


@pytest.mark.parametrize("output", ["bool", "uint8", "int16", "uint16", "int32", "float16", "float32", "float64"])
def test_output_has_the_range_of_its_dtype(output: str, head: dict[str, np.ndarray]) -> None:
    a, b = (head["rgb"][..., k] for k in (0, 1))
    fused = nmfuse.fuse(a, b, output=output)
    expected = nmfuse.fuse(a / 255, b / 255)
    low, high = (np.iinfo(output).min, np.iinfo(output).max) if np.dtype(output).kind in "iu" else (0, 1)
    assert fused.dtype == output
    tolerance = {"bool": 0.51, "uint8": 1 / 255}.get(output, 1e-3)
    np.testing.assert_allclose((fused.astype(float) - low) / (high - low), expected, atol=tolerance)
    with pytest.raises(ValueError, match="output: got 'int8'; expected one of bool, uint8"):
        nmfuse.fuse(a, b, output="int8")


def test_floats_that_fill_little_of_their_range_are_said(caplog: pytest.LogCaptureFixture) -> None:
    rng = np.random.default_rng(0)
    high = 1e6 + rng.random((32, 32))
    with caplog.at_level(logging.WARNING):
        nmfuse.fuse(high, high[::-1])
    assert "of 0 to 1e+06, which counts as black to white, and steps of" in caplog.text
    caplog.clear()
    np.testing.assert_allclose(nmfuse.fuse(high, high, window="minmax"), high, atol=1e-4)
    assert caplog.text == ""


@pytest.mark.parametrize("value", [-3.0, 0.0, 7.0, 1e20, -1e20])
@pytest.mark.parametrize("spec", [None, "minmax"])
def test_constant_images(value: float, spec: str | None) -> None:
    x = np.full((20, 20), value)
    np.testing.assert_allclose(nmfuse.fuse(x, x, window=spec), x, rtol=1e-6, atol=1e-6)


def test_one_range_for_integers_and_floats_together(head: dict[str, np.ndarray]) -> None:
    byte = head["rgb"][..., 0]
    fused = nmfuse.fuse(byte, byte[::-1].astype(np.float32), data_range=(0, 255))
    np.testing.assert_array_equal(fused, nmfuse.fuse(byte, np.ascontiguousarray(byte[::-1])))


@pytest.mark.parametrize("spec", [5, [], {"a": 1}])
def test_what_is_no_window(spec: Any, head: dict[str, np.ndarray]) -> None:
    with pytest.raises(
        TypeError, match=r"window: got .*; expected one window for all sources, or a list of one for each"
    ):
        nmfuse.fuse(head["ct"], head["mri"], window=spec)
