"""What each step of the pipeline is worth: mean metrics of its variants over a folder of pairs, as a Markdown table.

    python benchmarks/ablation.py DIR

DIR holds pairs named ``NN_A.png`` and ``NN_B.png``.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from nmfuse import Fuser
from nmfuse.fusion.image import luminance, take_pair
from nmfuse.io import read_image
from nmfuse.metrics import evaluate

METRICS = ("MI", "Q_abf", "SSIM", "VIF", "SCD")
VARIANTS: dict[str, Callable[[np.ndarray, np.ndarray], np.ndarray]] = {
    "average of the sources": lambda a, b: (a + b) / 2,
    "learned (the default)": Fuser().fuse,
    "the paper's letter (`Fuser.paper()`)": Fuser.paper().fuse,
    "the paper's structure (`method='paper'`)": Fuser(method="paper").fuse,
    "… with the contrast pyramid": Fuser(pyramid="contrast").fuse,
    "… with denoised sources fused": Fuser(method="paper", denoise="all").fuse,
    "… with the soft vote": Fuser(vote="soft").fuse,
    "… with CNN weights alone": Fuser(weighting="cnn").fuse,
    "… with NMF weights alone": Fuser(weighting="nmf").fuse,
    "… with weight 1/2": Fuser(weighting="half").fuse,
    "… with the full network": Fuser(network="full").fuse,
}


def luminances(folder: Path) -> list[tuple[np.ndarray, np.ndarray]]:
    """Read the pairs of a folder as luminance in [0, 1]."""
    pairs = []
    for path in sorted(folder.glob("*_A.*")):
        a, b = read_image(path), read_image(next(folder.glob(path.name[:-6] + "_B.*")))
        pairs.append(tuple(luminance(x).numpy() for x in take_pair(a, b, None)[:2]))
    return pairs


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    folder = parser.parse_args().folder
    pairs = luminances(folder)
    if not pairs:
        parser.error(f"{folder}: has no NN_A.png with NN_B.png")
    torch.set_num_threads(2)
    print(f"{len(pairs)} pairs of {folder.name}; means; higher is better\n")
    print("| variant |", " | ".join(METRICS), "| s a pair |")
    print("|---|" + "---|" * (len(METRICS) + 1))
    for name, fuse in VARIANTS.items():
        fuse(*pairs[0])  # weights are loaded, memory is touched
        start = time.perf_counter()
        fused = [fuse(*pair) for pair in pairs]
        seconds = (time.perf_counter() - start) / len(pairs)
        rows = [evaluate(f, list(pair), data_range=1.0, metrics=METRICS) for f, pair in zip(fused, pairs, strict=True)]
        means = " | ".join(f"{np.mean([row[metric] for row in rows]):.3f}" for metric in METRICS)
        print(f"| {name} | {means} | {seconds:.2f} |", flush=True)


if __name__ == "__main__":
    main()
