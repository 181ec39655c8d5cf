"""What a reader can still see: three kinds of figures side by side, as Markdown tables.

    python evaluation/seen.py PAIRS [--methods learned,laplacian,...] [--network NAME=FILE ...] [--kinds mri_ct,ir_vis]
        [--pairs-per-kind 4] [--others evaluation/rivals_transfer.csv]

Per kind and method: the mean rank among the methods of the table by the ten metrics that ours is trained for, the mean
rank by eighteen others that are in no loss (the second jury), and what becomes of small signals that one source alone
shows (`nmfuse.metrics.transfer`) or that two show with unlike signs (`nmfuse.metrics.contradiction`). "Lost" flatters
an average, which shows half of everything: read mean, 5th percentile, lost and visibility together. That file has
the figures of published networks, measured on other pairs (columns kind, method, mean, p5, lost_percent,
visibility_median, visibility_below_half_percent).
"""

from __future__ import annotations

import argparse
import csv
from collections import defaultdict
from pathlib import Path

import numpy as np

import chosen
from nmfuse import Fuser
from nmfuse.io import SourceSet, find_sets
from nmfuse.io.tables import markdown
from nmfuse.metrics import RANKING, SECOND_JURY, Signal, Transfer, contradiction, evaluate, mean_ranks, transfer

METHODS = ("learned", "learned-all", "paper", "laplacian", "dtcwt", "guided-filter", "average", "maximum")
HEADERS = [
    "kind", "method", "rank, ten", "rank, second jury", "N_abf", "mean transfer", "in A", "in B", "5th percentile",
    "lost", "wrong", "visibility", "below half", "sign kept",
]  # fmt: skip


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("pairs", type=Path)
    chosen.add_methods(parser, METHODS)
    chosen.add_networks(parser)
    parser.add_argument("--kinds", help="comma-separated; by default all folders")
    parser.add_argument("--pairs-per-kind", type=int, help="by default all")
    parser.add_argument("--others", type=Path)
    args = parser.parse_args()
    fusers = chosen.fusers(args)
    sets: dict[str, list[SourceSet]] = defaultdict(list)
    for one in find_sets(args.pairs):
        if not args.kinds or one.kind in args.kinds.split(","):
            sets[one.kind].append(one)
    figures = []
    for kind, each in sets.items():
        figures.append(figures_of(each[: args.pairs_per_kind], fusers))
        print_table(kind, figures[-1])
    print_table("mean", {name: np.mean([of_kind[name] for of_kind in figures], axis=0) for name in fusers})
    if args.others:
        with args.others.open(newline="") as file:
            table = list(csv.DictReader(file))
        print(markdown(list(table[0]), [list(row.values()) for row in table]))


def figures_of(sets: list[SourceSet], fusers: dict[str, Fuser]) -> dict[str, np.ndarray]:
    """Return the figures of the table's row for each method."""
    measured: dict[tuple[str, str], dict[str, float]] = {}
    signals: dict[str, list[Signal]] = defaultdict(list)
    opposed: dict[str, list[Signal]] = defaultdict(list)
    for seed, one in enumerate(sets):
        sources = [image.pixels for image in one.luminances()]
        for name, fuser in fusers.items():
            fused = fuser.fuse(*sources)
            measured[one.label, name] = evaluate(fused, sources, metrics=[*RANKING, *SECOND_JURY])
            signals[name] += transfer(fuser, sources, seed=seed).signals
            opposed[name] += contradiction(fuser, sources, seed=seed).signals
    first, second = (mean_ranks(measured, metrics) for metrics in (RANKING, SECOND_JURY))
    figures = {}
    for name in fusers:
        found, kept = Transfer(tuple(signals[name])), np.mean([one.transfer > 0 for one in opposed[name]])
        noise = np.mean([values["N_abf"] for (_, method), values in measured.items() if method == name])
        figures[name] = np.array(
            [first[name], second[name], noise, found.mean, found.of(0).mean, found.of(1).mean, found.p5,
             100 * found.lost, 100 * found.wrong, found.visibility, 100 * found.faint, 100 * kept]
        )  # fmt: skip
    return figures


def print_table(kind: str, figures: dict[str, np.ndarray]) -> None:
    """Print a row for each method."""
    shown = ["{:.2f}"] * 7 + ["{:.1f} %", "{:.1f} %", "{:.2f}", "{:.0f} %", "{:.0f} %"]
    rows = [
        [kind, name, *(form.format(x) for form, x in zip(shown, each, strict=True))] for name, each in figures.items()
    ]
    print(markdown(HEADERS, rows), end="\n\n", flush=True)


if __name__ == "__main__":
    main()
