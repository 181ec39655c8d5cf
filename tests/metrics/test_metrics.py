"""Metrics: properties that need no oracle."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter, sobel

from nmfuse.images import Image
from nmfuse.metrics import METRICS, evaluate

ONE_OF_TWO = {"Q_TE", "Q_TE_toolbox", "Q_Y", "SCD"}


def picture(seed: int, *shape: int) -> np.ndarray:
    """Return smooth noise over the whole range of 8 bits, with detail."""
    rng = np.random.default_rng(seed)
    x = gaussian_filter(rng.standard_normal(shape), (*[0.0] * (len(shape) - 2), 3.0, 3.0))
    x = x / x.std() + 0.2 * rng.standard_normal(shape)
    low, high = x.min((-2, -1), keepdims=True), x.max((-2, -1), keepdims=True)
    return np.rint(255 * (x - low) / (high - low)).astype(np.uint8)


@pytest.fixture(scope="module")
def images() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    a, b = picture(1, 180, 190), picture(2, 180, 190)
    return np.maximum(a, b), a, b


@pytest.fixture(scope="module")
def values(images: tuple[np.ndarray, np.ndarray, np.ndarray]) -> dict[str, float]:
    fused, a, b = images
    return evaluate(fused, [a, b])


def assert_same(left: dict[str, Any], right: dict[str, Any], rtol: float = 1e-12) -> None:
    assert list(left) == list(right)
    for name in left:
        np.testing.assert_allclose(left[name], right[name], rtol=rtol, err_msg=name)


def test_every_metric_is_a_float_and_is_described(values: dict[str, float]) -> None:
    assert list(values) == list(METRICS)
    assert all(type(value) is float and math.isfinite(value) for value in values.values())
    for name, metric in METRICS.items():
        assert metric.name == name
        assert metric.title
        assert metric.source
        assert metric.range
        assert metric.function.__doc__.startswith(f"{name}: ")
    assert {name for name, metric in METRICS.items() if metric.pairs_only} == ONE_OF_TWO
    assert {name for name, metric in METRICS.items() if not metric.higher_is_better} == {"L_abf", "N_abf", "RMSE"}


def test_metrics_cannot_be_changed() -> None:
    with pytest.raises(TypeError, match=r"does not support item assignment"):
        METRICS["EN"] = METRICS["SD"]  # type: ignore[index]


def test_a_perfect_copy_of_equal_sources(images: tuple[np.ndarray, np.ndarray, np.ndarray]) -> None:
    a = images[1]
    values = evaluate(a, [a, a])
    ones = ("SSIM", "MS_SSIM", "Q_S", "Q_W", "Q_E", "Q_Y", "CC", "FMI_pixel", "FMI_gradient", "Q_CB", "VIF_min", "IR")
    assert {name: values[name] for name in ones} == pytest.approx(dict.fromkeys(ones, 1.0), abs=1e-9)
    assert values["VIF"] == pytest.approx(2, abs=1e-9)
    assert values["VIFF"] == pytest.approx(1, abs=1e-9)
    assert values["Q_MI"] == pytest.approx(2)
    assert values["MI"] == pytest.approx(2 * values["EN"])
    assert values["RMSE"] == 0
    assert values["PSNR"] == math.inf
    assert values["N_abf"] == 0
    assert values["L_abf"] < 1e-3
    best = 0.9994 / (1 + math.exp(-7.5)) * 0.9879 / (1 + math.exp(-4.4))
    assert values["Q_abf"] == pytest.approx(best)
    assert values["Q_over"] == pytest.approx(best)


def test_definitions_of_the_simple_ones(images: tuple[np.ndarray, np.ndarray, np.ndarray]) -> None:
    fused, a, b = (x.astype(float) for x in images)
    values = evaluate(*(fused, [a, b]), data_range=255)
    p = np.bincount(images[0].ravel()) / fused.size
    p = p[p > 0]
    gy, gx = np.gradient(fused)
    squares = (((fused - a) ** 2).mean() + ((fused - b) ** 2).mean()) / 2

    def r(x: np.ndarray, y: np.ndarray) -> float:
        return float(np.corrcoef(x.ravel(), y.ravel())[0, 1])

    expected = {
        "EN": -(p * np.log2(p)).sum(),
        "SD": fused.std(),
        "SF": math.sqrt((np.diff(fused, axis=0) ** 2).mean() + (np.diff(fused, axis=1) ** 2).mean()),
        "AG": np.sqrt((gx**2 + gy**2) / 2).mean(),
        "CC": (r(fused, a) + r(fused, b)) / 2,
        "SCD": r(fused - b, a) + r(fused - a, b),
        "RMSE": math.sqrt(squares),
        "PSNR": 10 * math.log10(255**2 / squares),
    }
    assert {name: values[name] for name in expected} == pytest.approx(expected, rel=1e-12)


def test_definitions_of_unfaithful_edges(images: tuple[np.ndarray, np.ndarray, np.ndarray]) -> None:
    edges = []
    for x in images:
        along, down = (sobel(x.astype(float), axis, mode="mirror") / 8 for axis in (1, 0))
        slope = np.divide(along, down, out=np.copysign(np.inf, along), where=down != 0)
        edges.append((np.hypot(along, down), np.where((along == 0) & (down == 0), 0, np.arctan(slope))))
    (g_f, alpha_f), *sources = edges
    artifact = np.all([g_f > g for g, _ in sources], axis=0)
    losses, weights = [], []
    for g, alpha in sources:
        strength = np.divide(np.minimum(g, g_f), np.maximum(g, g_f), out=np.zeros_like(g), where=np.maximum(g, g_f) > 0)
        orientation = np.abs(np.abs(alpha - alpha_f) - np.pi / 2) * 2 / np.pi
        q = 0.9999 / (1 + np.exp(-19 * (strength - 0.5))) * 0.9995 / (1 + np.exp(-22 * (orientation - 0.5)))
        weights.append(np.where(g >= 2, g**1.5, 0.001))
        losses.append((1 - np.sqrt(q)) * weights[-1])
    whole, total = np.sum(losses, axis=0), np.sum(weights)
    values = evaluate(images[0], images[1:], metrics=["N_abf", "L_abf"])
    assert values["N_abf"] == pytest.approx(whole[artifact].sum() / total, rel=1e-9)
    assert values["L_abf"] == pytest.approx(whole[~artifact].sum() / total, rel=1e-9)


def test_definitions_by_other_metrics(
    images: tuple[np.ndarray, np.ndarray, np.ndarray], values: dict[str, float]
) -> None:
    entropies = [evaluate(x, [x, x], metrics=["EN"])["EN"] for x in images[1:]]
    assert values["IR"] == pytest.approx(values["MI"] / sum(entropies), rel=1e-12)
    fused, *sources = (np.gradient(x.astype(float), axis=1) for x in images)
    of_gradients = evaluate(fused, sources, data_range=255, metrics=["FMI_pixel"])["FMI_pixel"]
    assert values["FMI_gradient"] == pytest.approx(of_gradients, rel=1e-9)
    assert values["FMI_gradient"] != pytest.approx(values["FMI_pixel"], rel=1e-3)


def test_sources_may_be_exchanged(images: tuple[np.ndarray, np.ndarray, np.ndarray], values: dict[str, float]) -> None:
    fused, a, b = images
    assert_same(evaluate(fused, [b, a]), values)


def test_brightness_changes_no_contrast(images: tuple[np.ndarray, np.ndarray, np.ndarray]) -> None:
    names = ("EN", "SD", "SF", "AG", "MI", "Q_MI", "MI_Tsallis", "Q_TE", "IR", "N_abf", "CC", "VIF")
    fused, *sources = ((x // 2).astype(np.uint8) for x in images)
    shifted = [x + np.uint8(60) for x in sources]
    before = evaluate(fused, sources, metrics=names)
    assert_same(evaluate(fused + np.uint8(60), shifted, metrics=names), before, rtol=1e-6)


def test_values_stay_in_their_range(values: dict[str, float]) -> None:
    for name, metric in METRICS.items():
        if metric.range.startswith(("0..1", "-1..1")):
            assert -1 <= values[name] <= (128 if name == "SD" else 1)
        if metric.range.startswith((">= 0", "0..")):
            assert values[name] >= 0


def test_noise_lowers_fidelity(images: tuple[np.ndarray, np.ndarray, np.ndarray], values: dict[str, float]) -> None:
    fused, a, b = images
    noise = np.random.default_rng(0).integers(-20, 21, fused.shape)
    noisy = np.clip(fused + noise, 0, 255).astype(np.uint8)
    names = ("MI", "Q_abf", "SSIM", "MS_SSIM", "Q_S", "Q_W", "Q_E", "VIF", "VIFF", "FMI_pixel", "Q_over", "CC", "PSNR")
    worse = evaluate(noisy, [a, b], metrics=names)
    assert all(worse[name] < values[name] for name in names)
    lower = evaluate(noisy, [a, b], metrics=("N_abf", "RMSE"))
    assert all(lower[name] > values[name] for name in lower)


def test_a_batch_gives_what_single_images_give() -> None:
    fused, a, b = (picture(seed, 2, 3, 176, 178) for seed in (1, 2, 3))
    batch = evaluate(fused, [a, b])
    assert all(v.shape == (2, 3) and v.dtype == np.float64 for v in batch.values())
    for index in np.ndindex(2, 3):
        single = evaluate(fused[index], [a[index], b[index]])
        assert_same(single, {name: v[index] for name, v in batch.items()}, rtol=1e-9)  # FMI is in single precision


def test_a_large_batch_is_worked_off_in_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    fused, a, b = (picture(seed, 5, 20, 24) for seed in (1, 2, 3))
    names = ("EN", "SSIM", "Q_abf", "SCD")
    whole = evaluate(fused, [a, b], metrics=names)
    monkeypatch.setattr("nmfuse.metrics._input._CHUNK_PIXELS", 1000)
    assert_same(evaluate(fused, [a, b], metrics=names), whole)


def test_tensors_give_what_arrays_give(
    images: tuple[np.ndarray, np.ndarray, np.ndarray], values: dict[str, float]
) -> None:
    fused, a, b = map(torch.from_numpy, images)
    single = evaluate(fused, [a, b])
    assert all(type(v) is float for v in single.values())
    assert_same(single, values)
    batch = evaluate(fused[None], [a[None], b[None]], metrics=("EN", "VIF"))
    assert all(isinstance(v, torch.Tensor) and v.shape == (1,) and v.dtype == torch.float64 for v in batch.values())


def test_tensors_that_require_gradients_are_read(images: tuple[np.ndarray, np.ndarray, np.ndarray]) -> None:
    fused, a, b = (torch.from_numpy(x / 255).requires_grad_() for x in images)
    assert evaluate(fused, [a, b], data_range=1, metrics=["SSIM"])["SSIM"] > 0


@pytest.mark.cuda
@pytest.mark.usefixtures("cuda")
def test_cuda_gives_what_the_cpu_gives(
    images: tuple[np.ndarray, np.ndarray, np.ndarray], values: dict[str, float]
) -> None:
    fused, a, b = (torch.from_numpy(x)[None].cuda() for x in images)
    on_device = evaluate(fused, [a, b])
    assert all(v.device == fused.device for v in on_device.values())
    there = {name: v.item() for name, v in on_device.items()}
    in_single_precision = {name: there.pop(name) for name in list(there) if name.startswith("FMI")}
    assert_same(there, {name: values[name] for name in there}, rtol=1e-8)
    assert_same(in_single_precision, {name: values[name] for name in in_single_precision}, rtol=1e-6)


@pytest.mark.parametrize("dtype", ["uint16", ">u2"])
def test_16_bits_give_what_8_bits_give(
    images: tuple[np.ndarray, np.ndarray, np.ndarray], values: dict[str, float], dtype: str
) -> None:
    fused, a, b = ((x.astype(np.uint16) * 257).astype(dtype) for x in images)
    assert_same(evaluate(fused, [a, b]), values, rtol=0)


@pytest.mark.parametrize("dtype", ["float64", ">f8", "float32", "float16"])
def test_floats_give_what_8_bits_give(
    images: tuple[np.ndarray, np.ndarray, np.ndarray], values: dict[str, float], dtype: str
) -> None:
    fused, a, b = (x.astype(dtype) for x in images)
    assert_same(evaluate(fused, [a, b], data_range=255), values, rtol=0)
    fused, a, b = (x / 255 for x in images)
    assert_same(evaluate(fused, [a, b], data_range=1.0), values, rtol=1e-9)


def test_data_range_overrules_the_dtype(
    images: tuple[np.ndarray, np.ndarray, np.ndarray], values: dict[str, float]
) -> None:
    fused, a, b = (x.astype(np.uint16) * 16 for x in images)
    assert_same(evaluate(fused, [a, b], data_range=255 * 16), values, rtol=0)


def test_a_range_has_two_ends(images: tuple[np.ndarray, np.ndarray, np.ndarray], values: dict[str, float]) -> None:
    fused, a, b = images
    assert_same(evaluate(fused, [a, b], data_range=(0, 255)), values, rtol=0)
    fused, a, b = (x.astype(np.int16) - 100 for x in images)
    assert_same(evaluate(fused, [a, b], data_range=(-100, 155)), values, rtol=0)
    fused, a, b = (x.astype(np.float64) * 2 - 100 for x in images)
    assert_same(evaluate(fused, [a, b], data_range=[-100, 410]), values, rtol=0)


def test_each_image_has_a_window_of_its_own(
    images: tuple[np.ndarray, np.ndarray, np.ndarray], values: dict[str, float]
) -> None:
    fused, a, b = images
    hounsfield = b.astype(np.int16) * 4 - 1000
    windows = [None, (0, 1), (-1000, 20)]
    assert_same(evaluate(fused, [a / 255, hounsfield], window=windows), values, rtol=1e-9)
    assert_same(
        evaluate(fused, [a.astype(np.uint16) * 257, hounsfield], window=(None, None, (-1000, 20))), values, 1e-9
    )
    assert_same(evaluate(fused, [a, b], window=(0, 255)), values, rtol=0)
    assert_same(evaluate(fused, [a, hounsfield.astype(np.int32)], window=[None, None, "minmax"]), values, rtol=1e-9)


def test_windows_clip(images: tuple[np.ndarray, np.ndarray, np.ndarray]) -> None:
    fused, a, b = images
    clipped = [(np.clip(x, 50, 200).astype(np.float64) - 50) / 150 for x in images]
    expected = evaluate(clipped[0], clipped[1:], data_range=(0, 1), metrics=("EN", "VIF", "SSIM"))
    assert_same(evaluate(fused, [a, b], window=(50, 200), metrics=("EN", "VIF", "SSIM")), expected, rtol=1e-9)


def test_each_image_of_a_batch_has_its_own_extremes() -> None:
    fused, a, b = (picture(seed, 2, 30, 32).astype(np.float32) for seed in (1, 2, 3))
    for x in (fused, a, b):
        x[1] = 5 * x[1] - 300
    batch = evaluate(fused, [a, b], window="minmax", metrics=("EN", "SSIM"))
    for n in range(2):
        single = evaluate(fused[n], [a[n], b[n]], window="minmax", metrics=("EN", "SSIM"))
        assert_same(single, {name: v[n] for name, v in batch.items()}, rtol=1e-12)


def test_what_an_image_says_is_not_valid_counts_as_black(
    images: tuple[np.ndarray, np.ndarray, np.ndarray],
) -> None:
    fused, a, b = images
    valid = np.hypot(*(np.mgrid[:180, :190] - 90)) < 80
    black = [np.where(valid, x, 0).astype(np.uint8) for x in (fused, a)]
    expected = evaluate(black[0], [black[1], b])
    assert_same(evaluate(Image(fused, valid), [Image(a, valid), Image(b)]), expected, rtol=0)
    holes = np.where(valid, a / 255, np.nan)
    given = Image(fused / 255, valid), [Image(holes, valid), b / 255]
    filled = evaluate(black[0] / 255, [black[1] / 255, b / 255], data_range=1, metrics=["SSIM"])
    for options in ({"data_range": (0, 1)}, {"window": (0, 1)}):
        assert_same(evaluate(*given, metrics=["SSIM"], **options), filled, rtol=1e-9)
    ends = [(x[valid].min() / 255, x[valid].max() / 255) for x in (fused, a)]
    by_hand = evaluate(*given, metrics=["SSIM"], window=[*ends, (0, 1)])
    assert_same(evaluate(*given, metrics=["SSIM"], window=["minmax", "minmax", (0, 1)]), by_hand)
    with pytest.raises(ValueError, match=r"sources\[0\]: its valid is bool of shape \(9, 190\); expected bool of"):
        evaluate(fused, [Image(a, valid[:9]), b])


def test_views_and_read_only_arrays_are_read(
    images: tuple[np.ndarray, np.ndarray, np.ndarray], values: dict[str, float]
) -> None:
    fused, a, b = (np.flip(np.flip(x, 1).copy(), 1) for x in images)
    fused.flags.writeable = False
    assert_same(evaluate(fused, [a, b]), values)


def test_three_sources(images: tuple[np.ndarray, np.ndarray, np.ndarray]) -> None:
    fused, a, b = images
    c = picture(7, *a.shape)
    three = evaluate(fused, [a, b, c])
    assert list(three) == [name for name in METRICS if name not in ONE_OF_TWO]
    alone = {k: evaluate(fused, [s, s], metrics=("MI", "SSIM", "VIF", "CC")) for k, s in enumerate((a, b, c))}
    assert three["MI"] == pytest.approx(sum(v["MI"] for v in alone.values()) / 2)
    assert three["VIF"] == pytest.approx(sum(v["VIF"] for v in alone.values()) / 2)
    assert three["SSIM"] == pytest.approx(sum(v["SSIM"] for v in alone.values()) / 3)
    assert three["CC"] == pytest.approx(sum(v["CC"] for v in alone.values()) / 3)


def test_windows_that_are_black_in_all_images_tell_all_in_fmi(
    images: tuple[np.ndarray, np.ndarray, np.ndarray],
) -> None:
    """The wide images are the narrow ones with black beside them."""
    narrow = [np.pad(image[:, :40], ((0, 0), (3, 0))) for image in images]
    wide = [np.pad(image, ((0, 0), (158, 0))) for image in narrow]
    for name in ("FMI_pixel", "FMI_gradient"):
        few, many = (
            evaluate(fused, sources, metrics=[name])[name] * (fused.shape[1] - 2) for fused, *sources in (narrow, wide)
        )
        assert many == pytest.approx(few + 158, rel=1e-9)


@pytest.mark.parametrize("level", [0, 77])
def test_flat_images_give_no_nan(level: int) -> None:
    flat = np.full((180, 180), level, np.uint8)
    values = evaluate(flat, [flat, flat])
    assert not any(math.isnan(v) for v in values.values())
    assert values["SSIM"] == pytest.approx(1)
    assert values["CC"] == values["EN"] == values["MI"] == values["Q_over"] == 0


def test_a_flat_fused_image_tells_nothing(images: tuple[np.ndarray, np.ndarray, np.ndarray]) -> None:
    _, a, b = images
    values = evaluate(np.full_like(a, 100), [a, b])
    assert not any(math.isnan(v) for v in values.values())
    assert values["MI"] == pytest.approx(0, abs=1e-12)
    assert values["VIF"] == pytest.approx(0, abs=1e-9)
    assert values["Q_abf"] < 0.1  # the zero-padded frame is an edge of all


@pytest.mark.parametrize("side", sorted({metric.least_side for metric in METRICS.values()}))
def test_the_least_size_is_enough_and_one_less_is_not(side: int) -> None:
    names = [name for name, metric in METRICS.items() if metric.least_side == side]
    x = picture(1, side, side + 1)
    assert all(math.isfinite(v) for v in evaluate(x, [x, x.T.copy().T], metrics=set(names) - {"PSNR"}).values())
    for name in names:
        with pytest.raises(
            ValueError, match=rf"fused: size {side - 1} x {side + 1} is too small for {name}, .* {side}"
        ):
            evaluate(x[1:], [x[1:], x[1:]], metrics=[name])


U8 = np.zeros((16, 16), np.uint8)
F32 = np.zeros((16, 16), np.float32)


@pytest.mark.parametrize(
    ("fused", "sources", "options", "error", "text"),
    [
        (U8, U8, {}, TypeError, r"sources: got ndarray; expected a list of images"),
        (U8, [U8], {}, ValueError, r"sources: got 1 image\(s\); expected two or more"),
        ([[1]], [U8, U8], {}, TypeError, r"fused: got list; expected a NumPy array or a torch tensor"),
        (U8, [U8, torch.zeros(16, 16)], {}, TypeError, r"sources\[1\]: is a Tensor and fused is a ndarray"),
        (U8, [U8, U8[:15]], {}, ValueError, r"sources\[1\]: shape \(15, 16\), but fused has \(16, 16\).*resample"),
        (U8, [F32, U8], {}, ValueError, r"sources\[0\]: dtype float32, but fused is uint8; convert one"),
        (F32, [F32, F32], {}, ValueError, r"data_range: not given, and dtype float32 does not imply it; .*1\.0"),
        (F32, [F32, F32], {"data_range": 0}, ValueError, r"data_range: got 0; expected a positive number"),
        (F32, [F32, F32], {"data_range": "1"}, TypeError, r"data_range: got str; expected \(low, high\), or a number"),
        (F32, [F32, F32], {"data_range": (1, 0)}, ValueError, r"data_range: got \(1, 0\); expected \(low, high\) with"),
        (
            F32,
            [F32, F32],
            {"data_range": (0, 1, 2)},
            ValueError,
            r"data_range: got \(0, 1, 2\); expected \(low, high\)",
        ),
        (
            F32,
            [F32, F32 + 2],
            {"data_range": (0, 1)},
            ValueError,
            r"sources\[1\]: values from 2 to 2, not .* 0 to 1; widen",
        ),
        (F32 - 1, [F32, F32], {"data_range": (0, 1)}, ValueError, r"fused: values from -1 to -1, not all within"),
        (U8, [U8, U8], {"data_range": 1, "window": "auto"}, ValueError, r"window: got 'auto', and a data_range 1 too"),
        (
            U8,
            [U8, U8],
            {"window": [None, None]},
            ValueError,
            r"window: got 2 for 3 images; expected one for all, or one",
        ),
        (
            F32,
            [F32, F32],
            {"window": [None] * 3},
            ValueError,
            r"data_range: not given, and dtype float32 does not imply",
        ),
        (U8.astype("i2"), [U8.astype("i2")] * 2, {}, ValueError, r"data_range: not given, and dtype int16 does not"),
        (F32 + np.nan, [F32, F32], {"window": (0, 1)}, ValueError, r"fused: contains NaN or inf.*nan_to_num"),
        (F32 + np.nan, [F32, F32], {"data_range": 1}, ValueError, r"fused: contains NaN or inf.*nan_to_num"),
        (F32, [F32, F32 - np.inf], {"data_range": 1}, ValueError, r"sources\[1\]: contains NaN or inf"),
        (U8[0], [U8[0]] * 2, {}, ValueError, r"fused: shape \(16,\); expected \(H, W\), or \(\.\.\., H, W\)"),
        (U8[:0], [U8[:0]] * 2, {}, ValueError, r"fused: shape \(0, 16\) is empty"),
        (U8[:, :, None].repeat(3, 2), [U8, U8], {}, ValueError, r"looks like RGB; .* pass the luminance"),
        (U8.astype(int), [U8, U8], {}, TypeError, r"fused: dtype int64 is not supported; convert it to uint8"),
        (U8 > 0, [U8, U8], {}, TypeError, r"fused: dtype bool is not supported"),
        (U8, [U8, U8], {"metrics": ["PSRN"]}, ValueError, r"metrics: 'PSRN' is not known; expected some of EN, SD"),
        (U8, [U8, U8], {"metrics": "EN"}, TypeError, r"metrics: got the string 'EN'; expected a sequence"),
        (U8, [U8] * 3, {"metrics": ["SCD"]}, ValueError, r"metrics: SCD is defined for exactly two sources, but got 3"),
        (U8, [U8, U8], {}, ValueError, r"fused: size 16 x 16 is too small for MS_SSIM, which needs at least 176"),
    ],
)
def test_errors_name_the_argument_and_what_to_do(
    fused: Any, sources: Any, options: dict[str, Any], error: type[Exception], text: str
) -> None:
    with pytest.raises(error, match=text):
        evaluate(fused, sources, **options)
