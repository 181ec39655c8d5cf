"""Means of many methods' metrics, and tables of them."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from nmfuse.io.tables import markdown
from nmfuse.metrics.ranking import RANKING, mean_ranks, ranks

__all__ = ["RANKING", "markdown", "mean_and_deviation", "mean_ranks", "ranks"]


def mean_and_deviation(
    table: Mapping[tuple[str, str], Mapping[str, float]], method: str, metric: str
) -> tuple[float, float]:
    """Return the mean of a method's metric over all pairs, and the standard deviation (of the sample; 0 for one).

    Examples
    --------
    >>> mean_and_deviation({("p", "x"): {"VIF": 1.0}, ("q", "x"): {"VIF": 2.0}}, "x", "VIF")
    (1.5, 0.7071067811865476)
    """
    values = np.array([row[metric] for (_, name), row in table.items() if name == method], np.float64)
    if not values.size:
        return float("nan"), float("nan")
    return float(values.mean()), float(values.std(ddof=1)) if values.size > 1 else 0.0
