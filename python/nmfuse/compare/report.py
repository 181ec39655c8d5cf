"""The report of a comparison: one HTML file that opens offline, and its tables as Markdown."""

from __future__ import annotations

import io
import platform
from importlib import metadata
from pathlib import Path
from string import ascii_uppercase
from typing import Any

import numpy as np

from nmfuse.compare.run import Comparison
from nmfuse.images.luma import grey
from nmfuse.io import SourceSet, new_file, read_image
from nmfuse.io.html import data_uri, render
from nmfuse.io.locks import locked
from nmfuse.io.tables import markdown
from nmfuse.kernels import num_threads
from nmfuse.methods import METHODS
from nmfuse.metrics import METRICS, RANKING, mean_and_deviation, mean_ranks
from nmfuse.version import config

_THUMB = 256  # pixels, the longer side
_HIDDEN = ("python", "flags")  # say where this machine keeps its files


def write_report(comparison: Comparison) -> Path:
    """Write ``report.html`` and ``tables.md`` into the comparison's folder; return the former.

    The page holds the tables (mean, deviation, mean rank; best in bold; sortable), box plots, times, a wall of pictures
    and the environment. Pictures in it are at most 256 pixels large and link to the files beside it.
    """
    page = render(
        "nmfuse.compare",
        "report.html.j2",
        metrics=[METRICS[name] for name in comparison.metrics],
        ranking=_ranking(comparison),
        overall=_overall(comparison),
        kinds=[
            {
                "name": kind,
                "count": _count(comparison, kind),
                "rows": _rows(comparison, kind),
                "plot": _plot(comparison, kind),
            }
            for kind in comparison.kinds
        ],
        kind_names=comparison.kinds,
        times=_times(comparison),
        walls=[_wall(comparison, pair) for pair in comparison.pairs],
        errors=[(*key, error) for key, error in sorted(comparison.errors.items())],
        missing=comparison.missing,
        methods={name: METHODS[name] for name in comparison.methods},
        environment=_environment(),
    )
    path, tables = comparison.folder / "report.html", _markdown(comparison)
    with locked(comparison.folder):
        with new_file(path, overwrite=True) as temporary:
            temporary.write_text(page, encoding="utf-8")
        with new_file(comparison.folder / "tables.md", overwrite=True) as temporary:
            temporary.write_text(tables, encoding="utf-8")
    return path


def _ranking(comparison: Comparison) -> list[str]:
    """Return the metrics ranked by: the ten, or those that were asked for where these lack one."""
    if set(RANKING) <= set(comparison.metrics):
        return list(RANKING)
    return [name for name in comparison.metrics if METRICS[name].higher_is_better is not None]


def _count(comparison: Comparison, kind: str) -> int:
    return sum(pair.kind == kind for pair in comparison.pairs)


def _overall(comparison: Comparison) -> list[dict[str, Any]]:
    """Mean ranks of each method, by kind and over the kinds; best first."""
    by_kind = {kind: mean_ranks(comparison.of(kind), _ranking(comparison)) for kind in comparison.kinds}
    rows: list[dict[str, Any]] = []
    for method in comparison.methods:
        each = [by_kind[kind].get(method, float("nan")) for kind in comparison.kinds]
        rows.append({"method": method, "ranks": each, "mean": float(np.mean(each))})
    columns = np.array([[row["mean"], *row["ranks"]] for row in rows])
    best = np.where(np.isnan(columns), np.inf, columns).min(axis=0)  # where all have failed, none is best
    for row in rows:
        row["best"] = (np.array([row["mean"], *row["ranks"]]) == best).tolist()
    return sorted(rows, key=lambda row: (np.isnan(row["mean"]), row["mean"]))


def _rows(comparison: Comparison, kind: str) -> list[dict[str, Any]]:
    """Mean, deviation and mean rank of each metric; best first."""
    table = comparison.of(kind)
    mean_rank = mean_ranks(table, _ranking(comparison))
    ranks = {metric: mean_ranks(table, [metric]) for metric in comparison.metrics}
    present = [method for method in comparison.methods if method in mean_rank]
    rows: list[dict[str, Any]] = []
    for method in present:
        cells = []
        for metric in comparison.metrics:
            mean, deviation = mean_and_deviation(table, method, metric)
            cells.append({"mean": mean, "deviation": deviation, "rank": ranks[metric][method], "best": False})
        rows.append({"method": method, "rank": mean_rank[method], "cells": cells})
    for i, metric in enumerate(comparison.metrics):
        sign = {True: 1.0, False: -1.0, None: np.nan}[METRICS[metric].higher_is_better]
        signed = [sign * row["cells"][i]["mean"] for row in rows]
        for row, value in zip(rows, signed, strict=True):
            row["cells"][i]["best"] = value == max(signed)
    return sorted(rows, key=lambda row: row["rank"])


def _times(comparison: Comparison) -> dict[str, Any]:
    sizes = {kind: size for (kind, _), (_, size) in comparison.seconds.items()}
    rows = [
        {"method": method, "seconds": [comparison.seconds.get((kind, method), (float("nan"), ""))[0] for kind in sizes]}
        for method in comparison.methods
    ]
    return {"sizes": sizes, "rows": rows, "threads": num_threads()}


