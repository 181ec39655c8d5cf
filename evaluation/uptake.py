"""Can uptake be read back from the colours of a fused image? A Markdown table.

    python evaluation/uptake.py PAIRS [--methods learned,laplacian,...]

PAIRS holds MRI-PET and MRI-SPECT pairs in the colours of a scale that runs from black through several hues. The scale
is not in the files: it is found as the line through the clusters of all colours of a kind, from black to the far end.
Each coloured pixel's uptake, its place on that line, is held against that of the fused pixel: at the nearest colour of
the scale, and at the nearest chroma (Cb, Cr of BT.601), which leaves brightness to the MRI. Errors are shares of the
whole scale: the median, and what 95 % of the pixels stay below.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from scipy.cluster.vq import kmeans2
from scipy.sparse.csgraph import minimum_spanning_tree, shortest_path
from scipy.spatial import cKDTree

import chosen
from nmfuse.io import find_sets
from nmfuse.io.tables import markdown

METHODS = ("learned", "learned-all", "laplacian", "average")
KINDS = ("mri_pet", "mri_spect")
CLUSTERS, STEPS = 48, 512
NEAR, LOW = 25, 0.08  # a pixel counts that is no further from the scale, in grey levels, and no lower on it
CHROMA = np.array([[-0.168736, -0.331264, 0.5], [0.5, -0.418688, -0.081312]])


def scale_of(colours: np.ndarray) -> np.ndarray:
    """Return the colour scale that colours (N, 3) are from, in equal steps, (STEPS, 3)."""
    bright = colours[colours.max(1) > 30]
    some = np.random.default_rng(0).choice(len(bright), min(len(bright), 20000), replace=False)
    centres = np.vstack([np.zeros(3), kmeans2(bright[some], CLUSTERS, minit="++", seed=0)[0]])
    tree = minimum_spanning_tree(np.linalg.norm(centres[:, None] - centres, axis=2))
    lengths, before = shortest_path(tree, directed=False, return_predecessors=True)
    line = [int(lengths[0].argmax())]
    while line[-1] != 0:
        line.append(int(before[0, line[-1]]))
    points = centres[line[::-1]]
    along = np.concatenate([[0], np.cumsum(np.linalg.norm(np.diff(points, axis=0), axis=1))])
    places = np.linspace(0, along[-1], STEPS)
    return np.stack([np.interp(places, along, points[:, k]) for k in range(3)], axis=1)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("pairs", type=Path)
    chosen.add_methods(parser, METHODS)
    chosen.add_networks(parser)
    args = parser.parse_args()
    fusers = chosen.fusers(args)
    rows = []
    for kind in KINDS:
        pairs = [[image.pixels for image in pair.images()] for pair in find_sets(args.pairs) if pair.kind == kind]
        coloured = [next(x for x in pair if x.ndim == 3).reshape(-1, 3).astype(np.float64) for pair in pairs]
        scale = scale_of(np.concatenate(coloured))
        by_colour, by_chroma = cKDTree(scale), cKDTree(scale @ CHROMA.T)
        for name, fuser in fusers.items():
            errors: list[list[np.ndarray]] = [[], []]
            for pair, colours in zip(pairs, coloured, strict=True):
                distance, place = by_colour.query(colours)
                counts = (distance < NEAR) & (place > LOW * STEPS)
                fused = np.asarray(fuser.fuse(*pair)).reshape(-1, 3).astype(np.float64)
                read = by_colour.query(fused)[1], by_chroma.query(fused @ CHROMA.T)[1]
                for found, of_fused in zip(errors, read, strict=True):
                    found.append(np.abs(of_fused - place)[counts] / STEPS)
            shares = [np.percentile(np.concatenate(found), q) for found in errors for q in (50, 95)]
            rows.append([kind, name, *(f"{100 * share:.1f} %" for share in shares)])
    headers = ["kind", "method", "by colour, median", "by colour, 95 %", "by chroma, median", "by chroma, 95 %"]
    print(markdown(headers, rows))


if __name__ == "__main__":
    main()
