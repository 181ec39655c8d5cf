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


def test_evaluate_of_volumes(pair: tuple[Path, ...], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shell(*pair[:2], "-o", tmp_path / "f.nii.gz", "--method", "laplacian", "--window", "auto")
    capsys.readouterr()
    paths = [str(tmp_path / "f.nii.gz"), *map(str, pair[:2])]
    app(["evaluate", *paths, "--metrics", "EN,MS_SSIM", "--window", "auto"], standalone_mode=False)
    said = capsys.readouterr().out
    fused, *sources = map(read_image, paths)
    assert f"{nmfuse.metrics.measure(fused, sources, ['EN'], window='auto')['EN']:.4f}" in said
    assert "Not defined for 2 sources of 64 x 64: MS_SSIM" in said
    assert "Of volumes: means over the slices in which a source shows something." in said
    with pytest.raises(ValueError, match=r"mri\.nii\.gz: is a volume, and --transfer is for images; take slices"):
        app(["evaluate", *paths[1:], "--method", "average", "--transfer"], standalone_mode=False)


def test_compare_of_volumes_says_that_it_is_for_images(
    pair: tuple[Path, ...], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "pairs").mkdir()
    for letter, path in zip("AB", pair[:2], strict=False):
        (tmp_path / "pairs" / f"01_{letter}{''.join(path.suffixes)}").write_bytes(path.read_bytes())
    report = str(tmp_path / "report")
    with pytest.raises(RuntimeError, match="1 of 1 failed"):
        app(["compare", str(tmp_path / "pairs"), "-o", report, "--methods", "average"], standalone_mode=False)
    said = capsys.readouterr().out
    assert (
        "failed: average on pairs/01: ValueError: 01_A.nii.gz: is a volume, and comparisons are of images; take" in said
    )
    with pytest.raises(ValueError, match=r"01_A\.nii\.gz: is a volume, and comparisons are of images"):
        app(["ablate", str(tmp_path / "pairs"), "-o", str(tmp_path / "a.md")], standalone_mode=False)
    assert not (tmp_path / "a.md").exists()


def test_one_volume_of_several(pair: tuple[Path, ...], tmp_path: Path) -> None:
    mri = nibabel.load(pair[0])
    both = np.stack([mri.dataobj, np.asarray(mri.dataobj)[::-1]], axis=-1)
    nibabel.save(nibabel.Nifti1Image(both, mri.affine), tmp_path / "both.nii.gz")
    with pytest.raises(
        ValueError, match=r"both\.nii\.gz: holds 2 volumes .*; choose one by its number, .*\[0\] to .*\[1\]"
    ):
        shell(tmp_path / "both.nii.gz", pair[1], "-o", tmp_path / "f.nii.gz", *AVERAGE)
    shell(f"{tmp_path / 'both.nii.gz'}[0]", pair[1], "-o", tmp_path / "f.nii.gz", *AVERAGE)
    shell(pair[0], pair[1], "-o", tmp_path / "g.nii.gz", *AVERAGE)
    np.testing.assert_array_equal(read_image(tmp_path / "f.nii.gz"), read_image(tmp_path / "g.nii.gz"))
