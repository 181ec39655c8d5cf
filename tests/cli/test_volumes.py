"""Volumes through the shell: recognised by their files, on one grid, and given back as the first came."""

from __future__ import annotations

from pathlib import Path

import nibabel
import numpy as np
import pytest

import nmfuse
from nmfuse.align import resample
from nmfuse.cli.app import app
from nmfuse.data import brain_phantom
from nmfuse.io import read_image, write_image
from tests.cli.test_cli import run

AVERAGE = ("--method", "average", "--window", "auto", "--dtype", "float32")
LAS = np.diag([-2.0, 2.0, 3.0, 1.0])
COARSE = np.array([[0, 0, 4.0, -126], [4.0, 0, 0, 0], [0, -3.0, 0, 57], [0, 0, 0, 1]])  # rows, slices, columns


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, Path]:
    """Return MRI and CT on one grid but stored otherwise, and PET on a coarser one."""
    folder, phantom = tmp_path_factory.mktemp("volumes"), brain_phantom(64)
    mri, ct, pet = (
        (900 * x.T[:, :, None] * np.linspace(0.5, 1, 20)).astype(np.int16)
        for x in (phantom.t2, phantom.ct, phantom.pet)
    )
    nibabel.save(nibabel.Nifti1Image(mri, LAS), folder / "mri.nii.gz")
    flipped = np.diag([2.0, 2.0, 3.0, 1.0])
    flipped[0, 3] = -2.0 * 63
    nibabel.save(nibabel.Nifti1Image(ct[::-1].astype(np.float32), flipped), folder / "ct.nii")
    stored = np.transpose(pet[::-2, ::2, ::-1], (1, 2, 0))
    nibabel.save(nibabel.Nifti1Image(stored, COARSE), folder / "pet.nii.gz")
    return folder / "mri.nii.gz", folder / "ct.nii", folder / "pet.nii.gz"


def shell(*arguments: str | Path) -> None:
    """Run `nmfuse fuse` in this process, where errors are raised."""
    app(["fuse", *map(str, arguments)], standalone_mode=False)


def test_volumes_are_known_by_their_files(pair: tuple[Path, ...], tmp_path: Path) -> None:
    options = ("--method", "laplacian", "--window", "auto", "--slice-axis", "1")
    done = run("fuse", *pair[:2], "-o", tmp_path / "f.nii.gz", *options)
    assert (done.returncode, done.stderr) == (0, "")
    first, result = nibabel.load(pair[0]), nibabel.load(tmp_path / "f.nii.gz")
    np.testing.assert_array_equal(result.affine, LAS)
    assert (result.shape, result.get_data_dtype()) == (first.shape, np.int16)
    for field in first.header:
        assert result.header[field].tobytes() == first.header[field].tobytes(), field
    expected = nmfuse.fuse(*map(read_image, pair[:2]), method="laplacian", window="auto", slice_axis=1)
    np.testing.assert_array_equal(read_image(tmp_path / "f.nii.gz"), expected)


@pytest.mark.parametrize(("text", "target"), [("1", 0), ("2", 1), ("finest", 1), ("mri.nii.gz", 1)])
def test_resample_to(pair: tuple[Path, ...], tmp_path: Path, text: str, target: int) -> None:
    paths, out = (pair[2], pair[0]), tmp_path / "f.nii"
    named = str(pair[0].parent / text) if "." in text else text
    shell(*paths, "-o", out, *AVERAGE, "--resample-to", named)
    result, like = nibabel.load(out), nibabel.load(paths[target])
    assert result.shape == like.shape
    np.testing.assert_array_equal(result.affine, like.affine)
    images = [read_image(path) for path in paths]
    images = [resample(image, images[target].grid) for image in images]
    assert images[1 - target].valid is None or images[1 - target].valid.mean() > 0.9
    expected = nmfuse.fuse(*images, method="average", window="auto", output="float32")
    np.testing.assert_array_equal(read_image(out), expected)


def test_grids_that_differ(pair: tuple[Path, ...], tmp_path: Path) -> None:
    with pytest.raises(
        ValueError,
        match=r"mri\.nii\.gz: is not on the grid of pet\.nii\.gz: 20 x 64 x 64 pixels against 20 x 32 x 32, spacing "
        r"3 x 2 x 2 mm against 3 x 4 x 4 mm.*nmfuse\.align\.resample\(image, grid\), in the shell by --resample-to 1",
    ):
        shell(pair[2], pair[0], "-o", tmp_path / "f.nii", *AVERAGE)
    assert not (tmp_path / "f.nii").exists()


def test_what_is_refused(pair: tuple[Path, ...], tmp_path: Path) -> None:
    write_image(tmp_path / "a.png", np.zeros((64, 64), np.uint8))
    write_image(tmp_path / "rgb.png", np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8))
    out = tmp_path / "f.nii.gz"
    for arguments, message in (
        (
            (pair[0], tmp_path / "a.png"),
            r"a\.png: is an image, and mri\.nii\.gz is a volume; images are fused with images",
        ),
        (
            (tmp_path / "rgb.png", pair[0]),
            r"mri\.nii\.gz: is a volume, and rgb\.png is an image; images are fused with",
        ),
        ((*pair[:2], "--report", tmp_path / "r.html"), r"mri\.nii\.gz: is a volume, and --explain and --report show"),
        ((*pair[:2], "--resample-to", "3"), "--resample-to: got 3; expected 1 to 2, finest, or a file"),
        (
            (*pair[:2], "--resample-to", tmp_path / "a.png"),
            r"a\.png says nothing of where its pixels lie; it needs a grid",
        ),
        ((*pair[:2], "-o", tmp_path / "f.png"), r"f\.png: PNG cannot hold int16 grey images of 3 axes"),
    ):
        with pytest.raises(ValueError, match=message):
            shell("-o", out, *arguments)
        assert not out.exists()
