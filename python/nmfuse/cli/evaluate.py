"""``nmfuse evaluate``: the metrics of one fused image, with what they mean."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from nmfuse.io import read_image
from nmfuse.metrics import METRICS, measure

_DIRECTION = {True: "higher", False: "lower", None: "-"}


def run_evaluate(fused: Path, paths: list[Path], metrics: list[str] | None, *, window: Any, data_range: Any) -> None:
    """Read the images and print one row for each metric, and which metrics need larger images or two sources."""
    image, *sources = (read_image(path) for path in (fused, *paths))
    values = measure(image, sources, metrics, window=window, data_range=data_range)
    table = Table("metric", "value", "better", "range", "what", "source")
    undefined = [name for name, value in values.items() if math.isnan(value)]
    for name, value in values.items():
        metric = METRICS[name]
        if name not in undefined:
            table.add_row(
                name, f"{value:.4f}", _DIRECTION[metric.higher_is_better], metric.range, metric.title, metric.source
            )
    Console(width=None if Console().is_terminal else 160).print(table)
    if undefined:
        print(f"Not defined for {len(sources)} sources of {image.shape[0]} x {image.shape[1]}: {', '.join(undefined)}")
