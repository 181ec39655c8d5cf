"""Would a reader find a lesion in the fused image? A channelized Hotelling observer on the digital phantom.

    python evaluation/observer.py [--methods learned,laplacian,...] [--network NAME=FILE ...] [--heads 300]

Each head of the phantom is rendered by two modalities, with and without a faint lesion (a Gaussian of 2.5 pixels) at a
known place inside the brain, in one of the two alone. The observer sees ten channels (differences of Gaussians) around
the place, learns from half of the heads and tells present from absent in the other half. Printed is the area under its
ROC curve in the source that has the lesion, in both sources side by side (the channels of both), and in the fused
image, and the last over the one before: 1 where fusing costs the reader nothing.

Abbey & Barrett, J. Opt. Soc. Am. A 18 (2001) 473-488 (dense difference-of-Gaussian channels); Barrett, Yao, Rolland &
Myers, PNAS 90 (1993) 9758-9765 (the observer).
"""

from __future__ import annotations

import argparse

import numpy as np

import chosen
from nmfuse.data import brain_phantom
from nmfuse.io.tables import markdown

METHODS = ("learned", "learned-all", "paper", "laplacian", "average", "maximum")
PAIRS = (("t2", "ct"), ("t1", "pet"), ("t1", "t2"))
SIZE, SIGMA = 128, 2.5
CONTRAST = {"t1": 0.06, "t2": 0.08, "ct": 0.03, "pet": 0.12}  # so that the source's own AUC is neither 0.5 nor 1
HALF = 24  # pixels that the observer sees to either side


def channels() -> np.ndarray:
    """Return dense difference-of-Gaussian channels in space, (10, pixels)."""
    k = np.fft.fftfreq(2 * HALF + 1)
    radius = np.hypot(k[:, None], k)
    found = []
    for j in range(10):
        width = 0.005 * 1.4**j
        found.append(np.exp(-0.5 * (radius / (1.67 * width)) ** 2) - np.exp(-0.5 * (radius / width) ** 2))
    return np.stack([np.fft.fftshift(np.fft.ifft2(x).real).ravel() for x in found])


def seen(image: np.ndarray, place: tuple[int, int], of: np.ndarray) -> np.ndarray:
    """Return what the channels make of an image around a place."""
    padded = np.pad(np.asarray(image, np.float64), HALF, mode="edge")
    return of @ padded[place[0] : place[0] + 2 * HALF + 1, place[1] : place[1] + 2 * HALF + 1].ravel()


def auc(absent: np.ndarray, present: np.ndarray) -> float:
    """Return the area under the ROC curve of the Hotelling observer, (heads, channels) each; halves learn and test."""
    half = len(absent) // 2
    areas = []
    for learn, test in ((slice(None, half), slice(half, None)), (slice(half, None), slice(None, half))):
        spread = (np.cov(absent[learn].T) + np.cov(present[learn].T)) / 2
        spread += 1e-6 * np.trace(spread) / len(spread) * np.eye(len(spread))
        template = np.linalg.solve(spread, present[learn].mean(0) - absent[learn].mean(0))
        no, yes = absent[test] @ template, present[test] @ template
        areas.append(np.mean(yes[:, None] > no) + 0.5 * np.mean(yes[:, None] == no))
    return float(np.mean(areas))


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    chosen.add_methods(parser, METHODS)
    chosen.add_networks(parser)
    parser.add_argument("--heads", type=int, default=300)
    args = parser.parse_args()
    fusers = chosen.fusers(args)
    of, rng = channels(), np.random.default_rng(0)
    heads = []
    for seed in range(args.heads):
        head = brain_phantom(SIZE, seed, lesion=False)
        inside = np.argwhere(np.isin(head.labels, [head.label_names.index(x) for x in ("grey matter", "white matter")]))
        heads.append((head, tuple(inside[rng.integers(len(inside))])))
    rows, columns = np.ogrid[:SIZE, :SIZE]
    table = []
    for pair in PAIRS:
        for lesion in range(2):
            outputs: dict[str, list[list[np.ndarray]]] = {}
            for head, place in heads:
                bump = np.exp(-((rows - place[0]) ** 2 + (columns - place[1]) ** 2) / (2 * SIGMA**2))
                for present in range(2):
                    sources = [getattr(head, name) for name in pair]
                    sources[lesion] = sources[lesion] + present * CONTRAST[pair[lesion]] * bump
                    sources = [np.rint(255 * np.clip(x, 0, 1)) for x in sources]
                    each = [seen(x, place, of) for x in sources]
                    shown = {"": each[lesion], "both": np.concatenate(each)}
                    for name, fuser in fusers.items():
                        shown[name] = seen(fuser.fuse(*(x.astype(np.uint8) for x in sources)), place, of)
                    for name, values in shown.items():
                        outputs.setdefault(name, [[], []])[present].append(values)
            areas = {name: auc(np.array(absent), np.array(present)) for name, (absent, present) in outputs.items()}
            for name in fusers:
                table.append(
                    [
                        f"{' + '.join(pair)}, lesion in {pair[lesion]}", name, f"{areas['']:.3f}",
                        f"{areas['both']:.3f}", f"{areas[name]:.3f}", f"{areas[name] / areas['both']:.3f}",
                    ]
                )  # fmt: skip
    print(markdown(["renderings", "method", "its source", "both sources", "fused", "fused / both"], table))


if __name__ == "__main__":
    main()
