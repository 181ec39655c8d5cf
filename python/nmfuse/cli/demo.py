"""``nmfuse demo``: the digital brain phantom, or images of your own, from end to end."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from nmfuse.cli.panel import write_panel
from nmfuse.data import brain_phantom
from nmfuse.fuser import Explanation, Fuser
from nmfuse.io import read_image, write_image
from nmfuse.metrics import METRICS, evaluate

_METRICS = ("EN", "SD", "MI", "Q_abf", "SSIM", "VIF", "SCD")


def run_demo(fuser: Fuser, paths: list[Path], folder: Path) -> None:
    """Fuse, write ``fused.png`` and ``explain.png`` into `folder`, and print what it is worth and what it cost."""
    sources: list[Any] = [read_image(path) for path in paths]
    if not sources:
        phantom = brain_phantom()
        sources = [np.rint(255 * x).astype(np.uint8) for x in (phantom.t2, phantom.ct)]
    fuser.fuse(*sources)  # weights are loaded and memory is touched: what follows is timed warm
    explanation = fuser.explain(*sources)

    folder.mkdir(parents=True, exist_ok=True)
    write_image(folder / "fused.png", explanation.fused, overwrite=True)
    write_panel(folder / "explain.png", explanation, overwrite=True)
    console = Console()
    console.print(_metrics_table(explanation))
    print_timings(explanation)
    print(f"The fused image: {folder / 'fused.png'}\nEvery step on the way to it: {folder / 'explain.png'}")


def _metrics_table(explanation: Explanation) -> Table:
    sources = list(explanation["sources"])
    images = {"fused": explanation["luminance"], "average": explanation["sources"].mean(0)}
    names = [name for name in _METRICS if METRICS[name].defined(len(sources), min(sources[0].shape))]
    table = Table("image", *names, title="Metrics of the luminance (higher is better)")
    for name, image in images.items():
        values = evaluate(image, sources, data_range=1.0, metrics=names)
        table.add_row(name, *(f"{values[metric]:.3f}" for metric in names))
    return table


def print_timings(explanation: Explanation) -> None:
    """Print the milliseconds of each step."""
    table = Table("step", "ms", title="Where the time goes (warm)")
    for step, seconds in explanation.seconds.items():
        table.add_row(step, f"{1000 * seconds:.1f}")
    table.add_section()
    table.add_row("total", f"{1000 * sum(explanation.seconds.values()):.1f}")
    Console().print(table)
