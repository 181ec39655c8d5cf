"""Does a fused video of a still scene flicker more than its sources? A Markdown table.

    python evaluation/still.py PAIRS [--methods learned,laplacian,...] [--pairs 4]

PAIRS holds infrared-visible pairs. Each image is seen in a few frames, with noise of its own in every one; the frames
of one moment are fused, as `nmfuse video` does. Printed is the mean absolute difference of neighbouring frames, in grey
levels: of the source that changes most, of whichever source changes most at each pixel, and of the fused frames.
"""

from __future__ import annotations

import argparse
from itertools import islice, pairwise
from pathlib import Path

import numpy as np

import chosen
from nmfuse.images.luma import grey
from nmfuse.io import find_sets
from nmfuse.io.tables import markdown

METHODS = ("learned", "learned-all", "paper", "laplacian", "average")
FRAMES, SIDE = 4, 384  # pixels along a side at most


def changes(frames: list[np.ndarray]) -> np.ndarray:
    """Return the absolute differences of neighbouring frames."""
    return np.abs([after.astype(int) - before for before, after in pairwise(frames)])


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("pairs", type=Path)
    parser.add_argument("--pairs", dest="count", type=int, default=4, help="how many")
    chosen.add_methods(parser, METHODS)
    chosen.add_networks(parser)
    args = parser.parse_args()
    found = islice((pair for pair in find_sets(args.pairs) if pair.kind == "ir_vis"), args.count)
    scenes = [[grey(image.pixels)[:SIDE, :SIDE] for image in pair.images()] for pair in found]
    rows = []
    for sigma in (2, 6):
        rng = np.random.default_rng(0)
        moments = [
            [
                [np.rint(x + rng.normal(0, sigma, x.shape)).clip(0, 255).astype(np.uint8) for x in scene]
                for scene in scenes
            ]
            for _ in range(FRAMES)
        ]
        for name, fuser in chosen.fusers(args).items():
            levels = []
            for scene in zip(*moments, strict=True):
                of_sources = [changes(list(frames)) for frames in zip(*scene, strict=True)]
                fused = changes([fuser.fuse(*frames) for frames in scene]).mean()
                levels.append((max(x.mean() for x in of_sources), np.maximum(*of_sources).mean(), fused))
            most, at_pixel, fused = np.mean(levels, axis=0)
            rows.append([f"{sigma}", name, f"{most:.2f}", f"{at_pixel:.2f}", f"{fused:.2f}", f"{fused / most:.2f}"])
    print(markdown(["noise", "method", "source, most", "pixel's most", "fused", "fused / source"], rows))


if __name__ == "__main__":
    main()
