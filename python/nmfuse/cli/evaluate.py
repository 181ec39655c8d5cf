"""``nmfuse evaluate``: the metrics of one fused image, with what they mean."""

from __future__ import annotations

from pathlib import Path

from rich.console import Console
from rich.table import Table

from nmfuse.io import grey, read_image
from nmfuse.metrics import METRICS, evaluate

_DIRECTION = {True: "higher", False: "lower", None: "-"}


def run_evaluate(fused: Path, sources: list[Path], metrics: str | None) -> None:
    """Read the images and print one row for each metric."""
    images = [grey(read_image(path)) for path in (fused, *sources)]
    data_range = 1.0 if images[0].dtype.kind == "f" else None
    names = None if metrics is None else [name.strip() for name in metrics.split(",")]
    values = evaluate(images[0], images[1:], data_range=data_range, metrics=names)
    table = Table("metric", "value", "better", "range", "what", "source")
    for name, value in values.items():
        metric = METRICS[name]
        table.add_row(
            name, f"{value:.4f}", _DIRECTION[metric.higher_is_better], metric.range, metric.title, metric.source
        )
    Console(width=None if Console().is_terminal else 160).print(table)
