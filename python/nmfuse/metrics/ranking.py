"""Ranks: where methods stand among each other, by several metrics at once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from nmfuse.metrics.evaluate import METRICS

# The ten metrics that methods are ranked by: contrast, information, fidelity, edges, and the worse-served source.
RANKING = ("EN", "SD", "SF", "MI", "SCD", "VIF", "Q_abf", "SSIM", "VIF_min", "Q_over")
# The second jury: eighteen others. None of them is, or ever was, in a loss of ours.
SECOND_JURY = (
    "AG", "Q_MI", "MI_Tsallis", "Q_TE", "IR", "L_abf", "N_abf", "MS_SSIM", "Q_S", "Q_W", "Q_E", "Q_Y", "VIFF", "CC",
    "Q_CB", "FMI_pixel", "FMI_gradient", "PSNR",
)  # fmt: skip


def ranks(values: np.ndarray, metrics: Sequence[str]) -> np.ndarray:
    """Rank each column of (methods, metrics), 1 the best; equal values share the better rank, undefined are last.

    Examples
    --------
    >>> ranks(np.array([[0.1, 3.0], [0.2, 1.0], [0.2, 2.0]]), ["Q_abf", "RMSE"])
    array([[3, 3],
           [1, 1],
           [1, 2]])
    """
    signs = np.array([1.0 if METRICS[metric].higher_is_better in (True, None) else -1.0 for metric in metrics])
    signed = np.nan_to_num(np.asarray(values, np.float64) * signs, nan=-np.inf, posinf=np.inf, neginf=-np.inf)
    return np.asarray((signed[:, None] < signed[None]).sum(1) + 1)


def mean_ranks(
    table: Mapping[tuple[str, str], Mapping[str, float]], metrics: Sequence[str] = RANKING
) -> dict[str, float]:
    """Return the rank of each method, averaged over the metrics and then over the pairs.

    Parameters
    ----------
    table : mapping
        The values of the metrics for each (pair, method). Only pairs for which all methods have values count.
    metrics : sequence of str
        The metrics by which the methods are ranked.

    Examples
    --------
    >>> mean_ranks({("p", "x"): {"VIF": 1.0}, ("p", "y"): {"VIF": 0.5}}, ["VIF"])
    {'x': 1.0, 'y': 2.0}
    """
    methods = list(dict.fromkeys(method for _, method in table))
    shared = [
        pair for pair in dict.fromkeys(pair for pair, _ in table) if all((pair, method) in table for method in methods)
    ]
    if not shared:
        return dict.fromkeys(methods, float("nan"))
    placed = [
        ranks(np.array([[table[pair, method][metric] for metric in metrics] for method in methods]), metrics).mean(1)
        for pair in shared
    ]
    return dict(zip(methods, np.mean(placed, axis=0).tolist(), strict=True))


def mean_and_deviation(
    table: Mapping[tuple[str, str], Mapping[str, float]], method: str, metric: str
) -> tuple[float, float]:
    """Return the mean of a metric of a method over all pairs, and the sample standard deviation (0 for one pair).

    Examples
    --------
    >>> mean_and_deviation({("p", "x"): {"VIF": 1.0}, ("q", "x"): {"VIF": 2.0}}, "x", "VIF")
    (1.5, 0.7071067811865476)
    """
    values = np.array([row[metric] for (_, name), row in table.items() if name == method], np.float64)
    if not values.size:
        return float("nan"), float("nan")
    return float(values.mean()), float(values.std(ddof=1)) if values.size > 1 else 0.0
