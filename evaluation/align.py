"""How well images are registered that were moved by known transforms, and what registration gives back, as tables.

    python evaluation/align.py PAIRS [--volumes VOLUMES] [--pairs-per-kind 4] [--moves 1] [--seed 0]

PAIRS holds a folder for each kind, as `nmfuse.io.find_sets` reads it; VOLUMES the folders mni2mm and TCGA-FG-6692.
The second image is moved by 0.5 to 8 pixels (mm of volumes), turned by up to 5 degrees and, but for medical images and
volumes, scaled by up to 4 %; then both are cropped to what they still show (medical images, on black, are not). Errors
are mean displacements over the image: "as it came" against the move alone, as if the pair had been registered without
error; "to itself" against the move of what is found for the pair as it came, which leaves out that it had not been.
A failure is an error to itself above the goal (0.5 pixel for photographs, else 1 pixel or mm); it is caught where
`nmfuse.align.check` does not call the result registered. A false alarm is a pair as it came that the check calls
misregistered although mutual information (`register(method="information")`, rigid) moves it by less than 1 pixel.
"""

from __future__ import annotations

import argparse
import time
from collections import defaultdict
from dataclasses import replace
from itertools import product
from pathlib import Path

import numpy as np

import nmfuse
from nmfuse import Image
from nmfuse.align import Transform, check, register
from nmfuse.images.luma import grey
from nmfuse.io import find_sets, read_image
from nmfuse.io.tables import markdown
from nmfuse.metrics import evaluate

PHOTOGRAPHS = ("multi_exposure", "multi_focus")
BLURRED = ("mri_pet", "mri_spect")  # which are registered by mutual information
VOLUMES = (
    ("mni2mm", "spm_T1", "scct_CT"),
    ("mni2mm", "spm_T1", "spm_PET"),
    ("mni2mm", "spm_T1", "spm_T2"),
    ("TCGA-FG-6692", "t1", "flair"),
)
HEADERS = [
    "kind", "method", "cases", "moved by, mean", "to itself: median", "within goal", "as it came: median", "failures",
    "caught", "CPU s",
]  # fmt: skip


