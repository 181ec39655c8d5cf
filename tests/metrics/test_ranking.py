"""Ranks by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest

from nmfuse.metrics import METRICS, RANKING, mean_and_deviation, mean_ranks, ranks


def test_there_are_ten_and_all_are_metrics() -> None:
    assert len(set(RANKING)) == 10
    assert set(RANKING) <= set(METRICS)
    assert all(METRICS[name].higher_is_better for name in RANKING)


def test_ranks_follow_the_direction_and_share_ties() -> None:
    values = np.array([[1.0, 1.0], [1.0, 2.0], [3.0, math.nan]])
    assert ranks(values, ["VIF", "N_abf"]).tolist() == [[2, 1], [2, 2], [1, 3]]


def test_mean_ranks_over_whole_pairs_only() -> None:
    table = {
        ("p", "x"): {"VIF": 1.0, "N_abf": 0.1},
        ("p", "y"): {"VIF": 2.0, "N_abf": 0.2},
        ("q", "x"): {"VIF": 3.0, "N_abf": 0.1},
        ("q", "y"): {"VIF": 2.0, "N_abf": 0.2},
        ("r", "x"): {"VIF": 3.0, "N_abf": 0.1},
    }
    assert mean_ranks(table, ["VIF", "N_abf"]) == {"x": (1.5 + 1) / 2, "y": (1.5 + 2) / 2}
    assert all(math.isnan(rank) for rank in mean_ranks({("p", "x"): {}, ("q", "y"): {}}).values())


def test_ranking_goes_by_the_ten() -> None:
    best = dict.fromkeys(METRICS, 0.0) | dict.fromkeys(RANKING, 1.0)
    assert mean_ranks({("p", "x"): best, ("p", "y"): dict.fromkeys(METRICS, 0.5)}) == pytest.approx({"x": 1, "y": 2})


def test_mean_and_deviation_of_one_and_of_none() -> None:
    assert mean_and_deviation({("p", "x"): {"VIF": 1.0}}, "x", "VIF") == (1.0, 0.0)
    assert all(math.isnan(value) for value in mean_and_deviation({}, "x", "VIF"))
