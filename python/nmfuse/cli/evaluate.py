"""``nmfuse evaluate``: the metrics of one fused image, with what they mean."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from nmfuse.fuser import Fuser
from nmfuse.io import read_image
from nmfuse.io.suv import as_asked
from nmfuse.metrics import METRICS, contradiction, measure, transfer
from nmfuse.metrics.transfer import Transfer

_DIRECTION = {True: "higher", False: "lower", None: "-"}


def run_evaluate(
    paths: list[Path], metrics: list[str] | None, *, method: str | None, window: Any, data_range: Any
) -> None:
    """Print one row for each metric of the first image, or of all of them fused by a method.

    Also say which metrics need larger images or two sources.
    """
    least = 3 if method is None else 2
    if len(paths) < least:
        raise ValueError(f"images: got {len(paths)}; expected {least} or more: a fused image and its sources")
    images = [as_asked(read_image(path), window, place) for place, path in enumerate(paths)]
    if method is not None:
        images.insert(0, Fuser(method).fuse(*images, window=window, data_range=data_range))
        if isinstance(window, list):
            window = [window[0], *window]
    image, *sources = images
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
        height, width = image.shape[image.spatial - 2 : image.spatial]
        print(f"Not defined for {len(sources)} sources of {height} x {width}: {', '.join(undefined)}")
    if image.spatial == 3:
        print("Of volumes: means over the slices in which a source shows something.")


def run_transfer(method: str, paths: list[Path]) -> None:
    """Print what a method shows of signals that were put into one image at a time, or into two with unlike signs."""
    fuser, images = Fuser(method), [read_image(path) for path in paths]
    for image in images:
        if image.spatial == 3:
            raise ValueError(f"{image.name}: is a volume, and --transfer is for images; take slices")
    found, opposed = transfer(fuser, images), contradiction(fuser, images)
    table = Table("signals", "number", "mean", "5th percentile", "lost", "wrong sign", "visibility", "below half")
    for k, path in enumerate(paths):
        table.add_row(f"in {path.name} alone", *_row(found.of(k)))
    table.add_row("all", *_row(found))
    table.add_row("contradicted by another image", *_row(opposed))
    Console(width=None if Console().is_terminal else 160).print(table)
    print("Transfer: 1 as in the source, 0.5 by an average of two, below 0.25 lost. Visibility: d' over the source's.")


def _row(found: Transfer) -> list[str]:
    return [
        str(len(found.signals)),
        f"{found.mean:.2f}",
        f"{found.p5:.2f}",
        f"{found.lost:.0%}",
        f"{found.wrong:.0%}",
        f"{found.visibility:.2f}",
        f"{found.faint:.0%}",
    ]
