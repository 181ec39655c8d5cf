"""Where our methods stand among others, as Markdown tables.

    python evaluation/rank.py PAIRS evaluation/rivals.csv [--network NAME=FILE ...] [--kinds mri_ct,ir_vis]

PAIRS holds one folder of ``NN_A.*``, ``NN_B.*`` a kind; rivals.csv holds the ten metrics of every pair for every other
method (columns kind, method, pair, EN, SD, ...). Rank: per pair and metric, best first, averaged over the ten metrics,
then over the pairs; each of our methods stands among the others alone. Colour images are fused and ranked by their
luminance.
"""

from __future__ import annotations

import argparse
import csv
from collections import defaultdict
from pathlib import Path

import numpy as np

import chosen
from nmfuse import Fuser
from nmfuse.io import find_sets
from nmfuse.io.tables import markdown
from nmfuse.metrics import RANKING, evaluate, ranks


def read_rivals(path: Path) -> dict[str, dict[str, np.ndarray]]:
    """Return the ten metrics of each other method, by "kind/pair"."""
    others: dict[str, dict[str, np.ndarray]] = defaultdict(dict)
    with path.open(newline="") as file:
        for row in csv.DictReader(file):
            values = [float(row["Qabf" if metric == "Q_abf" else metric]) for metric in RANKING]
            others[f"{row['kind']}/{row['pair']}"][row["method"]] = np.array(values)
    return dict(others)


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("pairs", type=Path)
    parser.add_argument("rivals", type=Path)
    chosen.add_networks(parser)
    parser.add_argument("--kinds", help="comma-separated; by default all folders")
    args = parser.parse_args()
    others = read_rivals(args.rivals)
    learned = {"learned": "default", "learned-all": "all"}
    ours = {name: Fuser(method="learned", weights=weights) for name, weights in learned.items()}
    ours["paper"] = Fuser(method="paper")
    ours |= chosen.networks(args.network)
    placed: dict[tuple[str, str], list[np.ndarray]] = defaultdict(list)  # (kind, method) -> ranks of each pair
    measured: dict[tuple[str, str], list[np.ndarray]] = defaultdict(list)
    for pair in find_sets(args.pairs):
        if args.kinds and pair.kind not in args.kinds.split(","):
            continue
        rivals, sources = others[pair.label], list(pair.luminances())
        for name, fuser in ours.items():
            values = np.array(list(evaluate(fuser.fuse(*sources), sources, metrics=list(RANKING)).values()))
            measured[pair.kind, name].append(values)
            standing = ranks(np.stack([*rivals.values(), values]), RANKING)
            placed[pair.kind, name].append(standing[-1])
            if name == "learned":  # the others, among themselves and our default
                for rival, rank in zip(rivals, standing[:-1], strict=True):
                    placed[pair.kind, rival].append(rank)
                    measured[pair.kind, rival].append(rivals[rival])
    kinds = list(dict.fromkeys(kind for kind, _ in placed))
    mean = {key: float(np.mean(rank)) for key, rank in placed.items()}
    best = {kind: sorted((m, n) for (k, n), m in mean.items() if k == kind and n not in ours)[:2] for kind in kinds}
    rows = [
        [kind, *(f"{mean[kind, name]:.2f}" for name in ours), f"{best[kind][0][0]:.2f} {best[kind][0][1]}"]
        for kind in kinds
    ]
    rows.append(["mean", *(f"{np.mean([mean[kind, name] for kind in kinds]):.2f}" for name in ours), ""])
    print(markdown(["kind", *ours, "best other method"], rows), end="\n\n")
    rows = []
    for kind in kinds:
        for name in [*ours, *(rival for _, rival in best[kind])]:
            each = zip(np.mean(measured[kind, name], axis=0), np.mean(placed[kind, name], axis=0), strict=True)
            cells = [f"{value:.3f} ({rank:.1f})" for value, rank in each]
            rows.append([kind, name, f"{mean[kind, name]:.2f}", *cells])
    print(markdown(["kind", "method", "mean rank", *(f"{metric} (rank)" for metric in RANKING)], rows), end="\n\n")
    rows = []
    for name in ours:
        each = [np.mean([np.mean(placed[kind, name], axis=0)[i] for kind in kinds]) for i in range(len(RANKING))]
        rows.append([name, *(f"{value:.1f}" for value in each)])
    print(markdown(["mean rank over the kinds", *RANKING], rows))


if __name__ == "__main__":
    main()
