"""One row for each case: ours, each peer, the floor, and the ratios, as JSON and as a table.

python -m pytest benchmarks [--device cuda] [--quick] [--results FILE.json]
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # nobody's idle threads spin while another way is timed

import json
import math
import platform
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import cases
import measure
import nmfuse

ROWS: list[dict[str, Any]] = []
MEMORY: list[dict[str, Any]] = []
GROWTH: list[dict[str, Any]] = []


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--device", choices=["cpu", "cuda"], default="cpu")
    parser.addoption("--quick", action="store_true", help="fewer cases and rounds")
    parser.addoption("--results", type=Path, help="write the rows and the environment here, and a .md table beside it")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Give `case` the shapes that the test's module names, for the device asked for."""
    if "case" in metafunc.fixturenames:
        marker = metafunc.definition.get_closest_marker("cases")
        config = metafunc.config
        chosen = cases.chosen(marker.args[0], config.getoption("--device"), quick=config.getoption("--quick"))
        metafunc.parametrize("case", chosen, ids=str)


@pytest.fixture
def device(request: pytest.FixtureRequest) -> str:
    name: str = request.config.getoption("--device")
    if name == "cuda" and (reason := nmfuse.cuda.why()):
        pytest.fail(f"no CUDA: {reason}")
    return name


@pytest.fixture
def quick(request: pytest.FixtureRequest) -> bool:
    asked: bool = request.config.getoption("--quick")
    return asked


@pytest.fixture
def keep_memory() -> Callable[..., None]:
    """Return ``keep_memory(what, {way: bytes or None}, inputs=bytes)``, which keeps a row."""

    def keep(what: str, peaks: dict[str, int | None], *, inputs: int) -> None:
        known = {way: peak / 2**20 for way, peak in peaks.items() if peak is not None}
        MEMORY.append({"what": what, "inputs_mib": inputs / 2**20, "mib": known})

    return keep


@pytest.fixture
def keep_growth() -> Callable[..., None]:
    """Return ``keep_growth(what, threads, sizes, seconds)``, which keeps a curve and its slope."""

    def keep(what: str, threads: int, sizes: list[int], seconds: list[float]) -> None:
        last = slice(-3, None)
        slope = float(np.polyfit(np.log(sizes[last]), np.log(seconds[last]), 1)[0]) if len(sizes) > 1 else math.nan
        GROWTH.append({"what": what, "threads": threads, "sizes": sizes, "seconds": seconds, "slope": slope})

    return keep


@pytest.fixture
def compare(request: pytest.FixtureRequest, device: str, benchmark: Any) -> Callable[..., None]:
    """Return ``compare(what, calls, floor=seconds, per=1)``, which times and keeps a row; `per` divides all times."""

    def run(what: str, calls: measure.Calls, *, floor: float | None = None, per: float = 1.0) -> None:
        quick = request.config.getoption("--quick")
        timing = measure.interleave(calls, device, rounds=3 if quick else 7)
        row = {"what": what, "ms": 1000 * timing.median(measure.OURS) / per, "peers": {}}
        if floor is None and "copy" in calls:
            floor = timing.median("copy")
        if floor is not None:
            row["floor_ms"] = 1000 * floor / per
        for name in calls:
            if name != measure.OURS:
                row["peers"][name] = {
                    "ms": 1000 * timing.median(name) / per,
                    "times_slower": timing.times_slower(name),
                }
        ROWS.append(row)
        benchmark.extra_info.update(row)
        benchmark.pedantic(calls[measure.OURS], rounds=3)

    return run


def _environment(config: pytest.Config) -> dict[str, Any]:
    environment: dict[str, Any] = nmfuse.config() | {"date": datetime.now(UTC).isoformat(timespec="seconds")}
    environment["python"] = platform.python_version()  # without the path of this machine
    environment["processor"] = next(
        (line.split(":")[1].strip() for line in Path("/proc/cpuinfo").read_text().splitlines() if "model name" in line),
        "unknown",
    )
    environment["cores"] = os.cpu_count()
    environment["torch threads"] = torch.get_num_threads()
    if config.getoption("--device") == "cuda":
        environment["gpu"] = torch.cuda.get_device_name()
    return environment


def _table() -> str:
    lines = ["| what | ms | floor, ms | floor / ours | times slower than ours |", "|---|---|---|---|---|"]
    for row in ROWS:
        floor = row.get("floor_ms")
        peers = "; ".join(f"{name} {peer['times_slower']:.2f}" for name, peer in row["peers"].items())
        floor_text = f"{floor:.4f} | {100 * floor / row['ms']:.0f} %" if floor is not None else "– | –"
        lines.append(f"| {row['what']} | {row['ms']:.4f} | {floor_text} | {peers} |")
    return "\n".join(lines)


def _memory_table() -> str:
    lines = ["| what | inputs, MiB | ours above them, MiB | others, MiB |", "|---|---|---|---|"]
    for row in MEMORY:
        others = "; ".join(f"{way} {mib:.0f}" for way, mib in row["mib"].items() if way != measure.OURS)
        lines.append(f"| {row['what']} | {row['inputs_mib']:.0f} | {row['mib'][measure.OURS]:.1f} | {others} |")
    return "\n".join(lines)


def _growth_table() -> str:
    lines = ["| along | threads | sizes | ms | slope of the largest three |", "|---|---|---|---|---|"]
    for row in GROWTH:
        ms = [f"{1000 * seconds:.3g}" for seconds in row["seconds"]]
        lines.append(
            f"| {row['what']} | {row['threads']} | {row['sizes'][0]} to {row['sizes'][-1]} "
            f"| {ms[0]} to {ms[-1]} | {row['slope']:.2f} |"
        )
    return "\n".join(lines)


def _draw_growth(path: Path) -> None:
    from matplotlib.figure import Figure
    from matplotlib.ticker import NullFormatter

    names = list(dict.fromkeys(row["what"] for row in GROWTH))
    figure = Figure(figsize=(4 * len(names), 3.6), layout="constrained")
    for axes, name in zip(figure.subplots(1, len(names), squeeze=False)[0], names, strict=True):
        for row in (row for row in GROWTH if row["what"] == name):
            label = f"{row['threads']} thread{'s' * (row['threads'] > 1)}, slope {row['slope']:.2f}"
            axes.loglog(row["sizes"], [1000 * seconds for seconds in row["seconds"]], "o-", label=label)
        axes.set_xscale("log", base=2)
        axes.xaxis.set_minor_formatter(NullFormatter())
        axes.set(xlabel=name, ylabel="ms")
        axes.legend()
    figure.savefig(path, dpi=100)


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    tables = [_table()] if ROWS else []
    tables += [_memory_table()] if MEMORY else []
    tables += [_growth_table()] if GROWTH else []
    if not tables:
        return
    terminalreporter.write_line("\n" + "\n\n".join(tables))
    results: Path | None = config.getoption("--results")
    if results is None:
        return
    results.parent.mkdir(parents=True, exist_ok=True)
    environment = _environment(config)
    kept = {"environment": environment, "rows": ROWS, "memory": MEMORY, "growth": GROWTH}
    results.write_text(json.dumps(kept, indent=1) + "\n")
    about = "\n".join(f"- {name}: {value}" for name, value in environment.items())
    results.with_suffix(".md").write_text("\n\n".join(["# Benchmarks", about, *tables]) + "\n")
    if GROWTH:
        _draw_growth(results.with_suffix(".png"))
    terminalreporter.write_line(f"\n{results}")
