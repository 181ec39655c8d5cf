"""Where our methods stand among others, as a Markdown table.

    python benchmarks/rank.py PAIRS RIVALS.csv [--network FILE] [--kinds mri_ct,ir_vis]

PAIRS holds one folder of ``NN_A.*``, ``NN_B.*`` a kind; RIVALS.csv holds the ten metrics of every pair for every other
method (columns kind, method, pair, EN, SD, ...). Rank: per pair and metric, best first, averaged over the ten metrics,
then over the pairs. Colour images are ranked by their luminance.
"""

from __future__ import annotations

import argparse
import csv
from collections import defaultdict
from pathlib import Path

import numpy as np

from nmfuse import Fuser
from nmfuse.io import luminance, read_image
from nmfuse.metrics import evaluate

METRICS = {
    "EN": "EN", "SD": "SD", "SF": "SF", "MI": "MI", "SCD": "SCD", "VIF": "VIF", "Q_abf": "Qabf", "SSIM": "SSIM",
    "VIF_min": "VIF_min", "Q_over": "Q_over",
}  # fmt: skip


def grey(path: Path) -> np.ndarray:
    return np.rint(luminance(read_image(path))).astype(np.uint8)


def ranks(values: np.ndarray) -> np.ndarray:
    """Rank each column of (methods, metrics), 1 the greatest; equals share the better rank."""
    return (values[:, None] < values[None]).sum(1) + 1


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("pairs", type=Path)
    parser.add_argument("rivals", type=Path)
    parser.add_argument("--network", default="default")
    parser.add_argument("--kinds", help="comma-separated; by default all folders")
    args = parser.parse_args()
    with args.rivals.open(newline="") as file:
        rivals = list(csv.DictReader(file))
    ours = {"nmfuse, learned": Fuser(fusion_network=args.network), "nmfuse, paper's structure": Fuser(method="paper")}
    kinds = args.kinds.split(",") if args.kinds else sorted(path.name for path in args.pairs.iterdir() if path.is_dir())
    print("| kind | method | mean rank |", " | ".join(f"{metric} (rank)" for metric in METRICS), "|")
    print("|---|---|---|" + "---|" * len(METRICS))
    for kind in kinds:
        placed: dict[str, list[np.ndarray]] = defaultdict(list)
        measured: dict[str, list[np.ndarray]] = defaultdict(list)
        for path in sorted((args.pairs / kind).glob("*_A.*")):
            number = path.name[:2]
            sources = [grey(path), grey(next(path.parent.glob(f"{number}_B.*")))]
            rows = {
                row["method"]: np.array([float(row[column]) for column in METRICS.values()])
                for row in rivals
                if (row["kind"], row["pair"]) == (kind, number)
            }
            others = list(rows)
            for name, fuser in ours.items():
                values = evaluate(fuser.fuse(*sources), sources, metrics=list(METRICS))
                rows[name] = np.array(list(values.values()))
            for name in rows:  # each of ours stands among the others alone
                field = [*others, name] if name in ours else [*others, next(iter(ours))]
                placed[name].append(ranks(np.stack([rows[other] for other in field]))[field.index(name)])
                measured[name].append(rows[name])
        mean = {name: float(np.mean(rank)) for name, rank in placed.items()}
        best = sorted((name for name in mean if name not in ours), key=lambda name: mean[name])[:2]
        for name in [*ours, *best]:
            each = zip(np.mean(measured[name], axis=0), np.mean(placed[name], axis=0), strict=True)
            cells = " | ".join(f"{value:.3f} ({rank:.1f})" for value, rank in each)
            print(f"| {kind} | {name} | {mean[name]:.2f} | {cells} |", flush=True)


if __name__ == "__main__":
    main()
