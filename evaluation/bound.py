"""How high any image could stand among other methods: pixels moved until the ranks get no better, as Markdown.

    python evaluation/bound.py PAIRS evaluation/rivals.csv [--kinds mri_ct,ir_vis] [--pairs-per-kind 3] [--steps 300]

PAIRS and rivals.csv are those of rank.py. Starting from our fused image, its pixels themselves are moved by Adam to
lower the mean of ten smooth ranks among the other methods of that very pair, whose results are known here. No pixel
leaves [0, 1], nor what the learned method keeps to: twice the greatest value that either image shows within 3 x 3. The
best of the images on the way is kept. It is a local search, so a better image may exist; but no method knows the
results of the others.
"""

from __future__ import annotations

import argparse
from collections import defaultdict
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from nmfuse import Fuser
from nmfuse.io import find_sets
from nmfuse.io.tables import markdown
from nmfuse.metrics import RANKING, evaluate, ranks
from nmfuse.training.losses import fusion_scores
from rank import read_rivals

_RATE = 2 / 255  # of a pixel, a step
_EVERY = 100  # steps between two looks at the exact metrics
_WIDTHS = (0.45, 0.2)  # of a rank's step, in deviations of the other methods: in the first half, in the second


def best_ranks(sources: list[np.ndarray], start: np.ndarray, others: np.ndarray, steps: int) -> np.ndarray:
    """Return the ten ranks of the best image that was found.

    Parameters
    ----------
    sources : list of two arrays (H, W)
        uint8.
    start : array (H, W)
        uint8, the fused image to begin with.
    others : array (K, 10)
        What the other methods reach.
    """
    a, b = (torch.from_numpy(x.astype(np.float32) / 255)[None] for x in sources)
    ceiling = 2 * functional.max_pool2d(torch.maximum(a, b), 3, 1, 1)
    f = torch.from_numpy(start.astype(np.float32) / 255)[None].requires_grad_()
    rivals, found = torch.from_numpy(others).float(), []
    spread = rivals.std(0).clamp_min(1e-4)
    adam = torch.optim.Adam([f])
    for step in range(steps):
        if step % _EVERY == 0:
            values = _exact(f, sources)
            found.append(ranks(np.stack([*others, values]), RANKING)[-1])
            with torch.no_grad():
                exact_to_smooth = torch.from_numpy(values).float() / _smooth(a, b, f)
        adam.param_groups[0]["lr"] = _RATE * (1 - step / steps) + 1e-4
        width = _WIDTHS[2 * step // steps] * spread
        expected = torch.sigmoid((rivals - _smooth(a, b, f) * exact_to_smooth) / width).sum(0)
        adam.zero_grad()
        expected.mean().backward()
        adam.step()
        with torch.no_grad():
            f.copy_(torch.minimum(f.clamp(0, 1), ceiling))
    found.append(ranks(np.stack([*others, _exact(f, sources)]), RANKING)[-1])
    return min(found, key=np.mean)


def _smooth(a: Tensor, b: Tensor, f: Tensor) -> Tensor:
    return torch.cat(list(fusion_scores(a, b, f).values()))


def _exact(f: Tensor, sources: list[np.ndarray]) -> np.ndarray:
    image = np.round(255 * f.detach()[0].numpy()).astype(np.uint8)
    return np.array(list(evaluate(image, sources, metrics=list(RANKING)).values()))


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("pairs", type=Path)
    parser.add_argument("rivals", type=Path)
    parser.add_argument("--kinds", help="comma-separated; by default all folders")
    parser.add_argument("--pairs-per-kind", type=int, default=3)
    parser.add_argument("--steps", type=int, default=300)
    args = parser.parse_args()
    others, fuser = read_rivals(args.rivals), Fuser()
    placed: dict[str, list[tuple[np.ndarray, np.ndarray]]] = defaultdict(list)  # ours, and the best found
    for pair in find_sets(args.pairs):
        if len(placed[pair.kind]) >= args.pairs_per_kind or (args.kinds and pair.kind not in args.kinds.split(",")):
            continue
        sources, known = [x.pixels for x in pair.luminances()], np.stack(list(others[pair.label].values()))
        fused = fuser.fuse(*sources)
        values = np.array(list(evaluate(fused, sources, metrics=list(RANKING)).values()))
        ours = ranks(np.stack([*known, values]), RANKING)[-1]
        placed[pair.kind].append((ours, best_ranks(sources, fused, known, args.steps)))
    rows = []
    for kind, each in placed.items():
        if each:
            ours, best = np.mean(each, axis=0)
            rows.append([kind, str(len(each)), f"{ours.mean():.2f}", f"{best.mean():.2f}", *(f"{x:.1f}" for x in best)])
    print(markdown(["kind", "pairs", "ours", "best found", *RANKING], rows))


if __name__ == "__main__":
    main()
