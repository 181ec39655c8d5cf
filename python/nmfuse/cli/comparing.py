"""``nmfuse methods``, ``compare`` and ``ablate``: progress bars around `nmfuse.compare`, and tables on the screen."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from nmfuse.cli.progress import progress_bar, say_alone
from nmfuse.compare import ablate, compare, paper_table, write_report
from nmfuse.compare.paper import METHODS as PAPER_METHODS
from nmfuse.io import SourceSet, match_sets
from nmfuse.methods import METHODS
from nmfuse.metrics import RANKING, mean_ranks


def run_methods() -> None:
    """Print the name, what it does and the source of every method."""
    table = Table("method", "what", "source", "needs")
    for name, method in METHODS.items():
        table.add_row(name, method.title, method.source, ", ".join(method.missing) or "-")
    _print(table)
    if any(method.missing for method in METHODS.values()):
        print("What is needed comes with: pip install 'nmfuse[compare]'")


def run_compare(
    pairs: list[Path],
    output: Path,
    methods: list[str] | None,
    metrics: list[str] | None,
    params: dict[str, dict[str, Any]],
    workers: int | None,
    *,
    patterns: list[str],
    paper: bool,
) -> None:
    """Compare, write the report, print mean ranks or the paper's table, and say what failed."""
    if paper and methods is None:
        methods = list(PAPER_METHODS)
    where: Sequence[Path] | Sequence[SourceSet] = pairs
    if patterns:
        where, alone = match_sets(pairs, patterns)
        say_alone(alone)
    with progress_bar("compare") as progress:
        comparison = compare(
            where, output, methods=methods, metrics=metrics, params=params, workers=workers, progress=progress
        )
    report = write_report(comparison)
    ranking = [name for name in RANKING if name in comparison.metrics]
    if paper:
        print(paper_table(comparison))
    elif ranking:
        table = Table("method", *comparison.kinds, title=f"mean rank over {', '.join(ranking)}")
        by_kind = [mean_ranks(comparison.of(kind), ranking) for kind in comparison.kinds]
        for name in comparison.methods:
            table.add_row(name, *(f"{ranks[name]:.2f}" if name in ranks else "-" for ranks in by_kind))
        _print(table)
    for (pair, method), error in comparison.errors.items():
        print(f"failed: {method} on {pair}: {error}")
    print(report)
    if comparison.errors:
        in_all = len(comparison.values) + len(comparison.errors)
        raise RuntimeError(f"{len(comparison.errors)} of {in_all} failed; {report} names them")


def run_ablate(pairs: Path, output: Path, networks: dict[str, Path], *, overwrite: bool) -> None:
    """Write the tables and print the mean ranks."""
    with progress_bar("ablation") as progress:
        ranks = ablate(pairs, output, networks=networks, overwrite=overwrite, progress=progress)
    table = Table("variant", "mean rank")
    for name, rank in sorted(ranks.items(), key=lambda item: item[1]):
        table.add_row(name, f"{rank:.2f}")
    _print(table)
    print(output)


def _print(table: Table) -> None:
    Console(width=None if Console().is_terminal else 160).print(table)
