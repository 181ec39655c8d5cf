"""What it costs to measure a fused image by every metric."""

from __future__ import annotations

from collections.abc import Callable

import pytest

import cases
import nmfuse
from nmfuse.metrics import evaluate


@pytest.mark.cases(cases.METRICS)
def test_metrics(case: int, device: str, compare: Callable[..., None]) -> None:
    a, b = cases.phantom_pair(case, device)
    fused = nmfuse.fuse(a, b).clamp(0, 1)
    values = evaluate(fused, [a, b], data_range=1.0)
    compare(
        f"all {len(values)} metrics of a pair of {case}²",
        {"nmfuse": lambda: evaluate(fused, [a, b], data_range=1.0)},
    )
