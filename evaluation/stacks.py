"""Stacks, noise and halos: what a photographer would miss, as Markdown tables.

    python evaluation/stacks.py PHOTOS [--methods learned,laplacian,...] [--network NAME=FILE ...]

PHOTOS is a folder of sharp photographs. From the first few: a focus stack of 12 depths (each picture sharp at one of
them), a picture beside itself blurred by a Gaussian of 4 pixels, and a picture twice with noise of 20 grey levels; the
truth is the photograph. And a disc of 240 grey levels before black, sharp in one picture, blurred by 8 pixels in the
other: around it the truth is 10, and what is brighter is a halo. And stacks of three to eight pictures (focus,
exposures), fused at once and as a fold of pairs: mean transfer of signals that one picture alone shows, and lost.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from functools import reduce
from pathlib import Path

import numpy as np
from scipy import ndimage

import chosen
from nmfuse import Fuser
from nmfuse.io.tables import markdown
from nmfuse.metrics import evaluate, transfer
from nmfuse.training.patches import find_images, read_grey

METHODS = ("learned", "learned-all", "laplacian", "mertens", "average")
PICTURES, SIDE = 4, 256


def bytes_of(x: np.ndarray) -> np.ndarray:
    """Return grey levels as 8-bit files have them."""
    return np.rint(np.clip(x, 0, 255)).astype(np.uint8)


def focus(x: np.ndarray, depths: int) -> list[np.ndarray]:
    """Return pictures of a scene whose depth grows from left to right, each sharp in one strip."""
    depth = np.minimum(np.arange(x.shape[1]) * depths // x.shape[1], depths - 1)
    blurred = [x if d == 0 else ndimage.gaussian_filter(x, 1.5 * d, mode="nearest") for d in range(depths)]
    return [bytes_of(np.stack(blurred)[np.abs(depth - k), :, np.arange(x.shape[1])].T) for k in range(depths)]


def exposures(x: np.ndarray, count: int) -> list[np.ndarray]:
    """Return pictures of a scene in steps of exposure."""
    return [
        bytes_of(255 * np.clip((x / 255) ** 2.2 * 2**stops, 0, 1) ** (1 / 2.2)) for stops in np.linspace(-3, 3, count)
    ]


def rmse(x: np.ndarray, truth: np.ndarray) -> float:
    """Return the root mean square error in grey levels."""
    return float(np.sqrt(np.mean((x.astype(np.float64) - truth) ** 2)))


def fold(fuser: Fuser) -> Callable[..., np.ndarray]:
    """Return what fuses one picture after the other."""
    return lambda *sources: reduce(lambda a, b: fuser.fuse(a, b), sources)


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("photos", type=Path)
    chosen.add_methods(parser, METHODS)
    chosen.add_networks(parser)
    args = parser.parse_args()
    fusers = chosen.fusers(args)
    pictures = [read_grey(path).astype(np.float64) for path in find_images(args.photos)]
    pictures = [x[:SIDE, :SIDE] for x in pictures if min(x.shape) >= SIDE][:: max(1, len(pictures) // PICTURES)]
    pictures = pictures[:PICTURES]
    rng = np.random.default_rng(0)
    rows = []
    for name, fuser in fusers.items():
        depths, sharp, noise = [], [], []
        for x in pictures:
            depths.append(rmse(fuser.fuse(*focus(x, 12)), x))
            sharp.append(rmse(fuser.fuse(bytes_of(x), bytes_of(ndimage.gaussian_filter(x, 4))), x))
            flat = 64 + x / 2  # so that noise is not cut
            pair = [bytes_of(flat + 20 * rng.standard_normal(x.shape)) for _ in range(2)]
            noise.append(rmse(fuser.fuse(*pair), flat) / 20)
        around, peak = halo(fuser)
        rows.append(
            [name, f"{20 * np.log10(255 / np.mean(depths)):.1f}", f"{np.mean(sharp):.1f}", f"{np.mean(noise):.2f}",
             f"{around:.1f}", f"{peak:.0f}"]
        )  # fmt: skip
    headers = ["method", "12 depths, dB", "sharp beside blurred, RMSE", "noise out / in", "halo, mean", "halo, peak"]
    print(markdown(headers, rows), end="\n\n", flush=True)
    rows = []
    for what, take in (("focus", focus), ("exposures", exposures)):
        for count in (3, 5, 8):
            for name, fuser in fusers.items():
                for way, fuse in (("at once", fuser.fuse), ("fold of pairs", fold(fuser))):
                    lost, shown, edges = [], [], []
                    for seed, x in enumerate(pictures[:2]):
                        sources = take(x, count)
                        found = transfer(fuse, sources, places=1, seed=seed)
                        lost.append(found.lost)
                        shown.append(found.mean)
                        edges.append(evaluate(fuse(*sources), sources, metrics=["Q_abf"])["Q_abf"])
                    rows.append(
                        [what, str(count), f"{name}, {way}", f"{np.mean(shown):.2f}", f"{100 * np.mean(lost):.0f} %",
                         f"{np.mean(edges):.3f}"]
                    )  # fmt: skip
    print(markdown(["stack", "pictures", "method", "mean transfer", "lost", "Q_abf"], rows))


def halo(fuser: Fuser) -> tuple[float, float]:
    """Return the mean and the greatest grey level within 24 pixels around a disc before a ground of 10."""
    rows, columns = np.ogrid[:SIDE, :SIDE]
    distance = np.hypot(rows - SIDE / 2, columns - SIDE / 2)
    a = np.where(distance < 50, 240.0, 10.0)
    around = (distance > 53) & (distance < 77)
    fused = fuser.fuse(bytes_of(a), bytes_of(ndimage.gaussian_filter(a, 8)))
    return float(fused[around].mean()), float(fused[around].max())


if __name__ == "__main__":
    main()
