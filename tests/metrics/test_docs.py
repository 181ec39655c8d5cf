"""docs/metrics.md is what docs/metrics.py prints."""

from __future__ import annotations

import runpy
from pathlib import Path

from nmfuse.metrics import METRICS

DOCS = Path(__file__).resolve().parents[2] / "docs"


def test_the_page_is_printed_from_the_registry() -> None:
    text = runpy.run_path(str(DOCS / "metrics.py"))["text"]()
    remedy = "run: python docs/metrics.py > docs/metrics.md"
    assert (DOCS / "metrics.md").read_text(encoding="utf-8") == text, remedy


def test_it_has_every_metric_and_what_it_asks_for() -> None:
    text = (DOCS / "metrics.md").read_text(encoding="utf-8")
    for metric in METRICS.values():
        assert f"| {metric.name} | {metric.title} | {metric.range} |" in text
    assert "\nQ_TE, Q_TE_toolbox, Q_Y and SCD are defined for exactly two sources." in text
    assert "MS_SSIM 176; VIF, VIFF and VIF_min 41; SSIM 11;" in text