def move(rng: np.random.Generator, centre: np.ndarray, scale: float) -> np.ndarray:
    """Return a random rotation about a centre, scale and shift, (n + 1, n + 1)."""
    n = len(centre)
    matrix, angle = np.eye(n + 1), np.deg2rad(rng.uniform(-5, 5))
    plane = rng.permutation(n)[:2]
    matrix[np.ix_(plane, plane)] = [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
    matrix[:n, :n] *= 1 + rng.uniform(-scale, scale)
    direction = rng.normal(size=n)
    shift = rng.uniform(0.5, 8) * direction / np.linalg.norm(direction)
    matrix[:n, n] = centre - matrix[:n, :n] @ centre + shift
    return matrix


def apart(a: Transform, b: Transform, places: np.ndarray) -> float:
    """Return the mean distance of where two transforms take places (n, k)."""
    return float(np.linalg.norm(a(places) - b(places), axis=0).mean())


def cropped(image: Image, margin: int) -> Image:
    """Return an image without a margin, which is not valid or may not be."""
    inner = slice(margin, -margin or None)
    return Image(np.ascontiguousarray(image.pixels[inner, inner]), name=image.name)


def images_case(fixed: Image, moving: Image, kind: str, rng: np.random.Generator) -> tuple[Image, Image, Transform]:
    """Return a fixed image, a moved one, and the true transform, in pixels."""
    h, w = fixed.shape
    medical = kind.startswith("mri")
    true = Transform(move(rng, np.array([h - 1, w - 1]) / 2, 0.0 if medical else 0.04), "similarity")
    moved = true.inverse().apply(moving, moving)
    if medical:
        return fixed, replace(moved, valid=None), true  # what lies outside is black, as it was
    corners = np.array(list(product((0, h - 1), (0, w - 1)))).T.astype(float)
    margin = int(max(np.abs(each(corners) - corners).max() for each in (true, true.inverse()))) + 2
    to_crop = Transform.translation(margin, margin)
    return cropped(fixed, margin), cropped(moved, margin), to_crop.inverse() @ true @ to_crop


def row(kind: str, method: str, goal: float, cases: list[tuple[float, ...]]) -> list[str]:
    """Return a row of the table, of (moved, to itself, as it came, caught, seconds) for each case."""
    moved, itself, came, caught, seconds = np.array(cases).T
    failed = itself > goal
    return [
        kind, method, str(len(cases)), f"{moved.mean():.1f}", f"{np.median(itself):.2f}",
        f"{100 * np.mean(~failed):.0f} % ≤ {goal}", f"{np.median(came):.2f}", str(failed.sum()),
        str(int(caught[failed].sum())), f"{seconds.mean():.2f}",
    ]  # fmt: skip


def measure_pairs(args: argparse.Namespace) -> None:
    rows, alarms = [], []
    by_kind = defaultdict(list)
    for one in find_sets(args.pairs):
        by_kind[one.kind].append(one)
    for kind, sets in by_kind.items():
        model = "rigid" if kind.startswith("mri") else "similarity"
        method = "information" if kind in BLURRED else "edges"
        rng, cases, said = np.random.default_rng(args.seed), [], defaultdict(list)
        for one in sets[: args.pairs_per_kind]:
            fixed, moving = (Image(grey(image), name=image.name) for image in one.images())
            found = check(moving, fixed)
            said[found.verdict].append((one, found))
            whole = np.indices(fixed.shape)[:, ::8, ::8].reshape(2, -1).astype(float)
            before = register(moving, fixed, model=model, method=method)
            if found.verdict == "misregistered":
                rigid = register(moving, fixed, model="rigid", method="information")
                said["false"] += [one] * (apart(rigid, Transform.translation(0, 0), whole) < 1)
            for _ in range(args.moves):
                a, b, true = images_case(fixed, moving, kind, rng)
                places = np.indices(a.shape)[:, ::8, ::8].reshape(2, -1).astype(float)
                start = time.process_time()
                result = register(b, a, model=model, method=method)
                seconds = time.process_time() - start
                margin = (fixed.shape[0] - a.shape[0]) // 2
                to_crop = Transform.translation(margin, margin)
                own = true @ (to_crop.inverse() @ before @ to_crop)
                caught = check(result.apply(b, a), a).verdict != "registered"
                moved = apart(true, Transform.translation(0, 0), places)
                cases.append((moved, apart(own, result, places), apart(true, result, places), caught, seconds))
        rows.append(row(kind, f"{model}, {method}", 0.5 if kind in PHOTOGRAPHS else 1.0, cases))
        alarms.append(
            [
                kind,
                *(str(len(said[name])) for name in ("registered", "misregistered", "false", "cannot tell")),
                ", ".join(f"{found.shift:.1f}" for _, found in said["misregistered"]),
            ]
        )
    print(markdown(HEADERS, rows), end="\n\n")
    heads = ["pairs as they came", "registered", "misregistered", "of these false", "cannot tell", "found off, pixels"]
    print(markdown(heads, alarms), end="\n\n", flush=True)


def measure_volumes(args: argparse.Namespace) -> None:
    rows = []
    for folder, *names in VOLUMES:
        fixed, moving = (read_image(args.volumes / folder / f"{name}.nii.gz") for name in names)
        rng, cases = np.random.default_rng(args.seed), []
        corners = np.array(list(product(*((0.25 * n, 0.75 * n) for n in fixed.shape))))
        places = (fixed.grid.affine @ np.c_[corners, np.ones(8)].T)[:3]
        before = register(moving, fixed, model="rigid")
        for _ in range(args.moves):
            true = Transform(move(rng, places.mean(1), 0.0), "rigid", "mm")
            b = replace(moving, grid=replace(moving.grid, affine=true.matrix @ moving.grid.affine))
            start = time.process_time()
            result = register(b, fixed, model="rigid")
            seconds = time.process_time() - start
            caught = check(result.apply(b, fixed), fixed).verdict != "registered"
            moved = apart(true, Transform(np.eye(4), unit="mm"), places)
            own = apart(true @ before, result, places)
            cases.append((moved, own, apart(true, result, places), caught, seconds))
        rows.append(row(f"{names[0]}, {names[1]} (mm)", "rigid, information", 1.0, cases))
    print(markdown(HEADERS, rows), end="\n\n", flush=True)


def measure_fusion(args: argparse.Namespace) -> None:
    """Print Q_abf of infrared pairs: as they came, one shifted by a pixel, shifted and then aligned."""
    rows = []
    for one in [each for each in find_sets(args.pairs) if each.kind == "ir_vis"][: args.pairs_per_kind]:
        fixed, moving = (Image(grey(image), name=image.name) for image in one.images())
        before = register(moving, fixed)
        moving = before.apply(moving, fixed)  # registered, as well as it can be
        inner = (slice(24, -24),) * 2
        shifted = Transform.translation(1, 1).apply(moving, moving)
        aligned = register(shifted, fixed).apply(shifted, fixed)
        found = []
        for b in (moving, shifted, aligned):
            fused = nmfuse.fuse(fixed, b)
            found.append(evaluate(fused.pixels[inner], [fixed.pixels[inner], moving.pixels[inner]], metrics=["Q_abf"]))
        rows.append([one.name, check(moving, fixed).verdict, *(f"{values['Q_abf']:.4f}" for values in found)])
    print(markdown(["ir_vis", "check", "Q_abf registered", "shifted by (1, 1)", "shifted, then aligned"], rows))


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("pairs", type=Path)
    parser.add_argument("--volumes", type=Path)
    parser.add_argument("--pairs-per-kind", type=int, default=4)
    parser.add_argument("--moves", type=int, default=1)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    measure_pairs(args)
    if args.volumes:
        measure_volumes(args)
    measure_fusion(args)


if __name__ == "__main__":
    main()
