"""``nmfuse ablate``: a progress bar around `nmfuse.compare`, and a table on the screen."""

from __future__ import annotations

from pathlib import Path

from rich.console import Console
from rich.table import Table

from nmfuse.cli.progress import progress_bar
from nmfuse.compare import ablate


def run_ablate(pairs: Path, output: Path, networks: dict[str, Path], *, overwrite: bool) -> None:
    """Write the tables and print the mean ranks."""
    with progress_bar("ablation") as progress:
        ranks = ablate(pairs, output, networks=networks, overwrite=overwrite, progress=progress)
    table = Table("variant", "mean rank")
    for name, rank in sorted(ranks.items(), key=lambda item: item[1]):
        table.add_row(name, f"{rank:.2f}")
    Console(width=None if Console().is_terminal else 160).print(table)
    print(output)
