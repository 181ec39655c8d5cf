"""Volumes of a head: ``python tests/data/make_nifti.py FOLDER [SIZE]`` writes t1.nii.gz, flair.nii.gz and ct.nii.gz."""

from __future__ import annotations

import sys
from pathlib import Path

import nibabel
import numpy as np

from nmfuse.data import brain_phantom

FLUIDS = ("csf", "ventricle", "necrosis")


def lesion(size: int, depth: int) -> np.ndarray:
    """Return where FLAIR alone has a small lesion: a ball in the white matter, (D, H, W)."""
    z, y, x = np.ogrid[:depth, :size, :size]
    ball = (z - depth // 2) ** 2 + (y - 0.42 * size) ** 2 + (x - 0.36 * size) ** 2 < (0.022 * size) ** 2
    return np.asarray(ball)


def t1_and_flair(folder: Path, size: int = 80, depth: int = 12) -> tuple[Path, Path]:
    """Write T1 with columns from left to right (RAS), and FLAIR on the same grid, stored the other way round (LPS)."""
    folder.mkdir(parents=True, exist_ok=True)
    phantom = brain_phantom(size, depth=depth)
    fluid = np.isin(phantom.labels, [phantom.label_names.index(name) for name in FLUIDS])
    flair = np.where(fluid, 0.05, phantom.t2) + 0.5 * lesion(size, depth)
    spacing = 220.0 / size
    affine = np.diag([spacing, spacing, spacing, 1.0])
    affine[:3, 3] = -110.0, -110.0, -20.0
    paths = folder / "t1.nii.gz", folder / "flair.nii.gz"
    for path, values in zip(paths, (phantom.t1, flair), strict=True):
        stored = np.rint(1000 * values)[:, ::-1].transpose(2, 1, 0).astype(np.int16)  # rows of the phantom go backwards
        place = affine
        if path.name == "flair.nii.gz":
            stored = stored[::-1, ::-1]
            place = affine @ np.array([[-1, 0, 0, size - 1], [0, -1, 0, size - 1], [0, 0, 1, 0], [0, 0, 0, 1]])
        image = nibabel.Nifti1Image(stored, place)
        image.header.set_xyzt_units("mm", "sec")
        image.header["descrip"] = path.name.partition(".")[0]
        nibabel.save(image, path)
    return paths


def ct(folder: Path, size: int = 80, depth: int = 12, cut: int = 4) -> Path:
    """Write CT in Hounsfield units beside T1, which shows some voxels less at each side: another grid."""
    t1 = nibabel.load(folder / "t1.nii.gz")
    values = brain_phantom(size, depth=depth).ct[:, ::-1].transpose(2, 1, 0)[cut:-cut, cut:-cut]
    image = nibabel.Nifti1Image(
        np.rint(3000 * values - 1000).astype(np.int16),
        t1.affine @ nibabel.affines.from_matvec(np.eye(3), [cut, cut, 0]),
    )
    image.header.set_xyzt_units("mm", "sec")
    nibabel.save(image, folder / "ct.nii.gz")
    return folder / "ct.nii.gz"


if __name__ == "__main__":
    arguments = Path(sys.argv[1]), *map(int, sys.argv[2:])
    print(*t1_and_flair(*arguments), ct(*arguments), sep="\n")
