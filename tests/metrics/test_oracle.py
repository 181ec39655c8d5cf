"""Every metric held against values that other implementations gave: `shared/oracles/README.md`."""

from __future__ import annotations

import csv
import math
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from nmfuse.metrics import evaluate

COLUMNS = {
    "EN": "EN",
    "SD": "SD",
    "SF": "SF",
    "AG": "AG",
    "MI": "MI",
    "NMI": "Q_MI",
    "QTE_cvejic": "MI_Tsallis",
    "QTE_nava": "Q_TE",
    "Qabf": "Q_abf",
    "Nabf": "N_abf",
    "SCD": "SCD",
    "CC": "CC",
    "SSIM": "SSIM",
    "MS_SSIM": "MS_SSIM",
    "VIF": "VIF",
    "Q_S": "Q_S",
    "Q_W": "Q_W",
    "Q_E": "Q_E",
    "Q_CB": "Q_CB",
    "Q_Y": "Q_Y",
    "FMI_pixel": "FMI_pixel",
    "VIF_min": "VIF_min",
    "Q_over": "Q_over",
}
PAIRS = ("mri_ct_03", "mri_pet_05", "mri_spect_07", "ir_vis_02", "multi_focus_03", "multi_exposure_02")
METHODS = ("average", "maximum", "laplacian", "wavelet")

RTOL = 1e-8  # the oracle prints ten digits
# Q_CB divides by a filtered image that is rounding noise of the FFT where all around is black. The same formula with
# numpy.fft gives the oracle to 1e-10 there, too; torch's FFT rounds otherwise, and the noise has the third digit.
RTOL_Q_CB_ON_BLACK = 3e-3
RTOL_FMI = 1e-6  # works in single precision where a window has 81 joint probabilities


def grey(path: Path) -> np.ndarray:
    """Read 8-bit grey levels; RGB as BT.601 luminance, rounded."""
    image = np.asarray(Image.open(path))
    return image if image.ndim == 2 else np.rint(image @ np.array([0.299, 0.587, 0.114])).astype(np.uint8)


@pytest.mark.parametrize("pair", PAIRS)
@pytest.mark.parametrize("method", METHODS)
def test_every_column_of_the_oracle(shared_dir: Path, pair: str, method: str) -> None:
    name = f"metrics/{pair}_{method}.png"
    with (shared_dir / "oracles" / "metrics.csv").open(newline="") as file:
        (row,) = [row for row in csv.DictReader(file) if row["fused"] == name]
    assert set(row) == {"fused", "A", "B", *COLUMNS}
    sources = [grey(shared_dir / "data" / "pairs" / row[side]) for side in "AB"]
    values = evaluate(grey(shared_dir / "oracles" / name), sources, metrics=COLUMNS.values())
    wrong = {}
    for column, metric in COLUMNS.items():
        black = metric == "Q_CB" and pair.startswith("mri")
        tolerance = RTOL_Q_CB_ON_BLACK if black else RTOL_FMI if metric.startswith("FMI") else RTOL
        if not math.isclose(values[metric], float(row[column]), rel_tol=tolerance):
            wrong[metric] = (values[metric], float(row[column]))
    assert not wrong


def test_ct_and_mr_fused_by_its_authors(shared_dir: Path) -> None:
    folder = shared_dir / "oracles" / "cnn_liu"
    fused, ct, mr = (grey(folder / name) for name in ("fused.tif", "010_CT.tif", "010_MR-T2.tif"))
    values = evaluate(fused, [ct, mr])
    expected = {"Q_MI": 0.7862, "MI": 3.0983, "Q_abf": 0.6109, "VIFF": 0.5170}
    assert {name: round(values[name], 4) for name in expected} == expected
    expected = {"MI_Tsallis": 8.478, "Q_TE_toolbox": 0.518, "Q_TE": 0.061}
    assert {name: round(values[name], 3) for name in expected} == expected
    assert round(values["VIF"] / 2, 4) == 0.3630


def test_average_of_ct_and_mr(shared_dir: Path) -> None:
    folder = shared_dir / "oracles" / "cnn_liu"
    ct, mr = (grey(folder / name).astype(float) for name in ("010_CT.tif", "010_MR-T2.tif"))
    values = evaluate((ct + mr) / 2, [ct, mr], data_range=255, metrics=("Q_MI", "VIFF"))
    assert {name: round(value, 3) for name, value in values.items()} == {"Q_MI": 1.067, "VIFF": 0.381}
