"""Does a fused volume flicker from slice to slice: fused as a volume, and slice by slice.

    python evaluation/flicker.py VOLUMES [METHOD ...]

VOLUMES holds the folders mni2mm and TCGA-FG-6692 (NIfTI; needs nibabel). Printed is the mean absolute difference of
neighbouring slices of the fused volume over that of its sources: of whichever changes most at each voxel (what a volume
has that shows every change that a source shows), of the one that changes most on the whole, and of their mean.
"""

from __future__ import annotations

import sys
from pathlib import Path

import nibabel
import numpy as np

import nmfuse
from nmfuse.io.tables import markdown

CASES = (
    ("mni2mm", ("spm_T1", "scct_CT")),
    ("mni2mm", ("spm_T1", "spm_PET")),
    ("mni2mm", ("spm_T2", "spm_SPECT")),
    ("mni2mm", ("spm_T1", "spm_T2", "spm_PD")),
    ("TCGA-FG-6692", ("t1", "t2")),
    ("TCGA-FG-6692", ("t1", "t1c", "t2", "flair")),
)


def read(path: Path) -> np.ndarray:
    """Return a volume with its axial slices first, float32 in [0, 1] by robust percentiles."""
    image = nibabel.as_closest_canonical(nibabel.load(path))  # some are stored from right to left
    x = np.moveaxis(np.asarray(image.dataobj, np.float32), 2, 0)
    low, high = np.percentile(x, (0.1, 99.9))
    return np.ascontiguousarray(np.clip((x - low) / (high - low), 0, 1), np.float32)


def change(volume: np.ndarray) -> np.ndarray:
    """Return |V[z + 1] - V[z]|."""
    return np.abs(np.diff(volume, axis=0))


def main(folder: Path) -> None:
    rows = []
    for where, names in CASES:
        sources = [read(folder / where / f"{name}.nii.gz") for name in names]
        changes = [change(x) for x in sources]
        levels = (np.max(changes, axis=0).mean(), max(x.mean() for x in changes), np.mean(changes))
        for method in sys.argv[2:] or ("learned",):
            as_volume = nmfuse.fuse(*sources, spatial=3, method=method, data_range=(0, 1))
            by_slices = np.stack(
                [nmfuse.fuse(*slices, method=method, data_range=(0, 1)) for slices in zip(*sources, strict=True)]
            )
            ratios = [change(fused).mean() / level for level in levels for fused in (as_volume, by_slices)]
            rows.append([f"{where}: {', '.join(names)}", method, *(f"{ratio:.3f}" for ratio in ratios)])
            print(*rows[-1], flush=True)
    heads = [f"{way} / {level}" for level in ("voxel's most", "most", "mean") for way in ("volume", "slices")]
    print("\n" + markdown(["volumes", "method", *heads], rows))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
