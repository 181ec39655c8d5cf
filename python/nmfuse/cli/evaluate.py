"""``nmfuse evaluate``: the metrics of one fused image, with what they mean."""

from __future__ import annotations

from pathlib import Path

from rich.console import Console
from rich.table import Table

from nmfuse.compare.pairs import white_of
from nmfuse.io import grey, read_image
from nmfuse.metrics import METRICS, evaluate

_DIRECTION = {True: "higher", False: "lower", None: "-"}


def run_evaluate(fused: Path, sources: list[Path], metrics: str | None, data_range: float | None) -> None:
    """Read the images and print one row for each metric, and which metrics need larger images or two sources."""
    images = [grey(read_image(path)) for path in (fused, *sources)]
    if metrics is None:
        names = [name for name, metric in METRICS.items() if metric.defined(len(sources), min(images[0].shape))]
    else:
        names = [name.strip() for name in metrics.split(",")]
    white = white_of(images[1:]) if data_range is None else data_range
    values = evaluate(images[0], images[1:], data_range=white, metrics=names)
    table = Table("metric", "value", "better", "range", "what", "source")
    for name, value in values.items():
        metric = METRICS[name]
        table.add_row(
            name, f"{value:.4f}", _DIRECTION[metric.higher_is_better], metric.range, metric.title, metric.source
        )
    Console(width=None if Console().is_terminal else 160).print(table)
    if metrics is None and len(names) < len(METRICS):
        without = ", ".join(name for name in METRICS if name not in names)
        print(f"Not defined for {len(sources)} sources of {images[0].shape[0]} x {images[0].shape[1]}: {without}")