def _plot(comparison: Comparison, kind: str) -> str:
    """Box plots of the ranking metrics, as SVG text."""
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    table, metrics = comparison.of(kind), _ranking(comparison)[:10]
    methods = [method for method in comparison.methods if any(name == method for _, name in table)][::-1]
    if not methods or not metrics:
        return ""
    columns = min(5, len(metrics))
    rows = -(-len(metrics) // columns)
    with rc_context({"svg.fonttype": "none", "font.size": 7, "svg.hashsalt": kind}):
        figure = Figure(figsize=(2.1 * columns + 0.8, (0.4 + 0.15 * len(methods)) * rows + 0.3), layout="constrained")
        for i, metric in enumerate(metrics):
            axes = figure.add_subplot(rows, columns, i + 1)
            values = [[row[metric] for (_, name), row in table.items() if name == method] for method in methods]
            labels = methods if i % columns == 0 else [""] * len(methods)
            axes.boxplot(values, orientation="horizontal", widths=0.6, tick_labels=labels, flierprops={"markersize": 2})
            direction = {True: " (higher is better)", False: " (lower is better)", None: ""}
            axes.set_title(metric + direction[METRICS[metric].higher_is_better], fontsize=7)
        out = io.StringIO()
        figure.savefig(out, format="svg", metadata={"Date": None})
    text = out.getvalue()
    return text[text.index("<svg") :]


def _wall(comparison: Comparison, pair: SourceSet) -> dict[str, Any]:
    """Pictures of one pair: sources, and of every method the fused image and its differences to them."""
    try:
        sources = [image.pixels for image in pair.images() if image.spatial == 2]
    except (OSError, ValueError):  # said among the errors
        return {"label": pair.label, "kind": pair.kind, "tiles": []}
    tiles = [
        {"name": f"source {name}", "image": _picture(x), "differences": "", "file": ""}
        for name, x in zip(ascii_uppercase, sources, strict=False)
    ]
    for method in comparison.methods:
        file = comparison.image(pair, method)
        if (pair.label, method) in comparison.values and file.is_file():
            fused = read_image(file).pixels
            tiles.append(
                {
                    "name": method,
                    "image": _picture(fused),
                    "differences": _picture(_differences(fused, sources)),
                    "file": file.relative_to(comparison.folder).as_posix(),
                }
            )
    return {"label": pair.label, "kind": pair.kind, "tiles": tiles}


def _differences(fused: np.ndarray, sources: list[np.ndarray]) -> np.ndarray:
    """|F - A|, |F - B| and so on of the luminances, side by side, in 8 bits."""
    y, *others = (_eight_bit(grey(x)).astype(np.int16) for x in (fused, *sources))
    return np.concatenate([np.abs(y - other) for other in others], axis=1).astype(np.uint8)


def _eight_bit(pixels: np.ndarray) -> np.ndarray:
    white = np.iinfo(pixels.dtype).max if pixels.dtype.kind == "u" else 1.0
    return np.asarray(np.rint(np.clip(pixels / white, 0, 1) * 255), np.uint8)


def _picture(pixels: np.ndarray) -> str:
    """Return a small WebP as a data URI."""
    from PIL import Image

    image = Image.fromarray(_eight_bit(pixels))
    image.thumbnail((_THUMB, _THUMB))
    return data_uri(image, "webp", quality=80)


def _environment() -> dict[str, str]:
    packages = ("scipy", "scikit-image", "pywavelets", "dtcwt", "opencv-python-headless")
    found = {}
    for package in packages:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            found[package] = "not installed"
    known = {name: value for name, value in config().items() if name not in _HIDDEN}
    return known | {"python": platform.python_version(), "processor": _processor()} | found


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.machine())


def _markdown(comparison: Comparison) -> str:
    """Return the tables: mean ranks, the ranking metrics of each kind, times."""
    ranking = _ranking(comparison)
    parts = [
        "## Mean rank",
        f"For each pair, the {len(comparison.methods)} methods are ranked by each of {', '.join(ranking[:-1])} and "
        f"{ranking[-1]}, where 1 is the best. The table has the mean over these metrics and over the pairs of a kind, "
        "and then over the kinds. Lower is better.",
    ]

    def cell(value: float, best: bool, digits: int) -> str:
        text = "-" if np.isnan(value) else f"{value:.{digits}f}"
        return f"**{text}**" if best else text

    rows = [
        [row["method"], *(cell(v, b, 2) for v, b in zip([row["mean"], *row["ranks"]], row["best"], strict=True))]
        for row in _overall(comparison)
    ]
    parts.append(markdown(["method", "all kinds", *comparison.kinds], rows))
    for kind in comparison.kinds:
        parts.append(f"## {kind}, {_count(comparison, kind)} pairs: mean ± standard deviation")
        which = [comparison.metrics.index(metric) for metric in ranking]
        rows = []
        for row in _rows(comparison, kind):
            cells = [row["cells"][i] for i in which]
            texts = [
                f"**{c['mean']:.3f}** ± {c['deviation']:.3f}"
                if c["best"]
                else f"{c['mean']:.3f} ± {c['deviation']:.3f}"
                for c in cells
            ]
            rows.append([row["method"], f"{row['rank']:.2f}", *texts])
        parts.append(markdown(["method", "mean rank", *ranking], rows))
    times = _times(comparison)
    parts.append(f"## Seconds a pair, {times['threads']} threads: median of three, one process")
    headers = ["method", *(f"{kind} ({size})" for kind, size in times["sizes"].items())]
    rows = [[row["method"], *(cell(s, False, 4) for s in row["seconds"])] for row in times["rows"]]
    parts.append(markdown(headers, rows))
    parts.append("## Environment")
    parts.append(markdown(["what", "value"], [[name, value] for name, value in _environment().items()]))
    if comparison.errors:
        parts.append("## Failed")
        parts.append(markdown(["pair", "method", "why"], [[*key, e] for key, e in sorted(comparison.errors.items())]))
    return "\n\n".join(parts) + "\n"
