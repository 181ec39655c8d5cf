"""Where other methods stand, for the loss of `nmfuse train fusion`, as CSV.

    python evaluation/standings.py evaluation/rivals.csv > python/nmfuse/training/standings.csv

rivals.csv holds the ten metrics of every pair for every other method (columns kind, method, pair, EN, SD, ...). Each
method's metric is taken relative to the mean of "average", "maximum" and, twice, "laplacian" on the same pair and
averaged over the pairs of a kind; 15 quantiles of the methods are kept.
"""

from __future__ import annotations

import csv
import sys
from collections import defaultdict
from pathlib import Path

import numpy as np

from nmfuse.metrics import RANKING
from nmfuse.training.losses import RATIOS, reference

QUANTILES = 15


def main() -> None:
    """Print the CSV."""
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    table: dict[tuple[str, str], dict[str, dict[str, float]]] = defaultdict(dict)
    with Path(sys.argv[1]).open(newline="") as file:
        for row in csv.DictReader(file):
            values = {metric: float(row["Qabf" if metric == "Q_abf" else metric]) for metric in RANKING}
            table[row["kind"], row["pair"]][row["method"]] = values
    out = csv.writer(sys.stdout, lineterminator="\n")
    out.writerow(["kind", "metric", "others"])
    for kind in sorted({kind for kind, _ in table}):
        for metric in RANKING:
            placed = defaultdict(list)
            for (of_kind, _), methods in table.items():
                if of_kind != kind:
                    continue
                plain = reference(*(methods[name][metric] for name in ("average", "maximum", "laplacian")))
                for name, values in methods.items():
                    placed[name].append(values[metric] / plain if metric in RATIOS else values[metric] - plain)
            others = np.quantile([np.mean(each) for each in placed.values()], np.linspace(0, 1, QUANTILES))
            out.writerow([kind, metric, " ".join(f"{x:.4g}" for x in others)])


if __name__ == "__main__":
    main()
